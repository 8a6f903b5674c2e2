"""Search by ascent: a small network learns scores from latents, and parents climb it.

In: starts. Out: proposals of points, each some steps uphill from the code of a good molecule.

Source: optimisation of z through a property network as in LIMO, Eckmann et al. 2022, https://arxiv.org/abs/2206.09010;
there the network learns before the search, here from what the search is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from molvae.optimize.families import Turns
from molvae.optimize.genetic import Families
from molvae.optimize.method import Proposal, Starts
from molvae.optimize.population import draw_ranks
from molvae.optimize.space import LatentSpace

BATCH = 32
KNOWN, HIDDEN, EPOCHS, RATE = 1000, 64, 30, 2e-2
CLIMB, STEPS = 0.1, 10
"""Step length and steps of the ascent, LIMO's, in units of the posterior's width."""

FEWEST = 16
"""Scores below which there is nothing to learn from, and points are posterior noise."""


def make_net(dimension: int, generator: torch.Generator) -> nn.Sequential:
    """Return a network from (N, ``dimension``) to (N, 1), its weights from ``generator`` and not from torch's own."""
    with torch.random.fork_rng(devices=[]):
        net = nn.Sequential(nn.Linear(dimension, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 1)).double()
    for parameter in net.parameters():
        width = 1 / math.sqrt(dimension if parameter.ndim == 2 and parameter.shape[1] == dimension else HIDDEN)
        drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = (2 * drawn - 1) * width
    return net


def fit(net: nn.Sequential, latents: torch.Tensor, scores: torch.Tensor) -> None:
    """Fit to scores (N,) at latents (N, D) by Adam on all of them, with some weight decay."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    for _ in range(EPOCHS):
        optimiser.zero_grad()
        loss = (net(latents)[:, 0] - scores).square().mean()
        loss.backward()
        optimiser.step()


def climb(net: nn.Sequential, points: torch.Tensor, widths: torch.Tensor) -> torch.Tensor:
    """Return points (N, D) after `STEPS` steps of Adam uphill, in units of ``widths`` (N, D)."""
    moved = torch.zeros_like(points, requires_grad=True)
    optimiser = torch.optim.Adam([moved], lr=CLIMB)
    for _ in range(STEPS):
        optimiser.zero_grad()
        (-net(points + widths * moved).sum()).backward()
        optimiser.step()
    return (points + widths * moved).detach()


class GradientAscent:
    """Parents are the best of each start's family, with posterior noise; half of the noisy points climb.

    The other half stay where they are: a network that learns from its own suggestions only would never be corrected.
    """

    summary: ClassVar[str] = "ascent through a small network that learns scores from latents"

    def __init__(self, space: LatentSpace, starts: Starts, generator: np.random.Generator) -> None:
        self.batch = BATCH
        self.generator = generator
        self.families, self._turns = Families(space, starts), Turns(starts)
        self._torch = torch.Generator().manual_seed(int(generator.integers(2**62)))
        self._net = make_net(space.dimension, self._torch)
        fine = ~np.isnan(starts.scores)
        self._latents, self._scores = starts.mean[fine], starts.scores[fine]
        self._ready = False

    def ask(self, n: int) -> Proposal:
        """Return ``n`` points (n, D)."""
        latents, widths, rows, parents = [], [], [], []
        for start, count in self._turns.deal(n):
            family = self.families.members[start]
            for rank in draw_ranks(len(family), count, self.generator):
                noise = self.generator.standard_normal(len(family[rank].mean))
                latents.append(family[rank].mean + family[rank].std * noise)
                widths.append(family[rank].std)
                rows.append(0 if start is None else start)
                parents.append(family[rank].smiles)
        points = np.array(latents)
        if self._ready:
            up = self.generator.random(n) < 0.5
            far = climb(self._net, torch.from_numpy(points[up]), torch.from_numpy(np.array(widths)[up]))
            points[up] = far.numpy()
        return Proposal(points, np.array(rows, dtype=np.int64), tuple(parents))

    def tell(self, proposal: Proposal, smiles: Sequence[str], scores: NDArray[np.float64]) -> None:
        """Learn ``scores`` (n,) at the points that gave them; the latest `KNOWN` are kept."""
        self.families.tell(proposal, smiles, scores)
        fine = ~np.isnan(scores)
        self._latents = np.concatenate([self._latents, proposal.latents[fine]])[-KNOWN:]
        self._scores = np.concatenate([self._scores, scores[fine]])[-KNOWN:]
        spread = float(self._scores.std()) if len(self._scores) else 0.0
        self._ready = len(self._scores) >= FEWEST and spread > 1e-12 * float(np.abs(self._scores).max())
        if self._ready:
            scaled = (self._scores - self._scores.mean()) / spread
            with torch.enable_grad():
                fit(self._net, torch.from_numpy(self._latents), torch.from_numpy(scaled))
