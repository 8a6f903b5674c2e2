"""Search around each start molecule with an evolution strategy of its own (CMA-ES).

In: starts. Out: proposals z = start + posterior width * x, where x is drawn from a normal that adapts to the scores.

A point is not where its molecule is: of several posterior widths of noise most decodes to the same molecule. So the
strategy is told the code of each molecule, not the point that was decoded, and a generation teaches it which way the
better molecules lie. In 64 dimensions it needs tens of generations: molecules drawn from the prior get one strategy,
around the best of them, and do not share the calls.

Source: CMA-ES, Hansen (2016), https://arxiv.org/abs/1604.00772, as in package cma; started at the latent of a molecule
as in MolMIM, Reidenbach et al. (2022), https://arxiv.org/abs/2208.09016
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from molvae.errors import InputError
from molvae.optimize.method import Proposal, Starts
from molvae.optimize.space import LatentSpace

FULL_COVARIANCE_BELOW = 129
"""Dimensions from which only a diagonal covariance is learned, because an update of a full one takes D**3 operations.

Measured at D = 64, five leads, three oracles, three seeds, 300 and 1,000 calls: full was level with diagonal or ahead.
"""

FEW_NEW = 0.25
WIDEN = 1.5
ARMS_AT_ONCE = 4
FEWEST_POINTS = 8
ELITES = 10
"""Molecules of a strategy at one of which it begins anew."""

WIDEST = 2.0
"""Step size in posterior widths that is always allowed, however wide these are."""


@dataclass(frozen=True)
class CmaOptions:
    """The settings of `CmaEs`.

    Attributes:
        step: first step size in posterior widths.
        arms: strategies at once, when there are no given starts: around so many of the best molecules drawn.
        reencode: whether a strategy is told where each molecule lies; else the point that decoded to it.
        elite: whether the best molecule so far is told again with every generation.
        parents: points of a generation whose weighted mean is its next center. The mean of many molecules' codes is no
            good molecule: with eight of 16, half of a generation scored a third less than the best one known.
        patience: points without a better molecule after which a strategy begins anew at one of its `ELITES` best; 0
            keeps to the best one.

    Raises:
        InputError: when a value is out of range.
    """

    step: float = 1.0
    arms: int = 1
    reencode: bool = True
    elite: bool = True
    parents: int = 3
    patience: int = 200

    def __post_init__(self) -> None:
        if not 0 < self.step < math.inf:
            raise InputError(f"step = {self.step} is not a length.", "Give step=1 or so.")
        if self.arms < 1:
            raise InputError(f"arms = {self.arms} is not positive.", "Give arms=1 or more.")
        if not 1 <= self.parents <= FEWEST_POINTS // 2:
            raise InputError(f"parents = {self.parents} is out of range.", f"Give 1 to {FEWEST_POINTS // 2}.")
        if self.patience < 0:
            raise InputError(f"patience = {self.patience} is below 0.", "Give patience=0 or more.")


def _strategy(size: int, step: float, options: dict[str, Any]) -> Any:
    """Return a CMA-ES at the origin."""
    # Imported here because it brings pyplot and scipy.stats: two seconds that only a search with it should pay.
    import cma

    return cma.CMAEvolutionStrategy(np.zeros(size), step, options)


class _Arm:
    """One CMA-ES around one start, in units of that start's posterior width.

    Sampling and learning are apart: any number of points may be drawn between two updates, and an update happens once a
    generation's worth of them is told.
    """

    def __init__(self, starts: Starts, row: int, generator: np.random.Generator, settings: CmaOptions) -> None:
        self.scale = np.minimum(starts.std[row], 1.0)
        self.generator, self.settings = generator, settings
        self.asked = 0
        score = float(starts.scores[row])
        self.best = -math.inf if math.isnan(score) else score
        self.best_point, self.best_smiles = starts.mean[row], starts.smiles[row]
        # sigma * scale stays below the prior's own width, 1.
        self.widest = max(WIDEST, 1.0 / float(np.median(self.scale)))
        self.seen: set[str] = set()
        self._elites = {self.best_smiles: (self.best, self.best_point)}
        self._idle = 0
        self._restart()

    def _wander(self) -> None:
        """Begin anew at one of the best molecules: around the best one the search has been."""
        names = sorted(self._elites)
        self.best_smiles = names[int(self.generator.integers(len(names)))]
        self.best, self.best_point = self._elites[self.best_smiles]
        self._restart()

    def _restart(self) -> None:
        """Begin anew at the best point."""
        self._idle = 0
        self.center = self.best_point
        size = len(self.center)
        options = {
            "popsize": population(size), "CMA_diagonal": size >= FULL_COVARIANCE_BELOW, "seed": np.nan, "verbose": -9,
            "CMA_mu": self.settings.parents,
            "randn": lambda *shape: self.generator.standard_normal(shape),
        }  # fmt: skip
        # cma has no one-dimensional mode; the second coordinate of such a space is idle.
        self.strategy: Any = _strategy(max(size, 2), self.settings.step, options)
        self._points: list[NDArray[np.float64]] = []
        self._losses: list[float] = []
        self._new = 0

    def draw(self, n: int) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        """Return n latents (n, D) and the strategy's own points for them."""
        self.asked += n
        points = self.strategy.ask(n)
        return np.array([self.center + self.scale * point[: len(self.center)] for point in points]), points

    def _place(self, latent: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where ``latent`` (D,) is to the strategy; idle coordinates as in ``point``."""
        place = point.copy()
        place[: len(latent)] = (latent - self.center) / self.scale
        return place

    def learn(self, point: NDArray[np.float64], latent: NDArray[np.float64], smiles: str, score: float) -> None:
        """Take in one result, for the next `adapt`.

        Args:
            point: the strategy's own point that was decoded.
            latent: (D,) where the molecule lies.
            smiles: of the molecule, "" for none.
            score: NaN for none.
        """
        self._new += bool(smiles) and smiles not in self.seen
        self.seen.add(smiles)
        self._idle += 1
        if smiles and not math.isnan(score):
            self._elites[smiles] = (score, latent)
            if len(self._elites) > ELITES:
                del self._elites[min(self._elites, key=lambda one: self._elites[one][0])]
        if score > self.best:
            self.best, self.best_point, self.best_smiles = score, latent, smiles
            self._idle = 0
        self._points.append(self._place(latent, point) if self.settings.reencode else point)
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
            best = self._place(self.best_point, np.zeros(len(self._points[0])))
            told = any(np.allclose(best, point) for point in self._points)
            again = [best] if self.settings.elite and not told and math.isfinite(self.best) else []
            self.strategy.tell([*self._points, *again], [*losses.tolist(), *([-self.best] * len(again))])
            if self._new < FEW_NEW * len(losses):
                self.strategy.sigma *= WIDEN
        self.strategy.sigma = min(self.strategy.sigma, self.widest)
        self._points, self._losses, self._new = [], [], 0
        if 0 < self.settings.patience <= self._idle:
            self._wander()
        elif self.strategy.stop():
            self._restart()


def population(dimension: int) -> int:
    """Return the points of a generation: Hansen's default, at least 8.

    >>> population(64)
    16
    """
    return max(FEWEST_POINTS, 4 + int(3 * math.log(dimension)))


class CmaEs:
    """One CMA-ES per start; the budget is shared evenly, a generation at a time, in the order of the starts.

    A generation with hardly a new molecule in it widens the search; one without any score narrows it; a strategy that
    has converged begins anew at the best molecule it found, and one that found nothing better for long at one of the
    best ten. Of drawn starts only the best are searched around.

    Measured on `druglike`, AUC of the top 10 after 1,000 calls, means of seeds 0 and 1, perindopril_mpo / zaleplon_mpo:
    eight strategies of step 2 that are told points (one seed) .366 / .384, one of step 1 that is told codes .410 /
    .456, without ``elite`` .419 / .449; random neighbours .386 / .433, the genetic algorithm .394 / .430. After 500
    calls, seed 0: ``reencode=off`` .360 / .392 instead of .355 / .415, ``arms=4`` .340 / .392, ``step=2`` .359 / .382.
    After 3,000 calls, means of seeds 0 and 1: eight parents, which is Hansen's share, and ``patience=0`` .486 / .494,
    ``patience=200`` .492 / .494, and with three parents .542 / .504, one .497 / .519, two of 32 points .479 / .503,
    three and a search that narrows while most is new .484 / .517; random neighbours .456 / .496.
    From a given lead (two leads, both tasks, 250 calls, seed 0), mean of the ten best: .358 with points and step 2,
    .416 with codes, .410 with codes and step 1; random neighbours .387.
    """

    summary: ClassVar[str] = "CMA-ES around each start molecule, in units of its posterior's width"
    options: ClassVar[type[CmaOptions]] = CmaOptions

    def __init__(
        self, space: LatentSpace, starts: Starts, generator: np.random.Generator, options: CmaOptions | None = None
    ) -> None:
        self.settings = self.options() if options is None else options
        self.space, self.starts = space, starts
        self._count = min(len(starts), self.settings.arms) if starts.drawn else len(starts)
        self.batch = population(space.dimension) * min(self._count, ARMS_AT_ONCE)
        self._generation = population(space.dimension)
        self._arms: dict[int, _Arm] = {}
        self._seeds = generator.spawn(self._count)
        self._turn = 0
        self._pending: list[tuple[_Arm, NDArray[np.float64]]] = []

    def _arm(self, row: int) -> _Arm:
        if row not in self._arms:
            self._arms[row] = _Arm(self.starts, row, self._seeds[row], self.settings)
        return self._arms[row]

    def ask(self, n: int) -> Proposal:
        """Return ``n`` points (n, D): generation after generation, from one start after the other."""
        latents: list[NDArray[np.float64]] = []
        rows: list[int] = []
        parents: list[str] = []
        self._pending = []
        while len(rows) < n:
            row = self._turn % self._count
            arm = self._arm(row)
            wanted = min(n - len(rows), self._generation - arm.asked % self._generation)
            drawn, points = arm.draw(wanted)
            latents.append(drawn)
            rows += [row] * wanted
            parents += [arm.best_smiles] * wanted
            self._pending += [(arm, point) for point in points]
            if arm.asked % self._generation == 0:
                self._turn += 1
        return Proposal(np.concatenate(latents), np.array(rows, dtype=np.int64), tuple(parents))

    def tell(self, proposal: Proposal, smiles: Sequence[str], scores: NDArray[np.float64]) -> None:
        """Let every start's strategy learn from its own molecules; ``scores`` (n,), NaN counts as worst."""
        places = self._places(proposal, smiles)
        for (arm, point), latent, one, score in zip(self._pending, places, smiles, scores, strict=True):
            arm.learn(point, latent, one, float(score))
        for arm in {id(arm): arm for arm, _ in self._pending}.values():
            arm.adapt()
        self._pending = []

    def _places(self, proposal: Proposal, smiles: Sequence[str]) -> NDArray[np.float64]:
        """Return where n molecules lie (n, D): their codes, or the points themselves where there is no code."""
        rows = [row for row, one in enumerate(smiles) if one] if self.settings.reencode else []
        places = proposal.latents.copy()
        if rows:
            codes = self.space.encode([smiles[row] for row in rows])
            good = [index for index, problem in enumerate(codes.problems) if not problem]
            places[[rows[index] for index in good]] = codes.mean[good]
        return places
