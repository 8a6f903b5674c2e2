"""Decide what a comparison trains: every row with the same networks, data, seed and number of decoder passes.

In: a `Request` and a dataset. Out: one `RowPlan` for each objective, with its own `Config` and number of steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from molvae import __version__
from molvae.config import Config, PriorConfig, build_config, merge_values
from molvae.data.dataset import Dataset
from molvae.errors import ConfigError, InputError, UnknownNameError
from molvae.files import directory_digest, write_json
from molvae.generate.wanted import PROPERTIES
from molvae.objectives.objective import Objective
from molvae.objectives.presets import PRESETS, find_row

REQUEST_FILE = "request.json"
KINDS: tuple[str, ...] = get_args(PriorConfig.model_fields["kind"].annotation)
OWN = "own"
"""Name of the prior that a row was trained against: N(0, I), or the flow it learned."""
LIMITS = ("epochs", "max_steps", "max_minutes")

SMALL: dict[str, Any] = {
    "model": {"embedding": 32, "encoder_hidden": 160, "decoder_hidden": 416, "decoder_layers": 1, "latent": 64},
    "objective": {"code_noise": 0.0},
    "train": {"batch_size": 128, "validate_size": 1000},
    "prior": {"conditional": False, "layers": 6, "hidden": 128, "max_steps": 2000},
}
"""What differs from the usual settings unless asked for otherwise: about a million weights, and no noise on the codes,
which only some of the rows could have."""


@dataclass(frozen=True)
class Request:
    """What is compared, on what budget, and how much is measured.

    Attributes:
        objectives: names of rows.
        priors: kinds fitted to frozen codes; ``normal`` is N(0, I) for a row that learned another prior.
        fitted: rows whose codes get those priors; empty means all.
        values: nested settings that replace `SMALL`; ``rows.NAME.objective`` holds those of one row only.
        budget: decoder passes of every row: molecules times latents drawn for each.
        number: held-out molecules for likelihood and reconstruction.
        samples: K of the importance-weighted bound.
        generated: molecules drawn from each prior, and real ones they are compared with, at most.
        temperature: of the tokens drawn.
    """

    objectives: tuple[str, ...]
    priors: tuple[str, ...]
    values: dict[str, Any]
    budget: int
    fitted: tuple[str, ...] = ()
    number: int = 1000
    samples: int = 100
    generated: int = 2000
    temperature: float = 1.0

    def check(self) -> None:
        """Refuse what would make every row fail, or the comparison unfair.

        Raises:
            UnknownNameError: for an objective or a prior that does not exist.
            ConfigError: for settings that differ between rows without saying so, and unknown or bad ones.
        """
        for name in (*self.objectives, *self.fitted, *self.values.get("rows", {})):
            find_row(name)
        for kind in self.priors:
            if kind not in KINDS:
                raise UnknownNameError(f"There is no prior {kind!r}.", f"Choose from: {', '.join(KINDS)}.")
        given = {key for key in LIMITS if self.values.get("train", {}).get(key) is not None}
        if given:
            raise ConfigError(
                f"train.{min(given)} would give rows unequal budgets.", "Set the budget with --budget or --epochs."
            )
        if "name" in self.values.get("objective", {}) or "kind" in self.values.get("prior", {}):
            raise ConfigError("objective.name and prior.kind are what is compared.", "Use --objectives and --priors.")
        for name, own in self.values.get("rows", {}).items():
            if set(own) - {"objective"}:
                raise ConfigError(
                    f"rows.{name} sets {', '.join(sorted(set(own) - {'objective'}))}, which all rows share.",
                    f"Give a single row settings of its objective only: rows.{name}.objective.KEY.",
                )
        build_config(self.shared)

    @property
    def shared(self) -> dict[str, Any]:
        """The settings that all rows have in common, nested."""
        return merge_values(SMALL, {key: value for key, value in self.values.items() if key != "rows"})

    @property
    def seed(self) -> int:
        """Of all chance, in training and measuring."""
        return build_config(self.shared).seed


@dataclass(frozen=True)
class RowPlan:
    """One row of the comparison.

    Attributes:
        samples: latents decoded for each molecule, K.
        steps: of training.
        molecules: shown to the row in about so many steps: the budget divided by K.
    """

    name: str
    config: Config
    samples: int
    steps: int
    molecules: int


def plan_row(name: str, request: Request, dataset: Dataset) -> RowPlan:
    """Return what the row ``name`` trains with.

    Only what a row needs it gets: conditions for ``cvae``, labels for ``ss_vae``; the settings, or else the dataset,
    name them. Warm-ups last the same share of every row's steps, so that a row with fewer of them gets there too.

    Raises:
        ConfigError: when a setting is not allowed in this row.
        InputError: when the training split is empty.
    """
    row = find_row(name)
    total = len(dataset.rows("train"))
    if not total:
        raise InputError(f"{dataset.directory} has no molecules to train on.", "Prepare it with a training split.")
    own = {"objective": {"name": name}, "prior": {"kind": "normal"}}
    values = merge_values(merge_values(request.shared, own), request.values.get("rows", {}).get(name, {}))
    model = dict(values["model"])
    usual = [one for one in PROPERTIES if one in dataset.property_names] or dataset.property_names
    model["condition_on"] = (model.get("condition_on") or usual) if "condition_on" in row.needs else []
    model["predict"] = model.get("predict", "all") if "predict" in row.needs else []
    values = {**values, "model": model}
    config = build_config(values)
    samples = Objective(config.objective).samples
    molecules = max(1, request.budget // samples)
    steps = max(1, round(molecules / total * math.ceil(total / config.train.batch_size)))
    limits = {"max_steps": steps, "lr_warmup_steps": min(200, steps // 10), **values["train"]}
    ramp = {"warmup_steps": max(1, steps // 4), **values["objective"]}
    return RowPlan(name, build_config({**values, "train": limits, "objective": ramp}), samples, steps, molecules)


def write_request(directory: Path, request: Request, dataset: Dataset) -> None:
    """Keep what was asked for, so that a resumed comparison stays the same one."""
    source = dataset.directory
    content = {"molvae": __version__, "dataset": str(source), "dataset_digest": directory_digest(source)}
    write_json(directory / REQUEST_FILE, {**content, "request": asdict(request)})


def resumed(directory: Path, dataset: Dataset, given: Mapping[str, Any]) -> Request:
    """Return the request that a comparison in ``directory`` was started with; rows and priors may be added.

    Args:
        given: fields of `Request` that the user gave anew.

    Raises:
        ConfigError: when there is none, or something else than rows and priors changed.
    """
    try:
        content = json.loads((directory / REQUEST_FILE).read_text("utf-8"))
        entry = content["request"]
        lists = {key: tuple(entry[key]) for key in ("objectives", "priors", "fitted")}
        old = Request(**{**entry, **lists})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{directory} holds no comparison to resume.", "Leave --resume out to start one.") from error
    if content["dataset_digest"] != directory_digest(dataset.directory):
        raise ConfigError(
            f"{directory} was started with the dataset {content['dataset']}, and {dataset.directory} differs from it.",
            "Give that dataset, or start another comparison.",
        )
    for key, value in given.items():
        if key in lists:
            continue
        if value != getattr(old, key):
            raise ConfigError(
                f"{directory} was started with {key} = {getattr(old, key)}, and {value} was given now.",
                "Leave it out, or start another comparison: rows would not be comparable.",
            )
    rows, priors = (tuple(dict.fromkeys((*lists[key], *given.get(key, ())))) for key in ("objectives", "priors"))
    return replace(old, objectives=rows, priors=priors, fitted=tuple(given.get("fitted", old.fitted)))


def all_objectives() -> tuple[str, ...]:
    """Return the names of all rows, in the table's order."""
    return tuple(PRESETS)
