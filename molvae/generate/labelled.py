"""Read molecules with one measured property: from a table as it is, or from a prepared dataset.

In: a file or a dataset directory, the property's name, a model. Out: `Labelled`, with every row accounted for.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from molvae.data.dataset import load_dataset
from molvae.data.table import Table, number
from molvae.errors import InputError, UnknownNameError
from molvae.generate.latents import encode_smiles
from molvae.nn.checkpoint import LoadedModel

NO_NUMBER = "not a number"
NO_VALUE = "no value"


@dataclass(frozen=True)
class Labelled:
    """N different molecules that the model can read, with the value of one property.

    Attributes:
        smiles: canonical, N.
        latents: (N, D) float32, means of q(z|x).
        values: (N,) in the property's unit; the mean where a molecule was measured more than once.
        rows: rows of the table.
        repeated: rows that say another value of a molecule that is there already.
        left_out: rows without a number, or with a molecule that cannot be read, by reason.
    """

    smiles: list[str]
    latents: NDArray[np.float32]
    values: NDArray[np.float64]
    rows: int
    repeated: int
    left_out: dict[str, int]


def read_labels(source: str, name: str, smiles_column: str | None = None) -> tuple[list[str], list[float | None]]:
    """Return SMILES as given and the cells of the column ``name``: NaN for a blank one, None for what is no number.

    Raises:
        InputError: when the source cannot be read.
        UnknownNameError: when it has no such column.
    """
    if Path(source).is_dir():
        return _of_dataset(Path(source), name)
    table = Table(source, smiles_column)
    places = [place for place, column in enumerate(table.columns) if column.lower() == name.lower()]
    if not places:
        numeric = ", ".join(table.numeric_columns()) or "none"
        raise UnknownNameError(f"{source} has no column {name!r}.", f"Columns of numbers: {numeric}.")
    smiles, values = [], []
    for row in table.rows():
        smiles.append("" if isinstance(row, str) else row[table.smiles])
        values.append(math.nan if isinstance(row, str) else number(row[places[0]]))
    return smiles, values


def _of_dataset(directory: Path, name: str) -> tuple[list[str], list[float | None]]:
    dataset = load_dataset(directory)
    if name not in dataset.property_names:
        known = ", ".join(dataset.property_names) or "none"
        raise UnknownNameError(f"{directory} has no property {name!r}.", f"It has: {known}.")
    try:
        column = pyarrow.parquet.read_table(directory / "molecules.parquet", columns=["smiles"])["smiles"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{directory} has no readable molecules.parquet.", "Prepare it again.") from error
    values = np.asarray(dataset.properties)[:, dataset.property_names.index(name)]
    return column.to_pylist(), [float(value) for value in values]


def label(
    loaded: LoadedModel, smiles: list[str], values: list[float | None], workers: int | None = None
) -> Labelled:  # fmt: skip
    """Encode the molecules that have a value; one measured several times counts once, with the mean.

    Args:
        loaded: the model.
        smiles: N as given.
        values: N; NaN where there is none, None for what is no number.
        workers: processes for chemistry; None means every core.
    """
    left_out: Counter[str] = Counter()
    left_out[NO_NUMBER] = sum(value is None for value in values)
    left_out[NO_VALUE] = sum(value is not None and math.isnan(value) for value in values)
    usable = [row for row, value in enumerate(values) if value is not None and math.isfinite(value)]
    found = encode_smiles(loaded, [smiles[row] for row in usable], workers=workers)
    measured: dict[str, list[float]] = defaultdict(list)
    place: dict[str, int] = {}
    for row, (canonical, rejected) in enumerate(zip(found.smiles, found.rejected, strict=True)):
        if canonical is None:
            left_out[rejected.reason if rejected else "empty"] += 1
            continue
        measured[canonical].append(float(values[usable[row]] or 0.0))
        place.setdefault(canonical, row)
    names = list(measured)
    return Labelled(
        names, found.latents[[place[one] for one in names]], np.array([np.mean(measured[one]) for one in names]),
        len(values), sum(len(one) - 1 for one in measured.values()), {k: n for k, n in left_out.items() if n},
    )  # fmt: skip
