"""Fit a prior to the codes of a trained model, so that new latents come from where the training set lies.

In: a frozen model, its dataset, a `PriorConfig`. Out: the fitted prior, and the rate against it on held-out codes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture as SklearnMixture

from molvae.config import PriorConfig
from molvae.data.batch import load_batch
from molvae.data.dataset import Dataset
from molvae.errors import InputError
from molvae.nn.distributions import DiagonalNormal
from molvae.nn.model import SequenceVAE
from molvae.nn.priors import FlowPrior, GaussianMixture, Prior, StandardNormal
from molvae.train.optim import AveragedWeights

HELD_OUT = 0.05
MIN_CODES = 50
Report = Callable[[int, int, float], None]


@dataclass(frozen=True)
class PriorFit:
    """A fitted prior and what it is worth.

    Attributes:
        rate: mean of log q(z|x) - log p(z) over held-out molecules, nats: what the prior must pay for a code.
        rate_normal: the same for N(0, I).
        codes: molecules whose codes were used to fit.
    """

    prior: Prior
    rate: float
    rate_normal: float
    codes: int


@torch.no_grad()
def encode_codes(
    model: SequenceVAE, dataset: Dataset, rows: NDArray[np.int64], batch_size: int = 1000
) -> DiagonalNormal:
    """Return q(z|x) of ``rows`` (N,), mean and log_std (N, D) on the CPU, in the order of ``rows``."""
    order = np.argsort(dataset.lengths[rows], kind="stable")
    mean, log_std = torch.zeros(len(rows), model.latent), torch.zeros(len(rows), model.latent)
    for start in range(0, len(rows), batch_size):
        picked = order[start : start + batch_size]
        batch = load_batch(dataset, rows[picked]).to(model.device)
        posterior = model.encode(batch.tokens, batch.lengths)
        mean[picked], log_std[picked] = posterior.mean.cpu(), posterior.log_std.cpu()
    return DiagonalNormal(mean, log_std)


def fit_prior(
    model: SequenceVAE, dataset: Dataset, config: PriorConfig, seed: int = 0, report: Report | None = None
) -> PriorFit:
    """Fit ``config.kind`` to codes of the training split, drawn from q(z|x) anew in every step.

    Args:
        model: frozen; its own prior is left alone.
        report: called with (step, steps, held-out rate so far); a mixture reports once.

    Raises:
        InputError: when the training split has fewer than 50 molecules.
    """
    rows = dataset.rows("train")
    if len(rows) < MIN_CODES:
        raise InputError(
            f"A prior needs {MIN_CODES} training molecules, the dataset has {len(rows)}.",
            "Use --set prior.kind=normal.",
        )
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(rows)[: config.codes])
    posterior = encode_codes(model, dataset, rows)
    shuffled = torch.from_numpy(rng.permutation(len(rows)))
    cut = max(1, int(HELD_OUT * len(rows)))
    held, used = (
        DiagonalNormal(posterior.mean[part], posterior.log_std[part]) for part in (shuffled[:cut], shuffled[cut:])
    )
    normal = StandardNormal(model.latent)
    prior: Prior
    if config.kind == "gmm":
        prior = _fit_mixture(used, held, config, seed)
    elif config.kind == "flow":
        prior = _fit_flow(used, held, config, seed, report)
    else:
        prior = normal
    # Measured again with its own generator, so that every kind is compared on the same draws.
    draws = torch.Generator().manual_seed(seed)
    return PriorFit(prior.eval(), rate_against(prior, held, draws), rate_against(normal, held, draws), len(used.mean))


@torch.no_grad()
def rate_against(prior: Prior, posterior: DiagonalNormal, generator: torch.Generator) -> float:
    """Return the mean of log q(z|x) - log p(z) in nats over ``posterior`` (N, D), one draw a molecule."""
    z = posterior.sample(1, generator)
    log_prior = torch.cat([prior.log_prob(part) for part in torch.split(z[0], 2000)])
    return float((posterior.log_prob(z)[0] - log_prior).mean())


def _fit_mixture(used: DiagonalNormal, held: DiagonalNormal, config: PriorConfig, seed: int) -> GaussianMixture:
    """Return the best of mixtures of 1, 2, 4, ... components by held-out rate: more of them may overfit the codes."""
    z = used.sample(1, torch.Generator().manual_seed(seed))[0].numpy()
    # A full covariance needs several codes a dimension; fewer components where there are few molecules.
    most = max(1, min(config.components, len(z) // (3 * z.shape[1])))
    fits = []
    for power in range(most.bit_length()):
        prior = _mixture_of(z, 2**power, config.components, seed)
        fits.append((rate_against(prior, held, torch.Generator().manual_seed(seed)), power, prior))
    return min(fits, key=lambda entry: entry[:2])[2]


def _mixture_of(z: NDArray[np.float32], components: int, places: int, seed: int) -> GaussianMixture:
    """Fit ``components`` Gaussians to ``z`` (N, D) by EM and put them into a mixture with ``places`` components."""
    fitted = SklearnMixture(
        components, random_state=seed, reg_covar=1e-4, max_iter=60, tol=1e-2, init_params="k-means++"
    ).fit(z)
    prior = GaussianMixture(z.shape[1], places)
    weights = torch.zeros(places)
    weights[:components] = torch.from_numpy(fitted.weights_).float()
    prior.get_buffer("weights").copy_(weights)
    prior.get_buffer("means")[:components] = torch.from_numpy(fitted.means_).float()
    prior.get_buffer("factors")[:components] = torch.linalg.cholesky(torch.from_numpy(fitted.covariances_)).float()
    return prior


def _fit_flow(
    used: DiagonalNormal, held: DiagonalNormal, config: PriorConfig, seed: int, report: Report | None
) -> FlowPrior:
    torch.manual_seed(seed)  # zuko draws its initial weights from the global generator
    prior = FlowPrior(used.mean.shape[1], config.layers, config.hidden)
    generator = torch.Generator().manual_seed(seed)
    prior.standardize(used.sample(1, generator)[0])
    optimizer = torch.optim.AdamW(prior.parameters(), lr=config.lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.max_steps, pct_start=0.1)
    average = AveragedWeights(prior, 0.999)
    for step in range(config.max_steps):
        picked = torch.randint(len(used.mean), (config.batch_size,), generator=generator)
        z = DiagonalNormal(used.mean[picked], used.log_std[picked]).sample(1, generator)[0]
        loss = -prior.log_prob(z).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(prior.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        average.update(prior, step)
        if report is not None and (step + 1) % 50 == 0:
            shown = DiagonalNormal(held.mean[:2000], held.log_std[:2000])
            report(step + 1, config.max_steps, rate_against(prior, shown, torch.Generator().manual_seed(seed)))
    average.swap(prior)
    return prior
