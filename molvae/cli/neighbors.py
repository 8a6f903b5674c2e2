"""Verb ``molvae neighbors``: molecules around one molecule.

In: one SMILES and a model. Out: a table of different molecules, the likest first, and a picture of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from molvae.cli.options import Device, Model, Output, Seed, Spreadsheet
from molvae.cli.pictures import Png, Svg
from molvae.cli.scaffold import KeepOption

if TYPE_CHECKING:
    import pandas as pd

Smiles = Annotated[str, typer.Argument(metavar="SMILES", help="The molecule.", show_default=False)]
Number = Annotated[int, typer.Option("-n", "--number", help="Molecules wanted.")]
Radius = Annotated[
    str | None,
    typer.Option(
        "--radius",
        help="In units of the posterior's own noise, with commas between several, such as 0.5,1,2; left out, from "
        "close by outwards until there are enough.",
        show_default=False,
    ),
]
Properties = Annotated[
    str, typer.Option("--properties", help="Columns to compute, with commas between them; none computes none.")
]
Exact = Annotated[
    bool, typer.Option("--exact", help="Hold the decoder's noise under which z gives the molecule itself.")
]
Redraw = Annotated[
    int,
    typer.Option(
        "--redraw",
        min=0,
        help="Draw the noise of so many tokens anew, so that others are written; z stays unless --radius is given.",
    ),
]
DIGITS = {"similarity": 4, "distance": 3, "nats": 3}


def command(
    smiles: Smiles,
    number: Number = 20,
    model: Model = None,
    output: Output = None,
    radius: Radius = None,
    exact: Exact = False,
    redraw: Redraw = 0,
    seed: Seed = 0,
    properties: Properties = "logp,qed,sa,mol_weight,tpsa",
    svg: Svg = None,
    png: Png = None,
    device: Device = "auto",
    spreadsheet: Spreadsheet = False,
    keep: KeepOption = None,
) -> None:
    """Draw molecules around one molecule: its latent mean plus RADIUS times its own posterior noise.

    Columns: smiles, similarity (Tanimoto to SMILES), radius, distance (of the point, in the same units), nats, and the
    properties. Every row is another valid molecule than SMILES, the likest first. A model need not give SMILES back
    from its mean alone; with --exact it does, and the points around it are neighbours of this very molecule. With
    --keep every row holds a part of SMILES, other groups hang on it, and columns say which.
    """
    from molvae.cli.output import Destination
    from molvae.cli.pictures import draw, picture_files
    from molvae.cli.scaffold import run_keep
    from molvae.generate.neighbors import neighbors
    from molvae.nn.checkpoint import load_model

    destination, files = Destination(output), picture_files(svg, png)
    names = tuple(name for name in properties.split(",") if name and name != "none")
    if keep is not None:
        _keep(exact or redraw > 0)
        run_keep(destination, load_model(model, device), smiles, keep, number, _radii(radius), names, seed,
                 spreadsheet, files, DIGITS)  # fmt: skip
        return
    table = neighbors(
        load_model(model, device), smiles, number, radii=_radii(radius), properties=names, seed=seed, exact=exact,
        redraw=redraw,
    )  # fmt: skip
    destination.table(table.round(DIGITS), spreadsheet=spreadsheet)
    for ring in table.attrs["rings"]:
        destination.say(_say_ring(ring))
    if not table.attrs["complete"]:
        destination.say(f"warning: Only {len(table)} of {number} molecules; a larger --radius finds more.")
    draw(files, *_cells(table), destination)
    destination.finish(len(table))


def _keep(held: bool) -> None:
    """Refuse --exact and --redraw beside --keep."""
    from molvae.errors import ConfigError

    if held:
        raise ConfigError("--keep writes tokens anew, so no noise can be held.", "Leave --exact and --redraw out.")


def _radii(text: str | None) -> list[float]:
    """Return the radii of ``--radius``.

    >>> _radii("0.5, 2"), _radii(None)
    ([0.5, 2.0], [])
    """
    from molvae.errors import InputError

    try:
        return [float(part) for part in text.split(",")] if text is not None else []
    except ValueError as error:
        raise InputError(f"--radius {text} is no list of numbers.", "Write it as 0.5,1,2.") from error


def _say_ring(ring: dict[str, Any]) -> str:
    """Return what became of the draws at one radius.

    >>> _say_ring({"radius": 0.5, "drawn": 9, "itself": 5, "again": 1, "failed": 0, "new": 3})
    'radius 0.5: 9 draws, 5 the molecule itself, 3 new, 1 again'
    """
    again = [f"{ring['again']:,} again"] if ring["again"] else []
    failed = [f"{ring['failed']:,} no molecule"] if ring["failed"] else []
    parts = [f"{ring['drawn']:,} draws", f"{ring['itself']:,} the molecule itself", f"{ring['new']:,} new"]
    return f"radius {ring['radius']:g}: {', '.join([*parts, *again, *failed])}"


def _cells(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the SMILES and legends of the picture, the molecule itself first."""
    legends = [
        f"{similarity:.2f} at {radius:g}"
        for similarity, radius in zip(table["similarity"], table["radius"], strict=True)
    ]
    return [str(table.attrs["start"]), *table["smiles"]], ["the molecule", *legends]
