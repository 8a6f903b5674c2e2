"""Verb ``molvae score``: how unusual is each molecule, and which of its atoms.

In: a file of SMILES and a model, best with the molecules it was trained on. Out: a table, and a picture of odd atoms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from molvae.cli.options import Device, Model, Molecules, Output, Seed, SmilesColumn, Spreadsheet, Workers
from molvae.cli.pictures import Png, Svg

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from molvae.cli.output import Destination
    from molvae.generate.anomaly import Reference
    from molvae.nn.checkpoint import LoadedModel

ReferenceData = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="DATASET",
        help="What is usual: the dataset the model was trained on, or a file of SMILES of that kind. It gives "
        "nearest too. Left out, percentile is against held-out molecules that came with the model.",
        show_default=False,
    ),
]
Samples = Annotated[int, typer.Option("--samples", min=1, help="K of the importance-weighted bound.")]
Among = Annotated[
    int,
    typer.Option(
        "--neighbors", min=0, help="Training molecules of the reference searched for the nearest; 0 leaves it out."
    ),
]
Drawn = Annotated[int, typer.Option("--draw", min=1, help="Molecules in the picture, the oddest first.")]
FEW = 100
DIGITS = {"nats": 4, "nats_per_token": 4, "percentile": 2, "latent_cost": 4, "latent_distance": 4,
          "nearest_similarity": 4}  # fmt: skip


def command(
    source: Molecules,
    model: Model = None,
    output: Output = None,
    reference: ReferenceData = None,
    samples: Samples = 16,
    neighbors: Among = 20_000,
    svg: Svg = None,
    png: Png = None,
    drawn: Drawn = 20,
    smiles_column: SmilesColumn = None,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = None,
    spreadsheet: Spreadsheet = False,
) -> None:
    """Score molecules by how unlikely the model holds them: nats, an upper bound on -log p(x) with K samples.

    A molecule's score depends on no other row. percentile is the share of 500 molecules of the reference (of a dataset
    the valid split, else train) that are less surprising. A molecule with tokens that the model lacks has infinite
    nats; what is no molecule has none; both say why in state. The picture colours atoms by their nats, red from 5 on.
    """
    from molvae.cli.molecules import read_smiles
    from molvae.cli.output import Destination, count_reasons
    from molvae.cli.pictures import picture_files
    from molvae.generate.anomaly import score
    from molvae.nn.checkpoint import load_model

    destination, files = Destination(output, (".csv", ".tsv")), picture_files(svg, png)
    smiles = read_smiles(source, smiles_column)
    loaded = load_model(model, device)
    usual, known = _reference(loaded, reference, samples, neighbors, seed, workers)
    table = score(loaded, smiles, reference=usual, known=known, samples=samples, seed=seed, workers=workers)
    destination.table(table.round(DIGITS), spreadsheet=spreadsheet)
    destination.say(_compared(reference, usual))
    destination.say(f"not scored: {count_reasons(table['state']) or 'none'}")
    _draw(table, files, drawn, destination)
    destination.finish(len(table))


def _reference(
    loaded: LoadedModel, source: str | None, samples: int, neighbors: int, seed: int, workers: int | None
) -> tuple[Reference | None, list[str]]:
    """Return the measured reference, and the training molecules among which a neighbour is looked for."""
    from pathlib import Path

    import numpy as np

    from molvae.benchmark.held_out import held_out
    from molvae.data.dataset import load_dataset
    from molvae.generate.anomaly import MEASURED, Reference, measure_oddities, own_reference
    from molvae.generate.known import load_known

    if source is None:
        return own_reference(loaded, samples, seed, workers), []
    split = None
    if Path(source).is_dir():
        # Molecules that the model did not learn by heart are the better measure, where there are any.
        split = "valid" if len(load_dataset(source, verify=False).rows("valid")) else "train"
    usual = held_out(loaded, source, split, MEASURED, seed, workers)
    rows = [row.tolist() for row in usual.token_ids]
    known = sorted(load_known(Path(source))) if neighbors else []
    picked = np.random.default_rng(seed).permutation(len(known))[:neighbors]
    return Reference.of(measure_oddities(loaded, rows, samples, seed)), [known[row] for row in picked]


def _compared(source: str | None, usual: Reference | None) -> str:
    """Say what percentile and latent_distance are measured against."""
    if usual is None:
        return "percentile and nearest are empty: --reference DATASET says what is usual"
    n = len(usual.nats)
    what = "molecules held out when the model was made; --reference DATASET gives nearest" if source is None else source
    few = f"; {n} are few: its steps are {100 / n:.1f} wide" if n < FEW else ""
    return f"percentile: against {n} of {what}{few}" if source else f"percentile: against {n} {what}{few}"


def _draw(table: pd.DataFrame, files: Sequence[Path], count: int, say: Destination) -> None:
    """Draw the oddest molecules that could be scored, their atoms coloured by nats."""
    from molvae.files import write_bytes, write_text
    from molvae.report.structures import grid_png, grid_svg, heat

    oddest = table[table["smiles"].notna()].sort_values("nats", ascending=False, kind="stable").head(count)
    smiles = [str(text) for text in oddest["smiles"]]
    legends = [f"{nats:.1f} nats" for nats in oddest["nats"]]
    colors = [heat([float(value) for value in str(text).split()]) for text in oddest["atom_nats"]]
    for path in files:
        if path.suffix.lower() == ".svg":
            write_text(path, grid_svg(smiles, legends, colors=colors))
        else:
            write_bytes(path, grid_png(smiles, legends, colors=colors))
        say.say(f"wrote {path}")
