"""Measure one row of a comparison, and each prior of it, on held-out molecules.

In: a trained model, a `Yardstick`. Out: figures that JSON can hold; FCD is None, with a note, where it cannot be had.
"""

from __future__ import annotations

import importlib.util
import math
import warnings as python_warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet
import torch

from molvae.benchmark.card import BARE
from molvae.benchmark.compare_plan import Request
from molvae.benchmark.evaluation import Settings, measure_codes, measure_likelihood, warnings
from molvae.benchmark.fcd import MIN_MOLECULES, Gaussian, chemnet_statistics, frechet_distance
from molvae.benchmark.held_out import HeldOut, held_out
from molvae.benchmark.protocols import reconstruct_greedily
from molvae.data.batch import collate
from molvae.data.dataset import Dataset
from molvae.errors import InputError
from molvae.generate.latents import decode_latents, encode_smiles
from molvae.generate.likelihood import is_point_mass
from molvae.generate.molecules import sample
from molvae.generate.sampling import SamplingOptions
from molvae.nn.checkpoint import LoadedModel
from molvae.nn.distributions import DiagonalNormal
from molvae.nn.priors import Prior
from molvae.train.prior_codes import rate_against

DRAWS = 10
"""Draws of z a molecule behind the rate under a prior."""
BATCH = 256
FEW = 1000

Say = Callable[[int, int], None]


@dataclass(frozen=True)
class Yardstick:
    """What generated molecules are held against; the same for all rows.

    Attributes:
        split: test, or valid where test is empty.
        reference: held-out canonical SMILES, as many as ``n``.
        known: canonical SMILES of the training split.
        n: molecules drawn from each prior.
        target: ChemNet statistics of the reference, None where FCD cannot be had.
        floor: FCD of ``n`` real training molecules against the reference.
        notes: what a reader of the FCD must know.
    """

    split: str
    reference: list[str]
    known: frozenset[str]
    n: int
    target: Gaussian | None
    floor: float | None
    notes: tuple[str, ...] = ()

    def fcd(self, smiles: Sequence[str]) -> float | None:
        """Return the FCD of canonical ``smiles`` against the reference, None where it cannot be had."""
        if self.target is None or len(smiles) < MIN_MOLECULES:
            return None
        return frechet_distance(chemnet_statistics(smiles), self.target)


def has_fcd() -> bool:
    """Tell whether the package fcd is installed."""
    return importlib.util.find_spec("fcd") is not None


def build_yardstick(dataset: Dataset, request: Request) -> Yardstick:
    """Pick the reference and measure the floor: both at the same n, which neither split can be smaller than.

    Raises:
        InputError: when the dataset has no table of SMILES, or no held-out molecule.
    """
    split = "test" if len(dataset.rows("test")) else "valid"
    try:
        column = pyarrow.parquet.read_table(dataset.directory / "molecules.parquet", columns=["smiles"])["smiles"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{dataset.directory} has no readable molecules.parquet.", "Prepare it again.") from error
    training, others = (column.take(dataset.rows(name)).to_pylist() for name in ("train", split))
    if not others:
        raise InputError(f"{dataset.directory} has no held-out molecules.", "Prepare it with --test 0.1.")
    n = min(request.generated, len(training), len(others))
    order = np.random.default_rng(request.seed)
    reference = [others[row] for row in order.permutation(len(others))[:n]]
    real = [training[row] for row in order.permutation(len(training))[:n]]
    notes = [f"FCD is measured on {n:,} molecules and biased upwards by about {1209 / n:.1f}"] if n < FEW else []
    if not has_fcd() or n < MIN_MOLECULES:
        notes = ["FCD is left out: it needs the package fcd (pip install 'molvae[metrics]') and 2 molecules"]
        return Yardstick(split, reference, frozenset(training), n, None, None, tuple(notes))
    target = chemnet_statistics(reference)
    floor = frechet_distance(chemnet_statistics(real), target)
    return Yardstick(split, reference, frozenset(training), n, target, floor, tuple(notes))


def molecules_of(loaded: LoadedModel, dataset: Dataset, yard: Yardstick, request: Request) -> HeldOut:
    """Return the held-out molecules for likelihood and reconstruction; every row gets the same."""
    return held_out(loaded, str(dataset.directory), yard.split, request.number, request.seed, None)


def measure_row(
    loaded: LoadedModel, molecules: HeldOut, yard: Yardstick, request: Request, workers: int | None, say: Say
) -> dict[str, Any]:
    """Return distortion, rate, bounds, greedy reconstruction, codes, and the FCD of decoded posterior samples.

    ``likelihood`` is None for a row whose codes have no noise; its distortion is measured all the same.
    """
    point = is_point_mass(loaded)
    settings = Settings(1 if point else request.samples, seed=request.seed)
    figures, codes = measure_likelihood(loaded, molecules, settings, lambda done: say(done, len(molecules)))
    likelihood = None if point else figures
    greedy = reconstruct_greedily(loaded, molecules, codes.posterior.mean, workers)
    latents = encode_smiles(loaded, yard.reference, sampled=True, seed=request.seed, workers=workers).latents
    latents = latents[~np.isnan(latents[:, 0])]
    options = SamplingOptions(temperature=request.temperature)
    written = decode_latents(loaded, latents, options=options, seed=request.seed, workers=workers)
    smiles = [one.smiles for one in written if one.smiles]
    return {
        "n": len(molecules), "left_out": molecules.left_out, "distortion": figures["distortion"],
        "likelihood": likelihood, "reconstruction": greedy,
        "codes": measure_codes(loaded, codes, likelihood, request.seed),
        "posterior_samples": {"n": len(smiles), "fcd": yard.fcd(smiles)},
        "warnings": warnings(loaded, molecules, likelihood, codes),
    }  # fmt: skip


def measure_prior(
    loaded: LoadedModel, prior: Prior, molecules: HeldOut, yard: Yardstick, request: Request,
    workers: int | None, say: Say,
) -> dict[str, Any]:  # fmt: skip
    """Return the rate of held-out codes under ``prior``, and what molecules drawn from it are like.

    Args:
        prior: over the codes of ``loaded``, whose own prior stays what it was.
        say: told how many molecules are drawn.
    """
    rate = math.nan if is_point_mass(loaded) else _rate(loaded, prior, molecules, request.seed)
    own = loaded.model.prior
    loaded.model.prior = prior
    try:
        return {"rate": rate if math.isfinite(rate) else None, **_drawn(loaded, yard, request, workers, say)}
    finally:
        loaded.model.prior = own


@torch.inference_mode()
def _rate(loaded: LoadedModel, prior: Prior, molecules: HeldOut, seed: int) -> float:
    """Return the mean of log q(z|x) - log p(z) over ``molecules`` in nats, NaN for a prior without a density."""
    means, log_stds = [], []
    for start in range(0, len(molecules), BATCH):
        batch = collate(molecules.token_ids[start : start + BATCH]).to(loaded.model.device)
        posterior = loaded.model.encode(batch.tokens, batch.lengths)
        means.append(posterior.mean)
        log_stds.append(posterior.log_std)
    codes = DiagonalNormal(torch.cat(means), torch.cat(log_stds))
    # Another seed than the fit's: a mixture fitted to the very same noise would look better than it is.
    generator = torch.Generator(loaded.model.device).manual_seed(seed + 1)
    return float(np.mean([rate_against(prior, codes, generator) for _ in range(DRAWS)]))


def _drawn(loaded: LoadedModel, yard: Yardstick, request: Request, workers: int | None, say: Say) -> dict[str, Any]:
    with python_warnings.catch_warnings():
        # Too few molecules are counted below, as ``drawn_ok`` beside ``n``.
        python_warnings.simplefilter("ignore", UserWarning)
        table = sample(
            loaded, yard.n, SamplingOptions(temperature=request.temperature), BARE, seed=request.seed,
            workers=workers, progress=lambda done: say(done, yard.n), rounds=0,
        )  # fmt: skip
    smiles = [str(one) for one in table["smiles"]]
    distinct, counts = set(smiles), table.attrs["counts"]
    return {
        "n": yard.n, "drawn_ok": len(smiles),
        "validity": counts["ok"] / max(1, counts["drawn"]),
        "uniqueness": len(distinct) / max(1, len(smiles)),
        "novelty": len(distinct - yard.known) / max(1, len(distinct)),
        "fcd": yard.fcd(smiles),
    }  # fmt: skip
