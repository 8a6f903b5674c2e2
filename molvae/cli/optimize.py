"""Verb ``molvae optimize``: search the latent space for molecules with a better score.

In: an oracle or a goal file, start molecules or none, a model. Out: a run directory: molecules.csv, best.csv, run.json,
journal.jsonl; pareto.csv and hypervolume.csv for goals of several objectives.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molvae.cli.options import Device, Model, Seed, SmilesColumn

if TYPE_CHECKING:
    import pandas as pd

    from molvae.cli.output import Destination
    from molvae.nn.checkpoint import LoadedModel
    from molvae.optimize.oracles import Oracle
    from molvae.optimize.result import Front, Result

SHOWN, SHOWN_PROBLEMS = 10, 5
NEAR = 0.5
"""Tanimoto similarity that an analogue keeps to its lead, unless told otherwise."""


def _list_oracles(asked: bool) -> None:
    if asked:
        from molvae.optimize.oracles import list_oracles

        typer.echo("\n".join(f"{name:32} {what}" for name, what in list_oracles()))
        raise typer.Exit


def _example_goal(asked: bool) -> None:
    if asked:
        from molvae.optimize.goal_file import EXAMPLE

        typer.echo(EXAMPLE, nl=False)
        raise typer.Exit


OracleName = Annotated[
    str | None,
    typer.Option(
        "--oracle",
        help="What to maximise: a property (qed, logp, plogp, neg_sa, tpsa, ...), a task (zaleplon_mpo, ...), "
        "similarity:SMILES, substructure:SMARTS, alerts:PAINS,BRENK, head:NAME, module:function (a function from a "
        "list of SMILES to a list of floats) or cmd:PROGRAM (SMILES on stdin, a score a line on stdout).",
        show_default=False,
    ),
]
GoalPath = Annotated[
    Path | None,
    typer.Option("--goal", metavar="FILE", help="Several oracles and constraints, in TOML, instead of --oracle.",
                 show_default=False),
]  # fmt: skip
ListOracles = Annotated[
    bool, typer.Option("--list-oracles", callback=_list_oracles, is_eager=True, help="Show every oracle and stop.")
]
ExampleGoal = Annotated[
    bool, typer.Option("--example-goal", callback=_example_goal, is_eager=True, help="Show a goal file and stop.")
]
RunDirectory = Annotated[Path, typer.Option("-o", "--output", help="Directory of the run.", show_default=False)]
BestFile = Annotated[
    Path | None,
    typer.Option(
        "--best",
        metavar="FILE",
        help="Write the best molecules to this file too: .csv, .tsv, .smi, .sdf or .parquet.",
        show_default=False,
    ),
]
StartFile = Annotated[
    str | None,
    typer.Option(
        "--start",
        metavar="FILE",
        help="Molecules to improve: .smi .smiles .csv .tsv .sdf, also .gz, .parquet, or - for stdin. Left out: "
        "molecules drawn from the model.",
        show_default=False,
    ),
]
MethodName = Annotated[
    str,
    typer.Option(
        "--method",
        help="How to search: hybrid, cmaes, ga, gradient, turbo, tanimoto-bo, or random, the baseline.",
    ),
]
Options = Annotated[
    str,
    typer.Option(
        "--options",
        "--method-settings",
        metavar="A=1,B=2,...",
        help="The method's own settings, such as gate=moses,surrogate=off of hybrid; a wrong one lists them.",
        show_default=False,
    ),
]
Budget = Annotated[int, typer.Option("--budget", help="Molecules scored at most, each one once.")]
Minimize = Annotated[bool, typer.Option("--minimize", help="Look for low scores instead of high ones.")]
AnaloguesOf = Annotated[
    str | None,
    typer.Option(
        "--analogues-of",
        metavar="SMILES",
        help="The lead to improve, instead of a file of --start. Without --oracle and --goal: QED.",
        show_default=False,
    ),
]
MinSimilarity = Annotated[
    float | None,
    typer.Option(
        "--min-similarity",
        help="Tanimoto similarity to its start that a molecule keeps, 0 to 1; 0.5 with --analogues-of, else 0.",
        show_default=False,
    ),
]
Keep = Annotated[
    str,
    typer.Option(
        "--keep",
        metavar="SMARTS",
        help="A part that every molecule must contain, such as the scaffold of the lead.",
        show_default=False,
    ),
]
Timeout = Annotated[
    float, typer.Option("--timeout", help="Seconds a batch may take in module:function or cmd:PROGRAM.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the output directory.")]


def command(
    output: RunDirectory,
    oracle: OracleName = None,
    goal: GoalPath = None,
    best: BestFile = None,
    start: StartFile = None,
    smiles_column: SmilesColumn = None,
    method: MethodName = "hybrid",
    options: Options = "",
    budget: Budget = 500,
    minimize: Minimize = False,
    analogues_of: AnaloguesOf = None,
    min_similarity: MinSimilarity = None,
    keep: Keep = "",
    timeout: Timeout = 300.0,
    resume: Resume = False,
    model: Model = None,
    seed: Seed = 0,
    device: Device = "auto",
    list_oracles: ListOracles = False,
    example_goal: ExampleGoal = False,
) -> None:
    """Search the latent space for molecules with a better score.

    Every molecule is scored once; the budget counts them, failures and the start molecules included. Ctrl-C stops and
    writes what was found; --resume goes on without scoring anything twice. A module:function or cmd:PROGRAM runs in a
    process of its own: a molecule on which it fails, hangs or dies has no score.

    One lead: molvae optimize --analogues-of 'SMILES' --keep 'SMARTS' -o RUN. The directory gets the tables and
    report.html, with the best molecules drawn and what changed marked.
    """
    destination = _destination(output, best)
    from molvae.cli.search_view import search_view
    from molvae.nn.checkpoint import load_model
    from molvae.optimize.run import optimize
    from molvae.optimize.search import Settings

    near, oracle = _of_lead(analogues_of, min_similarity, oracle, goal)
    # Whatever can be refused is refused before the model is loaded.
    Settings(method, budget, seed, minimize, near, options, keep=keep)
    starts = _starts(start, smiles_column, analogues_of)
    find = _finder(oracle, goal, timeout)
    scorer = find(None)
    try:
        loaded = load_model(model, device)
        scorer = scorer or find(loaded)
        assert scorer is not None
        with search_view(budget) as show:
            result = optimize(
                loaded, scorer, starts, method, budget, seed, output, show,
                minimize=minimize, min_similarity=near, resume=resume, options=options, keep=keep,
            )  # fmt: skip
    finally:
        getattr(scorer, "close", nullcontext)()
    _write(result, output, destination)
    _report(result, len(starts) - len(result.starts) if starts else 0)


def _of_lead(
    lead: str | None, similarity: float | None, oracle: str | None, goal: Path | None
) -> tuple[float, str | None]:
    """Return the similarity to keep and the oracle, where nothing is said those of one lead, `NEAR` and QED."""
    if lead is not None and oracle is None and goal is None:
        oracle = "qed"
        typer.echo("no --oracle and no --goal: maximises qed", err=True)
    usual = 0.0 if lead is None else NEAR
    return usual if similarity is None else similarity, oracle


def _finder(oracle: str | None, goal: Path | None, timeout: float) -> Callable[[LoadedModel | None], Oracle | None]:
    """Return what makes the oracle; without a model it makes None when the oracle needs one.

    Raises:
        InputError: when both or neither of ``oracle`` and ``goal`` are given.
        ConfigError: when the goal file cannot be used.
    """
    from molvae.errors import InputError
    from molvae.optimize.goal_file import read_goal
    from molvae.optimize.oracles import find_oracle
    from molvae.optimize.oracles_head import HEAD

    if (oracle is None) == (goal is None):
        raise InputError(
            f"What to maximise is {'not given' if oracle is None else 'given twice'}.",
            "Give --oracle NAME (see --list-oracles) or --goal FILE (see --example-goal).",
        )
    if goal is not None:
        file = read_goal(goal)
        return lambda loaded: None if loaded is None and file.needs_model else file.build(timeout, loaded)
    name = str(oracle)
    return lambda loaded: None if loaded is None and name.startswith(HEAD) else find_oracle(name, timeout, loaded)


def _destination(output: Path, best: Path | None) -> Destination | None:
    """Return where the best molecules go besides the run's directory, if anywhere.

    Raises:
        OutputError: when the directory has the name of a table, or ``best`` cannot be written.
    """
    from molvae.cli.output import TABLES, Destination
    from molvae.errors import OutputError

    if output.suffix.lower() in TABLES and not output.is_dir():
        raise OutputError(
            f"{output} is the name of a table, and -o is the directory of the run.",
            f"Give a directory, and --best {output} for a table of the best molecules.",
        )
    return None if best is None else Destination(best)


def _starts(source: str | None, column: str | None, lead: str | None) -> list[str]:
    """Return the SMILES of a file or of stdin, or the lead; none of either, none.

    Raises:
        InputError: when the file holds none, the lead is no molecule, or both are given.
    """
    from molvae.chem.rejected import Rejected
    from molvae.chem.standardize import standardize
    from molvae.cli.molecules import read_smiles
    from molvae.errors import InputError

    if lead is not None:
        if source is not None:
            raise InputError("--start and --analogues-of are both given.", "Leave one out.")
        found = standardize(lead)
        if isinstance(found, Rejected):
            remedy = f"Give --start {lead}." if Path(lead).is_file() else "Give one SMILES, in quotes."
            raise InputError(f"--analogues-of {lead} is no molecule ({found.reason}).", remedy)
        return [lead]
    if source is None:
        return []
    smiles = [one for one in read_smiles(source, column) if one.strip()]
    if not smiles:
        raise InputError(f"{source} holds no molecules.", "Give a file with a SMILES a line, or leave --start out.")
    return smiles


def _write(result: Result, output: Path, destination: Destination | None) -> None:
    """Write the best molecules where they were asked for, and the page of the run."""
    from molvae.cli.search_view import write_report

    if destination is not None and destination.path is not None:
        destination.table(result.best)
        result.files.append(destination.path)
    write_report(result, output)


def _report(result: Result, repeated: int) -> None:
    """Print what became of the starts, the best molecules, and the files; a signal that came ends as a signal does."""
    from rich.console import Console

    console = Console(highlight=False)
    starts = result.starts
    given = starts["input"] != ""
    if given.any():
        console.print(_about_starts(starts, repeated), markup=False)
        unusable = starts[starts["problem"] != ""]
        for row in unusable.head(SHOWN_PROBLEMS).itertuples():
            console.print(f"  {row.input}: {row.problem}", markup=False, soft_wrap=True)
        for row in starts[starts["left_out"] != ""].head(SHOWN_PROBLEMS).itertuples():
            console.print(f"  {row.input}: read as {row.smiles}, without {row.left_out}", markup=False, soft_wrap=True)
        if len(unusable) > SHOWN_PROBLEMS:
            console.print(f"  and {len(unusable) - SHOWN_PROBLEMS:,} more, see run.json", markup=False)
    console.print(_table(result))
    if result.front is not None:
        console.print(_front_line(result.front), markup=False)
    names = ", ".join(str(path) for path in result.files)
    console.print(f"{result.n_calls} calls; stopped: {result.stopped}", markup=False)
    for note in result.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    console.print(f"wrote {names}", markup=False, soft_wrap=True)
    if result.stopped in ("SIGINT", "SIGTERM"):
        console.print("continue with the same command and --resume", markup=False)
        raise typer.Exit(128 + signal.Signals[result.stopped])


def _about_starts(starts: pd.DataFrame, repeated: int) -> str:
    """Return what became of the given starts; every one is counted once."""
    usable = starts[starts["problem"] == ""]
    counts = {
        "decode to themselves": int(usable["exact"].sum()),
        "by their exact code": int(usable["repaired"].sum()),
        "to another molecule": int((~usable["exact"] & ~usable["repaired"]).sum()),
        "cannot be used": len(starts) - len(usable),
        "were given before": repeated,
    }
    parts = [f"{count:,} {what}" for what, count in counts.items() if count]
    return f"starts: {len(starts) + repeated:,} = {' + '.join(parts)}"


def _front_line(front: Front) -> str:
    corner = f"above {front.reference:g} in every objective" if front.reference == 0 else "below 1 in every objective"
    return f"front: {len(front.molecules):,} molecules; hypervolume {front.hypervolume:.4g} {corner}"


def _table(result: Result) -> object:
    """Return the best of each start, or the best of all when the search had no given starts."""
    from rich.markup import escape
    from rich.table import Table

    best = result.best
    heads = best[best["best_of_parent"]] if (result.starts["input"] != "").any() else best
    table = Table("start", "score", "best", "score", "similarity", title="best of each start, best first")
    columns = ("parent", "parent_score", "smiles", "score", "similarity")
    for parent, before, smiles, score, similarity in heads.head(SHOWN)[list(columns)].to_numpy().tolist():
        cells = (parent or "(drawn)", _number(before), smiles, _number(score), _number(similarity))
        table.add_row(*(escape(cell) for cell in cells))
    return table


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"
