"""Keep a search on real chemistry: refuse molecules before anybody pays for them.

In: molecules. Out: whether each may be paid for. Gates by name: off, sane, moses, nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdqueries
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogEntry, SmartsMatcher

from molvae.chem.alerts import moses_alerts
from molvae.optimize.population import Member
from molvae.optimize.space import LatentSpace

GATES = ("off", "sane", "moses", "nats")

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

NATS_SHARE = 0.95
DRAWS = 200
"""The nats gate lets pass what costs the model no more than this share of so many draws of its own."""

Gate = Callable[[Sequence[Member]], list[bool]]


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
    the model more nats per token than 95 % of its own draws do, and what it cannot read; a space without ``nats`` is
    no model, and there it is ``sane``.
    """
    if name == "off":
        return lambda members: [True] * len(members)
    if name == "moses":
        return lambda members: [is_sane(one.mol) and not moses_alerts(one.mol) for one in members]
    measure: Callable[[Sequence[str]], Any] | None = getattr(space, "nats", None)
    if name == "nats" and measure is not None:
        return _nats_gate(measure, space, generator)
    return lambda members: [is_sane(one.mol) for one in members]


def _nats_gate(measure: Callable[[Sequence[str]], Any], space: LatentSpace, generator: np.random.Generator) -> Gate:
    drawn = space.decode(space.sample(DRAWS, generator))
    own = measure([one for one in drawn if one])
    limit = float(np.nanquantile(own, NATS_SHARE)) if np.isfinite(own).any() else np.inf

    def gate(members: Sequence[Member]) -> list[bool]:
        sane = [is_sane(one.mol) for one in members]
        nats = measure([one.smiles if fine else "" for one, fine in zip(members, sane, strict=True)])
        return [bool(fine and value <= limit) for fine, value in zip(sane, nats, strict=True)]

    return gate
