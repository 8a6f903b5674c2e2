"""Read the molecules that a benchmark is to improve, or draw them from a larger file.

In: a file of SMILES, perhaps with a value each. Out: `Lead`s, in the order of the file or as drawn.
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from molvae.data.table import Table, number, read_smiles
from molvae.data.textfile import TextFile
from molvae.errors import InputError
from molvae.optimize.oracles import find_oracle

LISTS = (".txt", ".smi", ".smiles")
"""Suffixes of plain lists: a SMILES a line, and after a blank perhaps a value."""

_CHUNK = 256


@dataclass(frozen=True)
class Lead:
    """A molecule to improve, as written, and the value that came with it, if any."""

    smiles: str
    value: float | None = None


def read_leads(path: Path, n: int | None = None) -> tuple[Lead, ...]:
    """Return the leads of a file, the first ``n`` of them.

    Args:
        path: a list (`LISTS`, also .gz) or a table that `molvae.data.table.Table` reads, whose first column of numbers
            gives the values.
        n: how many; None for all.

    Raises:
        InputError: when it cannot be read, has a row that cannot, or has fewer than ``n``.
    """
    leads = _list(path) if path.name.removesuffix(".gz").lower().endswith(LISTS) else _table(path)
    if not leads or (n is not None and len(leads) < n):
        raise InputError(f"{path} holds {len(leads)} leads.", f"Ask for {len(leads)} at most, or give a longer file.")
    return tuple(leads[:n])


def _list(path: Path) -> list[Lead]:
    with closing(TextFile(str(path))) as source:
        rows = [line.split() for line in source.lines()]
    return [Lead(row[0], _value(row[1]) if len(row) > 1 else None) for row in rows if row]


def _table(path: Path) -> list[Lead]:
    table = Table(str(path))
    names = table.numeric_columns()
    place = table.columns.index(names[0]) if names else None
    leads = []
    with closing(table.source):
        for line, row in enumerate(table.rows(), 1):
            if isinstance(row, str):
                raise InputError(f"{path} row {line}: {row}.", "Mend the row.")
            leads.append(Lead(row[table.smiles], None if place is None else _value(row[place])))
    return leads


def _value(cell: str) -> float | None:
    value = number(cell)
    return None if value is None or math.isnan(value) else value


def draw_leads(
    path: Path, n: int, seed: int, oracle: str = "", low: float = 0.0, high: float = 0.0
) -> tuple[Lead, ...]:  # fmt: skip
    """Return ``n`` distinct molecules of a file drawn at random; with an oracle those between ``low`` and ``high``.

    The file is gone through in a random order and what fits is taken, so that fewer are the first of more.

    Args:
        path: a file that `molvae.data.table.read_smiles` reads.
        n: how many.
        seed: of the order.
        oracle: its name, "" for no such condition.
        low: least value, included.
        high: largest value, included.

    Raises:
        InputError: when the file cannot be read or has fewer.
    """
    smiles = list(dict.fromkeys(one for one in read_smiles(path) if one))
    order = np.random.default_rng(seed).permutation(len(smiles))
    score = find_oracle(oracle) if oracle else None
    leads: list[Lead] = []
    for start in range(0, len(order), _CHUNK):
        part = [smiles[row] for row in order[start : start + _CHUNK].tolist()]
        values = [low] * len(part) if score is None else score(part)
        leads += [Lead(one) for one, value in zip(part, values, strict=True) if low <= value <= high]
        if len(leads) >= n:
            return tuple(leads[:n])
    raise InputError(f"{path} has {len(leads)} molecules that fit, not {n}.", "Draw fewer, or from a larger file.")
