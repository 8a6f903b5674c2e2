"""Propose molecules from parents: by moves in latent space, on graphs and on SELFIES strings.

In: parents and mates, n each. Out: n SMILES, "" where a move made nothing; `MOVES` lists the moves by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from molvae.optimize import graph_moves, graph_swaps, string_moves
from molvae.optimize.population import Member
from molvae.optimize.space import LatentSpace

Points = list[NDArray[np.float64] | None]

_CHUNK = 100
NARROW, WIDE = -0.5, 0.5
"""Posterior noise is scaled by 10 to a power drawn between these."""

LONGEST_STEP = 1.0
"""A step goes at most so far beyond the better of two parents, in units of their distance."""


class Operators:
    """The moves, with what they need: a latent space, chance, and what is known of the parents.

    Args:
        space: to encode and decode in.
        generator: where chance comes from.
    """

    def __init__(self, space: LatentSpace, generator: np.random.Generator) -> None:
        self.space, self.generator = space, generator
        self._codes: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]] | None] = {}
        self._tokens: dict[str, tuple[str, ...]] = {}

    def make(self, shares: Mapping[str, int], parents: Sequence[Member], mates: Sequence[Member]) -> list[str]:
        """Return one SMILES, not checked, for each of n parents and n mates.

        Args:
            shares: how many each move gets, in turn, summing to n.
            parents: n molecules.
            mates: n molecules; a move of one parent leaves them aside.
        """
        self._encode(shares, parents, mates)
        made: list[str] = []
        points: list[NDArray[np.float64] | None] = []
        for name, count in shares.items():
            part = slice(len(made), len(made) + count)
            if name in LATENT_MOVES:
                new = LATENT_MOVES[name](self, parents[part], mates[part]) if count else []
                made += [""] * count
            else:
                new = [None] * count
                made += MOLECULE_MOVES[name](self, parents[part], mates[part])
            points += new
        # One call for all moves: small batches cost the decoder nearly as much as large ones.
        return [one or other for one, other in zip(made, self.decode(points), strict=True)]

    def _encode(self, shares: Mapping[str, int], parents: Sequence[Member], mates: Sequence[Member]) -> None:
        """Encode all that the moves will ask for in one call: small batches cost the encoder as much as large ones."""
        needed: list[Member] = []
        begin = 0
        for name, count in shares.items():
            part = slice(begin, begin + count)
            needed += parents[part] if name in ("noise", "step", "blend") else ()
            needed += mates[part] if name in ("step", "blend") else ()
            begin += count
        self.codes(needed)

    def remember(self, smiles: str, mean: NDArray[np.float64], std: NDArray[np.float64]) -> None:
        """Note where a molecule lies, (D,), and how wide its posterior is, (D,)."""
        self._codes[smiles] = (mean, std)

    def codes(self, members: Sequence[Member]) -> list[tuple[NDArray[np.float64], NDArray[np.float64]] | None]:
        """Return mean and std, (D,) each, of every member; None for one that the model cannot read."""
        missing = [one for one in dict.fromkeys(member.smiles for member in members) if one not in self._codes]
        for start in range(0, len(missing), _CHUNK):
            part = missing[start : start + _CHUNK]
            codes = self.space.encode(part)
            for row, one in enumerate(part):
                self._codes[one] = None if codes.problems[row] else (codes.mean[row], codes.std[row])
        return [self._codes[member.smiles] for member in members]

    def decode(self, latents: Points) -> list[str]:
        """Return the SMILES at each of n latents (D,), "" for None."""
        rows = [row for row, latent in enumerate(latents) if latent is not None]
        smiles = [""] * len(latents)
        if rows:
            decoded = self.space.decode(np.array([latents[row] for row in rows]))
            for row, one in zip(rows, decoded, strict=True):
                smiles[row] = one
        return smiles

    def noise(self, parents: Sequence[Member], mates: Sequence[Member]) -> Points:
        """Draw around each parent, from its posterior made narrower or wider."""
        shape = (len(parents), self.space.dimension)
        noise = self.generator.standard_normal(shape)
        widths = 10.0 ** self.generator.uniform(NARROW, WIDE, len(parents))
        codes = self.codes(parents)
        return [
            None if code is None else code[0] + width * code[1] * row
            for code, width, row in zip(codes, widths, noise, strict=True)
        ]  # fmt: skip

    def step(self, parents: Sequence[Member], mates: Sequence[Member]) -> Points:
        """Step from the mate past the parent, which is the better one more often than not, with some noise."""
        lengths = self.generator.uniform(-LONGEST_STEP, LONGEST_STEP, len(parents))
        noise = 0.3 * self.generator.standard_normal((len(parents), self.space.dimension))
        pairs = zip(self.codes(parents), self.codes(mates), lengths, noise, strict=True)
        return [
            None if one is None or other is None else one[0] + length * (one[0] - other[0]) + one[1] * row
            for one, other, length, row in pairs
        ]  # fmt: skip

    def blend(self, parents: Sequence[Member], mates: Sequence[Member]) -> Points:
        """Take each coordinate from the parent or the mate."""
        shares = self.generator.uniform(0.1, 0.5, (len(parents), 1))
        masks = self.generator.random((len(parents), self.space.dimension)) < shares
        pairs = zip(self.codes(parents), self.codes(mates), masks, strict=True)
        return [
            None if one is None or other is None else np.where(mask, other[0], one[0]) for one, other, mask in pairs
        ]  # fmt: skip

    def prior(self, parents: Sequence[Member], mates: Sequence[Member]) -> Points:
        """Draw from the model, whatever the parents."""
        return list(self.space.sample(len(parents), self.generator))

    def graph_cross(self, parents: Sequence[Member], mates: Sequence[Member]) -> list[str]:
        """Join a piece of the parent to a piece of the mate."""
        pairs = zip(parents, mates, strict=True)
        return [graph_moves.cross(one.mol, other.mol, self.generator) for one, other in pairs]

    def graph_mutate(self, parents: Sequence[Member], mates: Sequence[Member]) -> list[str]:
        """Edit the parent's graph once."""
        return [graph_moves.mutate(one.mol, self.generator) for one in parents]

    def graph_swap(self, parents: Sequence[Member], mates: Sequence[Member]) -> list[str]:
        """Swap a branch of the parent for a common group, or one of its rings for an aromatic or a saturated one."""
        return [graph_swaps.swap(one.mol, self.generator) for one in parents]

    def _strings(self, members: Sequence[Member]) -> list[tuple[str, ...]]:
        for member in members:
            if member.smiles not in self._tokens:
                self._tokens[member.smiles] = string_moves.tokens_of(member.smiles)
        return [self._tokens[member.smiles] for member in members]

    def string_cross(self, parents: Sequence[Member], mates: Sequence[Member]) -> list[str]:
        """Splice the SELFIES of the parent and the mate."""
        pairs = zip(self._strings(parents), self._strings(mates), strict=True)
        return [string_moves.splice(one, other, self.generator) for one, other in pairs]

    def string_mutate(self, parents: Sequence[Member], mates: Sequence[Member]) -> list[str]:
        """Edit the parent's SELFIES in a few places."""
        return [string_moves.mutate(tokens, string_moves.TOKENS, self.generator) for tokens in self._strings(parents)]


LATENT_MOVES: dict[str, Callable[[Operators, Sequence[Member], Sequence[Member]], Points]] = {
    "noise": Operators.noise,
    "step": Operators.step,
    "blend": Operators.blend,
    "prior": Operators.prior,
}
"""Name to move. Each takes n parents and n mates and returns n latents (D,), None where it makes none."""

MOLECULE_MOVES: dict[str, Callable[[Operators, Sequence[Member], Sequence[Member]], list[str]]] = {
    "graph-cross": Operators.graph_cross,
    "graph-mutate": Operators.graph_mutate,
    "graph-swap": Operators.graph_swap,
    "string-cross": Operators.string_cross,
    "string-mutate": Operators.string_mutate,
}
"""Name to move. Each takes n parents and n mates and returns n SMILES, "" where it makes none."""

MOVES = (*LATENT_MOVES, *MOLECULE_MOVES)
FROM_PRIOR = tuple(name for name in MOVES if name != "graph-swap")
"""The moves of a search from the prior that does not name its own: those that the figures of PMO were measured with.
From given starts all of `MOVES` are used: QED of 16 leads without an aromatic ring came to .9 for all of them after 277
calls on average, and without swaps for 8 of them after 655 (similarity .4, at most 1,000 calls, no surrogate)."""
