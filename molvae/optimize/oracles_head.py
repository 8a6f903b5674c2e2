"""Score molecules by what the model's own property heads predict from their codes.

In: a `LoadedModel` and the name of a property. Out: an oracle; its values are in the property's own unit.

A head is trustworthy where it was trained. A search drives it away from there, so a high score of a molecule unlike the
training set says more about the head than about the molecule. ``head:NAME:sure`` takes one standard deviation off,
which a head fitted to measurements (`molvae fit-head`) widens where it knows little; for low values wanted,
``head:NAME:atmost`` adds one. Of molecules less like the measured ones than these are to each other, or larger, both
come the nearer to what the table holds as a rule, mean less (or plus) deviation, the less like them they are.
"""

from __future__ import annotations

import difflib

import numpy as np

from molvae.errors import InputError, UnknownNameError
from molvae.files import directory_digest
from molvae.generate.predict import FITTED, Prediction, Predictor, predictable
from molvae.nn.checkpoint import LoadedModel

HEAD = "head:"
SURE, AT_MOST = ":sure", ":atmost"
SIDES = {SURE: -1.0, AT_MOST: 1.0}
"""Suffix to the deviations that are added."""


def check_direction(oracle: str, minimize: bool) -> None:
    """Refuse to look for what a head knows least about: an optimistic bound as the aim.

    Raises:
        InputError: when high values of ``:atmost``, or low ones of ``:sure``, are wanted.
    """
    if oracle.startswith(HEAD) and oracle.endswith(SURE if minimize else AT_MOST):
        wanted, other = ("low", AT_MOST) if minimize else ("high", SURE)
        raise InputError(
            f"With {wanted} values wanted, {oracle} would reward what the head is not sure of.",
            f"Give {oracle.rpartition(':')[0]}{other}.",
        )


class HeadOracle:
    """The head of one property, read at the mean of q(z|x); NaN for a molecule that the model cannot read.

    Args:
        loaded: the model.
        prediction: the property, one of those the model predicts; with one of `SIDES` behind it, a bound.

    Raises:
        UnknownNameError: when the model has no such head.
    """

    problem = ""

    def __init__(self, loaded: LoadedModel, prediction: str) -> None:
        side = next((one for one in SIDES if prediction.endswith(one)), "")
        self._property, self._side = prediction.removesuffix(side), SIDES.get(side, 0.0)
        names = predictable(loaded)
        if self._property not in names:
            near = difflib.get_close_matches(self._property, names, n=1)
            hint = f"Did you mean {HEAD}{near[0]}? " if near else ""
            known = ", ".join(names) or "none"
            raise UnknownNameError(f"The model has no head {self._property!r}.", f"{hint}It predicts: {known}.")
        self.name = f"{HEAD}{prediction}"
        self.identity = f"{self.name}@{directory_digest(loaded.directory)[:16] or '?'}"
        self._predictor = Predictor(loaded, [self._property])
        table = loaded.facts.get(FITTED, {}).get(self._property, {"mean": 0.0, "std": 0.0})
        self._usual = table["mean"] + self._side * table["std"]

    def __call__(self, smiles: list[str]) -> list[float]:
        """Return one prediction, or bound, per molecule."""
        found = self.predict(smiles)
        if not self._side:
            return list(map(float, found.mean))
        trust = np.ones(len(smiles)) if found.trust is None else found.trust
        bound = trust * (found.mean + self._side * found.std) + (1 - trust) * self._usual
        return list(map(float, bound))

    def predict(self, smiles: list[str]) -> Prediction:
        """Return what the head says of each molecule, NaN for one that the model cannot read."""
        return self._predictor.of_smiles(smiles, written=True)[self._property]

    def caution(self, smiles: list[str]) -> str:
        """Say of how many molecules the head knows nothing like, "" for a head that cannot tell."""
        found = self.predict(smiles)
        if np.isnan(found.novelty).all():
            return ""
        near = ""
        if found.nearest is not None:
            near = f" (median similarity to the nearest measured molecule: {np.nanmedian(found.nearest):.2f})"
        return (
            f"{self.name} guesses at {int(found.strange.sum())} of the {len(smiles)} best{near}: a prediction is "
            f"no measurement, and a search looks for the head's mistakes too"
        )
