"""Predict properties from a latent, with their uncertainty.

In: z (B, D). Out: mean and log standard deviation (B, P) of the standardised properties.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from molvae.data.dataset import PropertyInfo
from molvae.nn.gaussian_process import GaussianProcess


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


class PropertyReader(PropertyHeads):
    """Heads on the encoder's summary of a molecule (B, S) instead of on z: they read a draft, and no latent.

    z forgets what the decoder can do without, and a molecule between those of the training set has much of that: on
    drafts written under random requests heads on z miss SAS by .42, these by .26 (``moses``, n = 1,582).
    """


class JoinedHeads(nn.Module):
    """Trained heads and, behind them, heads fitted to measurements: one answer for all, standardised.

    Args:
        trained: heads of P properties.
        fitted: Q processes, each with the mean and deviation by which its property is standardised.
    """

    def __init__(self, trained: nn.Module, fitted: Sequence[tuple[PropertyInfo, GaussianProcess]]) -> None:
        super().__init__()
        self.trained = trained
        self.info = [info for info, _ in fitted]
        self.fitted = nn.ModuleList([process for _, process in fitted])

    def pairs(self) -> list[tuple[PropertyInfo, GaussianProcess]]:
        """Return the fitted properties and their processes."""
        return [(info, cast("GaussianProcess", process)) for info, process in zip(self.info, self.fitted, strict=True)]

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log_std, each (B, P + Q), for ``z`` (B, D)."""
        mean, log_std = self.trained(z)
        means, log_stds = [mean], [log_std]
        for info, process in self.pairs():
            centre, deviation = process(z)
            means.append(((centre - info.mean) / info.std)[:, None].to(mean))
            log_stds.append((deviation / info.std).log()[:, None].to(mean))
        return torch.cat(means, dim=1), torch.cat(log_stds, dim=1)
