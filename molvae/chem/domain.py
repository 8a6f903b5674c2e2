"""Say how like a table's molecules others are: what was learned from the table holds for its like.

In: SMILES of the table, then of others. Out: Tanimoto similarity (Morgan radius 2) to the nearest one of the table, and
how far what was learned is to be trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from molvae.chem.fingerprints import morgan, tanimoto
from molvae.chem.parallel import map_items
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read

KEPT = 5000
"""Molecules of a table that are kept at most, evenly from the first to the last."""

COMPARED = 1000
"""Of these so many are compared with all others to learn what similarity is usual."""

ODD = 0.05
"""Share of a table's own molecules that are less like their nearest neighbour than `Domain.usual`."""

TOO_LARGE = 1.5
"""Times the heavy atoms of the table's largest molecule, from which on nothing is known."""


def _atoms(smiles: str) -> int:
    mol = read(smiles)
    return 0 if isinstance(mol, Rejected) else int(mol.GetNumHeavyAtoms())


def _count(smiles: Sequence[str], workers: int | None) -> NDArray[np.int64]:
    """Return the heavy atoms (M,) of M molecules, 0 for what is none."""
    counts = map_items(_atoms, smiles, workers)
    return np.array([0 if isinstance(one, Rejected) else one for one in counts], dtype=np.int64)


def _some(n: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` of ``n`` rows, evenly spread."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64)) if n else np.zeros(0, np.int64)


@dataclass(frozen=True)
class Domain:
    """The molecules that something was learned from.

    Attributes:
        bits: (N, F / 8) uint8, see `molvae.chem.fingerprints.morgan`.
        usual: the similarity that all but `ODD` of them have at least to their nearest neighbour in the table.
        largest: heavy atoms of the largest one.
    """

    bits: NDArray[np.uint8]
    usual: float
    largest: int

    @classmethod
    def of(cls, smiles: Sequence[str], workers: int | None = None) -> Domain:
        """Return the domain of N different molecules; of one alone ``usual`` is 0.

        >>> Domain.of(["CCO", "CCCO", "c1ccccc1"]).usual < 0.5
        True
        """
        bits = morgan([smiles[row] for row in _some(len(smiles), KEPT)], workers=workers)
        rows = _some(len(bits), COMPARED)
        near = tanimoto(bits[rows], bits)
        near[np.arange(len(rows)), rows] = -1.0
        usual = float(np.quantile(near.max(1), ODD)) if len(bits) > 1 else 0.0
        return cls(bits, max(usual, 0.0), int(_count(smiles, workers).max(initial=0)))

    def judge(
        self, smiles: Sequence[str], workers: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return two numbers for each of M molecules: its similarity to the nearest one of the table, and trust.

        Trust is 1 for one that is as like the table's molecules as these are to each other and no larger. It falls in
        proportion to the similarity, and beyond the largest one's atoms until there are `TOO_LARGE` times as many.

        Returns:
            (M,) and (M,), both from 0 to 1; 0 for what is no molecule.

        >>> nearest, trust = Domain.of(["CCO", "CCCO"]).judge(["OCC", "CCCCO", "c1ccccc1"])
        >>> nearest.round(2).tolist(), trust.round(2).tolist()
        ([1.0, 0.58, 0.0], [1.0, 0.5, 0.0])
        """
        nearest = np.zeros(len(smiles))
        if len(self.bits):
            nearest += tanimoto(morgan(smiles, workers=workers), self.bits).max(1)
        alike = np.minimum(nearest / self.usual, 1.0) if self.usual > 0 else np.ones(len(smiles))
        room = TOO_LARGE * self.largest - _count(smiles, workers)
        sized = np.clip(room / max((TOO_LARGE - 1) * self.largest, 1e-9), 0.0, 1.0)
        return nearest, np.asarray(alike * sized)
