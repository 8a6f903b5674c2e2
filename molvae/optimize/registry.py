"""List the search methods by name. A new method is one class and one row here; the tests go over all rows.

In: a name. Out: a class that makes a `Method` from (space, starts, generator).
"""

from __future__ import annotations

import difflib

from molvae.errors import UnknownNameError
from molvae.optimize.baseline import RandomNeighbours
from molvae.optimize.evolution import CmaEs
from molvae.optimize.method import Method

METHODS: dict[str, type[Method]] = {
    "cmaes": CmaEs,
    "random": RandomNeighbours,
}


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
