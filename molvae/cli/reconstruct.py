"""Verb ``molvae reconstruct``: encode and decode molecules and compare.

In: a file of SMILES and a model. Out: a table of inputs and outputs, and the exact share that came back.
"""

from __future__ import annotations

from typing import Annotated

import typer

from molvae.cli.options import BatchSize, Device, Model, Molecules, Output, Seed, SmilesColumn, Spreadsheet, Workers

Sampled = Annotated[bool, typer.Option("--sampled", help="Go through a draw from q(z|x) instead of its mean.")]


def command(
    source: Molecules,
    model: Model = None,
    output: Output = None,
    smiles_column: SmilesColumn = None,
    sampled: Sampled = False,
    seed: Seed = 0,
    device: Device = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    spreadsheet: Spreadsheet = False,
) -> None:
    """Encode and decode molecules, greedily, and compare.

    The table has the columns input, canonical, output, match, state, detail and similarity (Tanimoto of Morgan
    fingerprints), one row per input. An .sdf file draws the output.
    """
    from molvae.cli.molecules import read_smiles
    from molvae.cli.output import Destination, count_reasons
    from molvae.generate.reconstruction import reconstruct
    from molvae.nn.checkpoint import load_model

    destination = Destination(output, (".csv", ".tsv", ".sdf", ".parquet"))
    smiles = read_smiles(source, smiles_column)
    loaded = load_model(model, device)
    table = reconstruct(loaded, smiles, sampled=sampled, seed=seed, batch_size=batch_size, workers=workers)
    destination.table(table, "output", spreadsheet=spreadsheet)
    read = table["canonical"].notna()
    exact, readable = int(table["match"].sum()), int(read.sum())
    share = f" ({exact / readable:.1%})" if readable else ""
    destination.say(f"exactly reconstructed: {exact:,} of {readable:,} molecules that the model can read{share}")
    destination.say(f"rejected: {count_reasons(table['state'][~read]) or 'none'}")
    destination.say(f"decoded to no molecule: {count_reasons(table['state'][read]) or 'none'}")
    destination.finish(len(table))
