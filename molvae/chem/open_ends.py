"""Write a scaffold as SELFIES with gaps: each open position is where something of any length can be put in.

In: a molecule with numbered dummy atoms. Out: `Layout`s, different orders of the same atoms, each with the open
positions on its main chain and one of them last, so that what is put in is a branch or the tail of the string.

SELFIES counts atoms to say where a ring closes, so a ring that spans a gap is only written once the gap is filled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import selfies
from rdkit import Chem
from selfies.constants import INDEX_ALPHABET

from molvae.chem.attachment import MOST_OPEN, Scaffold, open_atoms, open_labels, substituents
from molvae.chem.codec_tables import BASE, BRANCH, RING, read_meaning
from molvae.chem.selfies import decode, split
from molvae.chem.standardize import parse

HOLDER = "Po"
"""Element that stands at an open position while a string is laid out; such a scaffold could not be written."""
ASTATINE = 85
TRIES = 1000
"""Random orders looked at."""
_GAP = re.compile(rf"\[(\d){HOLDER}\]")
_OPEN_BRANCH = re.compile(r"\(\[\d\*\]\)")


@dataclass(frozen=True)
class Ring:
    """A ring closed from atom ``right`` back to atom ``left`` of the scaffold; ``stem`` is its token less the digit."""

    stem: str
    left: int
    right: int


@dataclass(frozen=True)
class Branch:
    """A branch of the scaffold without gaps."""

    stem: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Gap:
    """An open position by its number; the last one of a layout is a tail, the others are branches."""

    label: int


Item = str | Ring | Branch | Gap
"""A token that is an atom of the scaffold, or what is written when it is known where it lies."""


@dataclass(frozen=True)
class Layout:
    """One order in which a scaffold can be written.

    Attributes:
        parts: the items before the first gap, between gaps, and after the last one (empty unless fragments are linked).
        labels: the number of each gap, in the order written; one fewer than ``parts``.
        left: open positions that this order cannot fill, and the atom, in the order written, that each sits on.
    """

    parts: tuple[tuple[Item, ...], ...]
    labels: tuple[int, ...]
    left: tuple[tuple[int, int], ...] = ()

    def tokens(self, filling: str = "[C]") -> list[str]:
        """Return the whole string with one ``filling`` at every open position."""
        places = Places()
        written = render(self.parts[0], places)
        for number, part in enumerate(self.parts[1:], start=1):
            tail = number == len(self.labels)
            written += [filling] if tail else ["[Branch1]", index_tokens(0, 1)[0], filling]
            places.following += 1
            written += render(part, places)
        return written


@dataclass
class Places:
    """Where the atoms of a scaffold lie in the string so far; ``following`` is the place of the next atom."""

    of: list[int] = field(default_factory=list)
    following: int = 0


def index_tokens(number: int, digits: int) -> list[str]:
    """Return ``number`` as the tokens that follow a branch or ring.

    >>> index_tokens(17, 2)
    ['[Ring1]', '[Ring1]']
    """
    return [INDEX_ALPHABET[number // BASE**power % BASE] for power in reversed(range(digits))]


def _numbered(stem: str, number: int) -> list[str]:
    digits = 1 if number < BASE else 2 if number < BASE**2 else 3
    return [f"{stem}{digits}]", *index_tokens(number, digits)]


def render(items: Sequence[Item], places: Places) -> list[str]:
    """Write items as tokens, rings as far back as their atoms are by now; note where the atoms lie in ``places``."""
    tokens: list[str] = []
    for item in items:
        if isinstance(item, Ring):
            tokens += _numbered(item.stem, places.of[item.right] - places.of[item.left] - 1)
        elif isinstance(item, Branch):
            inner = render(item.items, places)
            tokens += [*_numbered(item.stem, len(inner) - 1), *inner]
        elif isinstance(item, str):
            tokens.append(item)
            places.of.append(places.following)
            places.following += 1
    return tokens


class _Reader:
    """Turn the tokens of a string with `HOLDER` atoms into items."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens, self.at = tokens, 0
        # Atoms so far, and which of the scaffold each is; -1 is a holder.
        self.own: list[int] = []
        self.kept = 0

    def items(self, end: int, previous: int = -1) -> list[Item]:
        """Read on to token ``end``, the last atom before being ``previous``."""
        found: list[Item] = []
        while self.at < end:
            token = self.tokens[self.at]
            kind, _, _, length, *_ = read_meaning(token)
            self.at += 1
            if kind == BRANCH:
                size = self._number(length) + 1
                inner = self.items(self.at + size, previous)
                gap = len(inner) == 1 and isinstance(inner[0], Gap)
                found.append(inner[0] if gap else Branch(token[:-2], tuple(inner)))
            elif kind == RING:
                back = previous - self._number(length) - 1
                found.append(Ring(token[:-2], self.own[back], self.own[previous]))
            else:
                previous = len(self.own)
                found.append(self._atom(token))
        return found

    def _atom(self, token: str) -> Item:
        gap = _GAP.fullmatch(token)
        self.own.append(-1 if gap else self.kept)
        self.kept += not gap
        return Gap(int(gap.group(1))) if gap else token

    def _number(self, length: int) -> int:
        number = 0
        for token in self.tokens[self.at : self.at + length]:
            number = number * BASE + INDEX_ALPHABET.index(token)
        self.at += length
        return number


def _read(string: str) -> list[Item]:
    tokens = split(selfies.encoder(string.replace("*]", f"{HOLDER}]")))
    return _Reader(tokens).items(len(tokens))


def _on_main_chain(string: str) -> bool:
    """Tell whether a SMILES ends at an open position and all others are branches of its main chain.

    >>> [_on_main_chain(text) for text in ("C([2*])C[1*]", "C(C[2*])C[1*]", "[2*]C[1*]")]
    [True, False, False]
    """
    if not string.endswith("*]") or string.startswith("["):
        return False
    depth, flat = 0, 0
    for place, letter in enumerate(string):
        flat += depth == 0 and _OPEN_BRANCH.match(string, place) is not None
        depth += (letter == "(") - (letter == ")")
    return flat == string.count("*") - 1


def _without(mol: Chem.Mol, labels: Sequence[int]) -> Chem.Mol:
    """Put hydrogen at the open positions ``labels``."""
    closed = Chem.RWMol(mol)
    for atom in closed.GetAtoms():
        if atom.GetAtomicNum() == 0 and atom.GetIsotope() in labels:
            atom.SetAtomicNum(1)
            atom.SetIsotope(0)
    return Chem.RemoveHs(closed.GetMol())


def lay_out(mol: Chem.Mol, seed: int, most: int = 16, at_once: int = MOST_OPEN) -> list[Layout]:
    """Return different layouts of a scaffold of one fragment, with as many open positions filled as one order can.

    Args:
        mol: with numbered open positions.
        seed: of the random orders.
        most: layouts wanted; fewer come when there are no more.
        at_once: open positions filled by one order at most; with 1 each is at the end.

    Returns:
        Layouts, each proven to give back the scaffold; none when SELFIES cannot write it.
    """
    labels = open_labels(mol)
    for count in range(min(len(labels), at_once), 0, -1):
        found: list[Layout] = []
        for filled in combinations(labels, count):
            closed = _without(mol, [label for label in labels if label not in filled])
            strings = dict.fromkeys(Chem.MolToRandomSmilesVect(closed, TRIES, randomSeed=seed + 1))
            found += _layouts(mol, closed, filter(_on_main_chain, strings), most - len(found))
        if found:
            return found
    return []


def _layouts(mol: Chem.Mol, closed: Chem.Mol, strings: Iterator[str], most: int) -> list[Layout]:
    found: list[Layout] = []
    seen: set[tuple[tuple[int, ...], tuple[str, ...]]] = set()
    for string in strings:
        if len(found) >= most:
            break
        items = _read(string)
        labels = tuple(item.label for item in items if isinstance(item, Gap))
        layout = Layout(tuple(map(tuple, _split_at_gaps(items))), labels, _left_over(mol, closed, string))
        key = (labels, tuple(layout.tokens()))
        if key not in seen and _is_proven(layout, closed):
            found.append(layout)
            seen.add(key)
    return found


def _split_at_gaps(items: Sequence[Item]) -> list[list[Item]]:
    parts: list[list[Item]] = [[]]
    for item in items:
        if isinstance(item, Gap):
            parts.append([])
        else:
            parts[-1].append(item)
    return parts


def _left_over(mol: Chem.Mol, closed: Chem.Mol, string: str) -> tuple[tuple[int, int], ...]:
    """Return the open positions of ``mol`` that are hydrogen in ``closed``, and their atoms in the order of ``string``.

    Any match serves: what two matches differ by is a symmetry of the molecule.
    """
    here = set(open_labels(closed))
    if len(here) == len(open_labels(mol)):
        return ()
    written = Chem.MolFromSmiles(string)
    atoms = [atom.GetIdx() for atom in written.GetAtoms() if atom.GetAtomicNum()]
    bare = Chem.RWMol(mol)
    for index in sorted((a.GetIdx() for a in bare.GetAtoms() if not a.GetAtomicNum() and a.GetIsotope() not in here),
                        reverse=True):  # fmt: skip
        bare.RemoveAtom(index)
    kept = [a.GetIdx() for a in mol.GetAtoms() if a.GetAtomicNum() or a.GetIsotope() in here]
    match = written.GetSubstructMatch(bare)
    place = {index: match[number] for number, index in enumerate(kept)}
    pairs = zip(open_labels(mol), open_atoms(mol), strict=True)
    return tuple((label, atoms.index(place[at])) for label, at in pairs if label not in here)


def _is_proven(layout: Layout, closed: Chem.Mol) -> bool:
    """Tell whether the layout with a rare atom at every open position is the scaffold with that atom there.

    With methyl a stereo centre that has another methyl would be none, and its order would go unproven.
    """
    capped = Chem.RWMol(closed)
    for atom in capped.GetAtoms():
        if atom.GetAtomicNum() == 0:
            atom.SetAtomicNum(ASTATINE)
            atom.SetIsotope(0)
    capped.UpdatePropertyCache()
    written = parse(decode(layout.tokens("[At]")))
    return written is not None and Chem.MolToSmiles(written) == Chem.CanonSmiles(Chem.MolToSmiles(capped))


def _shift(items: Sequence[Item], by: int) -> tuple[Item, ...]:
    """Count the atoms of ``items`` from ``by`` on."""
    return tuple(
        Ring(item.stem, item.left + by, item.right + by) if isinstance(item, Ring)
        else Branch(item.stem, _shift(item.items, by)) if isinstance(item, Branch) else item
        for item in items
    )  # fmt: skip


def lay_out_link(scaffold: Scaffold, seed: int, most: int = 16) -> list[Layout]:
    """Return layouts of two fragments to be linked: one up to its open position, a gap, the other from there on.

    Args:
        scaffold: of two fragments.
        seed: of the random orders.
        most: layouts wanted.
    """
    found: list[Layout] = []
    first, second = scaffold.fragments
    for begin, end in ((first, second), (second, first)):
        rooted = dict.fromkeys(Chem.MolToRandomSmilesVect(end, TRIES, randomSeed=seed + 1))
        rests = [_read(string)[1:] for string in rooted if re.match(r"\[\d\*\]", string)]
        for layout, rest in zip(lay_out(begin, seed, most), rests * most, strict=False):
            size = Chem.MolFromSmiles(Chem.MolToSmiles(begin)).GetNumAtoms() - 1
            whole = Layout((layout.parts[0], _shift(rest, size)), layout.labels)
            mol = parse(decode(whole.tokens()))
            if mol is not None and substituents(scaffold, mol) is not None:
                found.append(whole)
    return found
