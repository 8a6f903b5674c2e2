"""Turn tables of SMILES into a dataset directory, streaming: memory does not grow with the input.

In: files, and how to treat them. Out: the directory that `molvae.data.dataset.load_dataset` opens, and a `Summary`.
"""

from __future__ import annotations

import csv
import json
import platform
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from molvae import __version__
from molvae.chem.parallel import map_chunks
from molvae.chem.properties import PROPERTIES, check_names
from molvae.chem.rejected import REASONS, Rejected
from molvae.chem.standardize import StandardizeOptions
from molvae.data.dataset import SPLITS
from molvae.data.ready import MakeReady, Ready
from molvae.data.rows import Row, RowReader, choose_columns
from molvae.data.seen import Seen
from molvae.data.splits import Splitter
from molvae.data.table import Table
from molvae.data.table import count_rows as count_table_rows
from molvae.data.vocabulary import Vocabulary
from molvae.data.writer import DatasetWriter
from molvae.errors import InputError, OutputError
from molvae.files import MANIFEST, new_directory, write_manifest

LIMIT = 0.01
"""Share of rejected rows above which the input is taken for broken, unless told otherwise."""
LEAST = 10
"""Rejected rows below which nothing is stopped."""
EARLY = 20_000
"""Rows after which ten times `LIMIT` stops at once instead of at the end."""
SHOWN = 5
"""Rejected rows kept to be shown to the user."""

_RESERVED = ("row", "smiles", "split")


@dataclass(frozen=True)
class PrepareOptions:
    """How a dataset is made.

    Args:
        smiles_column: name or number of the column; None finds it.
        standardize: what may be changed in a molecule.
        splitter: how molecules are divided.
        properties: names of properties to compute, keys of `molvae.chem.properties.PROPERTIES`.
        columns: columns of the table to keep; None keeps all numeric ones. A named column of texts is a category.
        categories: columns to keep as categories, also where they hold numbers.
        max_rejected: share of rejected rows to put up with, 0 to 1; None means 1 %, and never fewer than ten rows.
        max_tokens: longest molecule in SELFIES tokens; None for any.
        vocabulary: of a model; molecules with other tokens are rejected. None takes the tokens that occur.
        workers: processes; None means every core.
        force: whether an existing dataset at the output is replaced.
    """

    smiles_column: str | None = None
    standardize: StandardizeOptions = field(default_factory=StandardizeOptions)
    splitter: Splitter = field(default_factory=Splitter)
    properties: tuple[str, ...] = tuple(PROPERTIES)
    columns: tuple[str, ...] | None = None
    categories: tuple[str, ...] = ()
    max_rejected: float | None = None
    max_tokens: int | None = None
    vocabulary: Vocabulary | None = None
    workers: int | None = None
    force: bool = False


@dataclass
class Summary:
    """What became of the rows: ``read = accepted + duplicates + rejected``.

    Attributes:
        reasons: rejected rows by reason.
        splits: accepted molecules by split.
        changed: accepted molecules written otherwise than in the table.
        stereo_lost: accepted molecules of which the table names stereochemistry that is gone.
        not_numbers: filled cells that hold no number, by numeric column; they count as missing.
        left_out: columns of the tables that are neither the SMILES nor kept as numbers.
        properties: names of the property columns, a category being one.
        categories: how many molecules have each level, by category, sorted by level.
        vocabulary_size: tokens, specials included.
        examples: the first rejected rows, with their numbers.
    """

    read: int = 0
    accepted: int = 0
    duplicates: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    changed: int = 0
    stereo_lost: int = 0
    not_numbers: Counter[str] = field(default_factory=Counter)
    left_out: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    categories: dict[str, dict[str, int]] = field(default_factory=dict)
    vocabulary_size: int = 0
    examples: list[tuple[int, Rejected]] = field(default_factory=list)

    @property
    def rejected(self) -> int:
        """Rows that were not taken."""
        return sum(self.reasons.values())

    def judge(self, limit: float | None, factor: float = 1.0) -> None:
        """Stop when more rows were rejected than the input of a healthy file would have.

        Raises:
            InputError: names the share, the reason that dominates and an example of it.
        """
        share = LIMIT if limit is None else limit
        if self.rejected <= factor * share * self.read or (limit is None and self.rejected < LEAST):
            return
        reason, count = self.reasons.most_common(1)[0]
        row, example = next(((row, one) for row, one in self.examples if one.reason == reason), self.examples[0])
        shown = example.smiles if len(example.smiles) <= 60 else f"{example.smiles[:57]}..."
        raise InputError(
            f"{self.rejected:,} of {self.read:,} rows rejected ({self.rejected / self.read:.1%}), {count:,} of them as "
            f"{reason} ({REASONS[reason]}), such as row {row}: {shown!r}; nothing was written.",
            "Check the file and the column, or accept the losses with --max-rejected 1 and read them in rejected.csv.",
        )


def _property_names(options: PrepareOptions, reader: RowReader) -> tuple[list[str], list[str], dict[str, list[str]]]:
    """Return the names of all columns, computed first, the kind of each, and the levels of each category.

    No name stands twice; the levels grow while rows are read.
    """
    computed = list(check_names(options.properties))
    taken = {*computed, *_RESERVED}
    own = [f"given_{name}" if name in taken else name for name in reader.columns]
    kinds = ["category" if name in reader.levels else "column" for name in reader.columns]
    pairs = zip(own, reader.columns, strict=True)
    levels = {new: reader.levels[old].texts for new, old in pairs if old in reader.levels}
    return computed + own, ["computed"] * len(computed) + kinds, levels


class _Collector:
    """Sort results into the dataset, the duplicates and ``rejected.csv``, and count."""

    def __init__(self, writer: DatasetWriter, rejects: Any, seen: Seen, splitter: Splitter) -> None:
        self.writer = writer
        self.rejects = csv.writer(rejects, lineterminator="\n")
        self.rejects.writerow(["row", "input", "reason", "detail"])
        self.seen = seen
        self.splitter = splitter
        self.summary = Summary()

    def take(self, rows: Sequence[Row], results: Sequence[Ready | Rejected]) -> None:
        """Take one chunk of rows and what the workers made of them."""
        new = iter(self.seen.add(result.identity for result in results if isinstance(result, Ready)))
        self.summary.read += len(rows)
        for row, result in zip(rows, results, strict=True):
            if isinstance(result, Rejected):
                self._reject(row, Rejected("", "missing", row.problem) if row.problem else result)
            elif next(new):
                self._accept(row, result)
            else:
                self.summary.duplicates += 1

    def _reject(self, row: Row, rejected: Rejected) -> None:
        self.summary.reasons[rejected.reason] += 1
        if len(self.summary.examples) < SHOWN or self.summary.reasons[rejected.reason] == 1:
            self.summary.examples.append((row.row, rejected))
        self.rejects.writerow([row.row, row.cell, rejected.reason, rejected.detail])

    def _accept(self, row: Row, ready: Ready) -> None:
        split = ready.split if self.splitter.column is None else self.splitter.by_word(row.word, row.row)
        self.writer.add(row.row, ready.smiles, ready.tokens, split, [*ready.values, *row.values])
        self.summary.accepted += 1
        self.summary.splits[list(SPLITS)[split]] += 1
        self.summary.changed += ready.changed
        self.summary.stereo_lost += ready.stereo_lost


def check_output(output: Path, force: bool) -> None:
    """Refuse to replace anything but a dataset, so that --force cannot delete a home directory.

    Raises:
        OutputError: when something is there that may not be replaced.
    """
    if output.exists() and not force and (output.is_file() or any(output.iterdir())):
        raise OutputError(f"{output} exists already.", "Choose another output, or replace it with --force.")
    if not force or not output.is_dir() or not any(output.iterdir()):
        return
    try:
        kind = json.loads((output / MANIFEST).read_text("utf-8")).get("kind")
    except (OSError, ValueError, AttributeError):
        kind = None
    if kind != "dataset":
        raise OutputError(
            f"{output} is a directory that is no dataset, so --force leaves it.", "Choose another output."
        )


def _facts(tables: Sequence[Table], options: PrepareOptions, summary: Summary) -> dict[str, Any]:
    """Return what the manifest says about where the dataset comes from; the same input gives the same bytes."""
    settings = asdict(options)
    for name in ("force", "workers"):
        del settings[name]
    settings["vocabulary"] = None if options.vocabulary is None else len(options.vocabulary)
    inputs = [
        {
            "name": Path(table.name).name,
            "sha256": table.source.sha256,
            "bytes": table.source.bytes_read,
            "smiles_column": table.columns[table.smiles],
        }
        for table in tables
    ]
    libraries = {name: version(name) for name in ("rdkit", "selfies", "numpy", "pyarrow")}
    counts = {name: getattr(summary, name) for name in ("read", "accepted", "duplicates", "rejected", "changed")}
    return {
        "version": 1,
        "kind": "dataset",
        "inputs": inputs,
        "options": settings,
        "seed": options.splitter.seed,
        "counts": {
            **counts,
            "stereo_lost": summary.stereo_lost,
            "rejected_by_reason": dict(summary.reasons.most_common()),
            "splits": {name: summary.splits[name] for name in SPLITS},
            "not_numbers": dict(summary.not_numbers),
        },
        "versions": {"molvae": __version__, "python": platform.python_version(), **libraries},
    }


def count_rows(inputs: Sequence[str]) -> int | None:
    """Return about how many rows the inputs have (headers and blank lines count), None when one can be read only once.

    Raises:
        InputError: when a file cannot be read to its end.
    """
    counts = [count_table_rows(path) for path in inputs]
    return None if None in counts else sum(count or 0 for count in counts)


def prepare(
    inputs: Sequence[str],
    output: Path,
    options: PrepareOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Write a dataset directory from tables of SMILES; a failure leaves nothing behind.

    Every row ends in one of three ways: accepted, a duplicate of an earlier molecule, or rejected with a reason in
    ``rejected.csv``. A molecule is standardised (see `standardize`), written as SELFIES, and accepted only if that
    decodes to the very same molecule. The result does not depend on the number of workers.

    Args:
        inputs: .csv .tsv .smi .smiles .sdf, each also .gz, .parquet, or ``-`` for standard input; read as one.
        output: the directory to make.
        options: see `PrepareOptions`.
        progress: called with the number of rows done.

    Returns:
        Counts of what became of the rows.

    Raises:
        InputError: when an input cannot be read, too many rows are rejected, or nothing is left to train on.
        OutputError: when the output exists or cannot be written.
        UnknownNameError: when a property has no such name.
    """
    options = options or PrepareOptions()
    check_names(options.properties)
    check_output(output, options.force)
    with ExitStack() as stack:
        tables = []
        for path in inputs:
            tables.append(Table(path, options.smiles_column))
            stack.callback(tables[-1].source.close)
        columns, categories = choose_columns(tables, options.columns, options.categories)
        reader = RowReader(tables, columns, options.splitter.column, categories)
        directory = stack.enter_context(new_directory(output, replace=options.force))
        work = directory / ".work"
        work.mkdir()
        summary = _run(reader, directory, work, options, progress)
        others = [name for table in tables for place, name in enumerate(table.columns) if place != table.smiles]
        others += [name for table in tables for name in table.late]
        summary.left_out = tuple(dict.fromkeys(name for name in others if name and name not in reader.columns))
        shutil.rmtree(work)
        write_manifest(directory, _facts(tables, options, summary))
    return summary


def _run(
    reader: RowReader, directory: Path, work: Path, options: PrepareOptions, progress: Callable[[int], None] | None
) -> Summary:
    """Stream all rows through the workers into the files of the dataset."""
    names, kinds, levels = _property_names(options, reader)
    allowed = None if options.vocabulary is None else frozenset(options.vocabulary.tokens)
    job = MakeReady(options.standardize, options.properties, options.splitter, options.max_tokens, allowed)
    with (
        closing(DatasetWriter(directory, work, names, kinds, options.vocabulary, levels)) as writer,
        (directory / "rejected.csv").open("w", encoding="utf-8", errors="backslashreplace", newline="") as rejects,
    ):
        collector = _Collector(writer, rejects, Seen(work), options.splitter)
        summary = collector.summary
        for results in map_chunks(job, reader.chunks(), options.workers, whole=True):
            collector.take(reader.pending.popleft(), results)
            if progress is not None:
                progress(summary.read)
            if summary.read >= EARLY:
                summary.judge(options.max_rejected, factor=10)
        _check_counts(summary, options)
        summary.not_numbers = reader.not_numbers
        summary.properties = tuple(names)
        summary.vocabulary_size = len(writer.finish())
        for name, counts in writer.level_counts.items():
            summary.categories[name] = dict(sorted((levels[name][code], count) for code, count in counts.items()))
    return summary


def _check_counts(summary: Summary, options: PrepareOptions) -> None:
    """Refuse an input of which too little is left.

    Raises:
        InputError: says how many rows there were and what is wrong with them.
    """
    if summary.read != summary.accepted + summary.duplicates + summary.rejected:
        raise AssertionError(f"rows do not add up: {summary}")
    if not summary.read:
        raise InputError("The input has no rows.", "Give a file with at least one molecule.")
    if not summary.accepted:
        row, first = summary.examples[0]
        raise InputError(
            f"None of {summary.read:,} rows could be taken; row {row} is {first.smiles[:60]!r}, rejected as "
            f"{first.reason} ({REASONS[first.reason]}).",
            "Check the file and the column (--smiles-column).",
        )
    summary.judge(options.max_rejected)
    if not summary.splits["train"]:
        raise InputError(
            f"None of {summary.accepted:,} molecules fell into the train split.",
            "Give more molecules, another --seed, or --valid 0 --test 0.",
        )
