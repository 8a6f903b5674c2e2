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
from molvae.chem.standardize import standardize
from molvae.errors import InputError
from molvae.optimize.space import LatentSpace

START_COLUMNS = ("input", "smiles", "decoded", "exact", "problem", "score")
_TRIES = 8


@dataclass
class Start:
    """A molecule to set out from.

    Attributes:
        given: as the user wrote it, "" when it was drawn from the prior.
        smiles: canonical SMILES, "" when it is no molecule.
        decoded: what its latent decodes to; the search runs from there all the same when that is another molecule.
        problem: why it cannot be used, "" when it can.
        mean: (D,) where it lies.
        std: (D,) the width of its posterior.
        score: the oracle's own value, NaN until it is known and when it failed.
    """

    given: str
    smiles: str
    decoded: str
    problem: str
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    score: float = math.nan

    @property
    def exact(self) -> bool:
        """Whether the latent decodes to the molecule itself."""
        return bool(self.smiles) and self.decoded == self.smiles

    def facts(self) -> dict[str, object]:
        """Return what a table says of it."""
        values = (self.given, self.smiles, self.decoded, self.exact, self.problem, self.score)
        return dict(zip(START_COLUMNS, values, strict=True))


def given_starts(space: LatentSpace, given: Sequence[str]) -> list[Start]:
    """Encode and decode the user's molecules: one `Start` per distinct molecule, the unusable ones with their problem.

    Raises:
        InputError: when none can be used; says why most cannot.
    """
    canonical: dict[str, str] = {}
    unusable: list[Start] = []
    nowhere = np.full(space.dimension, np.nan)
    for one in given:
        molecule = standardize(one)
        if isinstance(molecule, Rejected):
            unusable.append(Start(one, "", "", f"{molecule.reason} {molecule.detail}".strip(), nowhere, nowhere))
        else:
            canonical.setdefault(molecule.smiles, one)
    smiles = list(canonical)
    codes = space.encode(smiles)
    good = [row for row, problem in enumerate(codes.problems) if not problem]
    decoded = dict(zip(good, space.decode(codes.mean[good]), strict=True)) if good else {}
    starts = [
        Start(canonical[one], one, decoded.get(row, ""), codes.problems[row], codes.mean[row], codes.std[row])
        for row, one in enumerate(smiles)
    ]
    if not good:
        reasons = Counter(start.problem.split()[0] for start in [*unusable, *starts])
        why = f"; most often: {reasons.most_common(1)[0][0]}" if reasons else ""
        raise InputError(
            f"None of the {len(given)} start molecules can be encoded{why}.",
            "Give SMILES of molecules like those the model was trained on, or leave --start out.",
        )
    return [*starts, *unusable]


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
