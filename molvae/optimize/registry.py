"""List the search methods by name. A new method is one class and one row here; the tests go over all rows.

In: a name. Out: a class that makes a `Method` from (space, starts, generator) and, if it has any, settings of its own.
"""

from __future__ import annotations

import difflib
from typing import Any, cast

import numpy as np

from molvae.errors import InputError, UnknownNameError
from molvae.optimize.baseline import RandomNeighbours
from molvae.optimize.evolution import CmaEs
from molvae.optimize.genetic import LatentGenetic
from molvae.optimize.gradient import GradientAscent
from molvae.optimize.hybrid import Hybrid
from molvae.optimize.method import Method, Starts
from molvae.optimize.options import read_options
from molvae.optimize.space import LatentSpace
from molvae.optimize.tanimoto_bo import TanimotoBo
from molvae.optimize.turbo import Turbo

METHODS: dict[str, type[Method]] = {
    "cmaes": CmaEs,
    "ga": LatentGenetic,
    "gradient": GradientAscent,
    "hybrid": Hybrid,
    "random": RandomNeighbours,
    "tanimoto-bo": TanimotoBo,
    "turbo": Turbo,
}

DRAWN_KEPT = 8
"""Of the molecules drawn when none are given, so many of the best are searched from, unless a method says otherwise."""


def find_method(name: str) -> type[Method]:
    """Return the method of that name.

    Raises:
        UnknownNameError: when there is none; names those there are.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise UnknownNameError(f"There is no method {name!r}.", f"{hint}Known: {', '.join(METHODS)}.")
    return METHODS[name]


def drawn_kept(name: str) -> int:
    """Return how many of the best drawn starts the method wants."""
    return int(getattr(find_method(name), "drawn_kept", DRAWN_KEPT))


def parse_options(name: str, text: str) -> object | None:
    """Return the method's settings, None when it has none.

    Raises:
        UnknownNameError: when it has no such setting.
        InputError: when a value is out of range, or the method has no settings at all.
    """
    kind: Any = getattr(find_method(name), "options", None)
    if kind is not None:
        return cast("object", read_options(kind, text))
    if text.strip():
        raise InputError(f"The method {name} has no settings.", f"Leave {text} out, or choose another method.")
    return None


def make_method(
    name: str, space: LatentSpace, starts: Starts, generator: np.random.Generator, text: str = ""
) -> Method:
    """Return a method ready to be asked; see `parse_options` for ``text`` and what is raised."""
    options = parse_options(name, text)
    kind: Any = find_method(name)
    made: Method = kind(space, starts, generator) if options is None else kind(space, starts, generator, options)
    return made
