"""One typed, validated configuration for everything that can be set.

In: TOML text, dotted overrides such as ``train.lr=1e-3``. Out: a resolved `Config`; an unknown key is an error.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from molvae.errors import ConfigError


class Section(BaseModel):
    """A group of settings; unknown keys are refused and values are checked again when they change."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=())


class ModelConfig(Section):
    """Sizes of the network. E embedding, H hidden, D latent (shape letters of the whole package)."""

    embedding: int = Field(48, ge=1, le=4096, description="E, width of a token's embedding")
    encoder_hidden: int = Field(256, ge=1, le=8192, description="H of each encoder direction")
    encoder_layers: int = Field(1, ge=1, le=8, description="GRU layers of each encoder direction")
    decoder_hidden: int = Field(512, ge=1, le=8192, description="H of the decoder")
    decoder_layers: int = Field(2, ge=1, le=8, description="GRU layers of the decoder")
    latent: int = Field(64, ge=1, le=4096, description="D, latent dimensions")
    dropout: float = Field(0.0, ge=0, lt=1, description="between GRU layers")
    log_std_min: float = Field(-4.0, ge=-10, le=0, description="noise floor of the posterior, natural log")
    head_hidden: int = Field(128, ge=1, le=4096, description="width of the property heads")
    condition_on: list[str] = Field(default_factory=list, description="properties given to the decoder")
    condition_dropout: float = Field(
        0.5, ge=0, lt=1, description="share of training molecules shown without properties, and of properties hidden"
    )
    predict: list[str] | Literal["all"] = Field("all", description="properties predicted from z by the heads")


class ObjectiveConfig(Section):
    """The training loss; ``name`` picks a row of `molvae.objectives.presets`, the rest overrides that row."""

    name: str = Field(
        "beta_vae", description="the objective: ae, vae, beta_vae, cvae, iwae, wae, aae, flow_prior or ss_vae"
    )
    beta: float | None = Field(
        None, ge=0, description="weight of the divergence, 1 is the ELBO; unset takes the objective's own"
    )
    schedule: Literal["constant", "warmup", "cyclical", "rate"] | None = Field(
        None, description="how beta moves; unset takes the objective's own"
    )
    beta_start: float = Field(0.0, ge=0, description="beta at step 0 under warm-up")
    warmup_steps: int = Field(1000, ge=1, description="steps of the warm-up, or of one cycle")
    target_rate: float = Field(40.0, gt=0, description="nats per molecule that the rate controller holds")
    free_bits: float = Field(0.0, ge=0, description="nats per latent dimension that cost nothing")
    token_dropout: float = Field(0.0, ge=0, lt=1, description="share of the decoder's input tokens replaced by UNK")
    code_noise: float | None = Field(
        None, ge=0, lt=1,
        description="share of latents moved part of the way to N(0, I) before they are decoded; "
        "unset takes the objective's own",
    )  # fmt: skip
    head_weight: float | None = Field(
        None, ge=0, description="gamma, weight of the property heads; unset takes the objective's own"
    )
    samples: int | None = Field(
        None, ge=1, le=10_000, description="K, latents drawn for each molecule; unset takes the objective's own"
    )
    samples_at_once: int = Field(
        8, ge=1, description="of the K, how many are decoded at once; the rest wait and are decoded twice"
    )
    match_weight: float | None = Field(
        None, ge=0, description="lambda, pull of all codes together towards the prior (wae, aae); unset takes their own"
    )
    critic_hidden: int = Field(256, ge=1, le=8192, description="width of the critic (aae)")
    critic_lr: float = Field(1e-3, gt=0, le=1, description="learning rate of the critic (aae)")


class TrainConfig(Section):
    """How long and how fast to train. Training ends at the first limit reached."""

    batch_size: int = Field(256, ge=1, le=1_000_000, description="molecules a step")
    lr: float = Field(1e-3, gt=0, le=1, description="highest learning rate")
    lr_final: float = Field(0.02, gt=0, le=1, description="share of lr left at the end of the cosine")
    lr_warmup_steps: int = Field(200, ge=0, description="steps in which the learning rate rises to lr")
    weight_decay: float = Field(0.0, ge=0, description="pull of the weights towards 0 (AdamW)")
    clip_norm: float = Field(10.0, gt=0, description="largest gradient norm")
    average: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights, 0 turns averaging off")
    epochs: int | None = Field(None, ge=1, description="passes over the training split, a limit")
    max_steps: int | None = Field(None, ge=1, description="steps, a limit")
    max_minutes: float | None = Field(None, gt=0, description="wall clock, a limit, kept across resumes")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto takes bf16 where it is faster")
    threads: int | None = Field(None, ge=1, description="CPU threads for torch; unset leaves torch's choice")
    checkpoint_every: int = Field(500, ge=1, description="steps between checkpoints")
    validate_every: int = Field(1000, ge=1, description="steps between validations")
    validate_size: int = Field(2000, ge=0, description="molecules of the validation split used each time")


class PriorConfig(Section):
    """The prior fitted to frozen codes by `molvae.train.fit_prior`, or learned jointly; normal keeps N(0, I)."""

    kind: Literal["normal", "gmm", "flow", "flow_matching", "latent_gan"] = Field(
        "gmm", description="N(0, I), Gaussian mixture, normalizing flow, flow matching, or a GAN on codes"
    )
    conditional: bool = Field(
        True, description="learn p(z|c) where the model has conditions c (flow, flow_matching, latent_gan)"
    )
    condition_dropout: float = Field(
        0.5, ge=0, lt=1, description="share of codes shown without conditions, and of conditions hidden"
    )
    components: int = Field(8, ge=1, le=10_000, description="of the Gaussian mixture, at most")
    codes: int = Field(20_000, ge=1, description="training molecules whose codes are used")
    layers: int = Field(8, ge=1, le=64, description="coupling layers of the flow")
    blocks: int = Field(3, ge=1, le=64, description="residual blocks of flow matching and of the GAN")
    hidden: int = Field(256, ge=1, le=8192, description="width of the networks")
    max_steps: int = Field(3000, ge=1, description="steps of training, at most")
    batch_size: int = Field(1024, ge=1, description="codes a step")
    lr: float | None = Field(None, gt=0, le=1, description="highest learning rate; unset takes what suits the kind")
    ode_steps: int = Field(10, ge=1, le=1000, description="Runge-Kutta steps between noise and code (flow_matching)")
    critic_steps: int = Field(3, ge=1, le=100, description="steps of the critic for one of the generator (latent_gan)")


class Config(Section):
    """Everything that decides a training run; saved resolved beside the model."""

    seed: int = Field(0, ge=0, lt=2**63, description="of all chance")
    model: ModelConfig = Field(default_factory=ModelConfig)
    objective: ObjectiveConfig = Field(default_factory=ObjectiveConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    prior: PriorConfig = Field(default_factory=PriorConfig)


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += _keys(kind, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def _explain(error: ValidationError, source: str) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, _keys(Config), n=1, cutoff=0.4)
        hint = f"Did you mean {close[0]}?" if close else f"Known keys: {', '.join(_keys(Config))}."
        return ConfigError(f"{source}: unknown setting {key}.", hint)
    return ConfigError(f"{source}: {key} = {first['input']!r} is not allowed: {first['msg']}.", "Correct that value.")


def build_config(values: dict[str, Any], source: str = "settings") -> Config:
    """Validate nested ``values`` into a `Config`.

    Raises:
        ConfigError: on the first key that is unknown or has a value out of range, naming both.

    >>> build_config({"train": {"lr": 0.01}}).train.lr
    0.01
    >>> build_config({"train": {"epoch": 3}})
    Traceback (most recent call last):
    ...
    molvae.errors.ConfigError: settings: unknown setting train.epoch.
    Did you mean train.epochs?
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise _explain(error, source) from error


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def read_values(path: Path | None = None, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Return the settings that a TOML file and ``section.key=value`` overrides give, nested, not yet validated.

    Args:
        path: a TOML file, or None.
        overrides: strings such as ``train.lr=1e-3``; values are TOML, anything else is taken as text.

    Raises:
        ConfigError: when the file is missing or malformed, or an override has no ``=``.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise ConfigError(f"Cannot read the config {path}: {error.strerror}.", "Check the path.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is not valid TOML: {error}.", "Correct that line.") from error
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ConfigError(f"--set {override} has no '='.", "Write it as section.key=value, e.g. train.lr=1e-3.")
        *sections, last = key.strip().split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                known = ", ".join(_keys(Config))
                raise ConfigError(f"--set {override}: {section} is no section.", f"Known keys: {known}.")
        place[last] = _parse_value(text.strip())
    return values


def merge_values(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return ``old`` with every setting that ``new`` gives replaced; both nested.

    >>> merge_values({"seed": 1, "train": {"lr": 1, "epochs": 2}}, {"train": {"lr": 3}})
    {'seed': 1, 'train': {'lr': 3, 'epochs': 2}}
    """
    merged = dict(old)
    for key, value in new.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge_values(merged[key], value) if both else value
    return merged


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Read a TOML file, apply overrides (see `read_values`) and validate.

    Raises:
        ConfigError: when the file is missing or malformed, or a key or value is not allowed.

    >>> load_config(overrides=["objective.name=vae", "seed=7"]).objective.name
    'vae'
    """
    return build_config(read_values(path, overrides), str(path) if path else "settings")


def config_to_json(config: Config) -> str:
    """Return the resolved config as JSON text, every default spelled out."""
    return json.dumps(config.model_dump(mode="json"), indent=2) + "\n"
