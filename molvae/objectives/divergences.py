"""Pointwise divergences between posterior and prior.

In: q(z|x), the prior, z (K, B, D). Out: nats per sample and molecule, (K, B).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from molvae.nn.distributions import DiagonalNormal, Posterior


class Density(Protocol):
    """A prior with a log density."""

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Return log p(z) in nats, (N,), for ``z`` (N, D)."""


Divergence = Callable[[Posterior, Density, torch.Tensor], torch.Tensor]


def kl_per_dimension(posterior: DiagonalNormal) -> torch.Tensor:
    """Return KL(q || N(0, 1)) of every latent dimension in nats, (B, D).

    Source: Kingma and Welling (2014), appendix B, https://arxiv.org/abs/1312.6114
    """
    variance = (2 * posterior.log_std).exp()
    return 0.5 * (posterior.mean.square() + variance - 1) - posterior.log_std


def analytic_kl(posterior: Posterior, prior: Density, z: torch.Tensor) -> torch.Tensor:
    """Return KL(q || N(0, I)) in nats, the same for each of K samples, (K, B)."""
    if not isinstance(posterior, DiagonalNormal):
        raise TypeError("The analytic KL needs a diagonal normal posterior.")
    return kl_per_dimension(posterior).sum(1).expand(z.shape[:2])


def sampled_kl(posterior: Posterior, prior: Density, z: torch.Tensor) -> torch.Tensor:
    """Return log q(z|x) - log p(z) in nats, (K, B): unbiased for any prior with a density."""
    samples, batch, latent = z.shape
    return posterior.log_prob(z) - prior.log_prob(z.reshape(samples * batch, latent)).view(samples, batch)


def zero(posterior: Posterior, prior: Density, z: torch.Tensor) -> torch.Tensor:
    """Return zeros (K, B): the plain autoencoder pays nothing for its code."""
    return torch.zeros(z.shape[:2], device=z.device)


def free_bits_penalty(posterior: DiagonalNormal, free_bits: float) -> torch.Tensor:
    """Return the nats to add so that each dimension costs at least ``free_bits`` on average over the batch, ().

    Adding it cancels the gradient of dimensions below the threshold.

    Source: Kingma et al. (2016), section C.8, https://arxiv.org/abs/1606.04934
    """
    return (free_bits - kl_per_dimension(posterior).mean(0)).clamp(min=0).sum()
