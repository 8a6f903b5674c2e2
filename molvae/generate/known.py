"""Read the molecules of a file, and collect those that count as known, such as a training set.

In: a dataset directory, or a file of SMILES. Out: SMILES as given, in order; a set of canonical SMILES.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet

from molvae.chem.rejected import Rejected
from molvae.chem.standardize import standardize_many
from molvae.data.dataset import SPLITS, load_dataset
from molvae.data.table import Table
from molvae.errors import InputError


def read_smiles(source: str | Path, column: str | None = None) -> list[str]:
    """Return the SMILES column of a table, one entry per row, in order.

    Args:
        source: .csv .tsv .smi .smiles .sdf, each also .gz, .parquet, or ``-``; read as ``molvae prepare`` reads it.
        column: name or number (from 1) of the column; None finds it.

    Returns:
        The cells as they are; "" for a row that does not fit the header or cannot be read, so that no row is lost.

    Raises:
        InputError: when the file cannot be read, has no rows, or no such column.
    """
    table = Table(str(source), column)
    return [row[table.smiles] if isinstance(row, list) else "" for row in table.rows()]


def load_known(path: Path) -> frozenset[str]:
    """Return the canonical SMILES of a dataset's train split, or of the molecules in a file.

    Strings of a file that are no molecules are left out.

    Args:
        path: a directory written by ``molvae prepare``, or a file that it could read.

    Raises:
        InputError: when it cannot be read, or holds no molecule at all.
    """
    if path.is_dir():
        return _train_split(path)
    results = standardize_many(read_smiles(path))
    known = frozenset(result.smiles for result in results if not isinstance(result, Rejected))
    if not known:
        raise InputError(
            f"{path} holds no molecule that can be read.", "Give a file of SMILES, or a dataset directory."
        )
    return known


def _train_split(directory: Path) -> frozenset[str]:
    dataset = load_dataset(directory, verify=False)
    try:
        column = pyarrow.parquet.read_table(directory / "molecules.parquet", columns=["smiles"])["smiles"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{directory} has no readable molecules.parquet: {error}.", "Prepare the dataset again."
        ) from error
    if len(column) != len(dataset):
        raise InputError(f"{directory} is inconsistent: its table has another length.", "Prepare the dataset again.")
    rows = np.flatnonzero(np.asarray(dataset.split) == SPLITS["train"])
    return frozenset(column.take(rows).to_pylist())
