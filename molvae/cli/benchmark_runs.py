"""Share what the benchmarks of searches have in common on the command line: options, runs with a bar, the end.

In: a plan. Out: its missing runs, made and stored; what ended them.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from molvae.benchmark.stored_runs import Entry, Plan
    from molvae.benchmark.task_plan import TaskPlan
    from molvae.benchmark.task_table import TaskTable
    from molvae.optimize.search import Progress, ProgressCallback

Directory = Annotated[Path, typer.Option("-o", "--output", help="Directory of the table.", show_default=False)]
Methods = Annotated[str, typer.Option("--method", metavar="A,B,...", help="Search methods, see molvae optimize.")]
Seeds = Annotated[str, typer.Option("--seeds", metavar="0,1,...", help="A run for each.")]
Options = Annotated[
    str, typer.Option("--options", "--method-settings", metavar="A=1,B=2,...", help="The method's own settings.")
]
Show = Annotated[bool, typer.Option("--table-only", help="Run nothing; show what is there.")]


def split(text: str) -> tuple[str, ...]:
    """Return the parts of a list with commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def whole_numbers(text: str) -> tuple[int, ...]:
    """Return the seeds of a list with commas.

    Raises:
        InputError: when one is no whole number.
    """
    from molvae.errors import InputError

    try:
        return tuple(int(seed) for seed in split(text))
    except ValueError as error:
        raise InputError(f"--seeds {text} are not whole numbers.", "Give --seeds 0,1,2, for instance.") from error


def make_missing(plan: Plan, output: Path, model: str | None, device: str) -> str:
    """Make every missing run of a plan with a progress bar each, and return why the last one stopped, "" for none."""
    from molvae.benchmark.stored_runs import missing, run_plan
    from molvae.nn.checkpoint import load_model

    stopped = ""
    loaded = load_model(model, device)
    with ExitStack() as stack:
        listener = _Listener(stack, plan.calls, len(missing(output, plan)))
        for facts in run_plan(loaded, plan, output, listener):
            stopped = facts["stopped"]
    return stopped


def fill_table(
    plan: TaskPlan, output: Path, model: str | None, device: str, table_only: bool, read: Callable[[], TaskTable],
    note: str = "",
) -> None:  # fmt: skip
    """Make the missing runs of a plan unless ``table_only``, write and show the table, and end as a signal did.

    Args:
        read: reads the table of what is stored.
        note: stands below the table.
    """
    from molvae.benchmark.task_table import markdown, write_table

    stopped = "" if table_only else make_missing(plan, output, model, device)
    table = read()
    if not table_only:
        write_table(output, table)
    typer.echo("\n".join([markdown(table), *([note] if note else [])]))
    finish(stopped)


def finish(stopped: str) -> None:
    """End as a signal does, if one came."""
    if stopped.startswith("SIG"):
        typer.echo("continue with the same command", err=True)
        raise typer.Exit(128 + signal.Signals[stopped])


class _Listener:
    """Shows a progress bar for each run, one after the other."""

    def __init__(self, stack: ExitStack, calls: int, total: int) -> None:
        self.stack, self.calls, self.total, self.begun = stack, calls, total, 0

    def __call__(self, entry: Entry) -> ProgressCallback:
        """Begin the bar of a run."""
        from molvae.cli.progress import progress_bar

        self.stack.close()
        self.begun += 1
        label = f"{self.begun}/{self.total} {entry.task} {entry.method} {entry.seed}"
        update = self.stack.enter_context(progress_bar(label, self.calls))

        def show(state: Progress) -> None:
            update(state.n_calls, best=state.best, top10=state.top10)

        return show
