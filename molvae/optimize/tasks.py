"""The goal-directed tasks of GuacaMol and PMO by name.

In: SMILES. Out: one score from 0 to 1 per molecule, NaN for what is no molecule; on request the raw values of a task's
parts.

Tasks are those of GuacaMol's suites v2 and trivial. The twenty of PMO that need no downloaded classifier
(`PMO`) are the same functions: TDC, which PMO uses, copies GuacaMol's, with one difference, aripiprazole_similarity, by
FCFP4 there and ECFP4 here; PMO does not use that one. ``scripts/check_guacamol.py`` compares with both.

Sources: Brown et al. 2019, doi 10.1021/acs.jcim.8b00839; Gao et al. 2022, https://arxiv.org/abs/2206.12411
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molvae.chem.parallel import map_items
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read
from molvae.optimize.tasks_terms import Count, Descriptor, Matches, Similarity, Term, formula_counts, molecule
from molvae.optimize.transforms import Clipped, Gaussian, Linear, MaxGaussian, MinGaussian, Transform, Values

Part = tuple[str, Term, Transform]
"""A raw value's name, the value, and what turns it into a score."""


@dataclass(frozen=True)
class Task:
    """What a benchmark asks for.

    Args:
        parts: what the score is made of.
        mean: "geometric" or "arithmetic", of the parts' scores.
        top: GuacaMol's benchmark value is the mean of these top-k averages.
        reference: a molecule that scores best, "" where none is known.
    """

    parts: tuple[Part, ...]
    mean: str = "geometric"
    top: tuple[int, ...] = (1, 10, 100)
    reference: str = ""

    def raw(self, mol: Chem.Mol) -> list[float]:
        """Return the raw values of the parts, before their transforms."""
        return [term(mol) for _, term, _ in self.parts]

    def combine(self, raw: Values) -> Values:
        """Return the scores (N,) of ``raw`` (N, parts); NaN in a row makes its score NaN."""
        columns = [transform(raw[:, column]) for column, (_, _, transform) in enumerate(self.parts)]
        return mean_of(np.stack(columns, axis=1), self.mean)


def mean_of(scores: Values, mean: str, weights: Sequence[float] | None = None) -> Values:
    """Return the weighted mean (N,) of ``scores`` (N, parts), "arithmetic" or "geometric".

    A geometric mean is 0 as soon as one score is; scores below 0 count as 0 in it.

    >>> mean_of(np.array([[0.25, 1.0], [0.0, 1.0]]), "geometric").tolist()
    [0.5, 0.0]
    """
    parts = np.ones(scores.shape[1]) if weights is None else np.asarray(weights, dtype=np.float64)
    share = parts / parts.sum()
    if mean == "arithmetic":
        return np.asarray(scores @ share, dtype=np.float64)
    return np.asarray(np.prod(np.maximum(scores, 0.0) ** share, axis=1), dtype=np.float64)


def _similar(reference: str, kind: str, transform: Transform | None = None) -> Part:
    return f"similarity_{kind.lower()}", Similarity(reference, kind), transform or Linear()


def _descriptor(name: str, transform: Transform) -> Part:
    return name, Descriptor(name), transform


def _formula(formula: str) -> tuple[Part, ...]:
    """Return one part per element and one for all atoms, as GuacaMol's isomer scoring has them."""
    counts = formula_counts(formula)
    parts: list[Part] = [(f"n_{element}", Count(element), Gaussian(n, 1.0)) for element, n in counts.items()]
    return (*parts, ("n_atoms", Count(""), Gaussian(sum(counts.values()), 2.0)))


@dataclass(frozen=True)
class _Isomer:
    """The geometric mean of a formula's parts as one number, for tasks that have it as one part among others."""

    formula: str

    def __call__(self, mol: Chem.Mol) -> float:
        task = _isomer_task(self.formula)
        return float(task.combine(np.array([task.raw(mol)]))[0])


@lru_cache(maxsize=16)
def _isomer_task(formula: str) -> Task:
    return Task(_formula(formula))


def _isomer(formula: str) -> Part:
    return f"isomer_{formula.lower()}", _Isomer(formula), Linear()


def _rediscovery(reference: str) -> Task:
    return Task((_similar(reference, "ECFP4"),), top=(1,), reference=reference)


def _similarity(reference: str, kind: str) -> Task:
    return Task((_similar(reference, kind, Clipped(0.75)),), reference=reference)


def _same_as(smiles: str, name: str, width: float) -> Part:
    """Return a part that is best where descriptor ``name`` is that of ``smiles``."""
    return _descriptor(name, Gaussian(Descriptor(name)(molecule(smiles)), width))


CELECOXIB = "CC1=CC=C(C=C1)C1=CC(=NN1C1=CC=C(C=C1)S(N)(=O)=O)C(F)(F)F"
TROGLITAZONE = "Cc1c(C)c2OC(C)(COc3ccc(CC4SC(=O)NC4=O)cc3)CCc2c(C)c1O"
THIOTHIXENE = "CN(C)S(=O)(=O)c1ccc2Sc3ccccc3C(=CCCN4CCN(C)CC4)c2c1"
ARIPIPRAZOLE = "Clc4cccc(N3CCN(CCCCOc2ccc1c(NC(=O)CC1)c2)CC3)c4Cl"
ALBUTEROL = "CC(C)(C)NCC(O)c1ccc(O)c(CO)c1"
MESTRANOL = "COc1ccc2[C@H]3CC[C@@]4(C)[C@@H](CC[C@@]4(O)C#C)[C@@H]3CCc2c1"
CAMPHOR, MENTHOL = "CC1(C)C2CCC1(C)C(=O)C2", "CC(C)C1CCC(C)CC1O"
TADALAFIL = "O=C1N(CC(N2C1CC3=C(C2C4=CC5=C(OCO5)C=C4)NC6=C3C=CC=C6)=O)C"
SILDENAFIL = "CCCC1=NN(C2=C1N=C(NC2=O)C3=C(C=CC(=C3)S(=O)(=O)N4CCN(CC4)C)OCC)C"
OSIMERTINIB = "COc1cc(N(C)CCN(C)C)c(NC(=O)C=C)cc1Nc2nccc(n2)c3cn(C)c4ccccc34"
FEXOFENADINE = "CC(C)(C(=O)O)c1ccc(cc1)C(O)CCCN2CCC(CC2)C(O)(c3ccccc3)c4ccccc4"
RANOLAZINE = "COc1ccccc1OCC(O)CN2CCN(CC(=O)Nc3c(C)cccc3C)CC2"
PERINDOPRIL = "O=C(OCC)C(NC(C(=O)N1C(C(=O)O)CC2CCCCC12)C)CCC"
AMLODIPINE = r"Clc1ccccc1C2C(=C(/N/C(=C2/C(=O)OCC)COCCN)C)\C(=O)OC"
SITAGLIPTIN = "Fc1cc(c(F)cc1F)CC(N)CC(=O)N3Cc2nnc(n2CC3)C(F)(F)F"
ZALEPLON = "O=C(C)N(CC)C1=CC=CC(C2=CC=NC3=C(C=NN23)C#N)=C1"
PIOGLITAZONE = "O=C1NC(=O)SC1Cc3ccc(OCCc2ncc(cc2)CC)cc3"
VALSARTAN_CORE = "CN(C=O)Cc1ccc(c2ccccc2)cc1"
HOP = "CCCOc1cc2ncnc(Nc3ccc4ncsc4c3)c2cc1S(=O)(=O)C(C)(C)C"
HOP_SCAFFOLD = "[#7]-c1n[c;h1]nc2[c;h1]c(-[#8])[c;h0][c;h1]c12"
HOP_DECORATION = "[#6]-[#6]-[#6]-[#8]-[#6]~[#6]~[#6]~[#6]~[#6]-[#7]-c1ccc2ncsc2c1"


def _likenesses() -> dict[str, Task]:
    """Return the tasks that ask for one molecule, one formula, or something between two molecules."""
    plain = Linear()
    return {
        "celecoxib_rediscovery": _rediscovery(CELECOXIB),
        "troglitazone_rediscovery": _rediscovery(TROGLITAZONE),
        "thiothixene_rediscovery": _rediscovery(THIOTHIXENE),
        "aripiprazole_similarity": _similarity(ARIPIPRAZOLE, "ECFP4"),
        "albuterol_similarity": _similarity(ALBUTEROL, "FCFP4"),
        "mestranol_similarity": _similarity(MESTRANOL, "AP"),
        "isomers_c11h24": Task(_formula("C11H24"), top=(159,), reference="CCCCCCCCCCC"),
        "isomers_c7h8n2o2": Task(_formula("C7H8N2O2"), top=(100,), reference="NC(=O)c1ccc(N)cc1O"),
        "isomers_c9h10n2o2pf2cl": Task(
            _formula("C9H10N2O2PF2Cl"), top=(250,), reference="O=P(F)(F)OC(C)c1cc(Cl)ccc1NC=N"
        ),
        "median1": Task((
            ("menthol", Similarity(MENTHOL, "ECFP4"), plain), ("camphor", Similarity(CAMPHOR, "ECFP4"), plain),
        )),
        "median2": Task((
            ("tadalafil", Similarity(TADALAFIL, "ECFP6"), plain),
            ("sildenafil", Similarity(SILDENAFIL, "ECFP6"), plain),
        )),
    }  # fmt: skip


def _many_wishes() -> dict[str, Task]:
    """Return the tasks of several properties; what the references have of them is computed here, once."""
    plain = Linear()
    return {
        "osimertinib_mpo": Task((
            _similar(OSIMERTINIB, "FCFP4", Clipped(0.8)), _similar(OSIMERTINIB, "ECFP6", MinGaussian(0.85, 0.1)),
            _descriptor("tpsa", MaxGaussian(100, 10)), _descriptor("logp", MinGaussian(1, 1)),
        )),
        "fexofenadine_mpo": Task((
            _similar(FEXOFENADINE, "AP", Clipped(0.8)), _descriptor("tpsa", MaxGaussian(90, 10)),
            _descriptor("logp", MinGaussian(4, 1)),
        )),
        "ranolazine_mpo": Task((
            _similar(RANOLAZINE, "AP", Clipped(0.7)), _descriptor("logp", MaxGaussian(7, 1)),
            ("n_F", Count("F"), Gaussian(1, 1.0)), _descriptor("tpsa", MaxGaussian(95, 20)),
        )),
        "perindopril_mpo": Task((_similar(PERINDOPRIL, "ECFP4"), _descriptor("aromatic_rings", Gaussian(2, 0.5)))),
        "amlodipine_mpo": Task((_similar(AMLODIPINE, "ECFP4"), _descriptor("rings", Gaussian(3, 0.5)))),
        "sitagliptin_mpo": Task((
            _similar(SITAGLIPTIN, "ECFP4", Gaussian(0, 0.1)), _same_as(SITAGLIPTIN, "logp", 0.2),
            _same_as(SITAGLIPTIN, "tpsa", 5), _isomer("C16H15F6N5O"),
        )),
        "zaleplon_mpo": Task((_similar(ZALEPLON, "ECFP4"), _isomer("C19H17N3O2"))),
        "valsartan_smarts": Task((
            ("core", Matches(VALSARTAN_CORE), plain), _same_as(SITAGLIPTIN, "logp", 0.2),
            _same_as(SITAGLIPTIN, "tpsa", 5), _same_as(SITAGLIPTIN, "bertz", 30),
        )),
        "deco_hop": Task((
            _similar(HOP, "PHCO", Clipped(0.85)), ("no_sulfone", Matches("CS([#6])(=O)=O", absent=True), plain),
            ("no_thiazole", Matches("[#7]-c1ccc2ncsc2c1", absent=True), plain),
            ("scaffold", Matches(HOP_SCAFFOLD), plain),
        ), "arithmetic"),
        "scaffold_hop": Task((
            _similar(HOP, "PHCO", Clipped(0.75)), ("decoration", Matches(HOP_DECORATION), plain),
            ("no_scaffold", Matches(HOP_SCAFFOLD, absent=True), plain),
        ), "arithmetic"),
    }  # fmt: skip


def _trivial() -> dict[str, Task]:
    """Return the tasks of the trivial suite but the isomers."""
    return {
        "logp_minus1": Task((_descriptor("logp", Gaussian(-1, 1)),)),
        "logp_8": Task((_descriptor("logp", Gaussian(8, 1)),)),
        "tpsa_150": Task((_descriptor("tpsa", Gaussian(150, 20)),)),
        "cns_mpo": Task((
            ("tpsa", Descriptor("tpsa"), MinGaussian(90, 30)), ("tpsa_again", Descriptor("tpsa"), MaxGaussian(40, 20)),
            _descriptor("hbd", MinGaussian(0, 2)), _descriptor("logp", MinGaussian(5, 1)),
            _descriptor("mol_weight", MinGaussian(360, 60)),
        ), "arithmetic"),
        "qed": Task((_descriptor("qed", Linear()),)),
        "pioglitazone_mpo": Task((
            _similar(PIOGLITAZONE, "ECFP4", Gaussian(0, 0.1)), _same_as(PIOGLITAZONE, "mol_weight", 10),
            _descriptor("rotatable_bonds", Gaussian(2, 0.5)),
        )),
    }  # fmt: skip


GUACAMOL_V2 = (
    "celecoxib_rediscovery", "troglitazone_rediscovery", "thiothixene_rediscovery", "aripiprazole_similarity",
    "albuterol_similarity", "mestranol_similarity", "isomers_c11h24", "isomers_c9h10n2o2pf2cl", "median1", "median2",
    "osimertinib_mpo", "fexofenadine_mpo", "ranolazine_mpo", "perindopril_mpo", "amlodipine_mpo", "sitagliptin_mpo",
    "zaleplon_mpo", "valsartan_smarts", "deco_hop", "scaffold_hop",
)  # fmt: skip
"""GuacaMol's goal-directed suite v2, in its order."""

GUACAMOL_TRIVIAL = ("logp_minus1", "logp_8", "tpsa_150", "cns_mpo", "qed", "isomers_c7h8n2o2", "pioglitazone_mpo")
"""GuacaMol's trivial suite, in its order."""

PMO = (
    "albuterol_similarity", "amlodipine_mpo", "celecoxib_rediscovery", "deco_hop", "fexofenadine_mpo",
    "isomers_c7h8n2o2", "isomers_c9h10n2o2pf2cl", "median1", "median2", "mestranol_similarity", "osimertinib_mpo",
    "perindopril_mpo", "qed", "ranolazine_mpo", "scaffold_hop", "sitagliptin_mpo", "thiothixene_rediscovery",
    "troglitazone_rediscovery", "valsartan_smarts", "zaleplon_mpo",
)  # fmt: skip
"""PMO's 23 tasks without DRD2, GSK3b and JNK3, whose classifiers have to be downloaded."""

TASK_NAMES = (*GUACAMOL_V2, *GUACAMOL_TRIVIAL)


@lru_cache(maxsize=1)
def tasks() -> dict[str, Task]:
    """Return every task by name."""
    return {**_likenesses(), **_many_wishes(), **_trivial()}


@dataclass(frozen=True, slots=True)
class _RawOne:
    name: str

    def __call__(self, smiles: str) -> list[float]:
        mol = read(smiles)
        task = tasks()[self.name]
        return [math.nan] * len(task.parts) if isinstance(mol, Rejected) else task.raw(mol)


def raw_values(name: str, smiles: Sequence[str]) -> NDArray[np.float64]:
    """Return the raw values of a task's parts, (N, parts); a row of NaN where there is no molecule."""
    blank = [math.nan] * len(tasks()[name].parts)
    rows = [blank if isinstance(row, Rejected) else row for row in map_items(_RawOne(name), smiles)]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(blank))


def score(name: str, smiles: Sequence[str]) -> NDArray[np.float64]:
    """Return the scores (N,) of a task, 0 to 1; NaN where there is no molecule.

    >>> score("celecoxib_rediscovery", [CELECOXIB, "C("]).tolist()
    [1.0, nan]
    """
    return tasks()[name].combine(raw_values(name, smiles))
