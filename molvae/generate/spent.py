"""Remember which choices would write again what has been written, so that strings are drawn without repeats.

In: the tokens chosen for a molecule so far, and the next one. Out: the tokens that are over at that place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

Trace = tuple[int, ...]
"""Tokens chosen so far; before them, below 0, how many atoms each gap is to get, where that is fixed."""


class Spent:
    """Choices that are over, among rows that are written into the same gaps of the same scaffold.

    Repeats are not thrown away afterwards, they are hardly ever written: the last choice of every row is over for the
    rows after it, in this batch and in later ones. A place where all choices turn out to be over is over too, once a
    row has found it out by a repeat; and a molecule that has two spellings may come twice.

    >>> spent = Spent()
    >>> spent.add((4, 7), 1)
    >>> spent.over((4, 7)), spent.over((4,))
    (frozenset({1}), frozenset())
    """

    def __init__(self) -> None:
        self._over: dict[Trace, frozenset[int]] = {}

    def over(self, trace: Trace) -> frozenset[int]:
        """Return the tokens that may not follow ``trace``."""
        return self._over.get(trace, frozenset())

    def add(self, trace: Trace, token: int) -> None:
        """Note that nothing new comes of ``token`` after ``trace``."""
        self._over[trace] = self.over(trace) | {token}

    def leave(self, allowed: torch.Tensor, traces: Sequence[Trace]) -> torch.Tensor:
        """Return ``allowed`` (B, V) without what is over after each of B traces.

        Where nothing is left the row keeps all, a repeat, and the choice that led there is over from now on.
        """
        left = allowed.clone()
        for row, trace in enumerate(traces):
            over = self.over(trace)
            if not over:
                continue
            left[row, list(over)] = False
            if not left[row].any():
                left[row] = allowed[row]
                if trace and trace[-1] >= 0:
                    self.add(trace[:-1], trace[-1])
        return left
