"""Verb ``molvae compare``: train several objectives on equal terms and put them into one table and one figure.

In: a dataset and settings. Out: a directory with a run for each row, compare.csv, .md, .json, .svg and .png.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molvae.cli.options import Device, Workers
from molvae.cli.train import ConfigFile, DatasetDirectory, SeedOption, Settings

if TYPE_CHECKING:
    from molvae.benchmark.compare import Comparison, Listener
    from molvae.benchmark.compare_plan import Request
    from molvae.cli.progress import Update
    from molvae.data.dataset import Dataset

DEFAULT_EPOCHS = 8
DEFAULT_PRIORS = "normal,gmm,flow,flow_matching,latent_gan"
FILES = ("compare.csv", "compare.md", "compare.json", "compare.svg", "compare.png")

Directory = Annotated[Path, typer.Option("-o", "--output", help="Directory of the comparison.", show_default=False)]
Objectives = Annotated[
    str | None,
    typer.Option("--objectives", metavar="A,B,...", help="Rows, with commas between them.", show_default="all nine"),
]
Priors = Annotated[
    str | None,
    typer.Option(
        "--priors",
        metavar="A,B,...",
        help="Priors fitted to the frozen codes of each row, beside its own; none fits none.",
        show_default=DEFAULT_PRIORS,
    ),
]
PriorsFor = Annotated[
    str | None,
    typer.Option("--priors-for", metavar="A,B,...", help="Rows that get those priors.", show_default="all rows"),
]
Budget = Annotated[
    int | None,
    typer.Option("--budget", min=1, help="Decoder passes a row: molecules x latents drawn.", show_default=False),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        "--epochs", min=1, help="The budget as passes over the training split at one latent a molecule.",
        show_default=str(DEFAULT_EPOCHS),
    ),
]  # fmt: skip
Number = Annotated[
    int | None,
    typer.Option("-n", "--number", min=2, help="Held-out molecules for likelihood and reconstruction.",
                 show_default="1000"),
]  # fmt: skip
Samples = Annotated[
    int | None, typer.Option("--samples", min=1, help="K of the importance-weighted bound.", show_default="100")
]
Generated = Annotated[
    int | None,
    typer.Option("--generated", min=2, help="Molecules drawn from each prior, for FCD.", show_default="2000"),
]
Temperature = Annotated[
    float | None,
    typer.Option("--temperature", min=0, max=100, help="Of the tokens drawn; 0 is greedy.", show_default="1"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the comparison in the output directory.")]


def command(
    dataset: DatasetDirectory,
    output: Directory,
    objectives: Objectives = None,
    priors: Priors = None,
    priors_for: PriorsFor = None,
    budget: Budget = None,
    epochs: Epochs = None,
    config: ConfigFile = None,
    settings: Settings = None,
    number: Number = None,
    samples: Samples = None,
    generated: Generated = None,
    temperature: Temperature = None,
    resume: Resume = False,
    seed: SeedOption = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Train several objectives on equal terms and compare them.

    Every row has the same networks, data, seed and number of decoder passes; one that decodes K latents for each
    molecule (iwae) gets 1/K of the molecules. The networks are small unless settings say otherwise;
    rows.NAME.objective.KEY sets something for one row only. Ctrl-C saves and stops; --resume goes on row by row, takes
    further rows and priors, and tries again what failed.
    """
    from molvae.benchmark.compare import Comparison
    from molvae.benchmark.compare_plan import resumed, write_request
    from molvae.data.dataset import load_dataset
    from molvae.errors import OutputError
    from molvae.files import directory_lock

    data = load_dataset(dataset)
    given = _given(
        objectives=_names(objectives), priors=_names(priors), fitted=_names(priors_for), number=number,
        samples=samples, generated=generated, temperature=temperature,
        budget=_budget(budget, epochs, len(data.rows("train"))), values=_values(config, settings, seed),
    )  # fmt: skip
    if not resume and output.exists() and (output.is_file() or any(output.iterdir())):
        raise OutputError(f"{output} is not empty.", "Continue it with --resume, or choose another directory.")
    request = resumed(output, data, given) if resume else _fresh(data, given)
    request.check()
    with directory_lock(output), ExitStack() as stack:
        write_request(output, request, data)
        comparison = Comparison(
            data, request, output, device=device, hardware=_hardware(device), workers=workers,
            listener=_screen(stack, output, len(request.objectives)),
        )  # fmt: skip
        _run(comparison, stack)


def _given(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _names(text: str | None) -> tuple[str, ...] | None:
    """Return the names in ``text``, None when it was not given.

    >>> _names("ae, vae"), _names("none"), _names(None)
    (('ae', 'vae'), (), None)
    """
    if text is None:
        return None
    names = [one.strip() for one in text.split(",")]
    return tuple(dict.fromkeys(name for name in names if name and name != "none"))


def _budget(budget: int | None, epochs: int | None, molecules: int) -> int | None:
    """Return decoder passes, None when nothing was given."""
    from molvae.errors import ConfigError

    if budget is not None and epochs is not None:
        raise ConfigError("--budget and --epochs say the same thing twice.", "Give one of them.")
    return budget if epochs is None else epochs * molecules


def _values(config: Path | None, settings: list[str] | None, seed: int | None) -> dict[str, Any] | None:
    """Return nested settings, None when none were given."""
    from molvae.config import read_values

    if config is None and not settings and seed is None:
        return None
    return read_values(config, [*(settings or []), *([f"seed={seed}"] if seed is not None else [])])


def _fresh(data: Dataset, given: dict[str, Any]) -> Request:
    from molvae.benchmark.compare_plan import Request, all_objectives

    usual: dict[str, Any] = {
        "objectives": all_objectives(), "priors": _names(DEFAULT_PRIORS), "values": {},
        "budget": DEFAULT_EPOCHS * max(1, len(data.rows("train"))),
    }  # fmt: skip
    return Request(**{**usual, **given})


def _hardware(device: str) -> str:
    """Return what computes, in words for the table."""
    import torch

    from molvae.cli.info import _processor_name
    from molvae.nn.device import choose_device

    target = choose_device(device)
    if target.type == "cuda":
        return torch.cuda.get_device_name(target)
    threads = torch.get_num_threads()
    return f"{_processor_name()}, {threads} thread{'s' if threads != 1 else ''}"


def _screen(stack: ExitStack, output: Path, rows: int) -> Listener:
    """Return a listener that shows one bar after another and writes the table and the figure after every result."""
    from molvae.benchmark.compare import Listener
    from molvae.cli.progress import progress_bar

    now: dict[str, Any] = {"label": "", "bar": None, "close": ExitStack()}
    seen: dict[str, None] = {}
    stack.callback(lambda: now["close"].close())

    def stage(row: str, what: str, done: int, total: int, shown: dict[str, float | str]) -> None:
        seen[row] = None
        label = f"{row} ({len(seen)} of {rows}), {what}"
        if label != now["label"]:
            now["close"].close()
            now["label"], now["close"] = label, ExitStack()
            now["bar"] = now["close"].enter_context(progress_bar(label, total, done))
        update: Update = now["bar"]
        update(done, **shown)

    return Listener(
        stage, lambda summary: write_results(output, summary), lambda text: typer.echo(f"note: {text}", err=True)
    )


def write_results(output: Path, summary: dict[str, Any]) -> None:
    """Write the table, the figure and everything behind them, each in one step."""
    from molvae.benchmark.compare_table import records, to_csv, to_markdown
    from molvae.files import write_bytes, write_json, write_text
    from molvae.report.comparison import comparison_png, comparison_svg

    rows = records(summary)
    write_json(output / "compare.json", summary)
    write_text(output / "compare.csv", to_csv(rows))
    write_text(output / "compare.md", to_markdown(summary))
    write_text(output / "compare.svg", comparison_svg(rows))
    write_bytes(output / "compare.png", comparison_png(rows))


def _run(comparison: Comparison, screen: ExitStack) -> None:
    """Run to the end or to a signal, say what there is, what failed and what is missing, and exit accordingly."""
    from molvae.benchmark.compare_table import to_markdown

    try:
        signal = comparison.run()
    except (KeyboardInterrupt, SystemExit):
        screen.close()
        _say_missing(comparison)
        raise
    screen.close()
    write_results(comparison.directory, comparison.summary())
    typer.echo(to_markdown(comparison.summary()))
    for name in FILES:
        typer.echo(f"wrote {comparison.directory / name}")
    if signal is not None:
        _say_missing(comparison)
        raise typer.Exit(128 + signal)
    _raise_failures(comparison)


def _say_missing(comparison: Comparison) -> None:
    missing = comparison.missing()
    done = len(comparison.items()) - len(missing)
    typer.echo(f"stopped; {done} of {len(comparison.items())} results are there; missing: {', '.join(missing)}")
    typer.echo(f"Continue with: molvae compare {comparison.dataset.directory} -o {comparison.directory} --resume")


def _raise_failures(comparison: Comparison) -> None:
    """Fail when a row did, after everything else is done.

    Raises:
        TrainingError: names what failed, how much of it, and the first reason.
    """
    from molvae.errors import TrainingError

    if comparison.failures:
        first = next(iter(comparison.failures.values()))
        raise TrainingError(
            f"{len(comparison.failures)} of {len(comparison.items())} failed, the others are done "
            f"({', '.join(comparison.failures)}): {first.problem}",
            f"{first.remedy} Then run it again with --resume.",
        )
