"""Predict one number from a latent by Gaussian process regression: calibrated from 30 rows on, smooth in z.

In: latents (N, D) and values (N,). Out: mean and standard deviation (N,) in the values' own unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

INDUCING = 500
"""Latents that a process keeps at most; with as many rows or fewer it is exact."""
JITTER = 1e-6
STARTS = (0.3, 1.0, 3.0)
"""Length scales tried first, in units of a latent's own spread."""
ITERATIONS = 60
ENOUGH = 1e-3
"""Change of the logs of scales, or of the nats, below which a search for scales ends: no prediction shows less."""
ROWS = 2000
"""Rows that the four scales are found with, at most; the process itself knows all."""
USUAL = (0.0, 0.0, 0.0, -1.0)
SPREAD = (1.5, 1.0, 1.5, 1.5)
"""Log-normal beliefs about variance, length, slope and noise: they decide at 30 rows and vanish at 1,000."""


class GaussianProcess(nn.Module):
    """A sparse Gaussian process with a squared exponential and a linear kernel, all of it buffers.

    Source: Titsias (2009), https://proceedings.mlr.press/v5/titsias09a.html

    Args:
        points: M, inducing latents.
        latent: D.
    """

    def __init__(self, points: int, latent: int) -> None:
        super().__init__()
        for name, shape in (
            ("points", (points, latent)), ("weights", (points,)), ("reduction", (points, points)), ("log_scales", (4,)),
            ("unit", (2,)), ("stretch", ()),
        ):  # fmt: skip
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and standard deviation, (N,) float64 in the values' unit, for ``z`` (N, D); differentiable.

        The deviation is that of a new measurement: what the process does not know, and the noise of the values.
        """
        z = z.double()
        known, mean = self._known(z)
        variance = (self._prior(z) - known).clamp_min(0) + self.get_buffer("log_scales")[3].exp()
        offset, scale = self.get_buffer("unit")
        return offset + scale * mean, scale * variance.sqrt() * self.get_buffer("stretch")

    def novelty(self, z: torch.Tensor) -> torch.Tensor:
        """Return the share of the variance that the rows say nothing about, (N,) from 0 to 1, for ``z`` (N, D)."""
        known, _ = self._known(z.double())
        return 1 - (known / self._prior(z.double())).clamp(0, 1)

    def _known(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kernel = covariance(z, self.get_buffer("points"), self.get_buffer("log_scales"))
        return ((kernel @ self.get_buffer("reduction")) * kernel).sum(1), kernel @ self.get_buffer("weights")

    def _prior(self, z: torch.Tensor) -> torch.Tensor:
        variance, _, slope, _ = self.get_buffer("log_scales").exp()
        prior: torch.Tensor = variance + slope * z.square().mean(1)
        return prior


def covariance(one: torch.Tensor, other: torch.Tensor, log_scales: torch.Tensor) -> torch.Tensor:
    """Return the kernel (N, M) of latents ``one`` (N, D) and ``other`` (M, D).

    Args:
        one: (N, D) float64.
        other: (M, D) float64.
        log_scales: (4,): log of variance, length, slope and noise; the last is not used.
    """
    variance, length, slope, _ = log_scales.exp()
    latent = one.shape[1]
    product = one @ other.T
    squares = one.square().sum(1)[:, None] + other.square().sum(1)[None] - 2 * product
    kernel: torch.Tensor = variance * torch.exp(-squares / (2 * latent * length.square())) + slope * product / latent
    return kernel


class _Bound:
    """Titsias's bound on log p(values) for given scales, and the solution that belongs to them."""

    def __init__(self, z: torch.Tensor, values: torch.Tensor, points: torch.Tensor, log_scales: torch.Tensor) -> None:
        noise, count = log_scales[3].exp(), len(values)
        eye = torch.eye(len(points), dtype=z.dtype)
        inner = covariance(points, points, log_scales)
        self.lower = torch.linalg.cholesky(inner + JITTER * inner.diagonal().mean() * eye)
        across = covariance(points, z, log_scales) / noise.sqrt()
        half = torch.linalg.solve_triangular(self.lower, across, upper=False)
        self.middle = torch.linalg.cholesky(eye + half @ half.T)
        target = (half @ values / noise.sqrt())[:, None]
        self.solved = torch.linalg.solve_triangular(self.middle, target, upper=False)[:, 0]
        prior = log_scales[0].exp() + log_scales[2].exp() * z.square().mean(1)
        self.nats = (
            0.5 * count * (math.log(2 * math.pi) + log_scales[3])
            + self.middle.diagonal().log().sum()
            + 0.5 * (values.square().sum() / noise - self.solved.square().sum())
            + 0.5 * (prior.sum() / noise - half.square().sum())
        )

    def posterior(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what predictions need: weights (M,) and the reduction of variance (M, M)."""
        eye = torch.eye(len(self.lower), dtype=self.lower.dtype)
        back = torch.linalg.solve_triangular(self.lower, eye, upper=False)
        inside = torch.linalg.solve_triangular(self.middle, eye, upper=False)
        weights = back.T @ (inside.T @ self.solved)
        return weights, back.T @ (eye - inside.T @ inside) @ back


def fit_process(
    z: torch.Tensor, values: torch.Tensor, generator: torch.Generator | None = None, inducing: int = INDUCING,
    lengths: Sequence[float] = STARTS, near: torch.Tensor | None = None,
) -> GaussianProcess:  # fmt: skip
    """Fit a Gaussian process by its marginal likelihood.

    Args:
        z: (N, D) latents.
        values: (N,) finite, not all equal.
        generator: chooses the inducing latents, and the `ROWS` for the scales, where there are more rows.
        inducing: M, at most.
        lengths: length scales to start from; the best end wins.
        near: (4,) scales of a process for nearly the same rows, to start from instead.
    """
    z, values = z.detach().double().cpu(), values.detach().double().cpu()
    offset, scale = values.mean(), values.std()
    target = (values - offset) / scale
    order = torch.arange(len(z)) if len(z) <= inducing else torch.randperm(len(z), generator=generator)
    points, some = z[order[:inducing]], order[:ROWS]
    starts = [_start(length) for length in lengths] if near is None else [near.detach().clone()]
    results = [_optimise(z[some], target[some], points, start) for start in starts]
    log_scales = min(results, key=lambda one: one[0])[1]
    weights, reduction = _Bound(z, target, points, log_scales).posterior()
    process = GaussianProcess(*points.shape)
    process.load_state_dict({
        "points": points, "weights": weights, "reduction": reduction, "log_scales": log_scales,
        "unit": torch.stack([offset, scale]), "stretch": torch.ones((), dtype=torch.float64),
    })  # fmt: skip
    return process


def _start(length: float) -> torch.Tensor:
    """Return usual scales (4,) but for the length."""
    log_scales = torch.tensor(USUAL, dtype=torch.float64)
    log_scales[1] = math.log(length)
    return log_scales


def _optimise(
    z: torch.Tensor, values: torch.Tensor, points: torch.Tensor, log_scales: torch.Tensor
) -> tuple[float, torch.Tensor]:
    """Return the least negative log posterior of the scales found from those given (4,), and the scales (4,)."""
    usual, spread = torch.tensor(USUAL, dtype=z.dtype), torch.tensor(SPREAD, dtype=z.dtype)
    log_scales.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [log_scales], max_iter=ITERATIONS, tolerance_grad=10 * ENOUGH, tolerance_change=ENOUGH,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def cost() -> torch.Tensor:
        # Beyond these bounds a Cholesky factor fails before the likelihood says no.
        bounded = log_scales.clamp(-7, 7)
        nats: torch.Tensor = _Bound(z, values, points, bounded).nats
        return nats + 0.5 * ((log_scales - usual) / spread).square().sum()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        nats = cost()
        nats.backward()  # type: ignore[no-untyped-call]
        return nats

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    found = log_scales.detach().clamp(-7, 7)
    with torch.no_grad():
        return float(cost()), found
