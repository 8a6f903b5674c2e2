"""Measure how well a model gives what is asked for, beside its unconditional sampler under the same requests.

In: a model, requests, the property values of test molecules. Out: figures that JSON can hold, with n, k and seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from molvae.chem.fingerprints import morgan, tanimoto
from molvae.chem.properties import PROPERTIES
from molvae.data.dataset import PropertyInfo
from molvae.errors import InputError
from molvae.generate.conditional import PLAINLY, Asking, make_plan, sample_where
from molvae.generate.molecules import sample
from molvae.generate.request_report import Reader
from molvae.generate.requests import Request
from molvae.generate.sampling import DEFAULT, SamplingOptions
from molvae.generate.wanted import Wanted
from molvae.nn.checkpoint import LoadedModel
from molvae.train.fit_head import NORMAL_90

GRIDS: dict[str, dict[str, tuple[float, float, float]]] = {
    "moses": {
        "logp": (1, 2, 3), "tpsa": (40, 60, 80), "sa": (2, 2.75, 3.5), "qed": (0.6, 0.725, 0.85)
    },
    "druglike": {
        "logp": (0, 2, 4), "tpsa": (40, 80, 120), "sa": (2, 3, 4), "qed": (0.6, 0.725, 0.85)
    },
}  # fmt: skip
"""Values asked for, by the model; MolGPT's for ``moses``."""

TOGETHER = ("logp", "qed", "tpsa")
LOOKED_AT = 500
"""Molecules of a request whose diversity and predictive intervals are computed, at most."""
BINS = 10

Say = Callable[[str], None]


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


def grid_of(loaded: LoadedModel) -> dict[str, tuple[float, float, float]]:
    """Return the values to ask for: the published ones of a shipped model, else mean and one deviation to each side.

    Only properties that RDKit computes are measured: of others no molecule's value is known.
    """
    origins = (loaded.directory.name, loaded.facts.get("prior_of"))
    known = {info.name: info for info in loaded.model.property_info if info.name in PROPERTIES}
    for origin in origins:
        if origin in GRIDS:
            return {name: values for name, values in GRIDS[str(origin)].items() if name in known}
    return {name: _about(info) for name, info in known.items()}


def _about(info: PropertyInfo) -> tuple[float, float, float]:
    low, middle, high = (
        float(f"{min(max(info.mean + side * info.std, info.minimum), info.maximum):.3g}") for side in (-1, 0, 1)
    )
    return low, middle, high


def requests_of(grid: Mapping[str, Sequence[float]]) -> list[tuple[Request, ...]]:
    """Return each value by itself, then logp, qed and tpsa together: nine requests in which each value stands thrice.

    >>> [[one.text for one in asked] for asked in requests_of({"sa": (2, 3)})]
    [['sa=2'], ['sa=3']]
    """
    single: list[tuple[Request, ...]] = [
        (Request(name, value, value),) for name, values in grid.items() for value in values
    ]
    if not all(name in grid for name in TOGETHER):
        return single
    first, second, third = (grid[name] for name in TOGETHER)
    chosen = [(first[i], second[(i + j) % 3], third[j]) for i in range(3) for j in range(3)]
    return single + [
        tuple(Request(name, value, value) for name, value in zip(TOGETHER, one, strict=True)) for one in chosen
    ]


def measure_conditioning(
    loaded: LoadedModel, settings: Settings, test: NDArray[np.floating] | None = None,
    known: Collection[str] | None = None, workers: int | None = None, say: Say | None = None,
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
        say: told what is measured next.

    Raises:
        InputError: when the model knows no property that RDKit computes.
        ConfigError: when the model cannot be asked so.
    """
    grid = grid_of(loaded)
    if not grid:
        raise InputError("The model knows no property that can be computed.", "Train it on a dataset with logp, say.")
    names = tuple(info.name for info in loaded.model.property_info if info.name in PROPERTIES)
    wanted = Wanted(properties=names, alerts=False)
    plans = [make_plan(loaded, requests, settings.asking) for requests in requests_of(grid)]
    route = plans[0].route
    if say:
        say("unconditional sampler")
    plain = sample(loaded, settings.n, settings.options, wanted, seed=settings.seed, workers=workers)
    asked = []
    for number, requests in enumerate(requests_of(grid)):
        if say:
            say(", ".join(request.text for request in requests))
        table = sample_where(
            loaded, settings.n, requests, settings.asking, settings.options, wanted, seed=settings.seed + number,
            workers=workers,
        )  # fmt: skip
        asked.append(_of_request(loaded, requests, table, plain, known))
    found: dict[str, Any] = {
        "settings": {**asdict(settings), "k": plans[0].k, "rounds": [plan.rounds for plan in plans], "route": route},
        "unconditional": _quality(plain, known),
        "requests": asked,
        "test": None if test is None else _of_test(loaded, settings, grid, test, plain, workers, say),
    }
    return found | {"summary": summarize(found)}


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


def _of_request(
    loaded: LoadedModel, requests: Sequence[Request], table: pd.DataFrame, plain: pd.DataFrame,
    known: Collection[str] | None,
) -> dict[str, Any]:  # fmt: skip
    reader = Reader(loaded, requests, ())
    smiles = table["smiles"].tolist()[:LOOKED_AT]
    properties = {}
    for request in requests:
        errors = table[f"{request.name}_error"].dropna()
        mean, std = reader.predict(smiles, request.name)
        true = table[request.name].to_numpy()[: len(mean)]
        inside = np.abs(true - mean) <= NORMAL_90 * std
        properties[request.name] = {
            "requested": request.low, "mad": _mean(errors.abs()), "bias": _mean(errors),
            "unconditional": _mean((plain[request.name] - request.low).abs()),
            "coverage": _mean(pd.Series(inside[np.isfinite(mean)].astype(float))),
        }  # fmt: skip
    where = ", ".join(request.text for request in requests)
    return {"where": where, "written": table.attrs["written"], "properties": properties, **_quality(table, known)}


def _mean(values: pd.Series[float]) -> float | None:
    """Return the mean as JSON can hold it."""
    return float(values.mean()) if len(values) and math.isfinite(values.mean()) else None


def _of_test(
    loaded: LoadedModel, settings: Settings, grid: Mapping[str, Sequence[float]], test: NDArray[np.floating],
    plain: pd.DataFrame, workers: int | None, say: Say | None,
) -> dict[str, Any]:  # fmt: skip
    """Ask for the values of test molecules, one property at a time and three together."""
    names = [info.name for info in loaded.model.property_info]
    choices: list[tuple[str, ...]] = [(name,) for name in grid]
    choices += [TOGETHER] if all(name in grid for name in TOGETHER) else []
    section: dict[str, Any] = {}
    for number, chosen in enumerate(choices):
        if say:
            say(f"{', '.join(chosen)} of test molecules")
        columns = [names.index(name) for name in chosen]
        rows = test[np.isfinite(test[:, columns]).all(1)][: settings.n_test]
        if not len(rows):
            continue
        aims = torch.full(rows.shape, math.nan)
        aims[:, columns] = torch.from_numpy(rows[:, columns].astype(np.float32))
        firsts = {name: float(rows[0, column]) for name, column in zip(chosen, columns, strict=True)}
        requests = [Request(name, value, value) for name, value in firsts.items()]
        table = sample_where(
            loaded, len(rows), requests, settings.asking, settings.options, Wanted(properties=(), alerts=False),
            seed=settings.seed + 1000 + number, workers=workers, aims=aims,
        )  # fmt: skip
        section["+".join(chosen)] = {name: _against(table, name, plain) for name in chosen}
    return section


def _against(table: pd.DataFrame, name: str, plain: pd.DataFrame) -> dict[str, Any]:
    """Return MAD, correlation and calibration of one property whose request differs from row to row."""
    rows = table[[f"{name}_requested", name]].dropna()
    asked, got = rows[f"{name}_requested"].to_numpy(), rows[name].to_numpy()
    chance = plain[name].dropna().to_numpy()
    others = np.resize(chance, len(asked)) if len(chance) else np.full(len(asked), np.nan)
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
