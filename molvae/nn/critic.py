"""Tell codes from samples of a prior, and write codes that a critic takes for real.

In: vectors (N, D). Out: a score (N,), high for what looks real; `LatentGAN`, a prior without a density.
"""

from __future__ import annotations

import torch
from torch import nn

from molvae.errors import InputError
from molvae.nn.residual import ResidualNetwork
from molvae.nn.whitening import Whitened


class Critic(nn.Module):
    """Two hidden layers over codes, to which a condition may be joined."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(inputs, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Return how real ``codes`` (N, D) look, (N,) float32 without bounds."""
        score: torch.Tensor = self.network(codes).squeeze(1).float()
        return score


class LatentGAN(Whitened):
    """A network that turns noise into codes, trained against a critic; it starts as the normal that fits the codes.

    It has no density: it can be sampled, and cannot say what a code costs.

    Source: latent GANs over an autoencoder's codes, Prykhodko et al. (2019), https://doi.org/10.1186/s13321-019-0397-9
    """

    has_density = False

    def __init__(self, latent: int, blocks: int, hidden: int, condition_size: int = 0) -> None:
        super().__init__(latent, condition_size)
        self.generator = ResidualNetwork(latent + condition_size, hidden, blocks, latent)

    def generate(self, noise: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
        """Return white codes (N, D) for ``noise`` (N, D) and ``cond`` (N, C); differentiable."""
        moved: torch.Tensor = self.generator(torch.cat([noise, self.context(len(noise), cond)], dim=1))
        return noise + moved

    def sample(
        self, n: int, generator: torch.Generator | None = None, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw ``n`` latents, (n, D), under ``cond`` (n, C); None knows nothing."""
        return self.from_white(self.generate(self.noise(n, generator), cond))

    def log_prob(self, z: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
        """Refuse: a GAN has no density.

        Args:
            z: (N, D).
            cond: (N, C).

        Raises:
            InputError: always.
        """
        raise InputError(
            "The model's prior is a latent GAN, which has no density: it cannot say how likely a code is.",
            "Fit one that has: molvae fit-prior DATASET -m MODEL --prior flow -o MODEL2",
        )
