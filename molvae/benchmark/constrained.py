"""Improve given molecules while they stay what they are: one search for each lead and similarity.

In: leads, an objective, thresholds of similarity, methods, seeds. Out: what `molvae.benchmark.stored_runs` needs to
run and store them; gains.

Protocol: a search sets out from one lead and scores 1,000 unique molecules at most, the lead included, none of which
is less similar to the lead than the threshold (Tanimoto, Morgan radius 2, 2,048 bits). The gain is the objective of
the best molecule less that of the lead; it is 0 when nothing is better.

Source: Jin et al. 2018, https://arxiv.org/abs/1802.04364 (800 leads); Jin et al. 2019,
https://arxiv.org/abs/1812.01070 (QED from .7-.8 to .9)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from molvae.benchmark.leads import Lead
from molvae.benchmark.stored_runs import Asked, Entry, check_runs, passes_moses
from molvae.chem.fingerprints import morgan, tanimoto
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read
from molvae.errors import InputError, UnknownNameError
from molvae.optimize.oracles import find_oracle
from molvae.optimize.result import Result

CALLS = 1000
OBJECTIVES = {"plogp": "logp_sa", "qed": "qed"}
"""Objective to oracle. The protocol's penalized logP is logP - SA: that is what the 800 leads' second column holds."""

SUCCESS = {"qed": 0.9}
"""Where only success counts, a search ends when its ten best have it on average."""

STANDARDISED = "plogp"
"""The oracle of penalized logP with every part standardised over ZINC250k and the ring part, as others report it."""

JUDGED = 100
"""Of the best molecules, so many are held against the MOSES filters, or fewer, when one passes sooner."""

MARKS = (100, 250, 500)
"""Calls after which the gain so far is noted."""


@dataclass(frozen=True)
class ConstrainedPlan:
    """Which leads are improved, and under what terms.

    Args:
        leads: the molecules.
        objective: a key of `OBJECTIVES`.
        thresholds: of similarity, each from 0 to 1.
        methods: keys of `molvae.optimize.registry.METHODS`.
        seeds: of all chance, each 0 or more.
        calls: unique calls allowed for each lead and threshold.
        options: the method's own settings.

    Raises:
        UnknownNameError: for an objective or method that does not exist.
        InputError: when something is missing, given twice or out of range.
    """

    figure: ClassVar[str] = "gain"
    resumable: ClassVar[bool] = False

    leads: tuple[Lead, ...]
    objective: str = "plogp"
    thresholds: tuple[float, ...] = (0.4, 0.6)
    methods: tuple[str, ...] = ("hybrid",)
    seeds: tuple[int, ...] = (0,)
    calls: int = CALLS
    options: str = ""

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            known = ", ".join(OBJECTIVES)
            raise UnknownNameError(f"This benchmark has no objective {self.objective!r}.", f"Known: {known}.")
        if not self.leads:
            raise InputError("There are no leads.", "Give molecules with --leads FILE.")
        check_runs("similarity", self.thresholds, self.methods, self.seeds, self.calls, self.options)
        if not all(0 <= threshold <= 1 for threshold in self.thresholds):
            raise InputError("A similarity is not between 0 and 1.", "Give --similarity 0.4,0.6, for instance.")

    @property
    def oracle(self) -> str:
        """The name of what is maximised."""
        return OBJECTIVES[self.objective]

    def entries(self) -> list[Entry]:
        """Return every run, lead after lead, so that what is there at any time is of the first leads."""
        return [
            Entry(self.task(number, threshold), method, seed)
            for seed in self.seeds
            for number in range(len(self.leads))
            for method in self.methods
            for threshold in self.thresholds
        ]

    @staticmethod
    def task(number: int, threshold: float) -> str:
        """Return the name of what is asked of a lead, counted from 0 here and from 1 in the name.

        >>> ConstrainedPlan.task(0, 0.4)
        'lead0001-0.4'
        """
        return f"lead{number + 1:04d}-{threshold:g}"

    def _parts(self, entry: Entry) -> tuple[Lead, float]:
        number, threshold = entry.task.removeprefix("lead").split("-")
        return self.leads[int(number) - 1], float(threshold)

    def terms(self, entry: Entry) -> dict[str, Any]:
        """Return the objective, the lead and the threshold."""
        lead, threshold = self._parts(entry)
        return {"objective": self.objective, "lead": lead.smiles, "similarity": threshold}

    def asked(self, entry: Entry) -> Asked:
        """Return the objective, from one lead."""
        lead, threshold = self._parts(entry)
        return Asked(find_oracle(self.oracle), (lead.smiles,), threshold, SUCCESS.get(self.objective))

    def account(self, entry: Entry, result: Result) -> dict[str, Any]:
        """Return the gains and the molecules that have them."""
        lead, _ = self._parts(entry)
        return account(result, lead.smiles, self.oracle)


def account(result: Result, lead: str, oracle: str) -> dict[str, Any]:
    """Return what is stored of one search: gains, the best molecule, and the best that passes the MOSES filters.

    The lead's own score, the best one's and their similarity are computed here from the two SMILES.

    Args:
        result: of the search.
        lead: where it set out from.
        oracle: the name of what was maximised.
    """
    ranked = result.molecules.dropna(subset=["score"]).sort_values("score", ascending=False, kind="stable")
    # The lead is the first that was scored; when nothing is better it is the result.
    best = str(ranked["smiles"].iloc[0]) if len(ranked) else lead
    clean = next((one for one in ranked["smiles"].head(JUDGED) if passes_moses(str(one))), None)
    before, after = _scores(oracle, [lead, best])
    standard = _scores(STANDARDISED, [lead, best])
    bits = morgan([lead, best])
    return {
        "lead_score": before,
        "best": best,
        "score": after,
        "gain": max(after - before, 0.0),
        "similarity_of_best": float(tanimoto(bits[:1], bits[1:])[0, 0]),
        "gain_standardised": standard[1] - standard[0],
        "gain_after": _gains(result.molecules, before),
        "atoms": [_atoms(lead), _atoms(best)],
        "lead_passes_moses_filters": passes_moses(lead),
        "passes_moses_filters": passes_moses(best),
        "best_passing": clean,
        "gain_passing": None if clean is None else _scores(oracle, [str(clean)])[0] - before,
    }


def _scores(oracle: str, smiles: list[str]) -> list[float]:
    return [float(score) for score in find_oracle(oracle)(smiles)]


def _gains(molecules: pd.DataFrame, before: float) -> dict[str, float]:
    """Return the gain after each of `MARKS` calls, as far as there were so many."""
    scores = np.nan_to_num(molecules["score"].to_numpy(dtype=np.float64), nan=-np.inf)
    marks = [mark for mark in MARKS if mark <= len(scores)]
    return {str(mark): max(float(scores[:mark].max()) - before, 0.0) for mark in marks}


def _atoms(smiles: str) -> int:
    mol = read(smiles)
    return 0 if isinstance(mol, Rejected) else int(mol.GetNumHeavyAtoms())


@dataclass(frozen=True)
class Agreement:
    """How well an objective gives the values that came with the leads.

    Attributes:
        n: leads with a value.
        same: of them, those whose difference is below 1e-6.
        largest: the largest difference.
        worst: the lead it belongs to, "" without any.
    """

    n: int
    same: int
    largest: float
    worst: str


def agreement(leads: Sequence[Lead], oracle: str) -> Agreement:
    """Compare the values that came with leads to an oracle's; a lead without a score differs infinitely.

    >>> agreement([Lead("CCO", 46.069), Lead("C", None)], "mol_weight").same
    1
    """
    given = [lead for lead in leads if lead.value is not None]
    if not given:
        return Agreement(0, 0, 0.0, "")
    values = np.array([lead.value for lead in given], dtype=np.float64)
    scores = np.array(_scores(oracle, [lead.smiles for lead in given]))
    apart = np.nan_to_num(np.abs(scores - values), nan=np.inf)
    worst = int(np.argmax(apart))
    return Agreement(len(given), int((apart < 1e-6).sum()), float(apart[worst]), given[worst].smiles)
