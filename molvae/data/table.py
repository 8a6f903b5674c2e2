"""Read tables of molecules row by row: .csv, .tsv, .smi, .smiles, each also .gz, and standard input.

In: a file. Out: which column holds SMILES, and rows of cells; a row that does not fit the header says so itself.
"""

from __future__ import annotations

import csv
import itertools
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath

from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read
from molvae.data.textfile import MAX_LINE, TextFile
from molvae.errors import InputError

HEAD = 1000
"""Rows read before the columns are judged."""
MAX_SPAN = 20
"""Lines one quoted cell may run over; a quote that is never closed would swallow the file."""

SUFFIXES = {".csv": ",", ".tsv": "\t", ".smi": "", ".smiles": ""}
_DELIMITERS = (",", "\t", ";", "|")
_SMILES_NAME = re.compile(r"(.*[ _-])?(smiles?|smi|structures?)([ _-].*)?|.*smiles", re.IGNORECASE)
_MISSING = frozenset({"", "na", "n/a", "nan", "none", "null", "-", "?"})

csv.field_size_limit(MAX_LINE)


def number(cell: str) -> float | None:
    """Return the finite number in a cell, NaN for a blank one, None for anything else (``>10``, ``1,000``, ``inf``).

    >>> number(" 1.5 "), number("NA"), number(">10")
    (1.5, nan, None)
    """
    text = cell.strip()
    if text.lower() in _MISSING:
        return math.nan
    try:
        value = float(text) if "_" not in text else math.inf
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _delimiter(suffix: str, lines: Sequence[str]) -> str:
    """Return the delimiter; "" for a list of SMILES, each perhaps followed by a name."""
    if not lines:
        return SUFFIXES.get(suffix, "")
    first = lines[0].rstrip("\r\n")
    if SUFFIXES.get(suffix) == "":
        headed = (d for d in _DELIMITERS if d in first and any(map(_SMILES_NAME.fullmatch, first.split(d))))
        return next(headed, "")
    expected = SUFFIXES.get(suffix)
    wanted = [expected] if expected else []
    for delimiter in [*wanted, *_DELIMITERS]:
        widths = {len(row) for row in csv.reader(lines[:50], delimiter=delimiter) if row}
        if len(widths) == 1 and widths != {1}:
            return delimiter
    # Ragged rows fit no delimiter: take the one the header uses, else the one the name promises.
    used = next((delimiter for delimiter in [*wanted, *_DELIMITERS] if delimiter in first), None)
    return used or (expected if expected is not None else "")


class Table:
    """A table being read once, from front to back.

    Args:
        path: a file or ``-``.
        smiles_column: name (or number, from 1) of the column with SMILES; None finds it.

    Attributes:
        columns: names of the columns, made different where the file repeats one.
        smiles: index of the column with SMILES.
        header: whether the first row names the columns.
        head: the first rows, for judging columns.

    Raises:
        InputError: when the file cannot be read, has no rows, or no column of SMILES can be told.
    """

    def __init__(self, path: str, smiles_column: str | None = None) -> None:
        self.source = TextFile(path)
        self.name = self.source.name
        plain = PurePath(path.removesuffix(".gz"))
        suffix = plain.suffix.lower()
        if suffix not in SUFFIXES and suffix and path != "-" and not path.startswith("/dev/fd/"):
            raise InputError(
                f"{path} has the unknown suffix {suffix}.", f"Known: {', '.join(SUFFIXES)}, each also .gz."
            )
        lines = self.source.lines()
        first_lines = list(itertools.islice(lines, 200))
        self.delimiter = _delimiter(suffix, first_lines)
        self._records = self._parse(itertools.chain(first_lines, lines))
        head = list(itertools.islice(self._records, HEAD + 1))
        full = [row for row in head if isinstance(row, list)]
        if not full:
            raise InputError(f"{self.name} has no rows.", "Give a file with at least one molecule.")
        header = self._has_header(full, smiles_column)
        width = len(full[0])
        names = full[0] if header else [f"column_{place + 1}" for place in range(width)]
        self.columns = _distinct(names)
        self.header = header
        if header:
            head.remove(full[0])
        self.head = [row for row in head if isinstance(row, list) and len(row) == width]
        self.smiles = self._find(names, smiles_column, header)
        self._head = head

    def _parse(self, lines: Iterator[str]) -> Iterator[list[str] | str]:
        """Yield a list of cells for every row, or what is wrong with it; blank lines are no rows."""
        if not self.delimiter:
            for line in lines:
                text = line.rstrip("\r\n")
                if text:
                    yield [text if text.isspace() else text.split(None, 1)[0]]
            return
        open_lines = 0

        def feed() -> Iterator[str]:
            nonlocal open_lines
            for line in lines:
                open_lines += 1
                if open_lines > MAX_SPAN:
                    raise self._unclosed(reader.line_num - MAX_SPAN)
                yield line

        reader = csv.reader(feed(), delimiter=self.delimiter, strict=True)
        while True:
            try:
                row = next(reader, None)
            except csv.Error as error:
                if "end of data" in str(error):
                    raise self._unclosed(reader.line_num) from error
                yield f"line {reader.line_num}: {error}"
                row = []
            open_lines = 0
            if row is None:
                return
            if row:
                yield row

    def _unclosed(self, line: int) -> InputError:
        return InputError(f"{self.name}: a quote opened near line {max(line, 1)} is not closed.", "Close or remove it.")

    def _has_header(self, rows: list[list[str]], smiles_column: str | None) -> bool:
        first = rows[0]
        if any(_SMILES_NAME.fullmatch(cell.strip()) for cell in first):
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
        named = [place for place, name in enumerate(names) if header and _SMILES_NAME.fullmatch(name.strip())]
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
