"""Remember which molecules were seen, in little memory.

In: canonical SMILES of a chunk. Out: which of them are new; 8 bytes each on disk, a few megabytes in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

RECENT = 1 << 17
"""Hashes kept in a set before they go to disk as one sorted run."""
LARGEST_RUN = 1 << 23
"""Runs are merged up to this many hashes (64 MiB), so that merging never needs more memory."""


def hash_smiles(smiles: str) -> int:
    """Return a 64-bit hash; among 100 million molecules one pair in 3,700 such sets meets by chance."""
    return int.from_bytes(hashlib.blake2b(smiles.encode(), digest_size=8).digest(), "big")


class Seen:
    """A set of 64-bit hashes that only grows.

    Args:
        directory: an existing directory for its files; the caller removes it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._recent: set[int] = set()
        self._runs: list[np.memmap[Any, np.dtype[np.uint64]]] = []
        self._files = 0

    def add(self, hashes: Iterable[int]) -> list[bool]:
        """Add hashes in order and say for each whether it is new.

        >>> import tempfile
        >>> Seen(Path(tempfile.mkdtemp())).add([1, 2, 1])
        [True, True, False]
        """
        chunk = list(hashes)
        known = np.zeros(len(chunk), dtype=bool)
        wanted = np.array(chunk, dtype=np.uint64)
        for run in self._runs:
            places = np.searchsorted(run, wanted)
            known |= run[np.minimum(places, len(run) - 1)] == wanted
        new = []
        for one, old in zip(chunk, known.tolist(), strict=True):
            fresh = not old and one not in self._recent
            if fresh:
                self._recent.add(one)
            new.append(fresh)
        if len(self._recent) >= RECENT:
            self._flush()
        return new

    def _flush(self) -> None:
        run = np.sort(np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent)))
        self._recent = set()
        while self._runs and len(self._runs[-1]) <= len(run) and 2 * len(run) <= LARGEST_RUN:
            older = self._runs.pop()
            run = np.sort(np.concatenate([older, run]))
            Path(str(older.filename)).unlink()
        path = self._directory / f"seen{self._files}"
        self._files += 1
        run.tofile(path)
        # Mapped, so that the kernel may drop what is not being looked at.
        self._runs.append(np.memmap(path, dtype=np.uint64, mode="r"))
