"""Search around each start molecule with an evolution strategy of its own (CMA-ES).

In: starts. Out: proposals z = start + posterior width * x, where x is drawn from a normal that adapts to the scores.

Source: CMA-ES, Hansen (2016), https://arxiv.org/abs/1604.00772, as in package cma; started at the latent of a molecule
as in MolMIM, Reidenbach et al. (2022), https://arxiv.org/abs/2208.09016
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from molvae.optimize.method import Proposal, Starts
from molvae.optimize.space import LatentSpace

FULL_COVARIANCE_BELOW = 129
"""Dimensions from which only a diagonal covariance is learned, because an update of a full one takes D**3 operations.

Measured at D = 64, five leads, three oracles, three seeds, 300 and 1,000 calls: full was level with diagonal or ahead.
"""

STEP = 2.0
"""First step size in posterior widths; 1 was slower in the same trial and 4 strayed too far."""

FEW_NEW = 0.25
WIDEN = 1.5
ARMS_AT_ONCE = 4


def _strategy(size: int, options: dict[str, Any]) -> Any:
    """Return a CMA-ES at the origin."""
    # Imported here because it brings pyplot and scipy.stats: two seconds that only a search with it should pay.
    import cma

    return cma.CMAEvolutionStrategy(np.zeros(size), STEP, options)


class _Arm:
    """One CMA-ES around one start, in units of that start's posterior width.

    Sampling and learning are apart: any number of points may be drawn between two updates, and an update happens once a
    generation's worth of them is told.
    """

    def __init__(
        self, center: NDArray[np.float64], std: NDArray[np.float64], score: float, generator: np.random.Generator
    ) -> None:
        self.scale = np.minimum(std, 1.0)
        self.generator = generator
        self.asked = 0
        self.best = -math.inf if math.isnan(score) else score
        # sigma * scale stays below the prior's own width, 1.
        self.widest = max(STEP, 1.0 / float(np.median(self.scale)))
        self.seen: set[str] = set()
        self._restart(center)

    def _restart(self, center: NDArray[np.float64]) -> None:
        self.center = self.best_point = center
        size = len(center)
        options = {
            "popsize": population(size), "CMA_diagonal": size >= FULL_COVARIANCE_BELOW, "seed": np.nan, "verbose": -9,
            "randn": lambda *shape: self.generator.standard_normal(shape),
        }  # fmt: skip
        # cma has no one-dimensional mode; the second coordinate of such a space is idle.
        self.strategy: Any = _strategy(max(size, 2), options)
        self._points: list[NDArray[np.float64]] = []
        self._losses: list[float] = []
        self._new = 0

    def draw(self, n: int) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        """Return n latents (n, D) and the strategy's own points for them."""
        self.asked += n
        points = self.strategy.ask(n)
        return np.array([self.center + self.scale * point[: len(self.center)] for point in points]), points

    def learn(self, point: NDArray[np.float64], latent: NDArray[np.float64], smiles: str, score: float) -> None:
        """Take in one result, for the next `adapt`."""
        self._new += bool(smiles) and smiles not in self.seen
        self.seen.add(smiles)
        if score > self.best:
            self.best, self.best_point = score, latent
        self._points.append(point)
        self._losses.append(-score)

    def adapt(self) -> None:
        """Move and reshape the distribution once a generation's worth of points is told; else wait for more."""
        if len(self._points) < self.strategy.popsize:
            return
        losses = np.array(self._losses)
        failed = np.isnan(losses)
        if failed.all():
            # Nothing to learn from but that this is too far from anything real.
            self.strategy.sigma *= 1 / WIDEN
        else:
            losses[failed] = losses[~failed].max() + 1.0
            self.strategy.tell(self._points, losses.tolist())
            if self._new < FEW_NEW * len(losses):
                self.strategy.sigma *= WIDEN
        self.strategy.sigma = min(self.strategy.sigma, self.widest)
        self._points, self._losses, self._new = [], [], 0
        if self.strategy.stop():
            self._restart(self.best_point)


def population(dimension: int) -> int:
    """Return the points of a generation: Hansen's default, at least 8.

    >>> population(64)
    16
    """
    return max(8, 4 + int(3 * math.log(dimension)))


class CmaEs:
    """One CMA-ES per start; the budget is shared evenly, a generation at a time, in the order of the starts.

    A generation with hardly a new molecule in it widens the search; one without any score narrows it; a strategy that
    has converged begins anew at the best point it found.
    """

    summary: ClassVar[str] = "CMA-ES around each start molecule, in units of its posterior's width"

    def __init__(self, space: LatentSpace, starts: Starts, generator: np.random.Generator) -> None:
        self.starts = starts
        self.batch = population(space.dimension) * min(len(starts), ARMS_AT_ONCE)
        self._generation = population(space.dimension)
        self._arms: dict[int, _Arm] = {}
        self._seeds = generator.spawn(len(starts))
        self._turn = 0
        self._pending: list[tuple[_Arm, NDArray[np.float64]]] = []

    def _arm(self, row: int) -> _Arm:
        if row not in self._arms:
            self._arms[row] = _Arm(
                self.starts.mean[row], self.starts.std[row], float(self.starts.scores[row]), self._seeds[row]
            )
        return self._arms[row]

    def ask(self, n: int) -> Proposal:
        """Return ``n`` points (n, D): generation after generation, from one start after the other."""
        latents: list[NDArray[np.float64]] = []
        rows: list[int] = []
        self._pending = []
        while len(rows) < n:
            row = self._turn % len(self.starts)
            arm = self._arm(row)
            wanted = min(n - len(rows), self._generation - arm.asked % self._generation)
            drawn, points = arm.draw(wanted)
            latents.append(drawn)
            rows += [row] * wanted
            self._pending += [(arm, point) for point in points]
            if arm.asked % self._generation == 0:
                self._turn += 1
        parents = tuple(self.starts.smiles[row] for row in rows)
        return Proposal(np.concatenate(latents), np.array(rows, dtype=np.int64), parents)

    def tell(self, proposal: Proposal, smiles: Sequence[str], scores: NDArray[np.float64]) -> None:
        """Let every start's strategy learn from its own points; ``scores`` (n,), NaN counts as worst."""
        for (arm, point), latent, one, score in zip(self._pending, proposal.latents, smiles, scores, strict=True):
            arm.learn(point, latent, one, float(score))
        for arm in {id(arm): arm for arm, _ in self._pending}.values():
            arm.adapt()
        self._pending = []
