"""Tell the results of tasks, methods and seeds as one table, beside published ones, that names what is missing.

In: a directory that `molvae.benchmark.stored_runs` filled. Out: Markdown and CSV.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from molvae.benchmark.stored_runs import Entry, missing, missing_line, stored, write_files
from molvae.benchmark.task_plan import TaskPlan


@dataclass(frozen=True)
class Published:
    """Figures of others.

    Attributes:
        columns: whose.
        rows: task to a figure for each column.
        whole: what the sum over all tasks is called.
        calls: the budget they are for; 0 when they are for none in particular.
    """

    columns: tuple[str, ...] = ()
    rows: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    whole: str = ""
    calls: int = 0


@dataclass(frozen=True)
class Cell:
    """The results of one method on one task, one per seed."""

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
class TaskTable:
    """Results of a directory under one plan.

    Attributes:
        plan: what was wanted.
        title: what a figure is.
        published: figures of others; without any there are no sums.
        cells: (task, method) to what is there.
        missing: the runs that are not.
        complete: tasks for which every method has every seed; sums go over these.
    """

    plan: TaskPlan
    title: str
    published: Published
    cells: dict[tuple[str, str], Cell]
    missing: tuple[Entry, ...]
    complete: tuple[str, ...]

    def sums(self) -> list[float]:
        """Return the sum over the complete tasks for each method, then for each published column."""
        own = [sum(self.cells[task, method].mean for task in self.complete) for method in self.plan.methods]
        rows = [self.published.rows[task] for task in self.complete]
        return own + [sum(row[column] for row in rows) for column in range(len(self.published.columns))]

    def label(self) -> str:
        """Return what the sums are sums of."""
        if set(self.complete) == set(self.published.rows):
            return self.published.whole
        return f"sum of {len(self.complete)} of {len(self.published.rows)} tasks"


def read_table(directory: Path, plan: TaskPlan, title: str, published: Published) -> TaskTable:
    """Return the table of a directory.

    Raises:
        InputError: when a stored result cannot be read.
    """
    left = missing(directory, plan)
    found: dict[tuple[str, str], list[float]] = {(task, way): [] for task in plan.tasks for way in plan.methods}
    for entry, facts in stored(directory, plan).items():
        found[entry.task, entry.method].append(float(facts[plan.figure]))
    cells = {key: Cell(tuple(values)) for key, values in found.items()}
    open_tasks = {entry.task for entry in left}
    complete = tuple(task for task in plan.tasks if task not in open_tasks)
    return TaskTable(plan, title, published, cells, tuple(left), complete)


def markdown(table: TaskTable) -> str:
    """Return the table as Markdown: our columns, mean ± standard deviation (seeds), then the published ones."""
    plan, published = table.plan, table.published
    head = ["task", *plan.methods, *published.columns]
    lines = [f"{table.title}, {plan.calls:,} calls, mean ± standard deviation over (n) seeds.", ""]
    lines += [row(head), "|---|" + "--:|" * (len(head) - 1)]
    for task in plan.tasks:
        own = [str(table.cells[task, method]) for method in plan.methods]
        lines.append(row([task, *own, *(f"{value:.3f}" for value in published.rows.get(task, ()))]))
    if table.complete and published.columns:
        lines.append(row([f"**{table.label()}**", *(f"**{value:.3f}**" for value in table.sums())]))
    lines.append("")
    if published.calls and plan.calls != published.calls:
        lines += [f"The published figures are at {published.calls:,} calls and cannot be compared with these.", ""]
    if table.missing:
        lines += [missing_line(plan, table.missing), ""]
    return "\n".join(lines)


def row(cells: Sequence[str]) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def table_csv(table: TaskTable) -> str:
    """Return one line per task, method and seed count: task, method, seeds, mean, standard deviation."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("task", "method", "seeds", table.plan.figure, "std"))
    for (task, method), cell in table.cells.items():
        spread = f"{stdev(cell.values):.6f}" if len(cell.values) > 1 else ""
        mean = f"{cell.mean:.6f}" if cell.values else ""
        writer.writerow((task, method, len(cell.values), mean, spread))
    return text.getvalue()


def write_table(directory: Path, table: TaskTable) -> list[Path]:
    """Write table.md and table.csv beside the folder of results.

    Raises:
        OutputError: when they cannot be written.
    """
    return write_files(directory, {"table.md": markdown(table), "table.csv": table_csv(table)})
