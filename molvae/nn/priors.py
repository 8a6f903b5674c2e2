"""Where new latents come from: a standard normal, or a prior fitted to the codes of the training set.

In: a number of samples and a generator, or latents. Out: latents (N, D), or their log density in nats (N,).

Every prior has ``sample(n, generator, cond)`` and ``log_prob(z, cond)``; ``has_density`` is false for a latent GAN,
whose ``log_prob`` refuses. ``cond`` (N, C) is what `SequenceVAE.condition` returns, None where nothing is known; a
prior that was not fitted with conditions ignores it.
"""

from __future__ import annotations

from typing import Any

import torch
import zuko
from torch import nn

from molvae.config import PriorConfig
from molvae.nn.critic import LatentGAN
from molvae.nn.distributions import standard_normal_log_prob
from molvae.nn.flow_matching import FlowMatchingPrior
from molvae.nn.whitening import Whitened


class StandardNormal(nn.Module):
    """N(0, I) over (D,): the prior of the textbook VAE."""

    has_density = True

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.register_buffer("anchor", torch.zeros(1), persistent=False)

    def sample(
        self, n: int, generator: torch.Generator | None = None, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw ``n`` latents, (n, D); ``cond`` (n, C) changes nothing."""
        device = self.get_buffer("anchor").device
        return torch.randn((n, self.latent), generator=generator, device=device)

    def log_prob(self, z: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
        """Return the log density of ``z`` (N, D) in nats, (N,); ``cond`` (N, C) changes nothing."""
        return standard_normal_log_prob(z)


class GaussianMixture(nn.Module):
    """A mixture of full-covariance normals, fitted by `molvae.train.fit_prior`; it knows no conditions."""

    has_density = True

    def __init__(self, latent: int, components: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.full((components,), 1.0 / components))
        self.register_buffer("means", torch.zeros(components, latent))
        self.register_buffer("factors", torch.eye(latent).repeat(components, 1, 1))

    def sample(
        self, n: int, generator: torch.Generator | None = None, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw ``n`` latents, (n, D); ``cond`` (n, C) changes nothing."""
        means, factors = self.get_buffer("means"), self.get_buffer("factors")
        picked = torch.multinomial(self.get_buffer("weights"), n, replacement=True, generator=generator)
        noise = torch.randn((n, means.shape[1]), generator=generator, device=means.device)
        return means[picked] + torch.einsum("nij,nj->ni", factors[picked], noise)

    def log_prob(self, z: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
        """Return the log density of ``z`` (N, D) in nats, (N,); ``cond`` (N, C) changes nothing."""
        means, factors = self.get_buffer("means"), self.get_buffer("factors")
        log_weights = self.get_buffer("weights").log()
        terms = []
        for log_weight, mean, factor in zip(log_weights, means, factors, strict=True):
            scaled = torch.linalg.solve_triangular(factor, (z - mean).T, upper=False).T
            terms.append(log_weight + standard_normal_log_prob(scaled) - factor.diagonal().log().sum())
        return torch.stack(terms).logsumexp(0)


class FlowPrior(Whitened):
    """A normalizing flow of affine couplings over white latents.

    Affine rather than splines, because spline steps were several times slower on one core at D = 64.

    Source: RealNVP, Dinh et al. (2017), https://arxiv.org/abs/1605.08803 (implementation: zuko)
    """

    has_density = True

    def __init__(self, latent: int, layers: int, hidden: int, condition_size: int = 0) -> None:
        super().__init__(latent, condition_size)
        self.flow = zuko.flows.RealNVP(
            latent, context=condition_size, transforms=layers, hidden_features=(hidden, hidden)
        )

    def _given(self, n: int, cond: torch.Tensor | None) -> Any:
        return self.flow(self.context(n, cond)) if self.condition_size else self.flow()

    def sample(
        self, n: int, generator: torch.Generator | None = None, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw ``n`` latents, (n, D), under ``cond`` (n, C); None knows nothing."""
        white: torch.Tensor = self._given(n, cond).transform.inv(self.noise(n, generator))
        return self.from_white(white)

    def log_prob(self, z: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
        """Return the log density of ``z`` (N, D) in nats, (N,), under ``cond`` (N, C); None knows nothing."""
        log_density: torch.Tensor = self._given(len(z), cond).log_prob(self.to_white(z))
        return log_density - self.log_volume()


Prior = StandardNormal | GaussianMixture | FlowPrior | FlowMatchingPrior | LatentGAN
CONDITIONAL = ("flow", "flow_matching", "latent_gan")
"""Kinds that can learn p(z|c)."""


def build_prior(facts: dict[str, Any] | None, latent: int, condition_size: int = 0) -> Prior:
    """Return an unfitted prior.

    Args:
        facts: the model's ``prior`` entry, a dict of `PriorConfig`; None gives N(0, I). An entry that does not say
            whether it is conditional, as older models wrote it, is not.
        latent: D.
        condition_size: C of the model's conditions, used when the prior is conditional.
    """
    if facts is None:
        return StandardNormal(latent)
    config = PriorConfig.model_validate({"conditional": False, **facts})
    size = condition_size if config.conditional else 0
    match config.kind:
        case "normal":
            return StandardNormal(latent)
        case "gmm":
            return GaussianMixture(latent, config.components)
        case "flow":
            return FlowPrior(latent, config.layers, config.hidden, size)
        case "flow_matching":
            return FlowMatchingPrior(latent, config.blocks, config.hidden, config.ode_steps, size)
        case "latent_gan":
            return LatentGAN(latent, config.blocks, config.hidden, size)
