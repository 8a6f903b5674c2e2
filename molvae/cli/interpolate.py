"""Verb ``molvae interpolate``: molecules on the way from one to another.

In: two SMILES and a model. Out: a table of the path, and a picture of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from molvae.cli.options import Device, Model, Output, Spreadsheet
from molvae.cli.pictures import Png, Svg

if TYPE_CHECKING:
    import pandas as pd

First = Annotated[str, typer.Argument(metavar="A", help="SMILES to begin with.", show_default=False)]
Second = Annotated[str, typer.Argument(metavar="B", help="SMILES to end with.", show_default=False)]
Steps = Annotated[int, typer.Option("--steps", help="Parts of the path; it has one point more.")]
Linear = Annotated[
    bool, typer.Option("--linear/--spherical", help="A straight line, or along the sphere on which codes lie.")
]
Every = Annotated[bool, typer.Option("--every", help="One row for every point, even where the molecule repeats.")]
DIGITS = {"position": 6, "until": 6, "similarity_a": 4, "similarity_b": 4, "distance_a": 3, "distance_b": 3, "nats": 3}


def command(
    first: First,
    second: Second,
    model: Model = None,
    output: Output = None,
    steps: Steps = 10,
    linear: Linear = False,
    every: Every = False,
    svg: Svg = None,
    png: Png = None,
    device: Device = "auto",
    spreadsheet: Spreadsheet = False,
) -> None:
    """Walk from molecule A to molecule B in latent space, decoding greedily.

    Columns: position and until (0 is A, 1 is B; points in a row with the same molecule are one row), steps (how many),
    smiles, state, similarity_a and similarity_b (Tanimoto to A and B), distance_a and distance_b (in units of the noise
    of A's and B's own posterior: a draw from it lies at about 1), nats.
    """
    from molvae.cli.output import Destination
    from molvae.cli.pictures import draw, picture_files
    from molvae.generate.interpolate import interpolate
    from molvae.nn.checkpoint import load_model

    destination, files = Destination(output), picture_files(svg, png)
    table = interpolate(load_model(model, device), first, second, steps=steps, spherical=not linear, fold=not every)
    destination.table(table.round(DIGITS), spreadsheet=spreadsheet)
    for line in _ends(table):
        destination.say(line)
    failed = int(table.loc[table["smiles"].isna(), "steps"].sum())
    count = int(table["smiles"].nunique())
    destination.say(f"{steps + 1:,} points: {count:,} different molecules, {failed:,} points without a molecule")
    draw(files, *_cells(table), destination)
    destination.finish(count)


def _ends(table: pd.DataFrame) -> list[str]:
    """Say for each end that its code decodes to another molecule, when it does."""
    lines = []
    for name, row, given in zip("AB", (0, len(table) - 1), table.attrs["ends"], strict=True):
        got = table["smiles"].iloc[row]
        if got != given:
            similarity = table[f"similarity_{name.lower()}"].iloc[row]
            back = f"{got} (similarity {similarity:.2f})" if got else "no molecule"
            lines.append(f"note: {name}, {given}, does not come back from its code exactly, but {back}")
    return lines


def _cells(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the SMILES and legends of the picture: A as given, the path, B as given."""
    smiles, legends = [str(table.attrs["ends"][0])], ["A"]
    for at, to, one, like_a, like_b in zip(
        *(table[name] for name in ("position", "until", "smiles", "similarity_a", "similarity_b")), strict=True
    ):
        smiles.append(one or "")
        place = f"{at:.2g}" if at == to else f"{at:.2g} to {to:.2g}"
        legends.append(f"{place}: A {like_a:.2f}, B {like_b:.2f}" if one else f"{place}: no molecule")
    return [*smiles, str(table.attrs["ends"][1])], [*legends, "B"]
