"""Oracles that look at what a molecule is made of, and the benchmark tasks.

In: lists of SMILES. Out: one score from 0 to 1 per molecule, in order; NaN for what is no molecule.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field

from molvae.chem.alerts import CATALOGUES, catalogue_alerts, moses_alerts
from molvae.chem.fingerprints import morgan, tanimoto
from molvae.chem.parallel import map_items
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read, standardize
from molvae.errors import InputError, UnknownNameError
from molvae.optimize.tasks import raw_values, tasks
from molvae.optimize.tasks_terms import Matches, compile_smarts

SIMILARITY, SUBSTRUCTURE, ALERTS = "similarity:", "substructure:", "alerts:"
ALERT_SETS = (*CATALOGUES, "MOSES")
RAW_KEPT = 20_000

Raw = dict[str, dict[str, float]]
"""SMILES to the raw values behind its score, by name; whoever reads one takes it out."""


@dataclass(frozen=True)
class TaskOracle:
    """A task of GuacaMol or PMO (`molvae.optimize.tasks`); ``raw`` holds what its parts were for molecules scored.

    >>> TaskOracle("albuterol_similarity")(["CC(C)(C)NCC(O)c1ccc(O)c(CO)c1"])
    [1.0]
    """

    name: str
    problem: str = ""
    raw: Raw = field(default_factory=dict, compare=False, repr=False)

    @property
    def identity(self) -> str:
        """What the journal records."""
        return self.name

    def __call__(self, smiles: list[str]) -> list[float]:
        """Return one score per molecule."""
        task = tasks()[self.name]
        values = raw_values(self.name, smiles)
        if len(self.raw) > RAW_KEPT:
            self.raw.clear()
        names = [name for name, _, _ in task.parts]
        for one, row in zip(smiles, values.tolist(), strict=True):
            self.raw[one] = dict(zip(names, row, strict=True))
        scores: list[float] = task.combine(values).tolist()
        return scores


@dataclass(frozen=True)
class SimilarityOracle:
    """Tanimoto similarity to one molecule: Morgan fingerprints, radius 2, 2,048 bits.

    Raises:
        InputError: when ``reference`` is not a molecule.

    >>> SimilarityOracle("OCC")(["CCO", "C("])
    [1.0, nan]
    """

    reference: str
    problem: str = ""

    def __post_init__(self) -> None:
        molecule = standardize(self.reference)
        if isinstance(molecule, Rejected):
            raise InputError(f"similarity needs a molecule, and {self.reference!r} is not one ({molecule.reason}).",
                             "Give similarity:SMILES.")  # fmt: skip
        object.__setattr__(self, "reference", molecule.smiles)

    @property
    def name(self) -> str:
        """The oracle as it is written on the command line."""
        return f"{SIMILARITY}{self.reference}"

    @property
    def identity(self) -> str:
        """What the journal records."""
        return self.name

    def __call__(self, smiles: list[str]) -> list[float]:
        """Return one similarity per molecule, 0 to 1."""
        bits = morgan(smiles)
        values = tanimoto(bits, morgan([self.reference]))[:, 0]
        # Every molecule has an atom and so a bit; a row without any is none.
        return [float(value) if row.any() else math.nan for row, value in zip(bits, values, strict=True)]


@dataclass(frozen=True, slots=True)
class _MatchOne:
    smarts: str

    def __call__(self, smiles: str) -> float:
        mol = read(smiles)
        return math.nan if isinstance(mol, Rejected) else Matches(self.smarts)(mol)


@dataclass(frozen=True)
class SubstructureOracle:
    """1 for a molecule that contains the SMARTS, else 0.

    Raises:
        InputError: when the SMARTS does not parse.

    >>> SubstructureOracle("c1ccccc1")(["Cc1ccccc1", "CCO"])
    [1.0, 0.0]
    """

    smarts: str
    problem: str = ""

    def __post_init__(self) -> None:
        compile_smarts(self.smarts)

    @property
    def name(self) -> str:
        """The oracle as it is written on the command line."""
        return f"{SUBSTRUCTURE}{self.smarts}"

    @property
    def identity(self) -> str:
        """What the journal records."""
        return self.name

    def __call__(self, smiles: list[str]) -> list[float]:
        """Return 1, 0 or NaN per molecule."""
        rows = map_items(_MatchOne(self.smarts), smiles)
        return [math.nan if isinstance(row, Rejected) else row for row in rows]


@dataclass(frozen=True, slots=True)
class CountAlerts:
    """Count the structural alerts of a molecule in chosen sets; NaN for what is no molecule."""

    sets: tuple[str, ...]

    def __call__(self, smiles: str) -> float:
        """Return the number of alerts."""
        mol = read(smiles)
        if isinstance(mol, Rejected):
            return math.nan
        found = catalogue_alerts(mol) if set(self.sets) & set(CATALOGUES) else []
        found += moses_alerts(mol) if "MOSES" in self.sets else []
        return float(sum(alert.partition(":")[0] in self.sets for alert in found))


def alert_sets(names: str) -> tuple[str, ...]:
    """Return the sets of ``names`` (separated by commas), in the order of `ALERT_SETS`.

    Raises:
        UnknownNameError: when there is no such set.
    """
    wanted = [name.strip().upper() for name in names.split(",")]
    for name in wanted:
        if name not in ALERT_SETS:
            near = difflib.get_close_matches(name, ALERT_SETS, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise UnknownNameError(f"There is no set of alerts {name!r}.", f"{hint}Known: {', '.join(ALERT_SETS)}.")
    return tuple(name for name in ALERT_SETS if name in wanted)


@dataclass(frozen=True)
class AlertsOracle:
    """1 / (1 + structural alerts) in chosen sets: 1 for a molecule without any.

    Raises:
        UnknownNameError: when there is no such set.

    >>> AlertsOracle("PAINS,BRENK")(["CCO", "O=[N+]([O-])c1ccccc1"])
    [1.0, 0.3333333333333333]
    """

    sets: str = ",".join(ALERT_SETS)
    problem: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sets", ",".join(alert_sets(self.sets)))

    @property
    def name(self) -> str:
        """The oracle as it is written on the command line."""
        return f"{ALERTS}{self.sets}"

    @property
    def identity(self) -> str:
        """What the journal records."""
        return self.name

    def __call__(self, smiles: list[str]) -> list[float]:
        """Return one score per molecule."""
        rows = map_items(CountAlerts(tuple(self.sets.split(","))), smiles)
        return [math.nan if isinstance(row, Rejected) else 1.0 / (1.0 + row) for row in rows]
