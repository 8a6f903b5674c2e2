"""The small network that flow matching and the latent GAN share.

In: vectors (N, F). Out: vectors (N, D), all zero before the first step of training.
"""

from __future__ import annotations

import torch
from torch import nn


class ResidualNetwork(nn.Module):
    """A linear map, ``blocks`` residual blocks of two layers, and a last linear map that starts at zero.

    Args:
        inputs: F.
        outputs: D.
    """

    def __init__(self, inputs: int, hidden: int, blocks: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
            for _ in range(blocks)
        )
        self.last = nn.Linear(hidden, outputs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return (N, D) for ``inputs`` (N, F)."""
        hidden = self.first(inputs)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        outputs: torch.Tensor = self.last(nn.functional.silu(hidden))
        return outputs
