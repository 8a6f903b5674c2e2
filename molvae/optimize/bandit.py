"""Learn which operator is worth its calls.

In: how many proposals of each operator were paid for, and how many of them were improvements. Out: shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

FORGET = 0.97
"""Weight of what was known, a step later: what helps early need not help late."""

FLOOR = 0.25
"""Share of all trials that is dealt out evenly, so that no operator is given up."""


class Bandit:
    """Deal out trials in proportion to the success of each arm, as far as it is remembered.

    Args:
        arms: names.
        learn: whether shares change at all.

    >>> bandit = Bandit(["a", "b"])
    >>> bandit.shares()["a"]
    0.5
    >>> bandit.learn({"a": (10, 9), "b": (10, 0)})
    >>> bandit.shares()["a"] > 0.7
    True
    """

    def __init__(self, arms: Sequence[str], learn: bool = True) -> None:
        self.arms = tuple(arms)
        self._learning = learn
        self._tried = np.full(len(arms), 4.0)
        self._won = np.full(len(arms), 1.0)

    def shares(self) -> dict[str, float]:
        """Return each arm's share, summing to 1."""
        rate = self._won / self._tried
        shares = FLOOR / len(self.arms) + (1 - FLOOR) * rate / rate.sum()
        return dict(zip(self.arms, shares.tolist(), strict=True))

    def deal(self, n: int, generator: np.random.Generator) -> dict[str, int]:
        """Return how many of ``n`` trials each arm gets."""
        counts = generator.multinomial(n, list(self.shares().values()))
        return dict(zip(self.arms, counts.tolist(), strict=True))

    def learn(self, outcome: Mapping[str, tuple[int, int]]) -> None:
        """Take in (trials, successes) by arm."""
        if not self._learning:
            return
        for index, arm in enumerate(self.arms):
            tried, won = outcome.get(arm, (0, 0))
            # A constant trickle of prior belief keeps an arm's rate defined when it is not tried.
            self._tried[index] = FORGET * self._tried[index] + tried + (1 - FORGET) * 4.0
            self._won[index] = FORGET * self._won[index] + won + (1 - FORGET) * 1.0
