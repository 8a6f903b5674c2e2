"""The noise that goes with z: a number for every position and token, from a seed, with the few that were edited.

In: seeds (N,) and edits. Out: what is added to the logits before the largest one is taken, (B, V) a position.

A token drawn from softmax(logits) is the largest of logits + g, with g a standard Gumbel number for every token. So
(z, all g) gives one molecule, and moving z a little changes a token only where another one overtakes it.

Source: the Gumbel-max trick, and drawing g given the winner: Maddison et al. (2014), https://arxiv.org/abs/1411.0030
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

_HIGHEST = (1 << 63) - 1


def _wrap(number: int) -> int:
    """Return a whole number as a signed one of 64 bits would hold it.

    >>> _wrap(2**64 - 1), _wrap(5)
    (-1, 5)
    """
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


_STEP, _FIRST, _SECOND = map(_wrap, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True)
class Noise:
    """The noise of N molecules.

    Every number follows from the row's seed by counting, on every machine alike, unless an edit replaces it. A molecule
    drawn from the model has no edits; one that was given has about two for every token that its seed would not choose.

    Attributes:
        seeds: (N,) uint64.
        offsets: (N + 1,) int64; row i has the edits from ``offsets[i]`` to ``offsets[i + 1]``.
        positions: (M,) uint16, which token of the molecule, from 0; the one after the last is the end.
        tokens: (M,) uint16, the token id whose number is replaced.
        values: (M,) float32, what is added to its logit instead.
        temperature: multiplies the numbers from the seeds; above 0.
    """

    seeds: NDArray[np.uint64]
    offsets: NDArray[np.int64]
    positions: NDArray[np.uint16]
    tokens: NDArray[np.uint16]
    values: NDArray[np.float32]
    temperature: float = 1.0

    def __len__(self) -> int:
        return len(self.seeds)

    @classmethod
    def of_seeds(cls, seeds: NDArray[np.uint64], temperature: float = 1.0) -> Noise:
        """Return noise without edits, for ``seeds`` (N,): what a draw from the model uses."""
        none = np.zeros((0, 2), dtype=np.int64)
        return cls.of_edits(seeds, none[:, 0], none, np.zeros(0), temperature)

    @classmethod
    def of_edits(
        cls, seeds: NDArray[np.uint64], rows: NDArray[np.int64], places: NDArray[np.int64],
        values: NDArray[np.float64], temperature: float = 1.0,
    ) -> Noise:  # fmt: skip
        """Return noise with edits given in any order; of two for the same place the later one counts.

        Args:
            seeds: (N,).
            rows: (M,) the molecule of each edit.
            places: (M, 2) its position and token id.
            values: (M,) what is added to the logit.
            temperature: as in the class.
        """
        order = np.lexsort((np.arange(len(rows)), places[:, 1], places[:, 0], rows))
        key = np.column_stack([rows, places])[order]
        last = np.ones(len(order), dtype=bool)
        last[:-1] = (key[1:] != key[:-1]).any(axis=1)
        order, key = order[last], key[last]
        offsets = np.searchsorted(key[:, 0], np.arange(len(seeds) + 1))
        return cls(
            np.asarray(seeds, dtype=np.uint64), offsets.astype(np.int64), key[:, 1].astype(np.uint16),
            key[:, 2].astype(np.uint16), values[order].astype(np.float32), temperature,
        )  # fmt: skip

    @property
    def rows(self) -> NDArray[np.int64]:
        """The molecule of each edit, (M,)."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.offsets))

    @property
    def places(self) -> NDArray[np.int64]:
        """Position and token id of each edit, (M, 2)."""
        return np.column_stack([self.positions, self.tokens]).astype(np.int64).reshape(-1, 2)

    def take(self, rows: NDArray[np.int64]) -> Noise:
        """Return the noise of the molecules at ``rows`` (n,), in that order, each as often as it is named."""
        sizes = np.diff(self.offsets)[rows]
        starts = np.repeat(self.offsets[:-1][rows] - (np.cumsum(sizes) - sizes), sizes)
        which = starts + np.arange(int(sizes.sum()))
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        return Noise(
            self.seeds[rows], offsets, self.positions[which], self.tokens[which], self.values[which], self.temperature
        )

    @classmethod
    def join(cls, parts: Sequence[Noise]) -> Noise:
        """Return the noise of all molecules of ``parts``, at least one, in order; the first one's temperature holds."""
        ends = np.cumsum([0, *(len(part.values) for part in parts)])
        offsets = [part.offsets[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
        return cls(
            np.concatenate([part.seeds for part in parts]), np.concatenate([*offsets, ends[-1:]]).astype(np.int64),
            np.concatenate([part.positions for part in parts]), np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.values for part in parts]), parts[0].temperature,
        )  # fmt: skip

    def edited(self, rows: NDArray[np.int64], places: NDArray[np.int64], values: NDArray[np.float64]) -> Noise:
        """Return the noise with more edits (see `of_edits`); they replace those there were at the same places."""
        return Noise.of_edits(
            self.seeds, np.concatenate([self.rows, rows]), np.concatenate([self.places, places]),
            np.concatenate([self.values.astype(np.float64), values]), self.temperature,
        )  # fmt: skip


class NoiseReader:
    """The noise of B molecules on a device, position by position.

    Args:
        noise: of these molecules.
        vocab_size: V.
        device: where the logits are.
    """

    def __init__(self, noise: Noise, vocab_size: int, device: torch.device) -> None:
        self.temperature = noise.temperature
        self._seeds = torch.from_numpy(noise.seeds.view(np.int64)).to(device)
        self._columns = torch.arange(1, vocab_size + 1, device=device) * _STEP
        order = np.argsort(noise.positions, kind="stable")
        ends = np.searchsorted(noise.positions[order], np.arange(int(noise.positions.max(initial=0)) + 2))
        self._ends: list[int] = ends.tolist()
        self._rows = torch.from_numpy(noise.rows[order]).to(device)
        self._tokens = torch.from_numpy(noise.tokens[order].astype(np.int64)).to(device)
        self._values = torch.from_numpy(noise.values[order]).to(device)

    def waits(self, position: int, rows: torch.Tensor) -> torch.Tensor:
        """Return the numbers from the seeds as standard exponential ones, (B, V) float64, for ``rows`` (B,).

        A Gumbel number is minus the logarithm of such a waiting time.
        """
        key = _mix(self._seeds[rows] + _wrap(_STEP * (position + 1)))
        bits = _mix(key[:, None] + self._columns)
        return -(((bits >> 11 & _HIGHEST >> 10).double() + 0.5) * 2.0**-53).log()

    def read(self, position: int, rows: torch.Tensor) -> torch.Tensor:
        """Return what is added to the logits, (B, V) float32, for the molecules ``rows`` (B,), each named once."""
        return self.edit(position, rows, (-self.temperature * self.waits(position, rows).log()).float())

    def edit(self, position: int, rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Put the edits of ``position`` into ``numbers`` (B, V), which belong to the molecules ``rows`` (B,)."""
        if position + 1 >= len(self._ends) or self._ends[position] == self._ends[position + 1]:
            return numbers
        part = slice(self._ends[position], self._ends[position + 1])
        where = torch.full((len(self._seeds),), -1, dtype=torch.int64, device=rows.device)
        where[rows] = torch.arange(len(rows), device=rows.device)
        places = where[self._rows[part]]
        here = places >= 0
        numbers[places[here], self._tokens[part][here]] = self._values[part][here]
        return numbers


def _mix(number: torch.Tensor) -> torch.Tensor:
    """Return 64 random-looking bits for each whole number of any shape (...), always the same for the same one.

    Source: splitmix64, Steele et al. (2014), https://doi.org/10.1145/2714064.2660195
    """
    number = (number ^ _shift(number, 30)) * _FIRST
    number = (number ^ _shift(number, 27)) * _SECOND
    return number ^ _shift(number, 31)


def _shift(number: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift int64 of any shape (...) to the right as if it had no sign."""
    return number >> bits & _HIGHEST >> (bits - 1)
