"""Show how a model was made: curves, reconstruction, the rows behind it and every setting.

In: a model, reconstruction table or dataset as read. Out: `Section`s and key figures; None where there is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from molvae.chem.rejected import REASONS
from molvae.report.blocks import Block, Card, Section, count_lines, figures_of, named, pair, percent, single
from molvae.report.figures import BLUE, GREEN, ORANGE, training_curves
from molvae.report.tables import DatasetFacts, ModelRun, Sources, Table, records, tally

EXAMPLES = 6
EPOCHS, EPOCH_TILES = 3, 5
WORDS = {**REASONS, "ok": "a molecule came out"}


def training_section(run: ModelRun, several: bool) -> Section | None:
    """Return curves over steps, and structures sampled along the way."""
    section = Section(f"training-{run.path.name}", named("Training", run.path, several))
    charts = training_curves(run.metrics)
    if charts:
        text = "Pale: every logged step; strong: a running mean. Distortion and rate are nats per molecule."
        kinds = {row.get("kind") for row in run.metrics}
        key: tuple[tuple[str, str], ...] = (("training", BLUE),) if "train" in kinds else ()
        key += (("validation", ORANGE), ("tokens in validation", GREEN)) if "valid" in kinds else ()
        section.blocks.append(Block("", text, key, charts))
    epochs = [epoch for epoch in sorted(run.epochs) if run.epochs[epoch]]
    for place in sorted({round(i * (len(epochs) - 1) / (EPOCHS - 1)) for i in range(EPOCHS)}) if epochs else []:
        tiles = [single(smiles) for smiles in run.epochs[epochs[place]][:EPOCH_TILES]]
        section.blocks.append(Block(f"Sampled after epoch {epochs[place]}", tiles=tiles))
    return section if section.blocks else None


def _readable(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose input the model can read, with the column ``before`` (canonical) and a boolean ``same``."""
    rows = rows.assign(before=rows["canonical"] if "canonical" in rows.columns else rows["input"])
    rows = rows[rows["before"] != ""]
    if "match" in rows.columns:
        return rows.assign(same=rows["match"].str.strip().str.lower().isin(["true", "1"]))
    return rows.assign(same=rows["before"] == rows["output"])


def reconstruction_section(table: Table, cards: list[Card], several: bool) -> Section | None:
    """Return how many molecules came back the same, examples of both kinds, and why the others did not."""
    rows = _readable(table.rows)
    n, same = len(rows), int(rows["same"].sum())
    if not n:
        return None
    cards.append(Card("Reconstructed exactly", percent(same, n), f"{same:,} of {n:,} molecules"))
    section = Section(f"reconstruction-{table.path.stem}", named("Reconstruction", table.path.parent, several))
    section.lead = (
        f"{same:,} of {n:,} molecules came back exactly ({percent(same, n)}). Left the input, right the output; "
        "the first of each kind in the table, not chosen."
    )
    for chosen, title, mark, text in (
        (rows["same"], "Came back exactly", "right", ""),
        (~rows["same"], "Came back changed", "wrong", "Orange marks what input and output do not share."),
    ):
        tiles = [
            pair(
                row["before"],
                row["output"],
                figures_of(row, {"similarity": "similarity"}),
                mark,
                shared=False,
                whole_rings=False,
            )
            for row in records(rows[chosen].head(EXAMPLES))
        ]
        if tiles:
            section.blocks.append(Block(title, text, tiles=tiles))
    states = tally(table.rows, "state")
    if set(states) - {"ok"}:
        counts = count_lines(states, len(table.rows), WORDS)
        section.blocks.append(Block("Every input", "What became of each row of the table.", counts=counts))
    return section


def dataset_section(dataset: DatasetFacts, cards: list[Card], several: bool) -> Section | None:
    """Return the rows read, accepted and repeated, and every reason for which rows were rejected."""
    section = Section(f"data-{dataset.path.name}", named("Data", dataset.path, several))
    rejected = sum(dataset.rejected.values())
    lines = {name: n for name, n in dataset.counts.items() if name in ("accepted", "duplicates")}
    lines["rejected"] = rejected
    read = dataset.counts.get("read", sum(lines.values()))
    if "accepted" in lines:
        note = f"of {read:,} rows; {lines.get('duplicates', 0):,} duplicates, {rejected:,} rejected"
        cards.append(Card("In the dataset", f"{lines['accepted']:,}", note))
    if read:
        words = {"duplicates": "the same molecule again", "rejected": "by reason below" if rejected else ""}
        counts = count_lines(lines, read, words, ("accepted", "duplicates"))
        section.blocks.append(Block("", f"{read:,} rows read, each of them counted once.", counts=counts))
    if rejected:
        first = {reason: f"; first: {text[:60]}" for reason, text in dataset.examples.items() if text.strip()}
        words = {reason: REASONS.get(reason, "") + first.get(reason, "") for reason in dataset.rejected}
        text = "rejected.csv lists every such row with its number."
        section.blocks.append(Block("Rejected", text, counts=count_lines(dataset.rejected, rejected, words)))
    return section if section.blocks else None


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as (dotted key, text).

    >>> flatten({"train": {"lr": 0.001, "epochs": None}, "names": ["a", "b"]})
    [('train.lr', '0.001'), ('train.epochs', 'not set'), ('names', 'a, b')]
    """
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        match value:
            case Mapping():
                lines += flatten(value, f"{prefix}{key}.")
            case list() if any(isinstance(entry, Mapping | list) for entry in value):
                lines.append((f"{prefix}{key}", f"{len(value)} entries"))
            case list():
                lines.append((f"{prefix}{key}", ", ".join(map(str, value)) or "none"))
            case _:
                lines.append((f"{prefix}{key}", "not set" if value is None else str(value)))
    return lines


def settings_section(sources: Sources) -> Section | None:
    """Return every setting of every model, optimisation and dataset."""
    section = Section("settings", "Settings")
    owners: list[tuple[Path, Any]] = [(model.path, model.config) for model in sources.models]
    owners += [(run.path, run.settings) for run in sources.searches]
    owners += [(data.path, data.manifest.get("options")) for data in sources.datasets]
    for path, values in owners:
        if isinstance(values, dict) and values:
            section.blocks.append(Block(str(path), head=("setting", "value"), rows=flatten(values)))
    return section if section.blocks else None
