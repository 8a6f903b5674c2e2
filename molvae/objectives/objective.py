"""Compute the training loss of one batch from the pieces of a row.

loss = -bound_K[ log p(x|z_k,c) - beta(step) * D(q, p, z_k) ] + gamma * head

In: the model, a `Batch`, the step. Out: `LossTerms`, everything in nats per molecule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from molvae.config import ObjectiveConfig
from molvae.data.batch import Batch
from molvae.data.vocabulary import BOS, PAD, UNK
from molvae.nn.distributions import DiagonalNormal
from molvae.nn.model import SequenceVAE
from molvae.objectives.divergences import free_bits_penalty, kl_per_dimension
from molvae.objectives.presets import find_row
from molvae.objectives.schedules import build_schedule


@dataclass(frozen=True)
class LossTerms:
    """Means over a batch: ``loss`` is differentiable, the rest is detached; nats per molecule."""

    loss: torch.Tensor
    distortion: torch.Tensor
    rate: torch.Tensor
    head: torch.Tensor
    beta: float


def drop_tokens(tokens: torch.Tensor, share: float, generator: torch.Generator | None) -> torch.Tensor:
    """Replace a random ``share`` of ``tokens`` (B, T) by UNK, sparing BOS and PAD.

    Source: Bowman et al. (2016), section 3.2, https://arxiv.org/abs/1511.06349
    """
    if share == 0:
        return tokens
    dropped = torch.rand(tokens.shape, generator=generator, device=tokens.device) < share
    return torch.where(dropped & (tokens != BOS) & (tokens != PAD), torch.full_like(tokens, UNK), tokens)


def mask_properties(properties: torch.Tensor, share: float, generator: torch.Generator | None) -> torch.Tensor:
    """Hide properties from the decoder: all of a random ``share`` of the molecules, and that share of the rest.

    A decoder trained so works with any of its conditions missing, and with none of them.

    Args:
        properties: (B, P), NaN where unknown.

    Returns:
        (B, P) with NaN also where hidden: with a share of .5, three of four values.
    """
    if share == 0 or properties.shape[1] == 0:
        return properties
    draw = torch.rand((len(properties), properties.shape[1] + 1), generator=generator, device=properties.device)
    hidden = (draw[:, :1] < share) | (draw[:, 1:] < share)
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
    """A row of the table with its settings; holds the schedule, whose state a resumed run restores."""

    def __init__(self, config: ObjectiveConfig) -> None:
        self.config, self.row = config, find_row(config.name)
        beta = self.row.beta if config.beta is None else config.beta
        self.schedule = build_schedule(config, config.schedule or self.row.schedule, beta)

    def __call__(
        self, model: SequenceVAE, batch: Batch, step: int, generator: torch.Generator | None = None
    ) -> LossTerms:
        """Return the loss of ``batch`` at ``step``; noise comes from ``generator``."""
        q = model.encode(batch.tokens, batch.lengths)
        posterior = self.row.posterior(q)
        z = posterior.sample(self.row.samples, generator)
        inputs = drop_tokens(batch.tokens, self.config.token_dropout, generator)
        shown = batch.properties
        if model.condition_names:
            shown = mask_properties(shown, model.config.condition_dropout, generator)
        log_prob = model.decoder.log_prob(batch.tokens, z, model.condition(shown), inputs)
        divergence = self.row.divergence(posterior, model.prior, z)
        beta = self.schedule.weight(step)
        loss = -self.row.bound(log_prob - beta * divergence).mean()
        if self.config.free_bits and isinstance(posterior, DiagonalNormal):
            loss = loss + beta * free_bits_penalty(posterior, self.config.free_bits)
        mean, log_std = model.heads(z[0])
        head = head_loss(mean, log_std, model.targets(batch.properties))
        # A point mass has no rate; the encoder's unused noise is not reported as one.
        rate = kl_per_dimension(q).sum(1).mean() if isinstance(posterior, DiagonalNormal) else torch.zeros(())
        return LossTerms(
            loss + self.config.head_weight * head, -log_prob.mean().detach(), rate.detach(), head.detach(), beta
        )
