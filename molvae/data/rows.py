"""Take the rows of several tables apart: the SMILES for the workers, the rest kept until they answer.

In: open tables. Out: chunks of SMILES cells, and beside them the rows they belong to, numbered across all tables.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from molvae.data.table import Table, number
from molvae.errors import InputError

CHUNK = 400
"""Rows sent to a worker at once: about a fifth of a second of work."""


class Row(NamedTuple):
    """What the parent process keeps of a row while workers look at its SMILES.

    Attributes:
        row: its number over all tables, from 1; header and blank lines do not count.
        cell: its SMILES as given.
        problem: why the row does not fit its header, "" when it does.
        values: the numeric columns, NaN where blank or not a number.
        word: the cell of the split column, "" when there is none.
    """

    row: int
    cell: str
    problem: str
    values: list[float]
    word: str


def choose_columns(tables: Sequence[Table], wanted: Sequence[str] | None) -> list[str]:
    """Return the names of the numeric columns to keep, in order of appearance.

    Args:
        tables: all tables; a column may be in some of them only.
        wanted: names, or None for every column that looks numeric.

    Raises:
        InputError: when a wanted column is in no table.
    """
    if wanted is None:
        return list(dict.fromkeys(name for table in tables for name in table.numeric_columns()))
    every = list(dict.fromkeys(name for table in tables for name in table.columns))
    for name in wanted:
        if name not in every:
            raise InputError(f"There is no column {name}.", f"Columns: {', '.join(every)}.")
    return list(wanted)


class RowReader:
    """Read rows once, in order.

    Args:
        tables: open tables.
        columns: names of the numeric columns to keep.
        split_column: name of the column that decides the split, or None.

    Attributes:
        pending: rows of the chunks that were handed out, oldest first; who takes a result takes the rows too.
        not_numbers: count of cells that are filled and hold no finite number, by column.

    Raises:
        InputError: when a table lacks the split column.
    """

    def __init__(self, tables: Sequence[Table], columns: Sequence[str], split_column: str | None) -> None:
        self.tables = tables
        self.columns = columns
        self.split_column = split_column
        self.pending: deque[list[Row]] = deque()
        self.not_numbers: Counter[str] = Counter()
        for table in tables if split_column is not None else ():
            if split_column not in table.columns:
                raise InputError(
                    f"{table.name} has no column {split_column} to split by.", f"Columns: {', '.join(table.columns)}."
                )

    def chunks(self) -> Iterator[list[str]]:
        """Yield SMILES cells in chunks, and append the rows they belong to to ``pending``."""
        chunk: list[Row] = []
        for row in self._rows():
            chunk.append(row)
            if len(chunk) == CHUNK:
                self.pending.append(chunk)
                yield [row.cell for row in chunk]
                chunk = []
        if chunk:
            self.pending.append(chunk)
            yield [row.cell for row in chunk]

    def _rows(self) -> Iterator[Row]:
        count = 0
        for table in self.tables:
            place_of = {name: place for place, name in enumerate(table.columns)}
            for cells in table.rows():
                count += 1
                if isinstance(cells, str):
                    yield Row(count, "", cells, [], "")
                    continue
                values = [self._value(name, cells, place_of.get(name)) for name in self.columns]
                word = cells[place_of[self.split_column]] if self.split_column is not None else ""
                yield Row(count, cells[table.smiles], "", values, word)

    def _value(self, name: str, cells: list[str], place: int | None) -> float:
        value = math.nan if place is None else number(cells[place])
        if value is None:
            self.not_numbers[name] += 1
            return math.nan
        return value
