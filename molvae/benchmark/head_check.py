"""Compare a head on latents with a random forest on fingerprints, on the same rows left out.

In: labelled molecules. Out: one record for each of two ways to leave rows out and each of the two predictors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.ensemble import RandomForestRegressor

from molvae.chem.fingerprints import morgan
from molvae.chem.parallel import map_items
from molvae.chem.scaffolds import murcko
from molvae.generate.labelled import Labelled
from molvae.train.fit_head import CrossValidation, cross_validate, group_folds, random_folds

TREES = 200
FEATURES = 0.33
"""Share of the bits looked at for each cut: what Svetnik et al. (2003, doi 10.1021/ci034160g) found to be enough."""
HEAD, FOREST = "head on latents", "forest on fingerprints"

Report = Callable[[str, int, int], None]


def check_head(
    labelled: Labelled, seed: int = 0, workers: int | None = None, report: Report | None = None
) -> tuple[CrossValidation, list[dict[str, Any]]]:
    """Cross-validate both in ten folds: rows left out at random, and whole ring systems left out.

    Args:
        labelled: N molecules.
        seed: of the folds and of the forest.
        workers: processes; None means every core.
        report: told what is done, how many folds of it, of how many.

    Returns:
        the head's cross-validation with random folds, which its intervals are stretched by; and records with split,
        predictor, rmse, mae, r2, spearman and the coverage of 90 % intervals (None for the forest, which has none).
    """
    scaffolds = [str(one) for one in map_items(murcko, labelled.smiles, workers)]
    # Molecules without rings share no ring system: each is a group of its own.
    groups = [one or smiles for one, smiles in zip(scaffolds, labelled.smiles, strict=True)]
    plans = {"random": random_folds(len(groups), seed)}
    if len(set(groups)) >= 2:
        plans["scaffold"] = group_folds(groups)
    prints = np.unpackbits(morgan(labelled.smiles, workers=workers), axis=1)
    prints = prints[:, prints.any(0)]
    records, checked = [], {}
    for split, folds in plans.items():

        def told(done: int, total: int, split: str = split) -> None:
            if report:
                report(split, done, total)

        checked[split] = cross_validate(labelled.latents, labelled.values, folds, seed, told)
        found = checked[split]
        records.append(_record(split, HEAD, labelled.values, found.mean, found.coverage(labelled.values)))
        forest = _forest(prints, labelled.values, folds, seed, workers)
        records.append(_record(split, FOREST, labelled.values, forest, None))
    return checked["random"], records


def _forest(
    prints: NDArray[np.uint8], values: NDArray[np.float64], folds: NDArray[np.int64], seed: int, workers: int | None
) -> NDArray[np.float64]:
    """Return the forest's prediction (N,) of every row by the other folds; ``prints`` (N, F)."""
    found = np.zeros(len(values))
    for fold in np.unique(folds):
        left = folds == fold
        forest = RandomForestRegressor(
            TREES, max_features=FEATURES, random_state=seed, n_jobs=-1 if workers is None else workers
        )
        found[left] = forest.fit(prints[~left], values[~left]).predict(prints[left])
    return found


def _record(
    split: str, predictor: str, values: NDArray[np.float64], found: NDArray[np.float64], coverage: float | None
) -> dict[str, Any]:
    error = found - values
    spread = np.square(values - values.mean()).sum()
    rank = float(spearmanr(found, values).statistic) if np.ptp(found) else float("nan")
    return {
        "split": split, "predictor": predictor, "n": len(values), "rmse": float(np.sqrt(np.square(error).mean())),
        "mae": float(np.abs(error).mean()), "r2": float(1 - np.square(error).sum() / spread),
        "spearman": rank if np.isfinite(rank) else None, "coverage_90": coverage,
    }  # fmt: skip
