"""What every case of the benchmark is given, and the molecules it works on.

In: the command line's choices, as JSON from process to process. Out: `Setting`; molecules and token ids.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTHS = {
    20: 1, 21: 1, 22: 2, 23: 4, 24: 6, 25: 12, 26: 18, 27: 33, 28: 34, 29: 48, 30: 55, 31: 68, 32: 64, 33: 65, 34: 72,
    35: 75, 36: 76, 37: 78, 38: 69, 39: 65, 40: 50, 41: 42, 42: 26, 43: 17, 44: 10, 45: 5, 46: 2, 47: 1,
}  # fmt: skip
"""Thousandths of the MOSES training split by SELFIES tokens (10,000 drawn, mean 34.5): real lengths for network stages
on machines without selfies."""


class Unavailable(RuntimeError):
    """A case that cannot run here, and why."""


@dataclass(frozen=True)
class Setting:
    """Paths, device and sizes; ``molecules`` is what one repeat of a chemistry stage takes."""

    smiles: str
    wheel: str | None
    dataset: str | None
    device: str
    threads: int
    molecules: int
    folder: str
    seed: int = 0

    def to_json(self) -> str:
        """Return the setting as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Setting:
        """Read what `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(**values)

    def read_smiles(self, count: int | None = None) -> list[str]:
        """Return the first column of the file without its header, ``count`` rows of it, over again when it is short."""
        path = Path(self.smiles)
        rows: list[str] = []
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open("rt") as stream:
            for line in stream:
                cell = line.replace(",", " ").split()
                if cell and not (not rows and "smiles" in cell[0].lower()):
                    rows.append(cell[0])
                if count is not None and len(rows) == count:
                    break
        if not rows:
            raise Unavailable(f"{path} holds no molecule")
        wanted = len(rows) if count is None else count
        return [rows[i % len(rows)] for i in range(wanted)]

    def lengths(self, count: int) -> NDArray[np.int64]:
        """Draw ``count`` lengths in tokens, those of the dataset when one is given, of MOSES otherwise."""
        rng = np.random.default_rng(self.seed)
        if self.dataset is not None:
            offsets = np.load(Path(self.dataset) / "offsets.npy", mmap_mode="r", allow_pickle=False)
            return rng.choice(np.diff(offsets), count)
        share = np.array(list(LENGTHS.values()), dtype=float)
        return rng.choice(np.array(list(LENGTHS)), count, p=share / share.sum())
