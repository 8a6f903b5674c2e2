"""Compute numbers of a molecule.

In: SMILES or RDKit molecules. Out: floats, NaN where there is no molecule. Shapes: N molecules, P properties.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import QED, rdMolDescriptors
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogEntry, SmartsMatcher
from rdkit.Contrib.NP_Score import npscorer
from rdkit.Contrib.SA_Score import sascorer

from molvae.chem.parallel import map_items
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read
from molvae.errors import UnknownNameError


@lru_cache(maxsize=1)
def _np_model() -> Any:
    # RDKit's scorer prints while it reads the model that comes inside RDKit's own package.
    with contextlib.redirect_stderr(io.StringIO()):
        return npscorer.readNPModel()


def np_score(mol: Chem.Mol) -> float:
    """Return the natural product likeness, about -5 (synthetic) to 5. Source: Ertl 2008, doi 10.1021/ci700286x."""
    return float(npscorer.scoreMol(mol, _np_model()))


def sa_score(mol: Chem.Mol) -> float:
    """Return the synthetic accessibility, 1 (easy) to 10. Source: Ertl 2009, doi 10.1186/1758-2946-1-8."""
    return float(sascorer.calculateScore(mol))


def logp(mol: Chem.Mol) -> float:
    """Return the octanol-water partition coefficient after Crippen. Source: Wildman 1999, doi 10.1021/ci990307l."""
    return float(rdMolDescriptors.CalcCrippenDescriptors(mol)[0])


@lru_cache(maxsize=1)
def _qed_alerts() -> Any:
    catalogue = FilterCatalog()
    for number, pattern in enumerate(QED.StructuralAlerts):
        catalogue.AddEntry(FilterCatalogEntry(str(number), SmartsMatcher(str(number), pattern)))
    return catalogue


def qed(mol: Chem.Mol) -> float:
    """Return the quantitative estimate of drug-likeness in [0, 1]: RDKit's value, in about 60 % of its time.

    The alerts are matched in one call, hydrogens are removed only when there are any, and logP is shared with `logp`.
    Source: Bickerton 2012, doi 10.1038/nchem.1243.
    """
    bare = Chem.RemoveHs(mol) if mol.GetNumHeavyAtoms() < mol.GetNumAtoms() else mol
    aromatic = Chem.DeleteSubstructs(Chem.Mol(bare), QED.AliphaticRings)
    strict = rdMolDescriptors.NumRotatableBondsOptions.Strict
    return float(
        QED.qed(
            bare,
            qedProperties=QED.QEDproperties(
                MW=rdMolDescriptors._CalcMolWt(bare),
                ALOGP=logp(bare),
                HBA=sum(len(bare.GetSubstructMatches(pattern)) for pattern in QED.Acceptors),
                HBD=rdMolDescriptors.CalcNumHBD(bare),
                PSA=rdMolDescriptors.CalcTPSA(bare),
                ROTB=rdMolDescriptors.CalcNumRotatableBonds(bare, strict),
                AROM=len(Chem.GetSSSR(aromatic)),
                ALERTS=len(_qed_alerts().GetMatches(bare)),
            ),
        )
    )


PROPERTIES: dict[str, Callable[[Chem.Mol], float]] = {
    "logp": logp,
    "qed": qed,
    "sa": sa_score,
    "np": np_score,
    "mol_weight": rdMolDescriptors._CalcMolWt,
    "tpsa": rdMolDescriptors.CalcTPSA,
    "hbd": rdMolDescriptors.CalcNumHBD,
    "hba": rdMolDescriptors.CalcNumHBA,
    "rotatable_bonds": rdMolDescriptors.CalcNumRotatableBonds,
    "rings": rdMolDescriptors.CalcNumRings,
}
"""Name to function of a sanitised molecule. mol_weight in g/mol, tpsa in A^2, the rest without unit."""


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return ``names`` as a tuple when every one is a key of `PROPERTIES`.

    Raises:
        UnknownNameError: names the first that is not.
    """
    for name in names:
        if name not in PROPERTIES:
            raise UnknownNameError(f"There is no property {name!r}.", f"Known: {', '.join(PROPERTIES)}.")
    return tuple(names)


def compute_mol(mol: Chem.Mol, names: Sequence[str]) -> list[float]:
    """Return the named properties of one molecule; NaN where RDKit cannot say."""
    values = []
    for name in names:
        try:
            values.append(float(PROPERTIES[name](mol)))
        except (ValueError, RuntimeError, ZeroDivisionError, OverflowError):
            values.append(math.nan)
    return values


@dataclass(frozen=True, slots=True)
class _Compute:
    names: tuple[str, ...]

    def __call__(self, smiles: str) -> list[float]:
        mol = read(smiles)
        return [math.nan] * len(self.names) if isinstance(mol, Rejected) else compute_mol(mol, self.names)


def compute(smiles: Sequence[str], names: Sequence[str], workers: int | None = None) -> NDArray[np.float64]:
    """Compute properties of a list of SMILES on all cores.

    Salts count as one molecule: properties are those of all fragments together.

    Args:
        smiles: N SMILES.
        names: P keys of `PROPERTIES`.
        workers: processes; None means every core.

    Returns:
        float64 array (N, P), rows in the order of ``smiles``; NaN for a string that is no molecule.

    Raises:
        UnknownNameError: when a name is not a key of `PROPERTIES`.

    >>> compute(["CCO", "C("], ["hbd"]).tolist()
    [[1.0], [nan]]
    """
    wanted = check_names(names)
    rows = map_items(_Compute(wanted), smiles, workers)
    blank = [math.nan] * len(wanted)
    table = [blank if isinstance(row, Rejected) else row for row in rows]
    return np.array(table, dtype=np.float64).reshape(len(smiles), len(wanted))
