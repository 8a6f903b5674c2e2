"""Compare molecules by several objectives at once: fronts, crowding, hypervolume, and random hypervolume scalars.

In: objectives (N, M), all to be maximised, NaN where one is missing. Out: ranks, the front, volumes, scores (N,).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SLICED = 3
"""Objectives up to which a volume is sliced."""


def dominates(one: Array, other: Array) -> bool:
    """Say whether ``one`` (M,) is nowhere worse than ``other`` (M,) and somewhere better.

    >>> dominates(np.array([1.0, 2.0]), np.array([1.0, 1.0]))
    True
    """
    return bool((one >= other).all() and (one > other).any())


def front(values: Array) -> NDArray[np.int64]:
    """Return the rows of ``values`` (N, M) that no other row dominates, in order; of equal rows the first.

    Rows with NaN are never on the front.

    >>> front(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.5], [1.0, 0.0]])).tolist()
    [0, 1]
    """
    rows = np.flatnonzero(~np.isnan(values).any(axis=1))
    kept: list[int] = []
    # By the columns, and not by their sum, which rounding may make equal: no row is dominated by a later one.
    for row in rows[np.lexsort(-values[rows].T[::-1])].tolist():
        if not kept or not (values[kept] >= values[row]).all(axis=1).any():
            kept.append(row)
    return np.array(sorted(kept), dtype=np.int64)


def front_ranks(values: Array) -> NDArray[np.int64]:
    """Return which front each row (N, M) is on, (N,): 0 the best; rows with NaN come after all others.

    >>> front_ranks(np.array([[1.0, 1.0], [0.0, 0.5], [np.nan, 2.0]])).tolist()
    [0, 1, 2]
    """
    ranks = np.full(len(values), -1, dtype=np.int64)
    rank = 0
    left = np.flatnonzero(~np.isnan(values).any(axis=1))
    while len(left):
        best = values[left]
        # Rows equal to one on the front belong to it too.
        members = best[front(best)]
        on = (best[:, None, :] == members[None, :, :]).all(axis=2).any(axis=1)
        ranks[left[on]] = rank
        left, rank = left[~on], rank + 1
    ranks[ranks < 0] = rank
    return ranks


def crowding(values: Array) -> Array:
    """Return how alone each row (N, M) is among the others: the sum of gaps to its neighbours by objective, (N,).

    The ends of each objective are infinitely alone. Source: NSGA-II, Deb et al. 2002, doi 10.1109/4235.996017
    """
    alone = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        span = float(np.ptp(column)) if len(column) else 0.0
        alone[order[[0, -1]] if len(order) else order] = math.inf
        if len(order) > 2 and span > 0:
            alone[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return alone


def ranking(values: Array) -> NDArray[np.int64]:
    """Return the rows (N, M) best first: by front, on a front the loneliest first; rows with NaN last."""
    ranks = front_ranks(values)
    alone = np.zeros(len(values))
    for rank in range(int(ranks.max(initial=-1)) + 1):
        rows = np.flatnonzero((ranks == rank) & ~np.isnan(values).any(axis=1))
        alone[rows] = crowding(values[rows])
    return np.lexsort((-alone, ranks)).astype(np.int64)


def hypervolume(values: Array, reference: Array) -> float:
    """Return the volume that ``values`` (N, M) dominate above ``reference`` (M,).

    Exact: by slicing along the last objective for up to three, N**2 log N then; for more, point by point, what each one
    adds to those after it, whose parts beyond it are cut off (WFG, While et al. 2012, doi 10.1109/TEVC.2010.2077298).

    >>> hypervolume(np.array([[2.0, 1.0], [1.0, 2.0]]), np.zeros(2))
    3.0
    """
    above = values[(values > reference).all(axis=1)]
    above = above[front(above)] - reference
    if not len(above):
        return 0.0
    if above.shape[1] == 1:
        return float(above.max())
    if above.shape[1] > SLICED:
        return _by_points(above)
    order = above[np.argsort(-above[:, -1], kind="stable")]
    heights = np.append(order[:, -1], 0.0)
    zero = np.zeros(above.shape[1] - 1)
    slabs = heights[:-1] - heights[1:]
    return float(sum(
        slab * _area(order[: row + 1, :-1], zero) for row, slab in enumerate(slabs.tolist()) if slab > 0
    ))  # fmt: skip


def _by_points(values: Array) -> float:
    """Return the volume between 0 and ``values`` (N, M), all above 0, none dominated by another."""
    if len(values) == 1:
        return float(values[0].prod())
    # In this order all that is cut for a row has the same last objective: most of it is dominated, and gone.
    order = values[np.argsort(values[:, -1], kind="stable")]
    volume = 0.0
    for row, one in enumerate(order):
        cut = np.minimum(order[row + 1 :], one)
        volume += float(one.prod()) - (_by_points(cut[front(cut)]) if len(cut) else 0.0)
    return volume


def _area(values: Array, zero: Array) -> float:
    return float(values.max()) if values.shape[1] == 1 else hypervolume(values, zero)


def hypervolume_curve(values: Array, reference: Array, every: int = 100) -> list[tuple[int, float]]:
    """Return (calls, hypervolume) after each ``every`` rows of ``values`` (N, M), and after the last.

    >>> hypervolume_curve(np.array([[1.0, 1.0], [2.0, 1.0], [0.0, 0.0]]), np.zeros(2), every=2)
    [(2, 2.0), (3, 2.0)]
    """
    marks = sorted({*range(every, len(values) + 1, every), len(values)} - {0})
    kept = values[:0]
    curve, before = [], 0
    for mark in marks:
        kept = np.concatenate([kept, values[before:mark]])
        kept = kept[front(kept)]
        before = mark
        curve.append((mark, hypervolume(kept, reference)))
    return curve


def random_scalar(values: Array, reference: Array, generator: np.random.Generator) -> Array:
    """Return one number (N,) for rows of objectives (N, M), higher is better, for a direction drawn at random.

    Its mean over directions is the hypervolume up to a factor, so that maximising many of them spreads over the front.
    Source: hypervolume scalarization, Zhang and Golovin 2020, https://arxiv.org/abs/2006.04655
    """
    direction = np.abs(generator.standard_normal(values.shape[1]))
    direction /= np.linalg.norm(direction)
    return np.asarray(((values - reference) / np.maximum(direction, 1e-3)).min(axis=1))
