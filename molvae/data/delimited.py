"""Take lines of text apart into rows of cells: CSV, TSV, or a list of SMILES.

In: lines. Out: cells, or a text saying what is wrong with the row.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

from molvae.data.textfile import MAX_LINE
from molvae.errors import InputError

MAX_SPAN = 20
"""Lines one quoted cell may run over; a quote that is never closed would swallow the file."""
DELIMITERS = {".csv": ",", ".tsv": "\t", ".smi": "", ".smiles": ""}
"""What a suffix promises; "" for a list of SMILES, each perhaps followed by a name."""
SMILES_NAME = re.compile(r"(.*[ _-])?(smiles?|smi|structures?)([ _-].*)?|.*smiles", re.IGNORECASE)
"""Names of columns that hold SMILES."""

_TRIED = (",", "\t", ";", "|")

csv.field_size_limit(MAX_LINE)


def find_delimiter(suffix: str, lines: Sequence[str]) -> str:
    """Return the delimiter that the first lines of a file use, "" for a list of SMILES.

    >>> find_delimiter(".csv", ["id;smiles", "1;CCO"])
    ';'
    """
    if not lines:
        return DELIMITERS.get(suffix, "")
    first = lines[0].rstrip("\r\n")
    if DELIMITERS.get(suffix) == "":
        headed = (d for d in _TRIED if d in first and any(map(SMILES_NAME.fullmatch, first.split(d))))
        return next(headed, "")
    expected = DELIMITERS.get(suffix)
    wanted = [expected] if expected else []
    for delimiter in [*wanted, *_TRIED]:
        widths = {len(row) for row in csv.reader(lines[:50], delimiter=delimiter) if row}
        if len(widths) == 1 and widths != {1}:
            return delimiter
    # Ragged rows fit no delimiter: take the one the header uses, else the one the name promises.
    used = next((delimiter for delimiter in [*wanted, *_TRIED] if delimiter in first), None)
    return used or (expected if expected is not None else "")


def parse_lines(lines: Iterator[str], delimiter: str, name: str) -> Iterator[list[str] | str]:
    """Yield a list of cells for every row, or what is wrong with it; blank lines are no rows.

    Args:
        lines: with their line ends.
        delimiter: of `find_delimiter`.
        name: of the file, for messages.

    Raises:
        InputError: at a quote that is not closed.
    """
    if not delimiter:
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
                raise _unclosed(name, reader.line_num - MAX_SPAN)
            yield line

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            if "end of data" in str(error):
                raise _unclosed(name, reader.line_num) from error
            yield f"line {reader.line_num}: {error}"
            row = []
        open_lines = 0
        if row is None:
            return
        if row:
            yield row


def _unclosed(name: str, line: int) -> InputError:
    return InputError(f"{name}: a quote opened near line {max(line, 1)} is not closed.", "Close or remove it.")
