"""Verb ``molvae benchmark multiobjective``: fronts of two objectives, by the volume below them.

In: a model, methods, problems, seeds. Out: a directory: results/ (a JSON for each run), runs/, table.md, table.csv,
curves.svg.
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
    finish,
    make_missing,
    split,
    whole_numbers,
)
from molvae.cli.options import Device, Model

PICTURE = "curves.svg"

Problems = Annotated[
    str | None,
    typer.Option("--problems", metavar="A,B,...", help="median2 (its two similarities), qed_celecoxib (QED against "
                 "similarity to celecoxib).", show_default="both"),
]  # fmt: skip
Calls = Annotated[int, typer.Option("--calls", min=1, help="Unique oracle calls.")]


def command(
    output: Directory,
    method: Methods = "hybrid,ga,random",
    problems: Problems = None,
    seeds: Seeds = "0,1,2",
    calls: Calls = 2000,
    options: Options = "",
    table_only: Show = False,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Search for fronts of two objectives from the prior: hypervolume above (0, 0), with curves over the calls.

    A method that cannot look for a front maximises the geometric mean of both. Every (problem, method, seed) is stored
    when it is done; Ctrl-C stops, and the same command goes on with what is missing, in the middle of a run too.
    """
    from molvae.benchmark.multiobjective import PROBLEMS, Plan
    from molvae.benchmark.stored_runs import stored
    from molvae.benchmark.task_table import Published, markdown, read_table, write_table
    from molvae.files import write_text
    from molvae.report.volumes import volume_curves

    names = tuple(PROBLEMS) if problems is None else split(problems)
    plan = Plan(names, split(method), whole_numbers(seeds), calls, options)
    stopped = "" if table_only else make_missing(plan, output, model, device)
    table = read_table(output, plan, "Hypervolume above (0, 0)", Published())
    typer.echo(markdown(table))
    if not table_only:
        write_table(output, table)
        curves = [(entry.task, entry.method, facts["curve"]) for entry, facts in stored(output, plan).items()]
        if curves:
            write_text(output / PICTURE, volume_curves(curves))
            typer.echo(f"wrote {output / PICTURE}")
    finish(stopped)
