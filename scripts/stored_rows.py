"""Add to a CSV what a study lacks, one row at a time, so that the same command goes on where it was stopped.

In: a file, a dataclass that names its columns, keys that are wanted. Out: the whole file as a table.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import pandas as pd


def add_missing(
    path: Path, row: type, keys: tuple[str, ...], wanted: Iterable[tuple[tuple[Any, ...], Callable[[], Any]]]
) -> pd.DataFrame:
    """Compute the rows that ``path`` lacks, and return all that it holds.

    Args:
        path: made when missing; one that a stopped run left empty gets its header.
        row: a dataclass.
        keys: columns that tell rows apart.
        wanted: for each row its key and what computes it.
    """
    begun = path.exists() and path.stat().st_size > 0
    done = set(pd.read_csv(path)[list(keys)].itertuples(index=False, name=None)) if begun else set()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if not begun:
            writer.writerow([field.name for field in fields(row)])
            file.flush()
        for key, compute in wanted:
            if key not in done:
                writer.writerow(astuple(compute()))
                file.flush()
    return pd.read_csv(path)
