"""The linear algebra of exact Gaussian processes.

In: a kernel matrix (N, N) and standardised values (N,). Out: its lower factor, solutions, the evidence for a kernel.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]

TRIES = 30


def cholesky(gram: Array, noise: float) -> Array:
    """Return the lower factor of ``gram`` plus ``noise`` on its diagonal, more of it where that is not enough.

    Raises:
        numpy.linalg.LinAlgError: when no noise is enough, because ``gram`` has numbers that are not finite.
    """
    for _ in range(TRIES):
        try:
            return np.asarray(np.linalg.cholesky(gram + noise * np.eye(len(gram))), dtype=np.float64)
        except np.linalg.LinAlgError:
            noise = max(4 * noise, 1e-10)
    return np.asarray(np.linalg.cholesky(gram + noise * np.eye(len(gram))), dtype=np.float64)


def extend(lower: Array, side: Array, square: Array, noise: float) -> Array:
    """Return the lower factor of a matrix (N + M, N + M) from that of its first N rows, sooner than `cholesky` does.

    Args:
        lower: factor (N, N) of the first rows, their noise included.
        side: kernel (M, N) between the other rows and the first ones.
        square: kernel (M, M) among the others, without noise.
        noise: put on their diagonal, more where that is not enough.

    >>> gram = np.array([[1.0, 0.5], [0.5, 1.0]])
    >>> np.allclose(extend(cholesky(gram[:1, :1], 0.1), gram[1:, :1], gram[1:, 1:], 0.1), cholesky(gram, 0.1))
    True
    """
    old, size = len(lower), len(lower) + len(square)
    below = solve(lower, np.ascontiguousarray(side.T)).T
    whole = np.zeros((size, size))
    whole[:old, :old] = lower
    whole[old:, :old] = below
    whole[old:, old:] = cholesky(square - below @ below.T, noise)
    return whole


def solve(lower: Array, right: Array, transpose: bool = False) -> Array:
    """Solve a triangular system; torch does it without going over the whole matrix, numpy cannot."""
    factor = torch.from_numpy(lower)
    answer = torch.linalg.solve_triangular(factor.T if transpose else factor, torch.from_numpy(right), upper=transpose)
    return np.asarray(answer.numpy())


def evidence(gram: Array, noise: float, values: Array) -> float:
    """Return the log marginal likelihood of ``values`` (N,), the kernel's amplitude fitted, up to a constant."""
    lower = cholesky(gram, noise)
    amplitude = float((solve(lower, values[:, None]) ** 2).mean())
    return -float(np.log(np.diag(lower)).sum()) - 0.5 * len(values) * float(np.log(max(amplitude, 1e-12)))
