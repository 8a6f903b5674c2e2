"""Verb ``molvae benchmark moses``: the MOSES protocol, for a model or for a file of samples.

In: a model or samples, and the MOSES splits. Out: moses.json, .csv, .svg and .png in a directory, and a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molvae.cli.options import Device, Model, OwnTemperature, Rounds, Workers

if TYPE_CHECKING:
    from molvae.benchmark.moses import Yardstick
    from molvae.benchmark.moses_run import Extent, Plan, Run
    from molvae.nn.checkpoint import LoadedModel

FILES = ("moses.json", "moses.csv", "moses.svg", "moses.png")
USUAL = 30_000

Directory = Annotated[Path, typer.Option("-o", "--output", help="Directory of the run.", show_default=False)]
SamplesFile = Annotated[
    str | None,
    typer.Option("--samples", metavar="FILE", help="Measure these SMILES, blanks included, and no model.",
                 show_default=False),
]  # fmt: skip
Number = Annotated[
    int | None,
    typer.Option("-n", "--number", min=2, help="Molecules drawn with each seed, or the first rows of --samples.",
                 show_default="30000, or all rows"),
]  # fmt: skip
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Seeds: of sampling, and of real molecules beside it.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The first of the seeds.")]
Split = Annotated[str, typer.Option(metavar="FILE", help="A file of SMILES, or a named split.")]
ReferenceLimit = Annotated[
    int | None,
    typer.Option("--reference-limit", min=2, help="Take this many molecules of each reference, drawn with --seed.",
                 show_default="all"),
]  # fmt: skip
Reconstruct = Annotated[
    int | None,
    typer.Option("--reconstruct", min=0, help="Molecules of --test reconstructed; 0 leaves it out.",
                 show_default="all"),
]  # fmt: skip
Likelihood = Annotated[
    int, typer.Option("--likelihood", min=0, help="Molecules of --test for rate and bound; 0 leaves them out.")
]
Bound = Annotated[int, typer.Option("--bound", min=1, help="K of the importance-weighted bound.")]
Codes = Annotated[
    int, typer.Option("--codes", min=0, help="Training codes that near copies are sought among; 0 leaves them out.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the output directory.")]


def command(
    output: Directory,
    model: Model = None,
    samples: SamplesFile = None,
    number: Number = None,
    seeds: Seeds = 3,
    seed: Seed = 0,
    temperature: OwnTemperature = None,
    rounds: Rounds = None,
    train: Split = "moses:train",
    test: Split = "moses:test",
    test_scaffolds: Split = "moses:test_scaffolds",
    reference_limit: ReferenceLimit = None,
    reconstruct: Reconstruct = None,
    likelihood: Likelihood = 1000,
    bound: Bound = 100,
    codes: Codes = 100_000,
    resume: Resume = False,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Measure a model, or a file of samples, by the MOSES protocol.

    Samples are drawn through the model's prior and none is rejected. Beside each figure stands what as many real
    training molecules get: FCD is too high by about 1209 / n whatever the model, so look at the excess over theirs.
    Statistics of the references are computed once and kept in the user's cache; the run itself goes on with --resume.
    """
    from molvae.benchmark.moses_run import Extent, Run
    from molvae.cli.molecules import locate
    from molvae.errors import ConfigError
    from molvae.files import directory_lock
    from molvae.nn.checkpoint import load_model

    if samples is not None and model is not None:
        raise ConfigError("--samples and --model are two things to measure.", "Give one of them.")
    samples = None if samples is None else locate(samples)
    loaded = load_model(model, device) if samples is None else None
    plan = _plan(loaded, samples, number, list(range(seed, seed + seeds)), temperature, rounds)
    files = {name: Path(locate(source)) for name, source in
             (("train", train), ("Test", test), ("TestSF", test_scaffolds))}  # fmt: skip
    extent = Extent(reconstruct, likelihood, bound, codes, draws=min(10_000, plan.n))
    with ExitStack() as stack:
        say = stack.enter_context(stages())
        yard = _yardstick(files, reference_limit, seed, workers, say)
        stack.enter_context(directory_lock(output))
        run = Run(output, plan, yard, say)
        run.begin(resume)
        summary = _measure(run, loaded, samples, files["Test"], extent)
    write_results(output, summary)


def _plan(
    loaded: LoadedModel | None, samples: str | None, number: int | None, seeds: list[int], temperature: float | None,
    rounds: int | None,
) -> Plan:  # fmt: skip
    """Return what is to be measured, named by checksums.

    Raises:
        InputError: when the file of samples has fewer rows than were asked for.
    """
    from molvae.benchmark.moses_run import Plan
    from molvae.errors import InputError
    from molvae.files import directory_digest, sha256_file
    from molvae.generate.known import read_smiles
    from molvae.generate.writing import resolve_rounds

    if loaded is not None:
        own = float(loaded.facts.get("temperature", 1.0)) if temperature is None else temperature
        turns = resolve_rounds(loaded, rounds)
        digest = directory_digest(loaded.directory)
        subject = {"model": loaded.directory.name, "sha256": digest, "temperature": own, "rounds": turns}
        return Plan(subject, number or USUAL, seeds)
    rows = len(read_smiles(str(samples)))
    if number is not None and number > rows:
        raise InputError(f"{samples} has {rows:,} rows, and {number:,} were asked for.", "Ask for fewer with -n.")
    return Plan({"samples": Path(str(samples)).name, "sha256": sha256_file(Path(str(samples)))}, number or rows, seeds)


def _yardstick(
    files: dict[str, Path], limit: int | None, seed: int, workers: int | None, say: Callable[[str, int, int], None]
) -> Yardstick:
    from molvae.benchmark.moses import Yardstick
    from molvae.benchmark.references import Choice, load_reference
    from molvae.benchmark.references_training import load_training

    training = load_training(files["train"], workers=workers, say=say)
    references = {
        name: load_reference(name, Choice(files[name], limit, seed), workers=workers, say=say)
        for name in ("Test", "TestSF")
    }
    return Yardstick(references, training, workers)


def _measure(run: Run, loaded: LoadedModel | None, samples: str | None, test: Path, extent: Extent) -> dict[str, Any]:
    from molvae.benchmark.moses import measure
    from molvae.generate.known import read_smiles

    if loaded is not None:
        runs = run.measure_model(loaded)
        return run.summary(runs, run.floors(), run.about_model(loaded, test, extent))
    smiles = read_smiles(str(samples))[: run.plan.n]
    runs = {"file": run.part("run_file", lambda: measure(smiles, run.yard, run.say))}
    return run.summary(runs, run.floors(), None)


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar after another: a new one whenever another thing is being done."""
    from molvae.cli.progress import progress_bar

    now: dict[str, Any] = {"what": None, "close": ExitStack(), "update": None}

    def say(what: str, done: int, of: int) -> None:
        if what != now["what"]:
            now["close"].close()
            now["what"], now["close"] = what, ExitStack()
            now["update"] = now["close"].enter_context(progress_bar(what, of))
        now["update"](done)

    try:
        yield say
    finally:
        now["close"].close()


def write_results(output: Path, summary: dict[str, Any]) -> None:
    """Write figures, table and picture, print the table, and name the files."""
    from molvae.benchmark.moses_table import describe_table, records, to_csv
    from molvae.files import write_bytes, write_json, write_text
    from molvae.report.benchmark import moses_png, moses_svg

    rows = records(summary)
    write_json(output / "moses.json", {**summary, "table": rows})
    write_text(output / "moses.csv", to_csv(rows))
    write_text(output / "moses.svg", moses_svg(rows))
    write_bytes(output / "moses.png", moses_png(rows))
    for line in describe_table(summary):
        typer.echo(line)
    for path in [*(output / name for name in FILES), *sorted(output.glob("samples_*.csv"))]:
        typer.echo(f"wrote {path}")
