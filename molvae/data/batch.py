"""Collate molecules of similar length, so that almost no padding is computed.

In: `Dataset` rows. Out: `Batch` of padded token ids, and the order of batches of an epoch, given (seed, epoch).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.data.dataset import Dataset
from molvae.data.vocabulary import BOS, EOS, PAD


@dataclass(frozen=True)
class Batch:
    """B molecules.

    Attributes:
        tokens: (B, T) int64, each row BOS, tokens, EOS, then PAD.
        lengths: (B,) int64, tokens per row with BOS and EOS.
        properties: (B, P) float32 in each property's own unit, NaN where missing.
    """

    tokens: torch.Tensor
    lengths: torch.Tensor
    properties: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on ``device``."""
        return Batch(*(part.to(device, non_blocking=True) for part in (self.tokens, self.lengths, self.properties)))


def collate(sequences: list[NDArray[np.integer]], properties: NDArray[np.float32] | None = None) -> Batch:
    """Pad token ids to one `Batch`.

    Args:
        sequences: B arrays of token ids without BOS and EOS; an empty one is allowed.
        properties: (B, P) floats, NaN where missing; None means P = 0.
    """
    lengths = np.array([len(sequence) + 2 for sequence in sequences], dtype=np.int64)
    tokens = np.full((len(sequences), int(lengths.max(initial=2))), PAD, dtype=np.int64)
    tokens[:, 0] = BOS
    for row, sequence in enumerate(sequences):
        tokens[row, 1 : len(sequence) + 1] = sequence
    tokens[np.arange(len(sequences)), lengths - 1] = EOS
    values = np.zeros((len(sequences), 0), dtype=np.float32) if properties is None else properties
    return Batch(torch.from_numpy(tokens), torch.from_numpy(lengths), torch.from_numpy(np.array(values)))


def load_batch(dataset: Dataset, rows: NDArray[np.int64]) -> Batch:
    """Return the molecules at ``rows`` (B,) as a `Batch`."""
    return collate([dataset.token_ids(int(row)) for row in rows], dataset.properties[rows])


def bucketed_rows(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Return the batches of one epoch: rows of similar length together, in a random order of batches.

    Rows are shuffled, sorted by length (ties stay shuffled) and cut; each row appears exactly once. The result depends
    on the arguments alone, so a resumed run finds its place by counting.

    Args:
        rows: (N,) row numbers to visit.
        lengths: (N,) tokens of each of ``rows``.
        batch_size: rows per batch; the last cut may be smaller.
        seed: the run's seed.
        epoch: number of the epoch, from 0.

    >>> cuts = bucketed_rows(np.arange(5), np.array([3, 1, 3, 1, 2]), 2, seed=0, epoch=0)
    >>> sorted(int(row) for cut in cuts for row in cut)
    [0, 1, 2, 3, 4]
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(rows))
    order = order[np.argsort(lengths[order], kind="stable")]
    cuts = [rows[order[start : start + batch_size]] for start in range(0, len(rows), batch_size)]
    return [cuts[index] for index in generator.permutation(len(cuts))]
