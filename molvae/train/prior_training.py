"""Train the priors that are networks: flow, flow matching and latent GAN.

In: a `CodeSource`, held-out codes, a `PriorConfig`. Out: the trained prior with averaged weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from molvae.config import PriorConfig
from molvae.nn.critic import Critic, LatentGAN
from molvae.nn.flow_matching import FlowMatchingPrior
from molvae.nn.priors import FlowPrior
from molvae.objectives.adversarial import WASSERSTEIN, CriticStep
from molvae.train.optim import AveragedWeights
from molvae.train.prior_codes import Codes, CodeSource, rate_against

Report = Callable[[int, int, float], None]

REPORT_EVERY = 50
LEARNING_RATES = {"flow": 1e-3, "flow_matching": 1e-3, "latent_gan": 2e-4}
CLIP_NORM = 5.0
DECAY = 0.999


@dataclass(frozen=True)
class Judge:
    """Tell ``report`` how training goes: (step, steps, held-out rate), NaN while there is none.

    Attributes:
        held: codes to judge by, at most.
        every: steps between two measurements; reports in between repeat the last.
    """

    report: Report | None
    held: Codes
    every: int
    seed: int

    def follow(self, prior: FlowPrior | FlowMatchingPrior | LatentGAN, steps: int) -> Iterator[int]:
        """Yield 0 to ``steps`` - 1, and report between them."""
        rate = float("nan")
        for step in range(steps):
            yield step
            if self.report is None or ((step + 1) % REPORT_EVERY and step + 1 != steps):
                continue
            if (step + 1) % self.every == 0 or step + 1 == steps:
                generator = torch.Generator(self.held.properties.device).manual_seed(self.seed + 1)
                rate = rate_against(prior, self.held.posterior, generator)
            self.report(step + 1, steps, rate)


def fit_flow(source: CodeSource, held: Codes, config: PriorConfig, seed: int, report: Report | None) -> FlowPrior:
    """Return a flow fitted by maximum likelihood."""
    torch.manual_seed(seed)  # initial weights come from the global generator
    prior = FlowPrior(source.model.latent, config.layers, config.hidden, source.condition_size)

    def loss(z: torch.Tensor, cond: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return -prior.log_prob(z, cond).mean()

    _minimise(prior, loss, source, config, seed, Judge(report, held.first(2000), REPORT_EVERY, seed))
    return prior


def fit_flow_matching(
    source: CodeSource, held: Codes, config: PriorConfig, seed: int, report: Report | None
) -> FlowMatchingPrior:
    """Return a velocity field fitted by least squares on straight paths from noise to codes."""
    torch.manual_seed(seed)
    latent = source.model.latent
    prior = FlowMatchingPrior(latent, config.blocks, config.hidden, config.ode_steps, source.condition_size)

    def loss(z: torch.Tensor, cond: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return prior.matching_loss(z, generator, cond)

    # A density takes an integral, so it is measured seldom and on few codes.
    _minimise(prior, loss, source, config, seed, Judge(report, held.first(200), 10 * REPORT_EVERY, seed))
    return prior


def _minimise(
    prior: FlowPrior | FlowMatchingPrior,
    loss_of: Callable[[torch.Tensor, torch.Tensor, torch.Generator], torch.Tensor],
    source: CodeSource, config: PriorConfig, seed: int, judge: Judge,
) -> None:  # fmt: skip
    """Train ``prior`` in place under one cycle of the learning rate and leave its averaged weights in it."""
    prior.to(source.model.device)
    generator = torch.Generator(source.model.device).manual_seed(seed)
    prior.standardize(source.codes.posterior.sample(1, generator)[0])
    lr = config.lr or LEARNING_RATES[config.kind]
    optimizer = torch.optim.AdamW(prior.parameters(), lr=lr, betas=(0.9, 0.99))
    # Its warm-up is a tenth of the steps and must not be empty.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=max(20, config.max_steps), pct_start=0.1)
    average = AveragedWeights(prior, DECAY)
    for step in judge.follow(prior, config.max_steps):
        z, cond = source.draw(config.batch_size, generator)
        loss = loss_of(z, cond, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(prior.parameters(), CLIP_NORM)
        optimizer.step()
        schedule.step()
        average.update(prior, step)
    average.swap(prior)


def fit_latent_gan(source: CodeSource, held: Codes, config: PriorConfig, seed: int, report: Report | None) -> LatentGAN:
    """Return a generator trained against a Wasserstein critic with gradient penalty, on white codes.

    Source: Gulrajani et al. (2017), algorithm 1, https://arxiv.org/abs/1704.00028
    """
    torch.manual_seed(seed)
    latent, device = source.model.latent, source.model.device
    prior = LatentGAN(latent, config.blocks, config.hidden, source.condition_size).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    prior.standardize(source.codes.posterior.sample(1, generator)[0])
    lr = config.lr or LEARNING_RATES[config.kind]
    critic = Critic(latent + source.condition_size, config.hidden).to(device)
    opponent = CriticStep(WASSERSTEIN, critic, lr, betas=(0.0, 0.9))
    optimizer = torch.optim.Adam(prior.parameters(), lr=lr, betas=(0.0, 0.9))
    average = AveragedWeights(prior, DECAY)
    for step in Judge(report, held, REPORT_EVERY, seed).follow(prior, config.max_steps):
        for left in reversed(range(config.critic_steps)):
            z, cond = source.draw(config.batch_size, generator)
            written = prior.generate(prior.noise(len(z), generator), cond)
            fake, real = (torch.cat([code, cond], dim=1) for code in (written, prior.to_white(z)))
            fool, judged = opponent.losses(fake, real, generator)
            if left == 0:
                optimizer.zero_grad(set_to_none=True)
                fool.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            opponent.update(judged)
        average.update(prior, step)
    average.swap(prior)
    return prior
