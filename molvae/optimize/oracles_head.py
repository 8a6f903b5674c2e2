"""Score molecules by what the model's own property heads predict from their codes.

In: a `LoadedModel` and the name of a property. Out: an oracle; its values are in the property's own unit.

A head is trustworthy where it was trained. A search drives it away from there, so a high score of a molecule unlike the
training set says more about the head than about the molecule. ``head:NAME:sure`` takes one standard deviation off,
which a head fitted to measurements (`molvae fit-head`) widens where it knows little.
"""

from __future__ import annotations

import difflib

import numpy as np

from molvae.errors import UnknownNameError
from molvae.files import directory_digest
from molvae.generate.predict import STRANGE, Prediction, Predictor, predictable
from molvae.nn.checkpoint import LoadedModel

HEAD = "head:"
SURE = ":sure"


class HeadOracle:
    """The head of one property, read at the mean of q(z|x); NaN for a molecule that the model cannot read.

    Args:
        loaded: the model.
        prediction: the property, one of those the model predicts; with ``:sure`` behind it, less one deviation.

    Raises:
        UnknownNameError: when the model has no such head.
    """

    problem = ""

    def __init__(self, loaded: LoadedModel, prediction: str) -> None:
        self._property = prediction.removesuffix(SURE)
        self._sure = prediction.endswith(SURE)
        names = predictable(loaded)
        if self._property not in names:
            near = difflib.get_close_matches(self._property, names, n=1)
            hint = f"Did you mean {HEAD}{near[0]}? " if near else ""
            known = ", ".join(names) or "none"
            raise UnknownNameError(f"The model has no head {self._property!r}.", f"{hint}It predicts: {known}.")
        self.name = f"{HEAD}{prediction}"
        self.identity = f"{self.name}@{directory_digest(loaded.directory)[:16] or '?'}"
        self._predictor = Predictor(loaded, [self._property])

    def __call__(self, smiles: list[str]) -> list[float]:
        """Return one prediction per molecule."""
        found = self.predict(smiles)
        scores: list[float] = (found.mean - found.std if self._sure else found.mean).tolist()
        return scores

    def predict(self, smiles: list[str]) -> Prediction:
        """Return what the head says of each molecule, NaN for one that the model cannot read."""
        return self._predictor.of_smiles(smiles, written=True)[self._property]

    def caution(self, smiles: list[str]) -> str:
        """Say of how many molecules the head knows nothing like, "" for a head that cannot tell."""
        novelty = self.predict(smiles).novelty
        if np.isnan(novelty).all():
            return ""
        strange = int((np.nan_to_num(novelty) > STRANGE).sum())
        middle = float(np.nanmedian(novelty))
        return (
            f"{self.name} guesses at {strange} of the {len(smiles)} best (novelty above {STRANGE:g}; median "
            f"{middle:.2f}): a prediction is no measurement, and a search looks for the head's mistakes too"
        )
