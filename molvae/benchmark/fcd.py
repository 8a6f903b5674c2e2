"""Frechet ChemNet distance between two sets of molecules.

In: canonical SMILES. Out: one number, 0 for equal distributions; biased upwards by about 1209/n for n samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molvae.errors import InputError

MIN_MOLECULES = 2


@dataclass(frozen=True)
class Gaussian:
    """Mean (F,) and covariance (F, F) of ChemNet activations over n molecules."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    n: int


def chemnet_statistics(smiles: Sequence[str], batch_size: int = 128) -> Gaussian:
    """Return the statistics of ChemNet's penultimate activations (F = 512) for valid canonical ``smiles``.

    Needs the extra ``metrics`` (package fcd, which brings the trained ChemNet).

    Raises:
        InputError: for fewer than 2 molecules, or when the package fcd is not installed.
    """
    if len(smiles) < MIN_MOLECULES:
        raise InputError(f"FCD needs at least {MIN_MOLECULES} molecules, got {len(smiles)}.", "Give more molecules.")
    try:
        import fcd
    except ImportError as error:
        raise InputError("FCD needs the package fcd.", "Install it with: pip install 'molvae[metrics]'") from error
    network: Any = fcd.load_ref_model()
    activations = np.asarray(fcd.get_predictions(network, list(smiles), batch_size), dtype=np.float64)
    return Gaussian(activations.mean(0), np.cov(activations, rowvar=False), len(smiles))


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
