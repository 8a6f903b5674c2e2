"""Verb ``molvae benchmark pmo``: run the PMO protocol and put the results beside the published ones.

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
    typer.Option("--tasks", metavar="A,B,...", help="Tasks of PMO.", show_default="the twenty that run offline"),
]
Calls = Annotated[int, typer.Option("--calls", min=1, help="Unique oracle calls; PMO has 10,000.")]


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
    from molvae.benchmark.pmo import Plan
    from molvae.benchmark.pmo_table import read_table
    from molvae.optimize.tasks import PMO

    plan = Plan(PMO if tasks is None else split(tasks), split(method), whole_numbers(seeds), calls, options)
    fill_table(plan, output, model, device, table_only, lambda: read_table(output, plan))
