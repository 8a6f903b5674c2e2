"""The table of objectives: a new variant is one row here and at most one new function.

In: a name. Out: the pieces that make its loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from molvae.errors import UnknownNameError
from molvae.nn.distributions import DiagonalNormal, PointMass, Posterior
from molvae.objectives.bounds import Bound, mean_bound
from molvae.objectives.divergences import Divergence, analytic_kl, zero


def as_point(posterior: DiagonalNormal) -> PointMass:
    """Keep the mean of q(z|x) and forget its noise."""
    return PointMass(posterior.mean)


def as_normal(posterior: DiagonalNormal) -> DiagonalNormal:
    """Keep q(z|x) as it is."""
    return posterior


@dataclass(frozen=True)
class Row:
    """The pieces of one objective; the meaning of each column stands in `molvae.objectives.objective`."""

    posterior: Callable[[DiagonalNormal], Posterior]
    divergence: Divergence
    bound: Bound
    beta: float
    schedule: str
    samples: int = 1


PRESETS: dict[str, Row] = {
    "ae": Row(as_point, zero, mean_bound, beta=0.0, schedule="constant"),
    "vae": Row(as_normal, analytic_kl, mean_bound, beta=1.0, schedule="warmup"),
    "beta_vae": Row(as_normal, analytic_kl, mean_bound, beta=0.1, schedule="warmup"),
}


def find_row(name: str) -> Row:
    """Return the row called ``name``.

    Raises:
        UnknownNameError: when the table has no such row; lists those it has.
    """
    if name not in PRESETS:
        raise UnknownNameError(f"There is no objective {name!r}.", f"Choose one of: {', '.join(PRESETS)}.")
    return PRESETS[name]
