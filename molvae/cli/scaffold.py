"""Scaffolds on the command line: ``sample --scaffold`` and ``neighbors --keep``.

In: a model, and the options of those verbs. Out: a table, lines on the yield, a picture with the scaffold highlighted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from molvae.cli.output import Destination

ScaffoldOption = Annotated[
    str | None,
    typer.Option(
        "--scaffold",
        metavar="SMILES",
        help='What every molecule holds, with one to three [*] to be filled, such as "O=C(Nc1ccccc1)[*]", or two '
        'fragments to be linked, "[*]c1ccccc1.[*]N1CCOCC1".',
        show_default=False,
    ),
]
KeepOption = Annotated[
    str | None,
    typer.Option(
        "--keep",
        metavar="SMARTS",
        help="The part of the molecule that stays; what hangs on it is written anew.",
        show_default=False,
    ),
]


def run_sample(
    destination: Destination, model: str | None, device: str, number: int, options: Any, wanted: Any, seed: int,
    workers: int | None, spreadsheet: bool, *, scaffold: str, files: Sequence[Path] = (), asked: Any = None,
) -> None:  # fmt: skip
    """Do ``sample --scaffold``, with --where when ``asked`` holds requests: different molecules, and the yield.

    Raises:
        ConfigError: with --keep-failed: every string holds the scaffold, and a failed one says nothing.
    """
    from molvae.cli.progress import progress_bar
    from molvae.cli.requests import asked_lines
    from molvae.errors import ConfigError
    from molvae.generate.scaffold import sample_scaffold
    from molvae.generate.scaffold_where import sample_scaffold_where
    from molvae.nn.checkpoint import load_model

    if wanted.keep_failed or wanted.prior_temperature != 1:
        raise ConfigError(
            "--scaffold goes with neither --keep-failed nor --prior-temperature.", "Leave that option out."
        )
    loaded = load_model(model, device)
    with progress_bar("Sampling", number) as update:
        common: Any = {
            "options": options, "properties": wanted.properties, "alerts": wanted.alerts,
            "known": frozenset(wanted.novel_to), "seed": seed, "workers": workers, "progress": update,
        }  # fmt: skip
        if asked is None:
            table = sample_scaffold(loaded, number, scaffold, **common)
        else:
            table = sample_scaffold_where(loaded, number, scaffold, *asked, **common)
    destination.table(table, spreadsheet=spreadsheet)
    for line in (*lines(table, number), *asked_lines(table)):
        destination.say(line)
    _draw(files, table, [str(name) for name in table["smiles"]], scaffold, destination)
    destination.finish(len(table))


def lines(table: pd.DataFrame, number: int) -> list[str]:
    """Return what is to be said about a table of `sample_scaffold`."""
    said = [str(table.attrs["yield_line"])]
    if "alerts" in table and len(table):
        hit = int((table["alerts"] != "").sum())
        said.append(f"MOSES alerts: {hit:,} of {len(table):,} molecules ({hit / len(table):.0%}); none was left out")
    if not table.attrs["complete"] and "where" not in table.attrs:
        said.append(f"warning: Only {len(table)} of {number} molecules; a higher --temperature finds more.")
    return said


def run_keep(
    destination: Destination, loaded: Any, smiles: str, keep: str, number: int, radii: Sequence[float],
    properties: Sequence[str], seed: int, spreadsheet: bool, files: Sequence[Path], digits: dict[str, int],
) -> None:  # fmt: skip
    """Do ``neighbors --keep``: molecules around one that keep a part of it."""
    from molvae.generate.scaffold_keep import neighbors_keep

    table = neighbors_keep(loaded, smiles, keep, number, radii=radii, properties=properties, seed=seed)
    destination.table(table.round(digits), spreadsheet=spreadsheet)
    destination.say(f"kept {table.attrs['scaffold']}")
    for ring in table.attrs["rings"]:
        destination.say(f"radius {ring['radius']:g}: {ring['line']}")
    if not table.attrs["complete"]:
        destination.say(f"warning: Only {len(table)} of {number} molecules; a larger --radius finds more.")
    legends = ["the molecule", *(f"{near:.2f} at {radius:g}" for near, radius in zip(
        table["similarity"], table["radius"], strict=True))]  # fmt: skip
    _draw(files, table, [str(table.attrs["start"]), *table["smiles"]], str(table.attrs["scaffold"]), destination,
          legends)  # fmt: skip
    destination.finish(len(table))


def _draw(
    files: Sequence[Path], table: pd.DataFrame, smiles: Sequence[str], scaffold: str, say: Destination,
    legends: Sequence[str] = (),
) -> None:  # fmt: skip
    """Write the pictures, every molecule with its scaffold highlighted; without ``legends`` each says what is new."""
    from molvae.files import write_bytes, write_text
    from molvae.report.structures import SHARED, grid_png, grid_svg

    names = [name for name in table.columns if name == "linker" or (len(name) == 2 and name[0] == "R")]
    below = list(legends) or [", ".join(parts) for parts in table[names].itertuples(index=False)]
    shades = [dict.fromkeys(atoms, SHARED) for atoms in _scaffold_atoms(smiles, scaffold)] if files else []
    for path in files:
        if path.suffix.lower() == ".svg":
            write_text(path, grid_svg(smiles, below, colors=shades))
        else:
            write_bytes(path, grid_png(smiles, below, colors=shades))
        say.say(f"wrote {path}")


def _scaffold_atoms(smiles: Sequence[str], scaffold: str) -> list[tuple[int, ...]]:
    """Return the atoms of the scaffold in each molecule."""
    from rdkit import Chem

    from molvae.chem.attachment import find_scaffold, read_scaffold

    read = read_scaffold(scaffold)
    return [find_scaffold(read, Chem.MolFromSmiles(text)) for text in smiles]
