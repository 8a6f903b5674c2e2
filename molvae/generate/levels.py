"""Read and ask for categories: what the heads take each level to be worth, and values of 0 and 1 that ask for one.

In: a model, its heads' answers at latents (N, D), values wanted. Out: probabilities (N, L) of the L levels of a
category; what is still missing of a request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.data.categories import categories_of, level_name
from molvae.nn.model import SequenceVAE

LEAST = 1e-4
"""Share that a level has at least, so that none is impossible."""

SURE = 0.9
"""Probability from which the model's own reading counts a level as there."""


@dataclass(frozen=True)
class Category:
    """A category as one model knows it.

    Attributes:
        levels: the L texts.
        columns: where its levels stand among the properties of the model.
        heads: where they stand among what the heads predict; empty where no head predicts them.
    """

    name: str
    levels: tuple[str, ...]
    columns: list[int]
    heads: list[int]


def categories(model: SequenceVAE) -> dict[str, Category]:
    """Return the categories of a model by name; none for most models."""
    names = [info.name for info in model.property_info]
    found = {}
    for name, levels in categories_of(model.property_info).items():
        own = [level_name(name, level) for level in levels]
        heads = [model.predict_names.index(one) for one in own] if set(own) <= set(model.predict_names) else []
        found[name] = Category(name, levels, [names.index(one) for one in own], heads)
    return found


def probabilities(means: torch.Tensor) -> torch.Tensor:
    """Return how likely each level is, (N, L), from what heads predict for columns of 0 and 1, (N, L).

    The mean of such a column is a probability already, but a head is not held to 0..1 nor levels to a sum of 1.

    >>> probabilities(torch.tensor([[1.5, -0.5], [0.4, 0.4]])).round(decimals=2).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    held = means.clamp(LEAST, 1.0)
    return held / held.sum(1, keepdim=True)


def likely_levels(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Do the same for arrays, (N, L); a row of NaN stays one."""
    found: NDArray[np.float64] = probabilities(torch.from_numpy(np.asarray(means, dtype=np.float64))).numpy()
    return found


def held_for(model: SequenceVAE, category: Category, mean: torch.Tensor) -> torch.Tensor:
    """Return the probability of each level, (N, L), from all that the heads predict, (N, P) standardised."""
    scale, centre = model.scaler.std[category.columns], model.scaler.mean[category.columns]
    return probabilities(mean[:, category.heads] * scale.to(mean) + centre.to(mean))


def asked_for(model: SequenceVAE, category: Category, wanted: torch.Tensor) -> torch.Tensor:
    """Return 1 for the level asked for and 0 for the others, (N, L), from standardised targets (N, P); NaN for none."""
    scale, centre = model.scaler.std[category.columns], model.scaler.mean[category.columns]
    return (wanted[:, category.heads] * scale.to(wanted) + centre.to(wanted)).round()


def level_nats(model: SequenceVAE, mean: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return -log p(level asked for) at each latent, (N, M), summed over categories; 0 where none is asked for.

    Args:
        model: with heads.
        mean: of the heads at M latents, (M, P), standardised.
        wanted: (N, P), see `SequenceVAE.targets`.
    """
    nats = torch.zeros((len(wanted), len(mean)), device=mean.device)
    for category in categories(model).values():
        if category.heads:
            asked = asked_for(model, category, wanted).nan_to_num(0.0)
            nats -= asked @ held_for(model, category, mean).log().T
    return nats


@torch.no_grad()
def settle(model: SequenceVAE, z: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return ``wanted`` (N, P) without the categories that are met at ``z`` (N, D): NaN there, nothing is missing.

    A head's mean comes near 1, never to it; what counts is that the level asked for is all but sure (`SURE`).
    """
    known = [category for category in categories(model).values() if category.heads]
    if not known:
        return wanted
    settled, mean = wanted.clone(), model.heads(z)[0]
    for category in known:
        sure = (held_for(model, category, mean) * asked_for(model, category, wanted)).sum(1) >= SURE
        settled[:, category.heads] = settled[:, category.heads].masked_fill(sure[:, None], math.nan)
    return settled


def draw_levels(model: SequenceVAE, mean: torch.Tensor, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return ``rows`` (M, P) of properties with one level of each category, drawn as the heads hold it, as 0 and 1.

    Args:
        model: whose properties the rows are.
        mean: of the heads, (M, P), standardised.
        rows: values in the properties' units.
        generator: of the draws; a model without categories draws nothing.
    """
    for category in categories(model).values():
        if category.heads:
            picked = torch.multinomial(held_for(model, category, mean), 1, generator=generator)[:, 0]
            rows[:, category.columns] = torch.eye(len(category.levels), device=rows.device)[picked]
    return rows
