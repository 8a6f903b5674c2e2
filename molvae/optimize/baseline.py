"""Search without learning: look at random neighbours of the best molecule so far. What every method must beat.

In: starts. Out: proposals drawn from the posterior of the best molecule found from each start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from molvae.optimize.method import Proposal, Starts
from molvae.optimize.space import LatentSpace

BATCH = 32
FEW_NEW, MANY_NEW = 0.25, 0.75
STEP = 1.2
WIDEST = 10.0


class RandomNeighbours:
    """Posterior noise around the best molecule of each start, the starts taking turns.

    Noise grows while it hardly leaves the molecule and shrinks again while every point is another one.
    """

    summary: ClassVar[str] = "random neighbours of the best molecule so far (the baseline)"

    def __init__(self, space: LatentSpace, starts: Starts, generator: np.random.Generator) -> None:
        self.batch = BATCH
        self.space, self.starts, self.generator = space, starts, generator
        self.best = np.where(np.isnan(starts.scores), -math.inf, starts.scores)
        self.smiles = list(starts.smiles)
        self.mean, self.std = starts.mean.copy(), starts.std.copy()
        self.width = np.ones(len(starts))
        self._turn = 0

    def ask(self, n: int) -> Proposal:
        """Return ``n`` points (n, D), point by point from one start after the other."""
        rows = (self._turn + np.arange(n, dtype=np.int64)) % len(self.starts)
        self._turn = int(self._turn + n) % len(self.starts)
        noise = self.generator.standard_normal((n, self.space.dimension))
        latents = self.mean[rows] + self.width[rows, None] * self.std[rows] * noise
        return Proposal(latents, rows, tuple(self.smiles[row] for row in rows))

    def tell(self, proposal: Proposal, smiles: Sequence[str], scores: NDArray[np.float64]) -> None:
        """Move each start's center to the best of its ``scores`` (n,) when that is an improvement."""
        moved = set()
        for row in np.unique(proposal.starts):
            mine = np.flatnonzero(proposal.starts == row).tolist()
            new = np.mean([smiles[i] not in ("", self.smiles[row]) for i in mine])
            step = STEP if new < FEW_NEW else 1 / STEP if new > MANY_NEW else 1.0
            self.width[row] = np.clip(self.width[row] * step, 1.0, WIDEST)
            values = np.where(np.isnan(scores[mine]), -math.inf, scores[mine])
            top: int = mine[int(np.argmax(values))]
            if values.max() > self.best[row]:
                self.best[row], self.smiles[row] = values.max(), smiles[top]
                self.mean[row] = proposal.latents[top]
                moved.add(int(row))
        self._recenter(sorted(moved))

    def _recenter(self, rows: list[int]) -> None:
        """Encode molecules that became the best; one that the model cannot read stays at the point that gave it."""
        codes = self.space.encode([self.smiles[row] for row in rows]) if rows else None
        for index, row in enumerate(rows):
            if codes is not None and not codes.problems[index]:
                self.mean[row], self.std[row] = codes.mean[index], codes.std[index]
