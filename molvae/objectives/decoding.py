"""Score a molecule under many latents in little memory.

In: tokens (B, T), latents (K, B, D). Out: log p(x|z,c) in nats, (K, B).
"""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

from molvae.nn.decoder import Decoder


def log_prob_in_turns(
    decoder: Decoder, tokens: torch.Tensor, z: torch.Tensor, cond: torch.Tensor, inputs: torch.Tensor | None,
    at_once: int,
) -> torch.Tensor:  # fmt: skip
    """Return `Decoder.log_prob` for ``z`` (K, B, D), at most ``at_once`` of the K at a time.

    When there are more, only the results of a turn are kept and its states are computed again for the gradient, so
    memory does not grow with K; the numbers are the same.

    Args:
        tokens: (B, T).
        cond: (B, C).
        inputs: (B, T) what the decoder reads instead of ``tokens``.
    """
    if len(z) <= at_once:
        return decoder.log_prob(tokens, z, cond, inputs)
    turns = []
    for part in torch.split(z, at_once):
        found = checkpoint(decoder.log_prob, tokens, part, cond, inputs, use_reentrant=False)
        assert isinstance(found, torch.Tensor)
        turns.append(found)
    return torch.cat(turns)
