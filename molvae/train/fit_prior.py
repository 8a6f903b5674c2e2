"""Fit a prior to the codes of a trained model, so that new latents come from where the training set lies.

In: a frozen model, its dataset, a `PriorConfig`. Out: the fitted prior, and the rate against it on held-out codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture as SklearnMixture

from molvae.config import PriorConfig
from molvae.data.dataset import Dataset
from molvae.errors import InputError
from molvae.nn.distributions import DiagonalNormal
from molvae.nn.model import SequenceVAE
from molvae.nn.priors import CONDITIONAL, GaussianMixture, Prior, StandardNormal
from molvae.train.prior_codes import Codes, CodeSource, rate_against, split_codes
from molvae.train.prior_training import Report, fit_flow, fit_flow_matching, fit_latent_gan

MIN_CODES = 50
JUDGED = 2000
"""Codes on which a prior that was learned with the model is judged, at most."""


@dataclass(frozen=True)
class PriorFit:
    """A fitted prior and what it is worth.

    Attributes:
        rate: mean of log q(z|x) - log p(z) over held-out molecules, nats: what the prior must pay for a code; NaN for
            a prior without a density.
        rate_normal: the same for N(0, I).
        codes: molecules whose codes were used to fit.
        settings: what `build_prior` makes such a prior from.
        rate_given: as ``rate``, all conditions known; None for a prior without conditions.
    """

    prior: Prior
    rate: float
    rate_normal: float
    codes: int
    settings: PriorConfig
    rate_given: float | None = None

    def facts(self) -> dict[str, Any]:
        """Return the entries ``prior`` and ``prior_rate`` of a model's facts; a rate that there is not is null."""
        rates = {"fitted": self.rate, "normal": self.rate_normal, "given": self.rate_given}
        known = {name: None if rate is None or math.isnan(rate) else round(rate, 2) for name, rate in rates.items()}
        if self.rate_given is None:
            del known["given"]
        return {"prior": self.settings.model_dump(mode="json"), "prior_rate": known}


def fit_prior(
    model: SequenceVAE, dataset: Dataset, config: PriorConfig, seed: int = 0, report: Report | None = None
) -> PriorFit:
    """Fit ``config.kind`` to codes of the training split, drawn from q(z|x) anew in every step.

    The prior learns p(z|c) when the model has conditions and ``config.conditional`` says so; some or all conditions are
    hidden in training (``config.condition_dropout``), so that any of them may be missing later.

    Args:
        model: frozen; its own prior is left alone.
        dataset: in the model's vocabulary and with its properties, see `dataset_for`.
        report: called with (step, steps, held-out rate so far), NaN where there is none; a mixture does not report.

    Raises:
        InputError: when the training split has fewer than 50 molecules.
    """
    rows = len(dataset.rows("train"))
    if rows < MIN_CODES:
        raise InputError(
            f"A prior needs {MIN_CODES} training molecules, the dataset has {rows}.", "Use --set prior.kind=normal."
        )
    used, held = split_codes(model, dataset, config.codes, seed)
    conditional = config.conditional and config.kind in CONDITIONAL and bool(model.condition_names)
    settings = config.model_copy(update={"conditional": conditional})
    source = CodeSource(model, used, 2 * len(model.condition_names) * conditional, config.condition_dropout)
    prior: Prior
    match config.kind:
        case "normal":
            prior = StandardNormal(model.latent)
        case "gmm":
            prior = _fit_mixture(_on_cpu(used.posterior), _on_cpu(held.posterior), config, seed)
        case "flow":
            prior = fit_flow(source, held, config, seed, report)
        case "flow_matching":
            prior = fit_flow_matching(source, held, config, seed, report)
        case "latent_gan":
            prior = fit_latent_gan(source, held, config, seed, report)
    return _judge(prior.to(model.device).eval(), model, held, len(used), settings, seed)


def measure_prior(model: SequenceVAE, dataset: Dataset, config: PriorConfig, seed: int = 0) -> PriorFit:
    """Return the flow that was learned together with ``model``, and what it pays for codes of the training split.

    Args:
        config: whose sizes the flow has.
    """
    codes, _ = split_codes(model, dataset, JUDGED, seed)
    settings = config.model_copy(update={"kind": "flow", "conditional": False})
    return _judge(model.prior, model, codes, len(dataset.rows("train")), settings, seed)


def _judge(prior: Prior, model: SequenceVAE, held: Codes, fitted_to: int, settings: PriorConfig, seed: int) -> PriorFit:
    """Measure ``prior`` on ``held``, each time with the same draws, so that every kind is compared on the same."""

    def rate(of: Prior, cond: torch.Tensor | None = None) -> float:
        return rate_against(of, held.posterior, torch.Generator(model.device).manual_seed(seed + 1), cond)

    given = rate(prior, model.condition(held.properties)) if settings.conditional else None
    normal = StandardNormal(model.latent).to(model.device)
    return PriorFit(prior, rate(prior), rate(normal), fitted_to, settings, given)


def _on_cpu(posterior: DiagonalNormal) -> DiagonalNormal:
    return DiagonalNormal(posterior.mean.cpu(), posterior.log_std.cpu())


def _fit_mixture(used: DiagonalNormal, held: DiagonalNormal, config: PriorConfig, seed: int) -> GaussianMixture:
    """Return the best of mixtures of 1, 2, 4, ... components by held-out rate: more of them may overfit the codes."""
    z = used.sample(1, torch.Generator().manual_seed(seed))[0].numpy()
    # A full covariance needs several codes a dimension; fewer components where there are few molecules.
    most = max(1, min(config.components, len(z) // (3 * z.shape[1])))
    fits = []
    for power in range(most.bit_length()):
        prior = _mixture_of(z, 2**power, config.components, seed)
        # Other noise than the codes were drawn with: nearly collapsed posteriors would otherwise be judged on it again.
        fits.append((rate_against(prior, held, torch.Generator().manual_seed(seed + 1)), power, prior))
    return min(fits, key=lambda entry: entry[:2])[2]


def _mixture_of(z: NDArray[np.float32], components: int, places: int, seed: int) -> GaussianMixture:
    """Fit ``components`` Gaussians to ``z`` (N, D) by EM and put them into a mixture with ``places`` components."""
    fitted = SklearnMixture(
        components, random_state=seed, reg_covar=1e-4, max_iter=60, tol=1e-2, init_params="k-means++"
    ).fit(z)
    prior = GaussianMixture(z.shape[1], places)
    weights = torch.zeros(places)
    weights[:components] = torch.from_numpy(fitted.weights_).float()
    prior.get_buffer("weights").copy_(weights)
    prior.get_buffer("means")[:components] = torch.from_numpy(fitted.means_).float()
    prior.get_buffer("factors")[:components] = torch.linalg.cholesky(torch.from_numpy(fitted.covariances_)).float()
    return prior
