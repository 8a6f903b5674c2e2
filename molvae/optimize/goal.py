"""Combine several oracles to one goal: weighted, transformed, averaged, with constraints.

In: `Component`s, a mean and `Constraints`, usually read from a goal file. Out: `GoalOracle`, an oracle that a search
uses like any other.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from molvae.errors import ConfigError, MolvaeError
from molvae.optimize.goal_constraints import Constraints
from molvae.optimize.oracles import Oracle
from molvae.optimize.oracles_structure import RAW_KEPT, Raw
from molvae.optimize.tasks import mean_of
from molvae.optimize.transforms import Transform
from molvae.optimize.worker import answer

ARITHMETIC, GEOMETRIC, PARETO = "arithmetic", "geometric", "pareto"
MEANS = (GEOMETRIC, ARITHMETIC, PARETO)


@dataclass(frozen=True)
class Component:
    """One thing that is wanted.

    Attributes:
        name: of its column in the tables.
        oracle: what gives the raw value.
        transform: what turns that into a score; larger is better.
        weight: above 0, relative to the others'.
    """

    name: str
    oracle: Oracle
    transform: Transform
    weight: float = 1.0


class GoalOracle:
    """The weighted mean of its components' scores; NaN when a component has none.

    With ``mean`` "pareto" there is no such mean: a search has to handle several objectives (`objectives`), and what is
    returned as the score, the arithmetic mean, only serves to list molecules.

    Args:
        components: at least one, names distinct.
        mean: one of `MEANS`.
        constraints: what a molecule must fulfil before it is scored; the search asks `constraints.broken`.
        name: for people.

    Attributes:
        raw: raw values of the components for molecules scored, by SMILES.
        problem: the last thing that went wrong, with the component it happened in.
    """

    def __init__(
        self, components: Sequence[Component], mean: str = GEOMETRIC, constraints: Constraints | None = None,
        name: str = "goal",
    ) -> None:  # fmt: skip
        self.components, self.mean, self.name = tuple(components), mean, name
        self.constraints = constraints or Constraints()
        self.problem = ""
        self.raw: Raw = {}
        digest = hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()[:16]
        self.identity = f"goal:{digest}"

    def facts(self) -> dict[str, object]:
        """Return all that decides a score, as JSON can hold it."""
        parts = self.components
        return {
            "mean": self.mean,
            "components": [[one.name, one.oracle.identity, repr(one.transform), one.weight] for one in parts],
            "constraints": [repr(one) for one in self.constraints.all],
        }

    @property
    def source(self) -> str:
        """Digests of the functions and programs behind the components, see `molvae.optimize.process`."""
        return " ".join(filter(None, (str(getattr(one.oracle, "source", "")) for one in self.components)))

    def __call__(self, smiles: list[str]) -> list[float]:
        """Return one score per molecule."""
        if not smiles:
            return []
        values = np.stack([self._ask(component, smiles) for component in self.components], axis=1)
        if len(self.raw) > RAW_KEPT:
            self.raw.clear()
        names = [component.name for component in self.components]
        for one, row in zip(smiles, values.tolist(), strict=True):
            self.raw[one] = dict(zip(names, row, strict=True))
        scores: list[float] = self.combine(values).tolist()
        return scores

    def combine(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the score (N,) of raw values (N, components)."""
        mean = ARITHMETIC if self.mean == PARETO else self.mean
        return mean_of(self._scores(raw), mean, [component.weight for component in self.components])

    def objectives(self, raw: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
        """Return the components' scores (N, components), all to be maximised, of N molecules' raw values."""
        blank = math.nan
        rows = [[one.get(component.name, blank) for component in self.components] for one in raw]
        return self._scores(np.array(rows, dtype=np.float64).reshape(len(rows), len(self.components)))

    def keep_prints(self, path: Path) -> None:
        """Append to a file what the components' functions and programs print."""
        for component in self.components:
            getattr(component.oracle, "keep_prints", nullcontext)(path)

    def caution(self, smiles: list[str]) -> str:
        """Say what the components' own heads do not know of molecules."""
        warnings = (getattr(one.oracle, "caution", lambda smiles: "")(smiles) for one in self.components)
        return "; ".join(filter(None, warnings))

    def close(self) -> None:
        """End the processes of components that have one."""
        for component in self.components:
            getattr(component.oracle, "close", nullcontext)()

    def check_method(self, method: str, several: bool = False) -> None:
        """Refuse a method that maximises one number when the goal has no such number.

        Raises:
            ConfigError: when the goal asks for a Pareto front and ``several`` is False.
        """
        if self.mean == PARETO and not several:
            raise ConfigError(
                f"{self.name} asks for a Pareto front, and the method {method} maximises one number.",
                f'Write mean = "{GEOMETRIC}" or "{ARITHMETIC}" in the goal, or choose a method for several objectives.',
            )

    def _scores(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        columns = [component.transform(raw[:, column]) for column, component in enumerate(self.components)]
        return np.stack(columns, axis=1)

    def _ask(self, component: Component, smiles: list[str]) -> NDArray[np.float64]:
        reply = answer(component.oracle, smiles, passing=(MolvaeError,))
        why = reply.get("error") or component.oracle.problem
        if why:
            self.problem = f"{component.name}: {why}"
        if "error" in reply:
            return np.full(len(smiles), np.nan)
        return np.array([math.nan if score is None else score for score in reply["scores"]], dtype=np.float64)
