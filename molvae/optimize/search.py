"""Search: propose, decode, score, tell, until the budget is spent or something else ends it.

In: a `LatentSpace`, a `BudgetedOracle`, `Settings`. Out: calls with their parents, as a `Result`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import nlargest

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from molvae.chem.fingerprints import morgan, tanimoto
from molvae.errors import InputError
from molvae.optimize.budget import BudgetedOracle
from molvae.optimize.goal import PARETO, GoalOracle
from molvae.optimize.goal_constraints import Constraints, Contains
from molvae.optimize.interrupt import Interrupted, Stopper
from molvae.optimize.method import Method, Proposal, Screened, Several, Starts
from molvae.optimize.registry import drawn_kept, find_method, make_method, parse_options
from molvae.optimize.result import Found, Front, Result, best_table, molecules_table, pareto_front, top_mean
from molvae.optimize.space import LatentSpace
from molvae.optimize.starts import START_COLUMNS, Start, decode_proposal, drawn_starts, given_starts
from molvae.optimize.tasks_terms import compile_smarts

DRAWN = 32
"""Molecules drawn from the prior, and scored, when none are given."""

LEADERS = 5

PATIENCE = 200
"""Rounds of proposals in a row without one new molecule after which a search ends; a method may name its own."""


@dataclass(frozen=True)
class Progress:
    """How far a search is; scores are the oracle's own, NaN while there is none.

    Attributes:
        n_calls: unique calls so far.
        budget: how many there may be.
        best: the best score.
        top10: mean of the ten best.
        leaders: the best molecules that descend from others, `LEADERS` at most, best first: SMILES and score.
    """

    n_calls: int
    budget: int
    best: float
    top10: float
    leaders: tuple[tuple[str, float], ...] = ()


ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True)
class Settings:
    """What decides the course of a search, together with the model, the oracle and the starts.

    Args:
        method: a key of `molvae.optimize.registry.METHODS`.
        budget: unique oracle calls allowed.
        seed: of all chance.
        minimize: look for low scores.
        min_similarity: Tanimoto similarity to its start that a molecule must have.
        options: the method's own settings, ``name=value`` separated by commas.
        enough: the search ends when the mean of its ten best is so high (with ``minimize``, so low); None never.
        keep: SMARTS that every molecule must contain; "" asks for nothing.

    Raises:
        InputError: when a value is out of range, or ``keep`` does not parse.
        UnknownNameError: when there is no such method.
    """

    method: str = "hybrid"
    budget: int = 500
    seed: int = 0
    minimize: bool = False
    min_similarity: float = 0.0
    options: str = ""
    enough: float | None = None
    keep: str = ""

    def __post_init__(self) -> None:
        find_method(self.method)
        parse_options(self.method, self.options)
        if self.keep:
            compile_smarts(self.keep)
        if self.budget < 1:
            raise InputError(f"A budget of {self.budget} calls is not positive.", "Give --budget 1 or more.")
        if not 0 <= self.min_similarity <= 1:
            raise InputError(f"A similarity of {self.min_similarity:g} does not exist.", "Give a value from 0 to 1.")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"A seed of {self.seed} cannot be used.", "Give --seed 0 or more.")


def _generators(seed: int) -> list[np.random.Generator]:
    """Return one generator for the starts and one for the method."""
    return np.random.default_rng(seed).spawn(2)


def find_starts(space: LatentSpace, given: Sequence[str], settings: Settings) -> list[Start]:
    """Return the user's molecules as starts, or draws from the prior when there are none; asks no oracle.

    Raises:
        InputError: when there are no usable starts, or more than the budget pays for, or all lack what is to be kept.
    """
    if given:
        starts = given_starts(space, given)
        _check_kept(starts, settings.keep)
    else:
        # Cut, not drawn fewer, so that a run resumed with a larger budget takes the same course.
        starts = drawn_starts(space, DRAWN, _generators(settings.seed)[0])[: settings.budget]
    usable = sum(not start.problem for start in starts)
    if usable > settings.budget:
        raise InputError(
            f"{usable} start molecules need more calls than the budget of {settings.budget}.",
            "Raise --budget or give fewer molecules.",
        )
    return starts


def _check_kept(starts: Sequence[Start], keep: str) -> None:
    """Note which starts lack ``keep``; refuse them when none is left.

    Raises:
        InputError: when no start that can be used contains it.
    """
    if not keep:
        return
    usable = [start for start in starts if not start.problem]
    lacking = Constraints([Contains(keep)])
    for start in usable:
        start.problem = lacking.broken(start.smiles)
    if all(start.problem for start in usable):
        raise InputError(
            f"No start molecule contains {keep}.",
            "Give a SMARTS of a part that the lead has; aromatic atoms are small.",
        )


class Search:
    """The state of one search and its steps: `go`, then `result`."""

    def __init__(
        self, space: LatentSpace, oracle: BudgetedOracle, starts: list[Start], settings: Settings,
        progress: ProgressCallback | None = None, constraints: Constraints | None = None,
    ) -> None:  # fmt: skip
        self.space, self.oracle, self.starts, self.settings, self.progress = space, oracle, starts, settings, progress
        self.constraints = constraints or Constraints()
        self.sign = -1.0 if settings.minimize else 1.0
        self.found: list[Found] = []
        self.n_proposed = self.n_empty = self.n_dissimilar = 0
        self._judged: dict[tuple[str, int], bool] = {}
        self._unlike: Counter[str] = Counter()

    def begin(self) -> Method:
        """Score the starts and return the method, ready to search from them."""
        usable = [start for start in self.starts if not start.problem]
        fine = [start for start in usable if start.given or not self.constraints.broken(start.smiles)]
        # Of drawn starts those that the goal refuses are left out, unless it refuses them all.
        usable = fine or usable
        try:
            for start, score in zip(usable, self.oracle.score([start.smiles for start in usable]), strict=True):
                start.score = float(score)
        finally:
            self.record([""] * len(self.oracle.calls), [""] * len(self.oracle.calls))
        drawn = not any(start.given for start in usable)
        if drawn:
            usable.sort(key=lambda start: math.inf if math.isnan(start.score) else -self.sign * start.score)
            usable = usable[: drawn_kept(self.settings.method)]
        starts = Starts(
            tuple(start.smiles for start in usable), np.array([start.mean for start in usable]),
            np.array([start.std for start in usable]), self.sign * np.array([start.score for start in usable]), drawn,
        )  # fmt: skip
        self._bits = morgan(starts.smiles)
        self._names = starts.smiles
        self._from = usable
        chance = _generators(self.settings.seed)[1]
        method = make_method(self.settings.method, self.space, starts, chance, self.settings.options)
        if isinstance(method, Screened) and (self.settings.min_similarity > 0 or self.constraints):
            method.screen = self.allowed
        if isinstance(method, Several) and self._goal() is not None:
            method.objectives = self.objectives
        return method

    def _goal(self) -> GoalOracle | None:
        """Return the goal when it asks for a front."""
        goal = self.oracle.oracle
        return goal if isinstance(goal, GoalOracle) and goal.mean == PARETO else None

    def record(self, parents: Sequence[str], starts: Sequence[str]) -> None:
        """Note the calls that are new, with a parent and a start for each."""
        new = self.oracle.calls[len(self.found) :]
        for call, parent, start in zip(new, parents, starts, strict=True):
            self.found.append(Found(call.number, call.smiles, parent, start, call.score, call.raw))
        if self.progress is not None:
            scores = [one.score for one in self.found]
            minimize = self.settings.minimize
            best, top = top_mean(scores, 1, minimize), top_mean(scores, 10, minimize)
            self.progress(Progress(self.oracle.n_calls, self.oracle.budget, best, top, self._leaders()))

    def _leaders(self) -> tuple[tuple[str, float], ...]:
        made = ((one.smiles, one.score) for one in self.found if one.start and not math.isnan(one.score))
        return tuple(nlargest(LEADERS, made, key=lambda one: self.sign * one[1]))

    def step(self, method: Method) -> int:
        """Make one round of proposals and return how many calls it took."""
        proposal = method.ask(method.batch)
        smiles = self._molecules(proposal)
        allowed = self.allowed(smiles, proposal.starts.tolist())
        self.n_proposed += len(smiles)
        self.n_empty += smiles.count("")
        self.n_dissimilar += len(smiles) - smiles.count("") - int(allowed.sum())
        before = self.oracle.n_calls
        paid = [one if fine else "" for one, fine in zip(smiles, allowed, strict=True)]
        try:
            scores = self.oracle.score(paid)
        finally:
            first = {one: row for row, one in reversed(list(enumerate(paid))) if one}
            rows = [first[call.smiles] for call in self.oracle.calls[before:]]
            self.record([proposal.parents[row] for row in rows], [self._names[proposal.starts[row]] for row in rows])
        method.tell(proposal, smiles, self.sign * np.where(allowed, scores, np.nan))
        return self.oracle.n_calls - before

    def objectives(self, smiles: Sequence[str]) -> NDArray[np.float64]:
        """Return the goal's objectives (n, M) of n molecules that were scored, higher is better; NaN for others."""
        goal = self._goal()
        assert goal is not None
        raw = {call.smiles: call.raw for call in self.oracle.calls}
        return self.sign * goal.objectives([raw.get(one, {}) for one in smiles])

    def _molecules(self, proposal: Proposal) -> list[str]:
        """Return n canonical SMILES, "" where there is no molecule."""
        if proposal.smiles is None:
            return decode_proposal(self.space, proposal, self._from)
        return [self.oracle.canonical(one) if one else "" for one in proposal.smiles]

    def allowed(self, smiles: Sequence[str], starts: Sequence[int]) -> NDArray[np.bool_]:
        """Say which of n molecules are as near to their start as the settings ask and keep the constraints, (n,) bool.

        "" never is.
        """
        if self.settings.min_similarity == 0 and not self.constraints:
            return np.array([bool(one) for one in smiles], dtype=bool)
        pairs = list(zip(smiles, map(int, starts), strict=True))
        # A method that screens asks about what it proposes before the search does.
        new = [pair for pair in dict.fromkeys(pairs) if pair[0] and pair not in self._judged]
        self._judged.update(zip(new, self._judge(new), strict=True))
        return np.array([bool(pair[0]) and self._judged[pair] for pair in pairs], dtype=bool)

    def _judge(self, pairs: Sequence[tuple[str, int]]) -> list[bool]:
        """Say which of n molecules, each with the start it descends from, keep what the settings and the goal ask."""
        fine = [True] * len(pairs)
        if self.settings.min_similarity > 0:
            bits = morgan([one for one, _ in pairs])
            for row, (_, start) in enumerate(pairs):
                near = tanimoto(bits[row : row + 1], self._bits[start : start + 1])[0, 0]
                fine[row] = bool(near >= self.settings.min_similarity)
            self._unlike[f"less than {self.settings.min_similarity:g} similar to the start"] += fine.count(False)
        if self.constraints:
            for row, (one, start) in enumerate(pairs):
                fine[row] = fine[row] and not self.constraints.broken(one, self._names[start])
        return fine

    def go(self, stopper: Stopper) -> str:
        """Search until something ends it, and return what did."""
        try:
            method = self.begin()
            idle = 0
            while self._may_pay() and not stopper.requested:
                idle = 0 if self.step(method) else idle + 1
                if idle >= getattr(method, "patience", PATIENCE):
                    return "nothing new"
                if self._is_enough():
                    return "enough"
        except Interrupted:
            return stopper.requested
        return stopper.requested or "budget"

    def _may_pay(self) -> bool:
        """Say whether a call is left; of a search that strayed from its journal, one beside those of the journal."""
        return bool(self.oracle.payable if self.oracle.strayed else self.oracle.left)

    def _is_enough(self) -> bool:
        enough = self.settings.enough
        if enough is None or self.oracle.n_calls < 10:
            return False
        best = top_mean([call.score for call in self.oracle.calls], 10, self.settings.minimize)
        return self.sign * best >= self.sign * enough

    def result(self, stopped: str) -> Result:
        """Return the tables of what was found so far, and of what the journal holds beyond that, without parents."""
        if unmet := self.oracle.settle():
            self.record([""] * unmet, [""] * unmet)
        # What a signal left unmet is met when the run goes on.
        notes = self._notes(unmet if self.oracle.strayed else 0)
        starts = pd.DataFrame([start.facts() for start in self.starts], columns=list(START_COLUMNS))
        best = best_table(self.found, self.settings.minimize, self._refused())
        return Result(
            best, molecules_table(self.found), starts, self.oracle.n_calls, stopped, front=self._front(),
            notes=[*notes, *self._cautions([str(one) for one in best["smiles"]])],
        )  # fmt: skip

    def _notes(self, unmet: int) -> list[str]:
        """Return what the user should know besides the tables, ``unmet`` calls of the journal among it."""
        notes = []
        if failed := self.oracle.n_failed:
            why = f": {self.oracle.problem}" if self.oracle.problem else ""
            notes.append(f"{failed:,} of {self.oracle.n_calls:,} molecules have no score{why}")
        if unmet:
            notes.append(
                f"the search took another course than before (another version, device or number of threads?): "
                f"{unmet:,} molecules scored before were not met again; in the tables they have no parent"
            )
        refusals = self.refusals()
        if refusals.total() and not any(one.start for one in self.found):
            most = ", ".join(f"{why} ({count:,})" for why, count in refusals.most_common(2))
            notes.append(f"no molecule was allowed: {refusals.total():,} were refused, most often: {most}")
        usable = [start.smiles for start in self.starts if start.given and not start.problem]
        bare = len(set(usable) - {one.start for one in self.found})
        if 0 < bare < len(usable):
            calls = self.oracle.n_calls
            notes.append(f"{bare:,} of {len(usable):,} start molecules have no descendant after {calls:,} calls")
        refused = self._refused()
        if starting := sum(bool(start.given) and start.smiles in refused for start in self.starts):
            notes.append(f"{starting:,} start molecules break a constraint themselves: scored, but not among the best")
        return notes

    def _cautions(self, best: list[str]) -> list[str]:
        """Return what the oracle itself says of its scores of the best molecules."""
        warn: Callable[[list[str]], str] = getattr(self.oracle.oracle, "caution", lambda smiles: "")
        return [caution] if best and (caution := warn(best)) else []

    def refusals(self) -> Counter[str]:
        """Return why molecules were refused, and how many: each counted by the first thing that it breaks."""
        return self._unlike + self.constraints.broken_by

    def _front(self) -> Front | None:
        goal = self._goal()
        if goal is None:
            return None
        names = [component.name for component in goal.components]
        values = goal.objectives([one.raw for one in self.found])
        return pareto_front(self.found, names, values, self.settings.minimize, self._refused())

    def _refused(self) -> set[str]:
        """Return the starts that break a constraint: they are scored all the same, as nothing else is."""
        return {start.smiles for start in self.starts if start.smiles and self.constraints.broken(start.smiles)}

    def counts(self) -> dict[str, int]:
        """Return how often what happened."""
        return {
            "calls": self.oracle.n_calls, "failed": self.oracle.n_failed, "replayed": self.oracle.n_replayed,
            "proposed": self.n_proposed, "no_molecule": self.n_empty,
            "refused" if self.constraints else "dissimilar": self.n_dissimilar,
            "starts": len(self.starts), "starts_exact": sum(start.exact for start in self.starts),
            "starts_repaired": sum(start.repaired for start in self.starts),
            "starts_unusable": sum(bool(start.problem) for start in self.starts),
            "starts_refused": len(self._refused()),
        }  # fmt: skip
