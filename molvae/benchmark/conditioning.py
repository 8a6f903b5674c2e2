"""Measure how well a model gives what is asked for, beside its unconditional sampler under the same requests.

In: a model, requests, the property values of test molecules. Out: figures that JSON can hold, with n, k and seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from molvae.benchmark.conditioning_grid import TOGETHER, grid_of, requests_of
from molvae.chem.fingerprints import morgan, tanimoto
from molvae.chem.properties import PROPERTIES
from molvae.errors import InputError
from molvae.generate.asking import PLAINLY, Asking, Plan, make_plan
from molvae.generate.conditional import sample_where
from molvae.generate.molecules import sample
from molvae.generate.request_report import Reader
from molvae.generate.requests import Request
from molvae.generate.sampling import DEFAULT, SamplingOptions
from molvae.generate.wanted import Wanted
from molvae.kept import Kept
from molvae.nn.checkpoint import LoadedModel
from molvae.train.fit_head import NORMAL_90

LOOKED_AT = 500
"""Molecules of a request whose diversity is computed, at most: all pairs of them."""
BINS = 10
PLAIN, OF_TEST = "unconditional", " of test molecules"

Say = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Args:
        n: molecules a request of the grid, and of the unconditional sampler.
        n_test: test molecules whose values are asked for, one molecule each.
        asking: how the model is asked; a ``best_of`` above 1 is no measure of the model alone.
        options: how tokens are chosen.
        seed: of all chance.
    """

    n: int = 1000
    n_test: int = 10_000
    asking: Asking = PLAINLY
    options: SamplingOptions = field(default=DEFAULT)
    seed: int = 0


@dataclass(frozen=True)
class _Job:
    """One part of the measurement.

    Attributes:
        name: of the part, for people and files.
        rows: molecules it makes.
        weight: times the decoder writes each of them at most.
        compute: takes the parts before it and what is told of every row.
    """

    name: str
    rows: int
    weight: int
    compute: Callable[[Mapping[str, Any], Callable[[int], None]], Any]


def measure_conditioning(
    loaded: LoadedModel, settings: Settings, test: NDArray[np.floating] | None = None,
    known: Collection[str] | None = None, workers: int | None = None, say: Say | None = None, kept: Kept | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return the sections ``settings``, ``unconditional``, ``requests``, ``test`` and ``summary``.

    MAD is the mean of \\|obtained - requested\\|, obtained by RDKit, one molecule a request unless ``best_of`` says
    otherwise. ``unconditional`` beside it is that of molecules drawn without the request. ``coverage`` is the share of
    molecules whose value lies inside the 90 % interval of the model's head. Novelty is None without ``known``.

    Args:
        loaded: the model.
        settings: how much is measured.
        test: (N, P) values of test molecules in the order of the model's properties; None leaves that section out.
        known: canonical SMILES of the training set.
        workers: processes for chemistry; None means every core.
        say: told what is measured, and how much is done of how much.
        kept: takes the parts as they come, and may hold some from before; None keeps nothing.

    Raises:
        InputError: when the model knows no property that RDKit computes.
        ConfigError: when the model cannot be asked so.
    """
    grid = grid_of(loaded)
    if not grid:
        raise InputError("The model knows no property that can be computed.", "Train it on a dataset with logp, say.")
    bench = _Bench(loaded, settings, known, workers)
    plans = [make_plan(loaded, requests, settings.asking) for requests in requests_of(grid)]
    asked = [bench.of_request(number, plan) for number, plan in enumerate(plans)]
    tests = [] if test is None else bench.of_test(grid, test)
    parts = _run([bench.unconditional(), *asked, *tests], kept or Kept(None, {}, False), say)
    found: dict[str, Any] = {
        "settings": {**asdict(settings), "k": plans[0].k, "rounds": [plan.rounds for plan in plans],
                     "route": plans[0].route},
        "unconditional": parts[PLAIN]["quality"],
        "requests": [parts[job.name] for job in asked],
        "test": None if test is None else {job.name.removesuffix(OF_TEST): parts[job.name] for job in tests},
    }  # fmt: skip
    return found | {"summary": summarize(found)}


def _run(jobs: Sequence[_Job], kept: Kept, say: Say | None) -> dict[str, Any]:
    """Do the jobs one after the other; return what each gave, by its name."""
    total = sum(job.rows * job.weight for job in jobs)
    done, parts = 0, dict[str, Any]()
    for job in jobs:

        def tell(rows: int, job: _Job = job, before: int = done) -> None:
            if say:
                say(job.name, before + rows * job.weight, total)

        before = job.name in kept.parts
        parts[job.name] = kept.part(job.name, partial(job.compute, parts, tell))
        done += job.rows * job.weight
        if not before:
            tell(job.rows)
    return parts


@dataclass(frozen=True)
class _Bench:
    """What is measured, as jobs."""

    loaded: LoadedModel
    settings: Settings
    known: Collection[str] | None
    workers: int | None

    def unconditional(self) -> _Job:
        """Molecules drawn without any request: their quality and their values."""
        settings = self.settings
        names = [info.name for info in self.loaded.model.property_info if info.name in PROPERTIES]

        def compute(parts: Mapping[str, Any], tell: Callable[[int], None]) -> dict[str, Any]:
            wanted = Wanted(properties=tuple(names), alerts=False)
            table = sample(
                self.loaded, settings.n, settings.options, wanted, seed=settings.seed, workers=self.workers,
                progress=tell,
            )  # fmt: skip
            values = {name: table[name].dropna().tolist() for name in names}
            return {"quality": _quality(table, self.known), "values": values}

        return _Job(PLAIN, settings.n, int(self.loaded.facts.get("rounds", 0)) + 1, compute)

    def of_request(self, number: int, plan: Plan) -> _Job:
        """Molecules that are asked for with one request of the grid."""
        settings = self.settings

        def compute(parts: Mapping[str, Any], tell: Callable[[int], None]) -> dict[str, Any]:
            table = sample_where(
                self.loaded, settings.n, plan.requests, settings.asking, settings.options,
                Wanted(properties=(), alerts=False), seed=settings.seed + number, workers=self.workers, progress=tell,
            )  # fmt: skip
            return self._answered(plan.requests, table, parts[PLAIN]["values"])

        where = ", ".join(request.text for request in plan.requests)
        return _Job(where, settings.n, (plan.rounds + 1) * settings.asking.best_of, compute)

    def _answered(
        self, requests: Sequence[Request], table: pd.DataFrame, plain: Mapping[str, list[float]]
    ) -> dict[str, Any]:
        reader, smiles = Reader(self.loaded, requests, ()), table["smiles"].tolist()
        properties = {}
        for request in requests:
            errors = table[f"{request.name}_error"].dropna()
            mean, std = reader.predict(smiles, request.name)
            inside = np.abs(table[request.name].to_numpy() - mean) <= NORMAL_90 * std
            properties[request.name] = {
                "requested": request.low, "mad": _mean(errors.abs()), "bias": _mean(errors),
                "unconditional": _mean((pd.Series(plain[request.name]) - request.low).abs()),
                "coverage": _mean(pd.Series(inside[np.isfinite(mean)].astype(float))),
            }  # fmt: skip
        return {
            "where": ", ".join(request.text for request in requests), "written": table.attrs["written"],
            "properties": properties, **_quality(table, self.known),
        }  # fmt: skip

    def of_test(self, grid: Mapping[str, Sequence[float]], test: NDArray[np.floating]) -> list[_Job]:
        """Molecules that are asked for with the values of test molecules, of one property and of three together."""
        choices: list[tuple[str, ...]] = [(name,) for name in grid]
        choices += [TOGETHER] if all(name in grid for name in TOGETHER) else []
        jobs = [self._of_values(number, chosen, test) for number, chosen in enumerate(choices)]
        return [job for job in jobs if job is not None]

    def _of_values(self, number: int, chosen: Sequence[str], test: NDArray[np.floating]) -> _Job | None:
        settings, names = self.settings, [info.name for info in self.loaded.model.property_info]
        columns = [names.index(name) for name in chosen]
        rows = test[np.isfinite(test[:, columns]).all(1)][: settings.n_test]
        if not len(rows):
            return None
        aims = torch.full(rows.shape, math.nan)
        aims[:, columns] = torch.from_numpy(rows[:, columns].astype(np.float32))
        values = [float(rows[0, column]) for column in columns]
        requests = [Request(name, value, value) for name, value in zip(chosen, values, strict=True)]

        def compute(parts: Mapping[str, Any], tell: Callable[[int], None]) -> dict[str, Any]:
            table = sample_where(
                self.loaded, len(rows), requests, settings.asking, settings.options,
                Wanted(properties=(), alerts=False), seed=settings.seed + 1000 + number, workers=self.workers,
                progress=tell, aims=aims,
            )  # fmt: skip
            return {name: _against(table, name, parts[PLAIN]["values"][name]) for name in chosen}

        weight = (make_plan(self.loaded, requests, settings.asking).rounds + 1) * settings.asking.best_of
        return _Job("+".join(chosen) + OF_TEST, len(rows), weight, compute)


def _quality(table: pd.DataFrame, known: Collection[str] | None) -> dict[str, float | None]:
    """Return validity, uniqueness, novelty and diversity of the molecules of one table."""
    counts, smiles = table.attrs["counts"], table["smiles"].dropna().tolist()
    bits = morgan(smiles[:LOOKED_AT])
    pairs = len(bits) * (len(bits) - 1)
    diversity = 1 - (float(tanimoto(bits, bits).sum()) - len(bits)) / pairs if pairs else math.nan
    distinct = set(smiles)
    return {
        "n": len(smiles),
        "validity": counts["ok"] / counts["drawn"] if counts["drawn"] else None,
        "uniqueness": len(distinct) / len(smiles) if smiles else None,
        "novelty": None if known is None or not distinct else len(distinct - set(known)) / len(distinct),
        "diversity": None if math.isnan(diversity) else diversity,
    }


def _mean(values: pd.Series[float]) -> float | None:
    """Return the mean as JSON can hold it."""
    return float(values.mean()) if len(values) and math.isfinite(values.mean()) else None


def _against(table: pd.DataFrame, name: str, plain: Sequence[float]) -> dict[str, Any]:
    """Return MAD, correlation and calibration of one property whose request differs from row to row."""
    rows = table[[f"{name}_requested", name]].dropna()
    asked, got = rows[f"{name}_requested"].to_numpy(), rows[name].to_numpy()
    others = np.resize(plain, len(asked)) if len(plain) else np.full(len(asked), np.nan)
    varied = len(asked) > 1 and asked.std() > 0 and got.std() > 0
    return {
        "n": len(asked), "mad": _mean(pd.Series(np.abs(got - asked))),
        "unconditional": _mean(pd.Series(np.abs(others - asked))),
        "correlation": float(np.corrcoef(asked, got)[0, 1]) if varied else None,
        "calibration": calibration(asked, got),
    }  # fmt: skip


def calibration(asked: NDArray[np.floating], got: NDArray[np.floating]) -> list[dict[str, float]]:
    """Return what was obtained in each tenth of the requests: their mean, and mean, 10 % and 90 % point obtained.

    >>> calibration(np.arange(10.0), np.arange(10.0))[0]
    {'requested': 0.0, 'obtained': 0.0, 'low': 0.0, 'high': 0.0, 'n': 1}
    """
    order = np.argsort(asked, kind="stable")
    return [
        {
            "requested": float(asked[part].mean()), "obtained": float(got[part].mean()),
            "low": float(np.quantile(got[part], 0.1)), "high": float(np.quantile(got[part], 0.9)), "n": len(part),
        }
        for part in np.array_split(order, BINS) if len(part)
    ]  # fmt: skip


def summarize(found: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return for each property the mean MAD of its single requests and of requests together, and their ratio."""
    summary: dict[str, dict[str, float | None]] = {}
    parts = [
        (len(entry["properties"]) > 1, name, part)
        for entry in found["requests"]
        for name, part in entry["properties"].items()
    ]
    for name in dict.fromkeys(name for _, name, _ in parts):
        lines = {}
        for label, several in (("", False), ("together_", True)):
            chosen = [part for joint, of, part in parts if of == name and joint == several]
            for key in ("mad", "unconditional", "coverage"):
                known = [part[key] for part in chosen if part[key] is not None]
                lines[f"{label}{key}"] = float(np.mean(known)) if known else None
        single, joint = lines["mad"], lines["together_mad"]
        summary[name] = {**lines, "together_ratio": joint / single if joint and single else None}
    return summary
