"""Generate molecules that have what is asked for, and say by which route.

In: a `LoadedModel`, `Request`s, `Asking`. Out: a DataFrame with what was asked, what was obtained or predicted, and the
error of each molecule.

The route: a value for every molecule (`request_values`), a latent under it (`guidance`, `refine`), tokens by the
decoder under it; then rounds in which the model reads what it wrote and moves the latent by what is missing; the draft
read as nearest, of those that no molecule before it is, is the molecule. RDKit only brings drafts into canonical form,
computes no property before a molecule is finished, and none is rejected for its properties, unless ``best_of`` is above
1 or ``reader`` is RDKit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import torch

from molvae.chem.properties import PROPERTIES
from molvae.generate.asking import PLAINLY, Asking, Plan, make_plan
from molvae.generate.chemistry import Item, Molecule, Write, check_counts, write_all
from molvae.generate.drafts import Drafts
from molvae.generate.guidance import sample_guided
from molvae.generate.levels import settle
from molvae.generate.molecules import make_table
from molvae.generate.predict import join_fitted
from molvae.generate.read_back import ReadBack, read_back
from molvae.generate.reading import Reading, read_drafts
from molvae.generate.refine import MET, move, resample
from molvae.generate.request_report import Reader, add_columns
from molvae.generate.request_values import draw_values, property_rows
from molvae.generate.requests import Request
from molvae.generate.sampling import DEFAULT, SamplingOptions, decode_tokens, default_batch_size, draw_uniforms
from molvae.generate.wanted import ANY, Collector, Wanted, shortfall
from molvae.generate.writing import BLOCK, GIVE_UP, as_items, never, resolve_options, spare_threads
from molvae.nn.checkpoint import LoadedModel

AT_ONCE = 2048
"""Rows that are moved together: rows that are there leave the batch, and 512 soon were few (a fifth less time on one
core). A setting of the method, not of the machine: rows look at what the rows before them hold."""

Compose = Callable[[torch.Tensor, torch.Tensor, float], tuple[list[Item], list[float]]]
"""Takes latents (N, D), the decoder's condition (N, C) and a guidance; writes N items, no tokens for what failed, and
returns the nats of each. Stands in for the decoder where not every token is free."""


class _Source:
    """Write molecules block by block under a plan, from one generator."""

    def __init__(
        self, loaded: LoadedModel, plan: Plan, options: SamplingOptions, seed: int, batch_size: int | None,
        scale: float, workers: int | None = None, aims: torch.Tensor | None = None, compose: Compose | None = None,
        watch: Callable[[Sequence[str]], None] | None = None, tell: Callable[[float], None] = lambda rows: None,
        stop: Callable[[], bool] = never,
    ) -> None:  # fmt: skip
        self.aims, self.blocks, self.compose, self.watch, self.tell, self.stop = aims, 0, compose, watch, tell, stop
        self.loaded, self.model, self.plan, self.scale, self.workers = loaded, loaded.model, plan, scale, workers
        self.options = resolve_options(loaded, options)
        self.generator = torch.Generator(loaded.model.device).manual_seed(seed)
        self.rows = property_rows(loaded.model, self.generator)
        self.names = [info.name for info in loaded.model.property_info]
        self.batch_size = batch_size or max(default_batch_size(loaded.model.device), AT_ONCE)
        self.rows_at_once = AT_ONCE if plan.rounds else self.batch_size
        self.held: set[str] = set()
        self.values: list[torch.Tensor] = []
        self.nats: list[list[float]] = []
        self.drawn = self.written = 0

    def chunks(self, blocks: int) -> Iterator[list[Item]]:
        """Yield ``blocks`` chunks of `BLOCK` times k items; note their values and nats."""
        self.values, self.nats = [], []
        size = BLOCK * self.plan.asking.best_of
        at_once = max(1, self.rows_at_once // size)
        for start in range(0, blocks, at_once):
            values, items, nats = self._write(min(at_once, blocks - start))
            for row in range(0, len(items), size):
                self.values.append(values[row : row + size].cpu())
                self.nats.append(nats[row : row + size])
                yield items[row : row + size]

    @torch.no_grad()
    def _write(self, blocks: int) -> tuple[torch.Tensor, list[Item], list[float]]:
        """Write blocks and improve them in rounds; return values (N, P), items and nats."""
        drawn = [self._draw() for _ in range(blocks)]
        values, z, kicks = (torch.cat(parts) for parts in zip(*(block[:3] for block in drawn), strict=True))
        chances = [torch.cat(parts) for parts in zip(*(block[3] for block in drawn), strict=True)]
        wanted = self.model.targets(values)
        drafts = Drafts(len(z), z.device, self.held)
        live = torch.arange(len(z), device=z.device)
        self.drawn += len(z)
        for turn in range(self.plan.rounds + 1):
            written, costs = self._decode(z[live], values[live], chances[turn][live] if chances else None)
            self.written += len(written)
            if not self.plan.rounds:
                drafts.put(live, written, costs)
                break
            read = read_back(self.loaded, written, z[live], self.workers)
            if self.watch:
                self.watch(read.smiles)
            reading = self._judge(read, values[live], wanted[live])
            repeats = drafts.take(live, written, costs, read.smiles, reading.missed)
            short = (reading.off > MET) | repeats
            live = live[short]
            self.tell((self.drawn - len(live) * (1 - (turn + 1) / (self.plan.rounds + 1))) / self.plan.asking.best_of)
            if turn == self.plan.rounds or not len(live) or self.stop():
                break
            moved = move(self.model, read.latents[short], reading.aims[short])
            z[live] = drafts.push(live, read.latents[short], moved, kicks[live, turn])
        self.held.update(text for text in drafts.held if text)
        return values, drafts.items, drafts.nats

    def _judge(self, read: ReadBack, values: torch.Tensor, wanted: torch.Tensor) -> Reading:
        """Say how far drafts are from ``values`` (N, P), standardised ``wanted``; infinitely, where they are unread."""
        aims, asking = settle(self.model, read.latents, wanted), self.plan.asking
        low, high = values.clone(), values.clone()
        for request in self.plan.requests if self.aims is None else ():
            if not request.levels:
                column = self.names.index(request.name)
                low[:, column], high[:, column] = request.low, request.high
        ends = (self.model.targets(low), self.model.targets(high))
        return read_drafts(self.model, read, aims, asking.reader, self.workers, ends).without(~read.readable)

    def _draw(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Draw for one block values (B, P), latents (B, D), and for R rounds kicks (B, R, D) and uniforms."""
        asking, k = self.plan.asking, self.plan.asking.best_of
        values = draw_values(self.model, self.plan.requests, self.rows, BLOCK, self.generator)
        if self.aims is not None:
            values = self.aims[(self.blocks * BLOCK + torch.arange(BLOCK)) % len(self.aims)].to(values)
        self.blocks += 1
        values = values.repeat_interleave(k, 0)
        if asking.prior == "heads":
            z = resample(self.model, self.model.targets(values), self.generator, asking.guidance)
        elif asking.prior == "conditional":
            z = sample_guided(self.model.prior, self.generator, self.model.condition(values), asking.guidance)
        else:
            z = self.model.prior.sample(len(values), self.generator)
        length = self.options.max_length or 0
        draws = [draw_uniforms(len(z), self.options, length, self.generator) for _ in range(self.plan.rounds + 1)]
        size = (len(z), self.plan.rounds, z.shape[1])
        kicks = torch.randn(size, generator=self.generator, device=z.device)
        return values, z * self.scale, kicks, [draw for draw in draws if draw is not None]

    def _decode(
        self, z: torch.Tensor, values: torch.Tensor, chances: torch.Tensor | None
    ) -> tuple[list[Item], list[float]]:
        told = self.plan.asking.decoder
        cond = self.model.condition(values) if told else self.model.unconditioned(len(z))
        guidance = self.plan.asking.guidance if told else 0.0
        if self.compose is not None:
            return self.compose(z, cond, guidance)
        sequences = decode_tokens(
            self.model, z, cond, self.options, batch_size=self.batch_size, uniforms=chances, guidance=guidance
        )  # fmt: skip
        return list(as_items(sequences)), sequences.nats.tolist()


def sample_where(
    loaded: LoadedModel, n: int, requests: Sequence[Request], asking: Asking = PLAINLY,
    options: SamplingOptions = DEFAULT, wanted: Wanted = ANY, *, seed: int = 0, batch_size: int | None = None,
    workers: int | None = None, progress: Callable[[int], None] | None = None, aims: torch.Tensor | None = None,
    compose: Compose | None = None, watch: Callable[[Sequence[str]], None] | None = None,
    stop: Callable[[], bool] = never,
) -> pd.DataFrame:  # fmt: skip
    """Generate ``n`` molecules that have what ``requests`` ask for, as nearly as the model can.

    What is no molecule is drawn again, as in `molvae.generate.molecules.sample`; one that misses its request is kept.

    Args:
        loaded: the model.
        n: rows wanted, 0 or more.
        requests: from `molvae.generate.requests.read_conditions`.
        asking: how the request is put to the model.
        options, wanted, seed, batch_size, workers, progress: see `molvae.generate.molecules.sample`.
        stop: asked after each round; once it says so drafts are molecules as near as they have come.
        aims: (M, P) values for one molecule after another, NaN where nothing is asked, in place of those of
            ``requests``, which must be points of the same properties; taken again from the start when they run out.
        compose: writes molecules in place of the decoder alone, such as around a scaffold.
        watch: told the SMILES of all drafts of each round, "" for what cannot be read.

    Returns:
        Its table, and for every property asked for ``NAME_requested``, the value this molecule should have;
        ``NAME_error``, obtained minus requested, 0 inside a bound or a range that was asked for; where RDKit cannot
        compute the property, ``NAME_predicted`` and ``NAME_std`` by the model's head, which the error is then of; and
        ``best_of``, k. Of a category ``NAME_requested`` is a level, ``NAME_predicted`` the likeliest by the model's
        head and ``NAME_probability`` that of the level requested, with no error. ``attrs`` as there, and ``where``,
        ``route``, ``warnings``, ``written`` (strings for each row).

    Raises:
        UnknownNameError, InputError, ConfigError: see `make_plan`.
        InputError: when ``n`` is negative, or the batch size or the number of workers below 1.
    """
    check_counts(n=n, batch_size=batch_size, workers=workers)
    loaded = join_fitted(loaded)
    plan = make_plan(loaded, requests, asking)
    asked = tuple(request.name for request in plan.requests if request.name in PROPERTIES)
    wanted = replace(wanted, properties=tuple(dict.fromkeys((*wanted.properties, *asked))))
    collector = Collector(n, wanted)
    tell = _forward(progress, n)
    with spare_threads(loaded.model.device):
        source = _Source(
            loaded, plan, options, seed, batch_size, wanted.prior_temperature, workers, aims, compose, watch, tell, stop
        )
        reader = Reader(loaded, plan.requests, tuple(wanted.properties))
        write = Write(loaded.vocabulary, tuple(wanted.properties), wanted.alerts)
        values = _collect(source, reader, collector, write, workers)
    table = make_table(collector, tuple(wanted.properties))
    add_columns(table, plan.requests, values, reader, plan.k)
    written = source.written * asking.best_of / max(1, source.drawn)
    table.attrs |= {
        "where": ", ".join(request.text for request in plan.requests), "route": plan.route,
        "warnings": plan.warnings, "written": round(written, 2),
    }  # fmt: skip
    if collector.missing and not stop():
        table.attrs["warnings"] += (shortfall(len(collector.rows), n, asdict(collector.counts)),)
    return table


def _forward(progress: Callable[[int], None] | None, n: int) -> Callable[[float], None]:
    """Return what passes rows on to ``progress``, whole, never fewer than before and never more than ``n``."""
    furthest = 0

    def tell(rows: float) -> None:
        nonlocal furthest
        furthest = max(furthest, min(int(rows), n))
        if progress:
            progress(furthest)

    return tell


def _collect(
    source: _Source, reader: Reader, collector: Collector, write: Write, workers: int | None
) -> list[torch.Tensor]:
    """Fill ``collector``, as far as it goes; return the values of its rows."""
    values: list[torch.Tensor] = []
    enough = len(collector.rows) + collector.missing
    while collector.missing > 0 and collector.counts.drawn < GIVE_UP * enough + 2 * BLOCK and not source.stop():
        _round(source, reader, collector, write, workers, values)
        source.tell(len(collector.rows))
    return values


def _round(
    source: _Source, reader: Reader, collector: Collector, write: Write, workers: int | None, kept: list[torch.Tensor]
) -> None:
    """Write as many blocks as the share of good molecules so far calls for; add the values of the rows kept."""
    counts, k = collector.counts, source.plan.asking.best_of
    share = max(len(collector.rows) / counts.drawn, 1 / GIVE_UP) if counts.drawn else 1.0
    blocks = max(1, math.ceil(collector.missing / share / BLOCK))
    for index, molecules in enumerate(write_all(write, source.chunks(blocks), blocks * BLOCK * k, workers)):
        values, nats = source.values[index], source.nats[index]
        for row in _nearest(reader, molecules, values, k):
            if collector.missing:
                before = collector.missing
                collector.add(molecules[row], nats[row])
                kept += [values[row]] * (before - collector.missing)


def _nearest(reader: Reader, molecules: Sequence[Molecule], values: torch.Tensor, k: int) -> list[int]:
    """Return for each k rows in turn the one that misses its request least; the first where none is a molecule."""
    if k == 1:
        return list(range(len(molecules)))
    misses = reader.misses(molecules, values)
    return [start + int(np.argmin(misses[start : start + k])) for start in range(0, len(molecules), k)]
