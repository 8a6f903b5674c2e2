"""Fit a head for one measured property to frozen codes, and say by cross-validation how good it is.

In: latents (N, D) and values (N,). Out: a `GaussianProcess` whose 90 % intervals hold 90 % of what it never saw.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.errors import InputError
from molvae.nn.gaussian_process import GaussianProcess, fit_process

FEWEST = 30
FOLDS = 10
NORMAL_90 = 1.6448536
"""Half the width of a normal distribution's central 90 %, in standard deviations."""
LEAST, MOST = 0.5, 4.0
"""Bounds of the factor on the standard deviation: beyond them the cross-validation itself is not to be trusted."""

Fold = NDArray[np.int64]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class CrossValidation:
    """What a head said of rows that it was not fitted to.

    Attributes:
        folds: (N,) the fold in which each row was left out.
        mean: (N,) prediction.
        std: (N,) its standard deviation.
        factor: on the deviations of a head fitted to all rows; those in ``std`` were stretched by other folds' own.
    """

    folds: Fold
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    factor: float = 1.0

    def without(self, fold: int) -> CrossValidation:
        """Return what was said of the rows outside of ``fold``."""
        kept = self.folds != fold
        return CrossValidation(self.folds[kept], self.mean[kept], self.std[kept])

    def coverage(self, values: NDArray[np.float64]) -> float:
        """Return the share of ``values`` (N,) inside their 90 % interval."""
        return float((np.abs(values - self.mean) <= NORMAL_90 * self.std).mean())


def check_labels(values: NDArray[np.float64], name: str) -> None:
    """Refuse a table that no head can be learned from.

    Args:
        values: (N,) labels of readable molecules.
        name: of the property.

    Raises:
        InputError: with fewer than 30 labels, or when all are equal.
    """
    if len(values) < FEWEST:
        raise InputError(
            f"{name} has {len(values)} labelled molecules that the model can read, and a head needs {FEWEST}.",
            "Give a table with more measured molecules.",
        )
    if values.std() == 0:
        raise InputError(f"{name} is {values[0]:g} in every row.", "Give a property that varies.")


def random_folds(count: int, seed: int, folds: int = FOLDS) -> Fold:
    """Return a fold (N,) for each of ``count`` = N rows, sizes differing by 1 at most.

    >>> sorted(random_folds(5, seed=0, folds=2).tolist())
    [0, 0, 0, 1, 1]
    """
    return np.random.default_rng(seed).permutation(np.arange(count) % folds).astype(np.int64)


def group_folds(groups: Sequence[str], folds: int = FOLDS) -> Fold:
    """Return a fold (N,) for each row, rows of one group together: the largest group into the emptiest fold.

    >>> group_folds(["a", "b", "a", "c"], folds=2).tolist()
    [0, 1, 0, 1]
    """
    names, places, counts = np.unique(np.asarray(groups, dtype=object), return_inverse=True, return_counts=True)
    sizes, fold_of = np.zeros(folds), np.zeros(len(names), dtype=np.int64)
    for group in np.argsort(-counts, kind="stable"):
        fold_of[group] = int(sizes.argmin())
        sizes[fold_of[group]] += counts[group]
    return fold_of[places]


def cross_validate(
    latents: NDArray[np.float32], values: NDArray[np.float64], folds: Fold, seed: int = 0, report: Report | None = None
) -> CrossValidation:
    """Predict every row by a head fitted to the other folds, its interval stretched by what those folds missed.

    Args:
        latents: (N, D).
        values: (N,).
        folds: (N,).
        seed: of the choice of inducing latents.
        report: told how many folds are done, of how many.
    """
    z, y = torch.from_numpy(np.asarray(latents, dtype=np.float64)), torch.from_numpy(values)
    mean, std = np.zeros(len(values)), np.zeros(len(values))
    names = np.unique(folds)
    near: torch.Tensor | None = None
    for done, fold in enumerate(names):
        left = torch.from_numpy(folds == fold)
        if y[~left].std() == 0:
            raise InputError("All labels but those of one fold are equal.", "Give a property that varies.")
        process = _fit(z[~left], y[~left], seed, near)
        # The next folds hold nearly the same rows: one start, where this one ended, is enough.
        near = process.get_buffer("log_scales")
        with torch.no_grad():
            found = process(z[left])
        mean[folds == fold], std[folds == fold] = found[0].numpy(), found[1].numpy()
        if report:
            report(done + 1, len(names))
    plain = CrossValidation(folds, mean, std)
    factors = {fold: stretch(plain.without(fold), values[folds != fold]) for fold in names}
    widened = std * np.array([factors[fold] for fold in folds])
    return CrossValidation(folds, mean, widened, stretch(plain, values))


def fit_head(
    latents: NDArray[np.float32], values: NDArray[np.float64], checked: CrossValidation, seed: int = 0
) -> GaussianProcess:
    """Fit a head to all rows, its intervals stretched as cross-validation of the same rows asks for.

    Args:
        latents: (N, D).
        values: (N,).
        checked: from `cross_validate`.
        seed: of the choice of inducing latents.
    """
    process = _fit(torch.from_numpy(np.asarray(latents, dtype=np.float64)), torch.from_numpy(values), seed)
    process.get_buffer("stretch").fill_(checked.factor)
    return process


def stretch(checked: CrossValidation, values: NDArray[np.float64]) -> float:
    """Return the factor on the deviations under which 90 % of ``values`` (N,) lie inside their 90 % interval."""
    misses = np.abs(values - checked.mean) / checked.std
    # One more than the data hold, as in conformal prediction: without it few rows would promise too much.
    share = min(1.0, 0.9 * (len(values) + 1) / len(values))
    return float(np.clip(np.quantile(misses, share) / NORMAL_90, LEAST, MOST))


def _fit(z: torch.Tensor, values: torch.Tensor, seed: int, near: torch.Tensor | None = None) -> GaussianProcess:
    return fit_process(z, values, torch.Generator().manual_seed(seed), near=near)
