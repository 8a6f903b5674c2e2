"""Share calls among start molecules: each given one is to be improved, drawn ones are one family.

In: starts. Out: how many of the next proposals each family gets.
"""

from __future__ import annotations

import numpy as np

from molvae.optimize.method import Starts


class Turns:
    """Deal proposals out to families in turn.

    Args:
        starts: each is a family of its own, unless they were drawn.
    """

    def __init__(self, starts: Starts) -> None:
        self._count = 1 if starts.drawn else len(starts)
        self._together = starts.drawn
        self._next = 0

    def deal(self, n: int) -> list[tuple[int | None, int]]:
        """Return (start, how many of ``n``) in order; the start is None when all are one family."""
        if self._together:
            return [(None, n)]
        rows = (self._next + np.arange(n)) % self._count
        self._next = (self._next + n) % self._count
        found, counts = np.unique(rows, return_counts=True)
        return [(int(row), int(count)) for row, count in zip(found, counts, strict=True)]
