"""Read molecules once, on all cores, and keep what distribution benchmarks ask about them.

In: SMILES, any number. Out: `Described`: fingerprints, fragments, scaffolds and properties of those that are molecules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold

from molvae.chem.alerts import passes_moses
from molvae.chem.parallel import map_chunks
from molvae.chem.properties import compute_mol
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read

PROPERTIES = ("logp", "sa", "qed", "mol_weight")
RADIUS, BITS = 2, 1024
MIN_RINGS = 2
"""Scaffolds with fewer rings are not counted, as in MOSES."""
CHUNK = 200


@dataclass(frozen=True, slots=True)
class Facts:
    """One molecule: canonical SMILES, packed fingerprint, BRICS fragments, scaffold ("" for none), `PROPERTIES`."""

    smiles: str
    fingerprint: bytes
    fragments: tuple[str, ...]
    scaffold: str
    values: tuple[float, ...]
    passes: bool


@dataclass(frozen=True)
class Described:
    """What is known of N strings, M of them molecules, in order.

    Attributes:
        given: N.
        smiles: M canonical SMILES.
        fingerprints: (M, 128) uint8, Morgan, radius 2, 1,024 bits, packed.
        fragments: BRICS fragments and how often they occur.
        scaffolds: Murcko scaffolds of at least two rings and how often they occur.
        values: (M, 4) float64, `PROPERTIES`; NaN where RDKit cannot say.
        passes: (M,) bool, whether the filters of MOSES pass it; all false when not asked for.
    """

    given: int
    smiles: list[str]
    fingerprints: NDArray[np.uint8]
    fragments: Counter[str]
    scaffolds: Counter[str]
    values: NDArray[np.float64]
    passes: NDArray[np.bool_]


@lru_cache(maxsize=1)
def _morgan() -> Any:
    return rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)


def scaffold_of(mol: Chem.Mol) -> str:
    """Return the Murcko scaffold as SMILES, "" when it has fewer than two rings.

    >>> scaffold_of(Chem.MolFromSmiles("CCc1ccc2ccccc2c1")), scaffold_of(Chem.MolFromSmiles("c1ccccc1C"))
    ('c1ccc2ccccc2c1', '')
    """
    scaffold = MurckoScaffold.GetScaffoldForMol(mol)
    return Chem.MolToSmiles(scaffold) if scaffold.GetRingInfo().NumRings() >= MIN_RINGS else ""


@dataclass(frozen=True, slots=True)
class Describe:
    """Turn a SMILES into `Facts`; everything is asked of the molecule as read from its canonical SMILES, as in MOSES.

    Args:
        filters: run the filters of MOSES (some 0.6 ms).

    >>> Describe(False)("OCC").fragments
    ('CCO',)
    """

    filters: bool

    def __call__(self, smiles: str) -> Facts | Rejected:
        """Read one string; stereo and charges stay, a string that is no molecule is `Rejected`."""
        mol = read(smiles)
        if isinstance(mol, Rejected):
            return mol
        canonical = Chem.MolToSmiles(mol)
        if canonical != smiles:
            mol = read(canonical)
            if isinstance(mol, Rejected):
                return mol
        return Facts(
            canonical,
            np.packbits(_morgan().GetFingerprintAsNumPy(mol)).tobytes(),
            tuple(Chem.MolToSmiles(Chem.FragmentOnBRICSBonds(mol)).split(".")),
            scaffold_of(mol),
            tuple(compute_mol(mol, PROPERTIES)),
            self.filters and passes_moses(mol),
        )


@dataclass
class _Gather:
    """Add up `Facts` as they come, so that no list of them is held."""

    given: int = 0
    smiles: list[str] = field(default_factory=list)
    bits: bytearray = field(default_factory=bytearray)
    fragments: Counter[str] = field(default_factory=Counter)
    scaffolds: Counter[str] = field(default_factory=Counter)
    values: list[NDArray[np.float64]] = field(default_factory=list)
    passes: list[bool] = field(default_factory=list)

    def add(self, results: Iterable[Facts | Rejected]) -> None:
        results = list(results)
        found = [one for one in results if isinstance(one, Facts)]
        self.given += len(results)
        self.smiles += [one.smiles for one in found]
        for one in found:
            self.bits += one.fingerprint
            self.fragments.update(one.fragments)
        self.scaffolds.update(one.scaffold for one in found if one.scaffold)
        self.values.append(np.array([one.values for one in found], np.float64).reshape(len(found), len(PROPERTIES)))
        self.passes += [one.passes for one in found]

    def result(self) -> Described:
        bits = np.frombuffer(bytes(self.bits), dtype=np.uint8).reshape(-1, BITS // 8)
        values = np.concatenate([np.zeros((0, len(PROPERTIES))), *self.values])
        return Described(
            self.given, self.smiles, bits, self.fragments, self.scaffolds, values, np.array(self.passes, dtype=bool)
        )


def chunks_of(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield lists of ``size`` items, the last one shorter.

    >>> list(chunks_of("abc", 2))
    [['a', 'b'], ['c']]
    """
    source = iter(items)
    while chunk := list(islice(source, size)):
        yield chunk


def describe(
    smiles: Iterable[str], *, filters: bool = True, workers: int | None = None, say: Callable[[int], None] | None = None
) -> Described:
    """Describe molecules on all cores; what is no molecule is counted in ``given`` and nowhere else.

    Args:
        smiles: read lazily.
        filters: run the filters of MOSES.
        workers: processes; None means every core.
        say: told how many strings are done.
    """
    gather = _Gather()
    for results in map_chunks(Describe(filters), chunks_of(smiles, CHUNK), workers):
        gather.add(results)
        if say:
            say(gather.given)
    return gather.result()
