"""Distances between all codes together and the prior.

In: codes of a batch and draws from the prior, (B, D) each. Out: one number, 0 in expectation where both are alike.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Aggregate = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def mmd(z: torch.Tensor, z_prior: torch.Tensor) -> torch.Tensor:
    """Return the squared maximum mean discrepancy of ``z`` (B, D) and ``z_prior`` (B, D), unbiased, ().

    The kernel is a sum of inverse multiquadratics C / (C + |a - b|^2) with C = 2 D s for seven scales s. It may be
    slightly below 0; a batch of one has no pairs and gives 0.

    Source: Tolstikhin et al. (2018), algorithm 2 and section 4, https://arxiv.org/abs/1711.01558
    """
    count = len(z)
    if count < 2:
        return (z - z).sum()
    off_diagonal = 1 - torch.eye(count, device=z.device)
    z, z_prior = z.float(), z_prior.float()
    total = torch.zeros((), device=z.device)
    for first, second, sign in ((z, z, 1.0), (z_prior, z_prior, 1.0), (z, z_prior, -2.0)):
        squares = first.square().sum(1)[:, None] + second.square().sum(1) - 2 * first @ second.T
        kernel = _inverse_multiquadratic(squares.clamp(min=0), 2 * z.shape[1])
        pairs = (kernel * off_diagonal).sum() / (count * (count - 1)) if sign > 0 else kernel.mean()
        total = total + sign * pairs
    return total


def _inverse_multiquadratic(squares: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the kernel, of the shape of the squared distances ``squares`` (B, B)."""
    return torch.stack([(scale * s) / (scale * s + squares) for s in SCALES]).sum(0)
