"""Fill in property values that a table lacks.

In: SMILES and columns of values, NaN where missing. Out: the columns filled, each value with its origin and how sure it
is: a deviation, or for a level of a category a probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from molvae.chem.properties import PROPERTIES, compute
from molvae.data.categories import level_name
from molvae.data.levels import level_text
from molvae.errors import UnknownNameError
from molvae.generate.levels import Category, categories, likely_levels
from molvae.generate.predict import Prediction, Predictor, predictable
from molvae.nn.checkpoint import LoadedModel

GIVEN, COMPUTED, PREDICTED, MISSING = "given", "computed", "predicted", "missing"


@dataclass(frozen=True)
class Filled:
    """One property of N molecules.

    Attributes:
        values: (N,) in the property's unit; NaN where it could not be had. Of a category texts, None there.
        std: (N,) standard deviation of a predicted value, 0 for one that was given or computed; NaN for a category.
        origin: N of given, computed, predicted, missing.
        novelty: (N,) how little a fitted head knows of the molecule, 0 to 1; NaN otherwise.
        nearest: (N,) its similarity to the nearest molecule that the head learned from; NaN otherwise.
        strange: (N,) where a head guesses, see `molvae.generate.predict.Prediction`.
        probability: (N,) how likely the head takes a predicted level to be, 1 for one that was given; None for numbers.
    """

    values: NDArray[Any]
    std: NDArray[np.float64]
    origin: NDArray[np.object_]
    novelty: NDArray[np.float64]
    nearest: NDArray[np.float64]
    strange: NDArray[np.bool_]
    probability: NDArray[np.float64] | None = None


def impute(
    loaded: LoadedModel, smiles: Sequence[str], columns: Mapping[str, NDArray[Any]], *,
    by_head: bool = False, workers: int | None = None,
) -> dict[str, Filled]:  # fmt: skip
    """Fill in what is missing: by RDKit where a property can be computed, else by a head of the model.

    Args:
        loaded: the model.
        smiles: N strings.
        columns: properties by name, (N,) each, NaN where missing; of a category texts, or anything blank.
        by_head: predict computed properties too, where the model has a head for them.
        workers: processes for chemistry; None means every core.

    Raises:
        UnknownNameError: for a property that can be neither computed nor predicted.
    """
    heads, levels = predictable(loaded), categories_of_heads(loaded)
    for name in columns:
        if name not in heads and name not in levels and name not in PROPERTIES:
            raise UnknownNameError(
                f"{name!r} can be neither computed nor predicted.",
                f"Computed: {', '.join(PROPERTIES)}; predicted by this model: {', '.join(heads) or 'nothing'}. "
                "molvae fit-head teaches it from a table.",
            )
    by_rdkit = [name for name in columns if name in PROPERTIES and not (by_head and name in heads)]
    computed = compute(smiles, by_rdkit, workers) if by_rdkit else None
    wanted = [column for name in columns if name not in by_rdkit for column in _columns_of(name, levels)]
    guesses = Predictor(loaded, wanted).of_smiles(smiles, workers) if wanted else {}
    filled = {}
    for name, values in columns.items():
        if name in levels:
            filled[name] = _fill_levels(values, levels[name], guesses)
        elif name in guesses:
            filled[name] = _fill(values, guesses[name], PREDICTED)
        else:
            assert computed is not None
            found, nothing = computed[:, by_rdkit.index(name)], np.full(len(smiles), np.nan)
            filled[name] = _fill(values, Prediction(found, np.zeros(len(smiles)), nothing), COMPUTED)
    return filled


def categories_of_heads(loaded: LoadedModel) -> dict[str, Category]:
    """Return the categories that the heads of a model predict, by name."""
    return {name: category for name, category in categories(loaded.model).items() if category.heads}


def _columns_of(name: str, levels: Mapping[str, Category]) -> list[str]:
    return [level_name(name, level) for level in levels[name].levels] if name in levels else [name]


def _fill_levels(values: NDArray[Any], category: Category, guesses: Mapping[str, Prediction]) -> Filled:
    """Fill the blank cells of a category with the likeliest level."""
    held = likely_levels(np.stack([guesses[level_name(category.name, one)].mean for one in category.levels], axis=1))
    given = [level_text(value) for value in values]
    had = ~np.isnan(held).any(1)
    levels = np.array([*category.levels, None], dtype=object)
    guessed = levels[np.where(had, held.argmax(1), len(category.levels))]
    there = np.array([bool(text) for text in given], dtype=bool)
    texts = np.array([text or guess for text, guess in zip(given, guessed, strict=True)], dtype=object)
    names = np.where(there, GIVEN, np.where(had, PREDICTED, MISSING)).astype(object)
    blank = np.full(len(values), np.nan)
    likely = np.where(there, 1.0, np.where(had, held.max(1), np.nan))
    return Filled(texts, blank, names, blank, blank, np.zeros(len(values), dtype=bool), likely)


def _fill(values: NDArray[np.float64], found: Prediction, origin: str) -> Filled:
    there = np.isfinite(values)
    had = np.isfinite(found.mean)
    names = np.where(there, GIVEN, np.where(had, origin, MISSING)).astype(object)
    used = ~there & had
    nearest = np.full(len(values), np.nan) if found.nearest is None else found.nearest
    return Filled(
        np.where(there, values, found.mean), np.where(there, 0.0, np.where(had, found.std, np.nan)), names,
        np.where(used, found.novelty, np.nan), np.where(used, nearest, np.nan), used & found.strange,
    )  # fmt: skip


def as_table(filled: Mapping[str, Filled]) -> pd.DataFrame:
    """Return NAME, NAME_std, NAME_origin and, where a head can tell, NAME_novelty and NAME_nearest, N rows each.

    Of a category NAME, NAME_probability and NAME_origin.
    """
    columns: dict[str, NDArray[Any]] = {}
    for name, one in filled.items():
        if one.probability is not None:
            columns |= {name: one.values, f"{name}_probability": one.probability, f"{name}_origin": one.origin}
            continue
        columns |= {name: one.values, f"{name}_std": one.std, f"{name}_origin": one.origin}
        if np.isfinite(one.novelty).any():
            columns[f"{name}_novelty"] = one.novelty
        if np.isfinite(one.nearest).any():
            columns[f"{name}_nearest"] = one.nearest
    return pd.DataFrame(columns)
