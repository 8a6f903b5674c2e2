"""Bound log p(x) from below with importance samples, and say which tokens of a molecule are surprising.

In: a model, a `Batch`, noise (K, B, D). Out: `Weights`, nats per sample and molecule (K, B), and bounds (B,).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from molvae.data.batch import Batch
from molvae.errors import ConfigError
from molvae.nn.checkpoint import LoadedModel
from molvae.nn.distributions import DiagonalNormal, PointMass, standard_normal_log_prob
from molvae.nn.model import SequenceVAE
from molvae.objectives.bounds import importance_bound
from molvae.objectives.divergences import Density
from molvae.objectives.presets import find_row

ROWS_AT_ONCE = 2048
"""Decoder rows a chunk: K times B of them would not fit memory at K = 1,000."""


class Normal:
    """The density N(0, I), whatever prior a model has."""

    def log_prob(self, z: torch.Tensor) -> torch.Tensor:
        """Return the log density of ``z`` (N, D) in nats, (N,)."""
        return standard_normal_log_prob(z)


@dataclass(frozen=True)
class Weights:
    """K draws from q(z|x) for each of B molecules; everything in nats, float64, (K, B) on the CPU.

    Attributes:
        log_px: log p(x|z).
        log_qz: log q(z|x).
        log_pz: log p(z), one for each prior asked for.
        tokens: log p of each token after BOS, (K, B, T - 1), 0 at padding; None when not asked for.
    """

    log_px: torch.Tensor
    log_qz: torch.Tensor
    log_pz: Mapping[str, torch.Tensor]
    tokens: torch.Tensor | None = None

    def log_weights(self, prior: str) -> torch.Tensor:
        """Return log p(x|z) + log p(z) - log q(z|x) in nats, (K, B)."""
        return self.log_px + self.log_pz[prior] - self.log_qz

    def bound(self, prior: str, k: int | None = None) -> torch.Tensor:
        """Return the importance-weighted bound on log p(x) in nats, (B,), from ``k`` samples (all when None).

        With fewer than K the groups of ``k`` are averaged, so that no sample is wasted.

        Source: Burda et al. (2016), eq. 8, https://arxiv.org/abs/1509.00519
        """
        log_weights = self.log_weights(prior)
        size = k or len(log_weights)
        groups = len(log_weights) // size
        return torch.stack([importance_bound(log_weights[g * size : (g + 1) * size]) for g in range(groups)]).mean(0)

    def surprise(self, prior: str) -> torch.Tensor:
        """Return the nats of each token after BOS, averaged over z as the molecule itself weights it, (B, T - 1).

        Raises:
            ValueError: when tokens were not kept.
        """
        if self.tokens is None:
            raise ValueError("tokens were not kept")
        shares = self.log_weights(prior).softmax(0)
        return -(shares[:, :, None] * self.tokens).sum(0)


def has_density(prior: object) -> bool:
    """Tell whether ``prior`` can say how likely a latent is; a sampler such as a GAN cannot."""
    return bool(getattr(prior, "has_density", callable(getattr(prior, "log_prob", None))))


def densities(model: SequenceVAE) -> dict[str, Density]:
    """Return the densities a model is judged under: ``normal``, N(0, I), and ``model``, its own prior if it has one."""
    found: dict[str, Density] = {"normal": Normal()}
    if has_density(model.prior):
        found["model"] = model.prior
    return found


def is_point_mass(loaded: LoadedModel) -> bool:
    """Tell whether the model was trained without noise in its codes, so that it has no likelihood."""
    one = torch.zeros(1, 1)
    return isinstance(find_row(loaded.config.objective.name).posterior(DiagonalNormal(one, one)), PointMass)


def need_likelihood(loaded: LoadedModel, what: str) -> None:
    """Refuse models without a likelihood.

    Raises:
        ConfigError: when the codes have no noise, or the prior has no density.
    """
    if is_point_mass(loaded):
        raise ConfigError(
            f"{what} needs a likelihood, and objective {loaded.config.objective.name} gives codes without noise.",
            "Use a model trained with vae, beta_vae or another objective whose codes have noise.",
        )
    if not has_density(loaded.model.prior):
        raise ConfigError(
            f"{what} needs a likelihood, and the prior {type(loaded.model.prior).__name__} has no density.",
            "Use a model whose prior is normal, gmm or flow.",
        )


@torch.inference_mode()
def importance_weights(
    model: SequenceVAE, batch: Batch, noise: torch.Tensor, priors: Mapping[str, Density],
    *, keep_tokens: bool = False, rows_at_once: int = ROWS_AT_ONCE,
) -> Weights:  # fmt: skip
    """Draw K latents for each molecule of ``batch`` and weigh them, a chunk of samples at a time.

    Args:
        model: in evaluation mode.
        batch: B molecules on the model's device.
        noise: (K, B, D) standard normal, or (K, 1, D) to give every molecule the same, so that none depends on
            the others.
        priors: densities over z by name.
        keep_tokens: keep the log probability of each token too.
        rows_at_once: decoder rows a chunk; changes memory, not the result.
    """
    posterior = model.encode(batch.tokens, batch.lengths)
    cond = model.usual_condition(batch.properties)
    parts: list[tuple[torch.Tensor, ...]] = []
    step = max(1, rows_at_once // max(1, len(batch.tokens)))
    for start in range(0, len(noise), step):
        z = posterior.mean + posterior.log_std.exp() * noise[start : start + step]
        count, size, latent = z.shape
        flat = z.reshape(count * size, latent)
        tokens = model.decoder.token_log_prob(batch.tokens.repeat(count, 1), flat, cond.repeat(count, 1))
        log_priors = [prior.log_prob(flat).view(count, size).double().cpu() for prior in priors.values()]
        kept = tokens.view(count, size, -1).double().cpu() if keep_tokens else torch.zeros(0)
        log_px = tokens.double().sum(1).view(count, size).cpu()
        parts.append((log_px, posterior.log_prob(z).double().cpu(), kept, *log_priors))
    log_px, log_qz, kept, *rest = (torch.cat(column) for column in zip(*parts, strict=True))
    return Weights(log_px, log_qz, dict(zip(priors, rest, strict=True)), kept if keep_tokens else None)
