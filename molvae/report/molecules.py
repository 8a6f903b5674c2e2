"""Show the molecules that came out: samples, and their properties against the training set.

In: tables of molecules as read. Out: `Section`s and key figures; None where there is nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from molvae.chem.properties import compute
from molvae.chem.rejected import REASONS
from molvae.report.blocks import Block, Card, Section, Tile, count_lines, figures_of, named, percent, single
from molvae.report.figures import BLUE, GREY, property_histograms
from molvae.report.reference import count_known, reference_properties
from molvae.report.tables import Table, records, tally

CAPTION = {"qed": "QED", "logp": "logP", "sa": "SA", "mol_weight": "MW"}
SHOWN = 25
COMPUTED = 1000
STATES = {**REASONS, "ok": "molecules"}


def with_properties(rows: pd.DataFrame) -> pd.DataFrame:
    """Return ``rows`` with the four properties of a caption, computed where there is no such column."""
    absent = [name for name in CAPTION if name not in rows.columns]
    if not absent or rows.empty:
        return rows
    values = compute(rows["smiles"].tolist(), absent, workers=1)
    return rows.assign(**{name: values[:, place] for place, name in enumerate(absent)})


def _valid(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[rows["smiles"].str.strip() != ""]
    return rows[rows["state"] == "ok"] if "state" in rows.columns else rows


def _tiles(rows: pd.DataFrame) -> list[Tile]:
    return [
        single(row["smiles"], figures_of(row, CAPTION), str(row.get("alerts", "")))
        for row in records(with_properties(rows))
    ]


def samples_section(table: Table, reference: Path | None, cards: list[Card], several: bool) -> Section:
    """Return the first generated molecules as drawings, and the state of every row."""
    n, valid = len(table.rows), _valid(table.rows)
    unique = valid.drop_duplicates("smiles")
    note = f"{percent(len(unique), len(valid))} unique"
    # A table of molecules only says nothing about validity: what failed was drawn again and is not in it.
    note = f"{percent(len(valid), n)} valid, {note}" if len(valid) < n else note
    cards.append(Card("Generated", f"{n:,}", note))
    known = count_known(reference, set(unique["smiles"])) if reference and len(unique) else None
    if known is not None:
        cards.append(Card("Novel", percent(len(unique) - known, len(unique)), "unique and not in the training set"))
    section = Section(f"molecules-{table.path.stem}", named("Generated molecules", table.path, several))
    section.lead = f"{note[0].upper()}{note[1:]}. " if n else "The table has no rows. "
    if len(unique):
        section.lead += f"Below the first {min(SHOWN, len(unique))} different molecules in the order drawn, not chosen."
        section.blocks.append(Block(tiles=_tiles(unique.head(SHOWN))))
    states = tally(table.rows, "state")
    if set(states) - {"ok"}:
        counts = count_lines({name or "(blank)": count for name, count in states.items()}, n, STATES)
        section.blocks.append(Block("What was drawn", f"State of each row of {table.path.name}.", counts=counts))
    return section


def properties_section(table: Table, reference: Path | None, several: bool) -> Section | None:
    """Return one histogram per property, generated molecules over the training set."""
    rows = _valid(table.rows)
    if not set(CAPTION) & set(rows.columns):
        rows = with_properties(rows.head(COMPUTED))
    names = [name for name in rows.columns if rows[name].dtype.kind == "f" and name not in ("nats", "similarity")]
    training = reference_properties(reference, names) if reference else {}
    charts = property_histograms({name: rows[name].to_numpy(dtype=np.float64) for name in names}, training)
    if not charts:
        return None
    section = Section(f"properties-{table.path.stem}", named("Properties", table.path, several))
    text = f"{len(rows):,} valid generated molecules"
    text += f" against the train split of {reference.name}." if reference and training else "."
    key = (("generated", BLUE), ("training set", GREY))
    section.blocks.append(Block("", text, key if training else key[:1], charts))
    return section
