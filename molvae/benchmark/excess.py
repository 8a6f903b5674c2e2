"""Say how many nats a model wastes: what a molecule costs it beyond what it costs a language model.

In: nats per molecule of both, on the same molecules. Out: the excess, with its standard error.

A decoder that ignores its codes is a language model. A code should save it as many nats as it costs; whatever rate and
distortion come to beyond that is what a prior has to model in vain, and shows how far samples will be from real
molecules before any is drawn.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from molvae.benchmark.held_out import HeldOut
from molvae.errors import InputError
from molvae.nn.checkpoint import LoadedModel


@dataclass(frozen=True)
class LanguageModel:
    """What molecules cost a model that ignores its codes.

    Attributes:
        name: for people.
        nats: -log p(x) of each of N molecules, (N,); or one number for all, (1,).
        rate: nats that its own codes cost, near 0 if it ignores them; None where only the nats are known.
        samples: K of the bound behind the nats; None where only they are known.
    """

    name: str
    nats: torch.Tensor
    rate: float | None = None
    samples: int | None = None

    def warnings(self, most: float) -> list[str]:
        """Return what is wrong with it: a rate above ``most`` nats is no language model's."""
        if self.rate is None or self.rate < most:
            return []
        return [
            f"{self.name} uses its codes (rate {self.rate:.2f} nats), so it is no language model, and the excess over "
            "it says little. Train one with --objective vae --set objective.beta=1."
        ]


def figure(values: torch.Tensor) -> dict[str, float]:
    """Return mean and standard error of ``values`` (N,).

    >>> figure(torch.tensor([1.0, 3.0]))
    {'mean': 2.0, 'standard_error': 1.0}
    """
    error = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else 0.0
    return {"mean": float(values.mean()), "standard_error": error}


def same_molecules(molecules: HeldOut, loaded: LoadedModel, other: LoadedModel) -> HeldOut:
    """Return ``molecules`` of ``loaded`` in the token ids and properties of ``other``.

    Raises:
        InputError: when ``other`` lacks a token of one of them.
    """
    tokens = loaded.vocabulary.tokens
    lacking = {tokens[one] for row in molecules.token_ids for one in np.unique(row)} - set(other.vocabulary.tokens)
    if lacking:
        raise InputError(
            f"The language model {other.directory} lacks tokens of these molecules: {' '.join(sorted(lacking))}.",
            "Give one that was trained on the same dataset.",
        )
    places = {token: place for place, token in enumerate(other.vocabulary.tokens)}
    ids = np.array([places.get(token, 0) for token in tokens])
    names = [info.name for info in loaded.model.property_info]
    properties = np.full((len(molecules), len(other.model.property_info)), np.nan, dtype=np.float32)
    for column, info in enumerate(other.model.property_info):
        if info.name in names:
            properties[:, column] = molecules.properties[:, names.index(info.name)]
    return dataclasses.replace(molecules, token_ids=[ids[row] for row in molecules.token_ids], properties=properties)


def excess_over(
    model: LanguageModel, table: Mapping[str, torch.Tensor], priors: Sequence[str], samples: int
) -> dict[str, Any]:
    """Return the section ``excess``: -ELBO and -bound minus the nats of ``model``, molecule by molecule.

    Args:
        table: columns (N,) of nats: ``distortion``, and for each of ``priors`` PRIOR.rate and PRIOR.K.
        samples: K of the bound.
    """
    found: dict[str, Any] = {
        "unit": "nats per molecule", "language_model": model.name, "nats": figure(model.nats), "rate": model.rate,
        "samples": model.samples, "priors": {},
    }  # fmt: skip
    for prior in priors:
        found["priors"][prior] = {
            "negative_elbo": figure(table["distortion"] + table[f"{prior}.rate"] - model.nats),
            "negative_bound": {str(samples): figure(table[f"{prior}.{samples}"] - model.nats)},
        }
    return found
