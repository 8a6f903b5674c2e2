"""Describe molecules to a surrogate: bits of what they are built from, and a few numbers of the whole.

In: RDKit molecules. Out: `Features`: Morgan and atom pair bits (N, F) float32, 0 or 1, descriptors (N, P) float64.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors, rdqueries

from molvae.chem.properties import logp

BITS = 2048
COUNTED = ("C", "N", "O", "F", "S", "P", "Cl", "Br", "I")
DESCRIPTORS = (*(f"n_{element}" for element in COUNTED), "n_H", "n_atoms", "charge", "rings", "aromatic_rings",
               "rotatable_bonds", "hbd", "hba", "tpsa", "logp")  # fmt: skip


_COUNT = re.compile(r"([A-Z][a-z]?)(\d*)")
REMEMBERED = 8000
"""Molecules whose features are kept: those that are not paid for are often made again, those that are, asked for."""


@dataclass(frozen=True)
class Features:
    """N molecules as a surrogate sees them.

    Attributes:
        morgan: (N, F) float32, Morgan radius 2 with counts written as bits.
        pairs: (N, F) float32, atom pairs with counts written as bits.
        numbers: (N, P) float64, `DESCRIPTORS` in their own units.
    """

    morgan: NDArray[np.float32]
    pairs: NDArray[np.float32]
    numbers: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Features:
        """Return the molecules at ``rows``, in that order."""
        kept = np.asarray(rows, dtype=np.int64)
        return Features(self.morgan[kept], self.pairs[kept], self.numbers[kept])

    def join(self, other: Features) -> Features:
        """Return these molecules and then the others."""
        return Features(
            np.concatenate([self.morgan, other.morgan]), np.concatenate([self.pairs, other.pairs]),
            np.concatenate([self.numbers, other.numbers]),
        )  # fmt: skip


@lru_cache(maxsize=1)
def _generators() -> tuple[Any, Any]:
    made = rdFingerprintGenerator
    return (
        made.GetMorganGenerator(radius=2, fpSize=BITS, countSimulation=True),
        made.GetAtomPairGenerator(fpSize=BITS, countSimulation=True),
    )


@lru_cache(maxsize=1)
def _hydrogen() -> Any:
    return rdqueries.AtomNumEqualsQueryAtom(1)


def describe(mol: Chem.Mol) -> list[float]:
    """Return `DESCRIPTORS` of one sanitised molecule.

    >>> dict(zip(DESCRIPTORS, describe(Chem.MolFromSmiles("OCC")), strict=True))["n_H"]
    6.0
    """
    counts = {element: int(count or 1) for element, count in _COUNT.findall(rdMolDescriptors.CalcMolFormula(mol))}
    n_atoms, atoms_of_h = mol.GetNumAtoms(), len(mol.GetAtomsMatchingQuery(_hydrogen()))
    values = (
        *(counts.get(element, 0) for element in COUNTED), counts.get("H", 0) - atoms_of_h, n_atoms,
        Chem.GetFormalCharge(mol),
        rdMolDescriptors.CalcNumRings(mol), rdMolDescriptors.CalcNumAromaticRings(mol),
        rdMolDescriptors.CalcNumRotatableBonds(mol), rdMolDescriptors.CalcNumHBD(mol), rdMolDescriptors.CalcNumHBA(mol),
        rdMolDescriptors.CalcTPSA(mol), logp(mol),
    )  # fmt: skip
    return [float(value) for value in values]


def featurize(mols: Sequence[Chem.Mol]) -> Features:
    """Return the features of N molecules, which must not be changed afterwards: what they look like is remembered.

    >>> featurize([Chem.MolFromSmiles("CCO")]).morgan.shape
    (1, 2048)
    """
    rows = [_row(mol) for mol in mols]
    packed = np.frombuffer(b"".join(row[0] for row in rows), dtype=np.uint8).reshape(len(rows), 2, BITS // 8)
    bits = np.unpackbits(packed, axis=2, bitorder="little").astype(np.float32)
    numbers = np.array([row[1] for row in rows], dtype=np.float64).reshape(len(rows), len(DESCRIPTORS))
    return Features(np.ascontiguousarray(bits[:, 0]), np.ascontiguousarray(bits[:, 1]), numbers)


@lru_cache(maxsize=REMEMBERED)
def _row(mol: Chem.Mol) -> tuple[bytes, list[float]]:
    """Return both kinds of bits, packed in 2 F / 8 bytes, and the descriptors."""
    morgan, pairs = (DataStructs.BitVectToBinaryText(made.GetFingerprint(mol)) for made in _generators())
    return morgan + pairs, describe(mol)


def similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the Tanimoto similarity (N, M) of bits (N, F) and (M, F); 0 where both are empty.

    >>> bits = np.array([[1, 1, 0], [0, 1, 1]], dtype=np.float32)
    >>> similarity(bits, bits).round(3).tolist()
    [[1.0, 0.3330000042915344], [0.3330000042915344, 1.0]]
    """
    common = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1)[None, :] - common
    return np.asarray(np.divide(common, union, out=np.zeros_like(common), where=union > 0))
