"""Carry a MOSES run through, piece by piece: what is done is on disk, and a run that was stopped goes on from there.

In: a model or a file of samples, a `Yardstick`, a directory. Out: ``samples_SEED.csv``, ``parts/*.json``, the summary.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molvae import __version__
from molvae.benchmark.held_out import HeldOut, held_out
from molvae.benchmark.moses import Yardstick, floor, measure, metric_names
from molvae.benchmark.moses_model import draw, likelihood, near_copies, reconstruction
from molvae.benchmark.references import Stage
from molvae.errors import ConfigError, OutputError
from molvae.files import write_json, write_text
from molvae.generate.known import read_smiles
from molvae.nn.checkpoint import LoadedModel

REQUEST = "request.json"


@dataclass(frozen=True)
class Extent:
    """How much is asked of a model beside its samples.

    Attributes:
        reconstruct: held-out molecules reconstructed; None means all, 0 none.
        likelihood: held-out molecules for rate and bound; 0 means none.
        samples: K of the importance-weighted bound.
        codes: training codes for near copies; 0 means none.
        draws: prior draws for near copies.
    """

    reconstruct: int | None = None
    likelihood: int = 1000
    samples: int = 100
    codes: int = 100_000
    draws: int = 10_000
    held: int = 2_000


@dataclass(frozen=True)
class Plan:
    """What a run does; equal plans give equal figures.

    Attributes:
        subject: what is measured: ``samples`` (a file) or ``model`` with its ``temperature`` and ``rounds``,
            each with a ``sha256``.
        n: molecules.
        seeds: of sampling and of the floor.
    """

    subject: Mapping[str, Any]
    n: int
    seeds: Sequence[int]


class Run:
    """A directory that fills with results.

    Args:
        directory: of the run.
        plan: what is to be done.
        yard: what samples are held against.
        say: told how far it is.
    """

    def __init__(self, directory: Path, plan: Plan, yard: Yardstick, say: Stage) -> None:
        self.directory, self.plan, self.yard, self.say = directory, plan, yard, say

    def begin(self, resume: bool) -> None:
        """Write the request, or see that the one there is the same.

        Raises:
            OutputError: when the directory holds something and the run is not to go on.
            ConfigError: when the run there asked for something else.
        """
        path = self.directory / REQUEST
        mine = json.loads(json.dumps(self._request()))
        if not resume:
            if self.directory.exists() and (self.directory.is_file() or any(_visible(self.directory))):
                raise OutputError(f"{self.directory} is not empty.", "Go on with --resume, or choose another one.")
            write_json(path, mine)
            return
        try:
            there = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.directory} holds no run to go on with.", "Leave --resume out.") from error
        differing = [name for name in mine if there.get(name) != mine[name]]
        if differing:
            raise ConfigError(
                f"The run in {self.directory} has another {differing[0]}.", "Give the same settings, or another -o."
            )

    def _request(self) -> dict[str, Any]:
        return {
            "subject": dict(self.plan.subject), "n": self.plan.n, "seeds": list(self.plan.seeds),
            "references": [one.facts() for one in self.yard.references.values()],
            "training": self.yard.training.facts(),
        }  # fmt: skip

    def part(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a result that is there, or compute and keep it."""
        path = self.directory / "parts" / f"{name}.json"
        if path.is_file():
            return json.loads(path.read_text("utf-8"))
        found = compute()
        write_json(path, found)
        return found

    def samples(self, loaded: LoadedModel, seed: int) -> list[str]:
        """Return the molecules drawn with ``seed``, from their file when they were drawn before."""
        path = self.directory / f"samples_{seed}.csv"
        if not path.is_file():
            rows = draw(
                loaded, self.plan.n, self.plan.subject["temperature"], seed, self.yard.workers,
                lambda done, of: self.say(f"sampling, seed {seed}", done, of), self.plan.subject["rounds"],
            )  # fmt: skip
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerows([("smiles", "state"), *rows])
            write_text(path, text.getvalue())
        return read_smiles(path, "smiles")

    def measure_model(self, loaded: LoadedModel) -> dict[str, Any]:
        """Return the metrics of the samples of every seed."""
        found = {}
        for seed in self.plan.seeds:
            smiles = self.samples(loaded, seed)
            found[str(seed)] = self.part(f"run_{seed}", lambda smiles=smiles: measure(smiles, self.yard, self.say))  # type: ignore[misc]
        return found

    def floors(self) -> dict[str, Any]:
        """Return the metrics of real molecules for every seed."""
        return {
            str(seed): self.part(f"floor_{seed}", lambda seed=seed: floor(self.yard, self.plan.n, seed, self.say))  # type: ignore[misc]
            for seed in self.plan.seeds
        }

    def about_model(self, loaded: LoadedModel, test: Path, extent: Extent) -> dict[str, Any]:
        """Return reconstruction, likelihood and near copies; None for those not asked for."""
        seed, workers = self.plan.seeds[0], self.yard.workers

        def molecules(n: int) -> HeldOut:
            return held_out(loaded, str(test), None, n, seed, workers)

        def stage(what: str) -> Callable[[int, int], None]:
            return lambda done, of: self.say(what, done, of)

        def back() -> dict[str, Any]:
            self.say("reading held-out molecules", 0, 1)
            every = molecules(2**62 if extent.reconstruct is None else extent.reconstruct)
            return reconstruction(loaded, every, workers, stage("reconstruction"))

        def nats() -> dict[str, Any]:
            return likelihood(loaded, molecules(extent.likelihood), extent.samples, seed, stage("likelihood"))

        def copies() -> dict[str, Any] | None:
            real = read_smiles(test)[: extent.held]
            return near_copies(
                loaded, self.yard.training, real, extent.draws, extent.codes, seed, workers, stage("training codes"),
                self.plan.subject["rounds"],
            )  # fmt: skip

        return {
            "reconstruction": self.part("reconstruction", back) if extent.reconstruct != 0 else None,
            "likelihood": self.part("likelihood", nats) if extent.likelihood else None,
            "near_copies": self.part("near_copies", copies) if extent.codes else None,
        }

    def summary(
        self, runs: Mapping[str, Any], floors: Mapping[str, Any], model: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return everything that was measured, and on what."""
        return {
            "benchmark": "moses", "version": __version__, **self._request(), "notes": self.yard.notes,
            "metrics": metric_names(list(self.yard.references)), "runs": dict(runs), "floors": dict(floors),
            "model": None if model is None else dict(model),
        }  # fmt: skip


def _visible(directory: Path) -> list[Path]:
    """Return what is in ``directory`` but for the lock that this process itself put there."""
    return [path for path in directory.iterdir() if path.name != ".lock"]
