"""Compute the training loss of one batch from the pieces of a row.

loss = -bound_K[ log p(x|z_k,c) - beta(step) * D(q, p, z_k) ] + lambda * A(z, z_prior) + gamma * head

In: the model, a `Batch`, the step. Out: `LossTerms`, everything in nats per molecule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from molvae.config import ObjectiveConfig, PriorConfig
from molvae.data.batch import Batch
from molvae.data.vocabulary import BOS, PAD, UNK
from molvae.nn.distributions import DiagonalNormal, Posterior
from molvae.nn.model import SequenceVAE
from molvae.objectives.decoding import log_prob_in_turns
from molvae.objectives.divergences import Density, free_bits_penalty, kl_per_dimension
from molvae.objectives.parts import Parts, check_config, check_model
from molvae.objectives.presets import find_row
from molvae.objectives.schedules import build_schedule


@dataclass(frozen=True)
class LossTerms:
    """Means over a batch: ``loss`` and ``critic`` are differentiable, the rest is detached; nats per molecule.

    Attributes:
        match: the distance A of all codes together from the prior, before its weight; 0 in a row that has none.
        critic: the critic's own loss, None in a row without one.
    """

    loss: torch.Tensor
    distortion: torch.Tensor
    rate: torch.Tensor
    head: torch.Tensor
    beta: float
    match: torch.Tensor
    critic: torch.Tensor | None = None


def drop_tokens(tokens: torch.Tensor, share: float, generator: torch.Generator | None) -> torch.Tensor:
    """Replace a random ``share`` of ``tokens`` (B, T) by UNK, sparing BOS and PAD.

    Source: Bowman et al. (2016), section 3.2, https://arxiv.org/abs/1511.06349
    """
    if share == 0:
        return tokens
    dropped = torch.rand(tokens.shape, generator=generator, device=tokens.device) < share
    return torch.where(dropped & (tokens != BOS) & (tokens != PAD), torch.full_like(tokens, UNK), tokens)


def blur_codes(z: torch.Tensor, share: float, generator: torch.Generator | None) -> torch.Tensor:
    """Move a random ``share`` of the latents ``z`` (K, B, D) part of the way to N(0, I): sqrt(1 - s^2) z + s noise.

    s is uniform in [0, 1]. Codes that are N(0, I) all together stay so, and the decoder meets the places between them,
    where a prior's draws fall: it learns to write a molecule there that hangs together. The encoder learns to keep in
    the large differences of a code what matters most.
    """
    if share == 0:
        return z
    shape = (*z.shape[:2], 1)
    chosen = torch.rand(shape, generator=generator, device=z.device) < share
    way = chosen * torch.rand(shape, generator=generator, device=z.device)
    noise = torch.randn(z.shape, generator=generator, device=z.device)
    return (1 - way.square()).sqrt() * z + way * noise


def mask_properties(
    properties: torch.Tensor, share: float, generator: torch.Generator | None, groups: Sequence[int] | None = None
) -> torch.Tensor:
    """Hide properties from the decoder: all of a random ``share`` of the molecules, and that share of the rest.

    A decoder trained so works with any of its conditions missing, and with none of them.

    Args:
        properties: (B, P), NaN where unknown.
        groups: for each property the one it is hidden with, `SequenceVAE.property_groups`; None hides each alone.

    Returns:
        (B, P) with NaN also where hidden: with a share of .5, three of four values.
    """
    if share == 0 or properties.shape[1] == 0:
        return properties
    draw = torch.rand((len(properties), properties.shape[1] + 1), generator=generator, device=properties.device)
    alone = draw[:, 1:] if groups is None else draw[:, 1:][:, list(groups)]
    hidden = (draw[:, :1] < share) | (alone < share)
    return properties.masked_fill(hidden, math.nan)


def head_loss(mean: torch.Tensor, log_std: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the negative log density of ``targets`` in nats, summed over P, averaged over B, ().

    Args:
        mean: (B, P) predictions, standardised.
        log_std: (B, P).
        targets: (B, P), NaN where missing; a missing one adds nothing.
    """
    known = ~targets.isnan()
    scaled = (targets.nan_to_num(0.0) - mean) * (-log_std).exp()
    nats = 0.5 * scaled.square() + log_std + 0.5 * math.log(2 * math.pi)
    return (nats * known).sum() / max(1, len(targets))


class Objective:
    """A row of the table with its settings; holds the schedule and the critic, whose state a resumed run restores.

    Raises:
        UnknownNameError: when the table has no such row.
        ConfigError: when a setting contradicts the row.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        self.config, self.row = config, find_row(config.name)
        check_config(config, self.row)
        row = self.row
        self.samples = row.samples if config.samples is None else config.samples
        self.match_weight = row.match_weight if config.match_weight is None else config.match_weight
        self.head_weight = row.head_weight if config.head_weight is None else config.head_weight
        self.code_noise = row.code_noise if config.code_noise is None else config.code_noise
        beta = row.beta if config.beta is None else config.beta
        self.schedule = build_schedule(config, config.schedule or row.schedule, beta)
        self.parts: Parts | None = None

    def prepare(self, model: SequenceVAE, prior: PriorConfig | None = None) -> Parts:
        """Give ``model`` what the row trains in it and build the critic; call it before the optimiser is built.

        Args:
            prior: sizes of the flow, for a row that learns one.

        Raises:
            ConfigError: when the row needs a property that the model has not.
        """
        check_model(self.config, self.row, model)
        self.parts = Parts(self.config, self.row, model, prior or PriorConfig())
        return self.parts

    def density(self, model: SequenceVAE) -> Density | None:
        """Return the learned prior that the rate is measured against, None for N(0, I)."""
        return model.prior if self.row.prior != "normal" else None

    def __call__(
        self, model: SequenceVAE, batch: Batch, step: int, generator: torch.Generator | None = None
    ) -> LossTerms:
        """Return the loss of ``batch`` at ``step``; noise comes from ``generator``."""
        parts = self.parts or self.prepare(model)
        q = model.encode(batch.tokens, batch.lengths)
        posterior = self.row.posterior(q)
        z = posterior.sample(self.samples, generator)
        inputs = drop_tokens(batch.tokens, self.config.token_dropout, generator)
        shown = batch.properties
        if model.condition_names:
            shown = mask_properties(shown, model.config.condition_dropout, generator, model.property_groups)
        cond = model.condition(shown)
        decoded = blur_codes(z, self.code_noise, generator)
        log_prob = log_prob_in_turns(model.decoder, batch.tokens, decoded, cond, inputs, self.config.samples_at_once)
        # A flow multiplies many small steps; half precision would make its density a guess.
        with torch.autocast(z.device.type, enabled=False):
            divergence = self.row.divergence(posterior, self.density(model) or parts.normal, z)
        beta = self.schedule.weight(step)
        loss = -self.row.bound(log_prob - beta * divergence).mean()
        if self.config.free_bits and isinstance(posterior, DiagonalNormal):
            loss = loss + beta * free_bits_penalty(posterior, self.config.free_bits)
        match, critic = parts.match(z[0], generator)
        mean, log_std = model.heads(z[0])
        head = head_loss(mean, log_std, model.targets(batch.properties))
        loss = loss + self.match_weight * match + self.head_weight * head
        rate = self._rate(posterior, divergence).detach()
        return LossTerms(loss, -log_prob.mean().detach(), rate, head.detach(), beta, match.detach(), critic)

    def _rate(self, posterior: Posterior, divergence: torch.Tensor) -> torch.Tensor:
        """Return the mean rate, (): analytic against N(0, I), else the mean of ``divergence`` (K, B)."""
        if not isinstance(posterior, DiagonalNormal):
            # A point mass has no rate; the encoder's unused noise is not reported as one.
            return torch.zeros(())
        return divergence.mean() if self.row.prior != "normal" else kl_per_dimension(posterior).sum(1).mean()

    def update_critic(self, terms: LossTerms) -> None:
        """Let the critic take its own step on the batch of ``terms``; does nothing in a row without one."""
        if terms.critic is not None and self.parts is not None and self.parts.critic is not None:
            self.parts.critic.update(terms.critic)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what the row trains besides the model, for a checkpoint, each of its own shape (...)."""
        return self.parts.critic.tensors() if self.parts and self.parts.critic else {}

    def restore(self, tensors: dict[str, torch.Tensor]) -> None:
        """Put back what `tensors` returned, of any shape (...).

        Raises:
            RuntimeError, KeyError, ValueError: when they do not fit.
        """
        if self.parts and self.parts.critic:
            self.parts.critic.restore(tensors)
