"""Give a trained model more tokens and more conditions, without changing what it does with the old ones.

In: a `SequenceVAE` and its vocabulary; the wanted vocabulary, config and properties. Out: a `SequenceVAE` of the wanted
shape that gives the same posterior, and the same logits for every old token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from molvae.config import ModelConfig
from molvae.data.dataset import PropertyInfo
from molvae.data.vocabulary import Vocabulary
from molvae.errors import ConfigError
from molvae.nn.model import SequenceVAE

UNLIKELY = -8.0
"""Logit of a new token at the start, nats below the mean bias of the old ones: it is learned, not guessed."""

FREE = ("condition_on", "condition_dropout", "predict", "head_hidden", "dropout", "log_std_min")
"""Settings that may differ between the old and the new model; sizes may not."""


def same_scale(properties: Sequence[PropertyInfo], old: Sequence[PropertyInfo]) -> tuple[PropertyInfo, ...]:
    """Return ``properties`` with mean and deviation of the old model where it knows the name: its weights expect them.

    Range and count stay those of ``properties``.
    """
    known = {info.name: info for info in old}
    return tuple(
        dataclasses.replace(info, mean=known[info.name].mean, std=known[info.name].std) if info.name in known else info
        for info in properties
    )


def check_sizes(old: ModelConfig, new: ModelConfig) -> None:
    """Refuse a config of another size than the model has.

    Raises:
        ConfigError: names the first setting that differs and is not in `FREE`.
    """
    for name, value in old.model_dump(exclude=set(FREE)).items():
        if getattr(new, name) != value:
            raise ConfigError(
                f"model.{name} is {value} in the model and cannot become {getattr(new, name)}.",
                "Leave the sizes as they are, or train a new model.",
            )


def extend_model(
    old: SequenceVAE, old_vocabulary: Vocabulary, config: ModelConfig, vocabulary: Vocabulary,
    properties: Sequence[PropertyInfo] = (),
) -> SequenceVAE:  # fmt: skip
    """Return a model of shape ``config`` and ``vocabulary`` that begins where ``old`` stands.

    A new token starts with a small random embedding and an unlikely, constant logit; a new condition starts with zero
    weights; the head of an old property goes on, that of a new one is drawn. The prior is N(0, I).

    Args:
        old: the trained model.
        old_vocabulary: its vocabulary; each of its tokens must be in ``vocabulary``, in any place.
        config: equal to the old one but for the settings in `FREE`.
        properties: statistics of the P properties that batches carry; see `same_scale`.

    Raises:
        ConfigError: when a size differs.
    """
    check_sizes(old.config, config)
    model = SequenceVAE(config, len(vocabulary), same_scale(properties, old.property_info)).to(old.device)
    places = torch.tensor([vocabulary.tokens.index(token) for token in old_vocabulary.tokens], device=old.device)
    weights, before = model.state_dict(), old.state_dict()
    for name in weights.keys() & before.keys():
        if weights[name].shape == before[name].shape and not name.startswith(("heads.", "prior.")):
            weights[name] = before[name].clone()
    _tokens(weights, before, places)
    _conditions(model, weights, old, before)
    if config.head_hidden == old.config.head_hidden:
        _heads(model, weights, old, before)
    model.load_state_dict(weights)
    return model


def _tokens(weights: dict[str, torch.Tensor], before: dict[str, torch.Tensor], places: torch.Tensor) -> None:
    """Put the old tokens' rows at ``places`` (V,) of the embeddings and of the output layer."""
    for name in ("encoder.embedding.weight", "decoder.embedding.weight"):
        rows = 0.3 * torch.randn_like(weights[name])
        rows[places] = before[name]
        weights[name] = rows
    weight = torch.zeros_like(weights["decoder.to_logits.weight"])
    bias = torch.full_like(weights["decoder.to_logits.bias"], float(before["decoder.to_logits.bias"].mean()) + UNLIKELY)
    weight[places], bias[places] = before["decoder.to_logits.weight"], before["decoder.to_logits.bias"]
    weights["decoder.to_logits.weight"], weights["decoder.to_logits.bias"] = weight, bias


def _conditions(
    model: SequenceVAE, weights: dict[str, torch.Tensor], old: SequenceVAE, before: dict[str, torch.Tensor]
) -> None:
    """Copy the columns of latents and old conditions; columns of new conditions start at zero."""
    kept = [name for name in model.condition_names if name in old.condition_names]
    new_count, old_count = len(model.condition_names), len(old.condition_names)
    new_places = [model.condition_names.index(name) for name in kept]
    old_places = [old.condition_names.index(name) for name in kept]
    latent = model.latent
    for name, first in (("decoder.to_hidden.weight", 0), ("decoder.gru.weight_ih_l0", model.config.embedding)):
        fresh = torch.zeros_like(weights[name])
        base = first + latent
        fresh[:, :base] = before[name][:, :base]
        # A condition is a value and, in the second half, a mark that it is known (SequenceVAE.condition).
        for half in range(2):
            target = [base + half * new_count + place for place in new_places]
            fresh[:, target] = before[name][:, [base + half * old_count + place for place in old_places]]
        weights[name] = fresh


def _heads(
    model: SequenceVAE, weights: dict[str, torch.Tensor], old: SequenceVAE, before: dict[str, torch.Tensor]
) -> None:
    """Copy the hidden layer, and of the output layer the rows of properties that both models predict."""
    kept = [name for name in model.predict_names if name in old.predict_names]
    if not kept:
        return
    for name in ("heads.network.0.weight", "heads.network.0.bias"):
        weights[name] = before[name].clone()
    new_count, old_count = len(model.predict_names), len(old.predict_names)
    for name in ("heads.network.2.weight", "heads.network.2.bias"):
        # The first half of the rows are means, the second log standard deviations (PropertyHeads).
        for half in range(2):
            target = [half * new_count + model.predict_names.index(one) for one in kept]
            source = [half * old_count + old.predict_names.index(one) for one in kept]
            weights[name][target] = before[name][source]
