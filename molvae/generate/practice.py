"""Let a model write molecules under random requests, and keep every draft: what a reader of drafts has to learn from.

In: a model with heads. Out: N distinct molecules as token ids, and RDKit's values for them (N, P).

Drafts under requests are not the molecules of a training set. Where a request pulls, the code leaves the places that
the decoder knows, and what it writes there is odder than anything it was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.chem.properties import PROPERTIES, compute
from molvae.errors import ConfigError
from molvae.generate.asking import Asking
from molvae.generate.chemistry import Readable
from molvae.generate.conditional import sample_where
from molvae.generate.latents import read_smiles
from molvae.generate.request_values import property_rows
from molvae.generate.requests import Request
from molvae.generate.wanted import Wanted
from molvae.kept import Kept
from molvae.nn.checkpoint import LoadedModel

AT_ONCE = 512
"""Molecules asked for at once; each is written several times."""

ALONE = 0.65
"""Share of requests for one property; the others ask for about four in ten."""

ROUNDS = 8
"""Of moving in practice; drafts of later rounds are much like these."""

BARE = Wanted(properties=(), alerts=False)


@dataclass(frozen=True)
class Practice:
    """N drafts, no molecule twice.

    Attributes:
        token_ids: N rows, as the model reads them.
        values: (N, P) by RDKit, in the order of the model's properties; NaN for those that it cannot compute.
    """

    token_ids: list[Sequence[int]]
    values: NDArray[np.float64]


def practise(
    loaded: LoadedModel, n: int, seed: int, workers: int | None = None, say: Callable[[int], None] | None = None,
    kept: Kept | None = None,
) -> Practice:  # fmt: skip
    """Write at least ``n`` drafts.

    Args:
        loaded: with heads for properties that RDKit computes.
        n: how many.
        seed: of requests and drafts.
        workers: processes for chemistry; None means every core.
        say: told how many there are.
        kept: takes the drafts of every turn, and may hold those of before.

    Raises:
        ConfigError: when no head of the model is for a property that RDKit computes.
    """
    model = loaded.model
    names = [info.name for info in model.property_info]
    asked = [name for name in names if name in PROPERTIES and name in model.predict_names]
    if not asked:
        raise ConfigError(
            "The model has no head for a property that RDKit computes.",
            "Train a model on a dataset that was prepared with --properties.",
        )
    generator = torch.Generator(model.device).manual_seed(seed)
    columns = [names.index(name) for name in asked]
    # Points of each property; which and where, the aims say.
    requests = [
        Request(name, model.property_info[one].mean, model.property_info[one].mean)
        for name, one in zip(asked, columns, strict=True)
    ]
    found: dict[str, None] = {}
    turn, kept = 0, kept or Kept(None, {}, False)
    while len(found) < n:
        before = len(found)
        aims = random_requests(property_rows(model, generator)[:, columns], AT_ONCE, generator)
        values = torch.full((AT_ONCE, len(names)), math.nan, device=aims.device)
        values[:, columns] = aims
        write = partial(_write, loaded, requests, values, seed + turn, workers)
        found.update(dict.fromkeys(kept.part(f"drafts of seed {seed}, turn {turn}", write)))
        turn += 1
        if say:
            say(min(n, len(found)))
        if len(found) == before:
            break
    return _read(loaded, list(found), asked, columns, workers)


def _write(
    loaded: LoadedModel, requests: Sequence[Request], aims: torch.Tensor, seed: int, workers: int | None
) -> list[str]:
    """Return the drafts of `AT_ONCE` molecules, those of each round one after the other."""
    drafts: dict[str, None] = {}
    sample_where(
        loaded, AT_ONCE, requests, Asking(rounds=ROUNDS), wanted=BARE, seed=seed, workers=workers, aims=aims,
        watch=lambda smiles: drafts.update(dict.fromkeys(text for text in smiles if text)),
    )  # fmt: skip
    return list(drafts)


def random_requests(rows: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw ``n`` requests for P properties, (n, P), NaN where nothing is asked for and a value in every row.

    Half the values are those of ``rows`` (M, P), which are as common as in training; half lie anywhere in their range,
    but for the outermost half percent at each end.
    """
    device = rows.device

    def uniform(*size: int) -> torch.Tensor:
        return torch.rand(size, generator=generator, device=device)

    count = rows.shape[1]
    usual = rows[torch.randint(len(rows), (n,), generator=generator, device=device)]
    low, high = torch.quantile(rows, 0.005, dim=0), torch.quantile(rows, 0.995, dim=0)
    values = torch.where(uniform(n, 1) < 0.5, usual, low + (high - low) * uniform(n, count))
    one = torch.nn.functional.one_hot(torch.randint(count, (n,), generator=generator, device=device), count).bool()
    shown = torch.where(uniform(n, 1) < ALONE, one, one | (uniform(n, count) < 0.4))
    return values.masked_fill(~shown, math.nan)


def _read(
    loaded: LoadedModel, smiles: list[str], names: list[str], columns: list[int], workers: int | None
) -> Practice:
    read = read_smiles(loaded, smiles, workers=workers)
    kept = [row for row, one in enumerate(read) if isinstance(one, Readable)]
    values = np.full((len(kept), len(loaded.model.property_info)), np.nan)
    values[:, columns] = compute([smiles[row] for row in kept], names, workers)
    return Practice([one.token_ids for one in read if isinstance(one, Readable)], values)
