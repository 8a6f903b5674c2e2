"""Say what a search method is: it proposes points and is told what they were worth.

In: start molecules with their places and scores. Out: `Proposal`s of points (n, D), each with its parent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from molvae.optimize.space import LatentSpace


@dataclass(frozen=True)
class Starts:
    """S molecules that a search sets out from, S at least 1.

    Attributes:
        smiles: canonical SMILES.
        mean: (S, D) float64, where each lies.
        std: (S, D) float64, the posterior's width there, above 0.
        scores: (S,) float64, higher is better, NaN where the oracle failed.
    """

    smiles: tuple[str, ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.smiles)

    def take(self, rows: Sequence[int]) -> Starts:
        """Return the starts at ``rows``, in that order."""
        kept = list(rows)
        return Starts(tuple(self.smiles[row] for row in kept), self.mean[kept], self.std[kept], self.scores[kept])


@dataclass(frozen=True)
class Proposal:
    """n points to decode and score.

    Attributes:
        latents: (n, D) float64.
        starts: (n,) int64, the start each point descends from, as a row of `Starts`.
        parents: n canonical SMILES, the molecule each point was made from: a start, or one told before.
    """

    latents: NDArray[np.float64]
    starts: NDArray[np.int64]
    parents: tuple[str, ...]


class Method(Protocol):
    """A search that asks and is told, in turns.

    A method is made from (space, starts, generator); all its chance comes from ``generator``, and it may not depend on
    the budget, time or anything but what it is told. So the same seed and the same scores give the same course, and an
    interrupted search is resumed by running it again. Scores are to be maximised.

    Attributes:
        batch: how many points it likes to be asked for.
    """

    batch: int
    summary: ClassVar[str]

    def __init__(self, space: LatentSpace, starts: Starts, generator: np.random.Generator) -> None: ...

    def ask(self, n: int) -> Proposal:
        """Return exactly ``n`` points; `tell` must follow before the next `ask`."""

    def tell(self, proposal: Proposal, smiles: Sequence[str], scores: NDArray[np.float64]) -> None:
        """Learn what the last proposal gave.

        Args:
            proposal: what `ask` returned.
            smiles: n canonical SMILES, "" where a point decodes to no molecule.
            scores: (n,) float64; NaN where there is no molecule, the oracle failed or a constraint is broken.
        """
