"""Verb ``molvae impute``: fill in property values that a table lacks.

In: a table of molecules and a model. Out: the table with the gaps filled, each value with its deviation and origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from molvae.cli.options import Device, Model, Output, SmilesColumn, Spreadsheet, Workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from molvae.data.table import Table
    from molvae.generate.impute import Filled

Source = Annotated[
    str, typer.Argument(metavar="DATASET", help="A table with a column of SMILES.", show_default=False)
]  # fmt: skip
Names = Annotated[
    str | None,
    typer.Option(
        "--properties",
        metavar="A,B,...",
        help="Columns to fill; one that the table lacks is added. Left out, every column of the table that can be "
        "filled, and every property with a fitted head.",
        show_default=False,
    ),
]
ByHead = Annotated[
    bool, typer.Option("--by-head", help="Predict by the model's heads also what RDKit could compute exactly.")
]


def command(
    source: Source,
    model: Model = None,
    output: Output = None,
    properties: Names = None,
    by_head: ByHead = False,
    smiles_column: SmilesColumn = None,
    device: Device = "auto",
    workers: Workers = None,
    spreadsheet: Spreadsheet = False,
) -> None:
    """Fill in missing property values: computed by RDKit where that is possible, else predicted by a head of the model.

    Values that are there stay. NAME_std is the standard deviation of a prediction, NAME_origin says given, computed,
    predicted or missing, NAME_novelty (of fitted heads) is near 1 where the head guesses.
    """
    import pandas as pd

    from molvae.cli.output import Destination
    from molvae.data.table import Table
    from molvae.errors import ConfigError
    from molvae.generate.impute import as_table, impute
    from molvae.generate.predict import FITTED, predictable
    from molvae.nn.checkpoint import load_model

    destination = Destination(output, (".csv", ".tsv", ".parquet"))
    table = Table(source, smiles_column)
    loaded = load_model(model, device)
    cells = [row if isinstance(row, list) else [""] * len(table.columns) for row in table.rows()]
    fitted = list(loaded.facts.get(FITTED, {}))
    names = _names(properties, table, predictable(loaded), fitted)
    if not names:
        raise ConfigError(f"{table.name} has no column that can be filled.", "Name what to add with --properties.")
    smiles = [row[table.smiles] for row in cells]
    filled = impute(
        loaded, smiles, {name: _column(table, cells, name) for name in names}, by_head=by_head, workers=workers
    )
    rest = pd.DataFrame(
        {name: [row[place] for row in cells] for place, name in enumerate(table.columns) if name not in names}
    )
    destination.table(pd.concat([rest, as_table(filled)], axis=1), table.columns[table.smiles], spreadsheet=spreadsheet)
    for name, one in filled.items():
        destination.say(_account(name, one))
    destination.finish(len(smiles))


def _names(given: str | None, table: Table, heads: Sequence[str], fitted: Sequence[str]) -> list[str]:
    """Return the properties to fill, under the table's own spelling where it has the column."""
    from molvae.chem.properties import PROPERTIES

    spelt = {column.lower(): column for column in table.columns}
    if given is not None:
        return [spelt.get(name.strip().lower(), name.strip()) for name in given.split(",") if name.strip()]
    own = [column for column in table.columns if column in heads or column in PROPERTIES]
    return [*own, *(name for name in fitted if name not in own)]


def _column(table: Table, cells: Sequence[Sequence[str]], name: str) -> NDArray[np.float64]:
    """Return a column as numbers; blank, absent and what is no number are NaN."""
    import numpy as np

    from molvae.data.table import number

    if name not in table.columns:
        return np.full(len(cells), np.nan)
    place = table.columns.index(name)
    values = [number(row[place]) for row in cells]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _account(name: str, one: Filled) -> str:
    from collections import Counter

    import numpy as np

    from molvae.generate.predict import STRANGE

    counts = Counter(one.origin.tolist())
    text = f"{name}: " + ", ".join(f"{counts[key]:,} {key}" for key in ("given", "computed", "predicted", "missing"))
    strange = int((np.nan_to_num(one.novelty) > STRANGE).sum())
    return f"{text}; the head guesses at {strange:,} of them (novelty above {STRANGE:g})" if strange else text
