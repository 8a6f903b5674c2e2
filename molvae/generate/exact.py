"""Exact codes: z and the decoder's noise, which together give back a molecule always.

In: SMILES, or a number of draws. Out: `ExactCodes`; and from those the molecules again, one per code.

What z alone leaves open is in the noise, so every molecule that the vocabulary can write has a code, and a pair drawn
from the prior is one too. Moving z with the noise held, or changing the noise of single tokens, gives neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from molvae.chem.parallel import map_items
from molvae.chem.rejected import Rejected
from molvae.errors import InputError, ModelFileError
from molvae.generate.archive import digest
from molvae.generate.chemistry import Read, Readable, Write, check_counts
from molvae.generate.exact_fit import MARGIN, fit_noise
from molvae.generate.exact_noise import Noise
from molvae.generate.latents import Decoded, check_latents, check_smiles, decode_latents, encode_sequences
from molvae.generate.sampling import LONGEST, PLAIN, SamplingOptions, decode_tokens
from molvae.generate.writing import BLOCK, GIVE_UP, as_items, resolve_options
from molvae.nn.checkpoint import LoadedModel
from molvae.nn.model import SequenceVAE

EXACT = SamplingOptions(temperature=1.0, precision="fp32", max_length=LONGEST)
"""How exact codes are decoded: alike on every machine, and as long as a molecule may be at all."""


@dataclass(frozen=True)
class ExactCodes:
    """N molecules as z and noise. There are no tokens in it and no SMILES: the decoder writes them.

    Attributes:
        latents: (N, D) float32, a row of NaN where there is no code.
        noise: of N molecules.
        rejected: why there is no code; None where there is one.
        model: digest of the model whose codes they are, see `molvae.generate.archive.digest`.
        conditions: (N, C) float32, values of the properties on which the decoder is conditioned, in their own units
            and NaN where not asked for; None when nothing is.
    """

    latents: NDArray[np.float32]
    noise: Noise
    rejected: tuple[Rejected | None, ...]
    model: str
    conditions: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.latents)

    def take(self, rows: ArrayLike) -> ExactCodes:
        """Return the codes at ``rows`` (n,), in that order, each as often as it is named."""
        which = np.asarray(rows, dtype=np.int64)
        return ExactCodes(
            self.latents[which], self.noise.take(which), tuple(self.rejected[row] for row in which.tolist()),
            self.model, None if self.conditions is None else self.conditions[which],
        )  # fmt: skip

    def moved(self, latents: ArrayLike) -> ExactCodes:
        """Return the codes with other ``latents`` (N, D) and the noise held.

        Raises:
            InputError: when ``latents`` has another shape.
        """
        array = check_latents(latents, self.latents.shape[1])
        if len(array) != len(self):
            raise InputError(f"{len(array)} latents do not fit {len(self)} codes.", "Give one latent per code.")
        return replace(self, latents=array)


def condition(model: SequenceVAE, conditions: ArrayLike | None, count: int) -> torch.Tensor:
    """Return the decoder's condition, (N, 2 C) with N = ``count``, for values (N, C) or (C,) in their own units.

    Raises:
        InputError: when ``conditions`` has another shape.
    """
    if conditions is None:
        return model.unconditioned(count)
    names, all_names = model.condition_names, [info.name for info in model.property_info]
    given = np.asarray(conditions, dtype=np.float32)
    if given.shape not in ((len(names),), (count, len(names))):
        raise InputError(
            f"Conditions of shape {given.shape} do not fit this model.",
            f"Give {len(names)} numbers a molecule ({', '.join(names) or 'the model has no conditions'}), NaN for any.",
        )
    values = torch.full((count, len(all_names)), float("nan"))
    values[:, [all_names.index(name) for name in names]] = torch.from_numpy(given.copy())
    return model.condition(values.to(model.device))


def encode_exact(
    loaded: LoadedModel, smiles: Sequence[str], *, sampled: bool = False, seed: int = 0,
    conditions: ArrayLike | None = None, temperature: float = 1.0, margin: float = MARGIN,
    batch_size: int | None = None, workers: int | None = None,
) -> ExactCodes:  # fmt: skip
    """Read molecules into codes that give them back always: q(z|x) for z, then the noise given z and the molecule.

    At temperature 1 and with the smallest margin the pair is distributed as if the molecule had been drawn. A molecule
    gets the same noise whatever stands around it, and every code is proved by decoding it before it is returned.

    Args:
        loaded: the model.
        smiles: N SMILES; stereo, charges, isotopes and salts are kept.
        sampled: draw z from q(z|x) instead of taking its mean.
        seed: of that draw and of the noise.
        conditions: (N, C) or (C,) values for the decoder's condition, NaN where not asked for; None asks for nothing.
        temperature: of the noise, above 0. A lower one keeps closer to the likeliest token where z moves.
        margin: least lead of each token over the next, in nats. A wider one keeps tokens longer where z moves.
        batch_size: molecules at once; None takes what suits the device.
        workers: processes for chemistry; None means every core.

    Returns:
        N codes; one that the model cannot read is a row of NaN with the reason in ``rejected``.

    Raises:
        InputError: when ``smiles`` is not a list of strings, or a number makes no sense.
    """
    check_smiles(smiles)
    check_counts(batch_size=batch_size, workers=workers)
    for name, value in (("temperature", temperature), ("margin", margin)):
        if not 0.01 <= value <= 100:
            raise InputError(f"A {name} of {value:g} is not possible.", "Choose a number from 0.01 to 100.")
    model = loaded.model
    read = map_items(Read(loaded.vocabulary), smiles, workers)
    rejected = [_refused(result) for result in read]
    rows = np.array([row for row, result in enumerate(rejected) if result is None], dtype=np.int64)
    token_ids = [read[row].token_ids for row in rows]
    generator = torch.Generator(model.device).manual_seed(seed) if sampled else None
    latents = np.full((len(smiles), model.latent), np.nan, dtype=np.float32)
    latents[rows] = encode_sequences(loaded, token_ids, generator, batch_size)
    seeds = np.zeros(len(smiles), dtype=np.uint64)
    seeds[rows] = [_own_seed(row, seed) for row in token_ids]
    cond = condition(model, conditions, len(smiles))[torch.from_numpy(rows).to(model.device)]
    z = torch.from_numpy(latents[rows]).to(model.device)
    drawn = Noise.of_seeds(seeds, temperature)
    fitted, fine = fit_noise(model, z, cond, token_ids, drawn.take(rows), margin, batch_size)
    for row in rows[~fine].tolist():
        rejected[row] = Rejected(smiles[row], "roundtrip", "the decoder's numbers are not finite or not repeatable")
        latents[row] = np.nan
    place = np.arange(len(smiles))
    place[rows] = len(smiles) + np.arange(len(rows))
    asked = None if conditions is None else np.broadcast_to(
        np.asarray(conditions, dtype=np.float32), (len(smiles), len(model.condition_names)))  # fmt: skip
    return ExactCodes(latents, Noise.join([drawn, fitted]).take(place), tuple(rejected), digest(loaded), asked)


def _refused(result: Readable | Rejected) -> Rejected | None:
    """Return why a molecule has no code, None when it has one."""
    if isinstance(result, Rejected):
        return result
    size = len(result.token_ids)
    return None if size <= LONGEST else Rejected(result.smiles, "too-long", f"{size:,} tokens, {LONGEST:,} are allowed")


def _own_seed(token_ids: Sequence[int], seed: int) -> int:
    """Return a seed of 64 bits that belongs to a molecule."""
    text = np.array(token_ids, dtype="<u2").tobytes()
    return int.from_bytes(blake2b(text, digest_size=8, key=seed.to_bytes(8, "little")).digest(), "little")


def decode_exact(
    loaded: LoadedModel, codes: ExactCodes, *, batch_size: int | None = None, workers: int | None = None
) -> list[Decoded]:
    """Write the molecule of every code, in order.

    Args:
        loaded: the model whose codes they are.
        codes: N codes, as they were made or moved.
        batch_size: molecules at once; None takes what suits the device. It changes nothing but the speed.
        workers: processes for chemistry; None means every core.

    Returns:
        N molecules; the state of a row without a code is the reason for that.

    Raises:
        ModelFileError: when they are codes of another model.
    """
    check_model(loaded, codes)
    cond = condition(loaded.model, codes.conditions, len(codes))
    decoded = decode_latents(
        loaded, codes.latents, options=EXACT, batch_size=batch_size, workers=workers, noise=codes.noise, cond=cond
    )
    nothing = float("nan")
    return [
        result if why is None else Decoded(None, why.reason, nothing)
        for result, why in zip(decoded, codes.rejected, strict=True)
    ]


def check_model(loaded: LoadedModel, codes: ExactCodes) -> None:
    """Refuse codes of another model, which would decode to something else.

    Raises:
        ModelFileError: names both.
    """
    if codes.model != digest(loaded):
        raise ModelFileError(
            f"The codes are those of the model {codes.model}, not of {loaded.directory.name} ({digest(loaded)}).",
            "Name the model that made them, unchanged; weights stored at half size are another model.",
        )


@torch.inference_mode()
def sample_exact(
    loaded: LoadedModel, n: int, *, seed: int = 0, conditions: ArrayLike | None = None, workers: int | None = None
) -> ExactCodes:
    """Draw codes of ``n`` molecules: z from the prior and a seed of the noise; nothing is searched for.

    They are distributed as `molvae.generate.molecules.sample` draws at temperature 1. What is no molecule is drawn
    again. Edits only widen leads so small that rounding could decide (below `MARGIN`), so that the codes hold anywhere.

    Args:
        loaded: the model.
        n: codes wanted, 0 or more.
        seed: of all chance.
        conditions: (C,) values for the decoder's condition, NaN where not asked for; None asks for nothing.
        workers: processes for chemistry; None means every core.

    Raises:
        InputError: when ``n`` is negative, or 20 draws per molecule wanted were not enough.
    """
    check_counts(n=n, workers=workers)
    model, write = loaded.model, Write(loaded.vocabulary)
    generator = torch.Generator(model.device).manual_seed(seed)
    options = resolve_options(loaded, replace(PLAIN, precision="fp32"))
    latents, seeds, token_ids = [], [], list[tuple[int, ...]]()
    for _ in range(GIVE_UP * n // BLOCK + 2):
        if len(token_ids) >= n:
            break
        z = model.prior.sample(BLOCK, generator)
        bits = torch.randint(-(2**63), 2**63 - 1, (BLOCK,), generator=generator, device=generator.device)
        noise = Noise.of_seeds(bits.cpu().numpy().view(np.uint64))
        written = decode_tokens(model, z, condition(model, conditions, BLOCK), options, noise=noise)
        molecules = map_items(write, as_items(written), workers)
        good = [row for row, molecule in enumerate(molecules) if getattr(molecule, "smiles", None)]
        latents.append(z[good])
        seeds.append(noise.seeds[good])
        token_ids += [written.row(row) for row in good]
    if len(token_ids) < n:
        raise InputError(f"Only {len(token_ids)} of {n} draws are molecules.", "Ask for fewer, or use another model.")
    z = torch.cat([*latents, torch.zeros((0, model.latent), device=model.device)])[:n]
    drawn = Noise.of_seeds(np.concatenate([*seeds, np.zeros(0, dtype=np.uint64)])[:n])
    noise, fine = fit_noise(model, z, condition(model, conditions, n), token_ids[:n], drawn)
    failed = Rejected("", "roundtrip", "the decoder's numbers are not repeatable")
    asked = None if conditions is None else np.tile(np.asarray(conditions, dtype=np.float32), (n, 1))
    return ExactCodes(z.cpu().numpy(), noise, tuple(None if one else failed for one in fine), digest(loaded), asked)
