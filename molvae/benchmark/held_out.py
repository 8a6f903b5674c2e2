"""Gather the molecules on which a model is measured, in its own token ids, and count those it cannot read.

In: a dataset directory or a file of SMILES. Out: `HeldOut`, token ids, properties and what was left out, and why.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molvae.chem.parallel import map_items
from molvae.data.dataset import Dataset, PropertyInfo, load_dataset
from molvae.data.remap import with_vocabulary
from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError
from molvae.generate.chemistry import Read, Readable
from molvae.generate.known import read_smiles
from molvae.nn.checkpoint import LoadedModel


@dataclass(frozen=True)
class HeldOut:
    """N molecules that the model can read.

    Attributes:
        source: what they are, for people.
        token_ids: N rows in the model's vocabulary, without BOS and EOS.
        properties: (N, P) float32 in the order of the model's properties, NaN where unknown.
        left_out: how many molecules asked for the model cannot read, by reason.
        asked: molecules asked for: N and those left out.
    """

    source: str
    token_ids: list[NDArray[np.integer[Any]]]
    properties: NDArray[np.float32]
    left_out: dict[str, int]
    asked: int

    def __len__(self) -> int:
        return len(self.token_ids)


def held_out(loaded: LoadedModel, source: str, split: str | None, n: int, seed: int, workers: int | None) -> HeldOut:
    """Pick at random ``n`` molecules of ``source``.

    Args:
        loaded: the model.
        source: a dataset directory, or a file of SMILES.
        split: of a dataset: train, valid or test; None takes test, or valid where test is empty.
        n: molecules picked, at most.
        seed: of the choice.
        workers: processes for chemistry; None means every core.

    Raises:
        InputError: when there is nothing to measure, or a file is given a split.
    """
    if Path(source).is_dir():
        found = _of_dataset(loaded, load_dataset(source), split, n, seed)
    elif split is not None:
        raise InputError(f"{source} is a file, which has no split {split}.", "Leave --split out, or give a dataset.")
    else:
        found = _of_file(loaded, source, n, seed, workers)
    if not len(found):
        why = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items()) or "it is empty"
        raise InputError(f"{found.source} holds no molecule that the model can read ({why}).", "Give another one.")
    return found


def _pick(rows: NDArray[np.int64], n: int, seed: int) -> NDArray[np.int64]:
    chosen = np.random.default_rng(seed).permutation(len(rows))[:n]
    return np.sort(rows[chosen])


def _of_dataset(loaded: LoadedModel, dataset: Dataset, split: str | None, n: int, seed: int) -> HeldOut:
    name = split or ("test" if len(dataset.rows("test")) else "valid")
    asked = _pick(dataset.rows(name), n, seed)
    rows = readable_rows(dataset, loaded.vocabulary, asked)
    some = with_vocabulary(take_rows(dataset, rows), loaded.vocabulary)
    properties = in_order(some, loaded.model.property_info)
    lacking = len(asked) - len(rows)
    return HeldOut(
        f"{dataset.directory} ({name})", [some.token_ids(row) for row in range(len(some))], properties,
        {"vocabulary": lacking} if lacking else {}, len(asked),
    )  # fmt: skip


def _of_file(loaded: LoadedModel, source: str, n: int, seed: int, workers: int | None) -> HeldOut:
    smiles = read_smiles(source)
    asked = _pick(np.arange(len(smiles)), n, seed)
    read = map_items(Read(loaded.vocabulary), [smiles[row] for row in asked], workers)
    token_ids: list[NDArray[np.integer[Any]]] = [
        np.array(result.token_ids, dtype=np.int64) for result in read if isinstance(result, Readable)
    ]
    left_out = Counter(result.reason for result in read if not isinstance(result, Readable))
    properties = np.full((len(token_ids), len(loaded.model.property_info)), np.nan, dtype=np.float32)
    return HeldOut(source, token_ids, properties, dict(left_out), len(asked))


def readable_rows(dataset: Dataset, vocabulary: Vocabulary, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of ``rows`` (B,) whose tokens all stand in ``vocabulary``."""
    known = np.array([token in vocabulary for token in dataset.vocabulary.tokens])
    return np.array([row for row in rows if known[dataset.token_ids(int(row))].all()], dtype=np.int64)


def take_rows(dataset: Dataset, rows: NDArray[np.int64]) -> Dataset:
    """Return the molecules at ``rows`` (B,) as a dataset of its own, in memory."""
    lengths = dataset.lengths[rows]
    parts = [np.asarray(dataset.token_ids(int(row))) for row in rows]
    return dataclasses.replace(
        dataset,
        tokens=np.concatenate(parts) if parts else np.asarray(dataset.tokens[:0]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        split=np.asarray(dataset.split[rows]),
        properties=np.asarray(dataset.properties[rows]),
    )


def in_order(dataset: Dataset, properties: Sequence[PropertyInfo]) -> NDArray[np.float32]:
    """Return the columns of ``dataset`` that ``properties`` name, (N, P), NaN for those it lacks."""
    names = dataset.property_names
    table = np.full((len(dataset), len(properties)), np.nan, dtype=np.float32)
    for column, info in enumerate(properties):
        if info.name in names:
            table[:, column] = dataset.properties[:, names.index(info.name)]
    return table
