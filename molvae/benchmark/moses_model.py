"""Measure what only a model can be asked: does it reconstruct, what do its codes cost, does its prior copy.

In: a model, held-out molecules, a training set. Out: figures that JSON can hold, each with its n and seed.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.benchmark.card import BARE
from molvae.benchmark.evaluation import Settings, measure_likelihood
from molvae.benchmark.held_out import HeldOut
from molvae.benchmark.protocols import reconstruct_greedily
from molvae.benchmark.references_training import TrainingSet
from molvae.data.batch import collate
from molvae.generate.likelihood import is_point_mass
from molvae.generate.molecules import sample
from molvae.generate.posterior import read_posteriors
from molvae.generate.read_back import settle
from molvae.generate.sampling import DEFAULT
from molvae.generate.writing import resolve_options, resolve_rounds
from molvae.nn.checkpoint import LoadedModel
from molvae.train.evaluate import ACTIVE_VARIANCE

CHUNK = 4096
ROWS = 256
CODES_AT_ONCE = 10_000
QUANTILE = 2.3263478740408408
"""Of the standard normal, at 99 %."""

Say = Callable[[int, int], None]
Floats = NDArray[np.float64]


def draw(
    loaded: LoadedModel, n: int, temperature: float | None, seed: int, workers: int | None, say: Say,
    rounds: int | None = None,
) -> list[tuple[str, str]]:  # fmt: skip
    """Draw ``n`` molecules through the prior without rejecting any: SMILES ("" where there is none) and state.

    Empty strings, which sampling draws again, stand at the end as blanks beyond ``n``, so that they count as invalid.

    Args:
        temperature: of the tokens; None takes the model's own.
        rounds: of reading back what was written; None takes the model's own.
    """
    options = dataclasses.replace(DEFAULT, temperature=temperature)
    with warnings.catch_warnings():
        # A shortfall shows as blanks.
        warnings.simplefilter("ignore", UserWarning)
        table = sample(
            loaded, n, options, dataclasses.replace(BARE, keep_failed=True), seed=seed, workers=workers,
            progress=lambda done: say(done, n), rounds=rounds,
        )  # fmt: skip
    rows = [(smiles or "", str(state)) for smiles, state in zip(table["smiles"], table["state"], strict=True)]
    return rows + [("", "empty")] * int(table.attrs["counts"]["empty"])


@torch.inference_mode()
def reconstruction(loaded: LoadedModel, molecules: HeldOut, workers: int | None, say: Say) -> dict[str, Any]:
    """Return the exact share of greedy decoding from the posterior mean.

    Returns:
        ``exact``: share of the molecules asked for whose every token came back; one that the model cannot read counts
        as lost. ``same_molecule`` counts other strings of the same molecule too; ``token_accuracy`` is of those read.
    """
    order = sorted(range(len(molecules)), key=lambda row: len(molecules.token_ids[row]))
    sums = dict.fromkeys(("exact", "same_molecule", "token_accuracy"), 0.0)
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        part = dataclasses.replace(
            molecules, token_ids=[molecules.token_ids[row] for row in rows], properties=molecules.properties[rows]
        )
        means = [
            loaded.model.encode(batch.tokens, batch.lengths).mean.cpu()
            for batch in (
                collate(part.token_ids[first : first + ROWS]).to(loaded.model.device)
                for first in range(0, len(part), ROWS)
            )
        ]
        found = reconstruct_greedily(loaded, part, torch.cat(means), workers)
        sums = {name: total + found[name] * len(part) for name, total in sums.items()}
        say(start + len(part), len(molecules))
    shares = {name: sums[name] / molecules.asked for name in ("exact", "same_molecule")}
    return {
        "protocol": "greedy, z = mean", "source": molecules.source, "n": molecules.asked,
        "left_out": molecules.left_out, **shares, "token_accuracy": sums["token_accuracy"] / len(molecules),
    }  # fmt: skip


def likelihood(loaded: LoadedModel, molecules: HeldOut, samples: int, seed: int, say: Say) -> dict[str, Any]:
    """Return rate, distortion, bounds and active units of held-out molecules; ``nats`` is None for a plain autoencoder.

    Args:
        samples: K of the importance-weighted bound.
    """
    figures, codes = measure_likelihood(
        loaded, molecules, Settings(samples, seed=seed), lambda done: say(done, len(molecules))
    )
    mean = codes.posterior.mean
    active = int((mean.var(0) > ACTIVE_VARIANCE).sum()) if len(molecules) > 1 else None
    return {
        "source": molecules.source, "n": len(molecules), "left_out": molecules.left_out, "seed": seed, "k": samples,
        "active_units": active, "latent": mean.shape[1], "nats": None if is_point_mass(loaded) else figures,
    }  # fmt: skip


def own_noise(latent: int) -> float:
    """Return the distance, in the noise of q(z|x), within which 99 % of the draws from q(z|x) lie, D = ``latent``.

    The distance is the root mean square over dimensions of (z - mean) / std, so that its square times D follows the
    chi-squared distribution, whose quantile is Wilson and Hilferty's (to .1 % for 10 dimensions and more).

    >>> round(own_noise(64), 3)
    1.207
    """
    part = 2 / (9 * latent)
    return math.pow(1 - part + QUANTILE * math.sqrt(part), 1.5)


def nearest_in_noise(z: Floats, mean: Floats, std: Floats, rows: int = 1000, block: int = 20_000) -> Floats:
    """Return how far each latent is from the nearest code, measured in that code's own noise.

    Args:
        z: (N, D).
        mean, std: (M, D) of the posteriors q(z|x) of M molecules, M at least 1.
        rows, block: latents and codes at a time; they change memory, not the result.

    >>> nearest_in_noise(np.array([[1.0]]), np.array([[0.0], [3.0]]), np.array([[2.0], [1.0]])).tolist()
    [0.5]
    """
    best = np.full(len(z), np.inf)
    for first in range(0, len(mean), block):
        precise, center = 1 / np.square(std[first : first + block]), mean[first : first + block]
        weights = np.concatenate([precise, -2 * center * precise], axis=1).T
        constant = (np.square(center) * precise).sum(axis=1)
        for start in range(0, len(z), rows):
            part = z[start : start + rows]
            square = np.concatenate([np.square(part), part], axis=1) @ weights + constant
            best[start : start + rows] = np.minimum(best[start : start + rows], square.min(axis=1))
    distance: Floats = np.sqrt(best.clip(min=0) / z.shape[1])
    return distance


@torch.inference_mode()
def near_copies(
    loaded: LoadedModel, training: TrainingSet, real: list[str], draws: int, codes: int, seed: int,
    workers: int | None, say: Say, rounds: int | None = None,
) -> dict[str, Any] | None:  # fmt: skip
    """Return the share of prior draws that lie inside the noise of a training molecule's code; None without noise.

    A draw z is a near copy when some training molecule x among ``codes`` has z within `own_noise` of q(z|x): as near as
    99 % of the draws from q(z|x) itself, so that the decoder cannot tell it from one. Draws from q(z|x) of ``real``
    molecules that were not trained on show what share a prior without a fault would have.

    Args:
        real: held-out SMILES.
        draws: latents from the prior.
        codes: training molecules at most, drawn with ``seed``.
        rounds: of reading back what was written, after which a draw is looked at; None takes the model's own.
    """
    if is_point_mass(loaded):
        return None
    chosen = training.pick(codes, seed)
    means, stds = [], []
    for start in range(0, len(chosen), CODES_AT_ONCE):
        read = read_posteriors(loaded, chosen[start : start + CODES_AT_ONCE], workers)
        good = ~np.isnan(read.mean[:, 0])
        means.append(read.mean[good])
        stds.append(read.std[good])
        say(min(start + CODES_AT_ONCE, len(chosen)), len(chosen))
    mean, std = np.concatenate(means), np.concatenate(stds)
    limit = own_noise(loaded.model.latent)
    first = loaded.model.prior.sample(draws, torch.Generator(loaded.model.device).manual_seed(seed))
    settled = settle(loaded, first, resolve_rounds(loaded, rounds), resolve_options(loaded, DEFAULT), workers)
    z = settled.cpu().double().numpy()
    held = read_posteriors(loaded, real, workers)
    good = ~np.isnan(held.mean[:, 0])
    noise = np.random.default_rng(seed).standard_normal(held.mean[good].shape)
    distances = {"prior": nearest_in_noise(z, mean, std),
                 "held_out": nearest_in_noise(held.mean[good] + held.std[good] * noise, mean, std)}  # fmt: skip
    return {
        "seed": seed, "codes": len(mean), "limit": limit,
        **{name: _shares(found, limit, len(mean)) for name, found in distances.items()},
    }  # fmt: skip


def _shares(distance: Floats, limit: float, codes: int) -> dict[str, Any]:
    """Return how many latents lie within ``limit``, as a share; None when there is nothing to compare."""
    known = len(distance) > 0 and codes > 0
    return {
        "n": len(distance),
        "share": float(np.mean(distance <= limit)) if known else None,
        "median_distance": float(np.median(distance)) if known else None,
    }
