"""Hold a model to a condition more strongly than it was trained to: classifier-free guidance of tokens and of a flow.

In: a decoder's steps or a prior, a condition (N, C), a strength. Out: guided logits (B, V); guided latents (N, D).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from molvae.generate.stepper import Stepper, StepState
from molvae.nn.flow_matching import FlowMatchingPrior
from molvae.nn.priors import Prior


@dataclass(frozen=True)
class GuidedState:
    """What goes from token to token: the decoder's state under the condition, and the one without."""

    given: StepState
    free: StepState

    def select(self, rows: torch.Tensor) -> GuidedState:
        """Keep ``rows`` (int64) only."""
        return GuidedState(self.given.select(rows), self.free.select(rows))


class GuidedStepper:
    """A `Stepper` that answers (1 + w) log p(token|c) - w log p(token).

    Args:
        stepper: unrolls the decoder; it is asked twice a token.
        guidance: w above 0.

    Source: Ho and Salimans (2022), https://arxiv.org/abs/2207.12598
    """

    def __init__(self, stepper: Stepper, guidance: float) -> None:
        self.stepper, self.guidance = stepper, guidance

    def start(self, z: torch.Tensor, cond: torch.Tensor) -> GuidedState:
        """Return the state before the first token, for ``z`` (B, D) and ``cond`` (B, C)."""
        return GuidedState(self.stepper.start(z, cond), self.stepper.start(z, torch.zeros_like(cond)))

    def step(self, token_ids: torch.Tensor, state: GuidedState) -> tuple[torch.Tensor, GuidedState]:
        """Read one token a row (B,) int64; return guided logits (B, V) float32 and the new state."""
        given, with_condition = self.stepper.step(token_ids, state.given)
        free, without = self.stepper.step(token_ids, state.free)
        mixed = (1 + self.guidance) * given.log_softmax(1) - self.guidance * free.log_softmax(1)
        # Forbidden tokens are minus infinity in both, and their difference is no number.
        return mixed.masked_fill(given.isinf(), -torch.inf), GuidedState(with_condition, without)


@torch.no_grad()
def sample_guided(prior: Prior, generator: torch.Generator, cond: torch.Tensor, guidance: float = 0.0) -> torch.Tensor:
    """Draw one latent a row of ``cond`` (N, C) from p(z|c), (N, D).

    Flow matching follows the velocity (1 + w) v(c) - w v(no c). A normalizing flow or a GAN has no field to mix: it is
    drawn from as it is, whatever ``guidance`` says.
    """
    if not guidance or not isinstance(prior, FlowMatchingPrior):
        return prior.sample(len(cond), generator, cond)
    nothing = torch.zeros_like(cond)

    def slope(x: torch.Tensor, time: float) -> torch.Tensor:
        t = torch.full((len(x), 1), time, device=x.device)
        return (1 + guidance) * prior.velocity(x, t, cond) - guidance * prior.velocity(x, t, nothing)

    x, step = prior.noise(len(cond), generator), 1.0 / prior.ode_steps
    for index in range(prior.ode_steps):
        time = index * step
        first = slope(x, time)
        second = slope(x + 0.5 * step * first, time + 0.5 * step)
        third = slope(x + 0.5 * step * second, time + 0.5 * step)
        fourth = slope(x + step * third, time + step)
        x = x + step / 6 * (first + 2 * second + 2 * third + fourth)
    return prior.from_white(x)
