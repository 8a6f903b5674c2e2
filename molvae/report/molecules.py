"""Show the molecules that came out: samples, their properties against the training set, and what a search found.

In: tables of molecules as read. Out: `Section`s and key figures; None where there is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from molvae.chem.properties import compute
from molvae.chem.rejected import REASONS
from molvae.report.blocks import Block, Card, Section, Tile, count_lines, figures_of, named, pair, percent, single
from molvae.report.figures import BLUE, GREY, property_histograms, search_curve, short
from molvae.report.reference import count_known, reference_properties
from molvae.report.tables import SearchRun, Table, records, tally
from molvae.report.volumes import volume_chart

CAPTION = {"qed": "QED", "logp": "logP", "sa": "SA", "mol_weight": "MW"}
SHOWN, PAIRS, LISTED = 25, 12, 10
COMPUTED = 1000
STATES = {**REASONS, "ok": "molecules"}
CALLS = {
    "calls": "unique molecules scored",
    "failed": "the oracle gave no score",
    "no_molecule": "a latent decoded to nothing",
    "dissimilar": "too unlike the start",
    "refused": "a constraint of the goal was broken",
    "starts_unusable": "starts that the model cannot read",
}


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


def _improvements(best: pd.DataFrame) -> list[Tile]:
    """Return a tile for the best descendant of every start, the start beside it."""
    if not {"smiles", "score", "parent", "parent_score", "best_of_parent"} <= set(best.columns):
        return []
    chosen = best[(best["best_of_parent"].str.lower() == "true") & (best["parent"] != "")]
    tiles = []
    for row in records(chosen.head(PAIRS)):
        facts = figures_of(row, {"parent_score": "before", "score": "after"})
        gain = row["score"] - row["parent_score"]
        if np.isfinite(gain):
            facts.append(("gain", f"{gain:+.3g}"))
        facts += figures_of(row, {"similarity": "similarity"})
        tiles.append(pair(row["parent"], row["smiles"], facts, "", shared=True))
    return tiles


def search_section(run: SearchRun, cards: list[Card], several: bool) -> Section | None:
    """Return an optimisation: best score over calls, each start beside its best descendant, the best molecules."""
    rows = run.molecules
    rows = rows.assign(score=pd.to_numeric(rows["score"], errors="coerce").astype("float64"))
    chart = search_curve(rows["score"].to_numpy(), minimize=run.minimize)
    if chart is None:
        return None
    ranked = rows.dropna(subset=["score"]).sort_values("score", ascending=run.minimize, kind="stable")
    failed, top = len(rows) - len(ranked), float(ranked["score"].iloc[0])
    cards.append(Card(f"Best {run.oracle}", short(top), f"after {len(rows):,} oracle calls"))
    section = Section(f"optimisation-{run.path.name}", named("Optimisation", run.path, several))
    section.lead = f"Oracle {run.oracle}, {'lower' if run.minimize else 'higher'} is better; {len(rows):,} calls"
    section.lead += f", {failed:,} without a score." if failed else "."
    section.blocks.append(Block("", "Grey: every call; blue: the best so far.", charts=[chart]))
    if tiles := _improvements(run.best):
        text = "Left the start, right the best molecule made from it; green marks the largest part that both share."
        section.blocks.append(Block("Before and after", text, tiles=tiles))
    listed = records(ranked.drop_duplicates("smiles").head(LISTED))
    lines = [(str(place), short(row["score"]), row["smiles"]) for place, row in enumerate(listed, start=1)]
    section.blocks.append(Block("Best molecules", head=("", run.oracle, "SMILES"), rows=lines))
    section.blocks += [*_front(run), *_call_counts(run)]
    return section


def _front(run: SearchRun) -> Sequence[Block]:
    """Return the front of a search for several objectives, and the volume below it over the calls."""
    names = [str(name) for name in run.front.columns if name not in ("step", "smiles", "parent")]
    if not names or not {"calls", "hypervolume"} <= set(run.hypervolume.columns):
        return []
    curve = run.hypervolume[["calls", "hypervolume"]].apply(pd.to_numeric, errors="coerce").dropna()
    chart = volume_chart(curve.to_numpy(dtype=np.float64).tolist())
    shown = records(run.front.head(PAIRS))
    lines = [(*(short(float(row[name])) for name in names), row["smiles"]) for row in shown]
    text = f"{len(run.front):,} molecules that no other one beats; the first {len(shown)} by {names[0]}."
    blocks = [Block("Front", "The volume below the front.", charts=[chart])] if chart is not None else []
    return [*blocks, Block("Molecules of the front", text, head=(*names, "SMILES"), rows=lines)]


def _call_counts(run: SearchRun) -> Sequence[Block]:
    counts = {CALLS[name]: run.counts[name] for name in CALLS if run.counts.get(name)}
    if not counts:
        return []
    most = max(counts.values())
    return [Block("What the search met", counts=count_lines(counts, most, {}, (CALLS["calls"],)))]
