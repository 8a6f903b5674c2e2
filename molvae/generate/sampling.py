"""Write token ids from latents, many molecules at a time.

In: latents (N, D) and a condition (N, C) on the model's device. Out: `Sequences`, token ids and their nats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.data.vocabulary import BOS, EOS, PAD
from molvae.errors import ConfigError
from molvae.generate.exact_noise import Noise, NoiseReader
from molvae.generate.guidance import GuidedStepper
from molvae.generate.stepper import Precision, Stepper, choose_dtype
from molvae.nn.model import SequenceVAE

LONGEST = 1000
"""Tokens written at most, whatever is asked for."""

PASS = -1
"""The verdict of a prefilter on a row that goes on to RDKit."""

Screen = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Takes token ids (B, T) and whether each row is finished (B,), returns verdicts (B,); see `prefilter.Prefilter`."""


class Steps(Protocol):
    """What unrolls a decoder: a `Stepper`, or one around it. A state is what `start` gives; it can ``select`` rows."""

    def start(self, z: torch.Tensor, cond: torch.Tensor) -> Any:
        """Return the state before the first token, for ``z`` (B, D) and ``cond`` (B, C)."""

    def step(self, token_ids: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """Read one token a row (B,); return logits (B, V) and the new state."""


@dataclass(frozen=True)
class SamplingOptions:
    """How the next token is chosen.

    Args:
        temperature: divides the logits; below 1 bolder, above 1 more varied, 0 is greedy. None takes what the model
            suggests, and 1 where it suggests nothing.
        greedy: always the likeliest token; no chance is involved.
        top_k: choose among the k likeliest tokens only; 0 means all.
        top_p: choose among the fewest tokens that hold this share of the probability; 1 means all.
        max_length: tokens a molecule may have; a longer one is not finished. None takes what the model suggests.
        precision: auto (bfloat16 where the hardware multiplies it faster), fp32 or bf16.

    Raises:
        ConfigError: when a value is out of range.
    """

    temperature: float | None = None
    greedy: bool = False
    top_k: int = 0
    top_p: float = 1.0
    max_length: int | None = None
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        limits = {
            "temperature": (self.temperature is None or 0 <= self.temperature <= 100, "between 0 and 100"),
            "top_k": (self.top_k >= 0, "0 (all tokens) or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "max_length": (self.max_length is None or 1 <= self.max_length <= LONGEST, f"between 1 and {LONGEST}"),
            "precision": (self.precision in ("auto", "fp32", "bf16"), "auto, fp32 or bf16"),
        }
        for name, (fine, allowed) in limits.items():
            if not fine:
                raise ConfigError(f"{name} = {getattr(self, name)} is not allowed.", f"Choose {allowed}.")

    @property
    def deterministic(self) -> bool:
        """Whether the same latent always gives the same molecule."""
        return self.greedy or self.temperature == 0 or self.top_k == 1


DEFAULT = SamplingOptions()
"""Draw every token at the temperature the model suggests."""

PLAIN = SamplingOptions(temperature=1.0)
"""Draw every token from the decoder's own distribution."""

GREEDY = SamplingOptions(greedy=True, precision="fp32")
"""The likeliest token each time, computed alike on every machine."""


@dataclass(frozen=True)
class Sequences:
    """N molecules as written.

    Attributes:
        tokens: (N, T) uint16, PAD after the last token; neither BOS nor EOS.
        lengths: (N,) int64, tokens per row.
        nats: (N,) float32, -log p of what was written, EOS included, under the model's own logits (temperature 1).
        finished: (N,) bool, false where the length limit came before EOS.
        verdicts: (N,) int64 of a prefilter; the tokens of a row that did not `PASS` are left out. None without one.
    """

    tokens: NDArray[np.uint16]
    lengths: NDArray[np.int64]
    nats: NDArray[np.float32]
    finished: NDArray[np.bool_]
    verdicts: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def row(self, index: int) -> tuple[int, ...]:
        """Return the token ids of one molecule."""
        return tuple(self.tokens[index, : self.lengths[index]].tolist())


def default_batch_size(device: torch.device) -> int:
    """Return how many rows to decode at once: what fills the device without leaving its caches."""
    return 512 if device.type == "cpu" else 8192


def suggested_length(longest_seen: int | None) -> int:
    """Return a length limit with room to spare over the longest molecule of the training set, in tokens.

    >>> suggested_length(55), suggested_length(None)
    (118, 200)
    """
    return 200 if longest_seen is None else min(2 * longest_seen + 8, LONGEST)


def _keep_likely(logits: torch.Tensor, options: SamplingOptions) -> torch.Tensor:
    """Return ``logits`` (B, V) at the options' temperature, minus infinity outside top-k and top-p."""
    logits = logits / (1.0 if options.temperature is None else options.temperature)
    if 0 < options.top_k < logits.shape[1]:
        logits = logits.masked_fill(logits < logits.topk(options.top_k).values[:, -1:], -torch.inf)
    if options.top_p < 1:
        ordered, order = logits.softmax(1).sort(1, descending=True)
        surplus = ordered.cumsum(1) - ordered >= options.top_p
        logits = logits.masked_fill(torch.zeros_like(surplus).scatter(1, order, surplus), -torch.inf)
    return logits


def choose_tokens(logits: torch.Tensor, options: SamplingOptions, uniform: torch.Tensor | None) -> torch.Tensor:
    """Choose one token a row, (B,) int64.

    Each row uses one number of its own, by the inverse of the cumulative distribution, so that what is chosen does
    not depend on which other rows share the batch.

    Args:
        logits: (B, V), minus infinity where a token is forbidden.
        options: how to choose.
        uniform: (B,) in [0, 1); not needed when the options leave nothing to chance.
    """
    if options.deterministic or uniform is None:
        return logits.argmax(1)
    heights = _keep_likely(logits, options).softmax(1).cumsum(1)
    chosen = (heights <= uniform[:, None] * heights[:, -1:]).sum(1)
    # Rounding may put the product at the very top; argmax is the last token with any probability.
    return chosen.minimum(heights.argmax(1))


def draw_uniforms(n: int, options: SamplingOptions, length: int, generator: torch.Generator) -> torch.Tensor | None:
    """Draw the chance that ``n`` molecules need, shape (N, T) with N = ``n`` and T = ``length`` + 1, in [0, 1); None
    when they need none.
    """
    return None if options.deterministic else torch.rand((n, length + 1), generator=generator, device=generator.device)


def _decode_batch(
    stepper: Steps,
    z: torch.Tensor,
    cond: torch.Tensor,
    options: SamplingOptions,
    uniforms: torch.Tensor | None,
    length: int,
    noise: NoiseReader | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Decode B rows at once; return tokens (B, length + 1) with EOS, nats (B,) and finished (B,)."""
    tokens = torch.full((len(z), length + 1), PAD, dtype=torch.int64, device=z.device)
    nats = torch.zeros(len(z), device=z.device)
    finished = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    rows = torch.arange(len(z), device=z.device)
    state, last = stepper.start(z, cond), torch.full_like(rows, BOS)
    for position in range(length + 1):
        logits, state = stepper.step(last, state)
        if noise is not None:
            last = (logits + noise.read(position, rows)).argmax(1)
        else:
            last = choose_tokens(logits, options, None if uniforms is None else uniforms[rows, position])
        tokens[rows, position] = last
        nats[rows] -= logits.log_softmax(1).gather(1, last[:, None]).squeeze(1)
        ended = last == EOS
        finished[rows] = ended
        going = (~ended).nonzero().squeeze(1)
        if len(going) == 0:
            break
        if len(going) < len(rows):
            rows, last, state = rows[going], last[going], state.select(going)
    return tokens, nats, finished


@torch.inference_mode()
def decode_tokens(
    model: SequenceVAE,
    z: torch.Tensor,
    cond: torch.Tensor,
    options: SamplingOptions,
    generator: torch.Generator | None = None,
    batch_size: int | None = None,
    uniforms: torch.Tensor | None = None,
    prefilter: Screen | None = None,
    noise: Noise | None = None,
    guidance: float = 0.0,
) -> Sequences:
    """Write one molecule a row; finished rows leave the batch, so that they cost nothing.

    On the CPU the result does not depend on ``batch_size``, up to the rounding of matrix products.

    Args:
        model: in evaluation mode.
        z: (N, D) latents on the model's device.
        cond: (N, C) condition, see `SequenceVAE.condition`; `SequenceVAE.unconditioned` when nothing is asked for.
        options: how tokens are chosen.
        generator: where chance comes from; not needed for greedy decoding or with ``uniforms``.
        batch_size: rows at once; None takes what suits the device.
        uniforms: (N, max_length + 1) in [0, 1) from `draw_uniforms`, instead of ``generator``.
        prefilter: called with every batch; only rows that pass leave the device.
        noise: of N molecules, instead of ``generator``; tokens are then chosen by it, whatever the options say.
        guidance: w above 0 holds the decoder to ``cond``, see `guidance.GuidedStepper`; nats are then under its logits.

    Raises:
        ConfigError: when neither ``generator`` nor ``uniforms`` is given and chance is needed.
    """
    length = options.max_length or suggested_length(None)
    if generator is None and uniforms is None and noise is None and not options.deterministic:
        raise ConfigError("Sampling needs a generator.", "Give one, or ask for greedy decoding.")
    plain = Stepper(model.decoder, choose_dtype(options.precision, z.device))
    stepper: Steps = GuidedStepper(plain, guidance) if guidance else plain
    size = batch_size or default_batch_size(z.device)
    tokens = np.full((len(z), length), PAD, dtype=np.uint16)
    nats, finished = np.zeros(len(z), dtype=np.float32), np.zeros(len(z), dtype=np.bool_)
    verdicts = None if prefilter is None else np.full(len(z), PASS, dtype=np.int64)
    for start in range(0, len(z), size):
        part = slice(start, start + size)
        if uniforms is not None:
            chance: torch.Tensor | None = uniforms[part]
        else:
            drawn = generator if noise is None else None
            chance = None if drawn is None else draw_uniforms(len(z[part]), options, length, drawn)
        chance = None if chance is None else chance.to(z.device)
        held = None if noise is None else NoiseReader(noise.take(np.arange(len(z))[part]), model.vocab_size, z.device)
        ids, cost, done = _decode_batch(stepper, z[part], cond[part], options, chance, length, held)
        ids = ids[:, :length].masked_fill(ids[:, :length] == EOS, PAD)
        if prefilter is None or verdicts is None:
            tokens[part] = ids.cpu().numpy()
        else:
            verdict = prefilter(ids, done)
            verdicts[part] = verdict.cpu().numpy()
            tokens[start + np.flatnonzero(verdicts[part] == PASS)] = ids[verdict == PASS].cpu().numpy()
        nats[part], finished[part] = cost.cpu().numpy(), done.cpu().numpy()
    return Sequences(tokens, (tokens != PAD).sum(1), nats, finished, verdicts)
