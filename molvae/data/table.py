"""Read tables of molecules row by row: .csv, .tsv, .smi, .smiles, .sdf, each also .gz, .parquet, and standard input.

In: a file. Out: which column holds SMILES, and rows of cells; a row that does not fit the header, or a record that
cannot be read, says so itself.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import PurePath

from molvae.chem.rejected import Rejected
from molvae.chem.sdf import END, is_sdf
from molvae.chem.standardize import read
from molvae.data.delimited import DELIMITERS, SMILES_NAME, find_delimiter, parse_lines
from molvae.data.parquet import ParquetSource
from molvae.data.sdf import SdfRows
from molvae.data.textfile import TextFile, count_lines
from molvae.errors import InputError

HEAD = 1000
"""Rows read before the columns are judged."""

PARQUET, SDF = ".parquet", ".sdf"
SUFFIXES = (*DELIMITERS, SDF, PARQUET)
KNOWN = f"{', '.join((*DELIMITERS, SDF))}, each also .gz, and {PARQUET}"
"""The suffixes that can be read, for people."""

MISSING = frozenset({"", "na", "n/a", "nan", "none", "null", "-", "?"})
"""Cells, in lower case, that hold no number and do not claim to."""


def number(cell: str) -> float | None:
    """Return the finite number in a cell, NaN for a blank one, None for anything else (``>10``, ``1,000``, ``inf``).

    >>> number(" 1.5 "), number("NA"), number(">10")
    (1.5, nan, None)
    """
    text = cell.strip()
    if text.lower() in MISSING:
        return math.nan
    try:
        value = float(text) if "_" not in text else math.inf
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def suffix_of(path: str) -> str:
    """Return the suffix that tells the format of ``path``, "" for a name without one, standard input and pipes.

    Raises:
        InputError: when nothing is known that has this suffix.

    >>> suffix_of("a.SDF.gz"), suffix_of("-")
    ('.sdf', '')
    """
    suffix = PurePath(path.removesuffix(".gz")).suffix.lower()
    if path == "-" or path.startswith("/dev/fd/"):
        return ""
    if suffix and (suffix not in SUFFIXES or (suffix == PARQUET and path.endswith(".gz"))):
        raise InputError(f"{path} has the unknown suffix {suffix}.", f"Known: {KNOWN}.")
    return suffix


def count_rows(path: str) -> int | None:
    """Return about how many rows a table has (headers and blank lines count), None when it can be read only once.

    Raises:
        InputError: when the file cannot be read to its end.
    """
    suffix = suffix_of(path)
    if suffix == PARQUET:
        with closing(ParquetSource(path)) as parquet:
            return parquet.count
    if suffix != SDF or not os.path.isfile(path):
        return count_lines(path)
    with closing(TextFile(path)) as source:
        return sum(line.startswith(END) for line in source.lines())


class Table:
    """A table being read once, from front to back.

    Args:
        path: a file or ``-``; the suffix tells the format, and standard input may be SDF too.
        smiles_column: name (or number, from 1) of the column with SMILES; None finds it, and takes the structure of an
            SD file.

    Attributes:
        columns: names of the columns, made different where the file repeats one.
        smiles: index of the column with SMILES.
        header: whether the first row names the columns.
        head: the first rows, for judging columns.
        source: what is read; it knows the SHA-256 and the number of bytes read so far.

    Raises:
        InputError: when the file cannot be read, has no rows, or no column of SMILES can be told.
    """

    def __init__(self, path: str, smiles_column: str | None = None) -> None:
        names = self._open(path)
        self.name = self.source.name
        head = list(itertools.islice(self._records, HEAD + 1))
        full = [row for row in head if isinstance(row, list)]
        if not full:
            why = f"has no record that can be read; the first: {head[0]}" if self._sdf and head else "has no rows"
            raise InputError(f"{self.name} {why}.", "Give a file with at least one molecule.")
        self.header = names is not None or self._has_header(full, smiles_column)
        width = len(full[0]) if names is None else len(names)
        if names is None:
            names = full[0] if self.header else [f"column_{place + 1}" for place in range(width)]
            if self.header:
                head.remove(full[0])
        self.columns = _distinct(names)
        self.head = [row for row in head if isinstance(row, list) and len(row) == width]
        # The structure of an SD file is its first column.
        self.smiles = 0 if self._sdf and smiles_column is None else self._find(names, smiles_column, self.header)
        self._head = head

    def _open(self, path: str) -> list[str] | None:
        """Open the file as what its suffix says; return the names of the columns when the format has them."""
        suffix = suffix_of(path)
        self.source: TextFile | ParquetSource
        self._records: Iterator[list[str] | str]
        self._sdf: SdfRows | None = None
        self.delimiter = ","
        if suffix == PARQUET:
            self.source = parquet = ParquetSource(path)
            self._records = parquet.rows()
            return parquet.names
        self.source = TextFile(path)
        lines = self.source.lines()
        first_lines = list(itertools.islice(lines, 200))
        if suffix == SDF or (not suffix and is_sdf(first_lines)):
            self._sdf = SdfRows(itertools.chain(first_lines, lines), HEAD)
            self._records = self._sdf.rows()
            return self._sdf.names
        self.delimiter = find_delimiter(suffix, first_lines)
        self._records = parse_lines(itertools.chain(first_lines, lines), self.delimiter, self.source.name)
        return None

    @property
    def late(self) -> tuple[str, ...]:
        """Names of texts in an SD file that occur only after the first `HEAD` records, and are not read."""
        return () if self._sdf is None else tuple(self._sdf.late)

    def _has_header(self, rows: list[list[str]], smiles_column: str | None) -> bool:
        first = rows[0]
        if any(SMILES_NAME.fullmatch(cell.strip()) for cell in first):
            return True
        if not self.delimiter:
            return False
        if smiles_column is not None and not smiles_column.isdecimal():
            return True
        # The first row is a header unless it holds a molecule where the other rows do.
        best = _molecule_column(rows[1:] or rows)
        return best is None or best >= len(first) or isinstance(read(first[best]), Rejected)

    def _find(self, names: list[str], wanted: str | None, header: bool) -> int:
        """Return the index of the column with SMILES."""
        known = ", ".join(names) if header else f"the file has no header; its {len(names)} columns go by number"
        if wanted is not None:
            places = [place for place, name in enumerate(names) if name.strip().lower() == wanted.lower()]
            if len(places) == 1:
                return places[0]
            if len(places) > 1:
                raise InputError(f"{self.name} has {len(places)} columns named {wanted}.", "Give the column's number.")
            if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
                return int(wanted) - 1
            raise InputError(f"{self.name} has no column {wanted}.", f"Columns: {known}.")
        if len(names) == 1:
            return 0
        named = [place for place, name in enumerate(names) if header and SMILES_NAME.fullmatch(name.strip())]
        exact = [place for place in named if names[place].strip().lower() == "smiles"] or named
        if len(exact) == 1:
            return exact[0]
        found = _molecule_column([[row[place] for place in exact or range(len(row))] for row in self.head])
        if found is not None and len({names[place] for place in exact}) == len(exact):
            return exact[found] if exact else found
        if exact:
            raise InputError(
                f"{self.name} has several columns named {names[exact[0]]}.", "Give a number: --smiles-column 2."
            )
        raise InputError(f"{self.name} has no column that holds SMILES.", f"Name it with --smiles-column; {known}.")

    def rows(self) -> Iterator[list[str] | str]:
        """Yield cells, as many as there are columns, or a text saying what is wrong with the row."""
        width = len(self.columns)
        for row in itertools.chain(self._head, self._records):
            if isinstance(row, list) and len(row) > width and not any(cell.strip() for cell in row[width:]):
                row = row[:width]
            if isinstance(row, list) and len(row) != width:
                yield f"{len(row)} cells where the header has {width}"
            else:
                yield row

    def numeric_columns(self) -> list[str]:
        """Return the columns, other than the SMILES, of which nine in ten non-blank cells at the top are numbers."""
        chosen = []
        for place, name in enumerate(self.columns):
            values = [number(row[place]) for row in self.head]
            filled = [value for value in values if value is None or not math.isnan(value)]
            numbers = sum(value is not None for value in filled)
            # A column without a name is a row index that a table program wrote.
            if place != self.smiles and name and numbers and numbers >= 0.9 * len(filled):
                chosen.append(name)
        return chosen


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Number repeated names.

    >>> _distinct(["a", "b", "a"])
    ('a', 'b', 'a_2')
    """
    seen: dict[str, int] = {}
    result = []
    for name in (name.strip() for name in names):
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return tuple(result)


def _molecule_column(rows: Sequence[Sequence[str]]) -> int | None:
    """Return the column of which most of the first 100 cells are molecules, the longest SMILES on a tie."""
    best: tuple[float, float] = (0.5, 0.0)
    found = None
    sample = rows[:100]
    for place in range(min((len(row) for row in sample), default=0)):
        cells = [row[place] for row in sample]
        share = sum(not isinstance(read(cell), Rejected) for cell in cells) / len(cells)
        key = (share, sum(map(len, cells)) / len(cells))
        if key > best:
            best, found = key, place
    return found


def read_smiles(path: str | os.PathLike[str], smiles_column: str | None = None) -> list[str]:
    """Return the SMILES cells of a table as they stand, one per row; "" where the row does not fit the header.

    Args:
        path: a file that `Table` reads, or ``-``.
        smiles_column: its name or number; None finds it.

    Raises:
        InputError: as `Table` does, and when there is a header and nothing below it.
    """
    table = Table(os.fspath(path), smiles_column)
    cells = ["" if isinstance(row, str) else row[table.smiles] for row in table.rows()]
    table.source.close()
    if not cells:
        raise InputError(f"{table.name} has no rows.", "Give a file with at least one molecule.")
    return cells
