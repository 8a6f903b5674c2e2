"""Verb ``molvae report``: one self-contained HTML page about a run, a model, tables of molecules, or all of these.

In: directories and CSV tables written by the other verbs. Out: one HTML file.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from molvae.report.blocks import Section
    from molvae.report.contents import Mapper


class Plane(StrEnum):
    """Which directions the latent map shows."""

    components = "components"
    properties = "properties"


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
    colors: Annotated[
        str,
        typer.Option(
            "--map", help="Properties that colour the latent map of a model, with commas between them; none, no map."
        ),
    ] = "logp,qed,mol_weight",
    plane: Annotated[
        Plane,
        typer.Option("--map-plane", help="Principal components, or the directions in which the first two rise."),
    ] = Plane.components,
) -> None:
    """Write one self-contained HTML page about a run or a model.

    The page opens offline: structures, property histograms against the training set, a map of the latent space,
    training curves, reconstruction examples, optimisation, and counts of everything rejected. Missing parts are named
    with the command that makes them.
    """
    from molvae.report.html import build_report

    written = build_report(sources, output, title, reference, _mapper(colors, plane))
    typer.echo(f"wrote {written} ({written.stat().st_size / 1e6:.1f} MB)")


def _mapper(colors: str, plane: Plane) -> Mapper | None:
    """Return what draws the latent map; torch is imported by its first call, not for a page without a model."""
    from molvae.chem.properties import check_names

    names = check_names([name for name in colors.split(",") if name and name != "none"])

    def draw(directory: Path, smiles: Sequence[str], origin: str, several: bool) -> Section | None:
        from molvae.report.latent_map import latent_map_section

        return latent_map_section(directory, smiles, origin, several, names, plane.value)

    return draw if names else None
