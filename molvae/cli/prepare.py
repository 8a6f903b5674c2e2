"""Verb ``molvae prepare``: turn files of SMILES into a dataset.

In: tables and switches. Out: a dataset directory, and a summary of what became of every row.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molvae.cli.options import Seed, SmilesColumn, Workers
from molvae.errors import InputError

if TYPE_CHECKING:
    from molvae.data.prepare import PrepareOptions, Summary
    from molvae.data.vocabulary import Vocabulary

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="IN...",
        help=".csv .tsv .smi .smiles .sdf, each also .gz, .parquet, - for stdin, or a named split such as moses:train.",
        show_default=False,
    ),
]
DatasetDirectory = Annotated[
    Path, typer.Option("-o", "--output", help="Directory of the dataset, to be made.", show_default=False)
]
LargestFragment = Annotated[
    bool, typer.Option("--largest-fragment", help="Keep only the largest fragment of a salt or mixture.")
]
Neutralise = Annotated[bool, typer.Option("--neutralise", help="Remove charges where hydrogens can.")]
DropStereo = Annotated[bool, typer.Option("--drop-stereo", help="Forget stereochemistry; it is kept otherwise.")]
Split = Annotated[
    str, typer.Option("--split", help="random, scaffold (a ring system stays on one side) or column:NAME.")
]
Valid = Annotated[float, typer.Option("--valid", help="Share of molecules for validation.")]
Test = Annotated[float, typer.Option("--test", help="Share of molecules for testing.")]
Properties = Annotated[
    str, typer.Option("--properties", help="Computed properties: all, none, or names with commas, such as logp,qed.")
]
Columns = Annotated[
    str,
    typer.Option(
        "--columns",
        help="Columns of the table to keep: all (that hold numbers), none, or names with commas; a column of texts "
        "that is named here becomes a category.",
    ),
]
Categories = Annotated[
    str,
    typer.Option(
        "--categories", help="Columns to keep as categories (2 to 50 levels) even where they hold numbers, with commas."
    ),
]
MaxRejected = Annotated[
    float | None,
    typer.Option(
        "--max-rejected",
        min=0,
        max=1,
        help="Share of rejected rows to put up with; left out, 1 % (and never fewer than 10 rows).",
        show_default=False,
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option("--max-tokens", min=1, help="Reject molecules of more SELFIES tokens.", show_default=False),
]
VocabularyFrom = Annotated[
    str | None,
    typer.Option(
        "--vocabulary-from",
        metavar="MODEL",
        help="Use the tokens of this model or dataset, and reject molecules that need others.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a dataset that is there already.")]


def command(
    inputs: Inputs,
    output: DatasetDirectory,
    smiles_column: SmilesColumn = None,
    largest_fragment: LargestFragment = False,
    neutralise: Neutralise = False,
    drop_stereo: DropStereo = False,
    split: Split = "random",
    valid: Valid = 0.05,
    test: Test = 0.05,
    properties: Properties = "all",
    columns: Columns = "all",
    categories: Categories = "none",
    max_rejected: MaxRejected = None,
    max_tokens: MaxTokens = None,
    vocabulary_from: VocabularyFrom = None,
    seed: Seed = 0,
    workers: Workers = None,
    force: Force = False,
) -> None:
    """Turn files of SMILES into a dataset ready for training.

    Every molecule is written canonically, translated to SELFIES, and kept only if that decodes to the very same
    molecule. Rows read are accepted, duplicates, or rejected with a reason in rejected.csv. More than 1 % (and at
    least 10) rejected rows stop with the reason that dominates, and nothing is written.

    Of a category, such as target = EGFR, HER2 or none, blank cells are unknown; --where "target=EGFR" then asks a model
    that was trained on the dataset for one level.
    """
    from molvae.chem.properties import PROPERTIES, check_names
    from molvae.chem.standardize import StandardizeOptions
    from molvae.cli.molecules import locate
    from molvae.data.prepare import PrepareOptions, check_output
    from molvae.data.splits import Splitter

    if workers is not None and workers < 1:
        raise InputError(f"--workers {workers} is not possible.", "Give 1 or more.")
    names = _names(properties)
    options = PrepareOptions(
        smiles_column=smiles_column,
        standardize=StandardizeOptions(largest_fragment, neutralise, not drop_stereo),
        splitter=Splitter(split, valid, test, seed),
        properties=tuple(PROPERTIES) if names is None else check_names(names),
        columns=_names(columns),
        categories=_category_names(categories),
        max_rejected=max_rejected,
        max_tokens=max_tokens,
        vocabulary=None if vocabulary_from is None else _vocabulary(vocabulary_from),
        workers=workers,
        force=force,
    )
    check_output(output, force)
    inputs = [locate(one) for one in inputs]
    began = time.monotonic()
    summary = _prepare(inputs, output, options)
    _report(summary, output, time.monotonic() - began)


def _names(text: str) -> tuple[str, ...] | None:
    """Return the names in a list with commas; None for ``all``.

    >>> _names("logp, qed"), _names("none"), _names("all")
    (('logp', 'qed'), (), None)
    """
    if text.strip().lower() == "all":
        return None
    if text.strip().lower() == "none":
        return ()
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _category_names(text: str) -> tuple[str, ...]:
    """Return the names in a list with commas, each at most once.

    Raises:
        InputError: for ``all``: not every column of texts is a category.
    """
    names = _names(text)
    if names is None:
        raise InputError("--categories all would take names and remarks too.", "Name the columns.")
    return names


def _vocabulary(name: str) -> Vocabulary:
    """Return the vocabulary of a model or dataset directory, or of a shipped model."""
    from molvae.data.vocabulary import Vocabulary

    directory = Path(name)
    if not (directory / "vocab.json").is_file():
        from molvae.nn.checkpoint import find_model

        directory = find_model(name)
    return Vocabulary.load(directory / "vocab.json")


def _prepare(inputs: list[str], output: Path, options: PrepareOptions) -> Summary:
    from molvae.cli.progress import progress_bar
    from molvae.data.prepare import check_output, count_rows, prepare

    check_output(output, options.force)
    # Without this a termination signal would leave the half-filled temporary directory behind.
    signal.signal(signal.SIGTERM, _stop)
    with progress_bar("Preparing", count_rows(inputs)) as update:
        return prepare(inputs, output, options, update)


def _stop(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _report(summary: Summary, output: Path, seconds: float) -> None:
    """Say what became of the rows, and where everything is."""
    typer.echo(
        f"{summary.read:,} rows read = {summary.accepted:,} accepted + {summary.duplicates:,} duplicates "
        f"+ {summary.rejected:,} rejected  ({seconds:.1f} s, {summary.read / max(seconds, 1e-9):,.0f} rows/s)"
    )
    for reason, count in summary.reasons.most_common():
        row, example = next((row, one) for row, one in summary.examples if one.reason == reason)
        shown = example.smiles if len(example.smiles) <= 40 else f"{example.smiles[:37]}..."
        typer.echo(f"  rejected {count:,}: {reason}, such as row {row}: {shown!r} {example.detail}".rstrip())
    parts = ", ".join(f"{count:,} {name}" for name, count in sorted(summary.splits.items(), key=lambda item: -item[1]))
    typer.echo(
        f"  split: {parts}; {summary.vocabulary_size} tokens; properties: {', '.join(summary.properties) or '-'}"
    )
    for name, counts in summary.categories.items():
        levels = ", ".join(f"{level} {count:,}" for level, count in counts.items())
        typer.echo(f"  category {name}: {levels}; unknown {summary.accepted - sum(counts.values()):,}")
    if summary.stereo_lost:
        typer.echo(f"  stereo: {summary.stereo_lost:,} molecules lost some that the input names")
    for name, count in summary.not_numbers.most_common():
        typer.echo(f"  column {name}: {count:,} cells are no numbers and count as missing")
    if summary.left_out:
        names = ", ".join(summary.left_out)
        typer.echo(f"  columns left out, not numbers or not asked for: {names} (--columns NAME keeps one)")
    for name in ("molecules.parquet", "rejected.csv"):
        typer.echo(f"wrote {output / name}")
    typer.echo(f"wrote {output} (next: molvae train {output} -o MODEL)")
