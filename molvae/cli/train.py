"""Verb ``molvae train``: fit a model to a dataset.

In: a dataset directory and settings. Out: a model directory with its metrics, samples of every epoch and checkpoints.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molvae.cli.options import Device

if TYPE_CHECKING:
    from molvae.cli.progress import Update
    from molvae.data.dataset import Dataset
    from molvae.train.fit_prior import PriorFit
    from molvae.train.loop import Callbacks
    from molvae.train.run import Trained

GRID = 16
EXAMPLES = 200

OBJECTIVES = "Training loss: ae, vae, beta_vae, cvae, iwae, wae, aae, flow_prior or ss_vae."

DatasetDirectory = Annotated[
    Path, typer.Argument(metavar="DATASET", help="Made by molvae prepare.", show_default=False)
]
ModelDirectory = Annotated[Path, typer.Option("-o", "--output", help="Directory of the model.", show_default=False)]
ObjectiveName = Annotated[str | None, typer.Option("--objective", help=OBJECTIVES, show_default="beta_vae")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file of settings.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="One setting, such as train.lr=1e-3; repeatable.", show_default=False
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in the output directory.")]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, max=2**63 - 1, help="Of all chance.", show_default="0")
]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", help="Write OUTPUT/tensorboard too (needs the extra track).")
]
Processes = Annotated[
    str,
    typer.Option("--processes", help="That share every batch on this machine: a number, or auto, one for each GPU."),
]

DEFAULT_EPOCHS = 20


def command(
    dataset: DatasetDirectory,
    output: ModelDirectory,
    objective: ObjectiveName = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
    seed: SeedOption = None,
    device: Device = "auto",
    tensorboard: Tensorboard = False,
    processes: Processes = "1",
) -> None:
    """Train a model on a dataset.

    Ends at the first limit reached of train.epochs, train.max_steps and train.max_minutes (20 epochs when none is set).
    Ctrl-C or a termination signal saves and stops; --resume goes on, and on a CPU ends with the same weights as a run
    that was never stopped. --resume keeps the settings of the run except for those given anew.

    Several processes, one a GPU, share every batch: train.batch_size stays that of all together, the result is the same
    up to rounding, and --resume takes any number of them. On several machines start molvae train by torchrun instead.
    """
    from molvae.config import build_config, merge_values, read_values
    from molvae.data.dataset import load_dataset
    from molvae.train.launch import count_processes, started
    from molvae.train.run import assist, resume_values, train_model

    count = count_processes(processes, device)
    overrides = list(settings or [])
    overrides += [f'objective.name="{objective}"'] if objective else []
    overrides += [f"seed={seed}"] if seed is not None else []
    values = read_values(config, overrides)
    chosen = build_config(merge_values(resume_values(output), values) if resume else values, str(config or "settings"))
    limits = chosen.train
    if limits.epochs is None and limits.max_steps is None and limits.max_minutes is None:
        limits.epochs = DEFAULT_EPOCHS
    data = load_dataset(dataset)
    again = _again(dataset, output, config, overrides, resume=resume, device=device)
    with started(again, count) as share, ExitStack() as stack:
        if not share.first:
            stopped_by = assist(data, chosen, output, share, device=device, resume=resume)
            raise typer.Exit(128 + stopped_by if stopped_by else 0)
        callbacks, on_prior = screen(stack, output, data, tensorboard=tensorboard)
        trained = train_model(
            data, chosen, output, device=device, resume=resume, callbacks=callbacks, on_prior=on_prior, share=share
        )
    report_end(trained, output, data, more="" if processes == "1" else f" --processes {processes}")


def _again(
    dataset: Path, output: Path, config: Path | None, overrides: list[str], *, resume: bool, device: str
) -> list[str]:
    """Return the command line of a process that shares this training."""
    arguments = ["train", str(dataset), "-o", str(output), "--device", device]
    arguments += ["--config", str(config)] if config else []
    arguments += ["--resume"] if resume else []
    return arguments + [word for override in overrides for word in ("--set", override)]


def screen(stack: ExitStack, output: Path, data: Dataset, *, tensorboard: bool = False) -> tuple[Callbacks, Any]:
    """Return callbacks that show a live bar, draw sampled molecules after every epoch, and write for TensorBoard."""
    from molvae.cli.progress import progress_bar
    from molvae.train.log import TensorBoard
    from molvae.train.loop import Callbacks

    shown: dict[str, float | str] = {}
    bars: list[Update] = []
    board = TensorBoard(output / "tensorboard") if tensorboard else None
    if board is not None:
        stack.callback(board.close)

    def update(done: int) -> None:
        if not bars:
            # Made at the first report, when it is known how far a resumed run was: that does not count in the rate.
            bars.append(stack.enter_context(progress_bar("Training", 1000, done, share=True)))
        bars[0](done, **shown)

    def on_metrics(row: dict[str, Any], done: float) -> None:
        if board is not None:
            board.append(row)
        if row["kind"] == "train":
            shown.update(
                loss=row["loss"], distortion=row["distortion"], rate=row["rate"], beta=row["beta"],
                speed=f"{row['molecules_per_s']:,.0f} molecules/s",
            )  # fmt: skip
        else:
            shown.update(exact=f"{row['exact']:.1%}")
        update(min(1000, int(1000 * done)))

    def on_prior(step: int, steps: int, rate: float) -> None:
        shown.clear()
        shown.update(prior_step=f"{step}/{steps}")
        if rate == rate:  # a latent GAN has no rate
            shown.update(prior_rate=rate)
        update(1000)

    def on_epoch(model: Any, epoch: int) -> None:
        _draw_samples(model, data, output, epoch)

    return Callbacks(on_metrics, on_epoch, lambda text: typer.echo(f"note: {text}", err=True)), on_prior


def _draw_samples(model: Any, data: Dataset, output: Path, epoch: int) -> None:
    """Write ``samples/epoch_NNN.json`` and ``.svg``: a grid of molecules from N(0, I), as they are after ``epoch``."""
    import warnings

    from molvae.config import Config
    from molvae.files import write_json, write_text
    from molvae.generate.molecules import sample
    from molvae.generate.wanted import Wanted
    from molvae.nn.checkpoint import LoadedModel
    from molvae.report.structures import grid_svg

    loaded = LoadedModel(model, data.vocabulary, Config(), {"max_tokens": int(data.lengths.max())}, output)
    with warnings.catch_warnings():
        # An untrained model may write few molecules; the grid then shows those.
        warnings.simplefilter("ignore", UserWarning)
        table = sample(loaded, GRID, wanted=Wanted(properties=(), alerts=False), seed=epoch, workers=1)
    smiles = [str(one) for one in table["smiles"]]
    write_json(output / "samples" / f"epoch_{epoch:03d}.json", smiles)
    write_text(output / "samples" / f"epoch_{epoch:03d}.svg", grid_svg(smiles))


def report_end(trained: Trained, output: Path, data: Dataset, verb: str = "train", more: str = "") -> None:
    """Write reconstruction examples, print how training ended and the files; a signal that came ends as one does."""
    found, progress = trained.result.validation, trained.result.progress
    typer.echo(
        f"{progress.step:,} steps, {progress.molecules:,} molecules, {progress.seconds / 60:.1f} min; validation: "
        f"distortion {found.distortion:.2f}, rate {found.rate:.2f} nats, {found.exact:.1%} of {found.n} reconstructed"
    )
    if trained.prior is not None:
        typer.echo(describe_prior(trained.prior))
    if trained.result.stopped_by is not None:
        again = f"molvae {verb} {data.directory}{more} -o {output} --resume"
        typer.echo(f"stopped by a signal; saved. Continue with: {again}")
        raise typer.Exit(128 + trained.result.stopped_by)
    _write_examples(trained, output, data)
    for name in (
        "model.safetensors",
        "prior.safetensors",
        "README.md",
        "metrics.jsonl",
        "reconstruction.csv",
        "samples",
        "tensorboard",
    ):
        if (output / name).exists():
            typer.echo(f"wrote {output / name}")


def describe_prior(fit: PriorFit) -> str:
    """Return how many codes a prior was fitted to and what it pays for one, in a line."""
    rate = f"a code costs {fit.rate:.1f} nats" if fit.rate == fit.rate else "no density; a code costs"
    given = "" if fit.rate_given is None else f" ({fit.rate_given:.1f} when all conditions are known)"
    return f"prior fitted to {fit.codes:,} codes: {rate}{given}, {fit.rate_normal:.1f} under N(0, I)"


def _write_examples(trained: Trained, output: Path, data: Dataset) -> None:
    """Write ``reconstruction.csv``: held-out molecules beside what greedy decoding of their latents gives."""
    from molvae.chem.selfies import decode
    from molvae.files import write_text
    from molvae.generate.reconstruction import reconstruct

    rows = data.rows("valid")[:EXAMPLES]
    if len(rows) == 0:
        rows = data.rows("train")[:EXAMPLES]
    smiles = [decode(data.vocabulary.decode(data.token_ids(int(row)))) for row in rows]
    write_text(output / "reconstruction.csv", reconstruct(trained.loaded, smiles).to_csv(index=False))
