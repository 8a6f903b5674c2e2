"""Losses of a critic and of what it judges, and the critic's own training.

In: codes that look real and codes that should, (N, D) each. Out: losses (); `CriticStep` with its own optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from molvae.nn.critic import Critic
from molvae.nn.optimizer_state import optimizer_tensors, restore_optimizer

CriticLoss = Callable[[Critic, torch.Tensor, torch.Tensor, torch.Generator | None], torch.Tensor]
FoolLoss = Callable[[Critic, torch.Tensor], torch.Tensor]

PENALTY = 10.0
"""Weight of the gradient penalty, as in its source."""


@dataclass(frozen=True)
class Adversary:
    """What the critic minimises, and what those minimise who want to fool it."""

    critic_loss: CriticLoss
    fool_loss: FoolLoss


def wasserstein_critic_loss(
    critic: Critic, fake: torch.Tensor, real: torch.Tensor, generator: torch.Generator | None
) -> torch.Tensor:
    """Return minus the estimated Wasserstein distance of ``real`` and ``fake`` (N, D), plus the gradient penalty, ().

    Source: Gulrajani et al. (2017), eq. 3, https://arxiv.org/abs/1704.00028
    """
    share = torch.rand((len(real), 1), generator=generator, device=real.device)
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: torch.Tensor = (slope.norm(dim=1) - 1).square().mean()
    distance: torch.Tensor = critic(real).mean() - critic(fake).mean()
    return PENALTY * penalty - distance


def wasserstein_fool_loss(critic: Critic, fake: torch.Tensor) -> torch.Tensor:
    """Return minus the critic's mean score of ``fake`` (N, D), ()."""
    cost: torch.Tensor = -critic(fake).mean()
    return cost


WASSERSTEIN = Adversary(wasserstein_critic_loss, wasserstein_fool_loss)


class CriticStep:
    """A critic, its optimiser, and what both must remember when a run is resumed."""

    def __init__(
        self, adversary: Adversary, critic: Critic, lr: float, betas: tuple[float, float] = (0.5, 0.9)
    ) -> None:
        self.adversary, self.critic = adversary, critic
        self.optimizer = torch.optim.Adam(critic.parameters(), lr=lr, betas=betas)

    def losses(
        self, fake: torch.Tensor, real: torch.Tensor, generator: torch.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of who wants to fool the critic and that of the critic, () each.

        Args:
            fake: (N, D), differentiable.
            real: (N, D).
            generator: of the chance in the critic's loss.
        """
        judged = self.adversary.critic_loss(self.critic, fake.detach(), real.detach(), generator)
        return self.adversary.fool_loss(self.critic, fake), judged

    def update(self, judged: torch.Tensor) -> None:
        """Take one step down the critic's loss ``judged`` ()."""
        # Fooling the critic left gradients in it too; they are not its own.
        self.optimizer.zero_grad(set_to_none=True)
        judged.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return weights and optimiser state under names, each of its own shape (...)."""
        weights = {f"critic.{name}": value for name, value in self.critic.state_dict().items()}
        return weights | {f"optimizer.{name}": value for name, value in optimizer_tensors(self.optimizer).items()}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what `tensors` returned, of any shape (...).

        Raises:
            RuntimeError, KeyError, ValueError: when they do not fit.
        """
        parts: dict[str, dict[str, torch.Tensor]] = {"critic": {}, "optimizer": {}}
        for name, value in tensors.items():
            part, _, key = name.partition(".")
            parts[part][key] = value
        self.critic.load_state_dict(parts["critic"])
        restore_optimizer(self.optimizer, parts["optimizer"])
