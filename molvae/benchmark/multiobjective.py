"""Search for a front of two objectives, and measure the volume below it call by call.

In: problems, methods, seeds. Out: what `molvae.benchmark.stored_runs` needs to run and store them; hypervolumes.

Protocol: 2,000 unique calls from the prior; both objectives are from 0 to 1; the hypervolume is measured from (0, 0)
and noted every 100 calls. A method for one number maximises the geometric mean of the two, which is largest where the
volume below one molecule is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from molvae.benchmark.stored_runs import Asked, Entry, passes_moses
from molvae.benchmark.task_plan import TaskPlan
from molvae.optimize.goal import GEOMETRIC, PARETO, Component, GoalOracle
from molvae.optimize.pareto import front, hypervolume_curve
from molvae.optimize.registry import find_method
from molvae.optimize.result import Result
from molvae.optimize.tasks import raw_values, tasks
from molvae.optimize.transforms import Linear

CALLS, EVERY = 2000, 100

PROBLEMS: dict[str, tuple[tuple[str, str], ...]] = {
    "median2": (("median2", "tadalafil"), ("median2", "sildenafil")),
    "qed_celecoxib": (("qed", "qed"), ("celecoxib_rediscovery", "similarity_ecfp4")),
}
"""Problem to its objectives: a task of `molvae.optimize.tasks` and which of its raw values."""


@dataclass(frozen=True)
class PartOracle:
    """One raw value of a task, NaN for what is no molecule.

    >>> PartOracle("celecoxib_rediscovery", "similarity_ecfp4")(["C("])
    [nan]
    """

    task: str
    part: str
    problem: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.part} of {self.task}"

    @property
    def identity(self) -> str:
        """What the journal records."""
        return f"part:{self.task}:{self.part}"

    def __call__(self, smiles: list[str]) -> list[float]:
        """Return one value per molecule."""
        column = [name for name, _, _ in tasks()[self.task].parts].index(self.part)
        values: list[float] = raw_values(self.task, smiles)[:, column].tolist()
        return values


def goal_of(problem: str, mean: str) -> GoalOracle:
    """Return the two objectives of a problem as one oracle; ``mean`` is one of `molvae.optimize.goal.MEANS`."""
    parts = [Component(part, PartOracle(task, part), Linear()) for task, part in PROBLEMS[problem]]
    return GoalOracle(parts, mean, name=problem)


@dataclass(frozen=True)
class Plan(TaskPlan):
    """The table of problems with two objectives, see `TaskPlan`; its tasks are the keys of `PROBLEMS`."""

    figure: ClassVar[str] = "hypervolume"
    known: ClassVar[tuple[str, ...]] = tuple(PROBLEMS)
    unknown: ClassVar[str] = "There is no problem {!r}."
    what: ClassVar[str] = "problem"

    tasks: tuple[str, ...] = tuple(PROBLEMS)
    methods: tuple[str, ...] = ("hybrid", "ga", "random")
    calls: int = CALLS

    def asked(self, entry: Entry) -> Asked:
        """Return the goal: a front for a method that can look for one, else the geometric mean."""
        several = getattr(find_method(entry.method), "several", False)
        return Asked(goal_of(entry.task, PARETO if several else GEOMETRIC))

    def account(self, entry: Entry, result: Result) -> dict[str, Any]:
        """Return the volume, its curve and the front."""
        return account(result, [part for _, part in PROBLEMS[entry.task]])


def account(result: Result, parts: list[str]) -> dict[str, Any]:
    """Return what is stored of a search for the raw values called ``parts``: volume, curve, front, best mean.

    Args:
        result: with columns ``raw_...`` for every part.
        parts: the objectives, each from 0 to 1.
    """
    values = result.molecules[[f"raw_{part}" for part in parts]].to_numpy(dtype=np.float64)
    curve = hypervolume_curve(values, np.zeros(len(parts)), EVERY)
    rows = front(values).tolist()
    smiles = [str(result.molecules["smiles"].iloc[row]) for row in rows]
    found = [{"smiles": one, **_named(parts, values[row])} for one, row in zip(smiles, rows, strict=True)]
    return {
        "hypervolume": curve[-1][1] if curve else 0.0,
        "curve": [[calls, round(volume, 6)] for calls, volume in curve],
        "front": found,
        "passes_moses_filters": sum(map(passes_moses, smiles)) / len(smiles) if smiles else 0.0,
    }


def _named(parts: list[str], values: Any) -> Mapping[str, float]:
    return {part: round(float(value), 6) for part, value in zip(parts, values, strict=True)}
