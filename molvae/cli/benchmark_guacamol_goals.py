"""Verb ``molvae benchmark guacamol``: the goal-directed suite v2, scored as GuacaMol does, beside its published scores.

In: a model, methods, tasks, seeds. Out: a directory: results/ (a JSON for each run), runs/, table.md, table.csv.
"""

from __future__ import annotations

from typing import Annotated

import typer

from molvae.cli.benchmark_runs import (
    Directory,
    Methods,
    Options,
    Seeds,
    Show,
    fill_table,
    split,
    whole_numbers,
)
from molvae.cli.options import Device, Model

Tasks = Annotated[
    str | None,
    typer.Option("--tasks", metavar="A,B,...", help="Tasks of the suite v2.", show_default="the twenty"),
]
Calls = Annotated[int, typer.Option("--calls", min=1, help="Unique oracle calls; GuacaMol itself sets no limit.")]


def command(
    output: Directory,
    method: Methods = "hybrid",
    tasks: Tasks = None,
    seeds: Seeds = "0",
    calls: Calls = 10_000,
    options: Options = "",
    table_only: Show = False,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Run GuacaMol's goal-directed suite v2 under a budget: its own scores, beside the published ones.

    Searches start from molecules drawn from the model. Every (task, method, seed) is stored when it is done; Ctrl-C
    stops, and the same command goes on with what is missing, in the middle of a run too. Nothing is scored twice.
    """
    from molvae.benchmark.guacamol_goals import Plan, read_table
    from molvae.optimize.tasks import GUACAMOL_V2

    plan = Plan(GUACAMOL_V2 if tasks is None else split(tasks), split(method), whole_numbers(seeds), calls, options)
    note = f"The published scores are without a limit on calls, these at {calls:,}."
    fill_table(plan, output, model, device, table_only, lambda: read_table(output, plan), note)
