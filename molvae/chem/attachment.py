"""Read scaffolds, SMILES whose open positions are written [*], and find them again in finished molecules.

In: a scaffold such as ``O=C(Nc1ccccc1)[*]``, or two fragments to be linked. Out: `Scaffold`; the substituents of a
molecule that holds it. Stereo and charges of the scaffold are kept; isotopes on [*] and atom maps number nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from rdkit import Chem

from molvae.chem.rejected import REASONS, Rejected
from molvae.chem.standardize import read
from molvae.errors import InputError

MOST_OPEN = 3
"""Open positions that a scaffold may have."""
_REMEDY = 'Write a SMILES with one to three [*], such as "O=C(Nc1ccccc1)[*]".'


@dataclass(frozen=True)
class Scaffold:
    """What every molecule must hold.

    Attributes:
        smiles: as it was given.
        mol: with a dummy atom at every open position, whose isotope 1, 2, 3 is its number in the order written.
        linking: whether these are two fragments to be joined.
    """

    smiles: str
    mol: Chem.Mol
    linking: bool = False

    @property
    def size(self) -> int:
        """K, the number of open positions."""
        return len(open_labels(self.mol))

    @property
    def names(self) -> tuple[str, ...]:
        """What the parts that were generated are called: R1 to R3, or linker."""
        return ("linker",) if self.linking else tuple(f"R{label}" for label in range(1, self.size + 1))

    @property
    def fragments(self) -> list[Chem.Mol]:
        """The scaffold, or the two fragments with open position 1 and 2."""
        parts = list(Chem.GetMolFrags(self.mol, asMols=True))
        return sorted(parts, key=lambda part: min(open_labels(part)))

    @cached_property
    def query(self) -> Chem.Mol:
        """The scaffold as a query: every atom has as many neighbours as it may have, no more and no less."""
        rules = Chem.AdjustQueryParameters()
        rules.adjustDegree, rules.adjustDegreeFlags = True, Chem.ADJUST_IGNOREDUMMIES
        rules.adjustRingCount = rules.aromatizeIfPossible = False
        rules.makeDummiesQueries = True
        plain = Chem.RWMol(self.mol)
        for atom in _dummies(plain):
            atom.SetIsotope(0)
        query = Chem.RWMol(Chem.AdjustQueryProperties(plain, rules))
        if self.linking:
            # A linker of one atom stands for both dummies, which no match allows.
            for index in sorted((atom.GetIdx() for atom in _dummies(plain)), reverse=True):
                query.RemoveAtom(index)
        return query.GetMol()


def _dummies(mol: Chem.Mol) -> list[Chem.Atom]:
    return [atom for atom in mol.GetAtoms() if atom.GetAtomicNum() == 0]


def open_labels(mol: Chem.Mol) -> list[int]:
    """Return the numbers of the open positions of ``mol``, in the order of its atoms."""
    return [atom.GetIsotope() for atom in _dummies(mol)]


def open_atoms(mol: Chem.Mol) -> list[int]:
    """Return the atom that each open position sits on, in the order of `open_labels`."""
    return [atom.GetNeighbors()[0].GetIdx() for atom in _dummies(mol)]


def read_scaffold(smiles: str) -> Scaffold:
    """Read a scaffold with one to three open positions, or two fragments with one each.

    Raises:
        InputError: says what is wrong: no molecule, no open position or too many, [*] where nothing can be attached.

    >>> read_scaffold("c1ccccc1[*]").names, read_scaffold("[*]CC.[*]N").names
    (('R1',), ('linker',))
    """
    mol = read(smiles)
    if isinstance(mol, Rejected):
        why = f"{REASONS[mol.reason]}{': ' if mol.detail else ''}{mol.detail}".rstrip(".")
        full = "valence" in mol.detail.lower()
        raise InputError(
            f"The scaffold {smiles!r} cannot be read: {why}.",
            "An atom with [*] needs a free valence for it; move the [*]." if full else _REMEDY,
        )
    labelled = _label(mol)
    parts = Chem.GetMolFrags(labelled, asMols=True)
    counts = [len(open_labels(part)) for part in parts]
    _check_counts(smiles, counts)
    for atom in _dummies(labelled):
        bonds = atom.GetBonds()
        if len(bonds) != 1 or bonds[0].GetBondType() != Chem.BondType.SINGLE:
            raise InputError(
                f"An open position of {smiles!r} is not at the end of one single bond.",
                "Give every [*] one neighbour and a single bond.",
            )
        if atom.GetNeighbors()[0].GetAtomicNum() == 0:
            raise InputError(f"An open position of {smiles!r} sits on no atom.", _REMEDY)
    return Scaffold(smiles, labelled, linking=len(parts) == 2)


def _label(mol: Chem.Mol) -> Chem.Mol:
    labelled = Chem.Mol(mol)
    for atom in labelled.GetAtoms():
        atom.SetAtomMapNum(0)
    for label, atom in enumerate(_dummies(labelled), start=1):
        atom.SetIsotope(label)
    return labelled


def _check_counts(smiles: str, counts: Sequence[int]) -> None:
    """Refuse scaffolds with another number of fragments or open positions than can be written."""
    if len(counts) > 2 or (len(counts) == 2 and list(counts) != [1, 1]):
        raise InputError(
            f"{smiles!r} has {len(counts)} fragments with {', '.join(map(str, counts))} open positions.",
            'Two fragments with one [*] each are linked: "[*]c1ccccc1.[*]N1CCOCC1".',
        )
    if not 1 <= sum(counts) <= MOST_OPEN:
        raise InputError(f"{smiles!r} has {sum(counts)} open positions; 1 to {MOST_OPEN} can be filled.", _REMEDY)


def substituents(scaffold: Scaffold, mol: Chem.Mol) -> tuple[str, ...] | None:
    """Return what sits at the open positions of a molecule; None when it does not hold the scaffold just so.

    The scaffold must be there with all its bonds, no atom of it may have a neighbour too many, and what sits at
    different open positions must not hang together.

    Args:
        scaffold: what must be kept.
        mol: sanitised.

    Returns:
        K SMILES with [*] at the bond to the scaffold; one with [1*] and [2*] where fragments are linked.

    >>> benzene = read_scaffold("[*]c1ccccc1")
    >>> substituents(benzene, Chem.MolFromSmiles("c1ccccc1CO")), substituents(benzene, Chem.MolFromSmiles("Cc1ccccc1C"))
    (('[*]CO',), None)
    """
    return next((parts for _, parts in matches(scaffold, mol)), None)


def find_scaffold(scaffold: Scaffold, mol: Chem.Mol) -> tuple[int, ...]:
    """Return the atoms of a molecule that are the scaffold, none when it does not hold it.

    >>> find_scaffold(read_scaffold("[*]c1ccccc1"), Chem.MolFromSmiles("Cc1ccccc1"))
    (1, 2, 3, 4, 5, 6)
    """
    return next((tuple(sorted(core.values())) for core, _ in matches(scaffold, mol)), ())


def matches(scaffold: Scaffold, mol: Chem.Mol) -> Iterator[tuple[dict[int, int], tuple[str, ...]]]:
    """Yield each way in which the scaffold lies in ``mol``: the place of its atoms, and what is outside by number."""
    pieces = 1 if scaffold.linking else scaffold.size
    for match in mol.GetSubstructMatches(scaffold.query, useChirality=True, uniquify=False, maxMatches=64):
        core = _core(scaffold, match)
        outside = _cut(scaffold, mol, core)
        if len(outside) == pieces:
            yield core, tuple(outside)


def _core(scaffold: Scaffold, match: Sequence[int]) -> dict[int, int]:
    """Return which atom of the molecule is which of the scaffold, dummies left out."""
    own = [atom.GetIdx() for atom in scaffold.mol.GetAtoms() if atom.GetAtomicNum()]
    if scaffold.linking:
        return dict(zip(own, match, strict=True))
    return {index: match[index] for index in own}


def _cut(scaffold: Scaffold, mol: Chem.Mol, core: dict[int, int]) -> list[str]:
    """Cut at the open positions; return the pieces outside the scaffold by number, none when they hang together."""
    inside, bonds, labels = set(core.values()), [], []
    for label, at in sorted(zip(open_labels(scaffold.mol), open_atoms(scaffold.mol), strict=True)):
        for bond in mol.GetAtomWithIdx(core[at]).GetBonds():
            if bond.GetOtherAtomIdx(core[at]) not in inside and bond.GetIdx() not in bonds:
                bonds.append(bond.GetIdx())
                labels.append(label)
                break
    if len(bonds) != scaffold.size:
        return []
    cut = Chem.FragmentOnBonds(mol, bonds, dummyLabels=[(label, label) for label in labels])
    pieces: list[tuple[list[int], str]] = []
    for atoms in Chem.GetMolFrags(cut):
        if inside.isdisjoint(atoms):
            held = sorted(atom.GetIsotope() for atom in map(cut.GetAtomWithIdx, atoms) if not atom.GetAtomicNum())
            pieces.append((held, Chem.MolFragmentToSmiles(cut, atoms)))
    if sorted(label for held, _ in pieces for label in held) != sorted(labels):
        return []
    if scaffold.linking:
        return [text for _, text in pieces]
    if any(len(held) > 1 for held, _ in pieces):
        return []
    return [text.replace(f"[{held[0]}*]", "[*]") for held, text in sorted(pieces)]
