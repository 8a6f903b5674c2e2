"""Run the PMO protocol: search from the prior under a budget of unique calls, and account for it as PMO does.

In: tasks, methods, seeds. Out: what `molvae.benchmark.stored_runs` needs to run and store them; areas under curves.

Protocol: 10,000 unique oracle calls, molecules drawn from the prior included; the mean of the ten best is read every
100 calls, and the area under that curve, from 0 calls on, divided by the calls allowed is the score. A search that ends
early keeps its last value to the end. A molecule that the oracle fails on counts as a call with score 0.

Source: Gao et al. 2022, https://arxiv.org/abs/2206.12411; ``top_auc`` in ``main/optimizer.py`` of
https://github.com/wenhao-gao/mol_opt
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from molvae.benchmark.stored_runs import Asked, Entry, passes_moses
from molvae.benchmark.task_plan import TaskPlan
from molvae.chem.parallel import map_items
from molvae.errors import InputError
from molvae.optimize.oracles import find_oracle
from molvae.optimize.result import Result
from molvae.optimize.tasks import PMO

CALLS, EVERY, TOP = 10_000, 100, 10
ENOUGH = 1.0 - 1e-9
"""No task gives more than 1: once the ten best have it, the rest of the curve is known."""

JUDGED = 100
"""Of the best molecules, so many are held against the MOSES filters."""


def top_auc(scores: Sequence[float], top: int = TOP, every: int = EVERY, calls: int = CALLS) -> float:
    """Return the area under the curve of the ``top`` best scores over the calls, divided by ``calls``.

    The curve is 0 at 0 calls, is read after ``every``, 2 ``every``, ... calls and after the last one, runs straight in
    between, and stays where it is from the last call to ``calls``. Scores beyond ``calls`` are ignored; before there
    are ``top`` scores it is the mean of those there are.

    Args:
        scores: of unique molecules in the order of their calls; NaN counts as 0.
        top: how many of the best are averaged.
        every: calls between two readings.
        calls: calls allowed.

    Raises:
        InputError: when a number is not positive.

    >>> top_auc([1.0] * 100, calls=200)
    0.75
    """
    if min(top, every, calls) < 1:
        raise InputError("top, every and calls have to be positive.", "Give 1 or more.")
    area, before, done = 0.0, 0.0, 0
    for number, value in curve(scores[:calls], top, every):
        area += (number - done) * (value + before) / 2
        before, done = value, number
    return (area + (calls - done) * before) / calls


def curve(scores: Sequence[float], top: int = TOP, every: int = EVERY) -> list[tuple[int, float]]:
    """Return (calls, mean of the ``top`` best so far) after every ``every`` calls and after the last one.

    >>> curve([0.0, 1.0, 0.5], top=2, every=2)
    [(2, 0.5), (3, 0.75)]
    """
    values = np.nan_to_num(np.asarray(scores, dtype=np.float64))
    numbers = sorted({*range(every, len(values) + 1, every), len(values)} - {0})
    return [(number, float(np.mean(np.sort(values[:number])[-top:]))) for number in numbers]


@dataclass(frozen=True)
class Plan(TaskPlan):
    """The table of PMO, see `TaskPlan`; its tasks are those of `molvae.optimize.tasks.PMO`."""

    figure: ClassVar[str] = "auc_top10"
    known: ClassVar[tuple[str, ...]] = PMO
    unknown: ClassVar[str] = "PMO has no task {!r} that runs offline."

    tasks: tuple[str, ...] = PMO
    calls: int = CALLS

    def asked(self, entry: Entry) -> Asked:
        """Return the task's oracle; the search sets out from the prior."""
        return Asked(find_oracle(entry.task), enough=ENOUGH)

    def account(self, entry: Entry, result: Result) -> dict[str, Any]:
        """Return what PMO reports."""
        return account(result, self.calls)


def account(result: Result, calls: int) -> dict[str, Any]:
    """Return what PMO reports of a search: areas, averages of the best, and the curve of the ten best."""
    scores = result.molecules["score"].to_numpy(dtype=np.float64)
    order = np.argsort(-np.nan_to_num(scores), kind="stable")[:JUDGED]
    best = [str(result.molecules["smiles"].iloc[row]) for row in order]
    passes = map_items(passes_moses, best)
    facts: dict[str, Any] = {}
    for top in (1, 10, 100):
        facts[f"auc_top{top}"] = top_auc(scores.tolist(), top, calls=calls)
        facts[f"top{top}"] = curve(scores.tolist(), top)[-1][1] if len(scores) else 0.0
    facts["passes_moses_filters"] = sum(one is True for one in passes) / len(best) if best else 0.0
    facts["curve_top10"] = [[number, round(value, 6)] for number, value in curve(scores.tolist())]
    facts["best"] = best[:TOP]
    return facts
