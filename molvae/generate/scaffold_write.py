"""Unroll a decoder over scaffolds with gaps: the scaffold's tokens are given, what goes into the gaps is chosen.

In: a model, one `Layout` and one latent a row, maybe how many atoms each gap gets. Out: `Written`, token ids per row
and where the scaffold's atoms lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch

from molvae.chem.open_ends import Layout, Places, render
from molvae.data.vocabulary import BOS, EOS, Vocabulary
from molvae.generate.constrained import Filling, Grammar, Kind, grammar_of
from molvae.generate.guidance import GuidedStepper
from molvae.generate.sampling import SamplingOptions, Steps, choose_tokens
from molvae.generate.spent import Spent, Trace
from molvae.generate.stepper import Stepper, choose_dtype
from molvae.nn.model import SequenceVAE

LINKS = (2, 10)
"""Tokens of a linker: a length from here to there is drawn for each molecule."""
NO_SIZES: Mapping[int, int] = MappingProxyType({})
"""Any number of atoms in every gap."""


@dataclass(frozen=True)
class Written:
    """One row as written.

    Attributes:
        token_ids: without BOS and EOS; empty when a token that is needed is not in the vocabulary, or nothing could
            come next in a gap of a number of atoms.
        nats: -log p of the tokens that were chosen, under the model's own logits (temperature 1).
        atoms: the place in the string of each atom of the scaffold, in the order of the layout.
    """

    token_ids: tuple[int, ...]
    nats: float
    atoms: tuple[int, ...]


class _Row:
    """One molecule being written: forced tokens in ``queue``, or a `Filling`."""

    def __init__(
        self, layout: Layout, grammar: Grammar, length: int, link: int, sizes: Mapping[int, int] = NO_SIZES
    ) -> None:
        self.layout, self.grammar, self.link, self.sizes = layout, grammar, link, sizes
        self.room = length - len(layout.tokens())
        self.places, self.part = Places(), 0
        self.queue: list[int] = []
        self.filling: Filling | None = None
        self.written: list[int] = []
        # Rows whose gaps get other numbers of atoms write other strings: each of them remembers for itself.
        self.trace: Trace = tuple(-1 - sizes[gap] for gap in sorted(sizes))
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
            self.filling = Filling(self.grammar, kind, room, self.sizes.get(self.layout.labels[self.part]))
        self.part += 1
        self.done = self.failed or (last and not self.queue)

    def mask(self) -> int:
        """Return the number of the mask of the token that is to be chosen."""
        return self.filling.mask() if self.filling is not None else self.grammar.end()

    @property
    def end(self) -> int:
        """The token that ends what is being put in: the first one of the fragment that follows a link, else EOS."""
        rest = self.layout.parts[-1]
        if self.filling is None or not rest or not isinstance(rest[0], str):
            return EOS
        return (self.grammar.vocabulary.encode([rest[0]]) or [EOS])[0]

    @property
    def settled(self) -> bool:
        """Whether nothing is left to choose."""
        return self.part > len(self.layout.labels)

    def take(self, token: int) -> int:
        """Go on by one token; return the one written: where a link ends, the next fragment begins."""
        if not self.queue and self.filling is not None:
            self.trace = (*self.trace, token)
            if self.failed:
                self.done = True
                return token
            self.filling.take(token)
            if self.filling.done:
                self._leave_gap()
            if token != EOS or self.done or not self.queue:
                return self._note(token)
            token = self.queue[-1]
        if self.queue:
            self.queue.pop()
        if not self.queue and self.filling is None:
            self.done = True
        return self._note(token)

    def give_up(self, dead: bool) -> None:
        """Note whether no token can come next, so that the molecule is none."""
        self.failed = self.failed or dead

    def _leave_gap(self) -> None:
        assert self.filling is not None
        self.places.following += self.filling.atoms
        self.room -= self.filling.written
        self._begin_part()

    def _note(self, token: int) -> int:
        if token != EOS:
            self.written.append(token)
        return token


@dataclass
class _Choices:
    """The next token of B rows that are at a choice: their ``logits`` (B, V) and what is ``allowed`` (B, V)."""

    rows: list[_Row]
    logits: torch.Tensor
    allowed: torch.Tensor
    options: SamplingOptions

    def take(self, uniform: torch.Tensor, generator: torch.Generator, spent: Spent | None) -> list[int]:
        """Choose for every row by ``uniform`` (B,), and let it go on; return the tokens that were written."""
        places = range(len(self.rows))
        tokens, costs = self._choose(places, uniform, spent)
        fed = []
        for place, row in enumerate(self.rows):
            token, nats, trace = tokens[place], costs[place], row.trace
            if spent is not None and token in spent.over(trace):
                # A row before this one has just taken it, or there is nothing else.
                chance = torch.rand(1, generator=generator, device=self.logits.device)
                [token], [nats] = self._choose([place], chance, spent)
            row.nats += nats
            fed.append(row.take(token))
            if spent is not None and row.settled:
                spent.add(trace, token)
        return fed

    def _choose(
        self, places: Sequence[int], uniform: torch.Tensor, spent: Spent | None
    ) -> tuple[list[int], list[float]]:
        """Choose a token for each of the rows at ``places``, EOS being as likely as what ends its gap.

        Returns:
            The tokens, and -log p of each under the logits as they are.
        """
        rows, which = [self.rows[place] for place in places], torch.tensor(list(places), device=self.logits.device)
        logits, allowed = self.logits[which], self.allowed[which]
        if spent is not None:
            allowed = spent.leave(allowed, [row.trace for row in rows])
        ends = torch.tensor([row.end for row in rows], device=logits.device)
        held = logits.clone()
        held[:, EOS] = logits.gather(1, ends[:, None]).squeeze(1)
        picked = choose_tokens(held.masked_fill(~allowed, -torch.inf), self.options, uniform)
        real = picked.where(picked != EOS, ends)
        cost = -logits.log_softmax(1).gather(1, real[:, None]).squeeze(1)
        return picked.tolist(), cost.tolist()


@torch.inference_mode()
def write_rows(
    model: SequenceVAE, vocabulary: Vocabulary, layouts: Sequence[Layout], z: torch.Tensor, options: SamplingOptions,
    generator: torch.Generator, cond: torch.Tensor | None = None, guidance: float = 0.0,
    sizes: Sequence[Mapping[int, int]] = (), spent: Spent | None = None,
) -> list[Written]:  # fmt: skip
    """Write one molecule a row.

    Args:
        model: in evaluation mode.
        vocabulary: the model's.
        layouts: N scaffolds with gaps.
        z: (N, D) on the model's device.
        options: how tokens are chosen in the gaps; with its length set.
        generator: where chance comes from, on the model's device.
        cond: (N, C) condition, see `SequenceVAE.condition`; None when nothing is asked for.
        guidance: w above 0 holds the decoder to ``cond``, see `guidance.GuidedStepper`; nats are then under its logits.
        sizes: for each row the atoms of its gaps by number, where that is fixed; only in tails and links.
        spent: what earlier rows with the same layout were, not to be written again; told of these. All layouts must be
            the same then.
    """
    plain = Stepper(model.decoder, choose_dtype(options.precision, z.device))
    stepper: Steps = GuidedStepper(plain, guidance) if guidance and cond is not None else plain
    grammar, device = grammar_of(vocabulary), z.device
    length = max(options.max_length or 0, max(len(layout.tokens()) for layout in layouts) + 4)
    links = torch.randint(LINKS[0], LINKS[1] + 1, (len(z),), generator=generator, device=device).tolist()
    fixed = sizes or [NO_SIZES] * len(layouts)
    rows = [_Row(layout, grammar, length, *each) for layout, *each in zip(layouts, links, fixed, strict=True)]
    alive = [index for index, row in enumerate(rows) if not row.done]
    state = stepper.start(z, model.unconditioned(len(z)) if cond is None else cond)
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
        fed = [rows[index].queue[-1] if rows[index].queue else 0 for index in alive]
        if free:
            choices = _Choices([rows[alive[place]] for place in free], logits[free], table[numbers], options)
            for place, number in zip(free, numbers, strict=True):
                rows[alive[place]].give_up(number in grammar.dead)
            for place, token in zip(free, choices.take(uniform[free], generator, spent), strict=True):
                fed[place] = token
        for place in set(range(len(alive))) - set(free):
            rows[alive[place]].take(fed[place])
        going = [place for place, index in enumerate(alive) if not rows[index].done]
        last = torch.tensor(fed, device=device)
        if len(going) < len(alive):
            kept = torch.tensor(going, dtype=torch.int64, device=device)
            alive, last, state = [alive[place] for place in going], last[kept], state.select(kept)
    return [Written(() if row.failed else tuple(row.written), row.nats, tuple(row.places.of)) for row in rows]
