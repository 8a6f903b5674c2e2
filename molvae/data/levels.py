"""Read the texts of a category and turn them into numbers: one code a molecule, and in the end a column a level.

In: cells of a table. Out: codes while rows stream by, since the levels are known only at their end; then columns of 0
and 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molvae.data.categories import level_name
from molvae.data.table import MISSING
from molvae.errors import InputError

MOST_LEVELS = 50
"""Levels a category may have; a column with more texts holds names or remarks."""

SIGNS = "<>=|,"
"""Characters that a request is made of, which the name of a category cannot have."""

BLANK = MISSING - {"none"}
"""Cells of a category, in lower case, that say nothing; ``none`` is a level, such as no target at all."""


class Levels:
    """Number the texts of one column in the order in which they appear.

    Args:
        name: of the column.

    Attributes:
        texts: the levels so far, by their codes.

    Raises:
        InputError: when no request could name the column.

    >>> levels = Levels("target")
    >>> [levels.code(cell) for cell in ("EGFR", " none ", "", "EGFR")], levels.texts
    ([0.0, 1.0, nan, 0.0], ['EGFR', 'none'])
    """

    def __init__(self, name: str) -> None:
        if any(sign in name for sign in SIGNS):
            raise InputError(f"A category cannot be called {name!r}: requests are written with {SIGNS}.", "Rename it.")
        self.name = name
        self.texts: list[str] = []
        self._codes: dict[str, float] = {}

    def code(self, cell: str) -> float:
        """Return the code of the level in a cell, NaN for a blank one.

        Raises:
            InputError: at the first text more than `MOST_LEVELS`.
        """
        text = level_text(cell)
        if not text:
            return math.nan
        if text not in self._codes:
            if len(self.texts) == MOST_LEVELS:
                shown = ", ".join(repr(one[:30]) for one in (*self.texts[:2], text))
                raise InputError(
                    f"Column {self.name} has over {MOST_LEVELS} different texts ({shown}, ...) and is no category.",
                    "Leave it out of --columns and --categories, or put its texts into fewer groups.",
                )
            self._codes[text] = float(len(self.texts))
            self.texts.append(text)
        return self._codes[text]


def level_text(cell: object) -> str:
    """Return the level that a cell holds, "" for a blank one, None and NaN.

    >>> level_text(" EGFR "), level_text("None"), level_text("N/A"), level_text(None), level_text(float("nan"))
    ('EGFR', 'None', '', '', '')
    """
    text = "" if cell is None else str(cell).strip()
    return "" if text.lower() in BLANK else text


class Widener:
    """Replace columns of codes by a column of 0 and 1 for each level, NaN where the code is NaN.

    Args:
        names: of the M columns.
        levels: the texts of each column that holds codes.
        counts: how often each code occurs; a level that never does gets no column.

    Attributes:
        names: of the P columns that come out; levels of a category follow each other, sorted.
        categories: of each of them its category, "" for a number.

    Raises:
        InputError: when a category has fewer than two levels, or a level is called like another column.
    """

    def __init__(
        self, names: Sequence[str], levels: Mapping[str, Sequence[str]], counts: Mapping[str, Counter[int]]
    ) -> None:
        self.names: list[str] = []
        self.categories: list[str] = []
        self._columns: list[tuple[int, int | None]] = []
        for place, name in enumerate(names):
            if name not in levels:
                self._add(name, "", place, None)
                continue
            codes = sorted(counts[name], key=levels[name].__getitem__)
            if len(codes) < 2:
                only = f"only the text {levels[name][codes[0]]!r}" if codes else "no text"
                raise InputError(
                    f"Column {name} has {only} in the molecules taken: a category has 2 levels to {MOST_LEVELS}.",
                    "Leave it out.",
                )
            for code in codes:
                self._add(level_name(name, levels[name][code]), name, place, code)
        twice = [name for name, count in Counter(self.names).items() if count > 1]
        if twice:
            raise InputError(f"Two columns would be called {twice[0]}.", "Rename one of them.")

    def _add(self, name: str, category: str, place: int, code: int | None) -> None:
        self.names.append(name)
        self.categories.append(category)
        self._columns.append((place, code))

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Return ``values`` (n, M) as (n, P)."""
        wide = np.empty((len(values), len(self.names)), dtype=np.float32)
        for column, (place, code) in enumerate(self._columns):
            given = values[:, place]
            wide[:, column] = given if code is None else np.where(np.isnan(given), np.nan, given == code)
        return wide
