"""How beta moves during training.

In: the step, and for the controller the rate just measured. Out: the weight beta of the divergence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from molvae.config import ObjectiveConfig


class Schedule(Protocol):
    """A weight as a function of the step; ``state`` is what a resumed run must know."""

    state: dict[str, float]

    def weight(self, step: int) -> float:
        """Return beta for ``step`` (from 0)."""

    def observe(self, rate: float) -> None:
        """Take note of the rate in nats per molecule measured at this step."""


@dataclass
class Ramp:
    """Constant, warm-up and cyclical: linear from ``start`` to ``end`` over ``steps``, then held or begun anew.

    Cyclical rises over the first half of each cycle and holds over the second.

    Source: Fu et al. (2019), https://arxiv.org/abs/1903.10145
    """

    start: float
    end: float
    steps: int
    cyclical: bool = False

    def __post_init__(self) -> None:
        self.state: dict[str, float] = {}

    def weight(self, step: int) -> float:
        """Return beta for ``step``."""
        share = 2 * (step % self.steps) / self.steps if self.cyclical else step / self.steps
        return self.start + (self.end - self.start) * min(1.0, share)

    def observe(self, rate: float) -> None:
        """Ignore the rate: a ramp follows the step alone."""


class RateController:
    """Move beta so that the rate stays at a target: proportional on log beta, with the rate averaged over steps.

    Source: after the control of KL in Shao et al. (2020), https://arxiv.org/abs/2004.05988
    """

    def __init__(self, target: float, start: float, gain: float = 0.01, memory: float = 0.95) -> None:
        self.target, self.gain, self.memory = target, gain, memory
        self.state = {"log_beta": math.log(max(start, 1e-4)), "rate": float("nan")}

    def weight(self, step: int) -> float:
        """Return the present beta; the step does not matter."""
        return math.exp(self.state["log_beta"])

    def observe(self, rate: float) -> None:
        """Raise beta while the averaged rate is above the target, lower it while below."""
        old = self.state["rate"]
        average = rate if math.isnan(old) else self.memory * old + (1 - self.memory) * rate
        error = max(-1.0, min(1.0, (average - self.target) / self.target))
        log_beta = self.state["log_beta"] + self.gain * error
        self.state = {"log_beta": max(math.log(1e-5), min(math.log(10.0), log_beta)), "rate": average}


def build_schedule(config: ObjectiveConfig, kind: str, beta: float) -> Schedule:
    """Return the schedule ``kind`` (constant, warmup, cyclical or rate) that ends at ``beta``.

    >>> build_schedule(ObjectiveConfig(warmup_steps=10), "warmup", 0.5).weight(5)
    0.25
    """
    if kind == "rate":
        return RateController(config.target_rate, config.beta_start or beta or 0.1)
    start = beta if kind == "constant" else config.beta_start
    return Ramp(start, beta, config.warmup_steps, cyclical=kind == "cyclical")
