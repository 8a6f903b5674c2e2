"""Verb ``molvae encode``: turn molecules into latent vectors.

In: a file of SMILES and a model. Out: a table, or a NumPy array (N, D), NaN where a molecule cannot be read; or exact
codes, latents with the decoder's noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from molvae.cli.options import BatchSize, Device, Model, Molecules, Output, Seed, SmilesColumn, Spreadsheet, Workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from molvae.chem.rejected import Rejected
    from molvae.cli.output import Destination
    from molvae.generate.latents import Encoded

Sampled = Annotated[bool, typer.Option("--sampled", help="Draw from q(z|x) instead of taking its mean.")]

Exact = Annotated[
    bool,
    typer.Option(
        "--exact", help="With the decoder's noise, so that decode gives every molecule back; to .npz or .parquet."
    ),
]


def command(
    source: Molecules,
    model: Model = None,
    output: Output = None,
    smiles_column: SmilesColumn = None,
    sampled: Sampled = False,
    exact: Exact = False,
    seed: Seed = 0,
    device: Device = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    spreadsheet: Spreadsheet = False,
) -> None:
    """Turn molecules into latent vectors, one row each, in order.

    A table has the columns input, smiles (canonical), state, detail, z0, z1, ...; a .npy file the array alone. A
    molecule that cannot be read has blanks (NaN in .npy) and says why in state. With --exact every molecule that the
    model can read comes back from molvae decode, which is proved here for each; the others keep their reasons.
    """
    import numpy as np

    from molvae.cli.molecules import read_smiles
    from molvae.cli.output import Destination
    from molvae.errors import OutputError
    from molvae.files import write_with
    from molvae.generate.exact import encode_exact
    from molvae.generate.exact_files import write_codes
    from molvae.generate.latents import encode_smiles
    from molvae.nn.checkpoint import load_model

    plain = (".csv", ".tsv", ".sdf", ".parquet", ".npy")
    destination = Destination(output, (".npz", ".parquet") if exact else plain)
    if exact and destination.path is None:
        raise OutputError("Exact codes are no text.", "Name a file with -o, ending in .npz or .parquet.")
    smiles = read_smiles(source, smiles_column)
    loaded = load_model(model, device)
    if exact and destination.path is not None:
        codes = encode_exact(loaded, smiles, sampled=sampled, seed=seed, batch_size=batch_size, workers=workers)
        write_codes(destination.path, codes)
        _tell(destination, codes.rejected)
        return
    encoded = encode_smiles(loaded, smiles, sampled=sampled, seed=seed, batch_size=batch_size, workers=workers)
    if destination.suffix == ".npy" and destination.path is not None:

        def write(temporary: object) -> None:
            with open(str(temporary), "wb") as handle:
                np.save(handle, encoded.latents, allow_pickle=False)

        write_with(destination.path, write)
    else:
        destination.table(_table(smiles, encoded), spreadsheet=spreadsheet)
    _tell(destination, encoded.rejected)


def _tell(destination: Destination, rejected: Sequence[Rejected | None]) -> None:
    from molvae.cli.output import count_reasons

    destination.say(f"rejected: {count_reasons(one.reason for one in rejected if one) or 'none'}")
    destination.finish(len(rejected))


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
