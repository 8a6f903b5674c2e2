"""Unroll a decoder over scaffolds with gaps: the scaffold's tokens are given, what goes into the gaps is chosen.

In: a model, one `Layout` and one latent a row. Out: `Written`, token ids per row and where the scaffold's atoms lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from molvae.chem.open_ends import Layout, Places, render
from molvae.data.vocabulary import BOS, EOS, Vocabulary
from molvae.generate.constrained import Filling, Grammar, Kind, grammar_of
from molvae.generate.sampling import SamplingOptions, choose_tokens
from molvae.generate.stepper import Stepper, choose_dtype
from molvae.nn.model import SequenceVAE

LINKS = (2, 10)
"""Tokens of a linker: a length from here to there is drawn for each molecule."""


@dataclass(frozen=True)
class Written:
    """One row as written.

    Attributes:
        token_ids: without BOS and EOS; empty when a token that is needed is not in the vocabulary.
        nats: -log p of the tokens that were chosen, under the model's own logits (temperature 1).
        atoms: the place in the string of each atom of the scaffold, in the order of the layout.
    """

    token_ids: tuple[int, ...]
    nats: float
    atoms: tuple[int, ...]


class _Row:
    """One molecule being written: forced tokens in ``queue``, or a `Filling`."""

    def __init__(self, layout: Layout, grammar: Grammar, length: int, link: int) -> None:
        self.layout, self.grammar, self.link = layout, grammar, link
        self.room = length - len(layout.tokens())
        self.places, self.part = Places(), 0
        self.queue: list[int] = []
        self.filling: Filling | None = None
        self.written: list[int] = []
        self.nats, self.done, self.failed = 0.0, False, False
        self._begin_part()

    def _begin_part(self) -> None:
        """Queue the tokens up to the next gap, and be ready to fill it."""
        tokens = self.grammar.vocabulary.encode(render(self.layout.parts[self.part], self.places))
        self.failed = tokens is None
        self.queue = list(reversed(tokens or ()))
        gaps = len(self.layout.labels)
        self.filling, last = None, self.part == gaps
        if not last:
            # A gap in the middle leaves room for what comes after it.
            linking = bool(self.layout.parts[-1])
            kind: Kind = "link" if linking else "tail" if self.part == gaps - 1 else "branch"
            room = self.link if linking else max(self.room // (gaps - self.part), 1)
            self.filling = Filling(self.grammar, kind, room)
        self.part += 1
        self.done = self.failed or (last and not self.queue)

    def mask(self) -> int:
        """Return the number of the mask of the token that is to be chosen."""
        return self.filling.mask() if self.filling is not None else self.grammar.end()

    def take(self, token: int) -> None:
        """Go on by one token."""
        if token != EOS:
            self.written.append(token)
        if self.queue:
            self.queue.pop()
        elif self.filling is not None:
            self.filling.take(token)
        if not self.queue:
            if self.filling is None:
                self.done = True
            elif self.filling.done:
                self.places.following += self.filling.atoms
                self.room -= self.filling.written
                self._begin_part()


@torch.inference_mode()
def write_rows(
    model: SequenceVAE, vocabulary: Vocabulary, layouts: Sequence[Layout], z: torch.Tensor, options: SamplingOptions,
    generator: torch.Generator,
) -> list[Written]:  # fmt: skip
    """Write one molecule a row.

    Args:
        model: in evaluation mode.
        vocabulary: the model's.
        layouts: N scaffolds with gaps.
        z: (N, D) on the model's device.
        options: how tokens are chosen in the gaps; with its length set.
        generator: where chance comes from, on the model's device.
    """
    stepper = Stepper(model.decoder, choose_dtype(options.precision, z.device))
    grammar, device = grammar_of(vocabulary), z.device
    length = max(options.max_length or 0, max(len(layout.tokens()) for layout in layouts) + 4)
    links = torch.randint(LINKS[0], LINKS[1] + 1, (len(z),), generator=generator, device=device).tolist()
    rows = [_Row(layout, grammar, length, link) for layout, link in zip(layouts, links, strict=True)]
    alive = [index for index, row in enumerate(rows) if not row.done]
    state = stepper.start(z, model.unconditioned(len(z)))
    if len(alive) < len(rows):
        state = state.select(torch.tensor(alive, device=device))
    last, table = torch.full((len(alive),), BOS, device=device), grammar.table(device)
    while alive:
        logits, state = stepper.step(last, state)
        uniform = torch.rand(len(rows), generator=generator, device=device)[alive]
        free = [place for place, index in enumerate(alive) if not rows[index].queue]
        numbers = [rows[alive[place]].mask() for place in free]
        if len(grammar) > len(table):
            table = grammar.table(device)
        chosen = [rows[index].queue[-1] if rows[index].queue else 0 for index in alive]
        if free:
            held = logits[free]
            picked = choose_tokens(held.masked_fill(~table[numbers], -torch.inf), options, uniform[free])
            cost = -held.log_softmax(1).gather(1, picked[:, None]).squeeze(1)
            for place, token, nats in zip(free, picked.tolist(), cost.tolist(), strict=True):
                chosen[place] = token
                rows[alive[place]].nats += nats
        for place, index in enumerate(alive):
            rows[index].take(chosen[place])
        going = [place for place, index in enumerate(alive) if not rows[index].done]
        last = torch.tensor(chosen, device=device)
        if len(going) < len(alive):
            kept = torch.tensor(going, dtype=torch.int64, device=device)
            alive, last, state = [alive[place] for place in going], last[kept], state.select(kept)
    return [Written(() if row.failed else tuple(row.written), row.nats, tuple(row.places.of)) for row in rows]
