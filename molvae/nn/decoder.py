"""Write a molecule token by token, given a latent and a condition.

In: z (B, D), cond (B, C), token ids. Out: log p(x|z,c) in nats per molecule, or the next token's logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from molvae.config import ModelConfig
from molvae.data.vocabulary import BOS, EOS, PAD, UNK


@dataclass(frozen=True)
class DecoderState:
    """What generation carries from token to token: hidden (L, B, H) and the constant context (B, D + C)."""

    hidden: torch.Tensor
    context: torch.Tensor

    def select(self, rows: torch.Tensor) -> DecoderState:
        """Keep ``rows`` (int64 or bool) only, so that finished molecules cost nothing."""
        return DecoderState(self.hidden[:, rows], self.context[rows])


class Decoder(nn.Module):
    """A GRU that sees z and the condition in its first hidden state and at every step."""

    def __init__(self, config: ModelConfig, vocab_size: int, condition_size: int) -> None:
        super().__init__()
        self.layers, self.hidden_size = config.decoder_layers, config.decoder_hidden
        context = config.latent + condition_size
        self.embedding = nn.Embedding(vocab_size, config.embedding, padding_idx=PAD)
        self.to_hidden = nn.Linear(context, config.decoder_layers * config.decoder_hidden)
        self.gru = nn.GRU(
            config.embedding + context, config.decoder_hidden, config.decoder_layers, batch_first=True,
            dropout=config.dropout if config.decoder_layers > 1 else 0.0,
        )  # fmt: skip
        self.to_logits = nn.Linear(config.decoder_hidden, vocab_size)
        forbidden = torch.zeros(vocab_size, dtype=torch.bool)
        forbidden[[PAD, BOS, UNK]] = True
        self.register_buffer("forbidden", forbidden, persistent=False)

    def start(self, z: torch.Tensor, cond: torch.Tensor) -> DecoderState:
        """Return the state before the first token, for ``z`` (B, D) and ``cond`` (B, C)."""
        context = torch.cat([z, cond], dim=1)
        hidden = torch.tanh(self.to_hidden(context)).view(len(z), self.layers, self.hidden_size)
        return DecoderState(hidden.transpose(0, 1).contiguous(), context)

    def step(self, token_ids: torch.Tensor, state: DecoderState) -> tuple[torch.Tensor, DecoderState]:
        """Read one token a row and return the next token's logits.

        Args:
            token_ids: (B,) int64, the tokens emitted last (BOS at the start).
            state: from `start` or the previous `step`.

        Returns:
            logits (B, V) float32 with PAD, BOS and UNK at minus infinity, and the new state.
        """
        inputs = torch.cat([self.embedding(token_ids), state.context.to(self.embedding.weight.dtype)], dim=1)
        states, hidden = self.gru(inputs[:, None], state.hidden)
        return self._logits(states.squeeze(1)), DecoderState(hidden, state.context)

    def forward(self, tokens: torch.Tensor, state: DecoderState) -> torch.Tensor:
        """Return logits (B, T, V) float32 for the token after each of ``tokens`` (B, T): teacher forcing."""
        context = state.context[:, None].expand(-1, tokens.shape[1], -1)
        embedded = self.embedding(tokens)
        states, _ = self.gru(torch.cat([embedded, context.to(embedded.dtype)], dim=2), state.hidden)
        return self._logits(states)

    def _logits(self, states: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.to_logits(states)
        # A copy in float64 gives float64; a sum over probabilities wants more than bfloat16.
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits.masked_fill(self.get_buffer("forbidden"), -torch.inf)

    def token_log_prob(
        self, tokens: torch.Tensor, z: torch.Tensor, cond: torch.Tensor, inputs: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return log p of every token after BOS, in nats, (B, T - 1), 0 at padding.

        Args:
            tokens: (B, T) int64 with BOS and EOS, right-padded.
            z: (B, D) latents.
            cond: (B, C) condition.
            inputs: (B, T) what the decoder reads instead of ``tokens`` (token dropout); None reads ``tokens``.
        """
        read = (tokens if inputs is None else inputs)[:, :-1]
        target = tokens[:, 1:]
        logits = self(read, self.start(z, cond))
        # PAD is forbidden as an output; point padded targets at a permitted id before masking them out.
        safe = torch.where(target == PAD, torch.full_like(target, EOS), target)
        log_prob = torch.log_softmax(logits, dim=-1).gather(2, safe[:, :, None]).squeeze(2)
        return log_prob.masked_fill(target == PAD, 0.0)

    def log_prob(
        self, tokens: torch.Tensor, z: torch.Tensor, cond: torch.Tensor, inputs: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return log p(x|z,c) in nats per molecule, (K, B), for ``z`` (K, B, D); the rest as in `token_log_prob`."""
        samples, batch, latent = z.shape
        read = None if inputs is None else inputs.repeat(samples, 1)
        flat = z.reshape(samples * batch, latent)
        nats = self.token_log_prob(tokens.repeat(samples, 1), flat, cond.repeat(samples, 1), read)
        return nats.sum(1).view(samples, batch)


@torch.no_grad()
def greedy(decoder: Decoder, z: torch.Tensor, cond: torch.Tensor, max_length: int) -> torch.Tensor:
    """Return the likeliest next token at every step, (B, max_length) int64, PAD after EOS.

    Args:
        decoder: the decoder.
        z: (B, D) latents.
        cond: (B, C) condition.
        max_length: tokens written at most, EOS included.
    """
    tokens = torch.full((len(z), max_length), PAD, dtype=torch.int64, device=z.device)
    rows = torch.arange(len(z), device=z.device)
    state, last = decoder.start(z, cond), torch.full((len(z),), BOS, dtype=torch.int64, device=z.device)
    for position in range(max_length):
        if len(rows) == 0:
            break
        logits, state = decoder.step(last, state)
        last = logits.argmax(1)
        tokens[rows, position] = last
        going = last != EOS
        rows, last, state = rows[going], last[going], state.select(going)
    return tokens
