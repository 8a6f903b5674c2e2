"""Train a model from a dataset to a finished model directory.

In: a `Dataset` and a `Config`. Out: the directory with weights, fitted prior, card, ``metrics.jsonl`` and checkpoints.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from molvae import __version__
from molvae.config import Config
from molvae.data.dataset import Dataset
from molvae.errors import ConfigError, OutputError
from molvae.files import directory_lock, write_json
from molvae.nn.checkpoint import LoadedModel, save_model
from molvae.nn.model import SequenceVAE
from molvae.nn.priors import Prior
from molvae.objectives.objective import Objective
from molvae.objectives.parts import check_model
from molvae.train import loop
from molvae.train.fit_prior import MIN_CODES, PriorFit, fit_prior, measure_prior
from molvae.train.loop import Callbacks, FitResult, fit
from molvae.train.memory import keep_memory
from molvae.train.processes import ALONE, Share

RUN_FILE = "run.json"
ENOUGH_CODES = 200
"""Molecules below which a fine-tuned model keeps the prior it had: a new one would only know those few."""

ROUNDS = 5
"""Of reading back what was written. Shipped ``moses`` with noise on its codes, token temperature 0, n = 2,500: FCD 4.6
without, 2.5 after two rounds, 2.2 after five, when nearly every molecule came back as it was."""

RECONSTRUCTS = 0.3
"""Share of exact reconstruction from which rounds are suggested. Small models of `molvae compare`, FCD without and with
five rounds at token temperature 0: 9.6 and 6.1 (exact .39), 17.5 and 12.4 (.56), but 20.6 and 52.0 (exact 0)."""


@dataclass(frozen=True)
class Trained:
    """A finished or stopped run: the model in ``directory``, how training ended, and its prior."""

    loaded: LoadedModel
    result: FitResult
    prior: PriorFit | None


@dataclass(frozen=True)
class Start:
    """A trained model to go on from.

    Attributes:
        model: of the shape that the config and the dataset's vocabulary ask for.
        name: of the model it was made from.
        codes: the molecules to whose codes the prior is fitted, when there are `ENOUGH_CODES`.
        facts: what is known about that model, see `LoadedModel`.
        prior: its fitted prior, kept when there are too few codes for a new one.
    """

    model: SequenceVAE
    name: str
    codes: Dataset
    facts: dict[str, Any]
    prior: Prior


def resume_values(directory: Path) -> dict[str, Any]:
    """Return the settings with which the run in ``directory`` was started.

    Raises:
        ConfigError: when there is no run to resume.
    """
    try:
        values: dict[str, Any] = json.loads((directory / RUN_FILE).read_text("utf-8"))["config"]
        return values
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{directory} holds no run to resume.", "Leave --resume out to start one.") from error


def refuse_used(directory: Path) -> None:
    """Refuse a directory that cannot take a new run.

    Raises:
        OutputError: when it is a file, or holds anything.
    """
    if directory.is_file():
        raise OutputError(f"{directory} is a file.", "Choose another directory.")
    if directory.exists() and any(directory.iterdir()):
        raise OutputError(f"{directory} is not empty.", "Continue it with --resume, or choose another directory.")


def train_model(
    dataset: Dataset, config: Config, directory: Path, *, device: str = "auto", resume: bool = False,
    callbacks: Callbacks | None = None, on_prior: Callable[[int, int, float], None] | None = None,
    start: Start | None = None, share: Share = ALONE,
) -> Trained:  # fmt: skip
    """Build a model, fit it, fit a prior to its codes, and write the model directory.

    A run that a signal stops is saved too, with N(0, I) as its prior, so that it can be used and resumed.

    Args:
        start: a trained model to go on from instead of a new one.
        share: the first of several processes; the others call `assist`.

    Raises:
        OutputError: when ``directory`` holds a run already and ``resume`` is false.
        UnknownNameError: when the objective or a property does not exist.
        ConfigError, InputError, TrainingError, DeviceError: see `fit` and `choose_device`.
    """
    if not resume:
        refuse_used(directory)
    model = _build(dataset, config, device, share, start)
    with directory_lock(directory):
        write_json(directory / RUN_FILE, {"molvae": __version__, "config": config.model_dump(mode="json"),
                                          "dataset": str(dataset.directory),
                                          "started_from": start.name if start else None})  # fmt: skip
        result = fit(model, dataset, config, directory, resume=resume, callbacks=callbacks, share=share)
        return finish(start.codes if start else dataset, config, directory, result, on_prior, start)


def assist(
    dataset: Dataset, config: Config, directory: Path, share: Share, *, device: str = "auto", resume: bool = False
) -> int | None:
    """Take part in a training that the first process leads by `train_model` with the same arguments; write nothing.

    Returns the signal that stopped the training, if one did.
    """
    return loop.assist(_build(dataset, config, device, share), dataset, config, directory, share, resume=resume)


def _build(dataset: Dataset, config: Config, device: str, share: Share, start: Start | None = None) -> SequenceVAE:
    """Return the model to train on its device, the same in every process, and make this process ready for it."""
    objective, target = Objective(config.objective), share.device(device)
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    elif target.type == "cpu" and not share.alone:
        torch.set_num_threads(max(1, torch.get_num_threads() // share.local_count))
    if target.type == "cpu":
        keep_memory()
    torch.manual_seed(config.seed)
    model = start.model if start else SequenceVAE(config.model, len(dataset.vocabulary), dataset.property_info)
    check_model(config.objective, objective.row, model)
    return model.to(target)


def finish(
    dataset: Dataset, config: Config, directory: Path, result: FitResult,
    on_prior: Callable[[int, int, float], None] | None = None, start: Start | None = None,
) -> Trained:  # fmt: skip
    """Fit the prior, unless training was stopped or the data are too few, and write the model directory.

    A prior that the objective learned is kept.

    Args:
        dataset: the molecules to whose codes the prior is fitted.
    """
    prior, least = None, ENOUGH_CODES if start else MIN_CODES
    if Objective(config.objective).row.prior != "normal":
        prior = measure_prior(result.model, dataset, config.prior, config.seed)
    elif result.stopped_by is None and config.prior.kind != "normal" and len(dataset.rows("train")) >= least:
        prior = fit_prior(result.model, dataset, config.prior, config.seed, on_prior)
        # Few codes are easily learned by heart: a prior that explains held-out ones worse than N(0, I) is no use.
        if start and prior.rate > prior.rate_normal:
            prior = None
        else:
            result.model.prior = prior.prior.to(result.model.device)
    facts = model_facts(dataset, config, result, prior)
    if start:
        facts |= {"started_from": start.name, "max_tokens": max(facts["max_tokens"], start.facts.get("max_tokens", 0))}
        if prior is None and start.facts.get("prior"):
            result.model.prior = start.prior.to(result.model.device)
            facts["prior"] = start.facts["prior"]
    save_model(directory, result.model, dataset.vocabulary, config, facts, card=write_card(directory.name, facts))
    loaded = LoadedModel(result.model.eval(), dataset.vocabulary, config, facts, directory)
    return Trained(loaded, result, prior)


def suggested_rounds(exact: float) -> int:
    """Return how often `molvae.generate.molecules.sample` should read back what a model wrote, by what it reconstructs.

    Reading back is for models that know their own molecules again; one that ignores its latent writes the same few.

    >>> suggested_rounds(0.7), suggested_rounds(0.0)
    (5, 0)
    """
    return ROUNDS if exact >= RECONSTRUCTS else 0


def model_facts(dataset: Dataset, config: Config, result: FitResult, prior: PriorFit | None) -> dict[str, Any]:
    """Return what a user of the model should know about its making."""
    progress, found = result.progress, result.validation
    return {
        "max_tokens": int(dataset.lengths.max(initial=0)),
        "trained_on": {"dataset": dataset.directory.name, "molecules": len(dataset.rows("train"))},
        "objective": config.objective.name,
        "seed": config.seed,
        "steps": progress.step,
        "molecules_seen": progress.molecules,
        "minutes": round(progress.seconds / 60, 1),
        "device": str(result.model.device),
        "finished": time.strftime("%Y-%m-%d", time.gmtime()),
        "averaged_weights": result.averaged,
        "rounds": suggested_rounds(found.exact),
        "validation": {name: round(float(value), 4) for name, value in vars(found).items()},
        **(prior.facts() if prior else {"prior": None, "prior_rate": None}),
    }


def write_card(name: str, facts: dict[str, Any]) -> str:
    """Return the Markdown card of a model: what it learned from, how well it does, how to use it."""
    found, prior = facts["validation"], facts["prior_rate"]
    lines = [
        f"# {name}", "",
        f"A molvae model ({facts['objective']}), trained on {facts['trained_on']['molecules']:,} molecules of "
        f"`{facts['trained_on']['dataset']}` for {facts['steps']:,} steps "
        f"({facts['minutes']} min on {facts['device']}, seed {facts['seed']}).", "",
        "| figure | value |", "|---|---|",
        f"| exact reconstruction (greedy, z = mean, n = {found['n']:.0f} held out) | {found['exact']:.1%} |",
        f"| distortion, rate [nats per molecule] | {found['distortion']:.2f}, {found['rate']:.2f} |",
        f"| active latent units | {found['active_units']:.0f} |",
    ]  # fmt: skip
    if prior:
        kind = facts["prior"]["kind"]
        lines.append(
            f"| rate to the fitted prior ({kind}) / to N(0, I) [nats] | "
            f"{'no density' if prior['fitted'] is None else prior['fitted']} / {prior['normal']} |"
        )
    return "\n".join([*lines, "", f"Use it: `molvae sample -n 100 -m {name}`", ""])
