"""Find out where a search sets out from: the user's molecules, or draws from the prior.

In: SMILES or nothing, and a `LatentSpace`. Out: `Start`s, each with its round trip: does it decode to itself?
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from molvae.chem.rejected import Rejected
from molvae.chem.standardize import StandardizeOptions, standardize
from molvae.errors import InputError
from molvae.generate.exact_noise import Noise
from molvae.optimize.method import Proposal
from molvae.optimize.space import HoldingSpace, LatentSpace

START_COLUMNS = ("input", "smiles", "decoded", "exact", "repaired", "problem", "score", "left_out")
_TRIES = 8


@dataclass
class Start:
    """A molecule to set out from.

    Attributes:
        given: as the user wrote it, "" when it was drawn from the prior.
        smiles: canonical SMILES, "" when it is no molecule.
        decoded: what its latent alone decodes to; when that is another molecule the start is repaired by ``noise``,
            and where the space cannot do that the search runs from there all the same.
        problem: why it cannot be used, "" when it can.
        mean: (D,) where it lies.
        std: (D,) the width of its posterior.
        score: the oracle's own value, NaN until it is known and when it failed.
        noise: of this one molecule, under which its latent gives it back; None when nothing had to be repaired.
        left_out: the smaller parts of a salt that the model cannot read as a whole, "" when nothing was left out.
    """

    given: str
    smiles: str
    decoded: str
    problem: str
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    score: float = math.nan
    noise: Noise | None = None
    left_out: str = ""

    @property
    def repaired(self) -> bool:
        """Whether the latent decodes to the molecule only with noise that is held."""
        return self.noise is not None

    @property
    def exact(self) -> bool:
        """Whether the latent alone decodes to the molecule itself."""
        return bool(self.smiles) and self.decoded == self.smiles

    def facts(self) -> dict[str, object]:
        """Return what a table says of it."""
        values = (self.given, self.smiles, self.decoded, self.exact, self.repaired, self.problem, self.score)
        return dict(zip(START_COLUMNS, (*values, self.left_out), strict=True))


def given_starts(space: LatentSpace, given: Sequence[str]) -> list[Start]:
    """Encode and decode the user's molecules: one `Start` per distinct molecule, the unusable ones with their problem.

    One that does not decode to itself is repaired by its exact code, where the space can. Of a salt that the space
    cannot encode the largest part is taken, and what was left out is noted.

    Raises:
        InputError: when none can be used; says why most cannot.
    """
    given_as: dict[str, tuple[str, str]] = {}
    unusable: list[Start] = []
    nowhere = np.full(space.dimension, np.nan)
    for one in given:
        molecule = standardize(one)
        if isinstance(molecule, Rejected):
            unusable.append(Start(one, "", "", f"{molecule.reason} {molecule.detail}".strip(), nowhere, nowhere))
        else:
            smiles, left_out = _without_salt(space, molecule.smiles)
            given_as.setdefault(smiles, (one, left_out))
    names = list(given_as)
    codes = space.encode(names)
    good = [row for row, problem in enumerate(codes.problems) if not problem]
    decoded = dict(zip(good, space.decode(codes.mean[good]), strict=True)) if good else {}
    starts = [
        Start(said, one, decoded.get(row, ""), codes.problems[row], codes.mean[row], codes.std[row], left_out=left_out)
        for row, (one, (said, left_out)) in enumerate(given_as.items())
    ]
    if not good:
        problems = {start.problem.split()[0]: start.problem for start in [*unusable, *starts]}
        reasons = Counter(start.problem.split()[0] for start in [*unusable, *starts])
        why = problems[reasons.most_common(1)[0][0]]
        raise InputError(
            f"The start molecule cannot be encoded: {why}."
            if len(given) == 1
            else f"None of the {len(given)} start molecules can be encoded; most often: {why}.",
            "Give molecules like those the model was trained on; molvae finetune teaches a model what is new to it.",
        )
    _repair(space, [start for start in starts if not start.problem and not start.exact])
    return [*starts, *unusable]


def _without_salt(space: LatentSpace, smiles: str) -> tuple[str, str]:
    """Return a molecule that the space can encode and what was left out for that, or the molecule as it is and ""."""
    if "." not in smiles or not space.encode([smiles]).problems[0]:
        return smiles, ""
    largest = standardize(smiles, StandardizeOptions(largest_fragment=True))
    if isinstance(largest, Rejected) or space.encode([largest.smiles]).problems[0]:
        return smiles, ""
    parts = [standardize(part) for part in smiles.split(".")]
    others = sorted(one.smiles for one in parts if not isinstance(one, Rejected))
    if largest.smiles in others:
        others.remove(largest.smiles)
    return largest.smiles, ".".join(others)


def _repair(space: LatentSpace, starts: Sequence[Start]) -> None:
    """Give each start the noise under which its latent decodes to it."""
    if starts and isinstance(space, HoldingSpace):
        for start, noise in zip(starts, space.repair([start.smiles for start in starts]), strict=True):
            start.noise = noise


def decode_proposal(space: LatentSpace, proposal: Proposal, starts: Sequence[Start]) -> list[str]:
    """Decode n points: those with noise of their own, or made from a repaired start molecule itself, with it held.

    A point at which held noise still gives the start itself, which is known, has the noise of one token drawn anew.

    Args:
        space: where the points lie.
        proposal: n points.
        starts: as ``proposal.starts`` counts them.
    """
    origins = zip(proposal.parents, (starts[row] for row in proposal.starts.tolist()), strict=True)
    noises = [start.noise if parent == start.smiles else None for parent, start in origins]
    if proposal.noise is not None:
        noises = [proposal.noise.take(np.array([row])) for row in range(len(noises))]
    if not isinstance(space, HoldingSpace):
        return space.decode(proposal.latents)
    free = [row for row, noise in enumerate(noises) if noise is None]
    smiles = dict(zip(free, space.decode(proposal.latents[free]), strict=True)) if free else {}
    held = {row: noise for row, noise in enumerate(noises) if noise is not None}
    if held:
        rows = list(held)
        smiles |= zip(rows, space.decode_held(proposal.latents[rows], Noise.join(list(held.values()))), strict=True)
    still = [row for row in held if proposal.noise is None and smiles[row] == proposal.parents[row]]
    if still:
        noise = Noise.join([held[row] for row in still])
        smiles |= zip(still, space.decode_changed(proposal.latents[still], noise), strict=True)
    return [smiles[row] for row in range(len(noises))]


def drawn_starts(space: LatentSpace, n: int, generator: np.random.Generator) -> list[Start]:
    """Draw ``n`` distinct molecules from the prior, fewer when it repeats itself.

    Raises:
        InputError: when no draw is a molecule that the model can read.
    """
    starts: dict[str, Start] = {}
    for _ in range(_TRIES):
        latents = space.sample(n, generator)
        smiles = space.decode(latents)
        codes = space.encode(smiles)
        for row, one in enumerate(smiles):
            if one and not codes.problems[row] and len(starts) < n:
                starts.setdefault(one, Start("", one, one, "", latents[row], codes.std[row]))
        if len(starts) == n:
            break
    if not starts:
        raise InputError("The model's prior gives no molecules to start from.", "Give molecules with --start FILE.")
    return list(starts.values())
