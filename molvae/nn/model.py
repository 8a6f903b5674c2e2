"""Put encoder, prior, decoder and property heads together.

In: a `ModelConfig`, the vocabulary's size and the properties. Out: `SequenceVAE`, the one network of the package.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from molvae.config import ModelConfig
from molvae.data.categories import expand, groups_of
from molvae.data.dataset import PropertyInfo
from molvae.data.scaler import Scaler
from molvae.errors import UnknownNameError
from molvae.nn.decoder import Decoder
from molvae.nn.distributions import DiagonalNormal
from molvae.nn.encoder import Encoder
from molvae.nn.gaussian_process import GaussianProcess
from molvae.nn.heads import JoinedHeads, PropertyHeads, PropertyReader
from molvae.nn.priors import Prior, StandardNormal


class SequenceVAE(nn.Module):
    """GRU encoder q(z|x), prior p(z), GRU decoder p(x|z,c), property heads on z.

    Args:
        config: sizes, and which properties condition the decoder or are predicted; a category stands for its levels.
        vocab_size: V, specials included.
        properties: statistics of the P properties that batches carry, in their order.

    Raises:
        UnknownNameError: when the config names a property that is not among ``properties``.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, properties: Sequence[PropertyInfo] = ()) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.property_info = tuple(properties)
        self.scaler = Scaler(properties)
        names = [info.name for info in properties]
        self.condition_names = expand(config.condition_on, properties)
        self.predict_names = names if config.predict == "all" else expand(config.predict, properties)
        self._condition_columns = [_column(name, names) for name in self.condition_names]
        self._predict_columns = [_column(name, names) for name in self.predict_names]
        self.encoder = Encoder(config, vocab_size)
        self.decoder = Decoder(config, vocab_size, 2 * len(self.condition_names))
        self.heads = PropertyHeads(config.latent, config.head_hidden, len(self.predict_names))
        self.prior: Prior = StandardNormal(config.latent)
        self.reader: PropertyReader | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return self.decoder.embedding.weight.device

    @property
    def latent(self) -> int:
        """D."""
        return self.config.latent

    @property
    def property_groups(self) -> list[int]:
        """For each of the P properties the first that is known whenever it is: levels of a category go together."""
        return groups_of(self.property_info)

    def with_heads(self, fitted: Sequence[tuple[PropertyInfo, GaussianProcess]]) -> SequenceVAE:
        """Return a view of this model, same weights, that also predicts what the ``fitted`` processes do."""
        view = copy.copy(self)
        # A module's copy shares the table of its parts; the view gets one of its own.
        view._modules = dict(self._modules)
        view.property_info = (*self.property_info, *(info for info, _ in fitted))
        view.scaler = Scaler(view.property_info)
        view.predict_names = [*self.predict_names, *(info.name for info, _ in fitted)]
        names = [info.name for info in view.property_info]
        view._predict_columns = [_column(name, names) for name in view.predict_names]
        view.add_module("heads", JoinedHeads(self.heads, fitted))
        return view

    def encode(self, tokens: torch.Tensor, lengths: torch.Tensor) -> DiagonalNormal:
        """Return q(z|x) over (B, D) for ``tokens`` (B, T) int64 with BOS and EOS and their ``lengths`` (B,)."""
        posterior: DiagonalNormal = self.encoder(tokens, lengths)
        return posterior

    def condition(self, properties: torch.Tensor) -> torch.Tensor:
        """Return the decoder's condition (B, 2 C): standardised values, 0 where unknown, and 1 where known.

        Args:
            properties: (B, P) in the properties' own units, NaN where unknown.
        """
        values = (
            self.scaler.scale(properties)[:, self._condition_columns] if self.condition_names else properties[:, :0]
        )
        return torch.cat([values.nan_to_num(0.0), (~values.isnan()).float()], dim=1)

    def usual_condition(self, properties: torch.Tensor) -> torch.Tensor:
        """Return the condition (B, 2 C) a model is judged under: nothing known, if it was trained to do without."""
        return self.unconditioned(len(properties)) if self.config.condition_dropout else self.condition(properties)

    def unconditioned(self, count: int) -> torch.Tensor:
        """Return the condition of ``count`` = B molecules of which nothing is known: zeros, (B, C)."""
        return torch.zeros((count, 2 * len(self.condition_names)), device=self.device)

    def targets(self, properties: torch.Tensor) -> torch.Tensor:
        """Return what the heads should predict, standardised, (B, P) for P predicted properties, NaN where missing."""
        return self.scaler.scale(properties)[:, self._predict_columns] if self.predict_names else properties[:, :0]


def _column(name: str, names: list[str]) -> int:
    if name not in names:
        raise UnknownNameError(
            f"The dataset has no property {name!r}.", f"It has: {', '.join(names) or 'none'}; or prepare it with more."
        )
    return names.index(name)
