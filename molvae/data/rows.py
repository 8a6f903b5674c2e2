"""Take the rows of several tables apart: the SMILES for the workers, the rest kept until they answer.

In: open tables. Out: chunks of SMILES cells, and beside them the rows they belong to, numbered across all tables.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from molvae.data.levels import Levels
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
        values: the columns kept, NaN where blank or not a number; of a category the code of its level.
        word: the cell of the split column, "" when there is none.
    """

    row: int
    cell: str
    problem: str
    values: list[float]
    word: str


def choose_columns(
    tables: Sequence[Table], wanted: Sequence[str] | None, categories: Sequence[str] = ()
) -> tuple[list[str], frozenset[str]]:
    """Return the names of the columns to keep, in order of appearance, and those of them that are categories.

    Args:
        tables: all tables; a column may be in some of them only.
        wanted: names, or None for every column that looks numeric. A name is taken for a category where the top of the
            tables holds texts in that column and not one number.
        categories: columns to keep as categories, whatever they look like.

    Raises:
        InputError: when a wanted column is in no table.
    """
    every = list(dict.fromkeys(name for table in tables for name in table.columns))
    for name in (*(wanted or ()), *categories):
        if name not in every:
            raise InputError(f"There is no column {name}.", f"Columns: {', '.join(every)}.")
    numeric = (name for table in tables for name in table.numeric_columns())
    chosen = list(dict.fromkeys((*(numeric if wanted is None else wanted), *categories)))
    texts = [name for name in wanted or () if _holds_texts(tables, name)]
    return chosen, frozenset((*texts, *categories))


def _holds_texts(tables: Sequence[Table], name: str) -> bool:
    """Tell whether the top of a column holds texts and not one number."""
    cells = [row[table.columns.index(name)] for table in tables if name in table.columns for row in table.head]
    filled = [value for value in map(number, cells) if value is None or not math.isnan(value)]
    return bool(filled) and all(value is None for value in filled)


class RowReader:
    """Read rows once, in order.

    Args:
        tables: open tables.
        columns: names of the columns to keep.
        split_column: name of the column that decides the split, or None.
        categories: those of ``columns`` that hold levels of a category.

    Attributes:
        levels: of each category the texts read so far.
        pending: rows of the chunks that were handed out, oldest first; who takes a result takes the rows too.
        not_numbers: count of cells that are filled and hold no finite number, by column.

    Raises:
        InputError: when a table lacks the split column, or a category cannot be called so.
    """

    def __init__(
        self, tables: Sequence[Table], columns: Sequence[str], split_column: str | None,
        categories: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.tables = tables
        self.columns = columns
        self.split_column = split_column
        self.pending: deque[list[Row]] = deque()
        self.not_numbers: Counter[str] = Counter()
        self.levels = {name: Levels(name) for name in columns if name in categories}
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
        if place is not None and name in self.levels:
            return self.levels[name].code(cells[place])
        value = math.nan if place is None else number(cells[place])
        if value is None:
            self.not_numbers[name] += 1
            return math.nan
        return value
