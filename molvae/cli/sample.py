"""Verb ``molvae sample``: generate new molecules.

In: a model. Out: a table of molecules, or a file of SMILES.
"""

from __future__ import annotations

import signal
import warnings
from typing import Annotated, Any, cast

import typer

from molvae.cli.options import (
    Alerts,
    BatchSize,
    Device,
    MaxLength,
    Model,
    Output,
    OwnTemperature,
    Precision,
    Rounds,
    Seed,
    Spreadsheet,
    TopK,
    TopP,
    Workers,
)
from molvae.cli.pictures import Png, Svg
from molvae.cli.requests import BestOf, Guidance, Where, WhereDecoder, WherePrior, WhereReader, asked_lines, read_asked
from molvae.cli.scaffold import ScaffoldOption

Number = Annotated[int, typer.Option("-n", "--number", help="Molecules wanted.")]
Greedy = Annotated[bool, typer.Option("--greedy", help="Take the likeliest token each time.")]
Unique = Annotated[bool, typer.Option("--unique", help="Give each molecule once.")]
NotIn = Annotated[
    str | None,
    typer.Option(
        "--not-in", help="Leave out the train split of this DATASET, or the molecules of this file.", show_default=False
    ),
]
Properties = Annotated[
    str, typer.Option("--properties", help="Columns to compute, with commas between them; none computes none.")
]
KeepFailed = Annotated[
    bool,
    typer.Option("--keep-failed", help="Report also what is no molecule, with its state, instead of drawing again."),
]
PriorTemperature = Annotated[
    float, typer.Option("--prior-temperature", help="Scales latents; below 1 more ordinary molecules.")
]


def command(
    number: Number = 1000,
    model: Model = None,
    output: Output = None,
    seed: Seed = 0,
    device: Device = "auto",
    temperature: OwnTemperature = None,
    greedy: Greedy = False,
    top_k: TopK = 0,
    top_p: TopP = 1.0,
    max_length: MaxLength = None,
    unique: Unique = False,
    not_in: NotIn = None,
    properties: Properties = "logp,qed,sa,mol_weight,tpsa",
    alerts: Alerts = True,
    keep_failed: KeepFailed = False,
    prior_temperature: PriorTemperature = 1.0,
    precision: Precision = "auto",
    batch_size: BatchSize = None,
    workers: Workers = None,
    spreadsheet: Spreadsheet = False,
    where: Where = None,
    best_of: BestOf = 1,
    guidance: Guidance = 0.0,
    rounds: Rounds = None,
    where_prior: WherePrior = "auto",
    where_decoder: WhereDecoder = True,
    where_reader: WhereReader = "model",
    scaffold: ScaffoldOption = None,
    svg: Svg = None,
    png: Png = None,
) -> None:
    """Generate new molecules.

    The table has the columns smiles, state, nats (-log p of what was written), the properties, and alerts. A .smi file
    has the SMILES only, an .sdf file draws each molecule. Empty strings and what RDKit refuses are drawn again and
    counted. With --where, columns say what was asked of each molecule, what it has (by RDKit, or as the model predicts
    it, with its standard deviation) and the error; the last lines say by which route and how well. With --scaffold,
    every molecule is another one that holds it, columns say what sits at each [*], and --svg or --png highlights it;
    --where goes with it.
    """
    from molvae.cli.output import Destination
    from molvae.cli.pictures import picture_files
    from molvae.generate.chemistry import check_counts
    from molvae.generate.sampling import SamplingOptions
    from molvae.generate.wanted import Wanted

    destination = Destination(output)
    bare = _is_bare(destination, keep_failed)
    options = SamplingOptions(temperature, greedy, top_k, top_p, max_length, cast(Any, precision))
    names = tuple(name for name in properties.split(",") if name and name != "none")
    wanted = Wanted(unique, frozenset(), names, alerts, keep_failed, prior_temperature)
    check_counts(number, batch_size, workers)
    asked = read_asked(where, where_prior, where_decoder, guidance, rounds if where else None, best_of, where_reader)
    files = picture_files(svg, png)
    asked = _scaffold(scaffold, files, asked, None if where else rounds)
    _run(
        destination, model, device, number, options, _lean(wanted, not_in, bare), seed, batch_size, workers,
        spreadsheet, asked, rounds, files,
    )  # fmt: skip


def _is_bare(destination: Any, keep_failed: bool) -> bool:
    """Tell whether only SMILES can be written."""
    from molvae.errors import ConfigError

    bare: bool = destination.suffix == ".smi"
    if bare and keep_failed:
        raise ConfigError(
            "A .smi file cannot hold what is no molecule.", "Write a .csv file, or leave --keep-failed out."
        )
    return bare


def _scaffold(scaffold: str | None, files: Any, asked: Any, rounds: int | None) -> Any:
    """Return what is to be done for a scaffold in place of ``asked``, together with it."""
    from functools import partial

    from molvae.cli.scaffold import run_sample
    from molvae.errors import ConfigError

    if scaffold is None:
        return asked
    if rounds is not None:
        raise ConfigError("--rounds does not go with --scaffold alone.", "Add --where, or leave it out.")
    return partial(run_sample, scaffold=scaffold, files=files, asked=asked)


def _lean(wanted: Any, not_in: str | None, bare: bool) -> Any:
    """Return ``wanted`` with the known molecules, and without the columns that a file of SMILES has no place for."""
    from dataclasses import replace
    from pathlib import Path

    from molvae.generate.known import load_known

    known = load_known(Path(not_in)) if not_in else frozenset()
    return replace(wanted, novel_to=known, **({"properties": (), "alerts": False} if bare else {}))


def _run(
    destination: Any, model: str | None, device: str, number: int, options: Any, wanted: Any, seed: int,
    batch_size: int | None, workers: int | None, spreadsheet: bool, asked: Any = None,
    rounds: int | None = None, files: Any = (),
) -> None:  # fmt: skip
    from molvae.cli.pictures import DRAWN, draw
    from molvae.cli.progress import progress_bar
    from molvae.generate.conditional import sample_where
    from molvae.generate.molecules import sample
    from molvae.generate.wanted import shortfall
    from molvae.nn.checkpoint import load_model
    from molvae.optimize.interrupt import Stopper

    if callable(asked):
        asked(destination, model, device, number, options, wanted, seed, workers, spreadsheet)
        return
    loaded = load_model(model, device)
    with Stopper() as stopper, progress_bar("Sampling", number) as update, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        common: Any = {"seed": seed, "batch_size": batch_size, "workers": workers, "progress": update,
                       "stop": lambda: bool(stopper.requested)}  # fmt: skip
        if asked is None:
            table = sample(loaded, number, options, wanted, **common, rounds=rounds)
        else:
            requests, asking = asked
            table = sample_where(loaded, number, requests, asking, options, wanted, **common)
    destination.table(table, spreadsheet=spreadsheet)
    counts = table.attrs["counts"]
    parts = [f"{count:,} {name.replace('_', '-')}" for name, count in counts.items() if name != "drawn" and count]
    destination.say(f"drawn {counts['drawn']:,}: {', '.join(parts) or 'nothing'}")
    if table.attrs.get("rounds"):
        destination.say(f"rounds of reading back: {table.attrs['rounds']}")
    if not table.attrs["complete"] and not stopper.requested:
        destination.say(f"warning: {shortfall(len(table), number, counts)}")
    for line in asked_lines(table):
        destination.say(line)
    shown = [str(smiles or "") for smiles in table["smiles"].head(DRAWN)]
    draw(files, shown, [""] * len(shown), destination)
    destination.finish(len(table))
    if stopper.requested:
        near = ", as near as they had come" if asked else ""
        destination.say(f"stopped by {stopper.requested}: {len(table):,} of {number:,} molecules{near}")
        raise typer.Exit(128 + signal.Signals[stopper.requested])
