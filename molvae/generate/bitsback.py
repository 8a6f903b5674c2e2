"""Put molecules on a coding stack under the model, and take them off again, token by token the same.

In: token ids and a `Stack`. Out: the stack, longer by about the ELBO of each molecule; the token ids again.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.data.batch import collate
from molvae.data.vocabulary import BOS, EOS
from molvae.errors import InputError
from molvae.generate.arithmetic import Stack, integer_table
from molvae.generate.stepper import Stepper
from molvae.nn.model import SequenceVAE

BITS = 22
"""Precision of every probability, in bits: what the model holds impossible costs 22."""
STEP = 0.75
"""Width of a bin of z, in standard deviations of the prior. Bytes a molecule on 1,500 molecules of MOSES test with the
shipped model: 5.48 at 0.25, 5.36 at 0.5, 5.29 at 0.75, 5.35 at 1."""
REACH = 6.0
"""Bins go this far to both sides of 0; the outermost hold the tails."""
LARGEST_BLOCK = 256
GROWTH = 12
"""A block holds at most a twelfth of the molecules before it: their bits pay for the choice of its latents."""

Choose = Callable[[list[int], NDArray[np.int64]], list[int]]


@contextmanager
def one_arithmetic() -> Iterator[None]:
    """Compute on one thread in full float32, so that the same shapes give the same bits whatever the caller set."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def block_sizes(n: int) -> list[int]:
    """Return how many of ``n`` molecules are coded at a time, in order.

    >>> block_sizes(3), sum(block_sizes(10_000)), max(block_sizes(10_000))
    ([1, 1, 1], 10000, 256)
    """
    sizes: list[int] = []
    done = 0
    while done < n:
        sizes.append(min(n - done, LARGEST_BLOCK, max(1, done // GROWTH)))
        done += sizes[-1]
    return sizes


class MoleculeCoder:
    """Code molecules under p(z) p(x|z) with bits back: z is drawn from q(z|x) by popping, which returns its cost.

    Each probability is computed by the same operations on the same shapes in both directions, in the same process or
    another one on the same kind of processor with the same torch; `probe` tells whether that holds.

    Args:
        model: on the CPU, in evaluation mode.
        scale: standard deviation of the bins' prior; see `fitting_scale`.

    Raises:
        InputError: when the model is on another device.

    Source: Townsend et al. (2019), section 2, https://arxiv.org/abs/1901.04866
    """

    def __init__(self, model: SequenceVAE, scale: float = 1.0) -> None:
        if model.device.type != "cpu":
            raise InputError(f"The coder computes on the CPU, the model is on {model.device}.", "Use --device cpu.")
        self.model, self.stepper = model, Stepper(model.decoder)
        count = round(2 * REACH / STEP)
        inner = (torch.arange(1, count, dtype=torch.float64) * STEP - REACH) * scale
        self.centers = (torch.arange(count, dtype=torch.float64) + 0.5) * STEP * scale - REACH * scale
        self.inner = inner
        self.prior_table: list[int] = self._bins(torch.zeros(1), torch.full((1,), math.log(scale)))[0].tolist()

    def _bins(self, mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
        """Return the integer table over bins of z of normals of any shape (...): (..., S + 1)."""
        spread = log_std.double().exp()[..., None]
        heights = torch.special.ndtr((self.inner - mean.double()[..., None]) / spread)
        edges = torch.cat([torch.zeros_like(heights[..., :1]), heights, torch.ones_like(heights[..., :1])], dim=-1)
        return integer_table(edges.diff(dim=-1), BITS)

    def _posterior(self, rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """Return the table of q(z|x) of each of B molecules and D dimensions, (B, D, S + 1)."""
        batch = collate([np.array(row, dtype=np.int64) for row in rows])
        posterior = self.model.encode(batch.tokens, batch.lengths)
        return self._bins(posterior.mean, posterior.log_std).numpy()

    def _unroll(self, bins: NDArray[np.int64], longest: int, choose: Choose) -> None:
        """Run the decoder over B latents ``bins`` (B, D), asking ``choose`` for the next token of each row."""
        z = self.centers[torch.from_numpy(bins)].float()
        state, rows = self.stepper.start(z, self.model.unconditioned(len(z))), list(range(len(z)))
        last = torch.full((len(z),), BOS, dtype=torch.int64)
        for _ in range(longest + 1):
            logits, state = self.stepper.step(last, state)
            chosen = choose(rows, integer_table(logits.double().softmax(1), BITS).numpy())
            going = [place for place, token in enumerate(chosen) if token != EOS]
            if not going:
                return
            if len(going) < len(rows):
                state = state.select(torch.tensor(going))
            rows, last = [rows[place] for place in going], torch.tensor([chosen[place] for place in going])
        raise ValueError("a molecule does not end")

    def push(self, stack: Stack, rows: Sequence[Sequence[int]]) -> None:
        """Put one block of molecules (token ids without BOS and EOS) on ``stack``."""
        tables = self._posterior(rows)
        bins = np.array([[_pop(stack, table) for table in dimensions] for dimensions in tables], dtype=np.int64)
        intervals: list[tuple[int, int]] = []
        places = [0] * len(rows)

        def follow(active: list[int], table: NDArray[np.int64]) -> list[int]:
            chosen = []
            for place, row in enumerate(active):
                token = rows[row][places[row]] if places[row] < len(rows[row]) else EOS
                places[row] += 1
                start = int(table[place, token])
                intervals.append((start, int(table[place, token + 1]) - start))
                chosen.append(token)
            return chosen

        self._unroll(bins, max(map(len, rows)), follow)
        for start, size in reversed(intervals):
            stack.push(start, size, BITS)
        for place in bins[::-1, ::-1].ravel().tolist():
            stack.push(self.prior_table[place], self.prior_table[place + 1] - self.prior_table[place], BITS)

    def pop(self, stack: Stack, count: int, longest: int) -> list[tuple[int, ...]]:
        """Take a block of ``count`` molecules off ``stack``, none longer than ``longest`` tokens.

        Raises:
            ValueError: when a molecule does not end, which only happens on a damaged stack.
        """
        size = self.model.latent
        bins = np.array([_pop(stack, self.prior_table) for _ in range(count * size)], dtype=np.int64)
        bins = bins.reshape(count, size)
        rows: list[list[int]] = [[] for _ in range(count)]

        def read(active: list[int], table: NDArray[np.int64]) -> list[int]:
            chosen = [_pop(stack, bounds) for bounds in table.tolist()]
            for row, token in zip(active, chosen, strict=True):
                if token != EOS:
                    rows[row].append(token)
            return chosen

        self._unroll(bins, longest, read)
        tables = self._posterior(rows)
        for row in reversed(range(count)):
            for dimension in reversed(range(size)):
                place = bins[row, dimension]
                start, stop = tables[row, dimension, place : place + 2].tolist()
                stack.push(start, stop - start, BITS)
        return [tuple(row) for row in rows]

    def probe(self) -> str:
        """Return a digest of the probabilities of a few fixed strings: equal where the arithmetic is equal."""
        usable = len(self.stepper.forbidden)
        rows = [tuple(4 + (step * (row + 3)) % (usable - 4) for step in range(row + 5)) for row in range(16)]
        with one_arithmetic():
            digest = hashlib.sha256(self._posterior(rows).tobytes())

            def follow(active: list[int], table: NDArray[np.int64]) -> list[int]:
                digest.update(table.tobytes())
                return [4 + (row * 7 + len(active)) % (usable - 4) if row < 8 else EOS for row in active]

            places = np.arange(16 * self.model.latent).reshape(16, -1) % len(self.centers)
            with suppress(ValueError):  # the fixed strings are meant not to end
                self._unroll(places, 12, follow)
        return digest.hexdigest()[:16]


def _pop(stack: Stack, table: Sequence[int] | NDArray[np.int64]) -> int:
    """Take the symbol on top off the stack; ``table`` (S + 1,) holds the bounds of the S intervals."""
    place = bisect_right(table, stack.peek(BITS)) - 1
    start = int(table[place])
    stack.drop(start, int(table[place + 1]) - start, BITS)
    return place


def fitting_scale(model: SequenceVAE, rows: Sequence[Sequence[int]], sample: int = 256) -> float:
    """Return the spread of the codes of the first molecules, as a power of 2 and at least 1.

    A model trained towards N(0, I) gives 1; the codes of a plain autoencoder may lie far outside.
    """
    batch = collate([np.array(row, dtype=np.int64) for row in rows[:sample]])
    with one_arithmetic():
        posterior = model.encode(batch.tokens, batch.lengths)
        square = (posterior.mean.square() + (2 * posterior.log_std).exp()).mean().item()
    return float(2.0 ** max(0, round(math.log2(max(square, 1.0)) / 2)))
