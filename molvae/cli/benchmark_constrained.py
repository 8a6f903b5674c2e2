"""Verb ``molvae benchmark constrained``: improve given leads that have to stay similar, beside the published figures.

In: a model, leads, similarities. Out: a directory: results/ (a JSON for each lead and similarity), table.md, table.csv.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from molvae.cli.options import Device, Model, Seed

if TYPE_CHECKING:
    from molvae.benchmark.leads import Lead

DRAW_FROM = (0.7, 0.8)
"""QED of the leads that are drawn."""

LeadsFile = Annotated[
    Path | None,
    typer.Option("--leads", metavar="FILE", help="Molecules to improve: a SMILES a line, and perhaps the value of the "
                 "objective after a blank (.txt .smi), or a table.", show_default=False),
]  # fmt: skip
FromFile = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="Draw the leads from this file instead; for qed those from .7 to .8.",
                 show_default=False),
]  # fmt: skip
Draw = Annotated[int, typer.Option("--draw", min=1, help="Leads drawn from --from; fewer are the first of more.")]
Count = Annotated[
    int | None, typer.Option("-n", min=1, help="The first so many of --leads.", show_default="all")
]  # fmt: skip
Objective = Annotated[str, typer.Option("--objective", help="plogp (logP - SA, as the 800 leads have it) or qed.")]
Similarity = Annotated[
    str | None,
    typer.Option("--similarity", metavar="A,B,...", help="Tanimoto similarity to the lead that results keep; a search "
                 "for each.", show_default="0.4,0.6, and 0.4 for qed"),
]  # fmt: skip
Calls = Annotated[int, typer.Option("--calls", min=1, help="Unique calls for each lead and similarity, at most.")]


def command(
    output: Directory,
    leads: LeadsFile = None,
    from_file: FromFile = None,
    draw: Draw = 800,
    n: Count = None,
    objective: Objective = "plogp",
    similarity: Similarity = None,
    method: Methods = "hybrid",
    seeds: Seeds = "0",
    calls: Calls = 1000,
    options: Options = "",
    seed: Seed = 0,
    table_only: Show = False,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Improve given leads that have to stay similar: mean gain, or share with QED of .9, beside the published figures.

    One search for each lead and similarity; each is stored when it is done. Ctrl-C stops, and the same command goes on
    with what is missing; several processes may work on one directory. --seed is of the drawing, --seeds of the
    searches.

    For hundreds of leads hybrid is best run without its surrogate, which costs more than these oracles:
    --options surrogate=off,ranked=1,generations=1,moves=graph-mutate+graph-cross+graph-swap+string-mutate+string-cross
    """
    from molvae.benchmark.constrained import ConstrainedPlan
    from molvae.benchmark.constrained_table import markdown, read_table, write_table

    known = _leads(leads, from_file, draw, n, objective, seed)
    wanted = similarity if similarity is not None else "0.4" if objective == "qed" else "0.4,0.6"
    thresholds = _numbers(wanted)
    plan = ConstrainedPlan(known, objective, thresholds, split(method), whole_numbers(seeds), calls, options)
    stopped = "" if table_only else make_missing(plan, output, model, device)
    table = read_table(output, plan)
    if not table_only:
        write_table(output, table)
    typer.echo(markdown(table))
    finish(stopped)


def _leads(
    leads: Path | None, from_file: Path | None, draw: int, n: int | None, objective: str, seed: int
) -> tuple[Lead, ...]:
    """Return the leads of the command line.

    Raises:
        InputError: when both or neither of the files are given, or the leads cannot be read.
    """
    from molvae.benchmark.leads import draw_leads, read_leads
    from molvae.errors import InputError

    if (leads is None) == (from_file is None):
        raise InputError(
            f"The leads are {'not given' if leads is None else 'given twice'}.",
            "Give --leads FILE, or --from FILE with --draw N.",
        )
    if leads is not None:
        return read_leads(leads, n)
    assert from_file is not None
    if objective == "qed":
        return draw_leads(from_file, draw, seed, "qed", *DRAW_FROM)
    return draw_leads(from_file, draw, seed)


def _numbers(text: str) -> tuple[float, ...]:
    """Return the similarities of a list with commas.

    Raises:
        InputError: when one is no number.
    """
    from molvae.errors import InputError

    try:
        return tuple(float(part) for part in split(text))
    except ValueError as error:
        raise InputError(f"--similarity {text} are not numbers.", "Give --similarity 0.4,0.6, for instance.") from error
