"""Choose a batch for a Pareto front: the molecules by which the volume below the front is expected to grow most.

In: draws of M objectives for molecules that were scored and for candidates. Out: rows of candidates.

The improvement is averaged over fronts that are drawn too, as scores may be noisy, its logarithm is taken of a softened
volume, so that candidates that hardly improve anything are still ranked, and a batch is chosen one by one, each given
the ones before it. Here candidates are a list, not a space to climb in: no gradients, no other library is needed.

Measured: the logarithms are within 6e-4 of those of botorch 0.18.1 (200 candidates, 8 points known, two and three
objectives, no noise). QED against similarity to celecoxib, `druglike`, hypervolume after 200 calls, seeds 0 and 1:
tanimoto-bo .261 and .342 with it, .352 and .315 with a random direction for each molecule, random .234 and .312; two
thirds of a second for a batch of 20. Two seeds tell no difference, so the cheaper way is the default.

Source: qNEHVI, Daulton et al. 2021, https://arxiv.org/abs/2105.08195; qLogNEHVI, Ament et al. 2023,
https://arxiv.org/abs/2310.20708
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from molvae.optimize.features import Features
from molvae.optimize.gaussian import Array
from molvae.optimize.pareto import front, ranking
from molvae.optimize.surrogate import GaussianProcess

DRAWS = 64
KNOWN = 40
"""So many of the best molecules scored, front after front, can be on the front of a draw."""

POOL = 5
"""Candidates looked at for each one chosen."""

SOFT = 1e-3
"""Where an improvement begins to count as none, as a share of an objective's range."""


def boxes(values: Array, reference: Array) -> tuple[Array, Array]:
    """Cut what ``values`` (N, M) do not dominate above ``reference`` (M,) into boxes that do not overlap.

    Returns:
        lower and upper corners (K, M) each; upper ones may be infinite.

    >>> lower, upper = boxes(np.array([[2.0, 1.0], [1.0, 2.0]]), np.zeros(2))
    >>> lower.tolist(), upper.tolist()
    ([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]], [[inf, 1.0], [inf, 2.0], [inf, inf]])
    """
    above = values[(values > reference).all(axis=1)]
    above = above[front(above)]
    if len(reference) == 1:
        low = np.append(above, reference).max()
        return np.array([[low]]), np.array([[np.inf]])
    levels = [float(reference[-1]), *np.unique(above[:, -1]).tolist(), np.inf]
    lower, upper = [], []
    for low, high in pairwise(levels):
        # In a slab a point dominates what it does elsewhere when it reaches above the slab.
        below, over = boxes(above[above[:, -1] >= high, :-1], reference[:-1])
        lower.append(np.column_stack([below, np.full(len(below), low)]))
        upper.append(np.column_stack([over, np.full(len(over), high)]))
    return np.concatenate(lower), np.concatenate(upper)


def log_improvement(values: Array, lower: Array, upper: Array, soft: float = SOFT) -> Array:
    """Return the logarithm of the volume that each of ``values`` (N, M) alone adds in K boxes, softened, (N,).

    >>> lower, upper = boxes(np.array([[2.0, 1.0], [1.0, 2.0]]), np.zeros(2))
    >>> np.exp(log_improvement(np.array([[3.0, 1.5]]), lower, upper)).round(3).tolist()
    [2.0]
    """
    ratio = (np.minimum(values[:, None], upper) - lower) / soft
    # log(log(1 + exp(x))) is x far below 0.
    lengths = np.where(ratio < -30, ratio, np.log(np.logaddexp(0.0, np.maximum(ratio, -30.0)))) + np.log(soft)
    return np.asarray(np.logaddexp.reduce(lengths.sum(2), axis=1))


def choose(known: Array, candidates: Array, reference: Array, n: int) -> list[int]:
    """Return the rows of ``n`` candidates, each with the largest expected improvement given those before it.

    Args:
        known: (S, N, M) draws of what is scored; every objective's range should be about 1.
        candidates: (S, C, M) draws, jointly with those of ``known``.
        reference: (M,) from where volumes are measured.
        n: how many; all of them when there are fewer.

    >>> known, candidates = np.array([[[1.0, 1.0]]]), np.array([[[2.0, 0.5], [2.0, 0.6], [0.5, 2.0], [0.9, 0.9]]])
    >>> choose(known, candidates, np.zeros(2), 3)
    [1, 2, 0]
    """
    fronts = list(known)
    chosen: list[int] = []
    gains = np.empty(candidates.shape[:2])
    for _ in range(min(n, candidates.shape[1])):
        for draw, values in enumerate(fronts):
            gains[draw] = log_improvement(candidates[draw], *boxes(values, reference))
        worth = np.logaddexp.reduce(gains, axis=0)
        worth[chosen] = -np.inf
        chosen.append(int(np.argmax(worth)))
        fronts = [
            np.concatenate([values[front(values)], candidates[draw, chosen[-1:]]]) for draw, values in enumerate(fronts)
        ]
    return chosen


def choose_batch(
    processes: Sequence[GaussianProcess], values: Array, pool: Features, n: int, generator: np.random.Generator
) -> list[int]:
    """Return the rows of ``n`` molecules of a pool by expected growth of the front.

    Args:
        processes: one for each of M objectives, fitted to the same N molecules.
        values: (N, M) what they are worth.
        pool: C molecules to choose from.
        n: how many.
        generator: where chance comes from.
    """
    low = values.min(0)
    span = np.maximum(values.max(0) - low, 1e-12)
    best = ranking(values)[:KNOWN]
    drawn = []
    for process in processes:
        assert process.known is not None
        drawn.append(process.draw(process.known.take(best).join(pool), DRAWS, generator))
    scaled = (np.stack(drawn, axis=2) - low) / span
    return choose(scaled[:, : len(best)], scaled[:, len(best) :], np.zeros(len(low)), n)
