"""The decoder over flat arrays, in loops that numba compiles: `codec_plain` for large batches.

In: token ids of N molecules one after another, and `Tables`. Out: the bytes of their SMILES one after another.

Each pass is one compiled function over all molecules. numba is imported and the compiled code loaded on first use only:
that takes half a second, and the very first time on a machine, when it compiles, about three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from molvae.chem.codec_tables import (
    ATOM,
    BASE,
    BRANCH,
    CAPACITY,
    DIGIT,
    DOT,
    END,
    EPSILON,
    FOREIGN,
    INVALID,
    KIND,
    LENGTH,
    LONGEST,
    ORDER,
    RING,
    SKIPPED,
    WIDTH,
    Meaning,
    Tables,
    make_tables,
)  # fmt: skip

_DONE = -1
_ENDLESS = 1 << 60

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Bytes = NDArray[np.uint8]


def _clean(tokens: Ints, offsets: Longs, facts: Ints, line: Ints, ends: Longs, refused: Bytes) -> None:
    """Copy each molecule's tokens to ``line`` without what is skipped; mark what is left to selfies."""
    for row in range(len(ends)):
        at = offsets[row]
        for place in range(offsets[row], offsets[row + 1]):
            kind = facts[tokens[place], KIND]
            if kind == END:
                break
            if kind == FOREIGN:
                refused[row] = 1
                break
            if kind != SKIPPED:
                line[at] = tokens[place]
                at += 1
        if at - offsets[row] > LONGEST:
            refused[row] = 1
        ends[row] = offsets[row] if refused[row] else at


def _derive(
    line: Ints, offsets: Longs, ends: Longs, facts: Ints, atoms: Ints, rings: Ints, counts: Longs, refused: Bytes
) -> None:
    """Fill ``atoms`` (token, parent, order, spare bonds) and ``rings`` (left, right, order, token) of each molecule."""
    waiting = np.empty((LONGEST + 1, 4), np.int64)
    for row in range(len(ends)):
        at, end, base = offsets[row], ends[row], offsets[row]
        count, closed, depth = 0, 0, 0
        state, previous, used, most = 0, -1, 0, _ENDLESS
        while True:
            over = at >= end or facts[line[at], KIND] == DOT
            if over or state == _DONE or used >= most:
                while used < most and at < end and facts[line[at], KIND] != DOT:
                    at += 1
                    used += 1
                if depth:
                    depth -= 1
                    used, most = used + waiting[depth, 0], waiting[depth, 1]
                    state, previous = waiting[depth, 2], waiting[depth, 3]
                elif at < end:
                    at, state, previous, used = at + 1, 0, -1, 0
                else:
                    break
                continue
            token = line[at]
            kind, order, capacity = facts[token, KIND], facts[token, ORDER], facts[token, CAPACITY]
            at, used = at + 1, used + 1
            if kind == ATOM:
                order = min(order, state, capacity)
                if order or not state:
                    atom = atoms[base + count]
                    atom[0], atom[1], atom[2], atom[3] = token, previous, order, capacity - order
                    if order:
                        atoms[base + previous, 3] -= order
                    previous, count = count, count + 1
                state = capacity - order if capacity > order else _DONE
            elif kind == INVALID:
                refused[row], count, closed = 1, 0, 0
                break
            elif kind == EPSILON:
                state = _DONE if state else 0
            elif state > 1 or (kind == RING and state):
                number = 0
                for _ in range(facts[token, LENGTH]):
                    number *= BASE
                    if at < end and facts[line[at], KIND] != DOT:
                        number += facts[line[at], DIGIT]
                        at += 1
                used += facts[token, LENGTH]
                if kind == BRANCH:
                    order = min(order, state - 1)
                    frame = waiting[depth]
                    frame[0], frame[1], frame[2], frame[3] = used, most, state - order, previous
                    depth, state, used, most = depth + 1, order, 0, number + 1
                else:
                    order = min(order, state)
                    ring = rings[base + closed]
                    ring[0], ring[1], ring[2], ring[3] = max(0, previous - number - 1), previous, order, token
                    closed, state = closed + 1, state - order if state > order else _DONE
        counts[row, 0], counts[row, 1] = count, closed


def _close_rings(offsets: Longs, atoms: Ints, rings: Ints, counts: Longs) -> None:
    """Keep in ``rings`` those that there is room for; one between bonded atoms raises the order of their bond."""
    for row in range(len(counts)):
        base, made = offsets[row], 0
        for place in range(base, base + counts[row, 1]):
            left, right, token = rings[place, 0], rings[place, 1], rings[place, 3]
            order = min(rings[place, 2], atoms[base + left, 3], atoms[base + right, 3])
            if left == right or order <= 0:
                continue
            bond = base
            while bond < base + made and not (rings[bond, 0] == left and rings[bond, 1] == right):
                bond += 1
            if atoms[base + right, 1] == left:
                order = min(order, 3 - atoms[base + right, 2])
                atoms[base + right, 2] += order
            elif bond < base + made:
                order = min(order, 3 - rings[bond, 2])
                rings[bond, 2] += order
            else:
                rings[bond, 0], rings[bond, 1], rings[bond, 2], rings[bond, 3] = left, right, order, token
                made += 1
            atoms[base + left, 3] -= order
            atoms[base + right, 3] -= order
        counts[row, 1] = made


def _write(
    offsets: Longs, atoms: Ints, rings: Ints, counts: Longs, facts: Ints, texts: Bytes, marks: Bytes, out: Bytes,
    starts: Longs,
) -> None:  # fmt: skip
    """Write SMILES to ``out``, each molecule from ``starts[row]`` on; atoms stand in the order of their making."""
    numbers = np.empty(LONGEST + 1, np.int32)
    last = np.empty(LONGEST + 1, np.int32)
    at = 0
    for row in range(len(counts)):
        starts[row] = at
        base, count, closed, given = offsets[row], counts[row, 0], counts[row, 1], 0
        numbers[:closed] = 0
        for atom in range(count):
            if atoms[base + atom, 1] >= 0:
                last[atoms[base + atom, 1]] = atom
        for atom in range(count):
            token, parent, order = atoms[base + atom, 0], atoms[base + atom, 1], atoms[base + atom, 2]
            if parent < 0:
                if atom:
                    out[at] = 46  # .
                    at += 1
            else:
                if parent != atom - 1:
                    out[at] = 41  # )
                    at += 1
                if last[parent] != atom:
                    out[at] = 40  # (
                    at += 1
                if marks[token, 0, order]:
                    out[at] = marks[token, 0, order]
                    at += 1
            for place in range(facts[token, WIDTH]):
                out[at] = texts[token, place]
                at += 1
            for ring in range(closed):
                left, right, order = rings[base + ring, 0], rings[base + ring, 1], rings[base + ring, 2]
                if left != atom and right != atom:
                    continue
                if not numbers[ring]:
                    given += 1
                    numbers[ring] = given
                mark = marks[rings[base + ring, 3], 0 if left == atom else 1, order]
                if mark:
                    out[at] = mark
                    at += 1
                number, scale = numbers[ring], 1
                if number >= 10:
                    out[at] = 37  # %
                    at += 1
                while scale * 10 <= number:
                    scale *= 10
                while scale:
                    out[at] = 48 + number // scale % 10
                    at, scale = at + 1, scale // 10
    starts[len(counts)] = at


@dataclass(frozen=True)
class Kernel:
    """The compiled passes, in their order."""

    clean: Callable[..., None]
    derive: Callable[..., None]
    close_rings: Callable[..., None]
    write: Callable[..., None]

    def decode(self, ids: Ints, offsets: Longs, tables: Tables) -> tuple[list[str], list[int]]:
        """Return the SMILES of N molecules, and the rows that selfies must decode, which are "" for now.

        Args:
            ids: (S,) token ids below V, the molecules one after another.
            offsets: (N + 1,) from 0 to S; molecule i is ``ids[offsets[i]:offsets[i + 1]]``.
            tables: of the V tokens.
        """
        n, size = len(offsets) - 1, len(ids)
        ends, starts = np.empty(n, np.int64), np.empty(n + 1, np.int64)
        counts, refused = np.zeros((n, 2), np.int64), np.zeros(n, np.uint8)
        line = np.empty(size, np.int32)
        atoms, rings = np.empty((size, 4), np.int32), np.empty((size, 4), np.int32)
        out = np.empty(size * tables.room, np.uint8)
        # A slice of an array that may not be written to would be compiled once more.
        self.clean(ids.copy(), offsets, tables.facts, line, ends, refused)
        self.derive(line, offsets, ends, tables.facts, atoms, rings, counts, refused)
        self.close_rings(offsets, atoms, rings, counts)
        self.write(offsets, atoms, rings, counts, tables.facts, tables.texts, tables.marks, out, starts)
        text, cuts = out[: starts[-1]].tobytes().decode("ascii"), starts.tolist()
        return [text[a:b] for a, b in pairwise(cuts)], np.flatnonzero(refused).tolist()


@lru_cache(maxsize=1)
def load() -> Kernel | None:
    """Return the compiled passes; None where numba is missing or cannot compile them.

    The compiled code is kept in files beside this module, or where that is not allowed in the user's cache directory,
    so that one process compiles and every later one loads.
    """
    try:
        import numba
    except ImportError:  # also what a numba raises that does not fit the installed numpy
        return None
    try:
        kernel = Kernel(*(numba.njit(cache=True)(function) for function in (_clean, _derive, _close_rings, _write)))
        kernel.decode(np.zeros(1, np.int32), np.array([0, 1]), make_tables([Meaning(INVALID)]))
    except (numba.core.errors.NumbaError, RuntimeError, OSError, EOFError, ValueError):
        # No place for the cache, a damaged file in it, or no code for this processor: plain Python does the work.
        return None
    return kernel
