"""Molecules with missing pieces on the command line: ``molvae impute "c1ccccc1{?}C(=O)N"``, or a table of such.

In: SMILES with masks, a model. Out: a table of completions, the likeliest first; lines on what was found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from molvae.cli.output import Destination

Completions = Annotated[
    int, typer.Option("-k", "--completions", help="Different completions of each molecule with missing pieces.")
]
Tries = Annotated[
    int, typer.Option("--tries", help="Sequences written for each molecule with missing pieces; more find more.")
]
SHOWN = 10
"""Inputs of which each is spoken of."""


def run_complete(
    destination: Destination, masked: Sequence[str], model: str | None, device: str, k: int, options: Any, tries: int,
    seed: int, spreadsheet: bool, files: Sequence[Path] = (),
) -> None:  # fmt: skip
    """Complete molecules, write the table and say what was found."""
    from molvae.chem.masks import read_masked
    from molvae.cli.progress import progress_bar
    from molvae.generate.complete import complete
    from molvae.nn.checkpoint import load_model

    if len(masked) == 1:
        # A single one is refused before the model is loaded.
        read_masked(masked[0])
    loaded = load_model(model, device)
    with progress_bar("Completing", len(masked)) as update:
        table = complete(loaded, masked, k, tries=tries, options=options, seed=seed, progress=update)
    destination.table(table, spreadsheet=spreadsheet)
    for line in lines(table, masked):
        destination.say(line)
    _draw(files, table, destination)
    destination.finish(int(table["rank"].notna().sum()), "completions")


def lines(table: pd.DataFrame, masked: Sequence[str]) -> list[str]:
    """Return what is to be said about a table of `molvae.generate.complete.complete`."""
    said = [str(table.attrs["yield_line"])]
    failed = table[table["state"] != "ok"]
    said += [f"warning: {row.input}: {row.detail}" for row in failed.head(SHOWN).itertuples()]
    if len(failed) > SHOWN:
        said.append(f"warning: {len(failed) - SHOWN:,} more could not be completed; the column detail says why")
    for text in dict.fromkeys(masked) if len(masked) <= SHOWN else ():
        best = table[(table["input"] == text) & (table["rank"] == 1)]
        for row in best.head(1).itertuples():
            worth = f"{row.nats:.1f} nats, {row.share:.0%} of the probability of those given"
            said.append(f"{text}: likeliest {row.smiles} ({row.pieces}; {worth})")
    return said


def _draw(files: Sequence[Path], table: pd.DataFrame, destination: Destination) -> None:
    """Write the pictures: every completion with its pieces and nats."""
    if files:
        from molvae.cli.pictures import draw

        good = table[table["state"] == "ok"]
        legends = [f"{row.pieces}  {row.nats:.1f}" for row in good.itertuples()]
        draw(files, [str(text) for text in good["smiles"]], legends, destination)
