"""The pieces that benchmark tasks are made of: numbers of a molecule, before any transform.

In: a sanitised RDKit molecule. Out: a float.

Fingerprints are those of the original: counts of unfolded environments (ECFP, FCFP, atom pairs), not bits of a fixed
length, and `PHCO`, which is bits; `molvae.chem.fingerprints` folds to 2,048 bits and gives other similarities.
Source: GuacaMol, Brown et al. 2019, doi 10.1021/acs.jcim.8b00839.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from rdkit import Chem
from rdkit.Chem import GraphDescriptors, rdFingerprintGenerator, rdMolDescriptors
from rdkit.DataStructs import TanimotoSimilarity

from molvae.chem.properties import logp, qed
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read
from molvae.errors import InputError
from molvae.optimize.tasks_pharmacophore import overlap, pharmacophore


class Term(Protocol):
    """One number of a molecule."""

    def __call__(self, mol: Chem.Mol) -> float:
        """Return the raw value."""


@lru_cache(maxsize=8)
def fingerprint(kind: str) -> Callable[[Chem.Mol], Any]:
    """Return the function that makes fingerprints of ``kind``: ECFP4, ECFP6, FCFP4, AP or PHCO."""
    if kind == "PHCO":
        return pharmacophore
    if kind == "AP":
        generator = rdFingerprintGenerator.GetAtomPairGenerator(maxDistance=10)
    elif kind == "FCFP4":
        features = rdFingerprintGenerator.GetMorganFeatureAtomInvGen()
        generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, atomInvariantsGenerator=features)
    else:
        generator = rdFingerprintGenerator.GetMorganGenerator(radius={"ECFP4": 2, "ECFP6": 3}[kind])
    make: Callable[[Chem.Mol], Any] = generator.GetSparseCountFingerprint
    return make


@lru_cache(maxsize=256)
def _reference(smiles: str, kind: str) -> Any:
    return fingerprint(kind)(molecule(smiles))


@lru_cache(maxsize=256)
def _pattern(smarts: str) -> Chem.Mol:
    return compile_smarts(smarts)


def molecule(smiles: str) -> Chem.Mol:
    """Return a reference molecule.

    Raises:
        InputError: when ``smiles`` is none.
    """
    mol = read(smiles)
    if isinstance(mol, Rejected):
        raise InputError(f"{smiles!r} is not a molecule ({mol.reason}).", "Give a SMILES that RDKit reads.")
    return mol


def compile_smarts(smarts: str) -> Chem.Mol:
    """Return a substructure query.

    Raises:
        InputError: when ``smarts`` does not parse.
    """
    query = Chem.MolFromSmarts(smarts) if smarts else None
    if query is None or not query.GetNumAtoms():
        raise InputError(f"The SMARTS {smarts!r} does not parse.", "Check brackets, ring numbers and quotes.")
    return query


@dataclass(frozen=True, slots=True)
class Similarity:
    """Tanimoto similarity to ``reference`` (SMILES) by fingerprints of ``kind``, 0 to 1; stereo is not looked at."""

    reference: str
    kind: str

    def __call__(self, mol: Chem.Mol) -> float:
        """Return 0 to 1."""
        reference, own = _reference(self.reference, self.kind), fingerprint(self.kind)(mol)
        return overlap(own, reference) if self.kind == "PHCO" else float(TanimotoSimilarity(own, reference))


@dataclass(frozen=True, slots=True)
class Matches:
    """1 when the molecule contains ``smarts``, else 0; the other way round with ``absent``."""

    smarts: str
    absent: bool = False

    def __call__(self, mol: Chem.Mol) -> float:
        """Return 0 or 1."""
        return float(mol.HasSubstructMatch(_pattern(self.smarts)) != self.absent)


@dataclass(frozen=True, slots=True)
class Count:
    """Atoms of one element; "" counts all, and hydrogen counts as an atom."""

    element: str

    def __call__(self, mol: Chem.Mol) -> float:
        """Return the number of atoms."""
        if not self.element:
            return float(mol.GetNumAtoms(onlyExplicit=False))
        if self.element == "H":
            explicit = sum(atom.GetAtomicNum() == 1 for atom in mol.GetAtoms())
            return float(mol.GetNumAtoms(onlyExplicit=False) - mol.GetNumAtoms() + explicit)
        number = Chem.GetPeriodicTable().GetAtomicNumber(self.element)
        return float(sum(atom.GetAtomicNum() == number for atom in mol.GetAtoms()))


DESCRIPTORS: dict[str, Callable[[Chem.Mol], float]] = {
    "logp": logp,
    "qed": qed,
    "tpsa": rdMolDescriptors.CalcTPSA,
    "bertz": GraphDescriptors.BertzCT,
    "mol_weight": rdMolDescriptors._CalcMolWt,
    "hbd": rdMolDescriptors.CalcNumHBD,
    "rotatable_bonds": rdMolDescriptors.CalcNumRotatableBonds,
    "rings": rdMolDescriptors.CalcNumRings,
    "aromatic_rings": rdMolDescriptors.CalcNumAromaticRings,
}
"""Name to function; Bertz's complexity after Bertz 1981, doi 10.1021/ja00402a071."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A row of `DESCRIPTORS`."""

    name: str

    def __call__(self, mol: Chem.Mol) -> float:
        """Return the raw value."""
        return float(DESCRIPTORS[self.name](mol))


def formula_counts(formula: str) -> dict[str, int]:
    """Return the atoms of each element in a formula.

    >>> formula_counts("C9H10N2O2PF2Cl")
    {'C': 9, 'H': 10, 'N': 2, 'O': 2, 'P': 1, 'F': 2, 'Cl': 1}
    """
    return {element: int(count or 1) for element, count in re.findall(r"([A-Z][a-z]*)(\d*)", formula)}
