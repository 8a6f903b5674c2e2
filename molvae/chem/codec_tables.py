"""Say once what each SELFIES token does, so that decoding works on numbers and needs no strings.

In: tokens, under the bond limits that selfies works with at that moment. Out: a `Meaning` per token; `Tables` of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import selfies
from numpy.typing import NDArray
from selfies.constants import INDEX_CODE
from selfies.grammar_rules import process_atom_symbol, process_branch_symbol, process_ring_symbol
from selfies.utils.smiles_utils import atom_to_smiles

ATOM, BRANCH, RING, EPSILON, INVALID, DOT, SKIPPED, END, FOREIGN = range(9)
"""What a token is. INVALID makes the whole string nothing when it is reached; SKIPPED is as if it were not there; END
ends a string; FOREIGN leaves it to selfies itself."""
LAST_PLAIN = INVALID
"""The kinds above this one concern a string as a whole."""

LONGEST = 1000
"""Tokens above which a string is left to selfies, which Python's limit on recursion may stop there."""

BASE = len(INDEX_CODE)
_PLAIN = re.compile(r"\[[^\[\].]*\]")
_MOST = 1_000_000
_MOST_KEPT = 100_000  # strings from outside may hold any number of different tokens


class Meaning(NamedTuple):
    """What one token does.

    Args:
        kind: one of the constants above.
        order: most bonds to the atom before, of the branch or of the ring; 0 where it has none.
        capacity: bonds the atom may have, hydrogens written in the token already taken off.
        length: how many tokens after a branch or ring are read as a number.
        digit: its value when it is read as part of such a number.
        texts: an atom as SMILES: alone, and after a single, double and triple bond; empty for other kinds.
        left: ``/`` or ``\\`` of the bond before an atom, or of the first end of a ring; or "".
        right: the same for the second end of a ring.
    """

    kind: int
    order: int = 0
    capacity: int = 0
    length: int = 0
    digit: int = 0
    texts: tuple[str, ...] = ()
    left: str = ""
    right: str = ""


PlainMeaning = tuple[int, int, int, int, int, tuple[str, ...], str, str]
"""A `Meaning` as a plain tuple, which Python reads twice as fast."""


def as_plain(meaning: Meaning) -> PlainMeaning:
    """Return ``meaning`` as a plain tuple."""
    kind, order, capacity, length, digit, texts, left, right = meaning
    return kind, order, capacity, length, digit, texts, left, right


def _mark(stereo: str | None) -> str:
    # selfies writes no other mark: "-" in [-/Ring1] is the absence of one.
    return stereo if stereo in ("/", "\\") else ""


def read_meaning(token: str) -> Meaning:
    """Return what a token means to selfies under the bond limits in force.

    >>> read_meaning("[=Branch1]")[:5] == (BRANCH, 2, 0, 1, 4)
    True
    >>> read_meaning("[/C@@H1]").texts, read_meaning("[nonsense]").kind == INVALID
    (('[C@@H1]', '/[C@@H1]', '=[C@@H1]', '#[C@@H1]'), True)
    """
    if token in (".", "[nop]"):
        return Meaning(DOT if token == "." else SKIPPED)
    if not _PLAIN.fullmatch(token):
        return Meaning(FOREIGN)
    digit = INDEX_CODE.get(token, 0)
    # selfies tells the kinds apart by these letters, in this order, whatever else the token holds.
    if token[-4:-2] == "ch":
        branch = process_branch_symbol(token)
        return Meaning(INVALID) if branch is None else Meaning(BRANCH, branch[0], 0, branch[1], digit)
    if token[-4:-2] == "ng":
        ring = process_ring_symbol(token)
        if ring is None:
            return Meaning(INVALID)
        order, length, (left, right) = ring
        return Meaning(RING, order, 0, length, digit, (), _mark(left), _mark(right))
    if "eps" in token:
        return Meaning(EPSILON)
    return _read_atom(token, digit)


def _read_atom(token: str, digit: int) -> Meaning:
    try:
        found = process_atom_symbol(token)
    except ValueError:  # an isotope of thousands of digits
        return Meaning(FOREIGN)
    if found is None:
        return Meaning(INVALID)
    (order, stereo), atom = found
    text, mark = atom_to_smiles(atom), _mark(stereo)
    capacity = min(atom.bonding_capacity, _MOST)
    return Meaning(ATOM, order, capacity, 0, digit, (text, mark + text, "=" + text, "#" + text), mark)


def limits_in_force() -> object:
    """Return an object that selfies makes anew whenever its bond limits are set, to be compared by identity."""
    alphabet: object = selfies.get_semantic_robust_alphabet()
    return alphabet


class Lexicon:
    """The meanings of all tokens looked up so far, under the bond limits in force."""

    def __init__(self) -> None:
        self._meanings: dict[str, PlainMeaning] = {}
        self._limits: object = None

    def look_up(self, tokens: Sequence[str]) -> list[PlainMeaning]:
        """Return the meaning of each token, in order.

        >>> [kind for kind, *_ in Lexicon().look_up(["[C]", "[Ring1]", "."])] == [ATOM, RING, DOT]
        True
        """
        limits = limits_in_force()
        if limits is not self._limits or len(self._meanings) > _MOST_KEPT:
            # A new dict, because another thread may be reading the old one.
            self._meanings, self._limits = {}, limits
        meanings = self._meanings
        try:
            return [meanings[token] for token in tokens]
        except KeyError:
            found = {token: as_plain(read_meaning(token)) for token in tokens}
            meanings.update(found)
            return [found[token] for token in tokens]


KIND, ORDER, CAPACITY, LENGTH, DIGIT, WIDTH = range(6)
"""Columns of `Tables.facts`."""


@dataclass(frozen=True)
class Tables:
    """The meanings of V tokens as arrays.

    Attributes:
        facts: (V, 6) int32, columns as `KIND` to `WIDTH`; WIDTH is the length of the text.
        texts: (V, W) uint8, SMILES of the atoms in ASCII, filled up with 0.
        marks: (V, 2, 4) uint8, the ASCII character before an atom or ring number, by end and by order of the bond;
            0 is none.
        room: characters of SMILES that one token gives at most.
    """

    facts: NDArray[np.int32]
    texts: NDArray[np.uint8]
    marks: NDArray[np.uint8]
    room: int


def make_tables(meanings: Sequence[Meaning]) -> Tables:
    """Lay out ``meanings`` as arrays; a token's id is its place."""
    written = [meaning.texts[0].encode("ascii") if meaning.texts else b"" for meaning in meanings]
    width = max(map(len, written), default=0)
    facts = np.zeros((len(meanings), 6), dtype=np.int32)
    texts = np.zeros((len(meanings), max(width, 1)), dtype=np.uint8)
    marks = np.zeros((len(meanings), 2, 4), dtype=np.uint8)
    marks[:, :, 2:] = tuple(b"=#")
    for row, meaning in enumerate(meanings):
        facts[row] = (*meaning[:5], len(written[row]))
        texts[row, : len(written[row])] = tuple(written[row])
        for side, mark in enumerate((meaning.left, meaning.right)):
            marks[row, side, 1] = ord(mark) if mark else 0
    # An atom: its text, a bond, two brackets, a dot. A ring: at each end a bond and at most %1000.
    return Tables(facts, texts, marks, max(width + 4, 12))
