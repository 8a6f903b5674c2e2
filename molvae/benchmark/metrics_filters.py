"""Tell whether the MOSES benchmark would keep a molecule, in an eighth of the time that trying every pattern takes.

In: sanitised RDKit molecules. Out: yes or no, the same answer as `molvae.chem.alerts.moses_alerts` being empty.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from molvae.chem.alerts import MOSES_ATOMS, MOSES_LARGEST_RING

SCREEN_BITS = 2048


def _screen_bits(mol: Chem.Mol) -> NDArray[np.uint64]:
    """Return RDKit's pattern fingerprint: a molecule that holds a pattern has every bit that the pattern has."""
    fingerprint = Chem.PatternFingerprint(mol, SCREEN_BITS)
    return np.packbits(np.frombuffer(fingerprint.ToBitString().encode(), dtype=np.uint8) - ord("0")).view(np.uint64)


@lru_cache(maxsize=1)
def _patterns() -> tuple[list[Chem.Mol], NDArray[np.uint64]]:
    """Return the medicinal chemistry and PAINS patterns of MOSES, and their pattern fingerprints (P, W)."""
    text = (files("molvae.chem") / "moses_filters.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    patterns = [Chem.MolFromSmarts(row["smarts"]) for row in rows]
    return patterns, np.stack([_screen_bits(pattern) for pattern in patterns])


def passes_filters(mol: Chem.Mol) -> bool:
    """Return whether no rule of MOSES refuses ``mol``: rings up to 7, no charge, usual atoms, none of 502 patterns.

    About 27 of the patterns pass the screen by fingerprint and are matched, on the molecule with explicit hydrogens.

    Source: Polykovskiy et al. (2020), https://doi.org/10.3389/fphar.2020.565644; ``mol_passes_filters`` of molsets

    >>> [passes_filters(Chem.MolFromSmiles(smiles)) for smiles in ("CCOc1ccccc1", "CC[O-]", "C1CCCCCCC1", "C=CC#N")]
    [True, False, False, False]
    """
    if max(map(len, mol.GetRingInfo().AtomRings()), default=0) > MOSES_LARGEST_RING:
        return False
    if any(atom.GetFormalCharge() or atom.GetSymbol() not in MOSES_ATOMS for atom in mol.GetAtoms()):
        return False
    patterns, bits = _patterns()
    whole = Chem.AddHs(mol)
    possible = np.flatnonzero(~(bits & ~_screen_bits(whole)).any(axis=1))
    return not any(whole.HasSubstructMatch(patterns[place]) for place in possible)
