"""Name what molecules are scored by.

In: a name: ``qed``, ``zaleplon_mpo``, ``similarity:SMILES``, ``head:logp``, ``module:function``, ``cmd:PROGRAM``.
Out: an `Oracle`, a function from SMILES to scores.

A search maximises what its oracle returns, whatever it is; ``--minimize`` turns that round.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from rdkit import Chem
from rdkit.Chem import GraphDescriptors, rdMolDescriptors

from molvae.chem.parallel import map_items
from molvae.chem.properties import PROPERTIES, logp, sa_score
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read
from molvae.errors import InputError, UnknownNameError
from molvae.nn.checkpoint import LoadedModel
from molvae.optimize.oracles_head import AT_MOST, HEAD, SURE, HeadOracle
from molvae.optimize.oracles_structure import ALERTS as ALERTS
from molvae.optimize.oracles_structure import SIMILARITY as SIMILARITY
from molvae.optimize.oracles_structure import SUBSTRUCTURE as SUBSTRUCTURE
from molvae.optimize.oracles_structure import AlertsOracle as AlertsOracle
from molvae.optimize.oracles_structure import SimilarityOracle as SimilarityOracle
from molvae.optimize.oracles_structure import SubstructureOracle as SubstructureOracle
from molvae.optimize.oracles_structure import TaskOracle as TaskOracle
from molvae.optimize.process import SPEC, ProcessOracle
from molvae.optimize.tasks import GUACAMOL_TRIVIAL, GUACAMOL_V2, PMO, TASK_NAMES
from molvae.optimize.worker import COMMAND


class Oracle(Protocol):
    """What scores molecules.

    Attributes:
        name: for people.
        identity: what the journal records; two oracles of one identity give the same scores.
        problem: the last thing that went wrong, one line, "" while all is well.
    """

    @property
    def name(self) -> str:
        """The oracle as the user wrote it."""

    @property
    def identity(self) -> str:
        """What the journal records, so that scores of another oracle are never taken for its own."""

    @property
    def problem(self) -> str:
        """Why scores are missing, "" when none are."""

    def __call__(self, smiles: list[str]) -> list[float]:
        """Return one score per molecule, in order; NaN where there is none."""


def logp_minus_sa(mol: Chem.Mol) -> float:
    """Return logP - SA, unscaled: the second column of JT-VAE's 800 molecules for constrained optimisation.

    Source: Jin et al. 2018, https://arxiv.org/abs/1802.04364
    """
    return logp(mol) - sa_score(mol)


def penalized_logp(mol: Chem.Mol) -> float:
    """Return logP - SA - (atoms of the largest ring beyond six), each part standardised over ZINC250k, then summed.

    The ring part uses RDKit's smallest set of smallest rings. Constants: mean and standard deviation of the three parts
    over ZINC250k as published with GCPN and used since by MolDQN, LIMO and others; they scale SA and the ring part as
    negative numbers.

    Source: You et al. 2018, https://arxiv.org/abs/1806.02473; first used by Gomez-Bombarelli et al. 2018.
    """
    largest = max((len(ring) for ring in mol.GetRingInfo().AtomRings()), default=0)
    parts = (
        (logp(mol) - 2.4570953396190123) / 1.434324401111988,
        (-sa_score(mol) + 3.0525811293166134) / 0.8335207024513095,
        (-max(largest - 6, 0) + 0.0485696876403053) / 0.2860212110245455,
    )
    return sum(parts)


def negative_sa(mol: Chem.Mol) -> float:
    """Return SA with its sign turned, so that easier molecules score higher."""
    return -sa_score(mol)


ORACLES: dict[str, Callable[[Chem.Mol], float]] = {
    **PROPERTIES,
    "neg_sa": negative_sa,
    "plogp": penalized_logp,
    "logp_sa": logp_minus_sa,
    "bertz": GraphDescriptors.BertzCT,
    "aromatic_rings": rdMolDescriptors.CalcNumAromaticRings,
}
"""Name to function of a molecule. Mind that ``sa`` as it is grows with difficulty: maximise ``neg_sa`` instead."""


@dataclass(frozen=True, slots=True)
class _ScoreOne:
    name: str

    def __call__(self, smiles: str) -> float:
        mol = read(smiles)
        return math.nan if isinstance(mol, Rejected) else float(ORACLES[self.name](mol))


@dataclass(frozen=True)
class NamedOracle:
    """A row of `ORACLES`. RDKit computes it in this process; a molecule it fails on gets NaN.

    >>> NamedOracle("hbd")(["CCO", "C("])
    [1.0, nan]
    """

    name: str
    problem: str = ""

    @property
    def identity(self) -> str:
        """What the journal records."""
        return self.name

    def __call__(self, smiles: list[str]) -> list[float]:
        """Return one value per molecule."""
        rows = map_items(_ScoreOne(self.name), smiles)
        return [math.nan if isinstance(row, Rejected) else row for row in rows]


@dataclass
class FunctionOracle:
    """A Python function scored in this process, for use from Python; the command line uses `ProcessOracle`."""

    function: Callable[[list[str]], Sequence[float]]
    name: str = ""
    problem: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.name = self.name or getattr(self.function, "__qualname__", type(self.function).__name__)

    @property
    def identity(self) -> str:
        """What the journal records."""
        return f"python:{self.name}"

    def __call__(self, smiles: list[str]) -> list[float]:
        """Return what the function returns, unchecked: `BudgetedOracle` does that."""
        return cast("list[float]", self.function(smiles))


MADE: dict[str, tuple[str, Callable[[str], Oracle]]] = {
    SIMILARITY: ("SMILES", SimilarityOracle),
    SUBSTRUCTURE: ("SMARTS", SubstructureOracle),
    ALERTS: ("PAINS,BRENK,NIH,MOSES", AlertsOracle),
}
"""Prefix to what follows it and what makes the oracle."""


def from_zero_to_one(name: str) -> bool:
    """Say whether a name stands for scores that are between 0 and 1 by definition."""
    return name in TASK_NAMES or name.partition(":")[0] + ":" in MADE


def find_oracle(
    given: str | Callable[[list[str]], Sequence[float]] | Oracle, timeout: float = 300.0,
    loaded: LoadedModel | None = None,
) -> Oracle:  # fmt: skip
    """Return the oracle of a name, see `list_oracles`, or of a Python function.

    Args:
        given: the name; a function is wrapped, an `Oracle` is returned as it is.
        timeout: seconds per batch for ``module:function`` and ``cmd:PROGRAM``, which run in their own process.
        loaded: the model whose heads ``head:`` asks for.

    Raises:
        UnknownNameError: when there is no oracle, module, function, program, head or set of alerts of that name.
        InputError: when ``similarity:`` is not followed by a molecule or ``substructure:`` by SMARTS, ``head:`` comes
            without a model, or the time limit is not positive.
        OracleError: when the module cannot be imported.
    """
    if not isinstance(given, str):
        return _as_oracle(given)
    if given in ORACLES:
        return NamedOracle(given)
    if given in TASK_NAMES:
        return TaskOracle(given)
    prefix = given.partition(":")[0] + ":"
    if prefix in MADE:
        return MADE[prefix][1](given.removeprefix(prefix))
    if prefix == HEAD:
        if loaded is None:
            raise InputError(f"{given} needs a model.", "Use it with the model whose head it names.")
        return HeadOracle(loaded, given.removeprefix(HEAD))
    if prefix == COMMAND or SPEC.fullmatch(given):
        if not timeout > 0:
            raise InputError(f"A time limit of {timeout:g} s is not positive.", "Give seconds, such as --timeout 300.")
        return ProcessOracle(given, timeout)
    near = difflib.get_close_matches(given, [*ORACLES, *TASK_NAMES], n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    names = ", ".join(dict.fromkeys([*ORACLES, *TASK_NAMES, *(name for name, _ in _SHAPES)]))
    raise UnknownNameError(f"There is no oracle {given!r}.", f"{hint}Known: {names}.")


_SHAPES = (
    (f"{SIMILARITY}SMILES", "Tanimoto similarity to a molecule, Morgan radius 2, 2,048 bits"),
    (f"{SUBSTRUCTURE}SMARTS", "1 with the substructure, else 0"),
    (f"{ALERTS}PAINS,BRENK,NIH,MOSES", "1 / (1 + structural alerts in these sets)"),
    (f"{HEAD}NAME", "what the model itself predicts, e.g. head:logp"),
    (f"{HEAD}NAME{SURE}", "what it is sure of at least, for high values wanted"),
    (f"{HEAD}NAME{AT_MOST}", "what it is sure of at most, for low values wanted"),
    ("module:function", "a Python function from a list of SMILES to a list of floats, in its own process"),
    (f"{COMMAND}PROGRAM ARGUMENTS", "a program: SMILES on stdin, one score a line on stdout, in its own process"),
)


def list_oracles() -> list[tuple[str, str]]:
    """Return (name, what it is) of every oracle that has a name, then how the others are written."""
    rows = [(name, "property") for name in ORACLES]
    for name in dict.fromkeys(TASK_NAMES):
        if name not in ORACLES:
            kinds = (("PMO", PMO), ("GuacaMol v2", GUACAMOL_V2), ("GuacaMol trivial", GUACAMOL_TRIVIAL))
            rows.append((name, "task of " + ", ".join(kind for kind, names in kinds if name in names)))
    return [*rows, *_SHAPES]


def _as_oracle(given: Any) -> Oracle:
    if all(hasattr(given, name) for name in ("name", "identity", "problem")):
        oracle: Oracle = given
        return oracle
    return FunctionOracle(given)
