"""Put stored PMO results beside the published ones.

In: a directory that `molvae.benchmark.pmo` filled. Out: a table, as Markdown and CSV, that names what is missing.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from molvae.benchmark.pmo import CALLS, RESULTS, Entry, Plan, missing, read_result
from molvae.files import write_text
from molvae.optimize.tasks import PMO

COLUMNS = ("NF-BO", "REINVENT", "Graph GA", "Genetic-GFN", "InVirtuoGen")
PUBLISHED: dict[str, tuple[float, ...]] = {
    "albuterol_similarity": (0.817, 0.882, 0.838, 0.949, 0.950),
    "amlodipine_mpo": (0.672, 0.635, 0.661, 0.761, 0.733),
    "celecoxib_rediscovery": (0.546, 0.713, 0.630, 0.802, 0.798),
    "deco_hop": (0.675, 0.666, 0.619, 0.733, 0.748),
    "fexofenadine_mpo": (0.784, 0.784, 0.760, 0.856, 0.845),
    "isomers_c7h8n2o2": (0.748, 0.852, 0.862, 0.969, 0.968),
    "isomers_c9h10n2o2pf2cl": (0.842, 0.642, 0.719, 0.897, 0.874),
    "median1": (0.340, 0.356, 0.294, 0.379, 0.342),
    "median2": (0.260, 0.276, 0.273, 0.294, 0.288),
    "mestranol_similarity": (0.607, 0.618, 0.579, 0.708, 0.797),
    "osimertinib_mpo": (0.828, 0.837, 0.831, 0.860, 0.870),
    "perindopril_mpo": (0.586, 0.537, 0.538, 0.595, 0.645),
    "qed": (0.941, 0.941, 0.940, 0.942, 0.942),
    "ranolazine_mpo": (0.698, 0.760, 0.728, 0.819, 0.848),
    "scaffold_hop": (0.629, 0.560, 0.517, 0.615, 0.589),
    "sitagliptin_mpo": (0.516, 0.021, 0.433, 0.634, 0.709),
    "thiothixene_rediscovery": (0.496, 0.534, 0.479, 0.583, 0.625),
    "troglitazone_rediscovery": (0.375, 0.441, 0.390, 0.511, 0.595),
    "valsartan_smarts": (0.594, 0.178, 0.0, 0.135, 0.210),
    "zaleplon_mpo": (0.504, 0.358, 0.346, 0.552, 0.536),
}
"""AUC of the top 10 at 10,000 calls, in the order of `COLUMNS`, as their papers and PMO print them."""


@dataclass(frozen=True)
class Cell:
    """The results of one method on one task: AUC of the top 10, one per seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds, NaN when there are none."""
        return fmean(self.values) if self.values else math.nan

    def __str__(self) -> str:
        if not self.values:
            return "missing"
        spread = f" ± {stdev(self.values):.3f}" if len(self.values) > 1 else ""
        return f"{self.mean:.3f}{spread} ({len(self.values)})"


@dataclass(frozen=True)
class PmoTable:
    """Results of a directory under one plan.

    Attributes:
        plan: what was wanted.
        cells: (task, method) to what is there.
        missing: the runs that are not.
        complete: tasks for which every method has every seed; sums go over these.
    """

    plan: Plan
    cells: dict[tuple[str, str], Cell]
    missing: tuple[Entry, ...]
    complete: tuple[str, ...]

    def sums(self) -> list[float]:
        """Return the sum over the complete tasks for each method, then for each published column."""
        own = [sum(self.cells[task, method].mean for task in self.complete) for method in self.plan.methods]
        published = [sum(PUBLISHED[task][column] for task in self.complete) for column in range(len(COLUMNS))]
        return own + published

    def label(self) -> str:
        """Return what the sums are sums of."""
        if set(self.complete) == set(PMO):
            return "PMO-20"
        return f"sum of {len(self.complete)} of {len(PMO)} tasks"


def read_table(directory: Path, plan: Plan) -> PmoTable:
    """Return the table of a directory.

    Raises:
        InputError: when a stored result cannot be read.
    """
    left = missing(directory, plan)
    cells = {}
    for task in plan.tasks:
        for method in plan.methods:
            entries = [Entry(task, method, seed) for seed in plan.seeds]
            found = [read_result(entry.path(directory)) for entry in entries if entry not in left]
            cells[task, method] = Cell(tuple(float(facts["auc_top10"]) for facts in found))
    open_tasks = {entry.task for entry in left}
    complete = tuple(task for task in plan.tasks if task not in open_tasks)
    return PmoTable(plan, cells, tuple(left), complete)


def markdown(table: PmoTable) -> str:
    """Return the table as Markdown: our columns, mean ± standard deviation (seeds), then the published ones."""
    plan = table.plan
    head = ["task", *plan.methods, *COLUMNS]
    lines = [f"AUC of the top 10, {plan.calls:,} calls, mean ± standard deviation over (n) seeds.", ""]
    lines += [_row(head), "|---|" + "--:|" * (len(head) - 1)]
    for task in plan.tasks:
        own = [str(table.cells[task, method]) for method in plan.methods]
        lines.append(_row([task, *own, *(f"{value:.3f}" for value in PUBLISHED[task])]))
    if table.complete:
        lines.append(_row([f"**{table.label()}**", *(f"**{value:.3f}**" for value in table.sums())]))
    lines.append("")
    if plan.calls != CALLS:
        lines += [f"The published figures are at {CALLS:,} calls and cannot be compared with these.", ""]
    if table.missing:
        names = ", ".join(f"{entry.task} {entry.method} seed {entry.seed}" for entry in table.missing)
        lines += [f"Missing ({len(table.missing)} of {len(plan.entries())}): {names}.", ""]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def table_csv(table: PmoTable) -> str:
    """Return one line per task, method and seed count: task, method, seeds, mean, standard deviation."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("task", "method", "seeds", "auc_top10", "std"))
    for (task, method), cell in table.cells.items():
        spread = f"{stdev(cell.values):.6f}" if len(cell.values) > 1 else ""
        mean = f"{cell.mean:.6f}" if cell.values else ""
        writer.writerow((task, method, len(cell.values), mean, spread))
    return text.getvalue()


def write_table(directory: Path, table: PmoTable) -> list[Path]:
    """Write table.md and table.csv beside the folder of results.

    Raises:
        OutputError: when they cannot be written.
    """
    (directory / RESULTS).mkdir(parents=True, exist_ok=True)
    paths = [directory / "table.md", directory / "table.csv"]
    write_text(paths[0], markdown(table))
    write_text(paths[1], table_csv(table))
    return paths
