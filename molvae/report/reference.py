"""Read from a dataset what generated molecules are compared with, streaming its table.

In: a dataset directory. Out: property values of the train split, and how many given molecules stand in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

TABLE = "molecules.parquet"


def reference_properties(dataset: Path, names: Iterable[str], limit: int = 20_000) -> dict[str, NDArray[np.float64]]:
    """Read property values of about ``limit`` training molecules, spread evenly over the data set.

    Args:
        dataset: a dataset directory.
        names: the properties wanted; those the data set lacks are left out of the answer.
        limit: how many rows are enough for a histogram.

    Returns:
        Property name to its finite values, float64 (N,); empty when the table is missing or cannot be read.
    """
    try:
        with parquet.ParquetFile(dataset / TABLE) as table:
            kept = [name for name in names if name in table.schema_arrow.names]
            stride = max(1, table.metadata.num_rows // limit)
            columns = [*kept, "split"] if "split" in table.schema_arrow.names else kept
            frames = []
            offset = 0
            for batch in table.iter_batches(columns=columns):
                frames.append(batch.slice(-offset % stride).to_pandas().iloc[::stride])
                offset += batch.num_rows
    except (OSError, pa.ArrowException):
        return {}
    rows = pd.concat(frames) if frames else pd.DataFrame(columns=columns)
    rows = _train_rows(rows)
    values = {name: rows[name].to_numpy(dtype=np.float64) for name in kept}
    return {name: column[np.isfinite(column)] for name, column in values.items()}


def _train_rows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["split"] == "train"] if "split" in rows.columns else rows


def held_out_smiles(dataset: Path) -> list[str]:
    """Read the SMILES of the valid and test splits; empty when there are none or the table cannot be read."""
    try:
        rows = parquet.read_table(dataset / TABLE, columns=["smiles", "split"]).to_pandas()
    except (OSError, KeyError, pa.ArrowException):
        return []
    return [str(text) for text in rows["smiles"][rows["split"] != "train"]]


def count_known(dataset: Path, smiles: set[str]) -> int | None:
    """Count how many of ``smiles`` stand in the train split, streaming the table; None when it cannot be read."""
    found: set[str] = set()
    try:
        with parquet.ParquetFile(dataset / TABLE) as table:
            columns = [name for name in ("smiles", "split") if name in table.schema_arrow.names]
            for batch in table.iter_batches(columns=columns):
                rows = _train_rows(batch.to_pandas())
                found |= smiles.intersection(rows["smiles"])
    except (OSError, KeyError, pa.ArrowException):
        return None
    return len(found)
