"""Fill in property values that a table lacks.

In: SMILES and columns of values, NaN where missing. Out: the columns filled, each value with its deviation and origin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from molvae.chem.properties import PROPERTIES, compute
from molvae.errors import UnknownNameError
from molvae.generate.predict import Predictor, predictable
from molvae.nn.checkpoint import LoadedModel

GIVEN, COMPUTED, PREDICTED, MISSING = "given", "computed", "predicted", "missing"


@dataclass(frozen=True)
class Filled:
    """One property of N molecules.

    Attributes:
        values: (N,) in the property's unit; NaN where it could not be had.
        std: (N,) standard deviation of a predicted value, 0 for one that was given or computed.
        origin: N of given, computed, predicted, missing.
        novelty: (N,) how little a fitted head knows of the molecule, 0 to 1; NaN otherwise.
    """

    values: NDArray[np.float64]
    std: NDArray[np.float64]
    origin: NDArray[np.object_]
    novelty: NDArray[np.float64]


def impute(
    loaded: LoadedModel, smiles: Sequence[str], columns: Mapping[str, NDArray[np.float64]], *,
    by_head: bool = False, workers: int | None = None,
) -> dict[str, Filled]:  # fmt: skip
    """Fill in what is missing: by RDKit where a property can be computed, else by a head of the model.

    Args:
        loaded: the model.
        smiles: N strings.
        columns: properties by name, (N,) each, NaN where missing.
        by_head: predict computed properties too, where the model has a head for them.
        workers: processes for chemistry; None means every core.

    Raises:
        UnknownNameError: for a property that can be neither computed nor predicted.
    """
    heads = predictable(loaded)
    for name in columns:
        if name not in heads and name not in PROPERTIES:
            raise UnknownNameError(
                f"{name!r} can be neither computed nor predicted.",
                f"Computed: {', '.join(PROPERTIES)}; predicted by this model: {', '.join(heads) or 'nothing'}. "
                "molvae fit-head teaches it from a table.",
            )
    by_rdkit = [name for name in columns if name in PROPERTIES and not (by_head and name in heads)]
    computed = compute(smiles, by_rdkit, workers) if by_rdkit else None
    predicted = [name for name in columns if name not in by_rdkit]
    guesses = Predictor(loaded, predicted).of_smiles(smiles, workers) if predicted else {}
    filled = {}
    for name, values in columns.items():
        nothing = np.full(len(smiles), np.nan)
        if name in guesses:
            guess = guesses[name]
            filled[name] = _fill(values, guess.mean, guess.std, guess.novelty, PREDICTED)
        else:
            assert computed is not None
            found = computed[:, by_rdkit.index(name)]
            filled[name] = _fill(values, found, np.zeros(len(smiles)), nothing, COMPUTED)
    return filled


def _fill(
    values: NDArray[np.float64], found: NDArray[np.float64], std: NDArray[np.float64], novelty: NDArray[np.float64],
    origin: str,
) -> Filled:  # fmt: skip
    there = np.isfinite(values)
    had = np.isfinite(found)
    names = np.where(there, GIVEN, np.where(had, origin, MISSING)).astype(object)
    used = ~there & had
    return Filled(
        np.where(there, values, found), np.where(there, 0.0, np.where(had, std, np.nan)), names,
        np.where(used, novelty, np.nan),
    )  # fmt: skip


def as_table(filled: Mapping[str, Filled]) -> pd.DataFrame:
    """Return NAME, NAME_std, NAME_origin and, where a head can tell, NAME_novelty, as columns of N rows."""
    columns: dict[str, NDArray[np.float64] | NDArray[np.object_]] = {}
    for name, one in filled.items():
        columns |= {name: one.values, f"{name}_std": one.std, f"{name}_origin": one.origin}
        if np.isfinite(one.novelty).any():
            columns[f"{name}_novelty"] = one.novelty
    return pd.DataFrame(columns)
