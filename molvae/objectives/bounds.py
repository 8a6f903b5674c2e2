"""Bounds on log p(x) from K importance samples.

In: log weights log p(x|z_k) - beta D_k, (K, B) nats. Out: one bound a molecule, (B,) nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

Bound = Callable[[torch.Tensor], torch.Tensor]


def mean_bound(log_weights: torch.Tensor) -> torch.Tensor:
    """Average ``log_weights`` (K, B) over K: the ELBO, (B,).

    >>> mean_bound(torch.tensor([[-2.0], [-4.0]])).tolist()
    [-3.0]
    """
    return log_weights.mean(0)


def importance_bound(log_weights: torch.Tensor) -> torch.Tensor:
    """Return log of the mean weight over K, (B,); tightens with K and equals the sampled ELBO at K = 1.

    Source: Burda et al. (2016), eq. 8, https://arxiv.org/abs/1509.00519
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))
