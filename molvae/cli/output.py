"""Write what a verb made: a file by its suffix in one step, or stdout; and what there is to say about it.

In: tables. Out: CSV, TSV or SMI files. Cells are written as they are; only ``spreadsheet`` defuses formulas.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from molvae.errors import OutputError
from molvae.files import write_text

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".csv", ".tsv", ".smi")
STDOUT = Path("-")
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Destination:
    """Where a result goes; checked before the work, so that hours of it are not lost to a misspelt path.

    Args:
        path: a file, or None or ``-`` for stdout.
        suffixes: endings that the verb can write.

    Raises:
        OutputError: when the ending is another one, or nothing can be written there.
    """

    def __init__(self, path: Path | None, suffixes: tuple[str, ...] = TABLES) -> None:
        self.path = None if path in (None, STDOUT) else path
        self.began = time.perf_counter()
        if self.path is None:
            return
        if self.path.suffix.lower() not in suffixes:
            raise OutputError(f"{self.path} has no ending that can be written.", f"End it in {' or '.join(suffixes)}.")
        if self.path.is_dir():
            raise OutputError(f"{self.path} is a directory.", "Give a file.")
        above = next(parent for parent in self.path.absolute().parents if parent.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise OutputError(f"Cannot write {self.path}: {above} cannot be written to.", "Choose a writable place.")

    @property
    def suffix(self) -> str:
        """The ending in small letters, ``.csv`` for stdout."""
        return ".csv" if self.path is None else self.path.suffix.lower()

    def say(self, text: str) -> None:
        """Print a line for people: on stdout, or on stderr when the result itself is on stdout."""
        typer.echo(text, err=self.path is None)

    def table(self, table: pd.DataFrame, smiles: str = "smiles", *, spreadsheet: bool = False) -> None:
        """Write ``table``; a ``.smi`` file gets the filled cells of the column ``smiles`` only."""
        if self.suffix == ".smi":
            content = "".join(f"{text}\n" for text in table[smiles].dropna())
        else:
            table = defuse(table) if spreadsheet else table
            separator = "\t" if self.suffix == ".tsv" else ","
            content = table.to_csv(None, index=False, sep=separator, float_format="%.9g", lineterminator="\n")
        if self.path is None:
            sys.stdout.write(content)
        else:
            write_text(self.path, content)

    def finish(self, count: int, noun: str = "molecules") -> None:
        """Say how fast it went and which file was written."""
        seconds = time.perf_counter() - self.began
        rate = f", {count / seconds:,.0f}/s" if seconds > 0 and count else ""
        self.say(f"{count:,} {noun} in {seconds:.1f} s{rate}")
        if self.path is not None:
            self.say(f"wrote {self.path}")


def defuse(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``table`` with ``'`` before every text cell that a spreadsheet would take for a formula."""
    safe = table.copy()
    for name in safe.columns:
        if safe[name].dtype == object:
            safe[name] = [f"'{c}" if isinstance(c, str) and c.startswith(FORMULA) else c for c in safe[name]]
    return safe


def count_reasons(states: Iterable[str]) -> str:
    """Return how often each state other than ok occurs, most frequent first, "" when none does.

    >>> count_reasons(["ok", "parse", "vocabulary", "parse"])
    '2 parse, 1 vocabulary'
    """
    counts = Counter(state for state in states if state != "ok")
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
