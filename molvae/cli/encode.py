"""Verb ``molvae encode``: turn molecules into latent vectors.

In: a file of SMILES and a model. Out: a table, or a NumPy array (N, D), NaN where a molecule cannot be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from molvae.cli.options import BatchSize, Device, Model, Molecules, Output, Seed, SmilesColumn, Spreadsheet, Workers

if TYPE_CHECKING:
    import pandas as pd

    from molvae.generate.latents import Encoded

Sampled = Annotated[bool, typer.Option("--sampled", help="Draw from q(z|x) instead of taking its mean.")]


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
    """Turn molecules into latent vectors, one row each, in order.

    A table has the columns input, smiles (canonical), state, detail, z0, z1, ...; a .npy file the array alone. A
    molecule that cannot be read has blanks (NaN in .npy) and says why in state.
    """
    import numpy as np

    from molvae.cli.molecules import read_smiles
    from molvae.cli.output import Destination, count_reasons
    from molvae.files import write_with
    from molvae.generate.latents import encode_smiles
    from molvae.nn.checkpoint import load_model

    destination = Destination(output, (".csv", ".tsv", ".sdf", ".parquet", ".npy"))
    smiles = read_smiles(source, smiles_column)
    loaded = load_model(model, device)
    encoded = encode_smiles(loaded, smiles, sampled=sampled, seed=seed, batch_size=batch_size, workers=workers)
    if destination.suffix == ".npy" and destination.path is not None:

        def write(temporary: object) -> None:
            with open(str(temporary), "wb") as handle:
                np.save(handle, encoded.latents, allow_pickle=False)

        write_with(destination.path, write)
    else:
        destination.table(_table(smiles, encoded), spreadsheet=spreadsheet)
    reasons = count_reasons(rejected.reason for rejected in encoded.rejected if rejected)
    destination.say(f"rejected: {reasons or 'none'}")
    destination.finish(len(smiles))


def _table(smiles: list[str], encoded: Encoded) -> pd.DataFrame:
    import pandas as pd

    names = [f"z{index}" for index in range(encoded.latents.shape[1])]
    left = pd.DataFrame(
        {
            "input": pd.Series(smiles, dtype=object),
            "smiles": pd.Series(encoded.smiles, dtype=object),
            "state": pd.Series([r.reason if r else "ok" for r in encoded.rejected], dtype=object),
            "detail": pd.Series([r.detail if r else "" for r in encoded.rejected], dtype=object),
        }
    )
    return pd.concat([left, pd.DataFrame(encoded.latents, columns=names)], axis=1)
