"""Verb ``molvae report``: one self-contained HTML page about a run, a model, tables of molecules, or all of these.

In: directories and CSV tables written by the other verbs. Out: one HTML file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Model, run, dataset or optimize directories, CSV tables from sample or reconstruct, "
            "or a directory that holds some of these.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write, ending in .html.")] = Path(
        "report.html"
    ),
    title: Annotated[
        str | None, typer.Option("--title", help="Heading; left out, the name of the first RUN.", show_default=False)
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference",
            help="Dataset behind the property histograms; left out, the first dataset among RUN.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write one self-contained HTML page about a run or a model.

    The page opens offline: structures, property histograms against the training set, training curves, reconstruction
    examples, optimisation, and counts of everything rejected. Missing parts are named with the command that makes them.
    """
    from molvae.report.html import build_report

    written = build_report(sources, output, title, reference)
    typer.echo(f"wrote {written} ({written.stat().st_size / 1e6:.1f} MB)")
