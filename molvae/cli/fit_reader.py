"""Verb ``molvae fit-reader``: teach a trained model to read its own drafts, so that ``sample --where`` comes nearer.

In: a dataset and a model with property heads. Out: a model directory with a reader beside the same networks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molvae.cli.options import Device, Model, Seed, Workers
from molvae.cli.train import DatasetDirectory, ModelDirectory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from molvae.data.dataset import Dataset
    from molvae.kept import Kept
    from molvae.nn.checkpoint import LoadedModel
    from molvae.nn.heads import PropertyReader
    from molvae.train.fit_reader import Judged, Lesson

Number = Annotated[int, typer.Option("--drafts", min=100, help="Drafts written for practice, in two halves.")]
Molecules = Annotated[
    int, typer.Option("--molecules", min=100, help="Molecules of the dataset to learn from, at most.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the drafts of a run that was stopped.")]
HELD_OUT = 0.05
HEADING = "## Reader of drafts"


def command(
    dataset: DatasetDirectory,
    output: ModelDirectory,
    model: Model = None,
    drafts: Number = 80_000,
    molecules: Molecules = 150_000,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = None,
    resume: Resume = False,
) -> None:
    """Teach a model to read the drafts that it writes under requests, from all that its encoder knows of them.

    The networks stay as they are. Under random requests the model writes drafts, RDKit says what they are, and a reader
    of the encoder's states learns that beside molecules of the dataset; then it writes the second half of the drafts
    with that reader, and learns from all of them. `sample --where` reads drafts with it from then on. The drafts so far
    are kept beside the output until it is written; --resume goes on with them.
    """
    from molvae.cli.output import going_on
    from molvae.data.dataset import load_dataset
    from molvae.errors import OutputError
    from molvae.files import directory_digest
    from molvae.kept import Kept
    from molvae.nn.checkpoint import load_model
    from molvae.train.prior_codes import dataset_for

    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise OutputError(f"{output} exists already.", "Choose another output or remove it first.")
    source = load_model(model, device)
    data = dataset_for(source, load_dataset(dataset), conditions=False)
    subject = {"model": source.directory, "dataset": data.directory}
    digests = {what: directory_digest(path) or str(path) for what, path in subject.items()}
    kept = Kept(output, {**digests, "drafts": drafts, "molecules": molecules, "seed": seed}, resume)
    with going_on(kept):
        judged = _teach(source, data, (drafts, molecules), seed, workers, kept)
        table = _table(source.model.predict_names, judged)
        typer.echo(table)
        origin = f"{drafts:,} drafts and up to {molecules:,} molecules of `{dataset.name}`, seed {seed}"
        _write(source, output, origin, table)
    for path in sorted(output.iterdir()):
        typer.echo(f"wrote {path}")


def _teach(
    source: LoadedModel, data: Dataset, sizes: tuple[int, int], seed: int, workers: int | None, kept: Kept
) -> list[Judged]:
    """Give the model of ``source`` a reader; return how well it reads what it did not learn from."""
    import numpy as np
    import torch

    from molvae.train.fit_reader import Lesson, calibrate, dataset_lesson, judge

    drafts, molecules = sizes
    model, generator = source.model, torch.Generator().manual_seed(seed)
    picked = np.random.default_rng(seed).permutation(data.rows("train"))[:molecules]
    typer.echo(f"encoding {len(picked):,} molecules", err=True)
    real, real_unseen = dataset_lesson(model, data, np.sort(picked)).split(HELD_OUT, generator)
    model.reader = None
    learned: list[Lesson] = []
    unseen: dict[str, Lesson] = {"molecules": real_unseen}
    # Drafts chosen by the reader's own mistakes are what it has to learn next.
    for half, by in enumerate(("heads", "reader")):
        practice = _practise(source, drafts // 2, seed + 1 + half * 100_000, workers, kept)
        lesson, apart = practice.split(HELD_OUT, generator)
        learned.append(lesson)
        aside, unseen[f"drafts under the {by}"] = apart.split(0.5, generator)
        together = Lesson(torch.cat([one.summary for one in learned]), torch.cat([one.targets for one in learned]))
        model.reader = _fit(source, real, together, seed)
        calibrate(model.reader, aside)
    return [one for what, lesson in unseen.items() for one in judge(model, what, lesson)]


def _practise(source: LoadedModel, n: int, seed: int, workers: int | None, kept: Kept) -> Lesson:
    """Let the model write ``n`` drafts as it reads them now."""
    import torch

    from molvae.cli.progress import progress_bar
    from molvae.generate.latents import summarise_sequences
    from molvae.generate.practice import practise
    from molvae.train.fit_reader import Lesson

    model = source.model
    with progress_bar("Writing drafts", n) as update:
        practice = practise(source, n, seed, workers, update, kept)
    values = torch.from_numpy(practice.values).float().to(model.device)
    _, summary = summarise_sequences(model, practice.token_ids)
    return Lesson(summary.half().cpu(), model.targets(values).cpu())


def _fit(source: LoadedModel, real: Lesson, drafts: Lesson, seed: int) -> PropertyReader:
    from molvae.cli.progress import progress_bar
    from molvae.train.fit_reader import fit_reader, steps_for

    with progress_bar("Learning to read", steps_for(real, drafts)) as update:
        return fit_reader(source.model, real, drafts, seed, update)


def _table(names: Sequence[str], judged: Sequence[Judged]) -> str:
    """Return mean absolute errors, and the share inside the 90 % interval in brackets, as aligned text."""
    lines = [f"{'read':<26} {'by':<7} {'n':>7}" + "".join(f"{name:>20}" for name in names)]
    for one in judged:
        cells = "".join(f"{mad:>13.3g} ({inside:4.0%})" for mad, inside in zip(one.mad, one.inside, strict=True))
        lines.append(f"{one.what:<26} {one.who:<7} {one.n:>7,}{cells}")
    return "\n".join(lines)


def _write(source: LoadedModel, output: Path, origin: str, table: str) -> None:
    """Write the model with its reader; half of a directory is never seen."""
    from molvae.cli.cards import with_section
    from molvae.files import carry_files, new_directory
    from molvae.generate.predict import CARRIED, FITTED_FILE
    from molvae.nn.checkpoint import save_model

    card = source.directory / "README.md"
    text = card.read_text("utf-8") if card.exists() else f"# {output.name}"
    indented = "".join(f"    {line}\n" for line in table.splitlines())
    line = f"Reads drafts under requests; learned from {origin}. Mean absolute errors (share inside 90 % intervals):"
    with new_directory(output) as temporary:
        carry_files(source.directory, temporary, (*CARRIED, FITTED_FILE))
        save_model(
            temporary, source.model, source.vocabulary, source.config, source.facts,
            card=with_section(text, HEADING, f"{line}\n\n{indented}"),
        )  # fmt: skip
