"""Measure molecules by the MOSES protocol, and real ones drawn at the same number, which are its floor.

In: SMILES as generated, references, a training set. Out: one number for each metric; None, with a note, where it cannot
be had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from molvae.benchmark.fcd import MIN_MOLECULES, chemnet_statistics, frechet_distance
from molvae.benchmark.metrics import cosine_similarity, unique_share, wasserstein_distance
from molvae.benchmark.metrics_molecules import Described, describe
from molvae.benchmark.metrics_similarity import internal_diversity, nearest_similarity
from molvae.benchmark.references import Reference, Stage, has_fcd, key_of, recall, store
from molvae.benchmark.references_training import TrainingSet

UNIQUE_AT = (1000, 10000)
AGAINST = ("FCD", "SNN", "Frag", "Scaf")
DISTANCES = ("logP", "SA", "QED", "weight")
"""Names, in MOSES, of the columns of `molvae.benchmark.metrics_molecules.PROPERTIES`."""
TEST, SCAFFOLDS = "Test", "TestSF"
NO_FCD = "FCD is left out: it needs the package fcd (pip install 'molvae[metrics]')."

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Yardstick:
    """What molecules are held against.

    Attributes:
        references: by name; property distances are to the one called Test, as in MOSES.
        training: for novelty and the floor.
        workers: processes and threads; None means every core.
    """

    references: Mapping[str, Reference]
    training: TrainingSet
    workers: int | None = None

    @property
    def notes(self) -> list[str]:
        """What a reader of the figures must know."""
        lacking = any(reference.gaussian is None for reference in self.references.values())
        return [NO_FCD] if lacking and not has_fcd() else []


def metric_names(references: Sequence[str]) -> list[str]:
    """Return the metrics in the order of tables.

    >>> metric_names(["Test"])[:4]
    ['valid', 'unique@1000', 'unique@10000', 'FCD/Test']
    """
    names = ["valid", *(f"unique@{k}" for k in UNIQUE_AT)]
    names += [f"{metric}/{reference}" for reference in references for metric in AGAINST]
    return [*names, "IntDiv", "IntDiv2", "Filters", *DISTANCES, "Novelty"]


def measure(smiles: Sequence[str], yard: Yardstick, say: Stage) -> Figures:
    """Return every metric of MOSES for ``smiles``, blanks and all that is no molecule included.

    Everything but ``valid`` is about the valid molecules in their order, repeats included, as in the original code.
    A string is valid when RDKit reads it and it has an atom; white space inside and more than 1,000 characters are not.

    Args:
        smiles: as generated.
        yard: what they are held against.
        say: told how far it is.

    Source: Polykovskiy et al. (2020), https://doi.org/10.3389/fphar.2020.565644; molsets 0.3.1
    """
    found = describe(smiles, workers=yard.workers, say=lambda done: say("chemistry", done, len(smiles)))
    valid = found.smiles
    figures = {"valid": len(valid) / len(smiles) if smiles else math.nan}
    figures |= {f"unique@{k}": unique_share(valid, k) for k in UNIQUE_AT}
    for name, reference in yard.references.items():
        figures |= {f"SNN/{name}": nearest_similarity(
            found.fingerprints, reference.fingerprints, yard.workers,
            lambda done, name=name: say(f"SNN/{name}", done, len(valid)),  # type: ignore[misc]
        ), f"Frag/{name}": cosine_similarity(reference.fragments, found.fragments),
            f"Scaf/{name}": cosine_similarity(reference.scaffolds, found.scaffolds)}  # fmt: skip
    figures |= _distances(valid, yard, say)
    diversity = internal_diversity(found.fingerprints, yard.workers, lambda done: say("IntDiv", done, len(valid)))
    figures |= dict(zip(("IntDiv", "IntDiv2"), diversity, strict=True))
    figures |= _properties(found, yard)
    figures["Novelty"] = yard.training.novelty(valid)
    return {name: _number(figures[name]) for name in metric_names(list(yard.references))}


def _distances(smiles: Sequence[str], yard: Yardstick, say: Stage) -> dict[str, float]:
    """Return the FCD to every reference, NaN where it cannot be had."""
    targets = {f"FCD/{name}": reference.gaussian for name, reference in yard.references.items()}
    if len(smiles) < MIN_MOLECULES or not any(targets.values()):
        return dict.fromkeys(targets, math.nan)
    mine = chemnet_statistics(smiles, say=lambda done: say("ChemNet", done, len(smiles)))
    return {name: math.nan if one is None else frechet_distance(mine, one) for name, one in targets.items()}


def _properties(found: Described, yard: Yardstick) -> dict[str, float]:
    """Return the share that passes the filters and the distances of property distributions."""
    figures = {"Filters": float(np.mean(found.passes)) if len(found.passes) else math.nan}
    reference = yard.references.get(TEST) or next(iter(yard.references.values()))
    for column, name in enumerate(DISTANCES):
        figures[name] = wasserstein_distance(reference.values[:, column], found.values[:, column])
    return figures


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def floor(yard: Yardstick, n: int, seed: int, say: Stage) -> Figures:
    """Return what ``n`` real training molecules get, drawn with ``seed``; kept in the cache.

    FCD is biased upwards by some 1209 / n, and SNN, Scaf and Frag by n too, so that no figure says anything without
    this one beside it.
    """
    facts = {"n": n, "seed": seed, "training": yard.training.sha256,
             "references": {name: [one.sha256, one.n, one.drawn] for name, one in yard.references.items()}}  # fmt: skip
    key = key_of("floor", facts, ("rdkit", "fcd") if has_fcd() else ("rdkit",))
    kept = recall(key)
    if kept is not None:
        return dict(kept[1]["figures"])
    figures = measure(yard.training.pick(n, seed), yard, lambda what, done, of: say(f"floor, {what}", done, of))
    store(key, {}, {**facts, "figures": figures})
    return figures
