"""The options that several verbs share, so that they read and mean the same everywhere.

In: nothing. Out: annotated types for the parameters of a verb's ``command``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        help="Model directory or name of a shipped model; left out, the default one.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="File to write, as its ending says (.csv, .sdf, .parquet, ...); left out or -, the result goes to stdout.",
        show_default=False,
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of all chance; the same seed, the same result.")
]
Device = Annotated[str, typer.Option("--device", help="auto (a GPU when there is one), cpu, cuda, cuda:1 or mps.")]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", help="Molecules on the device at once; left out, what suits it.", show_default=False),
]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Processes for chemistry; left out, every core.", show_default=False)
]
Spreadsheet = Annotated[
    bool,
    typer.Option(
        "--spreadsheet", help="Put ' before cells that a spreadsheet would run as a formula (for people, not programs)."
    ),
]
Molecules = Annotated[
    str,
    typer.Argument(
        metavar="IN",
        help=".csv .tsv .smi .smiles .sdf, each also .gz, .parquet, - for stdin, or a named split such as moses:test.",
        show_default=False,
    ),
]
SmilesColumn = Annotated[
    str | None,
    typer.Option("--smiles-column", help="Column with the SMILES; left out, it is found.", show_default=False),
]
Alerts = Annotated[
    bool, typer.Option("--alerts/--no-alerts", help="Name PAINS, BRENK, NIH and MOSES alerts (some ms a molecule).")
]
Temperature = Annotated[
    float, typer.Option("--temperature", help="Below 1 bolder, above 1 more varied, 0 the likeliest token each time.")
]
OwnTemperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        help="Below 1 bolder, above 1 more varied, 0 the likeliest token each time; left out, what suits the model.",
        show_default=False,
    ),
]
Rounds = Annotated[
    int | None,
    typer.Option(
        "--rounds",
        help="Times to read back what was written and write it again, with --where after a move towards what is asked; "
        "left out, what suits the model.",
        show_default=False,
    ),
]
TopK = Annotated[int, typer.Option("--top-k", help="Choose among the k likeliest tokens only; 0 means all.")]
TopP = Annotated[float, typer.Option("--top-p", help="Choose among the likeliest tokens that hold this share.")]
MaxLength = Annotated[
    int | None,
    typer.Option(
        "--max-length", help="Tokens a molecule may have; left out, what suits the model.", show_default=False
    ),
]
Precision = Annotated[str, typer.Option("--precision", help="auto (bfloat16 where that is faster), fp32 or bf16.")]
