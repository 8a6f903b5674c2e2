"""Verb ``molvae fit-prior``: give a trained model another prior.

In: a dataset and a model. Out: a model directory with the same networks and a prior fitted to their codes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molvae.cli.options import Device, Model
from molvae.cli.train import ConfigFile, DatasetDirectory, ModelDirectory, SeedOption, Settings, describe_prior

if TYPE_CHECKING:
    from molvae.config import PriorConfig
    from molvae.data.dataset import Dataset
    from molvae.nn.checkpoint import LoadedModel
    from molvae.train.fit_prior import PriorFit

Kind = Annotated[
    str | None,
    typer.Option("--prior", help="normal, gmm, flow, flow_matching or latent_gan.", show_default="gmm"),
]
HEADING = "## Prior"


def command(
    dataset: DatasetDirectory,
    output: ModelDirectory,
    model: Model = None,
    prior: Kind = None,
    config: ConfigFile = None,
    settings: Settings = None,
    seed: SeedOption = None,
    device: Device = "auto",
) -> None:
    """Fit a prior to the codes that a trained model gives the training split of a dataset.

    The networks stay as they are; only where new latents come from changes. A model with conditions gets p(z|c), in
    which any condition may be missing (flow, flow_matching and latent_gan; --set prior.conditional=false turns it off).
    What is fitted, how large and how long: the settings prior.* (molvae init-config lists them).
    """
    from molvae.config import build_config, read_values
    from molvae.data.dataset import load_dataset
    from molvae.errors import OutputError
    from molvae.nn.checkpoint import load_model
    from molvae.nn.priors import CONDITIONAL
    from molvae.train.fit_prior import fit_prior
    from molvae.train.prior_codes import dataset_for

    overrides = [*(settings or [])]
    overrides += [f'prior.kind="{prior}"'] if prior else []
    overrides += [f"seed={seed}"] if seed is not None else []
    _refuse_others(read_values(None, overrides))
    values = read_values(config, overrides)
    chosen = build_config(values, str(config or "settings"))
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise OutputError(f"{output} exists already.", "Choose another output or remove it first.")
    source = load_model(model, device)
    wants_conditions = chosen.prior.conditional and chosen.prior.kind in CONDITIONAL
    data = dataset_for(source, load_dataset(dataset), conditions=wants_conditions)
    fit = _fit(source, data, chosen.prior, chosen.seed, fit_prior)
    _write(source, fit, output, f"`{dataset.name}`, seed {chosen.seed}")
    typer.echo(describe_prior(fit))
    for path in sorted(output.iterdir()):
        typer.echo(f"wrote {path}")


def _refuse_others(values: dict[str, Any]) -> None:
    """Refuse --set of what changes nothing here; in a file, which may hold every setting, the rest is not looked at."""
    from molvae.errors import ConfigError

    others = sorted(set(values) & {"model", "objective", "train"})
    if others:
        raise ConfigError(
            f"fit-prior leaves the model as it is, and settings of {', '.join(others)} were given.",
            "Give settings of prior and seed only.",
        )


def _fit(source: LoadedModel, data: Dataset, settings: PriorConfig, seed: int, fit_prior: Any) -> PriorFit:
    """Fit the prior and show how far it is."""
    from molvae.cli.progress import progress_bar

    typer.echo(f"encoding up to {min(settings.codes, len(data.rows('train'))):,} molecules", err=True)
    with progress_bar("Fitting", settings.max_steps) as update:

        def report(step: int, steps: int, rate: float) -> None:
            fields: dict[str, float | str] = {"rate": rate} if rate == rate else {}
            update(step, **fields)

        fit: PriorFit = fit_prior(source.model, data, settings, seed, report)
    return fit


def _write(source: LoadedModel, fit: PriorFit, output: Path, origin: str) -> None:
    """Write the model with its new prior; half of a directory is never seen."""
    from molvae.cli.cards import with_section
    from molvae.files import carry_files, new_directory
    from molvae.generate.anomaly import USUAL
    from molvae.generate.predict import CARRIED, FITTED_FILE
    from molvae.nn.checkpoint import save_model

    model = source.model
    # Measured figures, and the nats that scores are compared with, hang on the prior; other facts stay true.
    model.prior = fit.prior
    config = source.config.model_copy(update={"prior": fit.settings})
    kept = {name: value for name, value in source.facts.items() if name not in ("figures", USUAL)}
    facts = {**kept, **fit.facts(), "prior_of": source.directory.name}
    card = source.directory / "README.md"
    text = card.read_text("utf-8") if card.exists() else f"# {output.name}"
    line = f"This model's prior was fitted anew ({fit.settings.kind}; {origin}), and figures above that depend on the "
    line += f"prior are those of `{source.directory.name}`. In nats: {describe_prior(fit)}."
    with new_directory(output) as temporary:
        carry_files(source.directory, temporary, (*CARRIED, FITTED_FILE))
        save_model(temporary, model, source.vocabulary, config, facts, card=with_section(text, HEADING, line))
