"""Run the searches of a benchmark, store each result once it is there, and name what is missing.

In: a model and a `Plan`: entries, what each one searches for, how it is accounted. Out: one JSON per entry in
``results/``; a rerun makes those that are missing and refuses those that were made under other terms.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from molvae import __version__
from molvae.chem import alerts
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read
from molvae.errors import BusyError, ConfigError, InputError
from molvae.files import directory_digest, directory_lock, write_json, write_text
from molvae.nn.checkpoint import LoadedModel
from molvae.optimize.oracles import Oracle
from molvae.optimize.registry import find_method, parse_options
from molvae.optimize.result import RUN, Result
from molvae.optimize.run import ProgressCallback, search
from molvae.optimize.search import Settings
from molvae.optimize.space import LatentSpace, ModelSpace

RESULTS, RUNS = "results", "runs"


@dataclass(frozen=True)
class Entry:
    """One run of a table."""

    task: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        """A name for files."""
        return f"{self.task}.{self.method}.{self.seed}"

    @property
    def label(self) -> str:
        """The same for people."""
        return f"{self.task} {self.method} seed {self.seed}"

    def path(self, directory: Path) -> Path:
        """Return where its result is kept."""
        return directory / RESULTS / f"{self.name}.json"


@dataclass(frozen=True)
class Asked:
    """What one run searches for.

    Attributes:
        oracle: what is maximised.
        starts: SMILES to set out from; none for draws from the prior.
        min_similarity: to its start that a molecule must have.
        enough: mean of the ten best at which the search may end; None never.
    """

    oracle: Oracle
    starts: tuple[str, ...] = ()
    min_similarity: float = 0.0
    enough: float | None = None


class Plan(Protocol):
    """Which runs a table consists of, and under what terms.

    Attributes:
        figure: the key of the number that every stored result has.
        resumable: whether a run keeps a directory of its own and goes on in the middle; else it begins anew.
        calls: unique calls allowed.
        options: the method's own settings.
    """

    figure: ClassVar[str]
    resumable: ClassVar[bool]

    @property
    def calls(self) -> int:
        """Unique calls allowed."""

    @property
    def options(self) -> str:
        """The method's own settings."""

    def entries(self) -> Sequence[Entry]:
        """Return every run."""

    def terms(self, entry: Entry) -> dict[str, Any]:
        """Return what a stored result must have been made with, besides calls, options and model; all is stored."""

    def asked(self, entry: Entry) -> Asked:
        """Return what a run searches for."""

    def account(self, entry: Entry, result: Result) -> dict[str, Any]:
        """Return the facts to store of a finished search."""


Listener = Callable[[Entry], ProgressCallback | None]
"""Told when a run begins; returns what is told after every batch of it."""


def check_runs(
    what: str, tasks: Sequence[object], methods: Sequence[str], seeds: Sequence[int], calls: int, options: str
) -> None:
    """Refuse a plan that makes no sense.

    Args:
        what: one of ``tasks`` in words.
        tasks: what each method and seed is run on.
        methods: keys of `molvae.optimize.registry.METHODS`.
        seeds: of all chance, each 0 or more.
        calls: unique calls allowed.
        options: the methods' own settings.

    Raises:
        UnknownNameError: for a method or setting that does not exist.
        InputError: when something is missing, given twice or out of range.
    """
    for method in methods:
        find_method(method)
        parse_options(method, options)
    for name, values in ((what, tasks), ("method", methods), ("seed", seeds)):
        if not values or len(set(values)) < len(values):
            raise InputError(f"A {name} is {'given twice' if values else 'missing'}.", f"Give each {name} once.")
    if min(seeds) < 0 or calls < 1:
        raise InputError("A seed is below 0, or there are no calls.", "Give --seeds 0,1,2 and --calls 10000.")


def read_result(path: Path, figure: str) -> dict[str, Any]:
    """Return a stored result, which has a task and a number called ``figure``.

    Raises:
        InputError: when it cannot be read.
    """
    try:
        facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(facts[figure], float) or not isinstance(facts["task"], str):
            raise TypeError("a result has a task and a score")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a result of this benchmark: {error}.", "Delete it; it is made anew."
        ) from error
    return facts


def missing(directory: Path, plan: Plan) -> list[Entry]:
    """Return the runs of a plan that have no stored result."""
    return [entry for entry in plan.entries() if not entry.path(directory).is_file()]


def stored(directory: Path, plan: Plan) -> dict[Entry, dict[str, Any]]:
    """Return the results that a plan has, in the order of its runs.

    Raises:
        InputError: when one cannot be read.
    """
    paths = {entry: entry.path(directory) for entry in plan.entries()}
    return {entry: read_result(path, plan.figure) for entry, path in paths.items() if path.is_file()}


def missing_line(plan: Plan, left: Sequence[Entry], shown: int = 1000) -> str:
    """Return a sentence that names what is missing, the first ``shown`` runs of it; "" when nothing is."""
    if not left:
        return ""
    names = ", ".join(entry.label for entry in left[:shown])
    more = f" and {len(left) - shown:,} more" if len(left) > shown else ""
    return f"Missing ({len(left)} of {len(plan.entries())}): {names}{more}."


def run_plan(
    loaded: LoadedModel, plan: Plan, directory: Path, listener: Listener = lambda entry: None
) -> Iterator[dict[str, Any]]:
    """Make every missing run of a plan, one after the other.

    A run that is interrupted goes on where it was when the plan is run again, without a repeated call, if the plan is
    resumable. Several processes may work on one directory: a run that another one is at is passed over.

    Args:
        loaded: the model.
        plan: what to run.
        directory: where results and runs are kept.
        listener: told when a run begins.

    Yields:
        The facts of each finished run, stored before. After a signal the last ones only hold ``stopped``, the signal's
        name; `missing` names what is left.

    Raises:
        ConfigError: when a stored result was made under other terms.
    """
    space = ModelSpace(loaded)
    model = directory_digest(loaded.directory)
    for entry in plan.entries():
        if entry.path(directory).is_file():
            _check_terms(entry, plan, directory, model)
    for entry in missing(directory, plan):
        try:
            facts = run_entry(space, entry, plan, directory, model, listener)
        except BusyError:
            continue
        if facts is None:
            continue
        if plan.figure not in facts:
            yield facts
            return
        facts["model"] = {"directory": loaded.directory.name, "manifest_sha256": model}
        write_json(entry.path(directory), facts)
        if not plan.resumable:
            _clear(directory / RUNS / entry.name)
        yield facts
    if not missing(directory, plan):
        with suppress(OSError):  # it holds the runs of a plan that is resumable, or was never made
            (directory / RUNS).rmdir()


def _clear(run: Path) -> None:
    """Remove a folder that holds a lock only. Its result is stored: who takes the lock from now on finds that first."""
    with suppress(OSError):
        (run / ".lock").unlink()
        run.rmdir()


def _check_terms(entry: Entry, plan: Plan, directory: Path, model: str) -> None:
    path = entry.path(directory)
    facts = read_result(path, plan.figure)
    wanted: Mapping[str, Any] = {"calls": plan.calls, "options": plan.options, **plan.terms(entry)}
    for name, value in wanted.items():
        if facts.get(name) != value:
            raise ConfigError(f"{path} was made with {name} = {facts.get(name)}.", _OTHER)
    if facts.get("model", {}).get("manifest_sha256") != model:
        raise ConfigError(f"{path} was made with another model.", _OTHER)


_OTHER = "Use the same terms, or another directory."


def run_entry(
    space: LatentSpace, entry: Entry, plan: Plan, directory: Path, model: str = "",
    listener: Listener = lambda entry: None,
) -> dict[str, Any] | None:  # fmt: skip
    """Run one search and return its facts; only ``stopped`` when a signal ended it, None when another process did it.

    Raises:
        BusyError: when another process works on this run.
    """
    run = directory / RUNS / entry.name
    asked = plan.asked(entry)
    settings = Settings(
        entry.method, plan.calls, entry.seed, False, asked.min_similarity, plan.options, asked.enough
    )  # fmt: skip
    began, cpu = time.monotonic(), time.process_time()
    with ExitStack() as stack:
        if entry.path(directory).is_file():
            return None
        if not plan.resumable:
            try:
                stack.enter_context(directory_lock(run))
            except FileNotFoundError:
                # The process that had it has stored the result and removed the folder at this very moment.
                return None
            if entry.path(directory).is_file():
                stack.callback(_clear, run)
                return None
        try:
            result = search(
                space, asked.oracle, asked.starts, settings, run if plan.resumable else None,
                resume=(run / RUN).is_file(), progress=listener(entry), model=model,
            )  # fmt: skip
        except InputError as error:
            # A start that the model cannot read is a result too; without starts it is the plan that is wrong.
            if not asked.starts:
                raise
            facts = {plan.figure: 0.0, "n_calls": 0, "stopped": "unusable", "problem": error.problem}
        else:
            if result.stopped.startswith("SIG"):
                return {"stopped": result.stopped}
            facts = {"n_calls": result.n_calls, "stopped": result.stopped, **plan.account(entry, result)}
    spent = {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
    named = {"task": entry.task, "method": entry.method, "seed": entry.seed, "options": plan.options}
    return {**named, "calls": plan.calls, **plan.terms(entry), **facts, **spent, "molvae": __version__}


def passes_moses(smiles: str) -> bool:
    """Say whether the MOSES filters let a molecule pass.

    >>> passes_moses("CCO"), passes_moses("C[N+](C)(C)C")
    (True, False)
    """
    mol = read(smiles)
    return not isinstance(mol, Rejected) and alerts.passes_moses(mol)


def write_files(directory: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write files beside the folder of results and return their paths.

    Raises:
        OutputError: when they cannot be written.
    """
    (directory / RESULTS).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(directory / name, text)
    return [directory / name for name in texts]
