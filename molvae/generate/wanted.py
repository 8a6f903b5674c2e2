"""Say which molecules are wanted, and keep count of what becomes of every latent drawn.

In: molecules in the order drawn. Out: those that are wanted, until there are enough, and `Counts`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from molvae.chem.properties import check_names
from molvae.errors import InputError
from molvae.generate.chemistry import Molecule

PROPERTIES = ("logp", "qed", "sa", "mol_weight", "tpsa")
"""Computed when nothing else is asked for."""


@dataclass(frozen=True)
class Wanted:
    """Which molecules are wanted, and what is said about each.

    Args:
        unique: give each molecule once.
        novel_to: canonical SMILES that are not wanted, such as the training set.
        properties: columns to compute, keys of `molvae.chem.properties.PROPERTIES`.
        alerts: name PAINS, BRENK, NIH and MOSES alerts (about 3 ms a molecule and core).
        keep_failed: report what is no molecule too, with its state and no SMILES; empty strings never.
        prior_temperature: scales latents about the origin; below 1 more ordinary molecules.

    Raises:
        UnknownNameError: when a property does not exist.
        InputError: when prior_temperature is not above 0.
    """

    unique: bool = False
    novel_to: Collection[str] = frozenset()
    properties: Sequence[str] = PROPERTIES
    alerts: bool = True
    keep_failed: bool = False
    prior_temperature: float = 1.0

    def __post_init__(self) -> None:
        check_names(self.properties)
        if not 0 < self.prior_temperature < math.inf:
            raise InputError(
                f"prior_temperature = {self.prior_temperature} is not allowed.", "Choose a number above 0, such as 1."
            )


ANY = Wanted()


@dataclass
class Counts:
    """What became of every latent drawn: ``drawn`` is the sum of the others."""

    drawn: int = 0
    ok: int = 0
    empty: int = 0
    too_long: int = 0
    invalid: int = 0
    duplicates: int = 0
    known: int = 0


@dataclass
class Collector:
    """Accept molecules in the order drawn until there are enough."""

    n: int
    wanted: Wanted
    counts: Counts = field(default_factory=Counts)
    rows: list[tuple[Molecule, float]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    @property
    def missing(self) -> int:
        """How many molecules are still wanted."""
        return self.n - len(self.rows)

    def add(self, molecule: Molecule, nats: float) -> None:
        """Count one molecule, and keep it if it is wanted."""
        self.counts.drawn += 1
        kind = self._kind(molecule)
        setattr(self.counts, kind, getattr(self.counts, kind) + 1)
        if kind == "ok" or (self.wanted.keep_failed and kind in ("too_long", "invalid")):
            self.rows.append((molecule, nats))

    def _kind(self, molecule: Molecule) -> str:
        if molecule.smiles is None:
            return {"empty": "empty", "too-long": "too_long"}.get(molecule.state, "invalid")
        if molecule.smiles in self.wanted.novel_to:
            return "known"
        if self.wanted.unique:
            if molecule.smiles in self.seen:
                return "duplicates"
            self.seen.add(molecule.smiles)
        return "ok"


def shortfall(have: int, n: int, counts: Mapping[str, int]) -> str:
    """Say in one line that there are fewer molecules than wanted, and why."""
    parts = [f"{count} {name.replace('_', '-')}" for name, count in counts.items() if name != "drawn" and count]
    return f"Only {have} of {n} molecules after {counts['drawn']} draws ({', '.join(parts)})."
