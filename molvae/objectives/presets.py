"""The table of objectives: a new variant is one row here and at most one new function.

In: a name. Out: the pieces that make its loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from molvae.errors import UnknownNameError
from molvae.nn.distributions import DiagonalNormal, PointMass, Posterior
from molvae.objectives.adversarial import WASSERSTEIN, Adversary
from molvae.objectives.aggregates import Aggregate, mmd
from molvae.objectives.bounds import Bound, importance_bound, mean_bound
from molvae.objectives.divergences import Divergence, analytic_kl, sampled_kl, zero


def as_point(posterior: DiagonalNormal) -> PointMass:
    """Keep the mean of q(z|x) and forget its noise."""
    return PointMass(posterior.mean)


def as_normal(posterior: DiagonalNormal) -> DiagonalNormal:
    """Keep q(z|x) as it is."""
    return posterior


@dataclass(frozen=True)
class Row:
    """The pieces of one objective; the meaning of each column stands in `molvae.objectives.objective`.

    Attributes:
        beta, schedule, samples, match_weight, head_weight, code_noise: what the settings of these names are when unset.
        prior: N(0, I), or a flow that is trained with the model and stays its prior.
        aggregate, adversary: how all codes together are drawn towards the prior; at most one of them.
        needs: settings of the model that must name a property, such as ``condition_on``.
    """

    posterior: Callable[[DiagonalNormal], Posterior]
    divergence: Divergence
    bound: Bound
    beta: float
    schedule: str
    samples: int = 1
    prior: Literal["normal", "flow"] = "normal"
    aggregate: Aggregate | None = None
    adversary: Adversary | None = None
    match_weight: float = 0.0
    head_weight: float = 1.0
    code_noise: float = 0.0
    needs: tuple[str, ...] = ()


PRESETS: dict[str, Row] = {
    "ae": Row(as_point, zero, mean_bound, beta=0.0, schedule="constant"),
    "vae": Row(as_normal, analytic_kl, mean_bound, beta=1.0, schedule="warmup"),
    "beta_vae": Row(as_normal, analytic_kl, mean_bound, beta=0.1, schedule="warmup", code_noise=0.2),
    "cvae": Row(as_normal, analytic_kl, mean_bound, beta=0.1, schedule="warmup", needs=("condition_on",)),
    "iwae": Row(as_normal, sampled_kl, importance_bound, beta=1.0, schedule="warmup", samples=8),
    "wae": Row(as_point, zero, mean_bound, beta=0.0, schedule="constant", aggregate=mmd, match_weight=100.0),
    "aae": Row(as_point, zero, mean_bound, beta=0.0, schedule="constant", adversary=WASSERSTEIN, match_weight=10.0),
    "flow_prior": Row(as_normal, sampled_kl, mean_bound, beta=0.1, schedule="warmup", prior="flow"),
    "ss_vae": Row(
        as_normal, analytic_kl, mean_bound, beta=0.1, schedule="warmup", head_weight=10.0, needs=("predict",)
    ),
}


def find_row(name: str) -> Row:
    """Return the row called ``name``.

    Raises:
        UnknownNameError: when the table has no such row; lists those it has.
    """
    if name not in PRESETS:
        raise UnknownNameError(f"There is no objective {name!r}.", f"Choose one of: {', '.join(PRESETS)}.")
    return PRESETS[name]
