"""Turn the raw value of a property into a score: the modifiers of GuacaMol and the transforms of REINVENT.

In: raw values, a float array of any shape. Out: the same shape; NaN stays NaN. Each transform is a frozen dataclass
that is called with an array.

Sources: GuacaMol, Brown et al. 2019, doi 10.1021/acs.jcim.8b00839 (clipped, gaussian, threshold, linear); REINVENT 4,
Loeffler et al. 2024, doi 10.1186/s13321-024-00812-5 (the sigmoids and steps, with the names of their parameters).
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from molvae.errors import ConfigError

Values = NDArray[np.float64]


class Transform(Protocol):
    """Raw values to scores, shape for shape."""

    def __call__(self, values: Values) -> Values:
        """Return the scores of ``values``."""


@dataclass(frozen=True)
class Linear:
    """``slope * x + shift``; as it stands it changes nothing."""

    slope: float = 1.0
    shift: float = 0.0

    def __call__(self, values: Values) -> Values:
        """Return ``slope * x + shift``."""
        return self.slope * values + self.shift


@dataclass(frozen=True)
class Clipped:
    """0 up to ``low``, 1 from ``high``, a straight line between; ``low`` above ``high`` falls instead.

    >>> Clipped(high=0.8)(np.array([0.2, 0.4, 0.9])).tolist()
    [0.25, 0.5, 1.0]
    """

    high: float
    low: float = 0.0

    def __post_init__(self) -> None:
        if self.low == self.high:
            raise ConfigError(f"clipped has low = high = {self.low:g}.", "Give two values, or use step.")

    def __call__(self, values: Values) -> Values:
        """Return 0 to 1."""
        slope = 1.0 / (self.high - self.low)
        return np.clip(slope * values + (1.0 - slope * self.high), 0.0, 1.0)


@dataclass(frozen=True)
class Threshold:
    """``min(x, high) / high``: linear, and 1 from ``high``; below 0 it is negative."""

    high: float

    def __post_init__(self) -> None:
        if self.high <= 0:
            raise ConfigError(f"threshold has high = {self.high:g}.", "Give a value above 0, or use clipped.")

    def __call__(self, values: Values) -> Values:
        """Return at most 1."""
        return np.minimum(values, self.high) / self.high


@dataclass(frozen=True)
class Gaussian:
    """A bell of height 1 at ``mean``, of standard deviation ``std``."""

    mean: float
    std: float

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ConfigError(f"A width of std = {self.std:g} is not positive.", "Give std above 0.")

    def __call__(self, values: Values) -> Values:
        """Return 0 to 1."""
        return np.asarray(np.exp(-0.5 * ((values - self.mean) / self.std) ** 2), dtype=np.float64)


@dataclass(frozen=True)
class MinGaussian(Gaussian):
    """1 up to ``mean``, half a bell above: the value should be small."""

    def __call__(self, values: Values) -> Values:
        """Return 0 to 1."""
        return super().__call__(np.maximum(values, self.mean))


@dataclass(frozen=True)
class MaxGaussian(Gaussian):
    """1 from ``mean``, half a bell below: the value should be large."""

    def __call__(self, values: Values) -> Values:
        """Return 0 to 1."""
        return super().__call__(np.minimum(values, self.mean))


def _sigmoid10(values: Values) -> Values:
    """Return ``1 / (1 + 10**-x)`` without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.log(10.0) * values)), dtype=np.float64)


def _check_order(name: str, low: float, high: float) -> None:
    if not low < high:
        raise ConfigError(f"{name} has low = {low:g} and high = {high:g}.", "Give a low that is below high.")


@dataclass(frozen=True)
class Sigmoid:
    """Rises from 0 to 1, 0.5 in the middle of ``low`` and ``high``; ``k`` is how steep.

    At ``low`` it is 1 / (1 + 10**(5 k)), which is 0.053 for k = 0.25, and as much below 1 at ``high``.

    >>> Sigmoid(low=0.0, high=10.0)(np.array([0.0, 5.0, 10.0])).round(3).tolist()
    [0.053, 0.5, 0.947]
    """

    low: float
    high: float
    k: float = 0.25

    def __post_init__(self) -> None:
        _check_order("A sigmoid", self.low, self.high)
        if self.k <= 0:
            raise ConfigError(f"A sigmoid has k = {self.k:g}.", "Give k above 0; reverse_sigmoid turns it round.")

    def __call__(self, values: Values) -> Values:
        """Return 0 to 1."""
        return _sigmoid10(10.0 * self.k * (values - 0.5 * (self.low + self.high)) / (self.high - self.low))


@dataclass(frozen=True)
class ReverseSigmoid(Sigmoid):
    """Falls from 1 to 0: `Sigmoid` turned round."""

    def __call__(self, values: Values) -> Values:
        """Return 0 to 1."""
        return 1.0 - super().__call__(values)


@dataclass(frozen=True)
class DoubleSigmoid:
    """Near 1 between ``low`` and ``high``, 0.5 at both, 0 outside, steep as ``coef_si`` and ``coef_se`` / ``coef_div``.

    The rising flank holds left of the middle, the falling one right of it, as in REINVENT 4.
    """

    low: float
    high: float
    coef_div: float = 100.0
    coef_si: float = 150.0
    coef_se: float = 150.0

    def __post_init__(self) -> None:
        _check_order("double_sigmoid", self.low, self.high)
        if min(self.coef_div, self.coef_si, self.coef_se) <= 0:
            raise ConfigError("double_sigmoid has a coefficient that is not positive.", "Give values above 0.")

    def __call__(self, values: Values) -> Values:
        """Return 0 to 1."""
        left = _sigmoid10(self.coef_si / self.coef_div * (values - self.low))
        right = 1.0 - _sigmoid10(self.coef_se / self.coef_div * (values - self.high))
        return np.where(values < 0.5 * (self.low + self.high), left, right)


@dataclass(frozen=True)
class Step:
    """1 from ``low`` to ``high``, both included, else 0; leave one out for a step to one side.

    >>> Step(low=2)(np.array([1.0, 2.0, float("nan")])).tolist()
    [0.0, 1.0, nan]
    """

    low: float = -np.inf
    high: float = np.inf

    def __post_init__(self) -> None:
        if self.low == -np.inf and self.high == np.inf:
            raise ConfigError("step has neither low nor high.", "Give low, high or both.")
        if self.low > self.high:
            _check_order("step", self.low, self.high)

    def __call__(self, values: Values) -> Values:
        """Return 0 or 1."""
        inside = (values >= self.low) & (values <= self.high)
        return np.where(np.isnan(values), np.nan, inside.astype(np.float64))


@dataclass(frozen=True)
class Range:
    """1 from ``low`` to ``high``, falling in a straight line to 0 at ``margin`` outside: a step that shows the way."""

    low: float
    high: float
    margin: float

    def __post_init__(self) -> None:
        if self.low > self.high:
            _check_order("range", self.low, self.high)
        if self.margin <= 0:
            raise ConfigError(f"range has margin = {self.margin:g}.", "Give a margin above 0, or use step.")

    def __call__(self, values: Values) -> Values:
        """Return 0 to 1."""
        outside = np.maximum(np.maximum(self.low - values, values - self.high), 0.0)
        return np.clip(1.0 - outside / self.margin, 0.0, 1.0)


TRANSFORMS: dict[str, type[Transform]] = {
    "sigmoid": Sigmoid,
    "reverse_sigmoid": ReverseSigmoid,
    "double_sigmoid": DoubleSigmoid,
    "step": Step,
    "range": Range,
    "clipped": Clipped,
    "threshold": Threshold,
    "gaussian": Gaussian,
    "min_gaussian": MinGaussian,
    "max_gaussian": MaxGaussian,
    "linear": Linear,
}
"""The names a goal file uses."""

UNBOUNDED = ("linear", "threshold")
"""Transforms whose scores may leave 0 to 1."""


def parameters(name: str) -> tuple[list[str], list[str]]:
    """Return the parameters of a transform that must be given, and those that may be.

    >>> parameters("range")
    (['low', 'high', 'margin'], [])
    """
    known = fields(TRANSFORMS[name])  # type: ignore[arg-type]
    needed = [field.name for field in known if field.default is MISSING]
    return needed, [field.name for field in known if field.name not in needed]
