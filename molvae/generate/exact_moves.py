"""Neighbours of a molecule by its exact code: z moved with the noise held, or the noise of single tokens drawn anew.

In: one code. Out: codes of points around it, for `molvae.generate.exact.decode_exact`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from molvae.data.batch import collate
from molvae.data.vocabulary import EOS, UNK
from molvae.errors import InputError
from molvae.generate.exact import EXACT, ExactCodes, check_model, condition, decode_exact, encode_exact
from molvae.generate.latents import Decoded, check_latents
from molvae.generate.sampling import decode_tokens
from molvae.nn.checkpoint import LoadedModel

TEMPERATURE, MARGIN = 0.3, 2.0
"""Of noise that is going to be held while z moves, see `encode_exact`. Of 600 molecules of MOSES test with z moved by
half a posterior width, 86 % stay and the others are .36 similar; with noise as drawn (temperature 1, no margin) 51 %
and .33; with one uniform number a token through the inverse distribution function instead, at the centre of its
interval, 77 % and .33."""

Writer = Callable[[NDArray[np.float64]], list[Decoded]]
"""Takes points (n, D) and gives n molecules."""


def hold(code: ExactCodes, latents: ArrayLike) -> ExactCodes:
    """Return codes at ``latents`` (n, D), all with the noise of the one molecule in ``code``.

    Raises:
        InputError: when ``latents`` has another shape, or ``code`` is not one.
    """
    if len(code) != 1:
        raise InputError(f"{len(code)} codes were given, and one molecule has one.", "Take one with codes.take([0]).")
    array = check_latents(latents, code.latents.shape[1])
    return code.take(np.zeros(len(array), dtype=np.int64)).moved(array)


@torch.inference_mode()
def redraw(loaded: LoadedModel, codes: ExactCodes, generator: np.random.Generator, tokens: int = 1) -> ExactCodes:
    """Draw the noise of single tokens anew so that another token is written there; z and all other noise stay.

    The new noise is that of a draw at temperature 1. Which token is changed is drawn too, each as often as such noise
    would change it. What follows a change is written as the noise there says, so it stays as far as the decoder finds
    it likely after the new token.

    Args:
        loaded: the model whose codes they are.
        codes: N codes, one change each; take one molecule's several times for several draws.
        generator: of all chance.
        tokens: how many get new noise in each code, at least 1; of several, only the first must change.

    Raises:
        InputError: when ``tokens`` is below 1, or a molecule has no code.
        ModelFileError: when they are codes of another model.
    """
    if tokens < 1:
        raise InputError(f"The noise of {tokens} tokens cannot be drawn.", "Choose 1 or more.")
    check_model(loaded, codes)
    if not np.isfinite(codes.latents).all():
        raise InputError("A molecule without a code cannot be changed.", "Leave out what the model cannot read.")
    size = loaded.model.vocab_size
    usual = np.array([token for token in range(size) if token > UNK or token == EOS], dtype=np.int64)
    rows, places, values = [], [], []
    for row, (written, doubt) in enumerate(_doubts(loaded, codes)):
        chosen = generator.choice(len(written), min(tokens, len(written)), replace=False, p=doubt)
        for order, position in enumerate(np.sort(chosen).tolist()):
            numbers = generator.gumbel(size=len(usual))
            if order == 0:
                numbers[usual == written[position]] = -np.inf
            rows.append(np.full(len(usual), row))
            places.append(np.column_stack([np.full(len(usual), position), usual]))
            values.append(numbers)
    if not rows:
        return codes
    noise = codes.noise.edited(np.concatenate(rows), np.concatenate(places), np.concatenate(values))
    return replace(codes, noise=noise)


def _doubts(loaded: LoadedModel, codes: ExactCodes) -> list[tuple[list[int], NDArray[np.float64]]]:
    """Return of N molecules the tokens with EOS, and how likely new noise changes each, (T,) with the sum 1."""
    if not len(codes):
        return []
    model = loaded.model
    z = torch.from_numpy(codes.latents).to(model.device)
    cond = condition(model, codes.conditions, len(codes))
    written = decode_tokens(model, z, cond, EXACT, noise=codes.noise)
    tokens = [written.row(row) for row in range(len(codes))]
    batch = collate([np.array(row, dtype=np.int64) for row in tokens]).to(model.device)
    logits = model.decoder(batch.tokens[:, :-1], model.decoder.start(z, cond)).double()
    kept = logits.softmax(2).gather(2, batch.tokens[:, 1:, None]).squeeze(2)
    doubts = (1 - kept).clamp_min(1e-12).cpu().numpy()
    shares = [doubts[row, : len(ids) + 1] for row, ids in enumerate(tokens)]
    return [([*ids, EOS], share / share.sum()) for ids, share in zip(tokens, shares, strict=True)]


def held_writer(loaded: LoadedModel, smiles: str, redrawn: int, generator: np.random.Generator) -> Writer:
    """Return what writes points around a molecule with its noise held.

    Args:
        loaded: the model.
        smiles: the molecule, one that the model can read.
        redrawn: tokens whose noise is drawn anew at every point; 0 holds all of it.
        generator: of that draw.
    """
    code = encode_exact(loaded, [smiles], temperature=TEMPERATURE, margin=MARGIN)

    def write(latents: NDArray[np.float64]) -> list[Decoded]:
        codes = hold(code, latents)
        return decode_exact(loaded, redraw(loaded, codes, generator, redrawn) if redrawn else codes)

    return write
