"""Measure a model on held-out molecules.

In: a model and rows of a dataset. Out: distortion and rate in nats per molecule, exact and token reconstruction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.data.batch import Batch, load_batch
from molvae.data.dataset import Dataset
from molvae.data.vocabulary import PAD
from molvae.nn.decoder import greedy
from molvae.nn.model import SequenceVAE
from molvae.objectives.divergences import Density, kl_per_dimension, sampled_kl

ACTIVE_VARIANCE = 0.01


@dataclass(frozen=True)
class Evaluation:
    """Means over N molecules; nats per molecule.

    Attributes:
        distortion: -log p(x|z) with z drawn from q(z|x); no property known, if the model was trained to do without.
        rate: KL from q(z|x) to N(0, I), or to the prior that `evaluate` was given.
        exact: share reproduced token for token by greedy decoding of the posterior mean.
        token_accuracy: share of tokens right in that decoding, position by position.
        active_units: latent dimensions whose posterior mean varies by more than .01 over the molecules.
    """

    n: int
    distortion: float
    rate: float
    exact: float
    token_accuracy: float
    active_units: int


def reconstruct_tokens(model: SequenceVAE, batch: Batch) -> torch.Tensor:
    """Return whether greedy decoding of the posterior mean gives each token: bool, true at padding.

    Shape (B, T), T being the positions after BOS.
    """
    target = batch.tokens[:, 1:]
    mean = model.encode(batch.tokens, batch.lengths).mean
    written = greedy(model.decoder, mean, model.usual_condition(batch.properties), target.shape[1])
    return (written == target) | (target == PAD)


@torch.no_grad()
def evaluate(
    model: SequenceVAE, dataset: Dataset, rows: NDArray[np.int64], seed: int = 0, batch_size: int = 500,
    prior: Density | None = None,
) -> Evaluation:  # fmt: skip
    """Evaluate ``model`` on ``rows`` (N,) of ``dataset``; the same seed gives the same figures.

    Args:
        prior: what the rate is measured against, by one draw a molecule; None is N(0, I), without chance.

    Source of active units: Burda et al. (2016), section 5.1, https://arxiv.org/abs/1509.00519
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    ordered = rows[np.argsort(dataset.lengths[rows], kind="stable")]
    totals, means = np.zeros(5), []
    for start in range(0, len(ordered), batch_size):
        batch = load_batch(dataset, ordered[start : start + batch_size]).to(model.device)
        posterior = model.encode(batch.tokens, batch.lengths)
        z = posterior.sample(1, generator)
        log_prob = model.decoder.log_prob(batch.tokens, z, model.usual_condition(batch.properties))
        paid = kl_per_dimension(posterior).sum() if prior is None else sampled_kl(posterior, prior, z).sum()
        right = reconstruct_tokens(model, batch)
        valid = batch.tokens[:, 1:] != PAD
        totals += [
            -log_prob.sum().item(), paid.item(), right.all(1).sum().item(),
            (right & valid).sum().item(), valid.sum().item(),
        ]  # fmt: skip
        means.append(posterior.mean.cpu())
    count = max(1, len(ordered))
    active = int((torch.cat(means).var(0) > ACTIVE_VARIANCE).sum()) if len(ordered) > 1 else 0
    distortion, rate, exact = (float(total) / count for total in totals[:3])
    return Evaluation(len(ordered), distortion, rate, exact, float(totals[3]) / max(1.0, float(totals[4])), active)
