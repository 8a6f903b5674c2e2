"""Verb ``molvae evaluate``: measure a model on held-out molecules.

In: a dataset or a file of SMILES, and a model. Out: figures for people, or JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from molvae.cli.options import Device, Model, Output, Rounds, Seed, Workers
from molvae.cli.requests import BestOf, Guidance, WhereDecoder, WherePrior, WhereReader

Source = Annotated[
    str,
    typer.Argument(metavar="DATASET", help="Dataset directory, or a file of SMILES.", show_default=False),
]
Split = Annotated[
    str | None,
    typer.Option("--split", help="train, valid or test; left out, test, or valid if empty.", show_default=False),
]
Number = Annotated[int, typer.Option("-n", "--number", min=1, help="Molecules measured, drawn at random.")]
Samples = Annotated[int, typer.Option("--samples", min=1, help="K of the importance-weighted bound.")]
Encodings = Annotated[int, typer.Option("--encodings", min=1, help="Draws of z a molecule, sampled protocol.")]
Decodings = Annotated[int, typer.Option("--decodings", min=1, help="Molecules written from each draw.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]
Conditioning = Annotated[
    bool, typer.Option("--conditioning", help="Ask for property values instead, and measure what comes.")
]
TestValues = Annotated[
    int, typer.Option("--test-values", min=0, help="Test molecules whose values are asked for (--conditioning).")
]
Picture = Annotated[
    Path | None,
    typer.Option("--picture", help="Calibration plot, .png or .svg (--conditioning).", show_default=False),
]

Reference = Annotated[
    str | None,
    typer.Option(
        "--language-model", metavar="MODEL|NATS", show_default=False,
        help="Model that ignores its codes (objective vae), or the nats a molecule costs it: print the excess over it.",
    ),
]  # fmt: skip

PRIOR_NAMES = {"model": "the model's prior", "normal": "N(0, I)"}


Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with a --conditioning that was stopped, with the same -o.")
]


def command(
    source: Source,
    model: Model = None,
    split: Split = None,
    number: Number = 1000,
    samples: Samples = 100,
    encodings: Encodings = 3,
    decodings: Decodings = 3,
    output: Output = None,
    as_json: Json = False,
    seed: Seed = 0,
    device: Device = "auto",
    workers: Workers = None,
    conditioning: Conditioning = False,
    test_values: TestValues = 10_000,
    picture: Picture = None,
    best_of: BestOf = 1,
    guidance: Guidance = 0.0,
    rounds: Rounds = None,
    where_prior: WherePrior = "auto",
    where_decoder: WhereDecoder = True,
    where_reader: WhereReader = "model",
    language_model: Reference = None,
    resume: Resume = False,
) -> None:
    """Measure a model: ELBO and importance-weighted bound, rate and distortion, reconstruction, codes.

    Everything is in nats per molecule unless it says otherwise, and negative log likelihoods: lower is better. -o
    writes the figures as .json. Molecules with tokens that the model lacks are counted and left out.
    --language-model prints how many nats -ELBO and bound lie above what a model needs whose codes say nothing.

    --conditioning asks for values of single properties and of three together, -n molecules each, and for the values of
    test molecules, and prints the mean absolute error by RDKit beside that of molecules drawn without asking. What is
    measured so far is kept beside the file of -o until that is written; --resume goes on with it.
    """
    from molvae.benchmark.evaluation import Settings
    from molvae.cli.conditioning import Conditions, describe_conditioning, write_picture
    from molvae.cli.output import Destination, going_on
    from molvae.generate.asking import Asking
    from molvae.nn.checkpoint import load_model

    destination = Destination(output, (".json",))
    drawing = Destination(picture, (".png", ".svg")).path
    _check(conditioning, drawing, language_model, resume)
    asking = Asking(cast(Any, where_prior), where_decoder, guidance, rounds, best_of, cast(Any, where_reader))
    loaded = load_model(model, device)
    if conditioning:
        how = Conditions(source, split, number, test_values, asking, seed)
        kept = how.keep(destination.path, resume, loaded)
        with going_on(kept):
            asked = how.measure(loaded, workers, kept)
            _tell(destination, asked, describe_conditioning(asked), as_json)
        if drawing is not None:
            write_picture(drawing, asked)
        return
    settings = Settings(samples, encodings, decodings, seed)
    found = _measure(loaded, source, split, number, settings, workers, language_model, device)
    _tell(destination, found, describe(found), as_json)
    for warning in [] if as_json else found["warnings"]:
        typer.echo(f"warning: {warning}", err=True)


def _check(conditioning: bool, drawing: Path | None, language_model: str | None, resume: bool) -> None:
    """Refuse options that do not go together."""
    from molvae.errors import ConfigError

    if conditioning and language_model is not None:
        raise ConfigError("--language-model belongs to the likelihood, which --conditioning leaves out.", "Drop one.")
    for given, option, does in ((drawing, "--picture", "draws"), (resume, "--resume", "goes on with")):
        if given and not conditioning:
            raise ConfigError(f"{option} {does} what --conditioning measures.", f"Add --conditioning or drop {option}.")


def _measure(
    loaded: Any, source: str, split: str | None, number: int, settings: Any, workers: int | None,
    language_model: str | None, device: str,
) -> Any:  # fmt: skip
    from molvae.benchmark.evaluation import evaluate_model
    from molvae.benchmark.held_out import held_out
    from molvae.cli.progress import progress_bar

    molecules = held_out(loaded, source, split, number, settings.seed, workers)
    over = None if language_model is None else _language_model(language_model, device, loaded, molecules, settings)
    with progress_bar("Likelihood", len(molecules)) as update:
        return evaluate_model(loaded, molecules, settings, workers, update, over)


def _language_model(given: str, device: str, loaded: Any, molecules: Any, settings: Any) -> Any:
    """Return what ``molecules`` cost the language model ``given``, a number of nats or a model."""
    import math

    import torch

    from molvae.benchmark.evaluation import as_language_model
    from molvae.benchmark.excess import LanguageModel, same_molecules
    from molvae.cli.progress import progress_bar
    from molvae.errors import ConfigError
    from molvae.nn.checkpoint import load_model

    try:
        nats = float(given)
    except ValueError:
        other = load_model(given, device)
        same = same_molecules(molecules, loaded, other)
        with progress_bar("Language model", len(molecules)) as update:
            return as_language_model(other, given, same, settings, update)
    if not (math.isfinite(nats) and nats > 0):
        raise ConfigError(f"--language-model {given} is no number of nats.", "Give one above 0, or a model.")
    return LanguageModel("as given", torch.tensor([nats], dtype=torch.float64))


def _tell(destination: Any, found: dict[str, Any], lines: list[str], as_json: bool) -> None:
    """Write the figures and print them, as lines for people or as JSON."""
    import json

    from molvae.files import write_json

    if destination.path is not None:
        write_json(destination.path, found)
    for line in [json.dumps(found, indent=2, allow_nan=False)] if as_json else lines:
        typer.echo(line)
    if destination.path is not None and not as_json:
        typer.echo(f"wrote {destination.path}")


def describe(found: dict[str, Any]) -> list[str]:
    """Return the figures of `molvae.benchmark.evaluation.evaluate_model` as lines for people."""
    data, settings = found["data"], found["data"]["settings"]
    left = ", ".join(f"{count:,} {reason}" for reason, count in data["left_out"].items()) or "none"
    lines = [
        f"{data['source']}: {data['n']:,} of {data['asked']:,} molecules measured (left out: {left}), "
        f"{data['tokens_per_molecule']:.1f} tokens each, seed {settings['seed']}",
        *_likelihood_lines(found["likelihood"]),
        *_excess_lines(found.get("excess")),
        "reconstruction",
    ]
    times = f"{settings['encodings']} encodings x {settings['decodings']} decodings, drawn"
    for name, said in (("greedy", "mean of q(z|x), likeliest tokens"), ("sampled", times)):
        part = found["reconstruction"][name]
        lines.append(
            f"  {said}: exact {part['exact']:.2%}, same molecule {part['same_molecule']:.2%}, "
            f"tokens {part['token_accuracy']:.2%}"
        )
    return [*lines, *_code_lines(found["codes"])]


def _likelihood_lines(section: dict[str, Any] | None) -> list[str]:
    if section is None:
        return ["likelihood: none, the codes have no noise"]
    said = _said
    lines = ["likelihood [nats per molecule]", f"  distortion {said(section['distortion'])}",
             f"  rate (KL from q(z|x) to N(0, I)) {said(section['rate'])}"]  # fmt: skip
    for name, prior in sorted(section["priors"].items()):
        bounds = ", ".join(f"K={k} {said(figure)}" for k, figure in prior["negative_bound"].items())
        lines += [
            f"  under {PRIOR_NAMES[name]}: rate {prior['rate']['mean']:.2f}, -ELBO {said(prior['negative_elbo'])}",
            f"    importance-weighted: {bounds}",
            f"    = {prior['bits_per_molecule']:.2f} bits per molecule, {prior['nats_per_token']:.4f} nats and "
            f"{prior['bits_per_token']:.4f} bits per token",
        ]
    return lines


def _said(figure: dict[str, float]) -> str:
    return f"{figure['mean']:.2f} +- {figure['standard_error']:.2f}"


def _excess_lines(section: dict[str, Any] | None) -> list[str]:
    """Return the lines on the excess over a language model; none when it was not asked for, or there is none."""
    if section is None:
        return []
    nats = f"{section['nats']['mean']:g}"
    if section["rate"] is not None:
        nats = f"{_said(section['nats'])} (K={section['samples']}, rate {section['rate']:.2f})"
    lines = [f"excess over a language model ({section['language_model']}): it needs {nats}"]
    for name, prior in sorted(section["priors"].items()):
        bounds = ", ".join(f"K={k} {_said(figure)}" for k, figure in prior["negative_bound"].items())
        lines.append(
            f"  under {PRIOR_NAMES[name]}: -ELBO {_said(prior['negative_elbo'])}, importance-weighted {bounds}"
        )
    return lines


def _code_lines(codes: dict[str, Any]) -> list[str]:
    lines = [f"codes\n  active units {codes['active_units']} of {codes['latent']}"]
    if "mutual_information_at_least" in codes:
        lines += [
            f"  mutual information of molecule and code between {codes['mutual_information_at_least']:.2f} "
            f"(an estimate that cannot exceed ln n = {codes['mutual_information_ceiling']:.2f}) and "
            f"{codes['mutual_information_at_most']:.2f} nats",
            f"  KL from the aggregate posterior to N(0, I) between {codes['kl_to_normal_at_least']:.2f} and "
            f"{codes['kl_to_normal_at_most']:.2f} nats",
        ]
    moments, away = codes["moments"], codes["mean_discrepancy"]
    kl = codes["moment_kl_to_normal"]
    lines.append(
        f"  largest |mean| {moments['mean_largest']:.3f}, standard deviations {moments['std_lowest']:.3f} to "
        f"{moments['std_highest']:.3f}" + ("" if kl is None else f", KL of these moments to N(0, I) {kl:.2f} nats")
    )
    if away["floor"] is not None:
        lines.append(
            f"  squared mean discrepancy from N(0, I) {away['normal']:.5f}, from the model's prior "
            f"{away['model']:.5f}, of N(0, I) from itself {away['floor']:.5f}"
        )
    return lines
