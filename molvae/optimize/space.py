"""Show a model to a search as a space of points that stand for molecules.

In: a `LoadedModel`. Out: molecules as points with a width, points as canonical SMILES, random points.
Shapes: N molecules or points, D latent dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.chem.parallel import map_items
from molvae.chem.rejected import Rejected
from molvae.data.batch import Batch, collate
from molvae.generate.archive import digest
from molvae.generate.chemistry import Read, Readable
from molvae.generate.exact import EXACT, ExactCodes, encode_exact
from molvae.generate.exact_moves import MARGIN, TEMPERATURE, redraw
from molvae.generate.exact_noise import Noise
from molvae.generate.latents import decode_latents
from molvae.generate.sampling import GREEDY
from molvae.nn.checkpoint import LoadedModel
from molvae.optimize.decoder_update import bend_decoder
from molvae.optimize.exploration import ExplorationScore, directions

_CHUNK = 128
_NARROWEST = 1e-3


@dataclass(frozen=True)
class Codes:
    """N molecules as q(z|x).

    Attributes:
        mean: (N, D) float64, a row of NaN where the molecule cannot be encoded.
        std: (N, D) float64, above 0; NaN likewise.
        problems: N texts, "" where all is well, else why the molecule cannot be encoded.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    problems: tuple[str, ...]


class LatentSpace(Protocol):
    """All that a search knows of a model."""

    @property
    def dimension(self) -> int:
        """D."""

    def encode(self, smiles: Sequence[str]) -> Codes:
        """Return where N molecules lie and how wide each one's neighbourhood is."""

    def decode(self, latents: NDArray[np.float64]) -> list[str]:
        """Return the canonical SMILES at each of ``latents`` (N, D), "" where there is no molecule; always the same."""

    def sample(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw (n, D) points from the prior."""


@runtime_checkable
class HoldingSpace(LatentSpace, Protocol):
    """A space that can also hold the decoder's noise, so that every molecule it reads is some point's molecule."""

    def repair(self, smiles: Sequence[str]) -> list[Noise | None]:
        """Return the noise under which each of N molecules' means gives the molecule itself; None where none does."""

    def decode_held(self, latents: NDArray[np.float64], noise: Noise) -> list[str]:
        """Decode ``latents`` (N, D) as `decode` does, with the noise of N molecules held."""

    def decode_changed(self, latents: NDArray[np.float64], noise: Noise) -> list[str]:
        """Do the same with new noise for one token of each; the same arguments change the same tokens."""


@runtime_checkable
class BendableSpace(LatentSpace, Protocol):
    """A space whose decoder can be bent towards molecules that score well."""

    def bent(
        self, smiles: Sequence[str], weights: NDArray[np.float64], steps: int, anchor: float,
        generator: np.random.Generator,
    ) -> LatentSpace:  # fmt: skip
        """Return a space of its own, with the same codes, see `molvae.optimize.decoder_update.bend_decoder`."""


@runtime_checkable
class JudgingSpace(LatentSpace, Protocol):
    """A space that can say how strange a molecule is to its model."""

    def nats(self, smiles: Sequence[str]) -> NDArray[np.float64]:
        """Return what N molecules cost the decoder, (N,) nats per token; NaN for one that cannot be read."""

    def exploration(self, smiles: Sequence[str], n: int) -> NDArray[np.float64]:
        """Return the exploration score of N molecules, (N,), low far from the training data; NaN likewise."""


class ModelSpace:
    """The latent space of a trained model, decoded greedily, or with noise that is held.

    Args:
        loaded: the model.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    @property
    def dimension(self) -> int:
        """D."""
        return self._loaded.model.latent

    @torch.inference_mode()
    def encode(self, smiles: Sequence[str]) -> Codes:
        """Encode N molecules.

        Returns:
            mean and std (N, D), a row of NaN for a molecule that the model cannot read, and why.
        """
        read = map_items(Read(self._loaded.vocabulary), smiles)
        mean = np.full((len(read), self.dimension), np.nan)
        std = mean.copy()
        for part, batch in self._batches(read):
            posterior = self._loaded.model.encode(batch.tokens, batch.lengths)
            mean[part] = posterior.mean.cpu().double().numpy()
            std[part] = posterior.log_std.exp().clamp_min(_NARROWEST).cpu().double().numpy()
        return Codes(mean, std, tuple(_problem(result) for result in read))

    def decode(self, latents: NDArray[np.float64]) -> list[str]:
        """Decode ``latents`` (N, D) greedily to canonical SMILES, "" where there is no molecule."""
        return self._decode(latents, None)

    def decode_held(self, latents: NDArray[np.float64], noise: Noise) -> list[str]:
        """Decode ``latents`` (N, D) with the noise of N molecules held; "" where there is no molecule."""
        return self._decode(latents, noise)

    def decode_changed(self, latents: NDArray[np.float64], noise: Noise) -> list[str]:
        """Decode ``latents`` (N, D) with the noise of N molecules held, but for one token of each that changes."""
        points = latents.astype(np.float32)
        codes = ExactCodes(points, noise, (None,) * len(points), digest(self._loaded))
        chance = np.random.default_rng(list(blake2b(points.tobytes(), digest_size=16).digest()))
        return self._decode(latents, redraw(self._loaded, codes, chance).noise)

    def bent(
        self, smiles: Sequence[str], weights: NDArray[np.float64], steps: int, anchor: float,
        generator: np.random.Generator,
    ) -> ModelSpace:  # fmt: skip
        """Return a space whose decoder was trained on N molecules, weighed (N,), for a few steps, in memory only."""
        model = bend_decoder(self._loaded, smiles, weights, steps, anchor, generator)
        return ModelSpace(replace(self._loaded, model=model))

    def _decode(self, latents: NDArray[np.float64], noise: Noise | None) -> list[str]:
        smiles: list[str] = []
        options = GREEDY if noise is None else EXACT
        for start in range(0, len(latents), _CHUNK):
            part = latents[start : start + _CHUNK]
            held = None if noise is None else noise.take(np.arange(start, start + len(part)))
            smiles += [row.smiles or "" for row in decode_latents(self._loaded, part, options=options, noise=held)]
        return smiles

    def repair(self, smiles: Sequence[str]) -> list[Noise | None]:
        """Return the noise of N molecules' exact codes, see `molvae.generate.exact`; None for one it cannot read."""
        codes = encode_exact(self._loaded, smiles, temperature=TEMPERATURE, margin=MARGIN)
        return [codes.noise.take(np.array([row])) if why is None else None for row, why in enumerate(codes.rejected)]

    @torch.inference_mode()
    def nats(self, smiles: Sequence[str]) -> NDArray[np.float64]:
        """Return what N molecules cost the decoder at their own codes, (N,) nats per token; NaN for one it cannot read.

        A molecule unlike the training data is dear even where the encoder puts it.
        """
        cost = np.full(len(smiles), np.nan)
        for part, batch in self._batches(self._read(smiles)):
            mean = self._loaded.model.encode(batch.tokens, batch.lengths).mean
            blank = self._loaded.model.unconditioned(len(part))
            total = -self._loaded.model.decoder.token_log_prob(batch.tokens, mean, blank).sum(1).double().cpu().numpy()
            cost[part] = total / (batch.lengths.cpu().numpy() - 1)
        return cost

    @torch.inference_mode()
    def exploration(self, smiles: Sequence[str], n: int) -> NDArray[np.float64]:
        """Return the score of N molecules at their own codes, (N,), along ``n`` directions; NaN for one it cannot read.

        Low for a molecule unlike the training data, see `ExplorationScore`.
        """
        measure = ExplorationScore(self._loaded.model.decoder, directions(self.dimension, n))
        score = np.full(len(smiles), np.nan)
        for part, batch in self._batches(self._read(smiles)):
            mean = self._loaded.model.encode(batch.tokens, batch.lengths).mean
            blank = self._loaded.model.unconditioned(len(part))
            rows = zip(batch.tokens, batch.lengths.tolist(), mean, blank, strict=True)
            score[part] = [measure(tokens[:length], z, cond) for tokens, length, z, cond in rows]
        return score

    def _read(self, smiles: Sequence[str]) -> list[Readable | Rejected | None]:
        """Read N molecules in this process, None for ""."""
        reader = Read(self._loaded.vocabulary)
        return [reader(one) if one else None for one in smiles]

    def _batches(self, read: Sequence[Readable | Rejected | None]) -> Iterator[tuple[list[int], Batch]]:
        """Return batches of what could be read, each with the rows that it holds."""
        found = [(row, result) for row, result in enumerate(read) if isinstance(result, Readable)]
        for start in range(0, len(found), _CHUNK):
            part = found[start : start + _CHUNK]
            sequences: list[NDArray[np.integer]] = [np.array(one.token_ids, dtype=np.int64) for _, one in part]
            yield [row for row, _ in part], collate(sequences).to(self._loaded.model.device)

    @torch.inference_mode()
    def sample(self, n: int, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw (n, D) points from the model's prior."""
        device = self._loaded.model.device
        chance = torch.Generator(device).manual_seed(int(generator.integers(2**62)))
        drawn: NDArray[np.float64] = self._loaded.model.prior.sample(n, chance).cpu().double().numpy()
        return drawn


def _problem(result: Readable | Rejected) -> str:
    return "" if isinstance(result, Readable) else f"{result.reason} {result.detail}".strip()
