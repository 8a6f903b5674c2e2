"""Bring codes to zero mean and unit covariance, so that a learned prior starts from what a normal already explains.

In: codes (N, D). Out: white codes (N, D), and back.
"""

from __future__ import annotations

import torch
from torch import nn

RIDGE = 1e-5
"""Variance added in every direction, so that codes with an unused dimension can be whitened too."""


class Whitened(nn.Module):
    """A prior that works on white codes; before `standardize` white codes are the codes themselves."""

    def __init__(self, latent: int, condition_size: int) -> None:
        super().__init__()
        self.latent, self.condition_size = latent, condition_size
        self.register_buffer("center", torch.zeros(latent))
        self.register_buffer("whiten", torch.eye(latent))

    def standardize(self, codes: torch.Tensor) -> None:
        """Set the whitening from ``codes`` (N, D)."""
        center = codes.mean(0)
        covariance = torch.cov((codes - center).T) + RIDGE * torch.eye(codes.shape[1], device=codes.device)
        self.get_buffer("center").copy_(center)
        self.get_buffer("whiten").copy_(torch.linalg.cholesky(covariance))

    def to_white(self, z: torch.Tensor) -> torch.Tensor:
        """Return ``z`` (N, D) as white codes (N, D)."""
        centred = (z - self.get_buffer("center")).T
        white: torch.Tensor = torch.linalg.solve_triangular(self.get_buffer("whiten"), centred, upper=False)
        return white.T

    def from_white(self, white: torch.Tensor) -> torch.Tensor:
        """Return white codes (N, D) as latents (N, D)."""
        return white @ self.get_buffer("whiten").T + self.get_buffer("center")

    def log_volume(self) -> torch.Tensor:
        """Return log |dz / d white|, (): subtract it from a log density of white codes."""
        return self.get_buffer("whiten").diagonal().log().sum()

    def noise(self, n: int, generator: torch.Generator | None) -> torch.Tensor:
        """Draw N(0, I), (n, D), on the prior's device."""
        return torch.randn((n, self.latent), generator=generator, device=self.get_buffer("center").device)

    def context(self, n: int, cond: torch.Tensor | None) -> torch.Tensor:
        """Return the condition (n, C) that the networks read.

        Args:
            n: rows.
            cond: (n, C) as `SequenceVAE.condition` makes it; None knows nothing. A prior without conditions ignores it.
        """
        if cond is None or self.condition_size == 0:
            return torch.zeros((n, self.condition_size), device=self.get_buffer("center").device)
        return cond
