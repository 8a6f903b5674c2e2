"""Guess scores from scores: an exact Gaussian process on what molecules are built from.

In: `Features` of N molecules and their scores (N,). Out: mean and standard deviation (M,) for M others.

The kernel is a sum of Tanimoto kernels on Morgan and on atom pair bits and a Gaussian one on standardised descriptors;
its weights and its noise are chosen from a table by marginal likelihood. Tanimoto Gaussian processes as in GAUCHE,
Griffiths et al. 2023, https://arxiv.org/abs/2212.04450
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from molvae.optimize.features import Features, similarity
from molvae.optimize.gaussian import Array, cholesky, evidence, extend, solve

Floats = NDArray[np.float32]

WIDTHS = (1.0, 3.0)
"""Lengths of the Gaussian kernel, in standard deviations of a descriptor times the root of their number."""

NOISES = (1e-3, 1e-2, 0.1)
EXTENDED = 800
"""From so many molecules on the factor of the kernel is extended; fewer cost little to factorise anew."""

GROWTH = 1.2
"""The kernel is chosen anew when there are so many times the molecules it was chosen for."""

JUDGED = 300
"""Molecules the marginal likelihood is computed on; more would not change the choice."""


@dataclass(frozen=True)
class Kernel:
    """Weights that sum to 1, of Morgan bits, atom pair bits and descriptors; the width; the noise's variance."""

    morgan: float
    pairs: float
    numbers: float
    width: float
    noise: float


MORGAN_ONLY = tuple(Kernel(1.0, 0.0, 0.0, 1.0, noise) for noise in NOISES)

MIXED = tuple(
    Kernel(morgan, pairs, 1.0 - morgan - pairs, width, noise)
    for morgan, pairs in ((1.0, 0.0), (0.5, 0.5), (0.6, 0.1), (0.25, 0.25), (0.1, 0.1), (0.0, 0.6))
    for width in (WIDTHS if morgan + pairs < 1.0 else WIDTHS[:1])
    for noise in NOISES
)


@dataclass(frozen=True)
class _Parts:
    """The parts of a kernel between N and M molecules, before they are weighed: similarities, squared distances."""

    morgan: Floats
    pairs: Floats
    squares: Array

    def weigh(self, kernel: Kernel) -> Array:
        """Return the kernel (N, M)."""
        total = np.zeros(self.morgan.shape)
        if kernel.morgan:
            total += kernel.morgan * self.morgan
        if kernel.pairs:
            total += kernel.pairs * self.pairs
        if kernel.numbers:
            total += kernel.numbers * np.exp(-self.squares / (2 * kernel.width**2))
        return total

    def part(self, rows: NDArray[np.int64]) -> _Parts:
        """Return the parts among ``rows``."""
        both = np.ix_(rows, rows)
        return _Parts(self.morgan[both], self.pairs[both], self.squares[both] if self.squares.size else self.squares)


def _border(old: Floats, side: Floats | None, square: Floats) -> Floats:
    """Return [[old, side.T], [side, square]]."""
    return square if side is None else np.block([[old, side.T], [side, square]])


class GaussianProcess:
    """An exact Gaussian process over molecules that are added, dropped, and fitted to scores.

    Similarities between molecules are kept, and where there are many so is the factor of the kernel: a fit after a few
    new molecules adds a few rows to it. Then the units of the descriptors, and the factor, are made anew only when
    molecules were dropped or there are a fifth more than the kernel was chosen for.

    Args:
        kernels: what to choose from.

    >>> from rdkit import Chem
    >>> from molvae.optimize.features import featurize
    >>> mols = featurize([Chem.MolFromSmiles("C" * n) for n in (2, 4, 6, 8)])
    >>> process = GaussianProcess()
    >>> process.add(mols)
    >>> process.fit(np.array([1.0, 2.0, 3.0, 4.0]))
    >>> bool(abs(process.predict(mols)[0] - [1, 2, 3, 4]).max() < 0.5)
    True
    """

    def __init__(self, kernels: tuple[Kernel, ...] = MIXED) -> None:
        self.kernels, self.kernel = kernels, kernels[0]
        self.ready = False
        self.known: Features | None = None
        self._parts = _Parts(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32), np.zeros((0, 0)))
        self._chosen_at = 0
        self._lower: Array = np.zeros((0, 0))

    def __len__(self) -> int:
        return 0 if self.known is None else len(self.known)

    def add(self, new: Features) -> None:
        """Take in molecules; `fit` must follow before the next `predict`."""
        self.ready = False
        cross = self._bits(new, self.known, self.kernels) if self.known is not None else (None, None)
        own = self._bits(new, new, self.kernels)
        blocks = [_border(old, side, square) for old, side, square in zip(self._bit_parts(), cross, own, strict=True)]
        self.known = new if self.known is None else self.known.join(new)
        self._parts = _Parts(blocks[0], blocks[1], np.zeros((0, 0)))

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Drop all molecules but those at ``rows``."""
        if self.known is not None:
            self.known = self.known.take(rows)
            self._parts, self.ready = self._parts.part(rows), False
            self._lower = np.zeros((0, 0))

    def _bit_parts(self) -> tuple[Floats, Floats]:
        return self._parts.morgan, self._parts.pairs

    @staticmethod
    def _bits(left: Features, right: Features, kernels: Sequence[Kernel]) -> tuple[Floats, Floats]:
        """Return the two Tanimoto similarities (N, M); zeros for one that no kernel asks for."""
        blank = np.zeros((len(left), len(right)), dtype=np.float32)
        return (
            similarity(left.morgan, right.morgan) if any(one.morgan for one in kernels) else blank,
            similarity(left.pairs, right.pairs) if any(one.pairs for one in kernels) else blank,
        )

    def _squares(self, left: Features, right: Features) -> Array:
        """Return the mean squared difference (N, M) of standardised descriptors."""
        a, b = ((one.numbers - self._center) / self._scale for one in (left, right))
        squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
        return np.asarray(np.maximum(squares, 0.0) / a.shape[1])

    def fit(self, values: Array) -> None:
        """Learn the scores (N,) of the N molecules there are; unless two differ, it stays not ``ready``."""
        self.ready = False
        if self.known is None or not np.ptp(values) > 0 or not np.isfinite(values).all():
            return
        self._mean, self._spread = float(values.mean()), float(values.std())
        if not 1e-12 * abs(self._mean) < self._spread < np.inf:
            return
        scaled = (values - self._mean) / self._spread
        if len(self._lower) >= EXTENDED and len(values) <= GROWTH * self._chosen_at:
            self._extend(self.known)
        else:
            self._factorize(self.known, scaled)
        white = solve(self._lower, scaled[:, None])[:, 0]
        self._weights = solve(self._lower, white[:, None], transpose=True)[:, 0]
        self._amplitude = float((white**2).mean())
        self.ready = True

    def _factorize(self, known: Features, scaled: Array) -> None:
        """Make the factor of the kernel, its units and, when there are many more molecules, its weights anew."""
        self._center = known.numbers.mean(0)
        # A descriptor that never changed must neither divide by zero nor dominate once it does.
        self._scale = np.maximum(known.numbers.std(0), np.maximum(0.05 * np.abs(self._center), 0.3))
        parts = _Parts(*self._bit_parts(), self._squares(known, known))
        if not self._chosen_at or len(scaled) > GROWTH * self._chosen_at:
            self._choose(parts, scaled)
        self._lower = cholesky(parts.weigh(self.kernel), self.kernel.noise)

    def _extend(self, known: Features) -> None:
        """Add what has come since to the factor of the kernel."""
        old = len(self._lower)
        new = known.take(np.arange(old, len(known)))
        if len(new):
            morgan, pairs = self._bit_parts()
            gram = _Parts(morgan[old:], pairs[old:], self._squares(new, known)).weigh(self.kernel)
            self._lower = extend(self._lower, gram[:, :old], gram[:, old:], self.kernel.noise)

    def _choose(self, parts: _Parts, values: Array) -> None:
        """Take the kernel under which the scores are likeliest, judged by half of the best and a sample of the rest."""
        order = np.argsort(-values, kind="stable")
        if len(order) > JUDGED:
            rest = order[JUDGED // 2 :]
            order = np.concatenate([order[: JUDGED // 2], rest[:: -(-2 * len(rest) // JUDGED)]])
        part = parts.part(order)
        scores = [evidence(part.weigh(kernel), kernel.noise, values[order]) for kernel in self.kernels]
        self.kernel = self.kernels[int(np.argmax(scores))]
        self._chosen_at = len(values)

    def predict(self, asked: Features) -> tuple[Array, Array]:
        """Return mean and standard deviation (M,) of the scores of M molecules.

        Raises:
            ValueError: when there is nothing to predict from.
        """
        if not self.ready or self.known is None:
            raise ValueError("the process has not been fitted to at least two different scores")
        parts = _Parts(*self._bits(asked, self.known, (self.kernel,)), self._squares(asked, self.known))
        cross = parts.weigh(self.kernel)
        mean = self._mean + self._spread * (cross @ self._weights)
        explained = (solve(self._lower, cross.T) ** 2).sum(0)
        variance = np.maximum(1.0 - explained, 1e-6) * self._amplitude
        return np.asarray(mean), np.asarray(self._spread * np.sqrt(variance))

    def draw(self, asked: Features, n: int, generator: np.random.Generator) -> Array:
        """Return ``n`` joint draws (n, M) of the scores, without their noise, of M molecules.

        Raises:
            ValueError: when there is nothing to predict from.
        """
        mean, _ = self.predict(asked)
        assert self.known is not None
        cross, square = (
            _Parts(*self._bits(asked, one, (self.kernel,)), self._squares(asked, one)).weigh(self.kernel)
            for one in (self.known, asked)
        )
        white = solve(self._lower, cross.T)
        lower = cholesky(square - white.T @ white, 1e-6)
        normal = generator.standard_normal((n, len(mean)))
        return np.asarray(mean + self._spread * np.sqrt(self._amplitude) * (normal @ lower.T))
