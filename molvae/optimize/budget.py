"""Count what is paid for: score each molecule once, never more than the budget, and remember it.

In: SMILES, in any writing, with repeats. Out: one score per SMILES, NaN where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from molvae.chem.rejected import Rejected
from molvae.chem.standardize import standardize
from molvae.errors import InputError, MolvaeError, OracleError
from molvae.optimize.journal import Journal
from molvae.optimize.oracles import Oracle
from molvae.optimize.worker import answer

FEWEST_JUDGED = 8
"""Smaller batches are judged together with the next one: one failure of one is no sign of a broken oracle."""

FEWEST_AT_FIRST = 4
"""The same, as long as no molecule has a score yet."""


@dataclass(frozen=True)
class Call:
    """One molecule paid for: the number of the call from 1, its canonical SMILES, its score (NaN = failed).

    ``raw`` holds the values behind the score, by name, for oracles that tell them.
    """

    number: int
    smiles: str
    score: float
    raw: Mapping[str, float] = field(default_factory=dict)


@lru_cache(maxsize=1000)
def _canonical(smiles: str) -> str:
    # The search and the budget both ask, about the same molecules in one step.
    molecule = standardize(smiles)
    return "" if isinstance(molecule, Rejected) else molecule.smiles


class BudgetedOracle:
    """An oracle that is asked about every molecule once and ``budget`` times at most.

    Molecules are told apart by canonical SMILES. A failed molecule counts and is not asked about again. Scores found in
    the journal count like the calls they were, without being paid again, so a resumed search runs the same course;
    should it stray all the same, `settle` brings what it did not come across to the calls.

    Args:
        oracle: what scores.
        budget: unique calls allowed.
        journal: where calls are kept; None keeps them in memory only.
        guard: a context the oracle's call runs in, for instance one that lets a signal interrupt it.

    Attributes:
        calls: what was paid for, in order.
        n_replayed: of them, scores out of the journal.
        strayed: whether a new molecule was asked for before all of the journal had come: the course is another one.

    Raises:
        InputError: when the budget is below 1.
    """

    def __init__(
        self, oracle: Oracle, budget: int, journal: Journal | None = None,
        guard: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:  # fmt: skip
        if budget < 1:
            raise InputError(f"A budget of {budget} calls is not positive.", "Give --budget 1 or more.")
        self.oracle, self.budget = oracle, budget
        self.calls: list[Call] = []
        self.n_replayed = 0
        self._journal, self._guard = journal, guard
        self._prepaid = dict(journal.entries) if journal is not None else {}
        self._raw = dict(journal.raw) if journal is not None else {}
        self._known: dict[str, float] = {}
        self._asked = self._failed = 0
        self.strayed = False
        self._problem = ""

    @property
    def n_calls(self) -> int:
        """Unique calls made so far, failures and replayed ones included; never above the budget."""
        return len(self.calls)

    @property
    def left(self) -> int:
        """Unique calls still allowed."""
        return max(self.budget - self.n_calls, 0)

    @property
    def payable(self) -> int:
        """Unique calls allowed that are not those of the journal still to come; below ``left`` while replaying."""
        return max(self.left - len(self._prepaid), 0)

    @property
    def problem(self) -> str:
        """Why the latest call that failed gave no score, as far as is known."""
        return self.oracle.problem or self._problem

    def settle(self) -> int:
        """Take what the journal holds beyond this search as calls, as far as the budget goes; return how many."""
        left = list(self._prepaid)[: self.left]
        for one in left:
            self._known[one] = score = self._prepaid.pop(one)
            self.calls.append(Call(len(self.calls) + 1, one, score, self._raw.pop(one, {})))
        self.n_replayed += len(left)
        return len(left)

    @property
    def n_failed(self) -> int:
        """Calls that gave no score."""
        return sum(math.isnan(call.score) for call in self.calls)

    def canonical(self, smiles: str) -> str:
        """Return the canonical SMILES, "" when it is no molecule."""
        return _canonical(smiles)

    def score(self, smiles: Sequence[str]) -> NDArray[np.float64]:
        """Score molecules, paying for the new ones in their order until the budget is spent.

        Args:
            smiles: N SMILES in any writing; "" and what is no molecule cost nothing.

        Returns:
            float64 array (N,): NaN where there is no molecule, no budget left, or the oracle failed.

        Raises:
            OracleError: when more than half of a batch failed; what was paid is in the journal.
        """
        molecules = [self.canonical(one) for one in smiles]
        new = [one for one in dict.fromkeys(molecules) if one and one not in self._known][: self.left]
        paid = {one: self._prepaid.pop(one) for one in new if one in self._prepaid}
        self.n_replayed += len(paid)
        fresh = [one for one in new if one not in paid]
        self.strayed |= bool(fresh and self._prepaid)
        # Prepaid scores that this search has not come across were calls too.
        fresh = fresh[: max(self.payable - len(paid), 0)]
        paid.update(self._pay(fresh))
        for one in new:
            if one in paid:
                self._known[one] = paid[one]
                self.calls.append(Call(len(self.calls) + 1, one, paid[one], self._raw.pop(one, {})))
        self._judge()
        return np.array([self._known.get(one, math.nan) for one in molecules], dtype=np.float64)

    def _pay(self, fresh: list[str]) -> dict[str, float]:
        if not fresh:
            return {}
        with self._guard():
            values = self._ask(fresh)
        told: dict[str, dict[str, float]] = getattr(self.oracle, "raw", {})
        raw = {one: told.pop(one) for one in fresh if one in told}
        self._raw.update(raw)
        if self._journal is not None:
            self._journal.append(list(zip(fresh, values, strict=True)), raw)
        self._asked += len(fresh)
        self._failed += sum(map(math.isnan, values))
        return dict(zip(fresh, values, strict=True))

    def _ask(self, molecules: list[str]) -> list[float]:
        """Ask the oracle; when a batch fails as a whole, ask once more molecule by molecule."""
        reply = answer(self.oracle, molecules, passing=(MolvaeError,))
        if "error" not in reply:
            self._problem = reply.get("odd", self._problem)
            return [math.nan if score is None else score for score in reply["scores"]]
        self._problem = reply["error"]
        if len(molecules) == 1:
            return [math.nan]
        return [score for one in molecules for score in self._ask([one])]

    def _judge(self) -> None:
        """Stop a search whose oracle mostly fails."""
        scored = self.n_failed < self.n_calls
        if self._asked < (FEWEST_JUDGED if scored else FEWEST_AT_FIRST):
            return
        failed, asked = self._failed, self._asked
        self._failed = self._asked = 0
        if 2 * failed > asked:
            why = self.problem or "its scores are not finite numbers"
            raise OracleError(
                f"{self.oracle.name} gave no score for {failed} of {asked} molecules: {why}.",
                "Mend the oracle (or raise --timeout) and start again in a new directory.",
            )
