"""Read a molecule in both directions and name the latents it may come from.

In: token ids (B, T). Out: q(z|x), `DiagonalNormal` over (B, D).
"""

from __future__ import annotations

import torch
from torch import nn

from molvae.config import ModelConfig
from molvae.data.vocabulary import PAD
from molvae.nn.distributions import DiagonalNormal


def reverse_rows(tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Reverse each row's first ``lengths`` tokens and leave its padding at the end.

    Args:
        tokens: (B, T) int64.
        lengths: (B,) int64.

    >>> reverse_rows(torch.tensor([[5, 6, 0]]), torch.tensor([2])).tolist()
    [[6, 5, 0]]
    """
    position = torch.arange(tokens.shape[1], device=tokens.device)
    source = lengths[:, None] - 1 - position
    return tokens.gather(1, torch.where(source >= 0, source, position))


class Encoder(nn.Module):
    """Two GRUs, one a direction, and a linear map of their last and mean states.

    Each direction is one fused call over the padded batch. Padding stands at the end of both readings, and states are
    taken at each row's own last token, so padding changes nothing and no packing is needed.
    """

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        size = config.encoder_hidden
        self.embedding = nn.Embedding(vocab_size, config.embedding, padding_idx=PAD)
        self.forward_gru, self.backward_gru = (
            nn.GRU(
                config.embedding,
                size,
                config.encoder_layers,
                batch_first=True,
                dropout=config.dropout if config.encoder_layers > 1 else 0.0,
            )
            for _ in range(2)
        )
        self.to_mean = nn.Linear(4 * size, config.latent)
        self.to_log_std = nn.Linear(4 * size, config.latent)
        self.log_std_min = config.log_std_min
        nn.init.zeros_(self.to_log_std.weight)
        nn.init.constant_(self.to_log_std.bias, -2.0)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> DiagonalNormal:
        """Return q(z|x).

        Args:
            tokens: (B, T) int64 with BOS and EOS, right-padded.
            lengths: (B,) int64, at least 1.
        """
        return self.posterior(self.summarise(tokens, lengths))

    def posterior(self, summary: torch.Tensor) -> DiagonalNormal:
        """Return q(z|x) over (B, D) for what `summarise` gave, (B, S)."""
        # A posterior wider than the prior or narrower than the floor costs precision and says nothing.
        log_std = self.to_log_std(summary).float().clamp(self.log_std_min, 1.0)
        return DiagonalNormal(self.to_mean(summary).float(), log_std)

    @property
    def summary_size(self) -> int:
        """S: last and mean states of two GRUs."""
        return self.to_mean.in_features

    def summarise(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return what is known of each molecule before it is squeezed into z, (B, S); arguments as in `forward`."""
        summaries = []
        valid = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        for gru, reading in ((self.forward_gru, tokens), (self.backward_gru, reverse_rows(tokens, lengths))):
            states, _ = gru(self.embedding(reading))
            last = states.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, states.shape[2])).squeeze(1)
            mean = (states * valid[:, :, None]).sum(1) / lengths[:, None]
            summaries += [last, mean]
        return torch.cat(summaries, dim=1)
