"""Search by breeding latents: two good parents, each coordinate from one of them, and posterior noise.

In: starts. Out: proposals of points. Molecules that enter the population are encoded, so that it lives on the codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from molvae.optimize.families import Turns
from molvae.optimize.method import Proposal, Starts
from molvae.optimize.population import draw_ranks
from molvae.optimize.space import LatentSpace

BATCH = 32
SIZE = 64
"""Points of a family that can be parents."""

WIDTHS = (0.3, 1.5)
"""Noise in posterior widths, drawn log-uniformly between these."""


@dataclass(frozen=True)
class Individual:
    """A point that stands for a molecule: canonical SMILES, mean and std (D,), score."""

    smiles: str
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    score: float


def worth(score: float) -> float:
    """Return a score that can be compared: NaN is worst."""
    return -math.inf if math.isnan(score) else score


class Families:
    """The best `SIZE` individuals of each family, best first, for methods whose population are points."""

    def __init__(self, space: LatentSpace, starts: Starts) -> None:
        self.space, self.starts = space, starts
        self.members: dict[int | None, list[Individual]] = {}
        for row, one in enumerate(starts.smiles):
            individual = Individual(one, starts.mean[row], starts.std[row], float(starts.scores[row]))
            self.members.setdefault(None if starts.drawn else row, []).append(individual)
        for family in self.members.values():
            family.sort(key=lambda one: -worth(one.score))

    def tell(self, proposal: Proposal, smiles: Sequence[str], scores: NDArray[np.float64]) -> None:
        """Take in what is new and good enough, at its code, or at the point that gave it if it cannot be encoded."""
        entering: dict[tuple[int | None, str], int] = {}
        for row, (one, score) in enumerate(zip(smiles, scores.tolist(), strict=True)):
            family = None if self.starts.drawn else int(proposal.starts[row])
            mine = self.members[family]
            full = len(mine) >= SIZE and worth(score) <= worth(mine[-1].score)
            if one and not math.isnan(score) and not full and all(member.smiles != one for member in mine):
                entering.setdefault((family, one), row)
        if not entering:
            return
        codes = self.space.encode([one for _, one in entering])
        for index, ((family, one), row) in enumerate(entering.items()):
            readable = not codes.problems[index]
            mean = codes.mean[index] if readable else proposal.latents[row]
            std = codes.std[index] if readable else self.starts.std[proposal.starts[row]]
            self.members[family].append(Individual(one, mean, std, float(scores[row])))
        for key in {family for family, _ in entering}:
            self.members[key] = sorted(self.members[key], key=lambda one: -worth(one.score))[:SIZE]


class LatentGenetic:
    """Each start's family breeds by itself; drawn starts are one family."""

    summary: ClassVar[str] = "genetic algorithm on latents: crossover and posterior noise"

    def __init__(self, space: LatentSpace, starts: Starts, generator: np.random.Generator) -> None:
        self.batch = BATCH
        self.starts, self.generator = starts, generator
        self.families, self._turns = Families(space, starts), Turns(starts)

    def ask(self, n: int) -> Proposal:
        """Return ``n`` children (n, D)."""
        latents, rows, parents = [], [], []
        for start, count in self._turns.deal(n):
            family = self.families.members[start]
            firsts = draw_ranks(len(family), count, self.generator)
            seconds = self.generator.integers(len(family), size=count)
            for first, second in zip(firsts, seconds.tolist(), strict=True):
                latents.append(self._child(family[first], family[second]))
                rows.append(0 if start is None else start)
                parents.append(family[first].smiles)
        return Proposal(np.array(latents), np.array(rows, dtype=np.int64), tuple(parents))

    def _child(self, first: Individual, second: Individual) -> NDArray[np.float64]:
        """Return a point (D,) between two parents, with noise."""
        size = len(first.mean)
        mask = self.generator.random(size) < self.generator.uniform(0.0, 0.5)
        width = float(np.exp(self.generator.uniform(*np.log(WIDTHS))))
        noise = width * first.std * self.generator.standard_normal(size)
        return np.where(mask, second.mean, first.mean) + noise

    def tell(self, proposal: Proposal, smiles: Sequence[str], scores: NDArray[np.float64]) -> None:
        """Let the good ones of ``scores`` (n,) into their families."""
        self.families.tell(proposal, smiles, scores)
