"""Tell how much given molecules were improved, beside published figures, and name what is missing.

In: a directory that `molvae.benchmark.stored_runs` filled with a `ConstrainedPlan`. Out: Markdown and CSV.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from molvae.benchmark.constrained import SUCCESS, ConstrainedPlan, agreement
from molvae.benchmark.stored_runs import missing, missing_line, stored, write_files
from molvae.benchmark.task_table import row

PUBLISHED: dict[str, tuple[tuple[str, float, str], ...]] = {
    "plogp": (
        ("JT-VAE (recalled)", 0.4, "0.84"), ("VJTNN", 0.4, "3.55"), ("Modof", 0.4, "5.00-5.89"),
        ("JT-VAE (recalled)", 0.6, "0.21"),
    ),
    "qed": (("VJTNN", 0.4, "60.6 %"), ("MolMIM (recalled)", 0.4, "94.6 %")),
}  # fmt: skip
"""Objective to (whose, similarity, figure): mean gain of penalized logP, share with QED of .9 and more."""

NAMED = 20
"""So many of the missing runs are named; there may be thousands."""


@dataclass(frozen=True)
class GainRow:
    """The results of one method at one similarity.

    Attributes:
        similarity: the threshold.
        method: the method.
        n: results there are.
        unusable: of them, leads that the model cannot read; they count as not improved.
        gain: mean gain, NaN without results, as below.
        spread: standard deviation of the gains.
        improved: share of results above their lead.
        success: share with a QED of `SUCCESS` and more.
        passing: share of results that pass the MOSES filters.
        gain_passing: mean gain of these alone.
        gain_clean: mean gain over all results when each is the best molecule that passes, and its lead if none does.
        gain_standardised: mean gain of the same molecules in penalized logP with every part standardised.
        atoms: mean number of heavy atoms of the results, their leads' before it.
        calls: mean number of calls.
        cpu: mean CPU seconds of a search.
    """

    similarity: float
    method: str
    n: int
    unusable: int
    gain: float
    spread: float
    improved: float
    success: float
    passing: float
    gain_passing: float
    gain_clean: float
    gain_standardised: float
    atoms: tuple[float, float]
    calls: float
    cpu: float


@dataclass(frozen=True)
class GainTable:
    """Rows of a plan, and what is missing of it, in a sentence."""

    plan: ConstrainedPlan
    rows: tuple[GainRow, ...]
    missing: str


def read_table(directory: Path, plan: ConstrainedPlan) -> GainTable:
    """Return the table of a directory.

    Raises:
        InputError: when a stored result cannot be read.
    """
    found = stored(directory, plan)
    rows = []
    for threshold in plan.thresholds:
        for method in plan.methods:
            mine = [one for one in found.values() if one["similarity"] == threshold and one["method"] == method]
            rows.append(gain_row(threshold, method, mine))
    return GainTable(plan, tuple(rows), missing_line(plan, missing(directory, plan), NAMED))


def gain_row(similarity: float, method: str, results: Sequence[dict[str, Any]]) -> GainRow:
    """Return one row for stored ``results``."""
    usable = [one for one in results if "problem" not in one]
    gains = [float(one["gain"]) for one in results]
    clean = [max(one.get("gain_passing") or 0.0, 0.0) for one in results]
    atoms = [_mean([float(one["atoms"][place]) for one in usable]) for place in (0, 1)]
    return GainRow(
        similarity, method, len(results), len(results) - len(usable), _mean(gains),
        stdev(gains) if len(gains) > 1 else math.nan, _mean([float(gain > 0) for gain in gains]),
        _mean([float(one.get("score", 0.0) >= SUCCESS["qed"]) for one in results]),
        _mean([float(bool(one.get("passes_moses_filters"))) for one in results]),
        _mean([float(one["gain"]) for one in usable if one["passes_moses_filters"]]), _mean(clean),
        _mean([float(one.get("gain_standardised", 0.0)) for one in results]), (atoms[0], atoms[1]),
        _mean([float(one["n_calls"]) for one in results]), _mean([float(one["cpu_seconds"]) for one in results]),
    )  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan


def markdown(table: GainTable) -> str:
    """Return the table as Markdown: our rows, then the published ones."""
    plan = table.plan
    lines = [_title(plan), ""]
    head = ["similarity", "method", "results", "mean gain", "improved", "pass MOSES filters", "mean gain of these",
            "mean gain, best that passes"]  # fmt: skip
    compared = f"QED >= {SUCCESS['qed']:g}" if plan.objective == "qed" else "mean gain, standardised"
    head += [compared, "atoms before, after", "calls", "CPU s a search"]
    lines += [row(head), "|---|---|" + "--:|" * (len(head) - 2)]
    lines += [row(_cells(one, plan.objective)) for one in table.rows]
    for whose, threshold, figure in PUBLISHED[plan.objective]:
        if threshold in plan.thresholds:
            cells = {"similarity": f">= {threshold:g}", "method": whose, compared: figure}
            lines.append(row([cells.get(name, "") for name in head]))
    lines += ["", *_notes(table)]
    return "\n".join(lines)


def _title(plan: ConstrainedPlan) -> str:
    what = {"plogp": "penalized logP, logP - SA", "qed": "QED"}[plan.objective]
    spent = f"{plan.calls:,} calls at most for each lead and similarity"
    return f"Gain in {what}: {len(plan.leads):,} leads, {spent}, mean ± standard deviation over the results."


def _cells(one: GainRow, objective: str) -> list[str]:
    if not one.n:
        return [f">= {one.similarity:g}", one.method, "missing", *[""] * 9]
    last = _percent(one.success) if objective == "qed" else _number(one.gain_standardised)
    return [
        f">= {one.similarity:g}", one.method, f"{one.n:,}", f"{_number(one.gain)} ± {_number(one.spread)}",
        _percent(one.improved), _percent(one.passing), _number(one.gain_passing), _number(one.gain_clean), last,
        f"{one.atoms[0]:.1f}, {one.atoms[1]:.1f}", f"{one.calls:,.0f}", f"{one.cpu:.1f}",
    ]  # fmt: skip


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f} %"


def _notes(table: GainTable) -> list[str]:
    plan, lines = table.plan, []
    if plan.objective == "plogp":
        lines += ["Penalized logP has no ceiling: look at the atoms. Published gains are in standardised units.", ""]
    unusable = sum(one.unusable for one in table.rows)
    if unusable:
        lines += [f"{unusable} results are of leads that the model cannot read; they count as not improved.", ""]
    given = agreement(plan.leads, plan.oracle)
    if given.n:
        text = f"Values that came with the leads: {given.same} of {given.n} are {plan.oracle} to 1e-6"
        lines += [f"{text}; the largest difference is {given.largest:.2g} ({given.worst}).", ""]
    if table.missing:
        lines += [table.missing, ""]
    return lines


def table_csv(table: GainTable) -> str:
    """Return one line per similarity and method."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = ("similarity", "method", "n", "unusable", "gain", "spread", "improved", "success", "passing",
             "gain_passing", "gain_clean", "gain_standardised", "calls", "cpu")  # fmt: skip
    writer.writerow(names)
    for one in table.rows:
        values = [getattr(one, name) for name in names]
        writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])
    return text.getvalue()


def write_table(directory: Path, table: GainTable) -> list[Path]:
    """Write table.md and table.csv beside the folder of results.

    Raises:
        OutputError: when they cannot be written.
    """
    return write_files(directory, {"table.md": markdown(table), "table.csv": table_csv(table)})
