"""Compare the aggregate posterior, the codes of many molecules together, with a prior.

In: means and log standard deviations (N, D) of q(z|x), draws from them and from priors. Out: nats and distances.
"""

from __future__ import annotations

import math

import torch

from molvae.nn.distributions import DiagonalNormal

BANDWIDTHS = (0.5, 1.0, 2.0, 4.0)
"""Widths of the kernels, as multiples of the square root of D; their mean is the kernel used."""


def mutual_information(posterior: DiagonalNormal, z: torch.Tensor, chunk: int = 100) -> float:
    """Estimate the mutual information of molecule and code, E[log q(z|x) - log q(z)], in nats.

    q(z) is the mean of the N posteriors themselves, the molecule's own among them, so that the estimate can never
    exceed log N, and is too low wherever the truth is close to log N or above.

    Args:
        posterior: q(z|x) of N molecules, (N, D).
        z: one draw from each, (N, D).
        chunk: draws compared at a time.

    Source: Hoffman and Johnson (2016), ELBO surgery; Tomczak and Welling (2018), https://arxiv.org/abs/1705.07120

    >>> far = DiagonalNormal(torch.tensor([[-9.0], [9.0]]), torch.zeros(2, 1))
    >>> round(mutual_information(far, far.mean), 4) == round(math.log(2), 4)
    True
    """
    count = len(z)
    total = 0.0
    for start in range(0, count, chunk):
        part = z[start : start + chunk]
        # (M, N): the density of every draw under every posterior.
        scaled = (part[:, None] - posterior.mean) * (-posterior.log_std).exp()
        log_q = (-0.5 * scaled.square() - posterior.log_std - 0.5 * math.log(2 * math.pi)).sum(2)
        own = log_q[torch.arange(len(part)), torch.arange(start, start + len(part))]
        total += float((own - log_q.logsumexp(1) + math.log(count)).double().sum())
    return total / count


def moment_kl(z: torch.Tensor) -> float:
    """Return KL(N(m, S) || N(0, I)) in nats, m and S being mean and covariance of ``z`` (N, D).

    Only the first two moments are compared. With N draws of N(0, I) itself it is about (D + 3) D / 4 / N, not 0.

    Raises:
        ValueError: when N is not above D, so that the covariance is singular.
    """
    count, size = z.shape
    if count <= size + 1:
        raise ValueError(f"{count} codes do not give a covariance in {size} dimensions")
    mean, covariance = z.double().mean(0), torch.cov(z.double().T).reshape(size, size)
    _, log_determinant = torch.linalg.slogdet(covariance)
    return float(0.5 * (covariance.trace() + mean.square().sum() - size - log_determinant))


def mean_discrepancy(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the squared maximum mean discrepancy of two samples (N, D) and (M, D), unbiased, so about 0 if equal.

    The kernel is the mean of Gaussian kernels with `BANDWIDTHS`.

    Source: Gretton et al. (2012), eq. 3, https://jmlr.org/papers/v13/gretton12a.html
    """

    def kernel(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        square = torch.cdist(left.double(), right.double()).square() / left.shape[1]
        return torch.stack([torch.exp(-square / (2 * width**2)) for width in BANDWIDTHS]).mean(0)

    def inside(sample: torch.Tensor) -> torch.Tensor:
        table, count = kernel(sample, sample), len(sample)
        return (table.sum() - table.diagonal().sum()) / (count * (count - 1))

    return float(inside(a) + inside(b) - 2 * kernel(a, b).mean())
