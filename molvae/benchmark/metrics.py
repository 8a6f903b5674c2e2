"""Compare two collections of molecules by the numbers that distribution benchmarks share.

In: canonical SMILES, counts of substructures, property values. Out: one float each; NaN where nothing can be said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def unique_share(smiles: Sequence[str], k: int) -> float:
    """Return how many of the first ``k`` molecules differ from each other, as a share; NaN when there are fewer.

    >>> unique_share(["C", "C", "CC"], 2), unique_share(["C"], 2)
    (0.5, nan)
    """
    return len(set(smiles[:k])) / k if len(smiles) >= k > 0 else math.nan


def cosine_similarity(reference: Mapping[str, int], counts: Mapping[str, int]) -> float:
    """Return the cosine of the angle between two vectors of counts, what is missing counting 0; NaN when one is empty.

    Source: Polykovskiy et al. (2020), Frag and Scaf, https://doi.org/10.3389/fphar.2020.565644

    >>> cosine_similarity({"a": 1, "b": 1}, {"a": 2, "b": 2}), cosine_similarity({"a": 1}, {"b": 1})
    (1.0, 0.0)
    """
    norms = [math.sqrt(sum(count * count for count in one.values())) for one in (reference, counts)]
    if not all(norms):
        return math.nan
    common = sum(count * reference[name] for name, count in counts.items() if name in reference)
    # Rounding may put equal vectors a hair above 1.
    return min(1.0, round(common / (norms[0] * norms[1]), 15))


def wasserstein_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Return the earth mover's distance between two samples of numbers, in their unit; NaN when one is empty.

    The area between the two distribution functions. Values that are not finite are left out.

    >>> wasserstein_distance([0.0, 1.0], [0.5, 1.5])
    0.5
    """
    left, right = (_finite(values) for values in (a, b))
    if not len(left) or not len(right):
        return math.nan
    both = np.sort(np.concatenate([left, right]))
    heights = [np.searchsorted(values, both[:-1], side="right") / len(values) for values in (left, right)]
    return float(np.sum(np.abs(heights[0] - heights[1]) * np.diff(both)))


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).ravel()
    return np.sort(array[np.isfinite(array)])


def mean_and_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return mean and sample standard deviation over runs; None for what cannot be had.

    >>> mean_and_spread([1.0, 2.0, 3.0]), mean_and_spread([1.0]), mean_and_spread([1.0, None])
    ((2.0, 1.0), (1.0, None), (None, None))
    """
    numbers = [value for value in values if value is not None and math.isfinite(value)]
    if not numbers or len(numbers) < len(values):
        return None, None
    return float(np.mean(numbers)), float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
