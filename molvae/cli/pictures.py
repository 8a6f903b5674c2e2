"""Draw the molecules of a result as a grid, next to its table.

In: SMILES and legends. Out: an SVG file, a PNG file, or both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from molvae.cli.output import Destination

Svg = Annotated[
    Path | None, typer.Option("--svg", metavar="FILE", help="Draw the molecules to this file.", show_default=False)
]
Png = Annotated[
    Path | None, typer.Option("--png", metavar="FILE", help="Draw the molecules to this file.", show_default=False)
]


DRAWN = 20
"""Molecules of a table that are drawn, the first."""


def picture_files(svg: Path | None, png: Path | None) -> list[Path]:
    """Return the files to draw, checked before the work.

    Raises:
        OutputError: when one ends otherwise, or cannot be written.
    """
    files = [Destination(path, (suffix,)).path for path, suffix in ((svg, ".svg"), (png, ".png")) if path is not None]
    return [path for path in files if path is not None]


def draw(files: Sequence[Path], smiles: Sequence[str], legends: Sequence[str], say: Destination) -> None:
    """Write the same grid to every file, an empty text leaving an empty cell, and say so.

    Args:
        files: from `picture_files`.
        smiles: one a cell.
        legends: one under each.
        say: where lines for people go.
    """
    from molvae.files import write_bytes, write_text
    from molvae.report.structures import grid_png, grid_svg

    for path in files:
        if path.suffix.lower() == ".svg":
            write_text(path, grid_svg(smiles, legends))
        else:
            write_bytes(path, grid_png(smiles, legends))
        say.say(f"wrote {path}")
