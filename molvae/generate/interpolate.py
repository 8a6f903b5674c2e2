"""Walk from one molecule to another in latent space.

In: two SMILES. Out: a DataFrame of the molecules on the way, with how like either end each one is.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from molvae.chem.fingerprints import morgan, tanimoto
from molvae.errors import InputError
from molvae.generate.latents import Decoded, decode_latents
from molvae.generate.posterior import Posteriors, noise_distance, read_all
from molvae.nn.checkpoint import LoadedModel

MOST_STEPS = 10_000
_PARALLEL = 1e-6


def latent_path(
    start: NDArray[np.float64], end: NDArray[np.float64], steps: int, *, spherical: bool = True
) -> NDArray[np.float64]:
    """Return the points of a path, both ends included.

    The codes of molecules lie about a sphere around the origin, as draws from N(0, I) do, and a straight line between
    two of them passes through its inside, where no molecule's code lies. The spherical path turns the direction evenly
    and changes the length evenly, so it stays among codes. Between parallel or opposite codes it is the straight line.

    Args:
        start: (D,).
        end: (D,).
        steps: how many parts the path has, at least 1.
        spherical: keep to the sphere; otherwise a straight line.

    Returns:
        float64 array (steps + 1, D).

    Source: spherical interpolation of latents, White (2016), https://arxiv.org/abs/1609.04468

    >>> latent_path(np.array([2.0, 0.0]), np.array([0.0, 4.0]), 2).round(3).tolist()
    [[2.0, 0.0], [2.121, 2.121], [0.0, 4.0]]
    >>> latent_path(np.array([2.0, 0.0]), np.array([0.0, 4.0]), 2, spherical=False).tolist()
    [[2.0, 0.0], [1.0, 2.0], [0.0, 4.0]]
    """
    share = np.linspace(0.0, 1.0, steps + 1)[:, None]
    straight: NDArray[np.float64] = (1 - share) * start + share * end
    lengths = float(np.linalg.norm(start)), float(np.linalg.norm(end))
    if not spherical or min(lengths) == 0.0:
        return straight
    cosine = float(np.clip(start @ end / (lengths[0] * lengths[1]), -1.0, 1.0))
    angle = float(np.arccos(cosine))
    if np.sin(angle) < _PARALLEL:
        return straight
    unit = np.sin((1 - share) * angle) * start / lengths[0] + np.sin(share * angle) * end / lengths[1]
    path: NDArray[np.float64] = unit / np.sin(angle) * ((1 - share) * lengths[0] + share * lengths[1])
    # Rounding must not move the ends: they are the two molecules.
    path[0], path[-1] = start, end
    return path


def interpolate(
    loaded: LoadedModel, first: str, second: str, *, steps: int = 10, spherical: bool = True, fold: bool = True
) -> pd.DataFrame:
    """Decode the path between the posterior means of two molecules greedily; every step is checked by RDKit.

    Args:
        loaded: the model.
        first: SMILES of A.
        second: SMILES of B.
        steps: parts of the path, 1 to `MOST_STEPS`; the table has ``steps + 1`` points before folding.
        spherical: see `latent_path`.
        fold: show steps in a row that give the same molecule as one row.

    Returns:
        In order from A to B: position (0 is A, 1 is B) and until (the last position with this molecule), steps (how
        many points are folded here), smiles (None where a point gives no molecule), state (``ok`` or why not),
        similarity_a and similarity_b (Tanimoto to A and B as given, Morgan radius 2, 2048 bits, stereo ignored; NaN
        without a molecule), distance_a and distance_b (see `molvae.generate.posterior.noise_distance`, of the first
        point), and nats (-log p of what was written). ``attrs["ends"]`` holds the canonical SMILES of A and B. The
        first and last row are what the codes of A and B decode to, which need not be A and B.

    Raises:
        InputError: when the model cannot read one of the two, or ``steps`` is out of range.
    """
    if not 1 <= steps <= MOST_STEPS:
        raise InputError(f"A path of {steps} steps is not possible.", f"Choose 1 to {MOST_STEPS} steps.")
    ends = read_all(loaded, [first, second])
    path = latent_path(ends.mean[0], ends.mean[1], steps, spherical=spherical)
    table = _table(path, decode_latents(loaded, path), ends)
    table = _fold(table) if fold else table
    table.attrs["ends"] = [str(smiles) for smiles in ends.smiles]
    return table


def _table(path: NDArray[np.float64], decoded: list[Decoded], ends: Posteriors) -> pd.DataFrame:
    smiles = [result.smiles for result in decoded]
    marks = morgan([one or "" for one in [*ends.smiles, *smiles]])
    similar = np.where([one is None for one in smiles], np.nan, tanimoto(marks[:2], marks[2:]))
    position = np.linspace(0.0, 1.0, len(path))
    away = [noise_distance(path, ends.mean[end], ends.std[end]) for end in (0, 1)]
    return pd.DataFrame(
        {
            "position": position,
            "until": position,
            "steps": np.ones(len(path), dtype=np.int64),
            "smiles": pd.Series(smiles, dtype=object),
            "state": pd.Series([result.state for result in decoded], dtype=object),
            "similarity_a": similar[0].astype(np.float64),
            "similarity_b": similar[1].astype(np.float64),
            "distance_a": away[0],
            "distance_b": away[1],
            "nats": [result.nats for result in decoded],
        }
    )


def _fold(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row for every run of the same molecule, or of the same failure."""
    what = [f"{state} {smiles}" for state, smiles in zip(table["state"], table["smiles"], strict=True)]
    runs = np.cumsum([0, *(before != after for before, after in pairwise(what))])
    folded = table.groupby(runs).head(1).reset_index(drop=True)
    folded["until"] = table.groupby(runs)["until"].last().to_numpy()
    folded["steps"] = table.groupby(runs).size().to_numpy()
    return folded
