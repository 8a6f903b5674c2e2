"""Divide every training step between processes that together do what one process does.

In: a model, and a batch that every process has. Out: the loss of the whole batch, and its gradients, in each of them.

Every process holds the same weights and draws the same noise for the whole batch. It encodes and decodes its own rows,
which is nearly all of the work, and the others tell it what theirs gave; each then computes the loss of all rows. So
critics, distances between all codes, free bits and missing labels need no rules of their own, and a run is the same, up
to rounding, however many processes share it. Only dropout inside the GRUs (``model.dropout``) draws other masks.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from molvae.config import ObjectiveConfig
from molvae.nn.decoder import Decoder
from molvae.nn.distributions import DiagonalNormal
from molvae.nn.encoder import Encoder
from molvae.nn.model import SequenceVAE
from molvae.objectives.decoding import log_prob_in_turns
from molvae.train.processes import Share


class DividedEncoder(nn.Module):
    """An encoder that reads the share's rows and is told the posteriors of the others."""

    def __init__(self, encoder: Encoder, share: Share) -> None:
        super().__init__()
        self.encoder, self.share = encoder, share

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> DiagonalNormal:
        """Return q(z|x) of all rows for ``tokens`` (B, T) and ``lengths`` (B,)."""
        rows, latent = self.share.rows(len(tokens)), self.encoder.to_mean.out_features
        if rows.start == rows.stop:
            own = torch.zeros((0, 2 * latent), device=tokens.device)
        else:
            posterior: DiagonalNormal = self.encoder(tokens[rows], lengths[rows])
            own = torch.cat([posterior.mean, posterior.log_std], dim=1)
        mean, log_std = self.share.gather(own, len(tokens), 0).chunk(2, dim=1)
        return DiagonalNormal(mean, log_std)


class DividedDecoder(nn.Module):
    """A decoder that scores the share's rows and is told what the others gave."""

    def __init__(self, decoder: Decoder, share: Share, at_once: int) -> None:
        super().__init__()
        self.decoder, self.share, self.at_once = decoder, share, at_once
        self.embedding = decoder.embedding

    def log_prob(
        self, tokens: torch.Tensor, z: torch.Tensor, cond: torch.Tensor, inputs: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return log p(x|z,c) in nats, (K, B), as `Decoder.log_prob` does.

        Args:
            tokens: (B, T).
            z: (K, B, D).
            cond: (B, C).
            inputs: (B, T).
        """
        rows = self.share.rows(len(tokens))
        if rows.start == rows.stop:
            own = torch.zeros((len(z), 0), device=z.device)
        else:
            read = None if inputs is None else inputs[rows]
            own = log_prob_in_turns(self.decoder, tokens[rows], z[:, rows], cond[rows], read, self.at_once)
        return self.share.gather(own, len(tokens), 1)


def divided(model: SequenceVAE, share: Share, at_once: int) -> SequenceVAE:
    """Return a view of ``model``, same weights, in which encoder and decoder work for the share only.

    Args:
        at_once: latents of a molecule decoded at once, see `log_prob_in_turns`.
    """
    if share.alone:
        return model
    view = copy.copy(model)
    # A module's copy shares the table of its parts; the view gets one of its own.
    view._modules = dict(view._modules)
    view.add_module("encoder", DividedEncoder(model.encoder, share))
    view.add_module("decoder", DividedDecoder(model.decoder, share, at_once))
    return view


def undivided_draws(config: ObjectiveConfig, share: Share) -> ObjectiveConfig:
    """Return settings under which all latents of a molecule reach the decoder at once: `divided` takes turns inside.

    Decoding in turns computes again during the gradient, and processes must not talk to each other there.
    """
    return config if share.alone else config.model_copy(update={"samples_at_once": 10_000})


def add_up_gradients(model: SequenceVAE, share: Share) -> None:
    """Make the gradients of ``model`` those of the whole batch, the same in every process.

    Those of encoder and decoder are sums over rows, and each process has its own rows' part. All others were computed
    by every process for all rows; their mean keeps them equal bit by bit.
    """
    if share.alone:
        return
    parts = {id(weight) for part in (model.encoder, model.decoder) for weight in part.parameters()}
    found = []
    for weight in model.parameters():
        if id(weight) in parts and weight.requires_grad and weight.grad is None:
            weight.grad = torch.zeros_like(weight)  # a process without rows
        if weight.grad is not None:
            found.append(weight.grad if id(weight) in parts else weight.grad.div_(share.count))
    flat = torch.cat([gradient.flatten() for gradient in found])
    share.add_up(flat)
    totals = torch.split(flat, [gradient.numel() for gradient in found])
    for gradient, total in zip(found, totals, strict=True):
        gradient.copy_(total.view_as(gradient))
