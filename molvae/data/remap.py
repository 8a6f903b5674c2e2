"""Read a dataset with the vocabulary and the properties of a model.

In: a `Dataset`, a `Vocabulary`, properties. Out: the same molecules as ids of that vocabulary, with those columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from molvae.data.dataset import Dataset, PropertyInfo
from molvae.data.vocabulary import SPECIALS, Vocabulary
from molvae.errors import InputError


def extend_vocabulary(vocabulary: Vocabulary, other: Vocabulary) -> Vocabulary:
    """Return ``vocabulary`` with the tokens of ``other`` that it lacks put at its end, so that no id changes.

    >>> extend_vocabulary(Vocabulary(["[C]"]), Vocabulary(["[B]", "[C]"])).tokens[4:]
    ('[C]', '[B]')
    """
    extra = vocabulary.missing(other.tokens)
    return Vocabulary([*vocabulary.tokens[len(SPECIALS) :], *extra]) if extra else vocabulary


def with_vocabulary(dataset: Dataset, vocabulary: Vocabulary) -> Dataset:
    """Return ``dataset`` in the ids of ``vocabulary``; its tokens are then held in memory, one or two bytes each.

    Raises:
        InputError: when ``vocabulary`` lacks a token that occurs in the dataset.
    """
    if dataset.vocabulary == vocabulary:
        return dataset
    known = {token: token_id for token_id, token in enumerate(vocabulary.tokens)}
    table = np.array([known.get(token, -1) for token in dataset.vocabulary.tokens], dtype=np.int64)
    occurring = np.flatnonzero(np.bincount(dataset.tokens, minlength=len(table)))
    lacking = [dataset.vocabulary.tokens[place] for place in occurring if table[place] < 0]
    if lacking:
        raise InputError(
            f"{dataset.directory} has tokens the model lacks: {', '.join(lacking)}.",
            "Extend the model by them: molvae finetune.",
        )
    width = np.uint8 if len(vocabulary) <= 256 else np.uint16
    return dataclasses.replace(dataset, vocabulary=vocabulary, tokens=table.astype(width)[dataset.tokens])


def with_properties(dataset: Dataset, properties: Sequence[PropertyInfo]) -> Dataset:
    """Return ``dataset`` with a column of NaN, nothing known, for each of ``properties`` that it lacks.

    The columns it has stay in front and in order. A level that it lacks of a category that it has is 0 wherever the
    category is known: these molecules have another level.
    """
    lacking = [info for info in properties if info.name not in dataset.property_names]
    if not lacking:
        return dataset
    empty = np.full((len(dataset), len(lacking)), np.nan, dtype=np.float32)
    has = {info.category: column for column, info in enumerate(dataset.property_info) if info.category}
    for place, info in enumerate(lacking):
        if info.category in has:
            empty[~np.isnan(dataset.properties[:, has[info.category]]), place] = 0.0
    return dataclasses.replace(
        dataset,
        properties=np.concatenate([dataset.properties, empty], axis=1),
        property_info=(*dataset.property_info, *lacking),
    )
