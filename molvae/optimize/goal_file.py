"""Read a goal file: TOML with the components, transforms and constraints of a `GoalOracle`.

In: a path. Out: `GoalFile`, checked; `GoalFile.build` starts the oracles. Every error names the line and the remedy.
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from molvae.errors import ConfigError, InputError, MolvaeError
from molvae.nn.checkpoint import LoadedModel
from molvae.optimize.goal import GEOMETRIC, MEANS, Component, GoalOracle
from molvae.optimize.goal_constraints import (
    START,
    Between,
    Constraint,
    Constraints,
    Contains,
    NoAlerts,
    SimilarTo,
    StereoKept,
)
from molvae.optimize.oracles import ORACLES, find_oracle, from_zero_to_one
from molvae.optimize.oracles_head import HEAD
from molvae.optimize.oracles_structure import alert_sets
from molvae.optimize.tasks import TASK_NAMES
from molvae.optimize.tasks_terms import compile_smarts, molecule
from molvae.optimize.transforms import TRANSFORMS, Linear, Transform, parameters

EXAMPLE = """\
# What is wanted: a weighted mean of components, each a raw value and a transform to a score from 0 to 1.
mean = "geometric"                  # geometric, arithmetic, or pareto for methods that handle several objectives

[[component]]
oracle = "qed"                      # any name of molvae optimize --list-oracles
weight = 2.0

[[component]]
oracle = "logp"
transform = { type = "double_sigmoid", low = 1.0, high = 3.5 }

[[component]]
name = "size"
oracle = "mol_weight"
transform = { type = "range", low = 250, high = 450, margin = 100 }

# [[component]]
# name = "docking"
# oracle = "cmd:./dock.sh --receptor 3pbl.pdbqt"   # SMILES on stdin, one score a line on stdout
# timeout = 600                                    # seconds a batch may take
# transform = { type = "reverse_sigmoid", low = -12, high = -6, k = 0.25 }

# What a molecule must fulfil before anything is paid for it.
[[constraint]]
similarity = "start"                # the start it descends from, or a SMILES
low = 0.3

[[constraint]]
forbid = "[N+](=O)[O-]"             # SMARTS that must not be there; keep = "..." must be

[[constraint]]
property = "rotatable_bonds"
high = 8

[[constraint]]
alerts = ["PAINS", "BRENK"]         # none of these; also NIH, MOSES

[[constraint]]
stereo = "kept"                     # as in the start
"""
"""A goal file to begin with."""

TAKEN = ("step", "smiles", "parent", "score")
"""Columns of the tables that no component may be called by."""

_COMPONENT = ("oracle", "transform", "weight", "name", "timeout")
_KINDS = {
    "similarity": ("low", "high"),
    "keep": (),
    "forbid": (),
    "property": ("low", "high"),
    "alerts": (),
    "stereo": (),
}
_REMEDY = "See molvae optimize --example-goal."


@dataclass(frozen=True)
class _Wanted:
    """A component whose oracle is not made yet."""

    name: str
    oracle: str
    transform: Transform
    weight: float
    timeout: float
    line: int


@dataclass(frozen=True)
class GoalFile:
    """A goal file that was read and checked; its oracles are made by `build`."""

    path: Path
    mean: str
    wanted: tuple[_Wanted, ...]
    constraints: tuple[Constraint, ...]

    @property
    def needs_model(self) -> bool:
        """Whether a component is a head of the model."""
        return any(one.oracle.startswith(HEAD) for one in self.wanted)

    def build(self, timeout: float = 300.0, loaded: LoadedModel | None = None) -> GoalOracle:
        """Return the oracle; ``timeout`` holds for components without their own.

        Raises:
            MolvaeError: the one that making a component's oracle gave, with file and line.
        """
        components = []
        with ExitStack() as stack:
            for one in self.wanted:
                try:
                    oracle = find_oracle(one.oracle, timeout if math.isnan(one.timeout) else one.timeout, loaded)
                except MolvaeError as error:
                    raise type(error)(f"{self.path} line {one.line}: {error.problem}", error.remedy) from error
                stack.callback(getattr(oracle, "close", nullcontext))
                components.append(Component(one.name, oracle, one.transform, one.weight))
            stack.pop_all()
        return GoalOracle(components, self.mean, Constraints(self.constraints), self.path.name)


def read_goal(path: Path) -> GoalFile:
    """Read and check a goal file.

    Raises:
        InputError: when it cannot be read.
        ConfigError: when something in it cannot be used; names the line.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise InputError(
            f"{path} cannot be read: {why}.", "Give a TOML file; molvae optimize --example-goal."
        ) from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}.", _REMEDY) from error
    return _Reader(path, text).read(content)


class _Reader:
    """Turns the tables of one file into a `GoalFile`."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.lines = path, text.splitlines()

    def read(self, content: dict[str, Any]) -> GoalFile:
        """Return the goal."""
        self._known("", 0, content, ("mean", "component", "constraint"), "The goal")
        mean = content.get("mean", GEOMETRIC)
        if mean not in MEANS:
            self._fail("", 0, "mean", f"there is no mean {mean!r}.", f"Known: {', '.join(MEANS)}.")
        tables = self._tables(content, "component")
        if not tables:
            self._fail("", 0, "", "the goal has no [[component]].", _REMEDY)
        wanted = tuple(self._component(index, table, mean) for index, table in enumerate(tables))
        names = [one.name for one in wanted]
        for index, name in enumerate(names):
            if name in names[:index]:
                self._fail("component", index, "name", f"two components are called {name}.", "Give each its name = ...")
        tables = self._tables(content, "constraint")
        constraints = tuple(self._constraint(index, table) for index, table in enumerate(tables))
        asked = [(one.smarts, one.forbidden) for one in constraints if isinstance(one, Contains)]
        for index, one in enumerate(constraints):
            if isinstance(one, Contains) and (one.smarts, not one.forbidden) in asked:
                self._fail(
                    "constraint", index, "", f"{one.smarts} is both kept and forbidden.", "Take one of them out."
                )
        return GoalFile(self.path, mean, wanted, constraints)

    def _tables(self, content: dict[str, Any], name: str) -> list[dict[str, Any]]:
        tables = content.get(name, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._fail("", 0, name, f"{name} is not a list of tables.", f"Write [[{name}]] with two brackets.")
        return tables

    def _component(self, index: int, table: dict[str, Any], mean: str) -> _Wanted:
        at = "component", index
        self._known(*at, table, _COMPONENT, "A component")
        oracle = table.get("oracle")
        if not isinstance(oracle, str) or not oracle:
            self._fail(*at, "oracle", "a component needs an oracle.", 'Write oracle = "qed", for instance.')
        weight = self._number(*at, table, "weight", 1.0)
        if weight <= 0:
            self._fail(*at, "weight", f"a weight of {weight:g} is not positive.", "Give a weight above 0.")
        timeout = self._number(*at, table, "timeout", math.nan)
        if timeout <= 0:
            self._fail(*at, "timeout", f"a time limit of {timeout:g} s is not positive.", "Give seconds.")
        name = table.get("name", oracle)
        if not isinstance(name, str) or not name.strip() or name in TAKEN:
            self._fail(*at, "name", f"{name!r} cannot be a name: it has to be a text other than {', '.join(TAKEN)}.",
                       'Write name = "size", for instance.')  # fmt: skip
        if ":" not in oracle and oracle not in ORACLES and oracle not in TASK_NAMES:
            self._fail(*at, "oracle", f"there is no oracle {oracle!r}.", self._hint(oracle, [*ORACLES, *TASK_NAMES]))
        if "transform" not in table and not from_zero_to_one(oracle) and mean == GEOMETRIC:
            self._fail(*at, "oracle", f"{oracle} has no transform, and is not a score from 0 to 1 by itself.",
                       'Add transform = { type = "sigmoid", low = ..., high = ... }, or { type = "linear" } if it is.',
                       )  # fmt: skip
        transform = self._transform(index, table["transform"]) if "transform" in table else Linear()
        return _Wanted(name, oracle, transform, weight, timeout, self.line(*at, "oracle"))

    def _transform(self, index: int, table: Any) -> Transform:
        at = "component", index
        if not isinstance(table, dict) or not isinstance(table.get("type"), str):
            self._fail(*at, "transform", "a transform is a table with a type.",
                       'Write transform = { type = "sigmoid", low = 0, high = 1 }.')  # fmt: skip
        kind = table["type"]
        if kind not in TRANSFORMS:
            self._fail(*at, "type", f"there is no transform {kind!r}.", self._hint(kind, TRANSFORMS))
        needed, optional = parameters(kind)
        self._known(*at, table, ("type", *needed, *optional), f"The transform {kind}")
        for name in needed:
            if name not in table:
                takes = f" and takes {', '.join(optional)}" if optional else ""
                self._fail(*at, "transform", f"the transform {kind} lacks {name}.",
                           f"It needs {', '.join(needed)}{takes}.")  # fmt: skip
        values = {name: self._number(*at, table, name, math.nan) for name in table if name != "type"}
        try:
            return TRANSFORMS[kind](**values)
        except ConfigError as error:
            self._fail(*at, next(iter(values), "transform"), error.problem, error.remedy)

    def _constraint(self, index: int, table: dict[str, Any]) -> Constraint:
        at = "constraint", index
        kinds = [kind for kind in _KINDS if kind in table]
        if len(kinds) != 1:
            found = " and ".join(kinds) if kinds else "none"
            self._known(*at, table, (*_KINDS, "low", "high"), "A constraint")
            self._fail(*at, "", f"a constraint is one of {', '.join(_KINDS)}; here is {found}.",
                       "Write one [[constraint]] for each.")  # fmt: skip
        kind = kinds[0]
        self._known(*at, table, (kind, *_KINDS[kind]), f"The constraint {kind}")
        value = table[kind]
        if not isinstance(value, str) and kind != "alerts":
            self._fail(*at, kind, f"{kind} = {value!r} is not a text.", _REMEDY)
        low, high = self._number(*at, table, "low", -math.inf), self._number(*at, table, "high", math.inf)
        if low > high:
            self._fail(*at, "low", f"low = {low:g} is above high = {high:g}.", "Give a low that is not above high.")
        if _KINDS[kind] and math.isinf(low) and math.isinf(high):
            self._fail(*at, kind, f"the constraint {kind} has neither low nor high.", "Give low, high or both.")
        try:
            return self._make(kind, value, low, high)
        except MolvaeError as error:
            self._fail(*at, kind, error.problem, error.remedy)

    def _make(self, kind: str, value: Any, low: float, high: float) -> Constraint:
        match kind:
            case "similarity":
                if value != START:
                    molecule(value)
                if low > 1 or high < 0:
                    raise ConfigError("no similarity is outside 0 to 1.", "Give low and high from 0 to 1.")
                return SimilarTo(value, low, high)
            case "keep" | "forbid":
                compile_smarts(value)
                return Contains(value, kind == "forbid")
            case "property":
                if value not in ORACLES:
                    raise ConfigError(f"there is no property {value!r}.", self._hint(value, ORACLES))
                return Between(value, low, high)
            case "alerts":
                names = value if isinstance(value, list) else [value]
                return NoAlerts(alert_sets(",".join(map(str, names))))
            case _:
                if value != "kept":
                    raise ConfigError(f"stereo = {value!r} has no meaning.", 'Write stereo = "kept".')
                return StereoKept()

    def _number(self, table_name: str, index: int, table: dict[str, Any], key: str, default: float) -> float:
        value = table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._fail(table_name, index, key, f"{key} = {value!r} is not a number.", "Write a number, without quotes.")
        if key in table and not math.isfinite(value):
            self._fail(table_name, index, key, f"{key} = {value} is not finite.", "Leave it out for no limit.")
        return float(value)

    def _known(self, name: str, index: int, table: dict[str, Any], known: Sequence[str], what: str) -> None:
        for key in table:
            if key not in known:
                self._fail(name, index, key, f"{what} has no key {key!r}.", self._hint(key, known))

    @staticmethod
    def _hint(given: str, known: Any) -> str:
        near = difflib.get_close_matches(given, list(known), n=1)
        return (f"Did you mean {near[0]}? " if near else "") + f"Known: {', '.join(known)}."

    def line(self, name: str, index: int, key: str) -> int:
        """Return the line, from 1, where ``key`` of the index-th table ``name`` stands; that table's own if nowhere."""
        heads = [row for row, line in enumerate(self.lines) if re.match(rf"\s*\[\[\s*{name}\s*\]\]", line)]
        first = heads[index] if name and index < len(heads) else 0
        pattern = re.compile(rf"(^|[{{,.\s])[\"']?{re.escape(key)}[\"']?\s*(=|\.)")
        for row in range(first, len(self.lines)):
            line = self.lines[row].split("#")[0] if "'" not in self.lines[row] else self.lines[row]
            if row > first and name and re.match(r"\s*\[", line) and not re.match(rf"\s*\[\s*{name}\.", line):
                break
            if key and (pattern.search(line) or re.match(rf"\s*\[+\s*{re.escape(key)}\s*\]", line)):
                return row + 1
        return first + 1

    def _fail(self, name: str, index: int, key: str, problem: str, remedy: str) -> NoReturn:
        raise ConfigError(f"{self.path} line {self.line(name, index, key)}: {problem}", remedy)
