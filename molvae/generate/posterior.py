"""Read molecules as q(z|x): where each one lies in latent space, and how wide its own noise is.

In: SMILES. Out: `Posteriors`, means and standard deviations (N, D), and distances measured in that noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.chem.parallel import map_items
from molvae.chem.rejected import REASONS, Rejected
from molvae.data.batch import collate
from molvae.errors import InputError
from molvae.generate.chemistry import Read, Readable
from molvae.generate.sampling import default_batch_size
from molvae.nn.checkpoint import LoadedModel

NARROWEST = 1e-3
"""A posterior narrower than this is treated as this wide: a distance in its noise would say nothing."""


@dataclass(frozen=True)
class Posteriors:
    """N molecules as q(z|x), in the order given.

    Attributes:
        mean: (N, D) float64, a row of NaN where the molecule cannot be read.
        std: (N, D) float64, at least `NARROWEST`; NaN likewise.
        smiles: canonical SMILES, None where it cannot be read.
        rejected: why not; None where it can.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    smiles: list[str | None]
    rejected: list[Rejected | None]


@torch.inference_mode()
def read_posteriors(loaded: LoadedModel, smiles: Sequence[str], workers: int | None = None) -> Posteriors:
    """Read molecules; stereo, charges, isotopes and salts are kept, and an unknown token rejects a molecule.

    Args:
        loaded: the model.
        smiles: N strings.
        workers: processes for chemistry; None means every core.
    """
    model = loaded.model
    read = cast("list[Readable | Rejected]", map_items(Read(loaded.vocabulary), smiles, workers))
    rows = [row for row, result in enumerate(read) if isinstance(result, Readable)]
    mean = np.full((len(read), model.latent), np.nan)
    std = mean.copy()
    size = default_batch_size(model.device)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        token_ids: list[NDArray[np.integer]] = [
            np.array(cast(Readable, read[row]).token_ids, dtype=np.int64) for row in part
        ]
        batch = collate(token_ids).to(model.device)
        posterior = model.encode(batch.tokens, batch.lengths)
        mean[part] = posterior.mean.cpu().double().numpy()
        std[part] = posterior.log_std.exp().clamp_min(NARROWEST).cpu().double().numpy()
    return Posteriors(
        mean,
        std,
        [result.smiles if isinstance(result, Readable) else None for result in read],
        [result if isinstance(result, Rejected) else None for result in read],
    )


def read_all(loaded: LoadedModel, smiles: Sequence[str]) -> Posteriors:
    """Read molecules that must all be readable.

    Args:
        loaded: the model.
        smiles: N strings.

    Raises:
        InputError: names the first molecule that the model cannot read, and why.
    """
    found = read_posteriors(loaded, smiles)
    for given, rejected in zip(smiles, found.rejected, strict=True):
        if rejected is not None:
            why = rejected.detail or REASONS.get(rejected.reason, rejected.reason)
            foreign = rejected.reason == "vocabulary"
            raise InputError(
                f"The model cannot read {given!r} ({rejected.reason}): {why}.",
                "Give another molecule, or a model that knows this kind with -m." if foreign else "Correct the SMILES.",
            )
    return found


def noise_distance(z: NDArray[np.float64], mean: NDArray[np.float64], std: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far latents lie from a molecule, in units of its posterior's own noise, (N,).

    The root mean square over the dimensions of (z - mean) / std: a draw from q(z|x) lies at about 1, and a draw with
    its noise multiplied by r at about r, whatever D is.

    Args:
        z: (N, D).
        mean: (D,).
        std: (D,), above 0.

    >>> noise_distance(np.array([[0.0, 0.0], [2.0, 0.4]]), np.zeros(2), np.array([1.0, 0.2])).tolist()
    [0.0, 2.0]
    """
    scaled = (z - mean) / std
    distance: NDArray[np.float64] = np.sqrt(np.square(scaled).mean(axis=-1))
    return distance
