"""Codes of a frozen model: what a prior is fitted to and judged on.

In: a model and rows of a dataset. Out: `Codes` on the model's device; what a prior pays for them in nats.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.data.batch import Batch, load_batch
from molvae.data.dataset import Dataset
from molvae.data.remap import with_properties, with_vocabulary
from molvae.errors import InputError
from molvae.nn.checkpoint import LoadedModel
from molvae.nn.distributions import DiagonalNormal
from molvae.nn.model import SequenceVAE
from molvae.nn.priors import Prior
from molvae.objectives.objective import mask_properties

HELD_OUT = 0.05
JUDGED_AT_ONCE = 2000


@dataclass(frozen=True)
class Codes:
    """q(z|x) of N molecules, mean and log_std (N, D), and their ``properties`` (N, P), NaN where unknown."""

    posterior: DiagonalNormal
    properties: torch.Tensor

    def __len__(self) -> int:
        return len(self.posterior.mean)

    def take(self, rows: torch.Tensor) -> Codes:
        """Return the codes at ``rows`` (B,) int64."""
        posterior = DiagonalNormal(self.posterior.mean[rows], self.posterior.log_std[rows])
        return Codes(posterior, self.properties[rows])

    def first(self, count: int) -> Codes:
        """Return at most the first ``count``."""
        return self.take(torch.arange(min(count, len(self)), device=self.posterior.mean.device))


@dataclass(frozen=True)
class CodeSource:
    """Draw batches of codes with conditions, each time anew from q(z|x) and with other conditions hidden.

    Attributes:
        condition_size: C, 0 for codes without conditions.
        dropout: share of codes without conditions, and of conditions hidden (see `mask_properties`).
    """

    model: SequenceVAE
    codes: Codes
    condition_size: int
    dropout: float

    def draw(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return latents (B, D) and their conditions (B, C)."""
        device = self.codes.properties.device
        picked = torch.randint(len(self.codes), (size,), generator=generator, device=device)
        part = self.codes.take(picked)
        z = part.posterior.sample(1, generator)[0]
        if not self.condition_size:
            return z, z[:, :0]
        shown = mask_properties(part.properties, self.dropout, generator, self.model.property_groups)
        return z, self.model.condition(shown)


def batches_by_length(
    model: SequenceVAE, dataset: Dataset, rows: NDArray[np.int64], batch_size: int = 1000
) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    """Yield ``rows`` (N,) of a dataset in batches of similar length on the model's device, each with its places."""
    order = np.argsort(dataset.lengths[rows], kind="stable")
    for start in range(0, len(rows), batch_size):
        picked = order[start : start + batch_size]
        yield picked, load_batch(dataset, rows[picked]).to(model.device)


@torch.no_grad()
def encode_codes(
    model: SequenceVAE, dataset: Dataset, rows: NDArray[np.int64], batch_size: int = 1000
) -> DiagonalNormal:
    """Return q(z|x) of ``rows`` (N,), mean and log_std (N, D) on the CPU, in the order of ``rows``."""
    mean, log_std = torch.zeros(len(rows), model.latent), torch.zeros(len(rows), model.latent)
    for picked, batch in batches_by_length(model, dataset, rows, batch_size):
        posterior = model.encode(batch.tokens, batch.lengths)
        mean[picked], log_std[picked] = posterior.mean.cpu(), posterior.log_std.cpu()
    return DiagonalNormal(mean, log_std)


def split_codes(model: SequenceVAE, dataset: Dataset, most: int, seed: int) -> tuple[Codes, Codes]:
    """Return the codes of at most ``most`` training molecules, and one in twenty of them apart, to judge by."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(dataset.rows("train"))[:most])
    posterior = encode_codes(model, dataset, rows)
    shuffled = torch.from_numpy(rng.permutation(len(rows)))
    cut = max(1, int(HELD_OUT * len(rows)))
    properties = torch.from_numpy(np.array(dataset.properties[rows], dtype=np.float32))
    device = model.device
    everything = Codes(DiagonalNormal(posterior.mean.to(device), posterior.log_std.to(device)), properties.to(device))
    return everything.take(shuffled[cut:].to(device)), everything.take(shuffled[:cut].to(device))


@torch.no_grad()
def rate_against(
    prior: Prior, posterior: DiagonalNormal, generator: torch.Generator, cond: torch.Tensor | None = None
) -> float:
    """Return the mean of log q(z|x) - log p(z|c) in nats, one draw a molecule; NaN for a prior without a density.

    Args:
        posterior: (N, D).
        generator: of the draws.
        cond: (N, C); None knows nothing.
    """
    if not prior.has_density:
        return float("nan")
    z = posterior.sample(1, generator)
    parts = torch.split(z[0], JUDGED_AT_ONCE)
    conds: Sequence[torch.Tensor | None] = [None] * len(parts) if cond is None else torch.split(cond, JUDGED_AT_ONCE)
    log_prior = torch.cat([prior.log_prob(part, given) for part, given in zip(parts, conds, strict=True)])
    return float((posterior.log_prob(z)[0] - log_prior).mean())


def dataset_for(loaded: LoadedModel, dataset: Dataset, *, conditions: bool) -> Dataset:
    """Return ``dataset`` in the vocabulary of the model and with its properties, in its order.

    Args:
        conditions: whether the conditions of the model must be known for some molecule.

    Raises:
        InputError: when a molecule has a token the model lacks, or a wanted condition is known for no molecule.
    """
    model = loaded.model
    found = with_properties(with_vocabulary(dataset, loaded.vocabulary), model.property_info)
    columns = [found.property_names.index(info.name) for info in model.property_info]
    found = dataclasses.replace(
        found, properties=np.asarray(found.properties)[:, columns], property_info=tuple(model.property_info)
    )
    known = np.isfinite(found.properties[found.rows("train")])
    absent = {name for column, name in enumerate(found.property_names) if not known[:, column].any()}
    lacking = [name for name in model.condition_names if name in absent]
    if conditions and lacking:
        raise InputError(
            f"The model is conditioned on {', '.join(lacking)}, which {dataset.directory} knows of no molecule.",
            f"Prepare it with --properties {','.join(lacking)}, or set prior.conditional=false.",
        )
    return found
