"""Turn a SMILES as people write it into the one canonical SMILES the package works with.

In: any string, and switches. Out: `Standardized` with a canonical SMILES that is a fixed point of RDKit, or `Rejected`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem.MolStandardize import rdMolStandardize

from molvae.chem.parallel import map_items
from molvae.chem.rejected import Rejected

# RDKit writes a line to stderr for every string it refuses; the reason is in `Rejected` instead.
rdBase.DisableLog("rdApp.*")

MAX_LENGTH = 1000
"""Characters RDKit is given at most: chains of 15,000 atoms overflow its stack and kill the process."""

_ASCII_SPACE = " \t\r\n\x0b\x0c"
_GRAPHIC = re.compile("[!-~]+")
_SIMPLE = re.compile(r"(?:[A-Za-z0-9()\]=#+\-.%]++|\[[bcnopsBCFINOPS])++")
"""SMILES without stereochemistry, isotopes, atom maps, wildcards, and without hydrogen written as an atom."""
_CHIRAL = re.compile("@@?")
_UP_DOWN = (Chem.BondDir.ENDUPRIGHT, Chem.BondDir.ENDDOWNRIGHT)


@dataclass(frozen=True, slots=True)
class StandardizeOptions:
    """What may be changed beyond writing the same molecule canonically; by default nothing.

    Args:
        largest_fragment: keep only the fragment with most heavy atoms (drops salts and solvents).
        neutralise: remove charges by adding or removing hydrogen where that is possible.
        stereo: keep stereochemistry; False removes it everywhere.
        max_length: longest string handed to RDKit, in characters.
    """

    largest_fragment: bool = False
    neutralise: bool = False
    stereo: bool = True
    max_length: int = MAX_LENGTH


DEFAULT = StandardizeOptions()


@dataclass(frozen=True, slots=True)
class Standardized:
    """A molecule in canonical form.

    Args:
        smiles: RDKit-canonical isomeric SMILES; reading and writing it again changes nothing.
        changed: whether it differs from the string that was given.
        stereo_lost: whether the given string names stereochemistry that is no longer there.
        notes: what was done beyond canonical writing, for people.
    """

    smiles: str
    changed: bool
    stereo_lost: bool
    notes: tuple[str, ...] = ()


def screen(smiles: str, max_length: int = MAX_LENGTH) -> str | Rejected:
    """Return the string without surrounding white space, or why it must not reach RDKit.

    >>> screen(" CCO ")
    'CCO'
    >>> screen("CCO ethanol").reason
    'whitespace'
    """
    if len(smiles) <= max_length and _GRAPHIC.fullmatch(smiles):
        return smiles
    text = smiles.strip(_ASCII_SPACE)
    if not text:
        return Rejected(smiles, "empty")
    if len(text) > max_length:
        return Rejected(smiles, "too-large", f"{len(text)} characters, at most {max_length} are read")
    if any(space in text for space in _ASCII_SPACE):
        return Rejected(smiles, "whitespace", "a cell must hold one SMILES and nothing else")
    if not (text.isascii() and text.isprintable()):
        odd = next(char for char in text if not (char.isascii() and char.isprintable()))
        return Rejected(smiles, "charset", f"character U+{ord(odd):04X}")
    return text


def parse(text: str, *, sanitize: bool = True) -> Chem.Mol | None:
    """Call RDKit's SMILES reader; None when it refuses. For strings that passed `screen` or that RDKit wrote."""
    mol: Chem.Mol | None = Chem.MolFromSmiles(text, sanitize=sanitize)
    return mol


def read(smiles: str, max_length: int = MAX_LENGTH) -> Chem.Mol | Rejected:
    """Parse and sanitise one SMILES after `screen`; the only door through which strings from outside reach RDKit."""
    text = screen(smiles, max_length)
    if isinstance(text, Rejected):
        return text
    mol = parse(text)
    if mol is not None:
        return mol if mol.GetNumAtoms() else Rejected(smiles, "empty", "no atoms")
    raw = parse(text, sanitize=False)
    if raw is None:
        return Rejected(smiles, "parse")
    problems = Chem.DetectChemistryProblems(raw)
    return Rejected(smiles, "sanitize", problems[0].Message() if problems else "")


@lru_cache(maxsize=1)
def _as_written() -> Chem.SmilesParserParams:
    params = Chem.SmilesParserParams()
    params.sanitize = False
    params.removeHs = False
    return params


def _rewrite(simple: str) -> str | None:
    """Write a string that is `_SIMPLE` canonically; None when RDKit refuses it.

    `Chem.MolFromSmiles` would also look for hydrogen atoms to remove and for stereochemistry that could be named; here
    there is none of either, so that a sixth of the time is saved and the result is the same.
    """
    mol = Chem.MolFromSmiles(simple, _as_written())
    if mol is None or Chem.SanitizeMol(mol, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        return None
    return str(Chem.MolToSmiles(mol))


def _standardize_simple(smiles: str, options: StandardizeOptions) -> Standardized | None:
    """Do `standardize` for the usual string, which needs no more than being written canonically; None for others."""
    if len(smiles) > options.max_length or not _SIMPLE.fullmatch(smiles):
        return None
    if options.largest_fragment and "." in smiles:
        return None
    canonical = _rewrite(smiles)
    # RDKit writes charges of its own into some molecules, such as O=I(=O)O.
    if options.neutralise and canonical and "[" in smiles + canonical:
        return None
    if canonical == smiles:
        return Standardized(smiles, False, False)
    if not canonical or not _SIMPLE.fullmatch(canonical) or _rewrite(canonical) != canonical:
        return None
    return Standardized(canonical, True, False)


@lru_cache(maxsize=1)
def _tools() -> tuple[Any, Any]:
    return rdMolStandardize.LargestFragmentChooser(), rdMolStandardize.Uncharger()


def _apply(mol: Chem.Mol, text: str, options: StandardizeOptions, notes: list[str]) -> Chem.Mol:
    """Carry out the switches; atom maps always go, because SELFIES has no place for them."""
    if ":" in text and any(atom.HasProp("molAtomMapNumber") for atom in mol.GetAtoms()):
        for atom in mol.GetAtoms():
            atom.SetAtomMapNum(0)
        notes.append("atom maps removed")
    if options.largest_fragment and "." in text and len(Chem.GetMolFrags(mol)) > 1:
        mol = _tools()[0].choose(mol)
        notes.append("largest fragment kept")
    if options.neutralise and any(atom.GetFormalCharge() for atom in mol.GetAtoms()):
        mol = _tools()[1].uncharge(mol)
        notes.append("neutralised")
    if not options.stereo and ("@" in text or "/" in text or "\\" in text):
        Chem.RemoveStereochemistry(mol)
        notes.append("stereo removed")
    return mol


def _stereo_count(smiles: str) -> int:
    """Count the stereo centres and stereo double bonds that a SMILES names, before RDKit judges them."""
    count = len(_CHIRAL.findall(smiles))
    if "/" not in smiles and "\\" not in smiles:
        return count
    raw = parse(smiles, sanitize=False)
    for bond in raw.GetBonds() if raw is not None else ():
        if bond.GetBondType() == Chem.BondType.DOUBLE:
            ends = (bond.GetBeginAtom(), bond.GetEndAtom())
            count += all(any(b.GetBondDir() in _UP_DOWN for b in end.GetBonds()) for end in ends)
    return count


def _fixed_point(smiles: str, canonical: str, mol: Chem.Mol) -> Rejected | None:
    """Refuse a molecule whose canonical form changes when read again; RDKit has a few (cages, odd stereo)."""
    again = parse(canonical)
    if again is None:
        return Rejected(smiles, "sanitize", f"RDKit writes {canonical} and cannot read it back")
    if Chem.MolToSmiles(again) == canonical:
        return None
    if any(bond.GetBondType() == Chem.BondType.DATIVE for bond in mol.GetBonds()):
        return Rejected(smiles, "unsupported-selfies", "dative bond")
    return Rejected(smiles, "roundtrip", "RDKit's canonical form changes when read again")


def _stray_aromatic(text: str, canonical: str) -> bool:
    """Say whether RDKit quietly turned an aromatic bond to an atom that is not aromatic into another bond."""
    if ":" not in text or ":" in canonical:
        return False
    raw = parse(text, sanitize=False)
    return raw is not None and any(
        bond.GetBondType() == Chem.BondType.AROMATIC
        and not (bond.GetBeginAtom().GetIsAromatic() and bond.GetEndAtom().GetIsAromatic())
        for bond in raw.GetBonds()
    )


def standardize_mol(smiles: str, options: StandardizeOptions = DEFAULT) -> tuple[Standardized, Chem.Mol] | Rejected:
    """Do `standardize` and hand on the molecule too, so that nobody needs to parse it again."""
    mol = read(smiles, options.max_length)
    if isinstance(mol, Rejected):
        return mol
    text = smiles.strip(_ASCII_SPACE)
    notes = ["white space removed"] if len(text) != len(smiles) else []
    before = len(notes)
    mol = _apply(mol, text, options, notes)
    canonical = Chem.MolToSmiles(mol)
    if not canonical:
        return Rejected(smiles, "empty", "no atoms left")
    if canonical != text:
        # A string that came back as it went in has just proved to be a fixed point.
        refused = _fixed_point(smiles, canonical, mol)
        if refused is not None:
            return refused
        if _stray_aromatic(text, canonical):
            return Rejected(smiles, "unsupported-selfies", "an aromatic bond to an atom that is not aromatic")
    if len(notes) > before:
        mol = Chem.MolFromSmiles(canonical)
    named = "@" in text or "/" in text or "\\" in text
    lost = named and canonical != text and _stereo_count(canonical) < _stereo_count(text)
    return Standardized(canonical, canonical != smiles, lost, tuple(notes)), mol


def standardize(smiles: str, options: StandardizeOptions = DEFAULT) -> Standardized | Rejected:
    """Return the canonical form of one SMILES, or why there is none.

    Stereo, charges, isotopes and salts are kept unless ``options`` says otherwise; atom maps are removed and noted;
    explicit hydrogens become implicit. White space around the string is dropped, white space inside is refused.

    >>> standardize("OCC").smiles
    'CCO'
    >>> standardize("[CH3:1]O").notes
    ('atom maps removed',)
    >>> standardize("C(").reason
    'parse'
    """
    simple = _standardize_simple(smiles, options)
    if simple is not None:
        return simple
    result = standardize_mol(smiles, options)
    return result if isinstance(result, Rejected) else result[0]


def standardize_many(
    smiles: Sequence[str], options: StandardizeOptions = DEFAULT, workers: int | None = None
) -> list[Standardized | Rejected]:
    """Standardise a list on all cores: one result per input, in order (see `standardize`)."""
    return map_items(_Job(options), smiles, workers)


@dataclass(frozen=True, slots=True)
class _Job:
    """`standardize` with its options, in a form that travels to a worker process."""

    options: StandardizeOptions

    def __call__(self, smiles: str) -> Standardized | Rejected:
        return standardize(smiles, self.options)
