"""Open a prepared dataset without loading it: token ids stay on disk and are memory-mapped.

In: the directory that `molvae prepare` writes. Out: `Dataset`, integers and floats only (no rdkit, selfies or pandas).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError, MolvaeError, UnknownNameError
from molvae.files import verify_manifest

SPLITS = {"train": 0, "valid": 1, "test": 2}


@dataclass(frozen=True)
class PropertyInfo:
    """Statistics of one property over the training split, in the property's own unit.

    Attributes:
        category: the category of which this column is one level, 1 where a molecule has it and 0 where it has another;
            "" for a number.
    """

    name: str
    mean: float
    std: float
    minimum: float
    maximum: float
    n: int
    category: str = ""

    @property
    def level(self) -> str:
        """The text of the level, "" for a number.

        >>> PropertyInfo("target=EGFR", 0.2, 0.4, 0.0, 1.0, 90, "target").level
        'EGFR'
        """
        return self.name[len(self.category) + 1 :] if self.category else ""

    def to_json(self) -> dict[str, Any]:
        """Return the entry of a model's ``properties.json``; a number has none of the fields of categories."""
        entry = asdict(self)
        return entry if self.category else {key: value for key, value in entry.items() if key != "category"}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> PropertyInfo:
        """Build from an entry of ``properties.json``; a property without values gets mean 0 and std 1."""
        fallback = {"mean": 0.0, "std": 1.0, "min": 0.0, "max": 0.0}
        mean, std, low, high = (default if entry.get(key) is None else entry[key] for key, default in fallback.items())
        category = str(entry.get("category", ""))
        return cls(entry["name"], float(mean), float(std), float(low), float(high), int(entry["n"]), category)


@dataclass(frozen=True)
class Dataset:
    """N molecules as integers. Molecule ``i`` is ``tokens[offsets[i]:offsets[i + 1]]``, without BOS and EOS.

    Attributes:
        tokens: flat token ids, uint8 or uint16, memory-mapped.
        offsets: (N + 1,) int64.
        split: (N,) uint8, see `SPLITS`.
        properties: (N, P) float32, NaN where missing.
    """

    directory: Path
    vocabulary: Vocabulary
    tokens: NDArray[np.integer[Any]]
    offsets: NDArray[np.int64]
    split: NDArray[np.uint8]
    properties: NDArray[np.float32]
    property_info: tuple[PropertyInfo, ...]
    manifest: dict[str, Any]

    def __len__(self) -> int:
        return len(self.split)

    @property
    def property_names(self) -> list[str]:
        """Names of the P property columns, in order."""
        return [info.name for info in self.property_info]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,) tokens per molecule, without BOS and EOS."""
        return np.diff(self.offsets)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the row numbers of ``split`` (train, valid or test), ascending.

        Raises:
            UnknownNameError: when there is no such split.
        """
        if split not in SPLITS:
            raise UnknownNameError(f"There is no split {split!r}.", f"Choose one of {', '.join(SPLITS)}.")
        return np.flatnonzero(self.split == SPLITS[split])

    def token_ids(self, row: int) -> NDArray[np.integer[Any]]:
        """Return the token ids of one molecule, (T,), without BOS and EOS."""
        return self.tokens[self.offsets[row] : self.offsets[row + 1]]


def load_dataset(directory: str | Path, *, verify: bool = True) -> Dataset:
    """Open a directory written by ``molvae prepare``.

    Args:
        directory: the dataset.
        verify: compare every file with the manifest's SHA-256 first.

    Raises:
        InputError: when it is not a dataset, or a file of it is missing, changed or inconsistent.
    """
    directory = Path(directory)
    remedy = "Make it with: molvae prepare FILE -o DATASET"
    if not directory.is_dir():
        raise InputError(f"There is no dataset directory {directory}.", remedy)
    try:
        manifest = (
            verify_manifest(directory) if verify else json.loads((directory / "manifest.json").read_text("utf-8"))
        )
        arrays = {
            name: np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in ("tokens", "offsets", "split", "properties")
        }
        info = json.loads((directory / "properties.json").read_text("utf-8"))["properties"]
        vocabulary = Vocabulary.load(directory / "vocab.json")
        dataset = Dataset(
            directory=directory, vocabulary=vocabulary, property_info=tuple(map(PropertyInfo.from_json, info)),
            manifest=manifest, **arrays,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, MolvaeError) as error:
        cause = error.problem if isinstance(error, MolvaeError) else error
        raise InputError(f"{directory} is not a complete dataset: {cause}", remedy) from error
    _check_consistency(dataset, remedy)
    return dataset


def _check_consistency(dataset: Dataset, remedy: str) -> None:
    count = len(dataset)
    sound = (
        dataset.offsets.shape == (count + 1,)
        and dataset.properties.shape == (count, len(dataset.property_info))
        and (count == 0 or (dataset.offsets[0] == 0 and dataset.offsets[-1] == len(dataset.tokens)))
        and (len(dataset.tokens) == 0 or int(dataset.tokens.max()) < len(dataset.vocabulary))
    )
    if not sound:
        raise InputError(f"{dataset.directory} is inconsistent: its arrays do not fit together.", remedy)
