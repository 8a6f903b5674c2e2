"""A prior that carries noise to codes along a learned velocity field.

In: a number of samples and a generator, or latents (N, D). Out: latents (N, D), or their log density in nats (N,).
"""

from __future__ import annotations

from typing import cast

import torch

from molvae.nn.distributions import standard_normal_log_prob
from molvae.nn.residual import ResidualNetwork
from molvae.nn.whitening import Whitened

EXACT_UP_TO = 8
"""Dimensions up to which the divergence is computed exactly, one derivative a dimension."""

PROBES = 2
"""Random probes of Hutchinson's estimate of the divergence in more dimensions."""

TIMES = 8
"""Frequencies in which the network sees the time."""


def normal_velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Return the velocity that carries N(0, I) to N(0, I) along straight paths, (N, D), for ``x`` (N, D), ``t`` (N, 1).

    It is E[x1 - x0 | x] for x = (1 - t) x0 + t x1 with x0 and x1 independent standard normals.
    """
    return x * (2 * t - 1) / ((1 - t).square() + t.square())


def row_signs(z: torch.Tensor, probe: int) -> torch.Tensor:
    """Return -1 or 1, (N, D), that depend on nothing but the row of ``z`` (N, D) and the number of the probe.

    So a code's estimated density is the same in any company: each row's bits are hashed (a step of splitmix64).
    """
    odd = 2 * torch.arange(1, z.shape[1] + 1, device=z.device) + 1
    bits = z.contiguous().view(torch.int32).long()
    seed = (bits * odd * 0x1F123BB5159A55E5).sum(1, keepdim=True) + probe * 0x632BE59BD9B4E019
    mixed = seed + odd * 0x1E3779B97F4A7C15
    for shift, factor in ((30, 0x3F58476D1CE4E5B9), (27, 0x14D049BB133111EB)):
        mixed = (mixed ^ (mixed >> shift)) * factor
    return 1.0 - 2.0 * ((mixed >> 40) & 1).to(z.dtype)


class FlowMatchingPrior(Whitened):
    """A velocity field over white codes; before training it carries N(0, I) to N(0, I).

    Samples and densities integrate the field by Runge-Kutta of order 4. The log density is that of the noise a code
    comes from plus the integral of the field's divergence along the way: exact up to 8 dimensions, above by
    Hutchinson's estimate with 2 probes a code, which is unbiased.

    Source: Lipman et al. (2023), optimal-transport path, eq. 20-23, https://arxiv.org/abs/2210.02747; the density after
    Grathwohl et al. (2019), eq. 8, https://arxiv.org/abs/1810.01367
    """

    has_density = True

    def __init__(self, latent: int, blocks: int, hidden: int, ode_steps: int = 10, condition_size: int = 0) -> None:
        super().__init__(latent, condition_size)
        self.ode_steps = ode_steps
        self.network = ResidualNetwork(latent + 2 * TIMES + condition_size, hidden, blocks, latent)

    def velocity(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        """Return dx/dt (N, D) at ``x`` (N, D) white and time ``t`` (N, 1), 0 at noise, 1 at codes; ``cond`` (N, C)."""
        angle = t * torch.pi * torch.arange(1, TIMES + 1, device=t.device)
        learned: torch.Tensor = self.network(torch.cat([x, angle.sin(), angle.cos(), cond], dim=1))
        return normal_velocity(x, t) + learned

    def matching_loss(
        self, codes: torch.Tensor, generator: torch.Generator, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the mean squared error of the velocity on random points of straight paths, summed over D, ().

        Args:
            codes: (N, D) latents.
            generator: draws noise and times.
            cond: (N, C); None knows nothing.
        """
        white, noise = self.to_white(codes), self.noise(len(codes), generator)
        t = torch.rand((len(codes), 1), generator=generator, device=codes.device)
        found = self.velocity((1 - t) * noise + t * white, t, self.context(len(codes), cond))
        return (found - (white - noise)).square().sum(1).mean()

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None, cond: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Draw ``n`` latents, (n, D), under ``cond`` (n, C); None knows nothing."""
        return self.from_white(self.carry(self.noise(n, generator), self.context(n, cond)))

    @torch.no_grad()
    def carry(self, x: torch.Tensor, context: torch.Tensor, *, back: bool = False) -> torch.Tensor:
        """Carry noise (N, D) to white codes (N, D), or ``back``, under ``context`` (N, C)."""
        return self._integrate(x, context, back, torch.empty((0, *x.shape), device=x.device))[0]

    @torch.no_grad()
    def log_prob(self, z: torch.Tensor, cond: torch.Tensor | None = None) -> torch.Tensor:
        """Return the log density of ``z`` (N, D) in nats, (N,); not differentiable.

        Args:
            z: (N, D).
            cond: (N, C); None knows nothing.
        """
        white = self.to_white(z)
        if self.latent <= EXACT_UP_TO:
            probes = torch.eye(self.latent, device=z.device)[:, None].expand(-1, len(z), -1)
            share = 1.0
        else:
            probes = torch.stack([row_signs(z, probe) for probe in range(PROBES)])
            share = 1.0 / PROBES
        noise, growth = self._integrate(white, self.context(len(z), cond), True, probes)
        # Going back gathers minus the divergence, which is what the density of a code needs.
        return standard_normal_log_prob(noise) + share * growth - self.log_volume()

    def _slope(
        self, x: torch.Tensor, time: float, context: torch.Tensor, probes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return dx/dt (N, D) and the sum over ``probes`` (M, N, D) of probe . (d velocity / dx) probe, (N,)."""
        t = torch.full((len(x), 1), time, device=x.device)
        if not len(probes):
            return self.velocity(x, t, context), torch.zeros(len(x), device=x.device)

        def field(point: torch.Tensor) -> torch.Tensor:
            return self.velocity(point, t, context)

        total, velocity = torch.zeros(len(x), device=x.device), x
        for probe in probes:
            velocity, pushed = cast("tuple[torch.Tensor, torch.Tensor]", torch.func.jvp(field, (x,), (probe,)))
            total = total + (probe * pushed).sum(1)
        return velocity, total

    def _integrate(
        self, x: torch.Tensor, context: torch.Tensor, back: bool, probes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take Runge-Kutta steps; return where x arrives, (N, D), and the integral of the divergence, (N,)."""
        step = (-1.0 if back else 1.0) / self.ode_steps
        time, gathered = (1.0 if back else 0.0), torch.zeros(len(x), device=x.device)
        for _ in range(self.ode_steps):
            slopes = [self._slope(x, time, context, probes)]
            for share in (0.5, 0.5, 1.0):
                slopes.append(self._slope(x + share * step * slopes[-1][0], time + share * step, context, probes))
            for share, (velocity, divergence) in zip((1, 2, 2, 1), slopes, strict=True):
                x, gathered = x + share * step / 6 * velocity, gathered + share * step / 6 * divergence
            time += step
        return x, gathered
