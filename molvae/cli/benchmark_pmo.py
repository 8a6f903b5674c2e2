"""Verb ``molvae benchmark pmo``: run the PMO protocol and put the results beside the published ones.

In: a model, methods, tasks, seeds. Out: a directory: results/ (a JSON for each run), runs/, table.md, table.csv.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molvae.cli.options import Device, Model

if TYPE_CHECKING:
    from molvae.benchmark.pmo import Entry, Plan
    from molvae.optimize.search import Progress, ProgressCallback

Directory = Annotated[Path, typer.Option("-o", "--output", help="Directory of the table.", show_default=False)]
Methods = Annotated[str, typer.Option("--method", metavar="A,B,...", help="Search methods, see molvae optimize.")]
Tasks = Annotated[
    str | None,
    typer.Option("--tasks", metavar="A,B,...", help="Tasks of PMO.", show_default="the twenty that run offline"),
]
Seeds = Annotated[str, typer.Option("--seeds", metavar="0,1,...", help="A run for each.")]
Calls = Annotated[int, typer.Option("--calls", min=1, help="Unique oracle calls; PMO has 10,000.")]
Options = Annotated[str, typer.Option("--options", metavar="A=1,B=2,...", help="The method's own settings.")]
Show = Annotated[bool, typer.Option("--table-only", help="Run nothing; show what is there.")]


def command(
    output: Directory,
    method: Methods = "hybrid",
    tasks: Tasks = None,
    seeds: Seeds = "0,1,2",
    calls: Calls = 10_000,
    options: Options = "",
    table_only: Show = False,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Run the PMO protocol: AUC of the top 10 under a budget, beside the published figures.

    Searches start from molecules drawn from the model. Every (task, method, seed) is stored when it is done; Ctrl-C
    stops, and the same command goes on with what is missing, in the middle of a run too. Nothing is scored twice.
    """
    from molvae.benchmark.pmo import missing, run_plan
    from molvae.benchmark.pmo_table import markdown, read_table, write_table
    from molvae.nn.checkpoint import load_model

    plan = _plan(tasks, method, seeds, calls, options)
    stopped = ""
    if not table_only:
        loaded = load_model(model, device)
        with ExitStack() as stack:
            listener = _Listener(stack, calls, len(missing(output, plan)))
            for facts in run_plan(loaded, plan, output, listener):
                stopped = facts["stopped"]
    table = read_table(output, plan)
    if not table_only:
        write_table(output, table)
    typer.echo(markdown(table))
    if stopped.startswith("SIG"):
        typer.echo("continue with the same command", err=True)
        raise typer.Exit(128 + signal.Signals[stopped])


def _plan(tasks: str | None, methods: str, seeds: str, calls: int, options: str) -> Plan:
    """Return the plan of the command line.

    Raises:
        MolvaeError: when a part of it cannot be used.
    """
    from molvae.benchmark.pmo import Plan
    from molvae.errors import InputError
    from molvae.optimize.tasks import PMO

    try:
        numbers = tuple(int(seed) for seed in _split(seeds))
    except ValueError as error:
        raise InputError(f"--seeds {seeds} are not whole numbers.", "Give --seeds 0,1,2, for instance.") from error
    return Plan(PMO if tasks is None else _split(tasks), _split(methods), numbers, calls, options)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


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
