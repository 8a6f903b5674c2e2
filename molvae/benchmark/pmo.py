"""Run the PMO protocol: search from the prior under a budget of unique calls, and account for it as PMO does.

In: a model, tasks, methods, seeds. Out: one JSON per (task, method, seed); a rerun makes those that are missing.

Protocol: 10,000 unique oracle calls, molecules drawn from the prior included; the mean of the ten best is read every
100 calls, and the area under that curve, from 0 calls on, divided by the calls allowed is the score. A search that ends
early keeps its last value to the end. A molecule that the oracle fails on counts as a call with score 0.

Source: Gao et al. 2022, https://arxiv.org/abs/2206.12411; ``top_auc`` in ``main/optimizer.py`` of
https://github.com/wenhao-gao/mol_opt
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from molvae import __version__
from molvae.chem.alerts import moses_alerts
from molvae.chem.parallel import map_items
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read
from molvae.errors import BusyError, ConfigError, InputError, UnknownNameError
from molvae.files import sha256_file, write_json
from molvae.nn.checkpoint import LoadedModel
from molvae.optimize.oracles import find_oracle
from molvae.optimize.registry import find_method, parse_options
from molvae.optimize.result import RUN, Result
from molvae.optimize.run import ProgressCallback, search
from molvae.optimize.search import Settings
from molvae.optimize.space import LatentSpace, ModelSpace
from molvae.optimize.tasks import PMO

CALLS, EVERY, TOP = 10_000, 100, 10
RESULTS, RUNS = "results", "runs"
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
class Entry:
    """One run of the table."""

    task: str
    method: str
    seed: int

    @property
    def name(self) -> str:
        """A name for files."""
        return f"{self.task}.{self.method}.{self.seed}"

    def path(self, directory: Path) -> Path:
        """Return where its result is kept."""
        return directory / RESULTS / f"{self.name}.json"


@dataclass(frozen=True)
class Plan:
    """Which runs a table consists of, and under what terms.

    Args:
        tasks: names out of `molvae.optimize.tasks.PMO`.
        methods: keys of `molvae.optimize.registry.METHODS`.
        seeds: of all chance, each 0 or more.
        calls: unique calls allowed.
        options: the method's own settings, for plans of one method.

    Raises:
        UnknownNameError: for a task or method that does not exist.
        InputError: when something is missing, given twice or out of range.
    """

    tasks: tuple[str, ...] = PMO
    methods: tuple[str, ...] = ("hybrid",)
    seeds: tuple[int, ...] = (0, 1, 2)
    calls: int = CALLS
    options: str = ""

    def __post_init__(self) -> None:
        for task in self.tasks:
            if task not in PMO:
                raise UnknownNameError(f"PMO has no task {task!r} that runs offline.", f"Known: {', '.join(PMO)}.")
        for method in self.methods:
            find_method(method)
            parse_options(method, self.options)
        for what, values in (("task", self.tasks), ("method", self.methods), ("seed", self.seeds)):
            if not values or len(set(values)) < len(values):
                raise InputError(
                    f"A {what} is {'missing' if not values else 'given twice'}.", f"Give each {what} once."
                )
        if min(self.seeds) < 0 or self.calls < 1:
            raise InputError("A seed is below 0, or there are no calls.", "Give --seeds 0,1,2 and --calls 10000.")

    def entries(self) -> list[Entry]:
        """Return every run: all tasks of a seed before the next seed, so that a table fills evenly."""
        return [Entry(task, method, seed) for seed in self.seeds for method in self.methods for task in self.tasks]


Listener = Callable[[Entry], ProgressCallback | None]
"""Told when a run begins; returns what is told after every batch of it."""


def read_result(path: Path) -> dict[str, Any]:
    """Return a stored result.

    Raises:
        InputError: when it cannot be read.
    """
    try:
        facts: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(facts["auc_top10"], float) or not isinstance(facts["task"], str):
            raise TypeError("a result has a task and a score")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is not a result of this benchmark: {error}.", "Delete it; it is made anew."
        ) from error
    return facts


def missing(directory: Path, plan: Plan) -> list[Entry]:
    """Return the runs of a plan that have no stored result."""
    return [entry for entry in plan.entries() if not entry.path(directory).is_file()]


def run_plan(
    loaded: LoadedModel, plan: Plan, directory: Path, listener: Listener = lambda entry: None
) -> Iterator[dict[str, Any]]:
    """Make every missing run of a plan, one after the other.

    A run that is interrupted goes on where it was when the plan is run again, without a repeated call. Several
    processes may work on one directory: a run that another one is at is passed over.

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
    manifest = loaded.directory / "manifest.json"
    model = sha256_file(manifest) if manifest.is_file() else ""
    for entry in plan.entries():
        if entry.path(directory).is_file():
            _check_terms(entry.path(directory), plan, model)
    for entry in missing(directory, plan):
        try:
            facts = run_entry(space, entry, plan, directory, model, listener(entry))
        except BusyError:
            continue
        if "auc_top10" not in facts:
            yield facts
            return
        facts["model"] = {"directory": loaded.directory.name, "manifest_sha256": model}
        write_json(entry.path(directory), facts)
        yield facts


def _check_terms(path: Path, plan: Plan, model: str) -> None:
    facts = read_result(path)
    terms = (("calls", facts.get("calls"), plan.calls), ("options", facts.get("options"), plan.options),
             ("model", facts.get("model", {}).get("manifest_sha256"), model))  # fmt: skip
    for name, was, wanted in terms:
        if was != wanted:
            shown = "another model" if name == "model" else f"{name} = {was}"
            raise ConfigError(f"{path} was made with {shown}.", "Use the same terms, or another directory.")


def run_entry(
    space: LatentSpace, entry: Entry, plan: Plan, directory: Path, model: str = "",
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run one search and return its facts; only ``stopped`` when a signal ended it.

    Raises:
        BusyError: when another process works on this run.
    """
    run = directory / RUNS / entry.name
    settings = Settings(entry.method, plan.calls, entry.seed, options=plan.options)
    began, cpu = time.monotonic(), time.process_time()
    result = search(
        space, find_oracle(entry.task), [], settings, run, resume=(run / RUN).is_file(), progress=progress, model=model
    )
    if result.stopped.startswith("SIG"):
        return {"stopped": result.stopped}
    facts = account(result, plan.calls)
    spent = {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
    terms = {"task": entry.task, "method": entry.method, "seed": entry.seed, "options": plan.options}
    return {**terms, "calls": plan.calls, **facts, **spent, "molvae": __version__}


def account(result: Result, calls: int) -> dict[str, Any]:
    """Return what PMO reports of a search: areas, averages of the best, and the curve of the ten best."""
    scores = result.molecules["score"].to_numpy(dtype=np.float64)
    order = np.argsort(-np.nan_to_num(scores), kind="stable")[:JUDGED]
    best = [str(result.molecules["smiles"].iloc[row]) for row in order]
    passes = map_items(passes_moses, best)
    facts: dict[str, Any] = {"n_calls": result.n_calls, "stopped": result.stopped}
    for top in (1, 10, 100):
        facts[f"auc_top{top}"] = top_auc(scores.tolist(), top, calls=calls)
        facts[f"top{top}"] = curve(scores.tolist(), top)[-1][1] if len(scores) else 0.0
    facts["passes_moses_filters"] = sum(one is True for one in passes) / len(best) if best else 0.0
    facts["curve_top10"] = [[number, round(value, 6)] for number, value in curve(scores.tolist())]
    facts["best"] = best[:TOP]
    return facts


def passes_moses(smiles: str) -> bool:
    """Say whether the MOSES filters let a molecule pass.

    >>> passes_moses("CCO"), passes_moses("C[N+](C)(C)C")
    (True, False)
    """
    mol = read(smiles)
    return not isinstance(mol, Rejected) and not moses_alerts(mol)
