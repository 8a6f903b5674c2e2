"""Verb ``molvae impute``: fill in property values that a table lacks, or pieces that molecules lack.

In: a table of molecules and a model. Out: the table with the gaps filled, each value with its deviation and origin; for
SMILES with masks such as {?} a table of completions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from molvae.cli.complete import Completions, Tries
from molvae.cli.options import Device, Model, Output, OwnTemperature, Seed, SmilesColumn, Spreadsheet, Workers
from molvae.cli.pictures import Png, Svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from molvae.cli.output import Destination
    from molvae.data.table import Table
    from molvae.generate.impute import Filled

Source = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help='A table with a column of SMILES, or one molecule with missing pieces, "c1ccccc1{?}C(=O)N".',
        show_default=False,
    ),
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
    k: Completions = 10,
    tries: Tries = 128,
    temperature: OwnTemperature = None,
    seed: Seed = 0,
    svg: Svg = None,
    png: Png = None,
) -> None:
    """Fill in missing property values: computed by RDKit where that is possible, else predicted by a head of the model.

    Values that are there stay. NAME_std is the standard deviation of a prediction, NAME_origin says given, computed,
    predicted or missing, NAME_novelty (of fitted heads) is near 1 where the head guesses, NAME_nearest is the
    similarity to the nearest molecule that it learned from. A category gets its likeliest level, and NAME_probability
    says how likely the head takes it to be.

    Molecules with missing pieces are completed instead, the likeliest under the model first. A mask stands where a
    piece is missing: {?} of any length, {3} of three heavy atoms, {2..5} of two to five. It hangs on one single bond,
    "c1ccccc1{?}" (up to three of them), or stands between two, "c1ccccc1{3}C(=O)N". {1} is one atom, anywhere, also in
    a ring: "c1cc{1}cc1", "CC(={1})N". Columns: rank, smiles, pieces, nats (-log p of the molecule), share.
    """
    from molvae.chem.masks import is_masked
    from molvae.cli.complete import run_complete
    from molvae.cli.output import Destination
    from molvae.cli.pictures import picture_files
    from molvae.data.table import Table
    from molvae.errors import ConfigError
    from molvae.generate.sampling import SamplingOptions

    destination, files = Destination(output, (".csv", ".tsv", ".parquet")), picture_files(svg, png)
    table = None if is_masked(source) else Table(source, smiles_column)
    blank = [] if table is None else [""] * len(table.columns)
    cells = [] if table is None else [row if isinstance(row, list) else blank for row in table.rows()]
    smiles = [source] if table is None else [row[table.smiles] for row in cells]
    if table is None or any(map(is_masked, smiles)):
        if properties is not None or by_head:
            raise ConfigError("No properties are filled in with missing pieces.", "Drop --properties and --by-head.")
        options = SamplingOptions(temperature=temperature)
        run_complete(destination, smiles, model, device, k, options, tries, seed, spreadsheet, files)
        return
    if files:
        raise ConfigError("Pictures are drawn of molecules with missing pieces.", "Leave --svg and --png out.")
    _fill(destination, table, cells, model, device, properties, by_head, workers, spreadsheet)


def _fill(
    destination: Destination, table: Table, cells: Sequence[Sequence[str]], model: str | None, device: str,
    properties: str | None, by_head: bool, workers: int | None, spreadsheet: bool,
) -> None:  # fmt: skip
    """Fill in the properties of a table that was read."""
    import pandas as pd

    from molvae.errors import ConfigError
    from molvae.generate.impute import as_table, categories_of_heads, impute
    from molvae.generate.predict import FITTED, predictable
    from molvae.nn.checkpoint import load_model

    loaded = load_model(model, device)
    fitted = list(loaded.facts.get(FITTED, {}))
    levels = categories_of_heads(loaded)
    names = _names(properties, table, [*predictable(loaded), *levels], fitted)
    if not names:
        raise ConfigError(f"{table.name} has no column that can be filled.", "Name what to add with --properties.")
    smiles = [row[table.smiles] for row in cells]
    columns = {name: _texts(table, cells, name) if name in levels else _column(table, cells, name) for name in names}
    filled = impute(loaded, smiles, columns, by_head=by_head, workers=workers)
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


def _texts(table: Table, cells: Sequence[Sequence[str]], name: str) -> NDArray[np.object_]:
    """Return a column of a category as it stands, blank where the table lacks it."""
    import numpy as np

    if name not in table.columns:
        return np.full(len(cells), "", dtype=object)
    place = table.columns.index(name)
    return np.array([row[place] for row in cells], dtype=object)


def _account(name: str, one: Filled) -> str:
    from collections import Counter

    counts = Counter(one.origin.tolist())
    text = f"{name}: " + ", ".join(f"{counts[key]:,} {key}" for key in ("given", "computed", "predicted", "missing"))
    strange = int(one.strange.sum())
    return f"{text}; the head guesses at {strange:,} of them, unlike what it learned from" if strange else text
