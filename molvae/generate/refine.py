"""Find latents whose molecules have what is asked for, by the model's own property heads: resample, write, read, move.

In: a model with heads and the values wanted (N, P), NaN where nothing is asked. Out: latents (N, D). RDKit says nothing
here: what a molecule is worth is read from it by the model's encoder and heads.
"""

from __future__ import annotations

import torch

from molvae.generate.levels import categories, level_nats
from molvae.nn.model import SequenceVAE

POOL = 2048
"""Latents drawn from the prior to choose 64 from."""

STEPS = 3
"""Gauss-Newton steps of one move."""

MET = 0.1
"""Standard deviations of the training set within which a request counts as met by the model's own reading."""


def request_nats(model: SequenceVAE, z: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return -log of the heads' density of each request at each latent, (N, M), summed over what is asked for.

    Up to a constant, and with each head's middle spread over all latents: by their own, latents at which a head is
    unsure would answer every request from afar. A level of a category counts by its probability instead.

    Args:
        model: with heads that predict everything asked for.
        z: (M, D).
        wanted: (N, P) in the order and scale of `SequenceVAE.targets`, NaN where nothing is asked for.
    """
    mean, log_std = model.heads(z)
    spread = log_std.median(0).values.exp()
    nats = level_nats(model, mean, wanted)
    levels = {column for category in categories(model).values() for column in category.heads}
    for column in range(wanted.shape[1]):
        target = wanted[:, column]
        if column in levels or target.isnan().all():
            continue
        scaled = (target[:, None] - mean[:, column]) / spread[column]
        nats += 0.5 * scaled.square().nan_to_num(0.0)
    return nats


@torch.no_grad()
def resample(
    model: SequenceVAE, wanted: torch.Tensor, generator: torch.Generator, guidance: float = 0.0
) -> torch.Tensor:
    """Draw one latent a row from p(z) p(request|z)^(1 + w), approximately, (N, D).

    Sampling, importance resampling: `POOL` latents a block of 64 come from the model's prior, whatever it is; each row
    takes one with a probability in proportion to the heads' density of its request, and none is taken twice.

    Args:
        model: with heads that predict everything asked for.
        wanted: (N, P), see `request_nats`.
        generator: of all chance.
        guidance: w, 0 for the posterior itself.

    Source: Rubin (1988), Bayesian Statistics 3, 395-402; without replacement by Gumbel noise (Kool et al. 2019,
    https://arxiv.org/abs/1903.06059)
    """
    pool = model.prior.sample(max(POOL, 2 * len(wanted)), generator)
    score = -(1 + guidance) * request_nats(model, pool, wanted)
    noise = torch.rand(score.shape, generator=generator, device=score.device).clamp(1e-12, 1 - 1e-7)
    score = score - (-noise.log()).log()
    chosen = torch.empty(len(wanted), dtype=torch.int64, device=pool.device)
    for row in range(len(wanted)):
        chosen[row] = score[row].argmax()
        score[:, chosen[row]] = -torch.inf
    return pool[chosen]


def move(model: SequenceVAE, z: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return ``z`` (N, D) moved to where the heads predict ``wanted`` (N, P), (N, D); what is not asked for is free.

    It is the likeliest latent when latents lie about ``z`` as N(z, I) and the heads are as sure as they say: a property
    that they can hardly tell moves little. Found by Gauss-Newton steps.
    """
    asked = (~wanted.isnan()).any(0).nonzero().squeeze(1).tolist()
    start = z.detach()
    for _ in range(STEPS):
        with torch.enable_grad():
            point = z.detach().clone().requires_grad_(True)
            mean, log_std = (part[:, asked] for part in model.heads(point))
            slopes = [torch.autograd.grad(part.sum(), point, retain_graph=True)[0] for part in mean.unbind(1)]
        jacobian = torch.stack(slopes, dim=1)
        missing = (wanted[:, asked] - mean.detach()).nan_to_num(0.0)[:, :, None]
        # Linearised about the present point, but drawn to where the move began.
        missing = missing + jacobian @ (z.detach() - start)[:, :, None]
        noise = torch.diag_embed((2 * log_std.detach()).exp())
        weights = torch.linalg.solve(jacobian @ jacobian.transpose(1, 2) + noise, missing)
        z = start + (jacobian.transpose(1, 2) @ weights).squeeze(2)
    return z
