"""Verb ``molvae decode``: turn latent vectors into molecules.

In: a table with columns z0, z1, ..., a NumPy array (N, D) or exact codes, and a model. Out: one molecule per row, in
order.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from molvae.cli.options import (
    BatchSize,
    Device,
    MaxLength,
    Model,
    Output,
    Seed,
    Spreadsheet,
    Temperature,
    TopK,
    TopP,
    Workers,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from molvae.generate.exact import ExactCodes
    from molvae.generate.latents import Decoded
    from molvae.generate.sampling import SamplingOptions

Latents = Annotated[Path, typer.Argument(metavar="LATENTS", help=".csv, .tsv, .npy, .npz, .parquet of molvae encode.")]


def command(
    source: Latents,
    model: Model = None,
    output: Output = None,
    seed: Seed = 0,
    device: Device = "auto",
    temperature: Temperature = 0.0,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    max_length: MaxLength = None,
    batch_size: BatchSize = None,
    workers: Workers = None,
    spreadsheet: Spreadsheet = False,
) -> None:
    """Turn latent vectors into molecules, one row each, in order.

    The table has the columns smiles, state and nats; a latent that gives no molecule has a blank (in an .sdf file a
    record without atoms) and says why. A .smi file has the molecules only. Exact codes give back their molecules; the
    options that choose tokens do not go with them.
    """
    import pandas as pd

    from molvae.cli.output import Destination, count_reasons
    from molvae.generate.exact import decode_exact
    from molvae.generate.exact_files import holds_codes
    from molvae.generate.latents import decode_latents
    from molvae.generate.sampling import SamplingOptions
    from molvae.nn.checkpoint import load_model

    destination = Destination(output)
    options = SamplingOptions(temperature, False, top_k, top_p, max_length, cast(Any, "fp32"))
    if holds_codes(source):
        codes = _read_codes(source, options)
        loaded = load_model(model, device)
        table = _table(decode_exact(loaded, codes, batch_size=batch_size, workers=workers))
        table["detail"] = pd.Series([why.detail if why else "" for why in codes.rejected], dtype=object)
    else:
        latents = read_latents(source)
        loaded = load_model(model, device)
        decoded = decode_latents(loaded, latents, options=options, seed=seed, batch_size=batch_size, workers=workers)
        table = _table(decoded)
    destination.table(table, spreadsheet=spreadsheet)
    reasons = count_reasons(table["state"])
    left_out = " (left out of the .smi file)" if reasons and destination.suffix == ".smi" else ""
    destination.say(f"no molecule: {reasons or 'none'}{left_out}")
    destination.finish(len(table))


def _read_codes(source: Path, options: SamplingOptions) -> ExactCodes:
    """Return the codes of a file.

    Raises:
        InputError: when options were given that choose tokens, or the file cannot be read.
    """
    from molvae.errors import InputError
    from molvae.generate.exact_files import read_codes

    if not options.deterministic or options.max_length is not None:
        raise InputError(
            f"{source} holds exact codes, which say themselves which tokens are written.",
            "Leave --temperature, --top-k, --top-p and --max-length out.",
        )
    return read_codes(source)


def _table(decoded: list[Decoded]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "smiles": pd.Series([row.smiles for row in decoded], dtype=object),
            "state": pd.Series([row.state for row in decoded], dtype=object),
            "nats": pd.Series([row.nats for row in decoded], dtype="float64"),
        }
    )


def read_latents(path: Path) -> NDArray[np.float32]:
    """Read latents (N, D) from ``.npy``, or from the columns z0, z1, ... of a table; a blank cell is NaN.

    Raises:
        InputError: when the file cannot be read or holds no latents.
    """
    import numpy as np
    import pandas as pd

    from molvae.errors import InputError
    from molvae.generate.latents import check_latents

    remedy = "Give a .npy array (N, D), or a .csv with the columns z0, z1, ... such as molvae encode writes."
    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, allow_pickle=False)
            return check_latents(array, array.shape[1] if array.ndim == 2 else 0)
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",", encoding="utf-8")
        names = [f"z{index}" for index in range(sum(str(column)[:1] == "z" for column in table.columns))]
        if not names or not set(names) <= set(table.columns):
            raise InputError(f"{path} has no columns z0, z1, ...", remedy)
        return table[names].to_numpy(dtype=np.float32)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.", "Check the path.") from error
    except InputError:
        raise
    except (ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} holds no latents: {reason}.", remedy) from error
