"""Parquet files as tables, a batch of rows at a time.

In: a path, or a table. Out: rows of cells as text, or a Parquet file with typed columns.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from molvae.errors import InputError
from molvae.files import sha256_file

if TYPE_CHECKING:
    import pandas as pd

BATCH = 2000
"""Rows in memory at once."""
_COPY = "Copy the file again, or write it anew."


class ParquetSource:
    """A Parquet file being read.

    Args:
        path: a file; Parquet begins at its end, so it cannot be piped in.

    Attributes:
        name: the path.
        names: of the columns.
        count: rows in the file.

    Raises:
        InputError: when it is missing or no Parquet file.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        if not Path(path).is_file():
            what = "is no regular file" if os.path.exists(path) else "is not there"
            raise InputError(f"{path} {what}.", "Give the path of a .parquet file.")
        try:
            # Without the buffer a file of many columns is read piece by piece.
            self._file = pq.ParquetFile(path, pre_buffer=False)
        except (OSError, ValueError, NotImplementedError) as error:
            raise InputError(f"{path} is no readable Parquet file: {_first(error)}.", _COPY) from error
        self.names = [str(name) for name in self._file.schema_arrow.names]
        self.count = int(self._file.metadata.num_rows)

    @property
    def bytes_read(self) -> int:
        """Size of the file."""
        return Path(self.name).stat().st_size

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the whole file."""
        return sha256_file(Path(self.name))

    def rows(self) -> Iterator[list[str] | str]:
        """Yield the cells of every row as text; "" for a missing value.

        Raises:
            InputError: when the file is damaged.
        """
        try:
            for batch in self._file.iter_batches(batch_size=BATCH):
                columns = [column.to_pylist() for column in batch.columns]
                for values in zip(*columns, strict=True):
                    yield ["" if value is None else str(value) for value in values]
        except (OSError, ValueError, NotImplementedError) as error:
            raise InputError(f"{self.name} cannot be read to its end: {_first(error)}.", _COPY) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def to_arrow(table: pd.DataFrame) -> Any:
    """Return ``table`` with typed columns: numbers, truth values or text; None and NaN are missing values.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"smiles": ["C", None], "x": [1.5, float("nan")], "none": [None, None]})
    >>> [str(kind) for kind in to_arrow(frame).schema.types], to_arrow(frame)["x"].to_pylist()
    (['string', 'double', 'string'], [1.5, None])
    """
    columns = {}
    for name in table.columns:
        values = table[name]
        if values.dtype.kind not in "biuf":
            cells = [None if gone else cell for cell, gone in zip(values.tolist(), values.isna(), strict=True)]
            if {type(cell) for cell in cells if cell is not None} == {bool}:
                columns[str(name)] = pa.array(cells, pa.bool_())
            else:
                columns[str(name)] = pa.array([cell if cell is None else str(cell) for cell in cells], pa.string())
        else:
            columns[str(name)] = pa.array(values, from_pandas=True)
    return pa.table(columns)


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write ``table`` to ``path`` with typed columns (see `to_arrow`)."""
    pq.write_table(to_arrow(table), path)
