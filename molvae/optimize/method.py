"""Say what a search method is: it proposes points or molecules and is told what they were worth.

In: start molecules with their places and scores. Out: `Proposal`s of points (n, D) or molecules, and their parents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from molvae.generate.exact_noise import Noise
from molvae.optimize.space import LatentSpace


@dataclass(frozen=True)
class Starts:
    """S molecules that a search sets out from, S at least 1.

    Attributes:
        smiles: canonical SMILES.
        mean: (S, D) float64, where each lies.
        std: (S, D) float64, the posterior's width there, above 0.
        scores: (S,) float64, higher is better, NaN where the oracle failed.
        drawn: whether they came from the prior, so that nobody asked for each of them to be improved.
    """

    smiles: tuple[str, ...]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    scores: NDArray[np.float64]
    drawn: bool = False

    def __len__(self) -> int:
        return len(self.smiles)

    def take(self, rows: Sequence[int]) -> Starts:
        """Return the starts at ``rows``, in that order."""
        kept = list(rows)
        smiles = tuple(self.smiles[row] for row in kept)
        return Starts(smiles, self.mean[kept], self.std[kept], self.scores[kept], self.drawn)


@dataclass(frozen=True)
class Proposal:
    """n points to decode and score, or n molecules to score as they are.

    Attributes:
        latents: (n, D) float64; (n, 0) when molecules are given instead.
        starts: (n,) int64, the start each one descends from, as a row of `Starts`.
        parents: n canonical SMILES, the molecule each one was made from: a start, or one told before.
        smiles: n SMILES in any writing, "" for none; None when ``latents`` are to be decoded.
        noise: of n molecules, held while the points are decoded; None decodes greedily, except for points made from a
            start that had to be repaired, which hold that start's, see `molvae.optimize.starts.decode_proposal`.
    """

    latents: NDArray[np.float64]
    starts: NDArray[np.int64]
    parents: tuple[str, ...]
    smiles: tuple[str, ...] | None = None
    noise: Noise | None = None

    @classmethod
    def of_molecules(cls, smiles: Sequence[str], starts: Sequence[int], parents: Sequence[str]) -> Proposal:
        """Return a proposal of n molecules, without latents."""
        return cls(np.empty((len(smiles), 0)), np.array(starts, dtype=np.int64), tuple(parents), tuple(smiles))

    def __len__(self) -> int:
        return len(self.parents)


Screen = Callable[[Sequence[str], Sequence[int]], NDArray[np.bool_]]
"""Takes n canonical SMILES and the starts they descend from, returns (n,) whether each would be scored at all."""


class Method(Protocol):
    """A search that asks and is told, in turns.

    A method is made from (space, starts, generator); all its chance comes from ``generator``, and it may not depend on
    the budget, time or anything but what it is told. So the same seed and the same scores give the same course, and an
    interrupted search is resumed by running it again. Scores are to be maximised.

    A method with settings takes one more argument, a dataclass of them, and names its class in a class attribute
    ``options`` (see `molvae.optimize.options`). One that looks at more molecules than it proposes is `Screened`.

    Attributes:
        batch: how many points it likes to be asked for.
    """

    batch: int
    summary: ClassVar[str]

    def __init__(self, space: LatentSpace, starts: Starts, generator: np.random.Generator) -> None: ...

    def ask(self, n: int) -> Proposal:
        """Return exactly ``n`` points or molecules; `tell` must follow before the next `ask`."""

    def tell(self, proposal: Proposal, smiles: Sequence[str], scores: NDArray[np.float64]) -> None:
        """Learn what the last proposal gave.

        Args:
            proposal: what `ask` returned.
            smiles: n canonical SMILES, "" where there is no molecule.
            scores: (n,) float64; NaN where there is no molecule, the oracle failed or a constraint is broken.
        """


@runtime_checkable
class Screened(Protocol):
    """A method that ranks molecules before it proposes them and so can leave out those that break a constraint.

    Attributes:
        screen: set by the search; None while there are no constraints.
    """

    screen: Screen | None


@runtime_checkable
class Several(Protocol):
    """A method that can search for a Pareto front; its class says so by ``several = True``.

    Attributes:
        several: True.
        objectives: set by the search when there is more than one; takes n canonical SMILES that were scored, returns
            (n, M), each to be maximised, NaN where there is none.
    """

    several: ClassVar[bool]
    objectives: Callable[[Sequence[str]], NDArray[np.float64]] | None
