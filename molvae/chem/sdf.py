"""Read and write the records of SD files: one molecule each, with named texts.

In: lines of text, or SMILES. Out: `Record`s and canonical SMILES, or molfiles with a drawing in two dimensions.

Stereochemistry, charges, isotopes, radicals and salts are kept in both directions; explicit hydrogens become implicit.
Coordinates are used to tell stereochemistry and then forgotten; what is written is a new drawing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from rdkit import Chem
from rdkit.Chem import rdDepictor

from molvae.chem.rejected import Rejected
from molvae.chem.standardize import parse, read

MAX_RECORD = 1 << 20
"""Characters in a record; a longer one is skipped, not held in memory."""
MAX_ATOMS = 1000
"""Atoms in a record, hydrogens included; far longer chains overflow RDKit's stack."""

END = "$$$$"
_FIELD = re.compile(r">[^<]*<(.*)>[^>]*")
_UNSAFE = re.compile(r"[<>\s]+")
_COUNTS = re.compile(r"^M  V30 COUNTS +(\d+)", re.MULTILINE)
_EMPTY = "\n     molvae\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n"


@dataclass(frozen=True, slots=True)
class Record:
    """One record of an SD file.

    Args:
        block: its molfile, up to and with ``M  END``.
        fields: its named texts, in order; of two with one name the last, as RDKit does.
        problem: why it cannot be taken apart, "" when it can.
    """

    block: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    problem: str = ""


def is_sdf(lines: list[str]) -> bool:
    """Say whether the first lines of a file are those of an SD file.

    >>> is_sdf(["", "  editor", "", "  3  2  0  0  0  0  0  0  0  0999 V2000"]), is_sdf(["CCO", "CC"])
    (True, False)
    """
    return len(lines) > 3 and lines[3].rstrip().endswith(("V2000", "V3000"))


def split_records(lines: Iterable[str]) -> Iterator[Record]:
    """Take an SD file apart, one record at a time; white space after the last record is none.

    >>> [one.fields for one in split_records(["", "", "", "", "M  END", "> <id>", "7", "", "$$$$"])]
    [{'id': '7'}]
    """
    held: list[str] = []
    size = 0
    for line in lines:
        text = line.rstrip("\r\n")
        if text.rstrip() == END:
            yield _record(held, size, closed=True)
            held, size = [], 0
            continue
        size += len(text) + 1
        if size <= MAX_RECORD:
            held.append(text)
    if any(text.strip() for text in held):
        yield _record(held, size, closed=False)


def _record(lines: list[str], size: int, *, closed: bool) -> Record:
    if size > MAX_RECORD:
        return Record(problem=f"a record of more than {MAX_RECORD:,} characters")
    end = next((place for place, line in enumerate(lines) if line.rstrip() == "M  END"), None)
    if end is None:
        return Record(problem="a record without M  END" + ("" if closed else ": the file is cut off"))
    fields: dict[str, str] = {}
    name, values = "", list[str]()
    for line in [*lines[end + 1 :], ""]:
        if line.startswith(">") and not name:
            found = _FIELD.fullmatch(line.rstrip())
            name = (found.group(1) if found else line.strip("> \t")).strip()
        elif line.strip():
            values.append(line)
        else:
            if name:
                fields[name] = "\n".join(values)
            name, values = "", []
    return Record("\n".join([*lines[: end + 1], ""]), fields)


def molblock_smiles(block: str) -> str | Rejected:
    """Return the canonical SMILES of a molfile, V2000 or V3000; "" for a structure without atoms.

    Args:
        block: the lines of the molfile. Wedges, or coordinates in three dimensions, tell the stereochemistry; groups of
            relative stereochemistry (AND, OR) are read as drawn.

    Returns:
        The SMILES, or why there is none. The ``smiles`` of a structure that RDKit can read and not sanitise is what it
        looks like, and no reader of SMILES takes it either; otherwise it is "".
    """
    counts = _COUNTS.search(block) if "V30 COUNTS" in block else None
    if counts and int(counts.group(1)) > MAX_ATOMS:
        return Rejected("", "too-large", f"{counts.group(1)} atoms, at most {MAX_ATOMS} are read")
    mol: Chem.Mol | None = Chem.MolFromMolBlock(block)
    if mol is None:
        return _refusal(block)
    if mol.HasQuery():
        return Rejected("", "parse", "a query, not a molecule: it has atoms or bonds that stand for several")
    return str(Chem.MolToSmiles(mol))


def _refusal(block: str) -> Rejected:
    """Say why RDKit takes no molecule from ``block``."""
    raw: Chem.Mol | None = Chem.MolFromMolBlock(block, sanitize=False)
    if raw is None:
        return Rejected("", "parse", _fault(block.split("\n")))
    problems = Chem.DetectChemistryProblems(raw)
    detail = problems[0].Message() if problems else "RDKit cannot sanitise it"
    raw.UpdatePropertyCache(strict=False)
    smiles = Chem.MolToSmiles(raw)
    return Rejected(smiles if isinstance(read(smiles), Rejected) else "", "sanitize", detail)


def _fault(lines: list[str]) -> str:
    """Return what is wrong with a molfile, as far as that can be told by looking at it.

    >>> _fault(["", "", "", "  x  2  0  0  0  0  0  0  0  0999 V2000"])
    'its counts line is not readable: x  2  0  0  0  0  0  0  0  0999 V2000'
    """
    counts = lines[3] if len(lines) > 3 else ""
    if counts.rstrip().endswith("V3000"):
        return "RDKit cannot read its V3000 structure"
    atoms, bonds = counts[:3].strip(), counts[3:6].strip()
    if not (atoms.isdecimal() and bonds.isdecimal()):
        return f"its counts line is not readable: {counts.strip()[:60]}"
    body = [line for line in lines[4:] if line[:2] != "M "]
    if len(body) < int(atoms) + int(bonds):
        return f"its counts line names {atoms} atoms and {bonds} bonds, and fewer lines follow"
    return "RDKit cannot read its atoms and bonds"


@dataclass(frozen=True, slots=True)
class Drawing:
    """A molfile.

    Args:
        block: V2000, or V3000 where that is too small.
        exact: whether it reads back as the very same molecule; not so for the stereochemistry of octahedral metals,
            of sulphur in rings of some cages and the like, for which molfiles have no sign.
    """

    block: str
    exact: bool


def draw_molblock(smiles: str) -> Drawing:
    """Draw a molecule in two dimensions; a structure without atoms for what is no molecule, such as "".

    >>> drawing = draw_molblock("C[C@H](N)C(=O)[O-]")
    >>> drawing.exact, molblock_smiles(drawing.block)
    (True, 'C[C@H](N)C(=O)[O-]')
    """
    mol = parse(smiles) if smiles else None
    if mol is None:
        return Drawing(_EMPTY, not smiles)
    rdDepictor.Compute2DCoords(mol)
    block = str(Chem.MolToMolBlock(mol))
    return Drawing(block, molblock_smiles(block) == Chem.MolToSmiles(mol))


def format_record(block: str, fields: Iterable[tuple[str, str]]) -> str:
    """Return a record: the molfile, named texts, and the line that ends it.

    Args:
        block: a molfile that ends in a line feed.
        fields: names and texts; line feeds and what would end a name or a record become blanks.

    >>> print(format_record("M  END\\n", [("a>b", "1\\n2")]).replace("\\n", "|"))
    M  END|>  <a b>|1 2||$$$$|
    """
    texts = [f">  <{_UNSAFE.sub(' ', name)}>\n{' '.join(text.split())}\n\n" for name, text in fields]
    return "".join([block, *texts, f"{END}\n"])
