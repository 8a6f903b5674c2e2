"""Train several objectives on equal terms, fit priors to their codes, and measure all of it; row by row.

In: a dataset, a `Request`, a directory. Out: ``rows/NAME`` and ``priors/NAME.KIND``, model directories;
``results/*.json``, one file for each thing measured, whose presence means that it is done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from molvae import __version__
from molvae.benchmark.compare_measure import Yardstick, build_yardstick, measure_prior, measure_row, molecules_of
from molvae.benchmark.compare_plan import OWN, Request, RowPlan, plan_row
from molvae.benchmark.compare_table import language_model
from molvae.benchmark.held_out import HeldOut
from molvae.data.dataset import Dataset
from molvae.errors import MolvaeError
from molvae.files import new_directory, write_json
from molvae.nn.checkpoint import LoadedModel, load_model, save_model
from molvae.nn.device import choose_device
from molvae.nn.priors import Prior
from molvae.objectives.presets import find_row
from molvae.train.fit_prior import fit_prior
from molvae.train.loop import Callbacks
from molvae.train.run import train_model

FAILURES = (MolvaeError, ArithmeticError, MemoryError, RuntimeError, ValueError)
"""What may end one row and not the others: bad settings, numbers that overflow, memory. A full disk ends them all."""


@dataclass(frozen=True)
class Listener:
    """What the caller wants to hear.

    Attributes:
        stage: what is being done to which row, how much of it is done, of how much, and figures to show beside it.
        result: something was measured or failed; the comparison's `summary`.
        note: a sentence.
    """

    stage: Callable[[str, str, int, int, dict[str, float | str]], None] = lambda row, what, done, total, shown: None
    result: Callable[[dict[str, Any]], None] = lambda summary: None
    note: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Failure:
    """Why something has no result, and the remedy."""

    problem: str
    remedy: str


class Comparison:
    """What is done and what is not; `run` goes on from there.

    Args:
        dataset: its training split is learned from, its test split (or valid where that is empty) measured on.
        request: checked (`Request.check`).
        directory: of the comparison; results that it holds are not made again.
        device: see `choose_device`.
        workers: processes for chemistry; None means every core.
    """

    def __init__(
        self, dataset: Dataset, request: Request, directory: Path, *, device: str = "auto", hardware: str = "",
        workers: int | None = None, listener: Listener | None = None,
    ) -> None:  # fmt: skip
        self.dataset, self.request, self.directory = dataset, request, directory
        self.device, self.hardware, self.workers = device, hardware, workers
        self.listener = listener or Listener()
        self.results: dict[str, dict[str, Any]] = {}
        self.failures: dict[str, Failure] = {}
        self._yard: Yardstick | None = None
        for item in self.items():
            path = self._result_path(item)
            if path.exists():
                self.results[item] = json.loads(path.read_text("utf-8"))

    def items(self) -> list[str]:
        """Return everything to be measured, in order: ``NAME`` for a row, ``NAME.KIND`` for a prior of it."""
        found = []
        for name in self.request.objectives:
            found += [name, *(f"{name}.{kind}" for kind in self.kinds(name))]
        return found

    def kinds(self, name: str) -> list[str]:
        """Return the priors of the row ``name``: its own, and those fitted to its codes."""
        every = not self.request.fitted or name in self.request.fitted
        asked = [kind for kind in self.request.priors if every or self._result_path(f"{name}.{kind}").exists()]
        # N(0, I) is already the prior of most rows.
        same = find_row(name).prior == "normal"
        return [OWN, *(kind for kind in asked if not (same and kind == "normal"))]

    def missing(self) -> list[str]:
        """Return what has no result yet."""
        return [item for item in self.items() if item not in self.results]

    def run(self) -> int | None:
        """Train, fit and measure what is missing; return the signal that stopped it, if one did.

        A row that fails is noted in ``failures`` and the next one begins.

        Raises:
            OSError, BusyError: when nothing more can be written or read.
            InputError: when the dataset cannot serve.
        """
        if not self.missing():
            return None
        self.listener.note("measuring the floor: FCD of real molecules")
        self._yard = build_yardstick(self.dataset, self.request)
        write_json(self.directory / "results" / "yardstick.json", _yard_facts(self._yard))
        for name in self.request.objectives:
            if all(item in self.results for item in (name, *(f"{name}.{kind}" for kind in self.kinds(name)))):
                continue
            try:
                stopped = self._row(name)
            except FAILURES as error:
                self._fail(name, error)
                continue
            if stopped is not None:
                return stopped
        return None

    def _row(self, name: str) -> int | None:
        """Bring the row ``name`` to its end; return the signal that stopped its training."""
        plan = plan_row(name, self.request, self.dataset)
        loaded, stopped = self._trained(plan)
        if stopped is not None:
            return stopped
        assert self._yard is not None
        molecules = molecules_of(loaded, self.dataset, self._yard, self.request)
        if name not in self.results:
            figures = measure_row(
                loaded, molecules, self._yard, self.request, self.workers, self._say(name, "likelihood")
            )
            self._keep(name, {**_row_facts(plan, loaded), **figures})
        for kind in self.kinds(name):
            item = f"{name}.{kind}"
            if item in self.results:
                continue
            try:
                self._prior(loaded, name, kind, molecules)
            except FAILURES as error:
                self._fail(item, error)
        return None

    def _trained(self, plan: RowPlan) -> tuple[LoadedModel, int | None]:
        """Return the model of a row: as it is when its training is over, else trained, or trained on."""
        directory = self.directory / "rows" / plan.name
        if (directory / "manifest.json").exists():
            loaded = load_model(directory, self.device)
            if loaded.facts.get("steps", 0) >= plan.steps:
                return loaded, None

        def on_metrics(row: dict[str, Any], done: float) -> None:
            keys = ("loss", "distortion", "rate", "exact")
            shown: dict[str, float | str] = {key: float(row[key]) for key in keys if key in row}
            self.listener.stage(plan.name, "training", min(plan.steps, int(row["step"])), plan.steps, shown)

        started = directory.exists() and any(directory.iterdir())
        trained = train_model(
            self.dataset, plan.config, directory, device=self.device, resume=started,
            callbacks=Callbacks(on_metrics=on_metrics, on_warning=self.listener.note),
        )  # fmt: skip
        return trained.loaded, trained.result.stopped_by

    def _prior(self, loaded: LoadedModel, name: str, kind: str, molecules: HeldOut) -> None:
        """Fit the prior ``kind`` to the codes of ``loaded``, unless it is its own, and measure it."""
        assert self._yard is not None
        prior, seconds = (loaded.model.prior, 0.0) if kind == OWN else self._fitted(loaded, name, kind)
        say = self._say(name, f"{kind} samples")
        figures = measure_prior(loaded, prior, molecules, self._yard, self.request, self.workers, say)
        self._keep(f"{name}.{kind}", {"row": name, "prior": kind, "fit_seconds": seconds, **figures})

    def _fitted(self, loaded: LoadedModel, name: str, kind: str) -> tuple[Prior, float]:
        """Return the prior ``kind`` over the codes of ``loaded`` and the seconds its fit took; both kept on disk."""
        directory = self.directory / "priors" / f"{name}.{kind}"
        if directory.exists():
            kept = load_model(directory, self.device)
            return kept.model.prior, float(kept.facts["prior_seconds"])
        settings = loaded.config.prior.model_copy(update={"kind": kind})

        def report(step: int, steps: int, rate: float) -> None:
            self.listener.stage(name, f"{kind} prior", step, steps, {"rate": rate} if rate == rate else {})

        started = time.perf_counter()
        fit = fit_prior(loaded.model, self.dataset, settings, self.request.seed, report)
        seconds = round(time.perf_counter() - started, 1)
        facts = {**loaded.facts, **fit.facts(), "prior_of": name, "prior_seconds": seconds}
        config = loaded.config.model_copy(update={"prior": fit.settings})
        card = f"# {name}.{kind}\n\nThe model `{name}` of a comparison with a {kind} prior fitted to its codes.\n"
        own = loaded.model.prior
        loaded.model.prior = fit.prior
        try:
            with new_directory(directory) as temporary:
                save_model(temporary, loaded.model, loaded.vocabulary, config, facts, card=card)
        finally:
            loaded.model.prior = own
        return fit.prior, seconds

    def _say(self, row: str, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.listener.stage(row, what, done, total, {})

    def _keep(self, item: str, figures: dict[str, Any]) -> None:
        write_json(self._result_path(item), figures)
        self.results[item] = figures
        self.listener.result(self.summary())

    def _fail(self, item: str, error: Exception) -> None:
        """Note why ``item`` has no result; what would end every other row too goes on up."""
        if isinstance(error, OSError) or getattr(error, "exit_code", 0) == 75:
            raise error
        if isinstance(error, MolvaeError):
            self.failures[item] = Failure(error.problem, error.remedy)
        else:
            first = " ".join(str(error).split())[:300]
            self.failures[item] = Failure(f"{type(error).__name__}: {first}", "Change the settings of this row.")
        self.listener.result(self.summary())

    def _result_path(self, item: str) -> Path:
        return self.directory / "results" / f"{item}.json"

    def summary(self) -> dict[str, Any]:
        """Return everything that is known so far, as JSON can hold it."""
        path = self.directory / "results" / "yardstick.json"
        summary = {
            "molvae": __version__, "dataset": str(self.dataset.directory),
            "molecules": len(self.dataset.rows("train")), "hardware": self.hardware,
            "device": str(choose_device(self.device)), "threads": torch.get_num_threads(),
            "seed": self.request.seed, "request": asdict(self.request),
            "reference": json.loads(path.read_text("utf-8")) if path.exists() else None,
            "results": {item: self.results[item] for item in self.items() if item in self.results},
            "failures": {item: asdict(failure) for item, failure in self.failures.items()},
            "missing": self.missing(),
        }  # fmt: skip
        return {**summary, "language_model": language_model(summary)}


def _yard_facts(yard: Yardstick) -> dict[str, Any]:
    return {"split": yard.split, "n": yard.n, "fcd_floor": yard.floor, "notes": list(yard.notes)}


def _row_facts(plan: RowPlan, loaded: LoadedModel) -> dict[str, Any]:
    """Return what a row was and cost. Decoder passes: molecules seen times latents decoded for each."""
    facts, model = loaded.facts, loaded.model
    return {
        "row": plan.name, "samples": plan.samples, "steps": facts["steps"], "molecules_seen": facts["molecules_seen"],
        "decoder_passes": facts["molecules_seen"] * plan.samples, "minutes": facts["minutes"],
        "weights": sum(weight.numel() for weight in model.parameters()),
        "conditions": model.condition_names, "predicted": model.predict_names,
        "beta": loaded.config.objective.beta if loaded.config.objective.beta is not None else find_row(plan.name).beta,
        "averaged_weights": facts["averaged_weights"],
    }  # fmt: skip
