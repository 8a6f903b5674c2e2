"""Read what the other verbs wrote, taking every part that is there and naming every part that is not.

In: paths of model, dataset and optimisation directories and of CSV tables. Out: one `Sources`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from molvae.errors import InputError

TEXT_COLUMNS = frozenset(
    {
        "smiles",
        "state",
        "alerts",
        "input",
        "canonical",
        "output",
        "match",
        "parent",
        "best_of_parent",
        "reason",
        "detail",
    }
)
TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".smi")
ANY_SOURCE = "Give a model, dataset or optimize directory, or a CSV written by molvae sample or molvae reconstruct."


@dataclass(slots=True)
class ModelRun:
    """A model or run directory; an absent part is empty."""

    path: Path
    config: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    epochs: dict[int, list[str]] = field(default_factory=dict)


@dataclass(slots=True)
class DatasetFacts:
    """A dataset directory: its manifest, how many rows were rejected for each reason, and the first of each."""

    path: Path
    manifest: dict[str, Any] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """The whole numbers of the manifest's counts: read, accepted, duplicates and the like."""
        counts = self.manifest.get("counts")
        return {k: v for k, v in counts.items() if isinstance(v, int)} if isinstance(counts, dict) else {}


@dataclass(slots=True)
class Table:
    """A table of samples or of reconstructions, and the file it came from."""

    path: Path
    rows: pd.DataFrame


@dataclass(slots=True)
class SearchRun:
    """An optimisation directory: every scored molecule in the order of the oracle calls."""

    path: Path
    molecules: pd.DataFrame
    best: pd.DataFrame = field(default_factory=pd.DataFrame)
    facts: dict[str, Any] = field(default_factory=dict)
    front: pd.DataFrame = field(default_factory=pd.DataFrame)
    hypervolume: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in run.json."""
        settings = self.facts.get("settings", self.facts)
        return settings if isinstance(settings, dict) else {}

    @property
    def counts(self) -> dict[str, int]:
        """How often what happened, from run.json."""
        counts = self.facts.get("counts")
        return {k: v for k, v in counts.items() if isinstance(v, int)} if isinstance(counts, dict) else {}

    @property
    def oracle(self) -> str:
        """Name of the oracle, of a goal what it consists of; "score" when it is not recorded."""
        goal = self.facts.get("goal")
        if isinstance(goal, dict) and isinstance(goal.get("components"), list):
            names = ", ".join(str(part[0]) for part in goal["components"] if isinstance(part, list) and part)
            return f"goal of {names} ({goal.get('mean')})"
        # A head's identity ends with the digest of its model, which nobody reads.
        return re.sub(r"@[0-9a-f]{16}$", "", str(self.settings.get("oracle", "score")))

    @property
    def notes(self) -> list[str]:
        """What else the run said, from run.json."""
        notes = self.facts.get("notes")
        return [one for one in notes if isinstance(one, str)] if isinstance(notes, list) else []

    @property
    def minimize(self) -> bool:
        """Whether a low score is a good one."""
        return self.settings.get("minimize") is True


@dataclass(slots=True)
class Sources:
    """Everything found, by kind, in the order given, and the parts that could not be read."""

    models: list[ModelRun] = field(default_factory=list)
    datasets: list[DatasetFacts] = field(default_factory=list)
    samples: list[Table] = field(default_factory=list)
    reconstructions: list[Table] = field(default_factory=list)
    searches: list[SearchRun] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        kinds = (self.models, self.datasets, self.samples, self.reconstructions, self.searches)
        return sum(len(kind) for kind in kinds)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV, TSV or SMI file; SMILES stay text even when they spell NA, None or null.

    Every column is read as text; a column whose filled cells are all numbers becomes float64 with NaN for blanks.

    Raises:
        InputError: when the file is missing, empty, not text or not a table.
    """
    name = path.name.lower()
    try:
        if name.endswith(".smi"):
            lines = [line.split() for line in path.read_text("utf-8").splitlines()]
            return pd.DataFrame({"smiles": [parts[0] for parts in lines if parts]}, dtype=object)
        rows = pd.read_csv(path, sep="\t" if ".tsv" in name else ",", dtype=str, keep_default_na=False, na_filter=False)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.", "Check the path.") from error
    except (ValueError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} is not a table: {reason.rstrip('.')}.", ANY_SOURCE) from error
    for column in rows.columns:
        if column not in TEXT_COLUMNS:
            numbers = pd.to_numeric(rows[column], errors="coerce")
            blank = rows[column].str.strip().str.lower().isin(["", "nan"])
            if bool((numbers.notna() | blank).all()):
                rows[column] = numbers.astype("float64")
    return rows


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dictionaries, column name to value."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def tally(rows: pd.DataFrame, column: str) -> dict[str, int]:
    """Return how often each value of a text column occurs, most frequent first; empty without that column."""
    if column not in rows.columns:
        return {}
    return {str(value): int(n) for value, n in rows[column].value_counts().items()}


def read_json(path: Path, notes: list[str]) -> dict[str, Any]:
    """Read a JSON object; a missing file is empty, a broken one is empty and noted."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        notes.append(f"{path.name} in {path.parent} could not be read: {error}.")
        return {}
    return content if isinstance(content, dict) else {}


def read_metrics(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    """Read metrics.jsonl in step order; after a resume the later row of a step counts, a half-written line is noted."""
    if not path.is_file():
        return []
    rows: dict[tuple[str, float], dict[str, Any]] = {}
    broken = 0
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            rows[str(row["kind"]), float(row["step"])] = row
        except (ValueError, KeyError, TypeError):
            broken += bool(line.strip())
    if broken:
        notes.append(f"{broken} line(s) of {path} could not be read and were left out.")
    return [rows[key] for key in sorted(rows, key=lambda key: key[1])]


def _read_epochs(directory: Path, notes: list[str]) -> dict[int, list[str]]:
    epochs = {}
    for path in sorted(directory.glob("epoch_*.json")):
        try:
            content = json.loads(path.read_text("utf-8"))
            epochs[int(path.stem.removeprefix("epoch_"))] = [text for text in content if isinstance(text, str)]
        except (OSError, ValueError, TypeError) as error:
            notes.append(f"{path} could not be read: {error}.")
    return epochs


def _read_dataset(path: Path, notes: list[str]) -> DatasetFacts:
    dataset = DatasetFacts(path, read_json(path / "manifest.json", notes))
    counts = dataset.manifest.get("counts")
    reasons = counts.get("rejected_by_reason") if isinstance(counts, dict) else None
    if isinstance(reasons, dict):
        dataset.rejected = {str(reason): n for reason, n in reasons.items() if isinstance(n, int)}
    if (path / "rejected.csv").is_file():
        try:
            rows = read_table(path / "rejected.csv")
            dataset.rejected = tally(rows, "reason")
            dataset.examples = {str(k): str(v) for k, v in rows.groupby("reason")["input"].first().items()}
        except (InputError, KeyError) as error:
            notes.append(f"{path / 'rejected.csv'} could not be read: {str(error).splitlines()[0]}")
    return dataset


def _sort_table(path: Path, sources: Sources) -> None:
    rows = read_table(path)
    if {"step", "smiles", "score"} <= set(rows.columns):
        run = SearchRun(path.parent, rows, facts=read_json(path.parent / "run.json", sources.notes))
        if (path.parent / "best.csv").is_file():
            run.best = read_table(path.parent / "best.csv")
        if (path.parent / "pareto.csv").is_file() and (path.parent / "hypervolume.csv").is_file():
            run.front = read_table(path.parent / "pareto.csv")
            run.hypervolume = read_table(path.parent / "hypervolume.csv")
        sources.searches.append(run)
    elif {"input", "output"} <= set(rows.columns):
        sources.reconstructions.append(Table(path, rows))
    elif "smiles" in rows.columns:
        sources.samples.append(Table(path, rows))
    else:
        columns = ", ".join(str(column) for column in rows.columns[:8])
        raise InputError(f"{path} has no column smiles, nor input and output, but {columns}.", ANY_SOURCE)


def _add_table(path: Path, sources: Sources) -> None:
    try:
        _sort_table(path, sources)
    except InputError as error:
        sources.notes.append(error.problem)


def _add_directory(path: Path, sources: Sources, depth: int) -> None:
    has = {entry.name for entry in path.iterdir()}
    if has & {"molecules.parquet", "tokens.npy", "rejected.csv"}:
        sources.datasets.append(_read_dataset(path, sources.notes))
    elif has & {"molecules.csv", "best.csv"}:
        _add_table(path / "molecules.csv", sources)
    elif has & {"config.json", "metrics.jsonl", "model.safetensors"}:
        run = ModelRun(path, read_json(path / "config.json", sources.notes))
        run.manifest = read_json(path / "manifest.json", sources.notes)
        run.metrics = read_metrics(path / "metrics.jsonl", sources.notes)
        run.epochs = _read_epochs(path / "samples", sources.notes)
        sources.models.append(run)
        for name in ("samples.csv", "reconstruction.csv"):
            if name in has:
                _add_table(path / name, sources)
    elif depth > 0:
        for entry in sorted(path.iterdir()):
            if entry.is_dir() and not entry.name.startswith("."):
                _add_directory(entry, sources, depth - 1)
            elif entry.name.lower().endswith(TABLE_SUFFIXES[:2]):
                _add_table(entry, sources)


def read_sources(paths: Sequence[Path]) -> Sources:
    """Read every path, sorting it by what it holds; a directory of results is searched one level down.

    Raises:
        InputError: when a path is missing or holds nothing that a report can show.
    """
    sources = Sources()
    for path in paths:
        before = len(sources)
        try:
            if path.is_dir():
                _add_directory(path, sources, depth=1)
            elif path.is_file():
                _sort_table(path, sources)
            else:
                raise InputError(f"{path} does not exist.", ANY_SOURCE)
        except OSError as error:
            raise InputError(f"Cannot read {path}: {error.strerror or error}.", "Check its permissions.") from error
        if len(sources) == before:
            problem = sources.notes[-1] if sources.notes else f"{path} holds nothing that a report can show."
            raise InputError(problem, ANY_SOURCE)
    return sources
