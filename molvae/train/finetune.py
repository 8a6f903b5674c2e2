"""Teach a trained model new molecules without letting it forget the old ones.

In: a `LoadedModel`, a `Dataset`, old molecules to rehearse. Out: a model directory, and what changed.

Old molecules are trained on in the same batches: a network trained on new ones alone forgets the rest within minutes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from molvae.config import Config, merge_values
from molvae.data.dataset import SPLITS, Dataset
from molvae.data.remap import extend_vocabulary, with_properties, with_vocabulary
from molvae.data.vocabulary import Vocabulary
from molvae.nn.checkpoint import LoadedModel
from molvae.nn.extend import extend_model
from molvae.objectives.objective import Objective
from molvae.train.run import Start

GENTLE = {"lr": 3e-4, "lr_warmup_steps": 100, "average": 0.99, "validate_every": 100, "max_steps": 600}
"""Settings of `TrainConfig` that a fine-tuning run starts from; a full run's rate would erase what is there."""


def finetune_values(source: LoadedModel, values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a fine-tuning run: the model's own, a gentle training, then what ``values`` gives anew.

    The objective goes on at the weight at which the model's own training ended. Limits (epochs, max_steps,
    max_minutes) of ``values`` replace the 600 steps.
    """
    own = source.config.model_dump(mode="json")
    end = Objective(source.config.objective).schedule.weight(max(1, int(source.facts.get("steps", 1))))
    base = merge_values(own, {"objective": {"beta": end, "schedule": "constant"}})
    train = {key: None if key in ("epochs", "max_minutes") else value for key, value in own["train"].items()}
    base["train"] = {**train, **GENTLE}
    if {"epochs", "max_minutes"} & values.get("train", {}).keys():
        base["train"]["max_steps"] = None
    base["prior"]["kind"] = "gmm"  # finds by itself how much a few hundred codes can support
    return merge_values(base, values)


def new_tokens(source: LoadedModel, dataset: Dataset) -> list[str]:
    """Return the tokens of ``dataset`` that the model does not have yet."""
    return source.vocabulary.missing(dataset.vocabulary.tokens)


def mix(dataset: Dataset, old: Sequence[Sequence[int]]) -> Dataset:
    """Return ``dataset`` with ``old`` molecules added to its training split, new ones repeated up to their number.

    Args:
        dataset: new molecules.
        old: token ids in the dataset's vocabulary, without BOS and EOS; their properties count as missing.
    """
    if not old:
        return dataset
    train = dataset.rows("train")
    repeats = max(1, math.ceil(len(old) / max(1, len(train))))
    lengths = dataset.lengths
    width = dataset.tokens.dtype
    pieces = [np.asarray(dataset.tokens), *[dataset.token_ids(int(row)) for row in train] * (repeats - 1)]
    pieces += [np.array(molecule, dtype=width) for molecule in old]
    counts = np.concatenate([lengths, np.tile(lengths[train], repeats - 1), [len(molecule) for molecule in old]])
    again = np.tile(dataset.properties[train], (repeats - 1, 1))
    unknown = np.full((len(old), dataset.properties.shape[1]), np.nan, dtype=np.float32)
    return dataclasses.replace(
        dataset,
        tokens=np.concatenate(pieces),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        split=np.concatenate([dataset.split, np.full(len(counts) - len(lengths), SPLITS["train"], dtype=np.uint8)]),
        properties=np.concatenate([dataset.properties, again, unknown]).astype(np.float32),
    )


def prepare_finetune(
    source: LoadedModel, dataset: Dataset, config: Config, old: Sequence[Sequence[int]] = ()
) -> tuple[Dataset, Start]:
    """Return the dataset to train on and the model to start from, as `train_model` takes them.

    Args:
        source: the model to go on from; it is left as it is.
        dataset: the new molecules, in their own vocabulary.
        config: see `finetune_values`.
        old: molecules to rehearse, token ids of the model's vocabulary.

    Raises:
        ConfigError: when the config changes a size of the model.
        UnknownNameError: when it names a property the dataset lacks.
    """
    vocabulary: Vocabulary = extend_vocabulary(source.vocabulary, dataset.vocabulary)
    new = with_properties(with_vocabulary(dataset, vocabulary), source.model.property_info)
    model = extend_model(source.model, source.vocabulary, config.model, vocabulary, new.property_info)
    start = Start(model, source.directory.name, new, source.facts, source.model.prior)
    return mix(new, old), start
