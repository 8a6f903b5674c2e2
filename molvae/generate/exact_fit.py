"""Find the noise under which the decoder writes given token ids, as it would have been had it drawn them.

In: latents (N, D), condition (N, C), token ids, seeds. Out: `Noise` with the edits that are needed, proved by decoding.

Tokens race: token v arrives after an exponential waiting time of rate p_v, and the first one is written. Where the seed
lets the wrong token a win, c and a change places: c arrives at that moment, and a later, by what was c's delay. An
exponential wait has no memory and the winning time does not depend on who wins, so these two edits turn the numbers
into a draw from their distribution given that c is written: no search, no rejection, and all other numbers stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.data.batch import collate
from molvae.data.vocabulary import BOS, EOS
from molvae.generate.exact_noise import Noise, NoiseReader
from molvae.generate.sampling import SamplingOptions, decode_tokens, default_batch_size
from molvae.generate.stepper import Stepper
from molvae.nn.model import SequenceVAE

MARGIN = 0.02
"""Least lead of each token over the next, in nats; rounding moves logits a thousand times less."""

ROUNDS = 3
"""Times the margin is made ten times as wide for a molecule that does not come back."""


class _Edits:
    """Edits as they are found."""

    def __init__(self) -> None:
        self.rows: list[NDArray[np.int64]] = []
        self.places: list[NDArray[np.int64]] = []
        self.values: list[NDArray[np.float64]] = []

    def add(self, rows: torch.Tensor, position: int, tokens: torch.Tensor, values: torch.Tensor) -> None:
        """Note what is to be added to the logits of ``tokens`` (B,) of the molecules ``rows`` (B,): ``values`` (B,)."""
        found = tokens.cpu().numpy()
        self.rows.append(rows.cpu().numpy())
        self.places.append(np.column_stack([np.full_like(found, position), found]))
        self.values.append(values.double().cpu().numpy())

    def put(self, noise: Noise) -> Noise:
        """Return ``noise`` with these edits."""
        if not self.rows:
            return noise
        return noise.edited(np.concatenate(self.rows), np.concatenate(self.places), np.concatenate(self.values))


def _swap(
    logits: torch.Tensor, waits: torch.Tensor, wanted: torch.Tensor, winner: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Let two tokens change places in the race.

    Args:
        logits: (B, V).
        waits: (B, V) standard exponential numbers; with rate p_v they give the arrivals.
        wanted: (B,) the token that is to win.
        winner: (B,) the one that does.
        temperature: divides the logits.

    Returns:
        What is added to the logit of ``wanted`` and of ``winner`` instead, (B,) each.
    """

    def pick(values: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        return values.gather(1, tokens[:, None]).squeeze(1).double()

    first = pick(waits, winner)
    lead = pick(logits, winner) - pick(logits, wanted)
    arrival = first * (-lead / temperature).exp()
    later = first + pick(waits, wanted) - arrival
    return lead - temperature * first.log(), -temperature * later.log()


def _fit_batch(
    stepper: Stepper, z: torch.Tensor, cond: torch.Tensor, tokens: torch.Tensor, noise: Noise, margin: float
) -> Noise:
    """Return ``noise`` of B molecules with the edits that make the decoder write ``tokens`` (B, T), each with EOS."""
    reader = NoiseReader(noise, len(stepper.forbidden), z.device)
    rows, edits = torch.arange(len(z), device=z.device), _Edits()
    state, last = stepper.start(z, cond), torch.full_like(rows, BOS)
    for position in range(tokens.shape[1]):
        logits, state = stepper.step(last, state)
        last = tokens[rows, position]
        waits = reader.waits(position, rows)
        numbers = reader.edit(position, rows, (-noise.temperature * waits.log()).float())
        winner = (logits + numbers).argmax(1)
        wrong = (winner != last).nonzero().squeeze(1)
        if len(wrong):
            waits = (-numbers[wrong].double() / noise.temperature).exp()
            mine, other = _swap(logits[wrong], waits, last[wrong], winner[wrong], noise.temperature)
            numbers[wrong, last[wrong]], numbers[wrong, winner[wrong]] = mine.float(), other.float()
            edits.add(rows[wrong], position, winner[wrong], other)
        scores = logits + numbers
        rival = scores.scatter(1, last[:, None], -torch.inf).max(1).values
        lead = scores.gather(1, last[:, None]).squeeze(1) - rival
        short = (lead < margin).nonzero().squeeze(1)
        numbers[short, last[short]] += margin - lead[short]
        changed = torch.unique(torch.cat([wrong, short]))
        if len(changed):
            edits.add(rows[changed], position, last[changed], numbers[changed, last[changed]])
        going = (last != EOS).nonzero().squeeze(1)
        if len(going) == 0:
            break
        if len(going) < len(rows):
            rows, last, state = rows[going], last[going], state.select(going)
    return edits.put(noise)


def _fit(
    stepper: Stepper, z: torch.Tensor, cond: torch.Tensor, token_ids: Sequence[Sequence[int]], noise: Noise,
    margin: float, batch_size: int,
) -> Noise:  # fmt: skip
    """Return ``noise`` of N molecules with edits, batches made of molecules of similar length."""
    order = np.argsort([len(row) for row in token_ids], kind="stable")
    parts = []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        tokens = collate([np.array(token_ids[row], dtype=np.int64) for row in rows]).tokens[:, 1:].to(z.device)
        which = torch.from_numpy(rows).to(z.device)
        parts.append(_fit_batch(stepper, z[which], cond[which], tokens, noise.take(rows), margin))
    return Noise.join(parts).take(np.argsort(order, kind="stable"))


@torch.inference_mode()
def fit_noise(
    model: SequenceVAE, z: torch.Tensor, cond: torch.Tensor, token_ids: Sequence[Sequence[int]], noise: Noise,
    margin: float = MARGIN, batch_size: int | None = None,
) -> tuple[Noise, NDArray[np.bool_]]:  # fmt: skip
    """Edit ``noise`` until the decoder writes the given molecules, and see that it does.

    The proof is a decoding of its own, of other rows together; what does not come back gets a wider margin.

    Args:
        model: in evaluation mode.
        z: (N, D) latents on the model's device.
        cond: (N, C) condition.
        token_ids: N rows without BOS and EOS.
        noise: of N molecules, as drawn.
        margin: least lead of every token over the next one, in nats, above 0.
        batch_size: rows at once; None takes what suits the device.

    Returns:
        The noise with its edits, and whether the decoder gives each molecule back, (N,).
    """
    fine = np.zeros(len(z), dtype=np.bool_)
    if not len(z):
        return noise, fine
    stepper, size = Stepper(model.decoder), batch_size or default_batch_size(z.device)
    options = SamplingOptions(max_length=max(1, *map(len, token_ids)), precision="fp32")
    for attempt in range(1 + ROUNDS):
        rows = np.flatnonzero(~fine)
        which = torch.from_numpy(rows).to(z.device)
        wanted = [token_ids[row] for row in rows.tolist()]
        fitted = _fit(stepper, z[which], cond[which], wanted, noise.take(rows), margin * 10**attempt, size)
        noise = _replaced(noise, rows, fitted)
        written = decode_tokens(model, z[which], cond[which], options, batch_size=size, noise=fitted)
        back = [bool(written.finished[i]) and written.row(i) == tuple(row) for i, row in enumerate(wanted)]
        fine[rows[np.array(back)]] = True
        if fine.all():
            break
    return noise, fine


def _replaced(noise: Noise, rows: NDArray[np.int64], new: Noise) -> Noise:
    """Return ``noise`` with that of the molecules ``rows`` (n,) replaced by ``new``."""
    place = np.arange(len(noise))
    place[rows] = len(noise) + np.arange(len(rows))
    return Noise.join([noise, new]).take(place)
