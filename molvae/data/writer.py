"""Write a dataset directory piece by piece, so that its size does not matter.

In: molecules one after another. Out: the files that `molvae.data.dataset.load_dataset` opens, and molecules.parquet.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from molvae.chem.encoder import Tokens, token_texts
from molvae.data.dataset import SPLITS
from molvae.data.levels import Widener
from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError
from molvae.files import write_json

FLUSH = 20_000
"""Molecules held in memory before they go to disk as one row group."""
BLOCK = 1 << 20
MAX_TOKENS = 60_000
"""Different tokens a dataset may have; MOSES has 26, all of ChEMBL a few hundred."""

_PARTS = {"tokens": np.uint16, "lengths": np.uint32, "split": np.uint8, "properties": np.float32}
_BUFFERED = ("split", "properties")
_SPLIT_NAMES = np.array(list(SPLITS))


class DatasetWriter:
    """Collect molecules and write them out.

    Args:
        directory: where the files of the dataset go.
        work: a directory for parts that are not kept.
        properties: names of the M columns of values; in the end a category becomes as many as it has levels.
        kinds: ``computed``, ``column`` or ``category`` for each.
        vocabulary: the tokens to use; None takes those that occur, sorted.
        levels: of each category the texts of its levels by their codes; they may become more while rows are added.

    Attributes:
        level_counts: of each category how many molecules have the level of a code.
    """

    def __init__(
        self,
        directory: Path,
        work: Path,
        properties: Sequence[str],
        kinds: Sequence[str],
        vocabulary: Vocabulary | None = None,
        levels: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.directory = directory
        self.properties = list(properties)
        self.kinds = list(kinds)
        self.vocabulary = vocabulary
        self.levels = dict(levels or {})
        self.level_counts: dict[str, Counter[int]] = {name: Counter() for name in self.levels}
        self.count = 0
        # Ids for the time being; the final ones are known only when every token has been seen.
        texts = token_texts()
        self._ids = {text: code for code, text in enumerate(texts) if text}
        self._texts = list(texts)
        self._seen = np.zeros(MAX_TOKENS, dtype=bool)
        self._buffers = self._empty()
        self._rows: list[int] = []
        self._smiles: list[str] = []
        self._tokens: list[bytes] = []
        self._paths = {name: work / name for name in _PARTS}
        self._open = ExitStack()
        self._handles = {name: self._open.enter_context(path.open("wb")) for name, path in self._paths.items()}
        schema = [("row", pa.int64()), ("smiles", pa.string()), ("split", pa.string())]
        self._schema = pa.schema(
            schema + [(name, pa.string() if name in self.levels else pa.float32()) for name in self.properties]
        )
        self._parquet = self._open.enter_context(pq.ParquetWriter(directory / "molecules.parquet", self._schema))

    def _empty(self) -> dict[str, array[Any]]:
        return {name: array(np.dtype(_PARTS[name]).char) for name in _BUFFERED}

    def add(self, row: int, smiles: str, tokens: Tokens, split: int, values: Sequence[float]) -> None:
        """Append one molecule.

        Args:
            row: its number in the input.
            smiles: canonical SMILES.
            tokens: its SELFIES; with a fixed vocabulary every token must be in it.
            split: id of its split.
            values: the M columns, NaN where missing; of a category the code of its level.

        Raises:
            InputError: at the first token that no longer fits into 16 bits.
        """
        self._tokens.append(tokens if isinstance(tokens, bytes) else self._number(row, tokens))
        self._buffers["split"].append(split)
        self._buffers["properties"].extend(values)
        self._rows.append(row)
        self._smiles.append(smiles)
        self.count += 1
        if len(self._rows) >= FLUSH:
            self._flush()

    def _number(self, row: int, tokens: tuple[str, ...]) -> bytes:
        """Return tokens as bytes of uint16, with ids behind the codes for those that have no code."""
        for token in tokens:
            if self._ids.setdefault(token, len(self._texts)) == len(self._texts):
                self._texts.append(token)
        if len(self._texts) > MAX_TOKENS:
            raise InputError(
                f"More than {MAX_TOKENS:,} different tokens by row {row}.", "Is the column full of SMILES?"
            )
        return np.array([self._ids[token] for token in tokens], dtype=np.uint16).tobytes()

    def _flush(self) -> None:
        tokens = b"".join(self._tokens)
        self._seen[np.frombuffer(tokens, dtype=np.uint16)] = True
        lengths = np.fromiter(map(len, self._tokens), dtype=np.uint32, count=len(self._tokens)) // 2
        self._handles["tokens"].write(tokens)
        self._handles["lengths"].write(lengths.tobytes())
        values = np.array(self._buffers["properties"], dtype=np.float32).reshape(len(self._rows), len(self.properties))
        splits = _SPLIT_NAMES[np.array(self._buffers["split"], dtype=np.uint8)]
        columns = [pa.array(self._rows, pa.int64()), pa.array(self._smiles, pa.string()), pa.array(splits)]
        columns += [self._as_column(name, values[:, place]) for place, name in enumerate(self.properties)]
        self._parquet.write_table(pa.Table.from_arrays(columns, schema=self._schema))
        for name, buffer in self._buffers.items():
            buffer.tofile(self._handles[name])
        self._buffers = self._empty()
        self._rows, self._smiles, self._tokens = [], [], []

    def _as_column(self, name: str, values: NDArray[np.float32]) -> pa.Array:
        """Return ``values`` (n,) as a column of the table, missing where NaN; of a category texts, and count them."""
        if name not in self.levels:
            # from_pandas writes NaN as a missing value, which every reader of Parquet understands.
            return pa.array(values, from_pandas=True)
        known = [None if math.isnan(code) else int(code) for code in values.tolist()]
        self.level_counts[name].update(code for code in known if code is not None)
        return pa.array([None if code is None else self.levels[name][code] for code in known], pa.string())

    def close(self) -> None:
        """Let go of the files, finished or not."""
        self._open.close()

    def finish(self) -> Vocabulary:
        """Write the final arrays, the vocabulary and the statistics; return the vocabulary.

        Raises:
            InputError: when a category has fewer than two levels.
        """
        if self._rows:
            self._flush()
        self.close()
        wide = Widener(self.properties, self.levels, self.level_counts)
        seen = np.flatnonzero(self._seen).tolist()
        vocabulary = self.vocabulary or Vocabulary.from_tokens(self._texts[place] for place in seen)
        final = {token: token_id for token_id, token in enumerate(vocabulary.tokens)}
        lookup = np.zeros(MAX_TOKENS, dtype=np.uint16)
        lookup[seen] = [final[self._texts[place]] for place in seen]
        narrow: Any = np.uint8 if len(vocabulary) <= 256 else np.uint16
        n_tokens = self._paths["tokens"].stat().st_size // 2
        self._save("tokens", narrow, (n_tokens,), (lookup[block] for block in self._blocks("tokens")))
        self._save("offsets", np.int64, (self.count + 1,), self._offsets())
        self._save("split", np.uint8, (self.count,), self._blocks("split"))
        self._save("properties", np.float32, (self.count, len(wide.names)), map(wide, self._value_blocks()))
        vocabulary.save(self.directory / "vocab.json")
        write_json(self.directory / "properties.json", {"version": 1, "properties": self._statistics(wide)})
        return vocabulary

    def _blocks(self, name: str, items: int = BLOCK) -> Iterator[NDArray[Any]]:
        with self._paths[name].open("rb") as handle:
            while len(block := np.fromfile(handle, dtype=_PARTS[name], count=items)):
                yield block

    def _offsets(self) -> Iterator[NDArray[np.int64]]:
        end = 0
        yield np.zeros(1, dtype=np.int64)
        for block in self._blocks("lengths"):
            ends = end + np.cumsum(block, dtype=np.int64)
            end = int(ends[-1])
            yield ends

    def _save(self, name: str, dtype: Any, shape: tuple[int, ...], blocks: Iterator[NDArray[Any]]) -> None:
        with (self.directory / f"{name}.npy").open("wb") as handle:
            header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(handle, header)
            for block in blocks:
                handle.write(np.ascontiguousarray(block, dtype=dtype).data)

    def _value_blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield the columns of values as they were added, in blocks of at most `BLOCK` values, (n, M)."""
        width = max(len(self.properties), 1)
        for values in self._blocks("properties", self._rows_at_once() * width):
            yield values.reshape(-1, width)

    def _rows_at_once(self) -> int:
        return max(BLOCK // max(len(self.properties), 1), 1)

    def _train_values(self, wide: Widener) -> Iterator[NDArray[np.float64]]:
        """Yield the properties of the train split in blocks, (n, P)."""
        for values, split in zip(self._value_blocks(), self._blocks("split", self._rows_at_once()), strict=True):
            yield wide(values[split == SPLITS["train"]]).astype(np.float64)

    def _statistics(self, wide: Widener) -> list[dict[str, Any]]:
        """Return mean, std, min, max and count of every property over the train split; None where nothing is known."""
        if not self.properties:
            return []
        width = len(wide.names)
        n, total, spread = np.zeros(width), np.zeros(width), np.zeros(width)
        low, high = np.full(width, math.inf), np.full(width, -math.inf)
        for block in self._train_values(wide):
            n += np.isfinite(block).sum(axis=0)
            total += np.nansum(block, axis=0)
            low = np.fmin(low, np.fmin.reduce(block, axis=0, initial=math.inf))
            high = np.fmax(high, np.fmax.reduce(block, axis=0, initial=-math.inf))
        mean = total / np.maximum(n, 1)
        for block in self._train_values(wide):
            spread += np.nansum((block - mean) ** 2, axis=0)
        std = np.sqrt(spread / np.maximum(n, 1))
        entries = []
        kinds = dict(zip(self.properties, self.kinds, strict=True))
        for place, (name, category) in enumerate(zip(wide.names, wide.categories, strict=True)):
            facts = dict(zip(("mean", "std", "min", "max"), (mean, std, low, high), strict=True))
            known = {key: float(value[place]) if n[place] else None for key, value in facts.items()}
            belongs = {"kind": "category", "category": category} if category else {"kind": kinds[name]}
            entries.append({"name": name, **belongs, **known, "n": int(n[place])})
        return entries
