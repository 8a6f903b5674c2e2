"""Measure molecules by the distribution-learning benchmarks of GuacaMol, for any training set.

In: molecules as generated, a training set. Out: validity, uniqueness, novelty, KL and FCD scores, each in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import Descriptors, rdFingerprintGenerator

from molvae.benchmark.fcd import MIN_MOLECULES, chemnet_statistics, frechet_distance
from molvae.benchmark.metrics_similarity import compare_all
from molvae.benchmark.moses import NO_FCD
from molvae.benchmark.references import Stage, has_fcd
from molvae.benchmark.references_training import TrainingSet
from molvae.chem.parallel import map_items
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read

CONTINUOUS = ("BertzCT", "MolLogP", "MolWt", "TPSA")
COUNTED = (
    "NumHAcceptors", "NumHDonors", "NumRotatableBonds", "NumAliphaticRings", "NumAromaticRings",
)  # fmt: skip
SIMILARITY = "internal_similarity"
BITS = 4096
POINTS = 1000
BINS = 10
LEAST = 1e-10
"""Added to every density, so that a place where one set has nothing costs much and not everything."""
ROWS = 100

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Flat:
    """One molecule without stereo, as GuacaMol compares them."""

    smiles: str
    values: tuple[float, ...]
    fingerprint: bytes


@lru_cache(maxsize=1)
def _generator() -> Any:
    return rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=BITS)


def _flatten(smiles: str) -> str | Rejected:
    """Return the canonical SMILES without stereo."""
    mol = read(smiles)
    return mol if isinstance(mol, Rejected) else str(Chem.MolToSmiles(mol, isomericSmiles=False))


def _describe(smiles: str) -> Flat | Rejected:
    """Describe a molecule as written without stereo; a descriptor that is not finite counts as 0, as in GuacaMol."""
    mol = read(smiles)
    if isinstance(mol, Rejected):
        return mol
    values = [float(getattr(Descriptors, name)(mol)) for name in (*CONTINUOUS, *COUNTED)]
    finite = tuple(value if math.isfinite(value) else 0.0 for value in values)
    return Flat(smiles, finite, np.packbits(_generator().GetFingerprintAsNumPy(mol)).tobytes())


def density(values: Floats, at: Floats) -> Floats:
    """Return a Gaussian kernel estimate of the density of ``values`` (N,) at ``at`` (P,), with Scott's width.

    Source: Scott (1992), as in scipy's ``gaussian_kde``
    """
    width = values.std(ddof=1) * len(values) ** -0.2
    total = np.zeros(len(at))
    for start in range(0, len(values), ROWS):
        total += np.exp(-0.5 * np.square((at[:, None] - values[start : start + ROWS]) / width)).sum(axis=1)
    estimate: Floats = total / (len(values) * width * math.sqrt(2 * math.pi))
    return estimate


def _divergence(p: Floats, q: Floats) -> float:
    """Return KL(p || q) in nats of two densities on the same grid, each brought to the sum 1."""
    p, q = (p + LEAST) / (p + LEAST).sum(), (q + LEAST) / (q + LEAST).sum()
    return float((p * np.log(p / q)).sum())


def continuous_kl(reference: Floats, values: Floats) -> float:
    """Return the KL divergence from ``values`` to ``reference`` by kernel estimates on 1,000 points, in nats.

    Infinite where one of them is the same number throughout and the other is not that number.

    >>> continuous_kl(np.arange(9.0), np.arange(9.0))
    0.0
    """
    both = np.concatenate([reference, values])
    if not reference.std() or not values.std():
        return math.inf if both.std() else 0.0
    at = np.linspace(both.min(), both.max(), POINTS)
    return _divergence(density(reference, at), density(values, at))


def counted_kl(reference: Floats, values: Floats) -> float:
    """Return the KL divergence by histograms of ten bins over the range of ``reference``, in nats.

    Values outside that range are left out, as in GuacaMol; infinite where all are.

    >>> counted_kl(np.arange(9.0), np.arange(9.0))
    0.0
    """
    p, edges = np.histogram(reference, bins=BINS, density=True)
    if not np.histogram(values, bins=edges)[0].any():
        return math.inf
    return _divergence(p, np.histogram(values, bins=edges, density=True)[0])


def kl_divergences(reference: Sequence[Flat], found: Sequence[Flat], workers: int | None = None) -> dict[str, float]:
    """Return the KL divergence of nine descriptors and of the similarity to the nearest other molecule of one's set.

    Source: Brown et al. (2019), section 3.3, https://doi.org/10.1021/acs.jcim.8b00839; guacamol 0.5
    """
    left, right = (np.array([one.values for one in part]) for part in (reference, found))
    result = {}
    for column, name in enumerate((*CONTINUOUS, *COUNTED)):
        compare = continuous_kl if name in CONTINUOUS else counted_kl
        result[name] = compare(left[:, column], right[:, column])
    nearest = []
    for part in (reference, found):
        bits = np.frombuffer(b"".join(one.fingerprint for one in part), dtype=np.uint8).reshape(len(part), -1)
        nearest.append(compare_all(bits, bits, skip_self=True, workers=workers)[:, 0])
    return result | {SIMILARITY: continuous_kl(*nearest)}


@dataclass(frozen=True)
class Generated:
    """What a model gave, or a file holds.

    Attributes:
        drawn: n strings as they came, blanks included.
        unique: distinct valid molecules, as many as wanted or as there are.
    """

    drawn: Sequence[str]
    unique: Sequence[str]


def unique_molecules(smiles: Sequence[str], most: int, workers: int | None = None) -> list[str]:
    """Return the first ``most`` distinct molecules in ``smiles`` as canonical SMILES without stereo."""
    flat = [one for one in map_items(_flatten, smiles, workers) if isinstance(one, str)]
    return list(dict.fromkeys(flat))[:most]


def measure_distribution(
    generated: Generated, training: TrainingSet, n: int, seed: int, workers: int | None, say: Stage
) -> dict[str, Any]:
    """Return the five scores of GuacaMol and what stands behind them.

    The training molecules compared with (KL, FCD) are ``n`` drawn with ``seed``. Missing molecules count against a
    score: uniqueness is of the valid ones among ``n``, novelty of ``n`` distinct ones, or of those that there are.

    Args:
        generated: at least one molecule.
        training: without stereo (``load_training(..., stereo=False)``), since GuacaMol compares molecules without.
        n: molecules asked for, 10,000 in GuacaMol.
        seed: of the training molecules drawn.
        workers: processes and threads; None means every core.
        say: told how far it is.
    """
    say("chemistry", 0, 3)
    flat = [one for one in map_items(_flatten, generated.drawn, workers) if isinstance(one, str)]
    unique = unique_molecules(generated.unique, n, workers)
    say("chemistry", 1, 3)
    chosen = unique_molecules(training.pick(n, seed), n, workers)
    reference = [one for one in map_items(_describe, chosen, workers) if isinstance(one, Flat)]
    say("chemistry", 2, 3)
    found = [one for one in map_items(_describe, unique, workers) if isinstance(one, Flat)]
    say("chemistry", 3, 3)
    enough = len(found) >= MIN_MOLECULES and len(reference) >= MIN_MOLECULES
    divergences = kl_divergences(reference, found, workers) if enough else {}
    shares = [math.exp(-value) for value in divergences.values()]
    distance = _distance(flat, training.pick(n, seed), say)
    scores = {
        "validity": len(flat) / len(generated.drawn) if generated.drawn else math.nan,
        "uniqueness": len(set(flat)) / len(flat) if flat else math.nan,
        "novelty": training.novelty(unique),
        "kl": float(np.mean(shares)) if shares else math.nan,
        "fcd": math.nan if distance is None else math.exp(-0.2 * distance),
    }
    return {
        "benchmark": "guacamol-distribution", "n": n, "seed": seed, "training": training.facts(),
        "scores": {name: value if math.isfinite(value) else None for name, value in scores.items()},
        "valid": len(flat), "unique": len(unique), "reference": len(reference), "frechet_distance": distance,
        "kl_divergences": {name: value if math.isfinite(value) else None for name, value in divergences.items()},
        "notes": _notes(n, generated, unique),
    }  # fmt: skip


def _distance(smiles: Sequence[str], real: Sequence[str], say: Stage) -> float | None:
    """Return the Frechet ChemNet distance, None where it cannot be had."""
    if not has_fcd() or min(len(smiles), len(real)) < MIN_MOLECULES:
        return None
    mine = chemnet_statistics(smiles, say=lambda done: say("ChemNet", done, len(smiles)))
    target = chemnet_statistics(real, say=lambda done: say("ChemNet, training set", done, len(real)))
    return frechet_distance(mine, target)


def _notes(n: int, generated: Generated, unique: Sequence[str]) -> list[str]:
    notes = [] if has_fcd() else [NO_FCD]
    if len(generated.drawn) < n or len(unique) < n:
        notes.append(
            f"{len(generated.drawn):,} molecules, {len(unique):,} of them distinct, where {n:,} were asked for: "
            "KL and FCD are worse than they would be."
        )
    return notes
