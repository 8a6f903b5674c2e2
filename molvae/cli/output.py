"""Write what a verb made: a file by its suffix in one step, or stdout; and what there is to say about it.

In: tables. Out: CSV, TSV, SMI, SDF (each also .gz) or Parquet files. Cells are written as they are; only
``spreadsheet`` defuses formulas.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from molvae.errors import OutputError
from molvae.files import write_bytes, write_with

if TYPE_CHECKING:
    import pandas as pd

    from molvae.kept import Kept

TABLES = (".csv", ".tsv", ".smi", ".sdf", ".parquet")
PACKABLE = frozenset({".csv", ".tsv", ".smi", ".sdf"})
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
        if self.suffix not in suffixes or (self.packed and self.suffix not in PACKABLE):
            raise OutputError(f"{self.path} has no ending that can be written.", f"End it in {' or '.join(suffixes)}.")
        if self.path.is_dir():
            raise OutputError(f"{self.path} is a directory.", "Give a file.")
        above = next(parent for parent in self.path.absolute().parents if parent.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise OutputError(f"Cannot write {self.path}: {above} cannot be written to.", "Choose a writable place.")

    @property
    def suffix(self) -> str:
        """The ending in small letters, without ``.gz``; ``.csv`` for stdout."""
        return ".csv" if self.path is None else Path(self.path.name.lower().removesuffix(".gz")).suffix

    @property
    def packed(self) -> bool:
        """Whether the file is to be gzipped."""
        return self.path is not None and self.path.suffix.lower() == ".gz"

    def say(self, text: str) -> None:
        """Print a line for people: on stdout, or on stderr when the result itself is on stdout."""
        typer.echo(text, err=self.path is None)

    def table(self, table: pd.DataFrame, smiles: str = "smiles", *, spreadsheet: bool = False) -> None:
        """Write ``table``.

        A ``.smi`` file gets the filled cells of the column ``smiles`` only. An ``.sdf`` file gets a record for every
        row: a drawing of the cell in ``smiles``, no atoms where it is blank, and every column as a named text.
        """
        if self.path is not None and self.suffix == ".sdf":
            self._sdf(self.path, table, smiles)
            return
        if self.path is not None and self.suffix == ".parquet":
            from molvae.data.parquet import write_parquet

            write_with(self.path, lambda temporary: write_parquet(temporary, table))
            return
        if self.suffix == ".smi":
            content = "".join(f"{text}\n" for text in table[smiles].dropna())
        else:
            table = defuse(table) if spreadsheet else table
            separator = "\t" if self.suffix == ".tsv" else ","
            content = table.to_csv(None, index=False, sep=separator, float_format="%.9g", lineterminator="\n")
        if self.path is None:
            sys.stdout.write(content)
        else:
            data = content.encode("utf-8")
            write_bytes(self.path, gzip.compress(data, mtime=0) if self.packed else data)

    def _sdf(self, path: Path, table: pd.DataFrame, smiles: str) -> None:
        """Write an SD file, and say how many structures it cannot hold exactly."""
        from molvae.cli.progress import progress_bar
        from molvae.data.sdf import EXACT, write_sdf

        differing = 0

        def write(temporary: Path) -> None:
            nonlocal differing
            with temporary.open("w", encoding="utf-8") as handle, progress_bar("Drawing", len(table)) as update:
                differing = write_sdf(handle, table, smiles, progress=update)
            if self.packed:
                _pack(temporary)

        write_with(path, write)
        if differing:
            self.say(f"{differing:,} of {len(table):,} drawings cannot say everything; {EXACT} beside them does")

    def finish(self, count: int, noun: str = "molecules") -> None:
        """Say how fast it went and which file was written."""
        seconds = time.perf_counter() - self.began
        rate = f", {count / seconds:,.0f}/s" if seconds > 0 and count else ""
        self.say(f"{count:,} {noun} in {seconds:.1f} s{rate}")
        if self.path is not None:
            self.say(f"wrote {self.path}")


@contextmanager
def going_on(kept: Kept) -> Iterator[None]:
    """Say how to go on when the block is interrupted and something is kept, else remove what is kept when it ends."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if kept.begun:
            typer.echo(f"{kept.path} holds what is done: the same command with --resume goes on", err=True)
        raise
    kept.finish()


def _pack(path: Path) -> None:
    """Replace a file by its gzipped self; no name and no time go in, so that equal content is an equal file."""
    packed = path.with_name(f"{path.name}.gz")
    try:
        with path.open("rb") as plain, packed.open("wb") as raw:
            target = gzip.GzipFile("", "wb", fileobj=raw, mtime=0)
            shutil.copyfileobj(plain, target)
            target.close()
        os.replace(packed, path)
    finally:
        packed.unlink(missing_ok=True)


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
