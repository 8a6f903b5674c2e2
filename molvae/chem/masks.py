"""Read molecules with missing pieces: SMILES in which ``{?}``, ``{3}`` or ``{2..5}`` stands for what is not there.

In: such a SMILES. Out: `Masked`, the part that is given as a scaffold and how many heavy atoms each piece may have.

A mask is written where an atom would be: at an end, ``c1ccccc1{?}``, a piece that hangs on one single bond; in the
middle, ``c1ccccc1{3}C(=O)N``, a piece between two. ``{1}`` is one atom, which may also sit in a ring, join three parts
or have a double bond: ``c1cc{1}cc1``, ``CC(={1})N``. Numbers count heavy atoms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rdkit import Chem

from molvae.chem.attachment import MOST_OPEN, Scaffold, matches, read_scaffold
from molvae.chem.rejected import REASONS, Rejected
from molvae.chem.standardize import read
from molvae.errors import InputError

LARGEST = 60
"""Heavy atoms that a piece may have."""
EXAMPLE = 'Write {?}, {3} or {2..5} where a piece is missing, such as "c1ccccc1{?}C(=O)N".'
_MASK = re.compile(r"\{([^{}]*)\}")
_CONTENT = re.compile(r"(?P<any>\?)|(?P<low>\d+)(?:\.\.(?P<high>\d+))?")


@dataclass(frozen=True)
class Size:
    """How many heavy atoms a piece may have: ``low`` to ``high``, both included; None is as many as the model likes."""

    low: int = 1
    high: int | None = None

    def __contains__(self, count: int) -> bool:
        return self.low <= count and (self.high is None or count <= self.high)


@dataclass(frozen=True)
class Masked:
    """A molecule with missing pieces.

    Attributes:
        text: as it was given.
        sizes: of each piece, in the order written.
        scaffold: what is given, open where a piece is missing; None where one atom is.
        atoms: heavy atoms that are given.
    """

    text: str
    sizes: tuple[Size, ...]
    scaffold: Scaffold | None
    atoms: int

    def filled(self, texts: Sequence[str]) -> Iterator[str]:
        """Yield the molecule, as it was given, with each of ``texts`` in the place of its one mask."""
        before, _, rest = self.text.partition("{")
        after = rest.partition("}")[2]
        for text in texts:
            yield before + text + after

    def pieces(self, mol: Chem.Mol) -> tuple[str, ...] | None:
        """Return the pieces that complete this to ``mol``, in the order written; None when it is no completion.

        A completion has all that is given, with no atom or bond more there, and pieces of the sizes asked for.

        >>> read_masked("c1ccccc1{2}").pieces(Chem.MolFromSmiles("CCc1ccccc1"))
        ('[*]CC',)
        >>> read_masked("c1ccccc1{1..2}").pieces(Chem.MolFromSmiles("CCCc1ccccc1")) is None
        True
        """
        if self.scaffold is None:
            return None
        for _, parts in matches(self.scaffold, mol):
            if all(heavy_atoms(part) in size for part, size in zip(parts, self.sizes, strict=True)):
                return parts
        return None


def heavy_atoms(piece: str) -> int:
    """Return how many heavy atoms a piece has, its open ends not among them.

    >>> heavy_atoms("[1*]CC([2*])=O")
    3
    """
    mol = Chem.MolFromSmiles(piece)
    return 0 if mol is None else int(mol.GetNumHeavyAtoms())


def is_masked(text: str) -> bool:
    """Tell whether a text is meant to have missing pieces: no SMILES has braces."""
    return "{" in text or "}" in text


def read_masked(text: str) -> Masked:
    """Read a molecule with one to three missing pieces.

    Raises:
        InputError: says what is wrong: a mask that says nothing, none at all, too many, no molecule around them, a
            piece that would have to be in a ring or between three parts.

    >>> read_masked("c1ccccc1{3}C(=O)N").sizes, read_masked("C{?}").sizes
    ((Size(low=3, high=3),), (Size(low=1, high=None),))
    """
    contents = _MASK.findall(text)
    if is_masked(_MASK.sub("", text)):
        raise InputError(f"{text!r} has a brace without its partner.", EXAMPLE)
    if "*" in text:
        raise InputError(f"{text!r} has a * beside its missing pieces.", EXAMPLE)
    if not 1 <= len(contents) <= MOST_OPEN:
        raise InputError(f"{text!r} has {len(contents)} missing pieces; 1 to {MOST_OPEN} can be filled in.", EXAMPLE)
    sizes = tuple(_read_size(content, text) for content in contents)
    mol = read(_MASK.sub("[*]", text))
    if isinstance(mol, Rejected):
        detail = f": {mol.detail}" if mol.detail else ""
        why = f"{REASONS[mol.reason]}{detail}".rstrip(".")
        raise InputError(f"What is given of {text!r} cannot be read: {why}.", EXAMPLE)
    given = mol.GetNumAtoms() - len(sizes)
    if len(Chem.GetMolFrags(mol)) > 1:
        raise InputError(f"{text!r} is more than one molecule.", "Write a mask in place of the dot.")
    if given == 0:
        raise InputError(f"Nothing of {text!r} is given.", "molvae sample writes whole molecules.")
    if sizes == (Size(1, 1),):
        return Masked(text, sizes, None, given)
    return Masked(text, sizes, _open(mol, text), given)


def _read_size(content: str, text: str) -> Size:
    found = _CONTENT.fullmatch(content.strip())
    if found is None:
        raise InputError(f"{{{content}}} in {text!r} is no missing piece.", EXAMPLE)
    if found["any"]:
        return Size()
    low = int(found["low"])
    high = int(found["high"] or low)
    if not 1 <= low <= high <= LARGEST:
        raise InputError(
            f"{{{content}}} in {text!r} is no number of heavy atoms.", f"Write 1 to {LARGEST}, the smaller one first."
        )
    return Size(low, high)


def _open(mol: Chem.Mol, text: str) -> Scaffold:
    """Return what is given as a scaffold: open at the masks, or two fragments to be linked."""
    places = [atom for atom in mol.GetAtoms() if atom.GetAtomicNum() == 0]
    for atom in places:
        bonds = atom.GetBonds()
        if any(end.GetAtomicNum() == 0 for end in atom.GetNeighbors()):
            raise InputError(f"Two missing pieces of {text!r} stand side by side.", "Make one piece of them.")
        if any(bond.GetBondType() != Chem.BondType.SINGLE for bond in bonds):
            raise InputError(
                f"A missing piece of {text!r} has another bond than a single one.",
                "Only one atom, {1}, may have one; else leave the atom before it out too.",
            )
        if atom.IsInRing():
            raise InputError(
                f"A missing piece of {text!r} is in a ring.",
                "Only one atom, {1}, may be; else leave the whole ring out.",
            )
        if len(bonds) > 2 or (len(bonds) == 2 and len(places) > 1):
            raise InputError(
                f"A missing piece of {text!r} joins too much: one may stand between two parts, or one to {MOST_OPEN} "
                "at ends.", "Fill one piece in after the other, or leave more out.",
            )  # fmt: skip
    if len(places) == 1 and places[0].GetDegree() == 2:
        return read_scaffold(_fragments(mol, places[0]))
    return read_scaffold(_MASK.sub("[*]", text))


def _fragments(mol: Chem.Mol, place: Chem.Atom) -> str:
    """Return the two parts that ``place`` joins, with [*] where it was."""
    bonds = [bond.GetIdx() for bond in place.GetBonds()]
    cut = Chem.FragmentOnBonds(mol, bonds, dummyLabels=[(0, 0)] * len(bonds))
    parts = [atoms for atoms in Chem.GetMolFrags(cut) if place.GetIdx() not in atoms]
    return ".".join(Chem.MolFragmentToSmiles(cut, atoms) for atoms in parts)
