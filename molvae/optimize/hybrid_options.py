"""List the settings of the hybrid search, so that an ablation is one of them changed.

In: values. Out: `HybridOptions`, checked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from molvae.errors import InputError
from molvae.optimize.gate import GATES
from molvae.optimize.operators import FROM_PRIOR, MOVES

FRONTS = ("scalar", "nehvi")


@dataclass(frozen=True)
class HybridOptions:
    """The settings of `molvae.optimize.hybrid.Hybrid`.

    Attributes:
        batch: molecules paid for a step.
        ranked: molecules looked at for each one paid for; 1 with ``surrogate=off`` is a plain genetic algorithm.
        generations: of children a step.
        population: molecules that can be parents.
        warm: molecules drawn from the prior and paid for first when there are no given starts.
        surrogate: whether a Gaussian process ranks; else chance does.
        known: molecules it is fitted to at most.
        boldness: how many standard deviations of a guess count as promise, at most.
        bandit: whether the mix of moves learns.
        moves: names of `molvae.optimize.operators.MOVES` joined by ``+``; left empty, all from given starts, and
            `molvae.optimize.operators.FROM_PRIOR` from the prior.
        gate: off, sane, moses, nats or les, see `molvae.optimize.gate.make_gate`.
        per_scaffold: parents that may share a Murcko scaffold; 0 sets no limit.
        patience: calls without a better top 10 after which a search from drawn starts begins anew from the prior, with
            what the surrogate knows; 0 never does.
        patience_each: the same for each of the given starts, which is then the only parent of its family again.
        stereo: whether stereoisomers of what is paid for are worth a call.
        front: how a batch for several objectives is chosen: scalar, each molecule by a direction of its own, or nehvi,
            by expected growth of the front, see `molvae.optimize.nehvi`, which costs a second a batch.
        update: calls between two updates of the decoder towards the best molecules; 0 makes none.
        update_steps: of training for one update.
        update_anchor: how heavily the KL from the model's own decoder weighs in an update.

    Raises:
        InputError: when a value is out of range.
    """

    batch: int = 20
    ranked: int = 15
    generations: int = 3
    population: int = 100
    warm: int = 64
    surrogate: bool = True
    known: int = 1000
    boldness: float = 1.0
    bandit: bool = True
    moves: str = ""
    gate: str = "sane"
    per_scaffold: int = 0
    patience: int = 500
    patience_each: int = 150
    stereo: bool = False
    front: str = "scalar"
    update: int = 0
    update_steps: int = 20
    update_anchor: float = 1.0

    def chosen_moves(self, drawn: bool) -> tuple[str, ...]:
        """Return the moves of a search whose starts were ``drawn`` or given."""
        return tuple(self.moves.split("+")) if self.moves else FROM_PRIOR if drawn else MOVES

    def __post_init__(self) -> None:
        for name in ("batch", "ranked", "generations", "population", "known"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} = {getattr(self, name)} is not positive.", f"Give {name}=1 or more.")
        for name in ("boldness", "update", "update_steps", "update_anchor"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} = {getattr(self, name)} is out of range.", f"Give {name}=0 or more.")
        unknown = [move for move in self.moves.split("+") if move not in MOVES] if self.moves else []
        if unknown:
            raise InputError(f"There is no move {unknown[0]!r}.", f"Join some of these by +: {', '.join(MOVES)}.")
        if self.front not in FRONTS:
            raise InputError(f"There is no way {self.front!r} to choose a batch.", f"Choose: {' or '.join(FRONTS)}.")
        if self.gate not in GATES:
            raise InputError(f"There is no gate {self.gate!r}.", f"Choose one of: {', '.join(GATES)}.")
