"""Predict properties from a latent, with their uncertainty.

In: z (B, D). Out: mean and log standard deviation (B, P) of the standardised properties.
"""

from __future__ import annotations

import torch
from torch import nn


class PropertyHeads(nn.Module):
    """One hidden layer shared by P properties; with P = 0 it has no parameters and returns (B, 0)."""

    def __init__(self, latent: int, hidden: int, properties: int) -> None:
        super().__init__()
        self.properties = properties
        layers = [nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, 2 * properties)] if properties else []
        self.network = nn.Sequential(*layers)

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log_std, each (B, P), for ``z`` (B, D)."""
        if not self.properties:
            empty = z.new_zeros((len(z), 0))
            return empty, empty
        mean, log_std = self.network(z).float().chunk(2, dim=1)
        return mean, log_std.clamp(-5.0, 3.0)
