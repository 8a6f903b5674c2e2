"""Turn token ids into SMILES without strings in between: the codec of one vocabulary.

In: token ids, one molecule or N of them one after another. Out: the SMILES that `selfies.decoder` writes, to the byte.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from molvae.chem.codec_kernel import Ints, Kernel, load
from molvae.chem.codec_plain import write_smiles
from molvae.chem.codec_tables import (
    END,
    SKIPPED,
    Meaning,
    PlainMeaning,
    Tables,
    as_plain,
    limits_in_force,
    make_tables,
    read_meaning,
)
from molvae.chem.selfies import decode as decode_tokens
from molvae.errors import InputError

COMPILE_AFTER = 20_000
"""Molecules that one codec decodes in plain Python before it loads compiled code: by then it has spent as long on them
as loading takes, about .4 s. A batch of that size loads it at once."""

BLOCK = 1024
"""Molecules the compiled code works on at a time, so that its arrays stay in the processor's cache."""


class TokenCodec:
    """Decode token ids of one vocabulary.

    The bond limits are those that selfies works under at each call. Small batches are decoded by tables in plain
    Python, about 7 times as fast as `selfies.decoder`; large ones by compiled code, above 100 times as fast, when numba
    is there. What the tables do not cover, such as strings of more than 1,000 tokens, is left to selfies. A string
    with a token that selfies does not know gives "", as in `molvae.chem.selfies.decode`.

    Args:
        tokens: V tokens; a token's id is its place.
        left_out: ids to be skipped wherever they stand, such as padding.
        end: id that ends a molecule; None when there is none.

    Raises:
        InputError: when ``left_out`` or ``end`` is not an id.

    >>> codec = TokenCodec(["<pad>", "<eos>", "[C]", "[=O]", "."], left_out=(0,), end=1)
    >>> codec.decode([2, 0, 3, 4, 2, 1, 2])
    'C=O.C'
    >>> codec.decode_many([2, 3, 2, 2], [0, 2, 2, 4])
    ['C=O', '', 'CC']
    """

    def __init__(self, tokens: Sequence[str], left_out: Collection[int] = (), end: int | None = None) -> None:
        self.tokens = tuple(tokens)
        self._left_out, self._end = frozenset(left_out), end
        for token_id in (*self._left_out, *(() if end is None else (end,))):
            if not 0 <= token_id < len(self.tokens):
                raise InputError(f"{token_id} is no token id.", f"Ids go from 0 to {len(self.tokens) - 1}.")
        self._decoded = 0
        self._limits: object = None
        self._plain: list[PlainMeaning] = []
        self._tables: Tables | None = None

    def decode(self, token_ids: Iterable[int]) -> str:
        """Return the SMILES of one molecule; "" when its tokens stand for nothing.

        Raises:
            InputError: when a number is not a token id.
        """
        ids = [int(token_id) for token_id in token_ids]
        self._check(min(ids, default=0), max(ids, default=-1))
        return self._decode_plain(ids)

    def decode_many(self, token_ids: ArrayLike, offsets: ArrayLike) -> list[str]:
        """Return the SMILES of N molecules, in order.

        Args:
            token_ids: (S,) integers, the ids of all molecules one after another.
            offsets: (N + 1,) integers; molecule i is ``token_ids[offsets[i]:offsets[i + 1]]``.

        Raises:
            InputError: when a number is not a token id, or the offsets do not fit.
        """
        ids, bounds = _as_integers(token_ids, "token ids"), _as_integers(offsets, "offsets")
        _check_offsets(bounds, len(ids))
        self._check(int(ids.min(initial=0)), int(ids.max(initial=-1)))
        count = len(bounds) - 1
        self._decoded += count
        kernel = load() if self._decoded >= COMPILE_AFTER else None
        if kernel is not None:
            return self._decode_compiled(kernel, ids.astype(np.int32), bounds)
        flat, cuts = ids.tolist(), bounds.tolist()
        return [self._decode_plain(flat[cuts[row] : cuts[row + 1]]) for row in range(count)]

    def _check(self, lowest: int, highest: int) -> None:
        """Refuse what is no id, and follow selfies when its bond limits were set anew."""
        if lowest < 0 or highest >= len(self.tokens):
            wrong = lowest if lowest < 0 else highest
            raise InputError(f"{wrong} is no token id.", f"Ids go from 0 to {len(self.tokens) - 1}.")
        limits = limits_in_force()
        if limits is not self._limits:
            meanings = [self._meaning(token_id, token) for token_id, token in enumerate(self.tokens)]
            # The limits come last: another thread that finds them may rely on the rest.
            self._plain, self._tables = list(map(as_plain, meanings)), make_tables(meanings)
            self._limits = limits

    def _meaning(self, token_id: int, token: str) -> Meaning:
        if token_id == self._end:
            return Meaning(END)
        return Meaning(SKIPPED) if token_id in self._left_out else read_meaning(token)

    def _decode_plain(self, ids: list[int]) -> str:
        if self._end is not None and self._end in ids:
            ids = ids[: ids.index(self._end)]
        text = write_smiles([self._plain[token_id] for token_id in ids])
        if text is None:
            return decode_tokens([self.tokens[token_id] for token_id in ids if token_id not in self._left_out])
        return text

    def _decode_compiled(self, kernel: Kernel, ids: Ints, bounds: NDArray[np.int64]) -> list[str]:
        assert self._tables is not None
        out: list[str] = []
        for first in range(0, len(bounds) - 1, BLOCK):
            part = bounds[first : first + BLOCK + 1]
            texts, refused = kernel.decode(ids[part[0] : part[-1]], part - part[0], self._tables)
            for row in refused:
                texts[row] = self._decode_plain(ids[part[row] : part[row + 1]].tolist())
            out += texts
        return out


def _as_integers(values: ArrayLike, what: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InputError(f"The {what} are not a row of whole numbers.", "Give a flat list or array of integers.")
    return array.astype(np.int64)


def _check_offsets(bounds: NDArray[np.int64], most: int) -> None:
    if not len(bounds) or bounds[0] < 0 or bounds[-1] > most or (np.diff(bounds) < 0).any():
        raise InputError(
            f"The offsets do not fit {most} token ids.", "Give N + 1 offsets for N molecules, from low to high."
        )
