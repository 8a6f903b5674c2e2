"""Keep a training set of millions: who is in it, and real molecules drawn from it, without a string in memory for each.

In: a file of SMILES. Out: `TrainingSet`, bytes mapped from the user's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molvae.benchmark.metrics_molecules import chunks_of
from molvae.benchmark.references import Stage, key_of, named_split, recall, store
from molvae.chem.parallel import map_chunks
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import StandardizeOptions, standardize
from molvae.data.seen import hash_smiles
from molvae.data.table import Table, count_rows
from molvae.errors import InputError
from molvae.files import sha256_file

CHUNK = 1000


@dataclass(frozen=True)
class TrainingSet:
    """N training molecules.

    Attributes:
        source: the file as it was named.
        sha256: of the file.
        as_given: whether strings are compared as they stand in the file; else they were made canonical.
        stereo: whether they kept their stereo then.
        text: the SMILES one after another, ASCII.
        offsets: (N + 1,) int64, where each begins and ends.
        hashes: (N,) uint64, sorted.
        rows: (N,) int64, whose hash each is.
    """

    source: str
    sha256: str
    as_given: bool
    stereo: bool
    text: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def smiles(self, row: int) -> str:
        """Return one molecule."""
        return self.text[self.offsets[row] : self.offsets[row + 1]].tobytes().decode("ascii")

    def __contains__(self, smiles: object) -> bool:
        """Tell whether a SMILES is in the set: by its hash, and every hit by its characters."""
        if not isinstance(smiles, str):
            return False
        wanted = np.uint64(hash_smiles(smiles))
        place = int(np.searchsorted(self.hashes, wanted))
        while place < len(self.hashes) and self.hashes[place] == wanted:
            if self.smiles(int(self.rows[place])) == smiles:
                return True
            place += 1
        return False

    def novelty(self, smiles: Sequence[str]) -> float:
        """Return the share of the distinct molecules in ``smiles`` that are not in the set; NaN for none."""
        distinct = set(smiles)
        return sum(one not in self for one in distinct) / len(distinct) if distinct else float("nan")

    def pick(self, n: int, seed: int) -> list[str]:
        """Return ``n`` molecules drawn at random without repeats, or all there are."""
        rows = np.random.default_rng(seed).permutation(len(self))[:n]
        return [self.smiles(int(row)) for row in rows]

    def facts(self) -> dict[str, Any]:
        """Return what a reader of novelty must know about the set."""
        strings = "as they stand in the file" if self.as_given else "made canonical"
        strings += "" if self.stereo else ", without stereo"
        return {"source": self.source, "sha256": self.sha256, "n": len(self), "strings": strings}


def _strings(path: Path) -> Iterator[str]:
    table = Table(str(path), None)
    for row in table.rows():
        yield row[table.smiles] if isinstance(row, list) else ""


def load_training(path: Path, *, workers: int | None, say: Stage, stereo: bool = True) -> TrainingSet:
    """Return the training set in ``path``, from the cache when the same file was read before.

    The strings of a named split (``moses:train``) are compared as they stand, as the benchmark's own code does; those
    of any other file are made canonical, and what is no molecule is left out.

    Args:
        path: a file that ``molvae prepare`` could read.
        workers: processes; None means every core.
        say: told how far it is.
        stereo: keep it in strings that are made canonical.

    Raises:
        InputError: when the file cannot be read or holds no molecule.
    """
    sha256 = sha256_file(path)
    as_given = named_split(sha256) is not None
    stereo = stereo or as_given
    key = key_of("training", {"sha256": sha256, "as_given": as_given, "stereo": stereo}, ("rdkit",))
    found = recall(key)
    arrays = found[0] if found else _build(path, None if as_given else stereo, workers, say)
    if found is None:
        store(key, arrays, {"as_given": as_given})
    return TrainingSet(path.name, sha256, as_given, stereo, **arrays)


def _build(path: Path, stereo: bool | None, workers: int | None, say: Stage) -> dict[str, NDArray[Any]]:
    """Read, hash and index the file, holding its characters and three numbers for each row.

    Args:
        stereo: keep it in canonical strings; None leaves every string as it is.
    """
    text, ends, hashes = bytearray(), [0], []
    total, seen = count_rows(str(path)) or 0, 0
    chunks = chunks_of(_strings(path), CHUNK)
    rewrite = partial(standardize, options=StandardizeOptions(stereo=bool(stereo)))
    for part in chunks if stereo is None else map_chunks(rewrite, chunks, workers):
        good = [one if isinstance(one, str) else one.smiles for one in part if not isinstance(one, Rejected)]
        for smiles in filter(None, good):
            text += smiles.encode("ascii", "replace")
            ends.append(len(text))
            hashes.append(hash_smiles(smiles))
        seen += len(part)
        say("training set, once", seen, max(total, seen))
    if not hashes:
        raise InputError(f"{path} holds no molecule.", "Give the file of SMILES that the model was trained on.")
    unsorted = np.array(hashes, dtype=np.uint64)
    rows = np.argsort(unsorted, kind="stable")
    return {
        "text": np.frombuffer(bytes(text), dtype=np.uint8), "offsets": np.array(ends, dtype=np.int64),
        "hashes": unsorted[rows], "rows": rows.astype(np.int64),
    }  # fmt: skip
