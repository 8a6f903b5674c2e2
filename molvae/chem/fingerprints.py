"""Describe molecules as bit vectors and compare them.

In: SMILES. Out: packed Morgan fingerprints and Tanimoto similarities. Shapes: N and M molecules, F bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit.Chem import rdFingerprintGenerator

from molvae.chem.parallel import map_items
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read


@lru_cache(maxsize=8)
def _generator(radius: int, bits: int) -> Any:
    return rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)


@dataclass(frozen=True, slots=True)
class _Morgan:
    radius: int
    bits: int

    def __call__(self, smiles: str) -> bytes:
        mol = read(smiles)
        if isinstance(mol, Rejected):
            return bytes(self.bits // 8)
        unpacked = _generator(self.radius, self.bits).GetFingerprintAsNumPy(mol)
        return np.packbits(unpacked).tobytes()


def morgan(smiles: Sequence[str], radius: int = 2, bits: int = 2048, workers: int | None = None) -> NDArray[np.uint8]:
    """Return Morgan fingerprints, packed eight bits to a byte.

    Args:
        smiles: N SMILES; stereo is ignored by the fingerprint.
        radius: bonds around each atom.
        bits: F, a multiple of 64.
        workers: processes; None means every core.

    Returns:
        uint8 array (N, F / 8); a row of zeros for a string that is no molecule.

    Raises:
        ValueError: when ``bits`` is not a positive multiple of 64.

    >>> morgan(["CCO", "not a molecule"]).shape
    (2, 256)
    """
    if bits <= 0 or bits % 64:
        raise ValueError(f"bits must be a positive multiple of 64, not {bits}")
    rows = map_items(_Morgan(radius, bits), smiles, workers)
    packed = b"".join(bytes(bits // 8) if isinstance(row, Rejected) else row for row in rows)
    return np.frombuffer(packed, dtype=np.uint8).reshape(len(smiles), bits // 8).copy()


def tanimoto(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the Tanimoto similarity of every row of ``a`` with every row of ``b``.

    Args:
        a: uint8 array (N, F / 8) from `morgan`.
        b: uint8 array (M, F / 8) of the same width.

    Returns:
        float32 array (N, M) in [0, 1]; 0 where both rows are empty.

    >>> bits = morgan(["CCO", "CCN"])
    >>> float(tanimoto(bits, bits)[0, 0])
    1.0
    """
    left = np.ascontiguousarray(a).view(np.uint64)
    right = np.ascontiguousarray(b).view(np.uint64)
    left_count = np.bitwise_count(left).sum(axis=1, dtype=np.int64)
    right_count = np.bitwise_count(right).sum(axis=1, dtype=np.int64)
    result = np.zeros((len(left), len(right)), dtype=np.float32)
    for row, bits in enumerate(left):
        common = np.bitwise_count(bits & right).sum(axis=1, dtype=np.int64)
        union = left_count[row] + right_count - common
        np.divide(common, union, out=result[row], where=union > 0, casting="unsafe")
    return result
