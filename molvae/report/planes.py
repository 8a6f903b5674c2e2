"""Choose a plane through a latent space to look at, and the molecules that show what its axes mean.

In: codes (N, D) and property values (N, P). Out: a `Plane`, places on it (N, 2), rows of molecules; no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict

STOPS = (0.02, 0.25, 0.5, 0.75, 0.98)
FOLDS = 5
_PENALTIES = np.logspace(-2, 5, 15)


@dataclass(frozen=True)
class Plane:
    """Two directions in a latent space.

    Attributes:
        center: (D,), the mean code.
        axes: (2, D), of length 1 and at right angles; zeros for an axis that does not exist, as in one dimension.
        share: of the variance of the codes it was fitted to along each axis, 0 to 1.
        names: (2,) of the axes.
        fit: cross-validated R2 of the property that an axis follows, NaN for an axis that follows none.
    """

    center: NDArray[np.float64]
    axes: NDArray[np.float64]
    share: tuple[float, float]
    names: tuple[str, str] = ("component 1", "component 2")
    fit: tuple[float, float] = (float("nan"), float("nan"))

    def project(self, codes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the places of ``codes`` (N, D) on the plane, (N, 2)."""
        places: NDArray[np.float64] = (codes.astype(np.float64) - self.center) @ self.axes.T
        return places


def component_plane(codes: NDArray[np.floating], upwards: NDArray[np.float64] | None = None) -> Plane:
    """Return the plane of the first two principal components.

    Args:
        codes: (N, D), finite, N at least 1.
        upwards: (N,) values that should rise along each axis, which decides its sign; NaN counts as the mean. Without
            them the largest entry of an axis is positive.

    >>> plane = component_plane(np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 1.0], [3.0, 1.0]]))
    >>> [round(share, 2) for share in plane.share]
    [0.9, 0.1]
    """
    center = codes.astype(np.float64).mean(axis=0)
    centered = codes.astype(np.float64) - center
    _, _, rows = np.linalg.svd(centered, full_matrices=False)
    axes = np.zeros((2, codes.shape[1]))
    axes[: len(rows[:2])] = rows[:2]
    rise = None
    if upwards is not None and np.isfinite(upwards).any():
        rise = np.nan_to_num(upwards - np.nanmean(upwards))
    for axis in axes:
        along = axis[np.abs(axis).argmax()]
        if rise is not None:
            along = float(centered @ axis @ rise) or along
        if along < 0:
            axis *= -1
    return Plane(center, axes, _shares(centered, axes))


def property_plane(codes: NDArray[np.floating], values: NDArray[np.float64], names: tuple[str, ...]) -> Plane:
    """Return the plane along which properties rise: the directions of linear (ridge) predictions from the code.

    The second axis is what is left of the second property's direction at right angles to the first one; with a single
    property it is the first principal component of what is left.

    Args:
        codes: (N, D), finite, N at least 2 * `FOLDS`.
        values: (N, P) of the properties, P at least 1; rows with NaN are not used for that property.
        names: (P,) of the properties.
    """
    center = codes.astype(np.float64).mean(axis=0)
    centered = codes.astype(np.float64) - center
    directions, fits = [], []
    for column in range(min(2, values.shape[1])):
        direction, fit = _rise(centered, values[:, column])
        directions.append(direction)
        fits.append(fit)
    axes = np.zeros((2, codes.shape[1]))
    axes[0] = _unit(directions[0])
    rest = centered - np.outer(centered @ axes[0], axes[0])
    second = directions[1] if len(directions) > 1 else component_plane(rest).axes[0]
    axes[1] = _unit(second - (second @ axes[0]) * axes[0])
    labels = (names[0], names[1] if len(directions) > 1 else "component 1 of the rest")
    return Plane(center, axes, _shares(centered, axes), labels, (fits[0], fits[1] if len(fits) > 1 else float("nan")))


def _rise(centered: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Return the direction (D,) in which a ridge prediction of ``values`` (N,) rises, and its cross-validated R2."""
    known = np.isfinite(values)
    inputs, wanted = centered[known], values[known]
    if len(wanted) < 2 * FOLDS or wanted.std() < 1e-12:
        return np.zeros(centered.shape[1]), float("nan")
    model = RidgeCV(_PENALTIES)
    guessed = cross_val_predict(model, inputs, wanted, cv=KFold(FOLDS, shuffle=True, random_state=0))
    fit = 1.0 - float(np.square(wanted - guessed).mean() / wanted.var())
    direction: NDArray[np.float64] = model.fit(inputs, wanted).coef_
    return direction, fit


def _unit(direction: NDArray[np.float64]) -> NDArray[np.float64]:
    length = float(np.linalg.norm(direction))
    return direction / length if length > 1e-12 else np.zeros_like(direction)


def _shares(centered: NDArray[np.float64], axes: NDArray[np.float64]) -> tuple[float, float]:
    total = float(np.square(centered).sum()) or 1.0
    first, second = np.square(centered @ axes.T).sum(axis=0) / total
    return float(first), float(second)


def along_axis(places: NDArray[np.float64], axis: int) -> list[int]:
    """Return the rows of ``places`` (N, 2) at the quantiles `STOPS` of ``axis`` and nearest to the middle of the other.

    >>> along_axis(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [1.0, 5.0]]), 0)[0::4]
    [0, 2]
    """
    spread = np.maximum(places.std(axis=0), 1e-12)
    wanted = np.tile(np.median(places, axis=0), (len(STOPS), 1))
    wanted[:, axis] = np.quantile(places[:, axis], STOPS)
    away = (places[None] - wanted[:, None]) / spread
    return [int(row) for row in np.square(away).sum(axis=2).argmin(axis=1)]
