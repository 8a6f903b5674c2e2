"""Put the sections in reading order, and say what is missing and which command makes it.

In: `Sources`. Out: `Contents`: sections, key figures and missing parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from molvae.errors import MolvaeError
from molvae.report.blocks import Card, Section
from molvae.report.molecules import properties_section, samples_section
from molvae.report.reference import held_out_smiles
from molvae.report.search import search_section
from molvae.report.sections import dataset_section, reconstruction_section, settings_section, training_section
from molvae.report.tables import ModelRun, Sources, Table


@dataclass(frozen=True, slots=True)
class Contents:
    """The body of a page; ``missing`` pairs a part that is not there with the command that makes it."""

    sections: list[Section]
    cards: list[Card]
    missing: list[tuple[str, str]]


Mapper = Callable[[Path, Sequence[str], str, bool], Section | None]
"""Draws the latent map of a model directory: of which SMILES, where they come from, whether there are other models."""


def build_contents(sources: Sources, reference: Path | None, mapper: Mapper | None = None) -> Contents:
    """Return what the page shows, in reading order.

    Args:
        sources: what was found.
        reference: dataset directory of the training set, or None.
        mapper: `molvae.report.latent_map.latent_map_section`, or None for no map. Given from outside, because a page
            without a map needs no torch.
    """
    cards: list[Card] = _key_figures(sources.models, exact=not sources.reconstructions)
    tables = sources.samples or _last_epochs(sources.models)
    parts: list[Section | None] = []
    several = len(tables) > 1
    for table in tables:
        parts.append(samples_section(table, reference, cards, several))
        parts.append(properties_section(table, reference, several))
    parts += [search_section(run, cards, len(sources.searches) > 1) for run in sources.searches]
    parts += [reconstruction_section(one, cards, len(sources.reconstructions) > 1) for one in sources.reconstructions]
    parts += _maps(sources, reference, mapper) if mapper else []
    parts += [training_section(run, len(sources.models) > 1) for run in sources.models]
    parts += [dataset_section(dataset, cards, len(sources.datasets) > 1) for dataset in sources.datasets]
    parts.append(settings_section(sources))
    return Contents(_name_anchors(part for part in parts if part is not None), cards, _missing(sources, reference))


def _map_molecules(sources: Sources, reference: Path | None) -> tuple[list[str], str]:
    """Return the molecules of the map and where they come from: held out if possible, otherwise given ones."""
    if reference and (smiles := held_out_smiles(reference)):
        return smiles, f"spread evenly over the valid and test splits of {reference.name}"
    for tables, column in ((sources.reconstructions, "input"), (sources.samples, "smiles")):
        for table in tables:
            filled = [text for text in table.rows[column] if text.strip()]
            if filled:
                return filled, f"from the column {column} of {table.path.name}"
    return [], ""


def _maps(sources: Sources, reference: Path | None, mapper: Mapper) -> list[Section | None]:
    """Return a latent map for every model with weights; why one cannot be drawn is noted."""
    drawable = [run.path for run in sources.models if (run.path / "model.safetensors").is_file()]
    smiles, origin = _map_molecules(sources, reference)
    maps: list[Section | None] = []
    for path in drawable if smiles else []:
        try:
            maps.append(mapper(path, smiles, origin, len(sources.models) > 1))
        except MolvaeError as error:
            sources.notes.append(f"No latent map of {path.name}: {error.problem}")
        else:
            if maps[-1] is None:
                sources.notes.append(f"No latent map of {path.name}: the model can read too few of the molecules.")
    return maps


def _missing(sources: Sources, reference: Path | None) -> list[tuple[str, str]]:
    model = f" -m {sources.models[0].path}" if sources.models else ""
    plans = (
        (sources.models, "Training curves and settings", "molvae train DATASET -o MODEL"),
        (sources.samples, "A table of generated molecules", f"molvae sample{model} -n 1000 -o samples.csv"),
        (reference, "The training set behind the properties", "molvae report ... --reference DATASET"),
        (sources.reconstructions, "Reconstruction", f"molvae reconstruct FILE.smi{model} -o reconstruction.csv"),
        (sources.searches, "Optimisation", f"molvae optimize{model} --oracle qed --start FILE.smi -o RUN"),
        (sources.datasets, "Counts of rejected rows", "molvae prepare FILE.smi -o DATASET"),
    )
    lines = [(what, command) for found, what, command in plans if not found]
    if sources.models and not _map_molecules(sources, reference)[0]:
        lines.append(("Latent map", f"molvae report {sources.models[0].path} --reference DATASET"))
    for run in sources.models:
        if not run.metrics:
            lines.append((f"metrics.jsonl of {run.path.name}", f"molvae train DATASET -o {run.path}"))
    return lines


def _last_epochs(models: Sequence[ModelRun]) -> list[Table]:
    """Return the molecules of each run's last epoch, for a report without a table of samples."""
    tables = []
    for run in models:
        if run.epochs:
            last = max(run.epochs)
            frame = pd.DataFrame({"smiles": run.epochs[last]}, dtype=object)
            tables.append(Table(run.path / f"epoch {last}", frame))
    return tables


def _key_figures(models: Sequence[ModelRun], *, exact: bool) -> list[Card]:
    cards = []
    plans = [("rate", "Rate", 1, " nats"), ("distortion", "Distortion", 1, " nats")]
    if exact:
        plans.insert(0, ("exact", "Reconstructed exactly", 100, " %"))
    for run in models:
        last: dict[str, Any] = next((row for row in reversed(run.metrics) if row.get("kind") == "valid"), {})
        for key, label, scale, unit in plans:
            if isinstance(last.get(key), int | float):
                name = f" ({run.path.name})" if len(models) > 1 else ""
                note = f"validation at step {last['step']:,}"
                cards.append(Card(label + name, f"{last[key] * scale:.1f}{unit}", note))
    return cards


def _name_anchors(sections: Iterable[Section]) -> list[Section]:
    """Give every section an anchor of letters, digits and dashes that no other has."""
    listed = list(sections)
    seen: dict[str, int] = {}
    for section in listed:
        base = "".join(c if c.isascii() and c.isalnum() else "-" for c in section.anchor).lower()
        seen[base] = seen.get(base, 0) + 1
        section.anchor = f"{base}-{seen[base]}" if seen[base] > 1 else base
    return listed
