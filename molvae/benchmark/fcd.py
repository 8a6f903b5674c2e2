"""Frechet ChemNet distance between two sets of molecules.

In: canonical SMILES. Out: one number, 0 for equal distributions; biased upwards by about 1209/n for n samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molvae.benchmark.metrics_chemnet import activations, known_layers, take_apart
from molvae.errors import InputError

MIN_MOLECULES = 2
BLOCK = 8192
"""Activations held at a time."""


@dataclass(frozen=True)
class Gaussian:
    """Mean (F,) and covariance (F, F) of ChemNet activations over n molecules."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    n: int


@lru_cache(maxsize=1)
def _chemnet(network: Any, symbols: tuple[str, ...]) -> Any:
    return take_apart(network, symbols)


def _predict(smiles: Sequence[str], batch_size: int) -> NDArray[np.float32]:
    """Return the activations of ``smiles``, (N, 512): by `molvae.benchmark.metrics_chemnet`, or by fcd itself where
    its network is another one than that module knows."""
    import fcd

    network: Any = fcd.load_ref_model()
    symbols = getattr(fcd.utils, "__vocab", None)
    if symbols is None or not known_layers(network):
        return np.asarray(fcd.get_predictions(network, list(smiles), batch_size), dtype=np.float32)
    return activations(_chemnet(network, tuple(symbols)), smiles, batch_size)


def chemnet_statistics(
    smiles: Sequence[str], batch_size: int = 128, say: Callable[[int], None] | None = None
) -> Gaussian:
    """Return the statistics of ChemNet's penultimate activations (F = 512) for valid canonical ``smiles``.

    Needs the extra ``metrics`` (package fcd, which brings the trained ChemNet).

    Args:
        smiles: canonical.
        batch_size: molecules at once.
        say: told how many are done.

    Raises:
        InputError: for fewer than 2 molecules, or when the package fcd is not installed.
    """
    if len(smiles) < MIN_MOLECULES:
        raise InputError(f"FCD needs at least {MIN_MOLECULES} molecules, got {len(smiles)}.", "Give more molecules.")
    try:
        import fcd  # noqa: F401
    except ImportError as error:
        raise InputError("FCD needs the package fcd.", "Install it with: pip install 'molvae[metrics]'") from error
    count, mean, scatter = 0, np.zeros(0), np.zeros((0, 0))
    for start in range(0, len(smiles), BLOCK):
        block = np.asarray(_predict(smiles[start : start + BLOCK], batch_size), dtype=np.float64)
        size, center = len(block), block.mean(0)
        block -= center
        if not count:
            mean, scatter = center, block.T @ block
        else:
            apart = center - mean
            scatter += block.T @ block + np.outer(apart, apart) * (count * size / (count + size))
            mean = mean + apart * (size / (count + size))
        count += size
        if say:
            say(count)
    return Gaussian(mean, scatter / (count - 1), count)


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """Return |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    The trace of the root is the sum of root eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric, so no matrix
    root of a product is needed.

    Source: Preuer et al. (2018), eq. 1, https://doi.org/10.1021/acs.jcim.8b00234

    >>> one = Gaussian(np.zeros(2), np.eye(2), 10)
    >>> frechet_distance(one, Gaussian(np.array([3.0, 4.0]), np.eye(2), 10))
    25.0
    """
    values, vectors = np.linalg.eigh(first.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ second.covariance @ root)
    trace = np.trace(first.covariance) + np.trace(second.covariance) - 2 * np.sqrt(inner.clip(min=0)).sum()
    return float(np.square(first.mean - second.mean).sum() + trace)
