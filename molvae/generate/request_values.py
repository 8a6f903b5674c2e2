"""Choose a value for every molecule asked for: a point stays, a bound or a range is drawn from what the model knows.

In: `Request`s and a model. Out: values (N, P) in the model's order and the properties' units, NaN where none is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from molvae.data.categories import level_name
from molvae.data.dataset import PropertyInfo
from molvae.generate.levels import Category, categories, draw_levels
from molvae.generate.requests import Request
from molvae.nn.model import SequenceVAE

ROWS = 4096
"""Property rows drawn from the model: its prior's latents, and a draw from the heads at each."""

ENOUGH = 30.0
"""Rows in effect that must fit a request; with fewer, values come from truncated normals."""

CLOSE = 0.5
"""Standard deviations within which a row counts as near a point that is asked for."""


@torch.no_grad()
def property_rows(model: SequenceVAE, generator: torch.Generator) -> torch.Tensor:
    """Draw rows of properties that belong together, (`ROWS`, P), from the joint distribution that the model learned.

    NaN in columns that no head predicts. Rows come from the training set's distribution as far as prior and heads have
    learned it; no training row is stored. Values outside the training set's range are put on its border.
    """
    mean, log_std = model.heads(model.prior.sample(ROWS, generator))
    noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    info = model.property_info
    rows = torch.full((ROWS, len(info)), math.nan, device=mean.device)
    names = [entry.name for entry in info]
    columns = [names.index(name) for name in model.predict_names]
    rows[:, columns] = mean + log_std.exp() * noise
    rows = model.scaler.unscale(rows)
    low, high = (torch.tensor([getattr(entry, end) for entry in info]) for end in ("minimum", "maximum"))
    return draw_levels(model, mean, rows.maximum(low.to(rows)).minimum(high.to(rows)), generator)


def draw_values(
    model: SequenceVAE, requests: Sequence[Request], rows: torch.Tensor, n: int, generator: torch.Generator
) -> torch.Tensor:
    """Draw values for ``n`` molecules, (N, P) with N = ``n``, NaN where nothing is asked for.

    Ranges take the values of one row, so that they belong together; rows count by how near they are to the points.

    Args:
        model: whose properties the requests name.
        requests: at least one.
        rows: (M, P) from `property_rows`.
        n: molecules.
        generator: of all chance.
    """
    names = [entry.name for entry in model.property_info]
    values = torch.full((n, len(names)), math.nan, device=rows.device)
    weights = row_weights(model, requests, rows)
    enough = float(weights.sum().square() / weights.square().sum().clamp(min=1e-30)) >= ENOUGH
    picked = torch.multinomial(weights, n, replacement=True, generator=generator) if enough else None
    for request in requests:
        if request.levels:
            category = categories(model)[request.name]
            given = None if picked is None else rows[picked][:, category.columns]
            values[:, category.columns] = _levels_for(model, category, request, given, n, generator)
            continue
        column = names.index(request.name)
        if request.point:
            values[:, column] = request.low
        elif picked is not None and not rows[:, column].isnan().any():
            values[:, column] = rows[picked, column]
        else:
            values[:, column] = truncated_normal(model.property_info[column], request, n, generator)
    return values


def _levels_for(
    model: SequenceVAE, category: Category, request: Request, given: torch.Tensor | None, n: int,
    generator: torch.Generator,
) -> torch.Tensor:  # fmt: skip
    """Return 1 for a level that is asked for and 0 for the others, (N, L) with N = ``n``.

    Of several levels each molecule gets the one of its row ``given`` (N, L), or one by their shares in training.
    """
    if given is not None and len(request.levels) > 1 and not given.isnan().any():
        return given
    asked = torch.tensor([category.levels.index(level) for level in request.levels], device=generator.device)
    shares = torch.tensor([model.property_info[category.columns[place]].mean for place in asked.tolist()])
    drawn = torch.zeros(n, dtype=torch.int64, device=generator.device)
    if len(asked) > 1:
        drawn = torch.multinomial(shares.clamp(min=1e-6).to(asked.device), n, replacement=True, generator=generator)
    return torch.eye(len(category.levels), device=generator.device)[asked[drawn]]


def row_weights(model: SequenceVAE, requests: Sequence[Request], rows: torch.Tensor) -> torch.Tensor:
    """Return how well each of ``rows`` (M, P) fits the requests, (M,): 0 outside a range, a bell about a point.

    A row with another level of a category than those asked for does not fit at all.
    """
    weights = torch.ones(len(rows), device=rows.device)
    names = [entry.name for entry in model.property_info]
    for request in (request for request in requests if request.levels):
        fits = rows[:, [names.index(level_name(request.name, level)) for level in request.levels]].sum(1)
        weights = weights * fits.nan_to_num(1.0)
    for column, entry in enumerate(model.property_info):
        for request in (request for request in requests if request.name == entry.name):
            values = rows[:, column]
            if values.isnan().any():
                continue
            if request.point:
                weights = weights * (-0.5 * ((values - request.low) / (CLOSE * (entry.std or 1.0))).square()).exp()
            else:
                weights = weights * ((values >= request.low) & (values <= request.high))
    return weights


def truncated_normal(info: PropertyInfo, request: Request, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw ``n`` = N values inside a request from a normal with the training set's mean and spread, (N,).

    Far outside the training set, where that normal has no weight, the request's nearest end is what is given.

    >>> info = PropertyInfo("logp", 2.0, 1.0, -3.0, 6.0, 1000)
    >>> values = truncated_normal(info, Request("logp", 3.0, 3.5), 100, torch.Generator().manual_seed(0))
    >>> bool((values >= 3.0).all() and (values <= 3.5).all())
    True
    """
    spread = info.std or 1.0
    ends = torch.tensor([(request.low - info.mean) / spread, (request.high - info.mean) / spread], dtype=torch.float64)
    # The upper tail is computed as a lower one: near 1 a normal's distribution function has no digits left.
    flipped = bool(ends[0] > 0)
    low, high = (-ends.flip(0) if flipped else ends).tolist()
    heights = torch.special.ndtr(torch.tensor([low, high], dtype=torch.float64))
    share = torch.rand(n, generator=generator, device=generator.device).cpu().double()
    scaled = torch.special.ndtri(heights[0] + share * (heights[1] - heights[0]))
    scaled = scaled.where(scaled.isfinite(), high).clamp(low, high)
    values: torch.Tensor = info.mean + spread * (-scaled if flipped else scaled)
    return values.float().clamp(request.low, request.high).to(generator.device)
