"""Go from molecules to latents and back.

In: SMILES, or latents (N, D). Out: latents with NaN rows for what cannot be read, or molecules; one result per input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from molvae.chem.parallel import map_items
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import DEFAULT as AS_GIVEN
from molvae.chem.standardize import StandardizeOptions
from molvae.data.batch import Batch, collate
from molvae.errors import InputError
from molvae.generate.chemistry import Molecule, Read, Readable, Write, check_counts, write_all
from molvae.generate.exact_noise import Noise
from molvae.generate.sampling import GREEDY, SamplingOptions, decode_tokens, default_batch_size
from molvae.generate.writing import as_items, resolve_options, spare_threads
from molvae.nn.checkpoint import LoadedModel
from molvae.nn.model import SequenceVAE

CHUNK = 256


@dataclass(frozen=True)
class Encoded:
    """N molecules as latents, in the order given.

    Attributes:
        latents: (N, D) float32, a row of NaN where the molecule cannot be read.
        smiles: canonical SMILES, None where it cannot be read.
        rejected: why not; None where it can.
    """

    latents: NDArray[np.float32]
    smiles: list[str | None]
    rejected: list[Rejected | None]


@dataclass(frozen=True)
class Decoded:
    """One latent as a molecule.

    Attributes:
        smiles: canonical SMILES; None when the latent decodes to nothing or to no molecule.
        state: ``ok`` or the reason, a key of `molvae.chem.rejected.REASONS`.
        nats: -log p of what was written, EOS included; NaN when nothing was.
    """

    smiles: str | None
    state: str
    nats: float


@torch.inference_mode()
def encode_sequences(
    loaded: LoadedModel, token_ids: Sequence[Sequence[int]], generator: torch.Generator | None, batch_size: int | None
) -> NDArray[np.float32]:
    """Return one latent per row of token ids without BOS and EOS, (N, D); the mean, or a draw with a ``generator``."""
    model = loaded.model
    latents = np.zeros((len(token_ids), model.latent), dtype=np.float32)
    # Noise is drawn in the order given, so that it does not depend on how rows are sorted into batches.
    noise = None if generator is None else torch.randn(latents.shape, generator=generator, device=generator.device)
    for rows, batch in _batches(model, token_ids, batch_size):
        posterior = model.encode(batch.tokens, batch.lengths)
        z = posterior.mean if noise is None else posterior.mean + posterior.log_std.exp() * noise[rows]
        latents[rows] = z.cpu().numpy()
    return latents


@torch.no_grad()
def summarise_sequences(model: SequenceVAE, token_ids: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Read rows of token ids without BOS and EOS once, for the two things that are drawn from them.

    Returns:
        the means of q(z|x) (N, D), and the encoder's summaries (N, S), see `Encoder.summarise`.
    """
    means = torch.zeros((len(token_ids), model.latent), device=model.device)
    summaries = torch.zeros((len(token_ids), model.encoder.summary_size), device=model.device)
    for rows, batch in _batches(model, token_ids, None):
        summary = model.encoder.summarise(batch.tokens, batch.lengths)
        means[rows], summaries[rows] = model.encoder.posterior(summary).mean, summary.float()
    return means, summaries


def _batches(
    model: SequenceVAE, token_ids: Sequence[Sequence[int]], batch_size: int | None
) -> Iterator[tuple[list[int], Batch]]:
    """Yield batches of similar length on the model's device, each with the places of its rows."""
    order = sorted(range(len(token_ids)), key=lambda index: len(token_ids[index]))
    size = batch_size or default_batch_size(model.device)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield rows, collate([np.array(token_ids[row], dtype=np.int64) for row in rows]).to(model.device)


def encode_smiles(
    loaded: LoadedModel,
    smiles: Sequence[str],
    *,
    options: StandardizeOptions = AS_GIVEN,
    sampled: bool = False,
    seed: int = 0,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Encoded:
    """Read molecules into latents: standardise, translate to SELFIES, encode.

    Stereo, charges, isotopes and salts are kept unless ``options`` says otherwise; a molecule with a token outside the
    model's vocabulary is rejected, never altered.

    Args:
        loaded: the model.
        smiles: N strings.
        options: what standardisation may change.
        sampled: draw from q(z|x) instead of taking its mean.
        seed: of that draw.
        batch_size: molecules read at once; None takes what suits the device.
        workers: processes for chemistry; None means every core.
    """
    check_counts(batch_size=batch_size)
    read = read_smiles(loaded, smiles, options, workers)
    rows = [row for row, result in enumerate(read) if isinstance(result, Readable)]
    good = [result for result in read if isinstance(result, Readable)]
    generator = torch.Generator(loaded.model.device).manual_seed(seed) if sampled else None
    latents = np.full((len(smiles), loaded.model.latent), np.nan, dtype=np.float32)
    latents[rows] = encode_sequences(loaded, [result.token_ids for result in good], generator, batch_size)
    return Encoded(
        latents,
        [result.smiles if isinstance(result, Readable) else None for result in read],
        [result if isinstance(result, Rejected) else None for result in read],
    )


def read_smiles(
    loaded: LoadedModel, smiles: Sequence[str], options: StandardizeOptions = AS_GIVEN, workers: int | None = None
) -> list[Readable | Rejected]:
    """Return N molecules as token ids of the model, or why they cannot be read, see `encode_smiles`."""
    check_smiles(smiles)
    check_counts(workers=workers)
    return cast("list[Readable | Rejected]", map_items(Read(loaded.vocabulary, options), smiles, workers))


def check_smiles(smiles: Any) -> None:
    """Refuse what is not a list of strings.

    Raises:
        InputError: when it is one string, or holds something else.
    """
    if isinstance(smiles, str | bytes) or not all(isinstance(item, str) for item in smiles):
        raise InputError("Molecules must be a list of SMILES strings.", 'Write ["CCO"], not "CCO"; blanks as "".')


def check_latents(latents: ArrayLike, dimensions: int) -> NDArray[np.float32]:
    """Return ``latents`` as a float32 array (N, D).

    Raises:
        InputError: when they are not numbers or not of that shape.
    """
    try:
        array = np.asarray(latents, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise InputError("Latents must be numbers.", f"Give an array of shape (N, {dimensions}).") from error
    if array.size == 0 and array.ndim <= 2:
        return array.reshape(0, dimensions)
    if array.ndim != 2 or array.shape[1] != dimensions:
        raise InputError(
            f"Latents of shape {array.shape} do not fit this model.", f"Give an array of shape (N, {dimensions})."
        )
    return array


def _chunks(
    loaded: LoadedModel,
    z: torch.Tensor,
    options: SamplingOptions,
    generator: torch.Generator,
    size: int,
    nats: list[float],
    noise: Noise | None = None,
    asked: torch.Tensor | None = None,
) -> Iterator[list[tuple[tuple[int, ...], bool]]]:
    """Yield token ids for the latents ``z`` (N, D) in order, and add each row's nats to ``nats``."""
    for start in range(0, len(z), size):
        part = z[start : start + size].to(loaded.model.device)
        cond = loaded.model.unconditioned(len(part)) if asked is None else asked[start : start + size]
        held = None if noise is None else noise.take(np.arange(start, start + len(part)))
        sequences = decode_tokens(loaded.model, part, cond, options, generator, size, noise=held)
        nats += sequences.nats.tolist()
        items = as_items(sequences)
        yield from (items[row : row + CHUNK] for row in range(0, len(items), CHUNK))


def decode_latents(
    loaded: LoadedModel,
    latents: ArrayLike,
    *,
    options: SamplingOptions = GREEDY,
    seed: int = 0,
    batch_size: int | None = None,
    workers: int | None = None,
    noise: Noise | None = None,
    cond: torch.Tensor | None = None,
) -> list[Decoded]:
    """Write one molecule per latent, in order; greedy unless ``options`` says otherwise.

    Args:
        loaded: the model.
        latents: (N, D); a row that holds NaN or infinity gives no molecule, with the state ``missing``.
        options: how tokens are chosen.
        seed: of the choice, when there is one.
        batch_size: molecules written at once; None takes what suits the device.
        workers: processes for chemistry; None means every core.
        noise: of N molecules; tokens are then chosen by it, see `molvae.generate.exact`.
        cond: (N, C) on the model's device; None asks for nothing.

    Raises:
        InputError: when ``latents`` has another shape.
    """
    check_counts(batch_size=batch_size, workers=workers)
    array = check_latents(latents, loaded.model.latent)
    rows = np.flatnonzero(np.isfinite(array).all(axis=1))
    decoded = [Decoded(None, "missing", float("nan"))] * len(array)
    z = torch.from_numpy(array[rows])
    nats: list[float] = []
    written: list[Molecule] = []
    generator = torch.Generator(loaded.model.device).manual_seed(seed)
    size = batch_size or default_batch_size(loaded.model.device)
    held = None if noise is None else noise.take(rows)
    given = None if cond is None else cond[torch.from_numpy(rows).to(cond.device)]
    chunks = _chunks(loaded, z, resolve_options(loaded, options), generator, size, nats, held, given)
    with spare_threads(loaded.model.device):
        for molecules in write_all(Write(loaded.vocabulary), chunks, len(z), workers):
            written += molecules
    for row, molecule, cost in zip(rows, written, nats, strict=True):
        decoded[row] = Decoded(molecule.smiles, molecule.state, cost)
    return decoded
