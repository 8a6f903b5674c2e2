"""Choose the order in which a scaffold is written, and latents under which the model writes it.

In: layouts of one scaffold. Out: the layouts that the model finds likeliest, and latents (N, D) drawn from it given the
scaffold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from molvae.chem.open_ends import Layout
from molvae.data.batch import collate
from molvae.errors import InputError
from molvae.nn.checkpoint import LoadedModel

Source = Literal["prior", "resampled", "posterior"]
"""Where latents come from: the prior as it is; the prior resampled by how likely the scaffold is under each draw; or
around the scaffold itself, with methyl at its open positions.

On ten scaffolds with 16 sequences each (``moses``, temperature .3) the first two gave a yield of 1.00 and as many
molecules without MOSES alerts (.90 each); around the scaffold the yield was .46, of small molecules."""

POOL = 4
"""Draws from the prior for each latent that is kept."""
LEAST_POOL = 64
JUDGES = 16
"""Draws under which the orders are compared."""
WIDER = 1.0
"""Standard deviations, of the posterior's own, that latents lie from the scaffold's mean."""
ROWS = 1024


@torch.inference_mode()
def scaffold_nats(loaded: LoadedModel, layout: Layout, z: torch.Tensor) -> torch.Tensor:
    """Return -log p of the scaffold's tokens given each latent, (N,), with methyl at the open positions but the last.

    Args:
        loaded: the model.
        layout: the order.
        z: (N, D).
    """
    filled = loaded.vocabulary.encode(layout.tokens())
    if filled is None:
        return torch.full((len(z),), torch.inf, device=z.device)
    tail = not layout.parts[-1]
    batch = collate([np.array(filled, dtype=np.int64)]).to(loaded.model.device)
    costs = []
    for start in range(0, len(z), ROWS):
        part = z[start : start + ROWS]
        cond = loaded.model.unconditioned(len(part))
        each = loaded.model.decoder.token_log_prob(batch.tokens.expand(len(part), -1), part, cond)
        # What the last gap holds is not known, nor is the end.
        costs.append(-each[:, : -2 if tail else -1].sum(1))
    return torch.cat(costs)


def likeliest(loaded: LoadedModel, layouts: Sequence[Layout], z: torch.Tensor) -> list[Layout]:
    """Return the layouts that the model can write, the likeliest under the latents ``z`` (N, D) first.

    A model trained on one order of every molecule knows some orders well and others hardly: on ten scaffolds the share
    of molecules without MOSES alerts rose from .85 in any order to .90 in the likeliest (``moses``, temperature .3).

    Raises:
        InputError: when every layout needs a token that the model was not trained with.
    """
    known = [layout for layout in layouts if not loaded.vocabulary.missing(layout.tokens())]
    if not known:
        lacking = sorted({token for layout in layouts for token in loaded.vocabulary.missing(layout.tokens())})
        raise InputError(
            f"The model was not trained with {', '.join(lacking)}, which the scaffold needs.",
            "Give another scaffold, or a model that knows this kind with -m.",
        )
    costs = [float(-torch.logsumexp(-scaffold_nats(loaded, layout, z), 0)) for layout in known]
    return [known[place] for place in np.argsort(costs, kind="stable")]


@torch.inference_mode()
def draw_latents(
    loaded: LoadedModel, layout: Layout, n: int, source: Source, generator: torch.Generator
) -> torch.Tensor:
    """Draw ``n`` different latents, shape (N, D) with N = ``n``, under which the scaffold is likely.

    The resampled prior is drawn without replacement from `POOL` times as many, so that no latent comes twice.

    Args:
        loaded: the model.
        layout: the scaffold in one order.
        n: how many.
        source: where they come from.
        generator: where chance comes from, on the model's device.
    """
    if source == "prior":
        return loaded.model.prior.sample(n, generator)
    if source == "posterior":
        return around_scaffold(loaded, layout, n, generator)
    pool = loaded.model.prior.sample(max(POOL * n, LEAST_POOL), generator)
    nats = scaffold_nats(loaded, layout, pool)
    uniform = torch.rand(len(pool), generator=generator, device=pool.device).clamp_min(1e-12)
    # The n largest of log weight + Gumbel noise are a weighted draw without replacement.
    return pool[(-nats - (-uniform.log()).log()).topk(n).indices]


def around_scaffold(
    loaded: LoadedModel, layout: Layout, n: int, generator: torch.Generator, width: float = WIDER
) -> torch.Tensor:
    """Draw from the posterior of the scaffold with methyl at its open positions, its noise times ``width``, (N, D)."""
    model = loaded.model
    tokens = loaded.vocabulary.encode(layout.tokens())
    if tokens is None:
        return model.prior.sample(n, generator)
    batch = collate([np.array(tokens, dtype=np.int64)]).to(model.device)
    posterior = model.encode(batch.tokens, batch.lengths)
    noise = torch.randn((n, model.latent), generator=generator, device=model.device)
    return posterior.mean + width * posterior.log_std.exp() * noise
