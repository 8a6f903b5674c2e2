"""Tell how far a latent lies from where the decoder was trained, by how much the decoder's choices depend on it.

In: a decoder, a code and its tokens. Out: the latent exploration score, high on familiar ground.
"""

from __future__ import annotations

import copy

import numpy as np
import torch

from molvae.nn.decoder import Decoder

STEP = 1e-4
"""Of the finite differences, which are taken in float64: the smallest slopes count as much as the largest."""


def directions(dimension: int, n: int) -> torch.Tensor:
    """Return ``n`` orthonormal directions (n, D), float64, always the same; at most D."""
    drawn = np.random.default_rng(0).standard_normal((dimension, min(n, dimension)))
    return torch.from_numpy(np.ascontiguousarray(np.linalg.qr(drawn)[0].T))


class ExplorationScore:
    """LES(z) = -1/2 log det(O J^T J O^T), J the slopes of the probabilities of all tokens of a molecule in z.

    With all D directions as O it is the log density that a flat density of latents has among the probabilities. The
    constant of the softmax, which the published code counts as one more probability, is left out.

    Source: Ronen et al. 2024, https://arxiv.org/abs/2406.09657

    Args:
        decoder: the decoder.
        across: (n, D) O, see `directions`; each costs as much as reading the molecule once.
    """

    def __init__(self, decoder: Decoder, across: torch.Tensor) -> None:
        self._decoder = copy.deepcopy(decoder).double().eval()
        self._shifts = STEP * torch.cat([torch.zeros_like(across[:1]), across])

    @torch.inference_mode()
    def __call__(self, tokens: torch.Tensor, z: torch.Tensor, cond: torch.Tensor) -> float:
        """Return the score of one molecule.

        Args:
            tokens: (T,) int64 with BOS and EOS, no padding.
            z: (D,) where it lies.
            cond: (C,) condition.
        """
        points = z.double() + self._shifts.to(z.device)
        rows = len(points)
        state = self._decoder.start(points, cond.double().expand(rows, -1))
        logits = self._decoder(tokens[:-1].expand(rows, -1), state)
        probabilities = torch.softmax(logits, dim=-1).flatten(1)
        slopes = (probabilities[1:] - probabilities[:1]) / STEP
        return float(-torch.linalg.svdvals(slopes).clamp_min(1e-150).log().sum())
