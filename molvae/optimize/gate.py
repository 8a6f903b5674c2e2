"""Keep a search on real chemistry: refuse molecules before anybody pays for them.

In: molecules. Out: whether each may be paid for. Gates by name: off, sane, moses, nats, les.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdqueries
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogEntry, SmartsMatcher

from molvae.chem.alerts import passes_moses
from molvae.optimize.population import REMEMBERED, Member
from molvae.optimize.space import JudgingSpace, LatentSpace

GATES = ("off", "sane", "moses", "nats", "les")

LARGEST_RING, MOST_ATOMS = 8, 70

ODD = {
    "cumulated double bonds": "[#6]=[#6;D2]=[#6]",
    "triple bond in a ring": "[r]#[r]",
    "allene in a ring": "[r]=[#6;r;D2]=[r]",
    "three heteroatoms in a chain": "[N,O,S;!$(S=O);!a]-[N,O,S;!$(S=O);!a]-[N,O,S;!$(S=O);!a]",
    "peroxide": "[#8][#8]",
    "halogen on a heteroatom": "[F,Cl,Br,I]-[#7,#8,#16;D2,D3;!$(S(=O)=O)]",
}
"""What random edits make and nobody keeps in a bottle."""

SHARE = 0.95
DRAWS = 200
"""The nats and les gates let pass what is no stranger to the model than this share of so many draws of its own."""

DIRECTIONS = 8
"""That the les gate looks into. On `druglike` all 64 tell real molecules from alerting ones no better (README)."""

Gate = Callable[[Sequence[Member]], list[bool]]
Strangeness = Callable[[Sequence[str]], NDArray[np.float64]]


@lru_cache(maxsize=1)
def _odd() -> Any:
    catalogue = FilterCatalog()
    for name, smarts in ODD.items():
        catalogue.AddEntry(FilterCatalogEntry(name, SmartsMatcher(name, Chem.MolFromSmarts(smarts))))
    return catalogue


@lru_cache(maxsize=1)
def _radical() -> Any:
    return rdqueries.NumRadicalElectronsGreaterQueryAtom(0)


def is_sane(mol: Chem.Mol) -> bool:
    """Say whether a molecule is in one piece, without radicals, rings above 8 atoms or `ODD` groups.

    >>> [is_sane(Chem.MolFromSmiles(smiles)) for smiles in ("CCO", "COOC", "C.C")]
    [True, False, False]
    """
    rings = mol.GetRingInfo().AtomRings()
    if mol.GetNumHeavyAtoms() > MOST_ATOMS or max(map(len, rings), default=0) > LARGEST_RING:
        return False
    if len(mol.GetAtomsMatchingQuery(_radical())) or len(Chem.GetMolFrags(mol)) > 1:
        return False
    return not _odd().HasMatch(mol)


def make_gate(name: str, space: LatentSpace, generator: np.random.Generator) -> Gate:
    """Return the gate of that name, one of `GATES`.

    ``sane`` refuses what no chemist would draw, ``moses`` also what the MOSES filters refuse; ``nats`` also what costs
    the model more nats per token than 95 % of its own draws do, and what it cannot read; ``les`` does so by the
    exploration score (`molvae.optimize.exploration`), at nine times the cost. A space that is no model has neither, and
    there they are ``sane``.
    """
    if name == "off":
        return lambda members: [True] * len(members)
    if name == "moses":
        # Children that are not paid for are often made again, as the same object (`read_molecule`).
        passes = lru_cache(maxsize=REMEMBERED)(passes_moses)
        return lambda members: [is_sane(one.mol) and passes(one.mol) for one in members]
    strangeness = _strangeness(name, space)
    if strangeness is not None:
        return _familiar_gate(strangeness, space, generator)
    return lambda members: [is_sane(one.mol) for one in members]


def _strangeness(name: str, space: LatentSpace) -> Strangeness | None:
    """Return what tells (N,) how strange N molecules are to a model, NaN for what it cannot read; None for neither."""
    if name == "nats" and isinstance(space, JudgingSpace):
        return space.nats
    if name == "les" and isinstance(space, JudgingSpace):
        return lambda smiles: -space.exploration(smiles, DIRECTIONS)
    return None


def _familiar_gate(strangeness: Strangeness, space: LatentSpace, generator: np.random.Generator) -> Gate:
    drawn = space.decode(space.sample(DRAWS, generator))
    own = strangeness([one for one in drawn if one])
    limit = float(np.nanquantile(own, SHARE)) if np.isfinite(own).any() else np.inf

    def gate(members: Sequence[Member]) -> list[bool]:
        sane = [is_sane(one.mol) for one in members]
        strange = strangeness([one.smiles if fine else "" for one, fine in zip(members, sane, strict=True)])
        return [bool(fine and value <= limit) for fine, value in zip(sane, strange, strict=True)]

    return gate
