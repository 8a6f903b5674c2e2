"""A table of tasks, methods and seeds: what is common to the plans of all benchmarks that search from the prior.

In: names and numbers. Out: the runs of the table; what a run searches for and reports is its benchmark's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from molvae.benchmark.stored_runs import Asked, Entry, check_runs
from molvae.errors import UnknownNameError
from molvae.optimize.result import Result


@dataclass(frozen=True)
class TaskPlan(ABC):
    """Which runs a table consists of, and under what terms.

    Args:
        tasks: names out of ``known``.
        methods: keys of `molvae.optimize.registry.METHODS`.
        seeds: of all chance, each 0 or more.
        calls: unique calls allowed.
        options: the method's own settings, for plans of one method.

    Attributes:
        figure, resumable: see `molvae.benchmark.stored_runs.Plan`.
        known: every task there is.
        unknown: what to say of one there is not.
        what: one of ``tasks`` in words.

    Raises:
        UnknownNameError: for a task or method that does not exist.
        InputError: when something is missing, given twice or out of range.
    """

    figure: ClassVar[str]
    resumable: ClassVar[bool] = True
    known: ClassVar[tuple[str, ...]]
    unknown: ClassVar[str]
    what: ClassVar[str] = "task"

    tasks: tuple[str, ...]
    methods: tuple[str, ...] = ("hybrid",)
    seeds: tuple[int, ...] = (0, 1, 2)
    calls: int = 10_000
    options: str = ""

    def __post_init__(self) -> None:
        for task in self.tasks:
            if task not in self.known:
                raise UnknownNameError(self.unknown.format(task), f"Known: {', '.join(self.known)}.")
        check_runs(self.what, self.tasks, self.methods, self.seeds, self.calls, self.options)

    def entries(self) -> list[Entry]:
        """Return every run: all tasks of a seed before the next seed, so that a table fills evenly."""
        return [Entry(task, method, seed) for seed in self.seeds for method in self.methods for task in self.tasks]

    def terms(self, entry: Entry) -> dict[str, Any]:
        """Return nothing: calls and options are all the terms there are."""
        return {}

    @abstractmethod
    def asked(self, entry: Entry) -> Asked:
        """Return what a run searches for."""

    @abstractmethod
    def account(self, entry: Entry, result: Result) -> dict[str, Any]:
        """Return the facts to store of a finished search."""
