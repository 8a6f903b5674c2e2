"""Let a decoder write only where a scaffold is open: which tokens may come next, row by row.

In: a vocabulary, and the tokens written so far. Out: masks over the vocabulary, so that what is put in is a branch or a
tail that hangs on the scaffold by one single bond, closes no ring into it and ends where it must.

The rules follow SELFIES' own derivation (bonds left, branches, what is read as a number), so that nothing has to be
thrown away afterwards. They also forbid what SELFIES would pass over in silence, such as tokens after the end of a
branch: a model hardly ever writes it, and it would be another string for the same molecule.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from selfies.constants import INDEX_CODE

from molvae.chem.codec_tables import ATOM, BASE, BRANCH, RING, Meaning, read_meaning
from molvae.data.vocabulary import EOS, UNK, Vocabulary

Kind = Literal["branch", "tail", "link"]
"""A gap in the middle of the scaffold, one at its end, and one between two fragments."""

ENDLESS = 1 << 20
"""Tokens left in a tail, or atoms to come where any number may."""
SMALLEST_RING = 3


@dataclass(frozen=True, slots=True)
class Situation:
    """What decides which tokens may come next.

    Attributes:
        bonds: that the last atom has left.
        left: tokens until the branch must end; `ENDLESS` in a tail, and in a link of a number of atoms.
        reach: atoms before the last one within the gap, into which a ring may close.
        first: whether the branch has no atom yet.
        outermost: whether no inner branch is open.
        opening: whether nothing has been put into the gap yet.
        ends_open: whether the last atom must keep a bond for the fragment that follows.
        bare: whether the last atom has no hydrogen to fill a bond with, so that it would end as a radical.
        atoms: that must still come into the gap; `ENDLESS` where any number may.
    """

    bonds: int
    left: int
    reach: int
    first: bool
    outermost: bool
    opening: bool
    ends_open: bool
    bare: bool
    atoms: int = ENDLESS


class Grammar:
    """The tokens of a vocabulary, and the masks met so far; a mask's number is its row in `table`."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.meanings = [Meaning(-1) if i <= UNK else read_meaning(token) for i, token in enumerate(vocabulary.tokens)]
        self.digits = {i: INDEX_CODE[token] for i, token in enumerate(vocabulary.tokens) if token in INDEX_CODE}
        self._rows: dict[Any, int] = {}
        self._masks: list[list[bool]] = []
        self.dead: set[int] = set()
        """Masks that allow nothing: a gap of a number of atoms may come to where neither atom nor end is possible."""

    @property
    def plain_branches(self) -> dict[int, int]:
        """The tokens that begin a branch on one single bond, and how many tokens their number has."""
        return {i: m.length for i, m in enumerate(self.meanings) if m.kind == BRANCH and m.order == 1}

    def table(self, device: torch.device) -> torch.Tensor:
        """Return all masks, (M, V) bool, true where a token may come."""
        return torch.tensor(self._masks, dtype=torch.bool, device=device)

    def allowed(self, number: int) -> list[int]:
        """Return the tokens of one mask."""
        return [token for token, allowed in enumerate(self._masks[number]) if allowed]

    def __len__(self) -> int:
        return len(self._masks)

    def _row(self, key: Any, allowed: list[int]) -> int:
        mask = [False] * len(self.meanings)
        for token in allowed:
            mask[token] = True
        self._rows[key] = len(self._masks)
        if not allowed:
            self.dead.add(len(self._masks))
        self._masks.append(mask)
        return self._rows[key]

    def number(self, low: int, high: int, digits: int, so_far: int) -> int:
        """Return the mask of the next token of a number from ``low`` to ``high``, of which ``digits`` tokens are to
        come after ``so_far``.
        """
        key = ("number", low, min(high, BASE**3), digits, so_far)
        if key in self._rows:
            return self._rows[key]
        return self._row(key, [token for token in self.digits if self._leads(token, low, high, digits, so_far)])

    def _leads(self, token: int, low: int, high: int, digits: int, so_far: int) -> bool:
        smallest = (so_far * BASE + self.digits[token]) * BASE ** (digits - 1)
        return bool(smallest <= high and smallest + BASE ** (digits - 1) - 1 >= low)

    def has_number(self, low: int, high: int, digits: int) -> bool:
        """Tell whether a number from ``low`` to ``high`` can begin."""
        return low <= high and any(self._leads(token, low, high, digits, 0) for token in self.digits)

    def opening(self, room: int) -> int:
        """Return the mask of the token that begins a branch of at most ``room`` tokens on the scaffold."""
        key = ("opening", min(room, BASE**2))
        if key in self._rows:
            return self._rows[key]
        allowed = [token for token, length in self.plain_branches.items() if length == 1 or room > BASE ** (length - 1)]
        return self._row(key, allowed)

    def end(self) -> int:
        """Return the mask of the end alone."""
        return self._rows["end"] if "end" in self._rows else self._row("end", [EOS])

    def symbol(self, now: Situation) -> int:
        """Return the mask of the token that comes next in ``now``."""
        if now in self._rows:
            return self._rows[now]
        return self._row(now, [token for token, meaning in enumerate(self.meanings) if self._may(token, meaning, now)])

    def _may(self, token: int, meaning: Meaning, now: Situation) -> bool:
        if token == EOS:
            radical = now.bare and bool(now.bonds) and not now.ends_open
            return now.left == ENDLESS and not now.opening and not radical and now.atoms in (0, ENDLESS)
        if meaning.kind == ATOM:
            if not now.atoms:
                return False
            if meaning.order > min(now.bonds, meaning.capacity) or (now.opening and meaning.order != 1):
                return False
            spare, rest = meaning.capacity - meaning.order, now.atoms - (now.atoms != ENDLESS)
            return now.bonds > 0 and self._may_end(spare, now.left - 1, now, bool(spare) and is_bare(meaning), rest)
        if now.first or meaning.kind not in (BRANCH, RING) or now.left <= meaning.length:
            return False
        if meaning.kind == BRANCH:
            most = min(now.left - 2 - meaning.length, now.atoms - 1)
            return now.bonds > 1 and meaning.order < now.bonds and self.has_number(0, most, meaning.length)
        spare, left = now.bonds - meaning.order, now.left - 1 - meaning.length
        if spare < 0 or not self._may_end(spare, left, now, now.bare, now.atoms):
            return False
        return self.has_number(*ring_numbers(now.reach, meaning.length), meaning.length)

    @staticmethod
    def _may_end(bonds: int, left: int, now: Situation, bare: bool, atoms: int) -> bool:
        """Tell whether the last atom may be left with ``bonds`` when ``left`` tokens of its branch are to come."""
        follows = now.ends_open and now.outermost
        if atoms != ENDLESS and now.outermost:
            return bool(bonds) or (atoms == 0 and not follows)
        if left == 0 and bonds and bare and not follows:
            return False
        return bool(bonds) or (now.left == ENDLESS and now.outermost) or (left == 0 and not follows)


def is_bare(meaning: Meaning) -> bool:
    """Tell whether an atom says itself how many hydrogens it has, so that a bond it does not use stays open."""
    return bool(meaning.texts) and meaning.texts[0].startswith("[")


def ring_numbers(reach: int, digits: int) -> tuple[int, int]:
    """Return the lowest and highest number after a ring token that closes no ring into the scaffold.

    >>> ring_numbers(5, 1), ring_numbers(20, 2)
    ((1, 4), (16, 19))
    """
    low = SMALLEST_RING - 2 if digits == 1 else BASE ** (digits - 1)
    return low, min(reach - 1, BASE**digits - 1)


@lru_cache(maxsize=4)
def grammar_of(vocabulary: Vocabulary) -> Grammar:
    """Return the grammar of a vocabulary."""
    return Grammar(vocabulary)


@dataclass(slots=True)
class _Frame:
    """A branch being written: tokens until it ends, bonds of its last atom, which atom that is."""

    left: int
    bonds: int
    last: int
    first: bool = True
    bare: bool = False


class Filling:
    """What is being put into one gap, token by token.

    Args:
        grammar: of the vocabulary.
        kind: where the gap is.
        room: tokens at most; a link has exactly as many. A tail that reaches them is ended once its branches are.
        size: atoms to be put into a tail or a link, 1 or more, whatever the room; None leaves their number free.
    """

    def __init__(self, grammar: Grammar, kind: Kind, room: int = ENDLESS, size: int | None = None) -> None:
        self.grammar, self.kind, self.room, self.size = grammar, kind, max(room, 1), size
        # Atoms so far; the frames of open branches; and of a number being read its digits, value, bond order.
        self.atoms, self.written = 0, 0
        endless = kind == "tail" or size is not None
        self.frames = [] if kind == "branch" else [_Frame(ENDLESS if endless else self.room, 1, -1)]
        self.digits, self.length, self.value, self.order, self.ring = 0, 0, 0, 1, False
        self.done = False

    @property
    def to_come(self) -> int:
        """How many atoms must still be put in; `ENDLESS` where their number is free."""
        return ENDLESS if self.size is None else self.size - self.atoms

    def mask(self) -> int:
        """Return the number of the mask of the token that comes next."""
        if self.digits:
            low, high = self._limits()
            return self.grammar.number(low, high, self.digits, self.value)
        if not self.frames:
            return self.grammar.opening(self.room)
        frame = self.frames[-1]
        if frame.left == ENDLESS and self.written >= self.room and self.size is None:
            return self.grammar.end()
        return self.grammar.symbol(Situation(
            frame.bonds, frame.left, max(frame.last, 0), frame.first, len(self.frames) == 1, self.atoms == 0,
            self.kind == "link", frame.bare, self.to_come,
        ))  # fmt: skip

    def _limits(self) -> tuple[int, int]:
        if self.ring:
            return ring_numbers(self.frames[-1].last, self.length)
        if not self.frames:
            return 0, min(self.room - 1, BASE**self.length - 1)
        left = self.frames[-1].left
        if left == ENDLESS and self.size is None:
            left = max(self.room - self.written, 1)
        return 0, max(min(left - self.digits - 1, self.to_come - 1, BASE**self.length - 1), 0)

    def take(self, token: int) -> None:
        """Go on by one token that the mask allows."""
        self.written += 1
        if self.digits:
            self._take_digit(token)
        elif token == EOS:
            self.done = True
        else:
            self._take_symbol(token)
        while self.frames and not self.digits and self.frames[-1].left == 0:
            self.frames.pop()
            self.done = not self.frames

    def _take_symbol(self, token: int) -> None:
        meaning = self.grammar.meanings[token]
        if self.frames:
            self.frames[-1].left -= 1 if self.frames[-1].left != ENDLESS else 0
        if meaning.kind == ATOM:
            frame = self.frames[-1]
            frame.bonds, frame.last, frame.first = meaning.capacity - meaning.order, self.atoms, False
            frame.bare = is_bare(meaning)
            self.atoms += 1
        else:
            self.digits = self.length = meaning.length
            self.value, self.order, self.ring = 0, meaning.order, meaning.kind == RING

    def _take_digit(self, token: int) -> None:
        self.value, self.digits = self.value * BASE + self.grammar.digits[token], self.digits - 1
        frame = self.frames[-1] if self.frames else None
        if frame is not None and frame.left != ENDLESS:
            frame.left -= 1
        if self.digits:
            return
        if frame is None:
            self.frames.append(_Frame(self.value + 1, 1, -1))
        elif self.ring:
            frame.bonds -= self.order
        else:
            if frame.left != ENDLESS:
                frame.left -= self.value + 1
            frame.bonds -= self.order
            self.frames.append(_Frame(self.value + 1, self.order, frame.last))
