"""A latent space small enough to know by heart: four numbers, each choosing one piece of a chain."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from molvae.chem.rejected import Rejected
from molvae.chem.standardize import standardize
from molvae.optimize.space import Codes

PIECES = ("C", "N", "CC", "C(F)", "C(=O)", "C(O)")
SIZE = 4
NOTHING = -6.0

QUICK = {"hybrid": "batch=8,ranked=2,generations=2,known=50", "tanimoto-bo": "batch=8,ranked=2,known=50"}
"""Settings under which the methods that look at many molecules look at few, so that tests are quick."""


def _canonical(choice: Sequence[int]) -> str:
    molecule = standardize("C" + "".join(PIECES[index] for index in choice))
    return "" if isinstance(molecule, Rejected) else molecule.smiles


@lru_cache(maxsize=1)
def _places() -> tuple[dict[tuple[int, ...], str], dict[str, tuple[int, ...]]]:
    written = {choice: _canonical(choice) for choice in itertools.product(range(len(PIECES)), repeat=SIZE)}
    read: dict[str, tuple[int, ...]] = {}
    for choice, smiles in written.items():
        read.setdefault(smiles, choice)
    return written, read


class ToySpace:
    """`LatentSpace` over 1,296 chains; where the first coordinate is very low there is no molecule."""

    dimension = SIZE

    def encode(self, smiles: Sequence[str]) -> Codes:
        read = _places()[1]
        rows = [read.get(one) for one in smiles]
        mean = np.array([np.full(SIZE, np.nan) if row is None else np.array(row) - 2.5 for row in rows])
        std = np.where(np.isnan(mean), np.nan, 0.6)
        problems = tuple("" if row is not None else "vocabulary not a chain" for row in rows)
        return Codes(mean.reshape(len(rows), SIZE), std.reshape(len(rows), SIZE), problems)

    def decode(self, latents: NDArray[np.float64]) -> list[str]:
        written = _places()[0]
        chosen = np.clip(np.round(latents + 2.5), 0, len(PIECES) - 1).astype(int)
        return [
            "" if latent[0] < NOTHING else written[tuple(choice)]
            for latent, choice in zip(latents, chosen.tolist(), strict=True)
        ]

    def sample(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        return generator.standard_normal((n, SIZE))


def fluorines(smiles: list[str]) -> list[float]:
    """Score by the count of F, with a little more for shorter strings, so that scores differ."""
    return [one.count("F") - len(one) / 100 for one in smiles]
