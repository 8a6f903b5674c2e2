"""The distributions over latents: diagonal normal and point mass.

In: parameters (B, D). Out: samples (K, B, D) and log densities (K, B) in nats, summed over D.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

_LOG_2_PI = math.log(2 * math.pi)


class Posterior(Protocol):
    """What an encoder returns: q(z|x) over (D,), one per molecule."""

    @property
    def mean(self) -> torch.Tensor:
        """The centre of q(z|x), (B, D)."""

    def sample(self, k: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw (K, B, D) latents, differentiable with respect to the parameters."""

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Return log q(z|x) in nats, (K, B), for ``z`` (K, B, D)."""


@dataclass(frozen=True)
class DiagonalNormal:
    """Independent normals with ``mean`` and ``log_std`` (B, D).

    Source: reparameterization trick, Kingma and Welling (2014), https://arxiv.org/abs/1312.6114
    """

    mean: torch.Tensor
    log_std: torch.Tensor

    def sample(self, k: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw (K, B, D) by z = mean + std * noise."""
        noise = torch.randn((k, *self.mean.shape), generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.mean + self.log_std.exp() * noise

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Return the log density of ``z`` (K, B, D) in nats, (K, B)."""
        scaled = (z - self.mean) * (-self.log_std).exp()
        return (-0.5 * scaled.square() - self.log_std - 0.5 * _LOG_2_PI).sum(-1)


@dataclass(frozen=True)
class PointMass:
    """All mass on ``mean`` (B, D): the plain autoencoder's code."""

    mean: torch.Tensor

    def sample(self, k: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Repeat the mean, (K, B, D); no noise is drawn."""
        return self.mean.expand(k, *self.mean.shape)

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Return zeros (K, B): a point mass has no density, so no divergence may use it."""
        return torch.zeros(z.shape[:-1], device=z.device, dtype=z.dtype)


def standard_normal_log_prob(z: torch.Tensor) -> torch.Tensor:
    """Return log N(z; 0, I) in nats, (N,) or (K, B): summed over the last dimension of ``z``, (N, D) or (K, B, D)."""
    return (-0.5 * z.square() - 0.5 * _LOG_2_PI).sum(-1)
