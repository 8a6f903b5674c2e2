"""Verb ``molvae optimize``: search the latent space for molecules with a better score.

In: an oracle, start molecules or none, a model. Out: a run directory: molecules.csv, best.csv, run.json, journal.jsonl.
"""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molvae.cli.options import Device, Model, Seed, SmilesColumn

if TYPE_CHECKING:
    from molvae.cli.output import Destination
    from molvae.optimize.result import Result

SHOWN = 10


OracleName = Annotated[
    str,
    typer.Option(
        "--oracle",
        help="What to maximise: a property (qed, logp, plogp, neg_sa, tpsa, ...), similarity:SMILES, or "
        "module:function, a function from a list of SMILES to a list of floats.",
        show_default=False,
    ),
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
MethodName = Annotated[str, typer.Option("--method", help="How to search: cmaes, or random, the baseline.")]
Budget = Annotated[int, typer.Option("--budget", help="Molecules scored at most, each one once.")]
Minimize = Annotated[bool, typer.Option("--minimize", help="Look for low scores instead of high ones.")]
MinSimilarity = Annotated[
    float, typer.Option("--min-similarity", help="Tanimoto similarity to its start that a molecule keeps, 0 to 1.")
]
Timeout = Annotated[float, typer.Option("--timeout", help="Seconds a batch may take in module:function.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the output directory.")]


def command(
    oracle: OracleName,
    output: RunDirectory,
    best: BestFile = None,
    start: StartFile = None,
    smiles_column: SmilesColumn = None,
    method: MethodName = "cmaes",
    budget: Budget = 500,
    minimize: Minimize = False,
    min_similarity: MinSimilarity = 0.0,
    timeout: Timeout = 300.0,
    resume: Resume = False,
    model: Model = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Search the latent space for molecules with a better score.

    Every molecule is scored once; the budget counts them, failures and the start molecules included. Ctrl-C stops and
    writes what was found; --resume goes on without scoring anything twice. A module:function runs in a process of its
    own: what it prints is dropped, and a molecule on which it fails, hangs or dies has no score.
    """
    destination = _destination(output, best)
    from molvae.cli.progress import progress_bar
    from molvae.nn.checkpoint import load_model
    from molvae.optimize.oracles import find_oracle
    from molvae.optimize.process import ProcessOracle
    from molvae.optimize.run import optimize
    from molvae.optimize.search import Progress, Settings

    # Whatever can be refused is refused before the model is loaded.
    Settings(method, budget, seed, minimize, min_similarity)
    starts = _read_starts(start, smiles_column) if start is not None else []
    scorer = find_oracle(oracle, timeout)
    try:
        loaded = load_model(model, device)
        with progress_bar("Optimising", budget) as update:

            def show(state: Progress) -> None:
                update(state.n_calls, best=state.best, top10=state.top10)

            result = optimize(
                loaded, scorer, starts, method, budget, seed, output, show,
                minimize=minimize, min_similarity=min_similarity, resume=resume,
            )  # fmt: skip
    finally:
        if isinstance(scorer, ProcessOracle):
            scorer.close()
    if destination is not None and destination.path is not None:
        destination.table(result.best)
        result.files.append(destination.path)
    _report(result, output)


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


def _read_starts(source: str, column: str | None) -> list[str]:
    """Return the SMILES of a file or of stdin.

    Raises:
        InputError: when it holds none.
    """
    from molvae.cli.molecules import read_smiles
    from molvae.errors import InputError

    smiles = [one for one in read_smiles(source, column) if one.strip()]
    if not smiles:
        raise InputError(f"{source} holds no molecules.", "Give a file with a SMILES a line, or leave --start out.")
    return smiles


def _report(result: Result, output: Path) -> None:
    """Print what became of the starts, the best molecules, and the files; a signal that came ends as a signal does."""
    from rich.console import Console

    console = Console(highlight=False)
    starts = result.starts
    given = starts["input"] != ""
    if given.any():
        exact, unusable = int(starts["exact"].sum()), int((starts["problem"] != "").sum())
        line = f"starts: {len(starts)}, {exact} decode to themselves, {unusable} cannot be encoded"
        console.print(line, markup=False)
        for row in starts[starts["problem"] != ""].head(3).itertuples():
            console.print(f"  {row.input}: {row.problem}", markup=False, soft_wrap=True)
    console.print(_table(result))
    names = ", ".join(str(path) for path in result.files)
    console.print(f"{result.n_calls} calls; stopped: {result.stopped}", markup=False)
    console.print(f"wrote {names}", markup=False, soft_wrap=True)
    if result.stopped in ("SIGINT", "SIGTERM"):
        console.print(f"continue with: --resume -o {output}", markup=False, soft_wrap=True)
        raise typer.Exit(128 + signal.Signals[result.stopped])


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
