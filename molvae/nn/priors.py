"""Where new latents come from: a standard normal, or a density fitted to the codes of the training set.

In: a number of samples and a generator, or latents. Out: latents (N, D), or their log density in nats (N,).
"""

from __future__ import annotations

from typing import Any

import torch
import zuko
from torch import nn

from molvae.config import PriorConfig
from molvae.nn.distributions import standard_normal_log_prob


class StandardNormal(nn.Module):
    """N(0, I) over (D,): the prior of the textbook VAE."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent
        self.register_buffer("anchor", torch.zeros(1), persistent=False)

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` latents, (n, D)."""
        device = self.get_buffer("anchor").device
        return torch.randn((n, self.latent), generator=generator, device=device)

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Return the log density of ``z`` (N, D) in nats, (N,)."""
        return standard_normal_log_prob(z)


class GaussianMixture(nn.Module):
    """A mixture of full-covariance normals, fitted by `molvae.train.fit_prior`."""

    def __init__(self, latent: int, components: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.full((components,), 1.0 / components))
        self.register_buffer("means", torch.zeros(components, latent))
        self.register_buffer("factors", torch.eye(latent).repeat(components, 1, 1))

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` latents, (n, D)."""
        means, factors = self.get_buffer("means"), self.get_buffer("factors")
        picked = torch.multinomial(self.get_buffer("weights"), n, replacement=True, generator=generator)
        noise = torch.randn((n, means.shape[1]), generator=generator, device=means.device)
        return means[picked] + torch.einsum("nij,nj->ni", factors[picked], noise)

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Return the log density of ``z`` (N, D) in nats, (N,)."""
        means, factors = self.get_buffer("means"), self.get_buffer("factors")
        log_weights = self.get_buffer("weights").log()
        terms = []
        for log_weight, mean, factor in zip(log_weights, means, factors, strict=True):
            scaled = torch.linalg.solve_triangular(factor, (z - mean).T, upper=False).T
            terms.append(log_weight + standard_normal_log_prob(scaled) - factor.diagonal().log().sum())
        return torch.stack(terms).logsumexp(0)


class FlowPrior(nn.Module):
    """A normalizing flow of affine couplings over whitened latents.

    Affine rather than splines, because spline steps were several times slower on one core at D = 64.

    Source: RealNVP, Dinh et al. (2017), https://arxiv.org/abs/1605.08803 (implementation: zuko)
    """

    def __init__(self, latent: int, layers: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(latent))
        self.register_buffer("whiten", torch.eye(latent))
        self.flow = zuko.flows.RealNVP(latent, transforms=layers, hidden_features=(hidden, hidden))

    def standardize(self, codes: torch.Tensor) -> None:
        """Set the whitening from ``codes`` (N, D), so that the flow starts from zero mean and unit covariance."""
        center = codes.mean(0)
        covariance = torch.cov((codes - center).T) + 1e-5 * torch.eye(codes.shape[1])
        self.get_buffer("center").copy_(center)
        self.get_buffer("whiten").copy_(torch.linalg.cholesky(covariance))

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` latents, (n, D)."""
        whiten, center = self.get_buffer("whiten"), self.get_buffer("center")
        noise = torch.randn((n, len(center)), generator=generator, device=center.device)
        white: torch.Tensor = self.flow().transform.inv(noise)
        return white @ whiten.T + center

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Return the log density of ``z`` (N, D) in nats, (N,)."""
        whiten, center = self.get_buffer("whiten"), self.get_buffer("center")
        white = torch.linalg.solve_triangular(whiten, (z - center).T, upper=False).T
        log_density: torch.Tensor = self.flow().log_prob(white)
        return log_density - whiten.diagonal().log().sum()


Prior = StandardNormal | GaussianMixture | FlowPrior


def build_prior(facts: dict[str, Any] | None, latent: int) -> Prior:
    """Return an unfitted prior.

    Args:
        facts: the model's ``prior`` entry, a dict of `PriorConfig`; None gives N(0, I).
        latent: D.
    """
    if facts is None:
        return StandardNormal(latent)
    config = PriorConfig.model_validate(facts)
    if config.kind == "normal":
        return StandardNormal(latent)
    if config.kind == "gmm":
        return GaussianMixture(latent, config.components)
    return FlowPrior(latent, config.layers, config.hidden)
