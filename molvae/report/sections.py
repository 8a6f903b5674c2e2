"""Turn what was found into the sections of the page, leaving out what is missing and saying which command makes it.

In: `Sources`. Out: `Section`s, key figures, and the list of what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from molvae.chem.rejected import REASONS
from molvae.report.blocks import Block, Card, Section, count_lines, figures_of, pair, percent, single
from molvae.report.figures import BLUE, GREY, ORANGE, TITLES, property_histograms, search_curve, short, training_curves
from molvae.report.lineage import best_of_each
from molvae.report.tables import DatasetFacts, ModelRun, SearchRun, Sources, Table, count_known, reference_properties

CAPTION = {"qed": "QED", "logp": "logP", "sa": "SA", "mol_weight": "MW"}
WORDS = {**REASONS, "ok": "valid molecules", "duplicate": "the same molecule again", "known": "in the training set"}
SHOWN, PAIRS = 24, 6
Missing = list[tuple[str, str]]


def _name(section: str, path: Path, several: bool) -> str:
    return f"{section}: {path.name}" if several else section


def add_properties(rows: pd.DataFrame) -> pd.DataFrame:
    """Return ``rows`` with the four caption properties, computed where the table has no column of that name."""
    from molvae.chem.properties import compute

    absent = [name for name in CAPTION if name not in rows.columns]
    if not absent or rows.empty:
        return rows
    values = compute(rows["smiles"].tolist(), absent)
    return rows.assign(**{name: values[:, i] for i, name in enumerate(absent)})


def training_section(run: ModelRun, missing: Missing, several: bool) -> Section | None:
    """Curves over steps, and structures sampled along the way."""
    section = Section(f"training-{run.path.name}", _name("Training", run.path, several))
    charts = training_curves(run.metrics)
    if charts:
        text = "Pale: every logged step; strong: a running mean. Distortion and rate are nats per molecule."
        section.blocks.append(Block("", text, (("training", BLUE), ("validation, exact", ORANGE), ("tokens", "#009E73")), charts))
    else:
        missing.append((f"Training curves of {run.path.name}", f"molvae train DATASET -o {run.path}"))
    epochs = sorted(run.epochs)
    for index in sorted({round(i * (len(epochs) - 1) / 2) for i in range(3)}) if len(epochs) > 1 else []:
        chosen = [single(smiles) for smiles in run.epochs[epochs[index]][:6]]
        if chosen:
            section.blocks.append(Block(f"Sampled after epoch {epochs[index]}", tiles=chosen))
    return section if section.blocks else None


def _matches(rows: pd.DataFrame) -> pd.Series:
    if "match" in rows.columns:
        return rows["match"].str.strip().str.lower().isin(["true", "1", "yes"])
    return (rows["input"] == rows["output"]) & (rows["input"] != "")


def reconstruction_section(table: Table, cards: list[Card], several: bool) -> Section:
    """Molecules that went through the model and back: how many came out the same, and examples of both kinds."""
    rows = table.rows
    match = _matches(rows)
    cards.append(Card("Reconstructed exactly", percent(int(match.sum()), len(rows)), f"{match.sum():,} of {len(rows):,}"))
    section = Section(f"reconstruction-{table.path.stem}", _name("Reconstruction", table.path, several))
    section.lead = (
        f"{match.sum():,} of {len(rows):,} molecules came back exactly ({percent(int(match.sum()), len(rows))}). "
        "Left the input, right the output; the first of each kind in the table, not chosen."
    )
    for chosen, title, mark, text in (
        (match, "Came back exactly", "right", ""),
        (~match, "Came back changed", "wrong", "Atoms that input and output do not share are marked."),
    ):
        tiles = [
            pair(str(row["input"]), str(row["output"]), figures_of(row, {"similarity": "similarity"}), mark, shared=False)
            for row in rows[chosen].head(PAIRS).to_dict("records")
        ]
        if tiles:
            section.blocks.append(Block(title, text, tiles=tiles))
    return section


def _count_states(table: Table) -> tuple[pd.DataFrame, dict[str, int]]:
    if "state" not in table.rows.columns:
        return table.rows[table.rows["smiles"] != ""], {}
    counts = {str(k): int(v) for k, v in table.rows["state"].value_counts().items()}
    return table.rows[table.rows["state"].isin(["ok", ""]) & (table.rows["smiles"] != "")], counts


def samples_sections(
    table: Table, reference: Path | None, cards: list[Card], missing: Missing, several: bool
) -> list[Section]:
    """Generated molecules: counts, a grid of the first ones, and their properties against the training set."""
    valid, states = _count_states(table)
    n = len(table.rows)
    unique = valid.drop_duplicates("smiles")
    cards.append(Card("Generated", f"{n:,}", f"{percent(len(valid), n)} valid, {percent(len(unique), len(valid))} unique"))
    known = count_known(reference, set(unique["smiles"])) if reference and len(unique) else None
    if known is not None:
        cards.append(Card("New", percent(len(unique) - known, len(unique)), "of unique molecules are not in the data set"))
    section = Section(f"molecules-{table.path.stem}", _name("Generated molecules", table.path, several))
    section.lead = f"The first {min(SHOWN, len(unique))} different molecules in the order drawn, not chosen."
    shown = add_properties(unique.head(SHOWN))
    tiles = [
        single(row["smiles"], figures_of(row, CAPTION), str(row.get("alerts", "")).strip("[]() "))
        for row in shown.to_dict("records")
    ]
    if tiles:
        section.blocks.append(Block(tiles=tiles))
    if states:
        lines = count_lines(states, n, WORDS)
        section.blocks.append(Block("What was drawn", f"State of each of the {n:,} rows of {table.path.name}.", counts=lines))
    sections = [section]
    histograms = _properties(table, valid, reference, missing, several)
    return [*sections, histograms] if histograms else sections


def _properties(
    table: Table, valid: pd.DataFrame, reference: Path | None, missing: Missing, several: bool
) -> Section | None:
    rows = valid if set(CAPTION) & set(valid.columns) else add_properties(valid.head(2000))
    names = [c for c in rows.columns if rows[c].dtype.kind == "f" and c != "nats"]
    training = reference_properties(reference, names) if reference else {}
    charts = property_histograms({name: rows[name].to_numpy(dtype=np.float64) for name in names}, training)
    if not charts:
        return None
    if not any(len(column) for column in training.values()):
        missing.append(("The training set behind the property histograms", "molvae report ... --reference DATASET"))
    key = (("generated", BLUE), ("training set", GREY)) if training else (("generated", BLUE),)
    text = f"{len(rows):,} valid generated molecules" + (f" against the training split of {reference.name}." if training and reference else ".")
    section = Section(f"properties-{table.path.stem}", _name("Properties", table.path, several))
    section.blocks.append(Block("", text, key, charts))
    return section


def search_section(run: SearchRun, cards: list[Card], several: bool) -> Section | None:
    """An optimisation: best score over calls, each start beside its best descendant, the best molecules."""
    rows = run.molecules
    scores = pd.to_numeric(rows["score"], errors="coerce").to_numpy(dtype=np.float64)
    oracle = str(run.facts.get("oracle", "score"))
    section = Section(f"optimisation-{run.path.name}", _name("Optimisation", run.path, several))
    chart = search_curve(scores)
    if chart is None:
        return None
    failed = int(np.isnan(scores).sum())
    best = rows.iloc[int(np.nanargmax(scores))]
    cards.append(Card(f"Best {oracle}", short(float(np.nanmax(scores))), f"after {len(rows):,} oracle calls"))
    section.lead = f"Oracle {oracle}, {len(rows):,} calls" + (f", {failed:,} without a score." if failed else ", all scored.")
    section.blocks.append(Block("", "Grey: every call; blue: the best so far.", charts=[chart]))
    gains = best_of_each(rows.assign(score=scores), str(best["smiles"]))
    tiles = [
        pair(a, b, [("before", short(x)), ("after", short(y)), ("gain", f"{y - x:+.3g}")], "", shared=True)
        for a, x, b, y in gains[: 2 * PAIRS]
    ]
    if tiles:
        text = "Left the start, right its best descendant; green marks the largest substructure that both share."
        section.blocks.append(Block("Before and after", text, tiles=tiles))
    top = rows.assign(score=scores).dropna(subset="score").sort_values("score", ascending=False, kind="stable")
    top = top.drop_duplicates("smiles").head(10)
    lines = [(str(i), short(float(r["score"])), r["smiles"]) for i, r in enumerate(top.to_dict("records"), start=1)]
    section.blocks.append(Block("Ten best", head=("", oracle, "SMILES"), rows=lines))
    return section


def dataset_section(dataset: DatasetFacts, cards: list[Card], several: bool) -> Section | None:
    """A data set: rows read, accepted, duplicates, and every reason for which rows were rejected."""
    counts, section = dataset.counts, Section(f"data-{dataset.path.name}", _name("Data", dataset.path, several))
    inside = dataset.manifest.get("counts")
    reasons = dataset.rejected or (inside.get("rejected") if isinstance(inside, dict) else None)
    reasons = reasons if isinstance(reasons, dict) else {}
    read = counts.get("read", sum(counts.get(k, 0) for k in ("accepted", "duplicates")) + sum(reasons.values()))
    if "accepted" in counts:
        note = f"of {read:,} rows read, {sum(reasons.values()):,} rejected"
        cards.append(Card("Molecules in the data set", f"{counts['accepted']:,}", note))
    lines = {k: counts[k] for k in ("accepted", "duplicates") if k in counts}
    lines["rejected"] = sum(reasons.values())
    if read:
        words = {"accepted": "in the data set", "duplicates": "the same molecule again", "rejected": "listed below"}
        good = ("accepted", "duplicates")
        section.blocks.append(Block("Rows", f"{read:,} rows read.", counts=count_lines(lines, read, words, good)))
    if reasons:
        words = {k: WORDS.get(k, "") + (f"; first: {dataset.examples[k][:60]}" if dataset.examples.get(k) else "") for k in reasons}
        text = "Every row is listed in rejected.csv with its number and reason."
        section.blocks.append(Block("Rejected", text, counts=count_lines(reasons, sum(reasons.values()), words)))
    return section if section.blocks else None


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as (dotted key, text).

    >>> flatten({"train": {"lr": 0.001, "epochs": None}, "names": ["a", "b"]})
    [('train.lr', '0.001'), ('train.epochs', 'not set'), ('names', 'a, b')]
    """
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            lines.append((prefix + str(key), ", ".join(map(str, value)) or "none"))
        else:
            lines.append((prefix + str(key), "not set" if value is None else str(value)))
    return lines


def settings_section(sources: Sources) -> Section | None:
    """Every setting of every model and optimisation run."""
    section = Section("settings", "Settings")
    for path, values in [(m.path, m.config) for m in sources.models] + [(s.path, s.facts) for s in sources.searches]:
        rows = flatten({k: v for k, v in values.items() if k != "files"})
        if rows:
            section.blocks.append(Block(str(path), head=("setting", "value"), rows=rows))
    return section if section.blocks else None


def all_sections(sources: Sources, reference: Path | None) -> tuple[list[Section], list[Card], Missing]:
    """Return the sections in reading order, the key figures, and what is missing with the command that makes it."""
    parts: list[Section | None] = []
    cards: list[Card] = []
    missing: Missing = []
    _key_figures(sources.models, cards, exact=not sources.reconstructions)
    for table in sources.reconstructions:
        parts.append(reconstruction_section(table, cards, len(sources.reconstructions) > 1))
    tables = sources.samples or _last_epochs(sources.models)
    grids = [part for table in tables for part in samples_sections(table, reference, cards, missing, len(tables) > 1)]
    searches = [search_section(run, cards, len(sources.searches) > 1) for run in sources.searches]
    trained = [training_section(run, missing, len(sources.models) > 1) for run in sources.models]
    datasets = [dataset_section(dataset, cards, len(sources.datasets) > 1) for dataset in sources.datasets]
    model = f"-m {sources.models[0].path} " if sources.models else ""
    for found, what, command in (
        (sources.models, "Training curves and settings", "molvae train DATASET -o MODEL"),
        (sources.reconstructions, "Reconstruction examples", f"molvae reconstruct {model}FILE.smi -o reconstruction.csv"),
        (sources.samples, "A table of generated molecules", f"molvae sample {model}-n 1000 -o samples.csv"),
        (sources.searches, "Optimisation", f"molvae optimize {model}--oracle qed --start leads.smi --budget 500 -o RUN"),
        (sources.datasets, "Counts of rejected rows", "molvae prepare FILE.smi -o DATASET"),
    ):
        if not found:
            missing.append((what, command))
    ordered = [*grids, *searches, *parts, *trained, *datasets, settings_section(sources)]
    return _unique_anchors([part for part in ordered if part is not None]), cards, missing


def _last_epochs(models: Sequence[ModelRun]) -> list[Table]:
    runs = [(run, max(run.epochs)) for run in models if run.epochs]
    return [Table(run.path / f"epoch {last}", pd.DataFrame({"smiles": run.epochs[last]}, dtype=object)) for run, last in runs]


def _key_figures(models: Sequence[ModelRun], cards: list[Card], *, exact: bool) -> None:
    for run in models:
        valid = [row for row in run.metrics if row.get("kind") == "valid"]
        if not valid:
            continue
        last, name = valid[-1], f"{run.path.name}: " if len(models) > 1 else ""
        step = f"validation, step {last.get('step', 0):,}"
        plans = (("exact", "reconstructed exactly", 100, " %"), ("rate", "rate", 1, " nats"), ("distortion", "distortion", 1, " nats"))
        for key, label, scale, unit in plans[0 if exact else 1 :]:
            if isinstance(last.get(key), int | float):
                text = f"{last[key] * scale:.1f}{unit}"
                cards.append(Card((name + label)[0].upper() + (name + label)[1:], text, step))


def _unique_anchors(sections: list[Section]) -> list[Section]:
    seen: dict[str, int] = {}
    for section in sections:
        base = "".join(c if c.isascii() and c.isalnum() else "-" for c in section.anchor).lower()
        seen[base] = seen.get(base, 0) + 1
        section.anchor = base if seen[base] == 1 else f"{base}-{seen[base]}"
    return sections
