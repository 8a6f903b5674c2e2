"""Verb ``molvae fit-head``: teach a trained model to predict a measured property.

In: a table with SMILES and a column of numbers, a model. Out: a model directory with one head more, and how good it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molvae.cli.options import Device, Model, Seed, SmilesColumn, Workers
from molvae.cli.train import ModelDirectory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molvae.generate.labelled import Labelled

Source = Annotated[
    str,
    typer.Argument(
        metavar="DATASET",
        help="A table with a column of SMILES and one of numbers (.csv .tsv .sdf .parquet), or a prepared dataset.",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Option("--property", metavar="NAME", help="The column to predict.", show_default=False)]


def command(
    source: Source,
    output: ModelDirectory,
    name: Name,
    model: Model = None,
    smiles_column: SmilesColumn = None,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Fit a calibrated head for one measured property to the latents of a trained model; 30 molecules are enough.

    The networks stay as they are. The head is a Gaussian process on z. It is cross-validated in ten folds beside a
    random forest on Morgan fingerprints: rows left out at random, and whole ring systems left out, which is closer to
    what a new series of molecules will meet. Its 90 % intervals are stretched to hold 90 % of the rows left out.
    """
    from molvae.benchmark.head_check import check_head
    from molvae.chem.domain import Domain
    from molvae.cli.progress import progress_bar
    from molvae.errors import OutputError
    from molvae.generate.labelled import label, read_labels
    from molvae.generate.predict import check_free, head_facts, save_with_head
    from molvae.nn.checkpoint import load_model
    from molvae.train.fit_head import FOLDS, check_labels, fit_head

    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise OutputError(f"{output} exists already.", "Choose another output or remove it first.")
    smiles, values = read_labels(source, name, smiles_column)
    loaded = load_model(model, device)
    check_free(loaded, name)
    labelled = label(loaded, smiles, values, workers)
    typer.echo(_account(labelled))
    check_labels(labelled.values, name)
    with progress_bar("Cross-validating", 2 * FOLDS) as update:

        def report(split: str, done: int, total: int) -> None:
            update(done + (total if split == "scaffold" else 0))

        checked, records = check_head(labelled, seed, workers, report)
    head = fit_head(labelled.latents, labelled.values, checked, seed)
    typer.echo(_table(records))
    for line in _advice(records):
        typer.echo(f"note: {line}")
    facts = {**head_facts(Path(source).name, labelled, seed), "checked": [_rounded(one) for one in records]}
    save_with_head(loaded, name, head, facts, output, Domain.of(labelled.smiles, workers), _table(records))
    for path in sorted(output.iterdir()):
        typer.echo(f"wrote {path}")


def _account(labelled: Labelled) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in labelled.left_out.items()) or "none"
    return (
        f"{labelled.rows:,} rows = {len(labelled.smiles):,} molecules + {labelled.repeated:,} repeated (averaged) + "
        f"{sum(labelled.left_out.values()):,} left out ({reasons})"
    )


def _table(records: Sequence[dict[str, Any]]) -> str:
    """Return the comparison as aligned text."""
    lines = [f"{'left out':<10} {'predictor':<24} {'RMSE':>7} {'MAE':>7} {'R2':>6} {'rank':>6}  in 90 % interval"]
    for one in records:
        rank = "-" if one["spearman"] is None else f"{one['spearman']:.2f}"
        cover = "" if one["coverage_90"] is None else f"{one['coverage_90']:.0%}"
        lines.append(
            f"{one['split']:<10} {one['predictor']:<24} {one['rmse']:>7.3g} {one['mae']:>7.3g} {one['r2']:>6.2f} "
            f"{rank:>6}  {cover}"
        )
    return "\n".join(lines)


def _advice(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return what a user should know before trusting the head."""
    from molvae.benchmark.head_check import FOREST, HEAD

    found = {(one["split"], one["predictor"]): one for one in records}
    notes = []
    strict = found.get(("scaffold", HEAD), found["random", HEAD])
    if strict["r2"] < 0.1:
        notes.append("on ring systems that it has not seen, the head is hardly better than the mean of the table")
    forest = found.get(("scaffold", FOREST), found["random", FOREST])
    if forest["rmse"] < 0.9 * strict["rmse"]:
        notes.append("the forest is clearly better here; check what the head proposes with it")
    return [*notes, "the head knows molecules like those of the table; far from all of them it guesses"]


def _rounded(record: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in record.items()}
