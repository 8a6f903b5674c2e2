"""Show what a search found: the scores over its calls, each start beside its best, the best that differ, a front.

In: an optimisation directory as read. Out: a `Section` and key figures; None where there is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from molvae.chem.alerts import catalogue_alerts
from molvae.chem.fingerprints import morgan, tanimoto
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read
from molvae.report.blocks import Block, Card, Section, Tile, analogue, count_lines, figures_of, named, pair
from molvae.report.figures import BLUE, GREEN, GREY, search_curve, short
from molvae.report.molecules import CAPTION, with_properties
from molvae.report.tables import SearchRun, records
from molvae.report.volumes import volume_chart

PAIRS, LISTED = 12, 10
ALIKE = 0.8
"""Tanimoto similarity (Morgan radius 2, 2,048 bits) from which on two molecules are too alike to show both."""
RAW = "raw_"
BEST = {"smiles", "score", "parent", "similarity"}
CALLS = {
    "calls": "unique molecules scored",
    "failed": "the oracle gave no score",
    "no_molecule": "a latent decoded to nothing",
    "dissimilar": "too unlike the start",
    "refused": "a constraint of the goal was broken",
    "starts_unusable": "starts that the model cannot read",
}


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
        tiles.append(pair(row["parent"], row["smiles"], facts, "", shared=False))
    return tiles


def search_section(run: SearchRun, cards: list[Card], several: bool) -> Section | None:
    """Return an optimisation: scores over calls, each start beside its best descendant, the best that differ."""
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
    section.lead += "".join(f" Note: {note}." for note in run.notes)
    key = (("every call", GREY), ("best so far", BLUE), ("mean of the ten best so far", GREEN))
    section.blocks.append(Block("", "", key, charts=[chart]))
    if tiles := _improvements(run.best):
        text = "Left the start, right the best molecule made from it; orange marks what they do not share."
        section.blocks.append(Block("Before and after", text, tiles=tiles))
    section.blocks += [*(_best(run, ranked) if set(run.best.columns) >= BEST else []), *_front(run), *_call_counts(run)]
    return section


def differing(smiles: Sequence[str], most: int = LISTED) -> list[int]:
    """Return the places of the first ``most`` molecules, each less than `ALIKE` similar to all before it.

    >>> differing(["CCO", "CCO", "c1ccccc1"])
    [0, 2]
    """
    bits, chosen = morgan(smiles), list[int]()
    for place in range(len(smiles)):
        if len(chosen) == most:
            break
        near = tanimoto(bits[[place]], bits[chosen]) if chosen else np.zeros((1, 1))
        if float(near.max()) < ALIKE:
            chosen.append(place)
    return chosen


def _best(run: SearchRun, ranked: pd.DataFrame) -> Sequence[Block]:
    """Return the best molecules that differ, drawn, with what is behind their score, or else with usual properties."""
    given = {one for one in run.settings.get("starts") or [] if isinstance(one, str)}
    raw = {name: name.removeprefix(RAW) for name in ranked.columns if name.startswith(RAW)}
    # best.csv is in order, leaves out what the goal refuses, and names the start of each.
    rows = run.best.merge(ranked[["smiles", *raw]].drop_duplicates("smiles"), on="smiles")
    rows = rows[rows["parent"] != ""] if given else rows
    chosen = rows.iloc[differing(rows["smiles"].tolist())]
    if chosen.empty:
        return []
    tiles = []
    for row in records(chosen if raw else with_properties(chosen)):
        facts = [("score", short(float(row["score"]))), *figures_of(row, raw or CAPTION)]
        parent = row["parent"] if given else ""
        facts += figures_of(row, {"similarity": "similarity"}) if parent else []
        tiles.append(analogue(parent, row["smiles"], facts, _alerts(row["smiles"])))
    text = f"The best {len(tiles)} of which no two are {ALIKE:g} similar or more (Tanimoto, Morgan radius 2)"
    text += "; orange marks what the start does not have." if given else "."
    return [Block("Best molecules", text, tiles=tiles)]


def _alerts(smiles: str) -> str:
    mol = read(smiles)
    return "" if isinstance(mol, Rejected) else "; ".join(catalogue_alerts(mol))


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
