"""Verb ``molvae benchmark guacamol-distribution``: GuacaMol's distribution-learning scores for any training file.

In: a model or samples, and a training file. Out: guacamol_distribution.json, and the scores as lines.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molvae.cli.benchmark_moses import stages
from molvae.cli.options import Device, Model, OwnTemperature, Seed, Workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from molvae.benchmark.guacamol_distribution import Generated
    from molvae.benchmark.references_training import TrainingSet

OUTPUT = Path("guacamol_distribution.json")

Directory = Annotated[
    Path | None, typer.Option("-o", "--output", help="Directory for the results.", show_default="none is written")
]
SamplesFile = Annotated[
    str | None,
    typer.Option("--samples", metavar="FILE", help="Measure these SMILES, blanks included, and no model.",
                 show_default=False),
]  # fmt: skip
Train = Annotated[
    str, typer.Option(metavar="FILE", help="The molecules trained on, or a named split.", show_default=False)
]
Number = Annotated[int, typer.Option("-n", "--number", min=2, help="Molecules, also of the training set.")]


def command(
    train: Train,
    model: Model = None,
    samples: SamplesFile = None,
    number: Number = 10_000,
    output: Directory = None,
    temperature: OwnTemperature = None,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Measure validity, uniqueness, novelty, KL and FCD scores as GuacaMol does.

    KL compares nine descriptors and the similarity to the nearest neighbour with as many training molecules, the FCD
    score is exp(-0.2 FCD). All scores lie between 0 and 1, higher is better; molecules are compared without stereo.
    Beside them stand the scores of other molecules of the training set itself.
    """
    from molvae.benchmark.guacamol_distribution import Generated, measure_distribution
    from molvae.benchmark.references_training import load_training
    from molvae.cli.molecules import locate, read_smiles
    from molvae.errors import ConfigError
    from molvae.files import write_json, write_text
    from molvae.nn.checkpoint import load_model

    if samples is not None and model is not None:
        raise ConfigError("--samples and --model are two things to measure.", "Give one of them.")
    with stages() as say:
        training = load_training(Path(locate(train)), workers=workers, say=say, stereo=False)
        if samples is None:
            loaded = load_model(model, device)
            subject = f"model {loaded.directory.name}"
            generated = _draw(loaded, number, temperature, seed, workers, say)
        else:
            subject, given = f"samples {samples}", read_smiles(samples)
            generated = Generated(given[:number], given)
        found = measure_distribution(generated, training, number, seed, workers, say)
        found["floor"] = _floor(training, number, seed, workers, say)
    found["subject"] = subject
    for line in describe(found):
        typer.echo(line)
    if output is not None:
        write_json(output / OUTPUT, found)
        typer.echo(f"wrote {output / OUTPUT}")
        if samples is None:
            write_text(output / "samples.smi", "".join(f"{one}\n" for one in generated.drawn if one))
            typer.echo(f"wrote {output / 'samples.smi'}")


def _floor(
    training: TrainingSet, n: int, seed: int, workers: int | None, say: Callable[[str, int, int], None]
) -> dict[str, float | None]:
    """Return the scores of ``n`` other molecules of the training set."""
    from molvae.benchmark.guacamol_distribution import Generated, measure_distribution

    real = training.pick(n, seed + 1)
    found = measure_distribution(
        Generated(real, real), training, n, seed, workers, lambda what, done, of: say(f"floor, {what}", done, of)
    )
    scores: dict[str, float | None] = found["scores"]
    return scores


def _draw(
    loaded: Any, n: int, temperature: float | None, seed: int, workers: int | None,
    say: Callable[[str, int, int], None],
) -> Generated:  # fmt: skip
    """Draw ``n`` strings as they come, and go on until ``n`` of them are distinct where they repeat."""
    from dataclasses import replace

    from molvae.benchmark.card import BARE
    from molvae.benchmark.guacamol_distribution import Generated
    from molvae.benchmark.moses_model import draw
    from molvae.generate.molecules import sample
    from molvae.generate.sampling import DEFAULT

    rows = draw(loaded, n, temperature, seed, workers, lambda done, of: say("sampling", done, of))
    drawn = [smiles for smiles, _ in rows]
    if len(set(drawn) - {""}) == n:
        return Generated(drawn, drawn)
    table = sample(loaded, n, replace(DEFAULT, temperature=temperature), replace(BARE, unique=True), seed=seed,
                   workers=workers, progress=lambda done: say("sampling distinct molecules", done, n))  # fmt: skip
    return Generated(drawn, [str(smiles) for smiles in table["smiles"]])


def describe(found: dict[str, Any]) -> list[str]:
    """Return the scores as lines for people."""
    training = found["training"]
    lines = [
        f"GuacaMol distribution learning: {found['subject']}; n = {found['n']:,}, seed {found['seed']}",
        f"  training set: {training['n']:,} molecules of {training['source']} (SHA-256 {training['sha256'][:12]}), "
        f"strings {training['strings']}; {found['reference']:,} of them compared with",
        *(f"  note: {note}" for note in found["notes"]),
        "",
        "score       result  real molecules",
    ]
    for name, score in found["scores"].items():
        cells = ["-" if value is None else f"{value:.4f}" for value in (score, found["floor"][name])]
        lines.append(f"{name:<10}  {cells[0]:<6}  {cells[1]}")
    if found["frechet_distance"] is not None:
        lines.append(f"FCD {found['frechet_distance']:.4f}, fcd = exp(-0.2 FCD)")
    worst = sorted((item for item in found["kl_divergences"].items() if item[1] is not None), key=lambda item: -item[1])
    return [*lines, "KL [nats]: " + ", ".join(f"{name} {value:.4f}" for name, value in worst)] if worst else lines
