"""Compare every fingerprint of one set with every one of another, without keeping the table of similarities.

In: packed fingerprints (N, F / 8) and (M, F / 8). Out: for each of the N its nearest, or its mean, Tanimoto similarity.

The loops are compiled by numba and run on all cores; where it cannot compile, numpy does the work, ten times slower.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molvae.chem.parallel import cpu_count

ROWS = 64
"""Rows a task: small enough to share evenly among cores and to report progress."""

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Say = Callable[[int], None]


def _compare(queries: Any, reference: Any, sizes: Any, others: Any, own: Any, out: Any) -> None:
    """Write nearest similarity, mean similarity and mean squared similarity of each query into ``out`` (N, 3).

    The count of common bits is written so that LLVM knows it for one and uses the processor's own instruction.
    """
    one, two, four, last = np.uint64(1), np.uint64(2), np.uint64(4), np.uint64(56)
    odd, pairs = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
    nibbles, fold = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)
    for i in range(len(queries)):
        best: Any = 0.0
        total: Any = 0.0
        squares: Any = 0.0
        for j in range(len(reference)):
            count = np.uint64(0)
            for k in range(queries.shape[1]):
                x = queries[i, k] & reference[j, k]
                x = x - ((x >> one) & odd)
                x = (x & pairs) + ((x >> two) & pairs)
                x = (x + (x >> four)) & nibbles
                count += (x * fold) >> last
            common = np.float32(count)
            union = np.float32(sizes[i] + others[j]) - common
            similarity = common / union if union > 0 else np.float32(1)
            if j != own[i]:
                best = max(best, similarity)
            total += similarity
            squares += similarity * similarity
        out[i, 0], out[i, 1], out[i, 2] = best, total / len(reference), squares / len(reference)


def _compare_plainly(queries: Any, reference: Any, sizes: Any, others: Any, own: Any, out: Any) -> None:
    """Do the work of `_compare` a row at a time in numpy."""
    for i in range(len(queries)):
        common = np.bitwise_count(queries[i] & reference).sum(axis=1, dtype=np.int64)
        union = sizes[i] + others - common
        similarity = np.where(union > 0, common / np.maximum(union, 1), 1.0)
        out[i, 1], out[i, 2] = similarity.mean(), np.square(similarity).mean()
        if own[i] >= 0:
            similarity[own[i]] = 0.0
        out[i, 0] = similarity.max()


@lru_cache(maxsize=1)
def _kernel() -> Callable[..., None]:
    """Return the compiled loop, or numpy's where numba is missing or cannot compile it."""
    try:
        import numba
    except ImportError:  # also what a numba raises that does not fit the installed numpy
        return _compare_plainly
    try:
        compiled: Callable[..., None] = numba.njit(cache=True, nogil=True)(_compare)
        words, counts = np.zeros((1, 1), np.uint64), np.zeros(1, np.int64)
        compiled(words, words, counts, counts, counts, np.zeros((1, 3)))
    except (numba.core.errors.NumbaError, RuntimeError, OSError, EOFError, ValueError):
        return _compare_plainly
    return compiled


def compare_all(
    queries: Bytes, reference: Bytes, *, skip_self: bool = False, workers: int | None = None, say: Say | None = None
) -> Floats:
    """Return nearest, mean and mean squared Tanimoto similarity of each query to the reference, (N, 3).

    Two empty fingerprints count as equal, as in MOSES.

    Args:
        queries: uint8 (N, F / 8), F a multiple of 64.
        reference: uint8 (M, F / 8), M at least 1.
        skip_self: row i of the reference is not a neighbour of query i (the means count it all the same).
        workers: threads; None means every core.
        say: told how many queries are done.

    Raises:
        ValueError: when there is no reference or the widths differ.

    >>> bits = np.array([[255] * 8, [255] * 4 + [0] * 4], dtype=np.uint8)
    >>> compare_all(bits, bits)[:, :2].tolist()
    [[1.0, 0.75], [1.0, 0.75]]
    >>> compare_all(bits, bits, skip_self=True)[:, 0].tolist()
    [0.5, 0.5]
    """
    if not len(reference) or queries.shape[1] != reference.shape[1]:
        raise ValueError(f"fingerprints of shape {queries.shape} cannot be compared with {reference.shape}")
    left, right = (np.ascontiguousarray(bits).view(np.uint64).copy() for bits in (queries, reference))
    sizes, others = (np.bitwise_count(words).sum(axis=1, dtype=np.int64) for words in (left, right))
    own = np.arange(len(left)) if skip_self else np.full(len(left), -1)
    out = np.empty((len(left), 3))
    kernel = _kernel()
    with ThreadPoolExecutor(workers or cpu_count()) as pool:
        tasks = [
            pool.submit(partial(kernel, left[rows], right, sizes[rows], others, own[rows], out[rows]))
            for rows in (slice(start, start + ROWS) for start in range(0, len(left), ROWS))
        ]
        for number, task in enumerate(tasks, 1):
            task.result()
            if say:
                say(min(number * ROWS, len(left)))
    return out


def nearest_similarity(queries: Bytes, reference: Bytes, workers: int | None = None, say: Say | None = None) -> float:
    """Return the mean over queries of the similarity to the nearest of the reference (SNN); NaN without any.

    Source: Polykovskiy et al. (2020), https://doi.org/10.3389/fphar.2020.565644
    """
    if not len(queries) or not len(reference):
        return float("nan")
    return float(compare_all(queries, reference, workers=workers, say=say)[:, 0].mean())


def internal_diversity(bits: Bytes, workers: int | None = None, say: Say | None = None) -> tuple[float, float]:
    """Return IntDiv and IntDiv2: one less the mean similarity of all pairs, a molecule with itself included.

    IntDiv2 takes, as the MOSES code does, the root of each molecule's mean squared similarity and then their mean.
    """
    if not len(bits):
        return float("nan"), float("nan")
    found = compare_all(bits, bits, workers=workers, say=say)
    return float(1 - found[:, 1].mean()), float(1 - np.sqrt(found[:, 2]).mean())
