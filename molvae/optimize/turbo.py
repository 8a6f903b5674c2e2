"""Search in a trust region by Thompson sampling: a Gaussian process on latents around the best point of each start.

In: starts. Out: proposals of points inside a region that grows on success and shrinks on failure.

The process is exact, on at most `KNOWN` points nearest to the center, in numpy: no other library is needed.
Source: TuRBO, Eriksson et al. 2019, https://arxiv.org/abs/1910.01739; lengths and patience as in LOLBO, Maus et al.
2022, https://arxiv.org/abs/2201.11872
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from molvae.optimize.families import Turns
from molvae.optimize.gaussian import Array, cholesky, evidence, solve
from molvae.optimize.genetic import Families, Individual, worth
from molvae.optimize.method import Proposal, Starts
from molvae.optimize.space import LatentSpace

BATCH = 24
KNOWN = 400
CANDIDATES = 200
FIRST, LONGEST, SHORTEST = 0.8, 3.2, 0.1
"""Half the width of the region in posterior widths: at first, at most, and below which it starts anew."""

SUCCESSES, FAILURES = 10, 32
FEW_NEW = 0.25
"""Share of new molecules below which the region is too small to hold anything, and grows."""

CHANGED = 20
"""Coordinates that a candidate changes on average, at most."""

WIDTHS = (0.3, 1.0, 3.0)
NOISE = 0.01
FEWEST = 4


class Region:
    """The trust region of one family, and all that was scored in it.

    Args:
        center: where it lies.
        unit: (D,) the length of a step in each coordinate.
    """

    def __init__(self, center: Individual, unit: Array) -> None:
        self.center, self.unit = center, unit
        self.length = FIRST
        self.points = center.mean[None, :]
        self.scores = np.array([center.score])
        self._good = self._bad = self._restarts = 0
        self._seen: set[str] = set()

    def candidates(self, n: int, generator: np.random.Generator) -> Array:
        """Return ``n`` points (n, D) around the center, each with some coordinates changed."""
        size = len(self.unit)
        mask = generator.random((n, size)) < min(1.0, CHANGED / size)
        mask[np.arange(n), generator.integers(size, size=n)] = True
        steps = 2 * self.length * generator.uniform(-1.0, 1.0, (n, size))
        return np.asarray(self.center.mean + np.where(mask, steps * self.unit, 0.0))

    def choose(self, n: int, generator: np.random.Generator) -> Array:
        """Return ``n`` points (n, D): the best of one draw from the posterior each."""
        points = self.candidates(max(CANDIDATES, n), generator)
        known, scores = self._near()
        if len(scores) < FEWEST or not np.ptp(scores) > 1e-12 * max(1.0, float(np.abs(scores).max())):
            return points[:n]
        scaled = (scores - scores.mean()) / scores.std()
        draws = _draw(known / self.unit, scaled, points / self.unit, n, generator)
        chosen: list[int] = []
        for draw in draws:
            draw[chosen] = -np.inf
            chosen.append(int(np.argmax(draw)))
        return points[chosen]

    def _near(self) -> tuple[Array, Array]:
        """Return the `KNOWN` points nearest to the center that have a score."""
        fine = np.flatnonzero(~np.isnan(self.scores))
        distance = (((self.points[fine] - self.center.mean) / self.unit) ** 2).sum(1)
        rows = fine[np.argsort(distance, kind="stable")[:KNOWN]]
        return self.points[rows], self.scores[rows]

    def learn(self, points: Array, smiles: Sequence[str], scores: Array, best: Individual) -> None:
        """Take in points (n, D), their molecules and scores; move to ``best`` if it beats the center, and resize."""
        self.points = np.concatenate([self.points, points])[-5 * KNOWN :]
        self.scores = np.concatenate([self.scores, scores])[-5 * KNOWN :]
        new = len(set(smiles) - self._seen - {""})
        self._seen.update(smiles)
        bar = worth(self.center.score)
        wins = int(np.sum(scores > bar))
        self._good, self._bad = (self._good + wins, 0) if wins else (0, self._bad + len(scores))
        if worth(best.score) > bar:
            self.center, self._restarts = best, 0
        if self._good >= SUCCESSES or new < FEW_NEW * len(scores):
            self.length, self._good, self._bad = min(2 * self.length, LONGEST), 0, 0
        elif self._bad >= FAILURES:
            self.length, self._bad = self.length / 2, 0
        if self.length < SHORTEST:
            # What is near has been seen: look further each time that nothing better is found.
            self._restarts += 1
            self.length = min(FIRST * 2**self._restarts, LONGEST)


def _kernel(left: Array, right: Array, width: float) -> Array:
    squares = (left**2).sum(1)[:, None] + (right**2).sum(1)[None, :] - 2 * left @ right.T
    return np.asarray(np.exp(-np.maximum(squares, 0.0) / (2 * width**2 * left.shape[1])))


def _draw(known: Array, values: Array, asked: Array, n: int, generator: np.random.Generator) -> Array:
    """Return ``n`` draws (n, M) from the posterior at ``asked`` (M, D), given standardised ``values`` at ``known``."""
    grams = {width: _kernel(known, known, width) for width in WIDTHS}
    width = max(WIDTHS, key=lambda one: evidence(grams[one], NOISE, values))
    lower = cholesky(grams[width], NOISE)
    cross = solve(lower, _kernel(known, asked, width))
    mean = cross.T @ solve(lower, values[:, None])[:, 0]
    factor = cholesky(_kernel(asked, asked, width) - cross.T @ cross, 1e-6)
    return np.asarray(mean + generator.standard_normal((n, len(asked))) @ factor.T)


class Turbo:
    """One region for each start, or one around the best of drawn starts."""

    summary: ClassVar[str] = "Thompson sampling in a trust region of latents"

    def __init__(self, space: LatentSpace, starts: Starts, generator: np.random.Generator) -> None:
        self.batch = BATCH
        self.starts, self.generator = starts, generator
        self.families, self._turns = Families(space, starts), Turns(starts)
        self.regions: dict[int | None, Region] = {}
        for key, family in self.families.members.items():
            region = Region(family[0], np.minimum(family[0].std, 1.0))
            region.points = np.array([one.mean for one in family])
            region.scores = np.array([one.score for one in family])
            self.regions[key] = region

    def ask(self, n: int) -> Proposal:
        """Return ``n`` points (n, D)."""
        latents, rows, parents = [], [], []
        for start, count in self._turns.deal(n):
            region = self.regions[start]
            latents.append(region.choose(count, self.generator))
            rows += [0 if start is None else start] * count
            parents += [region.center.smiles] * count
        return Proposal(np.concatenate(latents), np.array(rows, dtype=np.int64), tuple(parents))

    def tell(self, proposal: Proposal, smiles: Sequence[str], scores: NDArray[np.float64]) -> None:
        """Learn ``scores`` (n,), NaN for none; regions move, grow and shrink."""
        self.families.tell(proposal, smiles, scores)
        for key, region in self.regions.items():
            rows = np.arange(len(scores)) if key is None else np.flatnonzero(proposal.starts == key)
            if len(rows):
                mine = [smiles[row] for row in rows.tolist()]
                region.learn(proposal.latents[rows], mine, scores[rows], self.families.members[key][0])
