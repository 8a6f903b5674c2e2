"""Which property values a model is asked for when it is measured.

In: a model. Out: for each property three values, and the requests made of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from molvae.chem.properties import PROPERTIES
from molvae.data.dataset import PropertyInfo
from molvae.generate.requests import Request
from molvae.nn.checkpoint import LoadedModel

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
