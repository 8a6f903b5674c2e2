"""Bend a decoder towards molecules that score well, in memory only, while it stays near to what it was.

In: a model, molecules and weights. Out: a view of the model with a decoder of its own; the model itself is not changed.

The loss is the weighted nats per token of the molecules, at draws from their posteriors, plus ``anchor`` times the KL
from the model's own decoder, in nats per token, on molecules that the model writes from its prior.

Source: weights by rank as in Tripp et al. 2020, https://arxiv.org/abs/2006.09191
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from molvae.data.batch import collate
from molvae.data.vocabulary import BOS, PAD
from molvae.generate.chemistry import Read, Readable
from molvae.nn.checkpoint import LoadedModel
from molvae.nn.decoder import Decoder, greedy
from molvae.nn.model import SequenceVAE

BATCH = 32
ANCHORS = 64
"""Molecules of the prior that the decoder is held to."""

LR = 1e-3
FLAT = 0.1
"""Ranks are weighed 1 / (FLAT * n + rank): of a hundred the first has eleven times the weight of the last."""


@dataclass(frozen=True)
class _Written:
    """B molecules: tokens (B, T), z (B, D), and the logarithms (B, T - 1, V) of what the decoder gave every token."""

    tokens: torch.Tensor
    z: torch.Tensor
    log_prob: torch.Tensor


def rank_weights(n: int) -> NDArray[np.float64]:
    """Return weights (n,) that sum to 1 for molecules sorted best first.

    >>> rank_weights(4).round(3).tolist()
    [0.637, 0.182, 0.106, 0.075]
    """
    weights = 1.0 / (FLAT * n + np.arange(n))
    return np.asarray(weights / weights.sum())


def bend_decoder(
    loaded: LoadedModel, smiles: Sequence[str], weights: NDArray[np.float64], steps: int, anchor: float,
    generator: np.random.Generator,
) -> SequenceVAE:  # fmt: skip
    """Return a view of the model whose decoder was trained on molecules for a few steps.

    Molecules that the model cannot read are left out; without any that it can, the model itself is returned. All chance
    comes from ``generator``, so the same arguments give the same weights on the same machine.

    Args:
        loaded: the model; neither its weights nor its files are changed.
        smiles: N molecules.
        weights: (N,) how often each one is trained on, 0 or more, not all of them 0.
        steps: of Adam, `BATCH` molecules each.
        anchor: weight of the KL from the model's own decoder.
        generator: where chance comes from.
    """
    reader = Read(loaded.vocabulary)
    read = [(result, weight) for result, weight in zip(map(reader, smiles), weights.tolist(), strict=True)
            if isinstance(result, Readable) and weight > 0]  # fmt: skip
    if not read or not steps:
        return loaded.model
    view = copy.copy(loaded.model)
    # A module's copy shares the table of its parts; the view gets one of its own.
    view._modules = dict(loaded.model._modules)
    decoder = copy.deepcopy(loaded.model.decoder)
    view.add_module("decoder", decoder)
    batch = collate([np.array(result.token_ids, dtype=np.int64) for result, _ in read]).to(view.device)
    with torch.no_grad():
        posterior = view.encode(batch.tokens, batch.lengths)
    share = np.array([weight for _, weight in read])
    share /= share.sum()
    chosen = (torch.from_numpy(generator.choice(len(read), BATCH, p=share)).to(view.device) for _ in range(steps))
    chance = torch.Generator(view.device).manual_seed(int(generator.integers(2**62)))
    batches = ((batch.tokens[rows], posterior.sample(1, chance)[0][rows]) for rows in chosen)
    _train(decoder, batches, _anchors(loaded, chance), anchor, view.unconditioned(max(BATCH, ANCHORS)))
    return view


@torch.no_grad()
def _anchors(loaded: LoadedModel, chance: torch.Generator) -> _Written:
    """Let the model write `ANCHORS` molecules from its prior."""
    model = loaded.model
    z = model.prior.sample(ANCHORS, chance)
    cond = model.unconditioned(ANCHORS)
    written = greedy(model.decoder, z, cond, int(loaded.facts["max_tokens"]))
    tokens = pad(written, (1, 0), value=BOS)
    return _Written(tokens, z, torch.log_softmax(model.decoder(tokens[:, :-1], model.decoder.start(z, cond)), dim=-1))


def _train(
    decoder: Decoder, batches: Iterator[tuple[torch.Tensor, torch.Tensor]], anchors: _Written, weight: float,
    cond: torch.Tensor,
) -> None:  # fmt: skip
    """Train on batches of tokens (B, T) and z (B, D); ``cond`` (at least B, C) asks for nothing."""
    # Dropout would take its chance from the global generator; cuDNN learns in training mode only.
    decoder.gru.dropout = 0.0
    decoder.train().requires_grad_(True)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=LR)
    with torch.enable_grad():
        for tokens, z in batches:
            nats = -decoder.token_log_prob(tokens, z, cond[: len(tokens)]).sum() / (tokens[:, 1:] != PAD).sum()
            loss = nats + weight * divergence(decoder, anchors, cond[: len(anchors.tokens)]) if weight else nats
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    decoder.eval().requires_grad_(False)


def divergence(decoder: Decoder, anchors: _Written, cond: torch.Tensor) -> torch.Tensor:
    """Return the KL, in nats per token, from what the anchors were written with to what ``decoder`` gives them, ().

    Args:
        decoder: the one that is trained.
        anchors: A molecules.
        cond: (A, C).
    """
    here = torch.log_softmax(decoder(anchors.tokens[:, :-1], decoder.start(anchors.z, cond)), dim=-1)
    # Forbidden tokens are impossible to both.
    gap = torch.where(anchors.log_prob == -math.inf, 0.0, anchors.log_prob - here)
    kl = (anchors.log_prob.exp() * gap).sum(2)
    real = anchors.tokens[:, 1:] != PAD
    return torch.where(real, kl, 0.0).sum() / real.sum()
