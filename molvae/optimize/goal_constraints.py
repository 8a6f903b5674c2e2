"""Refuse molecules that a goal does not allow, before anything is paid for them.

In: a molecule and the start it descends from. Out: the first constraint it breaks, as text, "" when it keeps all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from rdkit import Chem

from molvae.chem.fingerprints import morgan, tanimoto
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read
from molvae.optimize.goal_stereo import lost_stereo
from molvae.optimize.oracles import ORACLES
from molvae.optimize.oracles_structure import CountAlerts
from molvae.optimize.tasks_terms import compile_smarts

START = "start"
"""Stands for the start molecule that a molecule descends from."""


class Constraint(Protocol):
    """Something that a molecule must fulfil."""

    def broken(self, mol: Chem.Mol, smiles: str, start: str) -> str:
        """Return why the molecule is refused, "" when it is not.

        Args:
            mol: the molecule.
            smiles: the same, canonical.
            start: canonical SMILES of the start it descends from.
        """

    @property
    def text(self) -> str:
        """What a molecule that breaks it is counted under."""


@lru_cache(maxsize=4096)
def _start(smiles: str) -> Chem.Mol:
    return Chem.MolFromSmiles(smiles)


@dataclass(frozen=True)
class SimilarTo:
    """Tanimoto similarity (Morgan radius 2, 2,048 bits) to ``reference``, a SMILES or `START`, between two values."""

    reference: str
    low: float = 0.0
    high: float = 1.0

    def broken(self, mol: Chem.Mol, smiles: str, start: str) -> str:
        """Return the similarity when it is outside."""
        reference = start if self.reference == START else self.reference
        near = tanimoto(morgan([smiles]), morgan([reference]))[0, 0]
        # In the precision of the similarity: 7 common bits of 10 are .7 there, and not a little less.
        fine = np.float32(self.low) <= near <= np.float32(self.high)
        return "" if fine else f"similarity {near:.3f} to {reference}"

    @property
    def text(self) -> str:
        """What is asked, for a count of what was refused."""
        return f"similarity to {self.reference} outside {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Contains:
    """A substructure that must be there, or must not; chirality in the SMARTS counts."""

    smarts: str
    forbidden: bool = False

    def broken(self, mol: Chem.Mol, smiles: str, start: str) -> str:
        """Return the SMARTS when it is missing, or there though forbidden."""
        if mol.HasSubstructMatch(_query(self.smarts), useChirality=True) != self.forbidden:
            return ""
        return self.text

    @property
    def text(self) -> str:
        """What is wrong without it, or with it."""
        return f"{'contains' if self.forbidden else 'lacks'} {self.smarts}"


@lru_cache(maxsize=256)
def _query(smarts: str) -> Chem.Mol:
    return compile_smarts(smarts)


@dataclass(frozen=True)
class Between:
    """A computed property between two values, both included."""

    name: str
    low: float
    high: float

    def broken(self, mol: Chem.Mol, smiles: str, start: str) -> str:
        """Return the value when it is outside or cannot be computed."""
        function: Callable[[Chem.Mol], float] = ORACLES[self.name]
        value = float(function(mol))
        return "" if self.low <= value <= self.high else f"{self.name} {value:.4g}"

    @property
    def text(self) -> str:
        """What is asked, for a count of what was refused."""
        return f"{self.name} outside {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class NoAlerts:
    """No structural alert of the sets."""

    sets: tuple[str, ...]

    def broken(self, mol: Chem.Mol, smiles: str, start: str) -> str:
        """Return how many alerts there are."""
        found = CountAlerts(self.sets)(smiles)
        return f"{found:g} alerts of {', '.join(self.sets)}" if found else ""

    @property
    def text(self) -> str:
        """What is asked, for a count of what was refused."""
        return f"alerts of {', '.join(self.sets)}"


@dataclass(frozen=True)
class StereoKept:
    """The stereochemistry of the start, as far as the molecule has it (`molvae.optimize.goal_stereo`)."""

    def broken(self, mol: Chem.Mol, smiles: str, start: str) -> str:
        """Return what was lost."""
        return lost_stereo(_start(start), mol)

    @property
    def text(self) -> str:
        """What is asked, for a count of what was refused."""
        return "stereochemistry of the start lost"


_COST: tuple[type, ...] = (Contains, Between, SimilarTo, NoAlerts, StereoKept)
"""Cheap ones are looked at first."""

_REMEMBERED = 100_000


class Constraints:
    """All constraints of a goal; remembers what it said of a molecule, because searches ask twice.

    Attributes:
        broken_by: how many molecules each constraint was the first to refuse, by its text.
    """

    def __init__(self, constraints: Sequence[Constraint] = ()) -> None:
        self.all = tuple(sorted(constraints, key=lambda one: _COST.index(type(one))))
        self._said: dict[tuple[str, str], str] = {}
        self.broken_by: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.all)

    def broken(self, smiles: str, start: str = "") -> str:
        """Return why a molecule is refused, "" when it is allowed.

        Args:
            smiles: canonical SMILES.
            start: the start it descends from, canonical; "" for a start itself, which is compared with itself.

        >>> Constraints([Contains("c1ccccc1"), Between("logp", 0, 3)]).broken("CCO")
        'lacks c1ccccc1'
        """
        if (smiles, start) not in self._said:
            if len(self._said) >= _REMEMBERED:
                self._said.clear()
            self._said[smiles, start] = self._look(smiles, start)
        return self._said[smiles, start]

    def _look(self, smiles: str, start: str) -> str:
        mol = read(smiles) if self.all else None
        if isinstance(mol, Rejected):
            return f"not a molecule ({mol.reason})"
        for constraint in self.all:
            why = constraint.broken(mol, smiles, start or smiles)
            if why:
                self.broken_by[constraint.text] += 1
                return why
        return ""
