"""Generate molecules: latents, token ids, checked SMILES, a table.

In: a `LoadedModel` and a number. Out: a DataFrame with smiles, state, nats, properties and alerts, one row a molecule.

The device writes token ids while worker processes turn the ones before into molecules.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict

import pandas as pd
import torch

from molvae.generate.chemistry import Molecule, Write, check_counts, write_all
from molvae.generate.prefilter import Prefilter, pays
from molvae.generate.read_back import settle
from molvae.generate.sampling import (
    DEFAULT,
    PASS,
    SamplingOptions,
    Sequences,
    decode_tokens,
    default_batch_size,
    draw_uniforms,
)
from molvae.generate.wanted import ANY, Collector, Wanted, shortfall
from molvae.generate.writing import BLOCK, GIVE_UP, as_items, never, resolve_options, resolve_rounds, spare_threads
from molvae.nn.checkpoint import LoadedModel


class _Source:
    """Draw latents and write token ids, block after block, from one generator."""

    def __init__(
        self, loaded: LoadedModel, options: SamplingOptions, seed: int, batch_size: int | None, scale: float,
        prefilter: Prefilter | None = None, rounds: int = 0, workers: int | None = None,
    ) -> None:  # fmt: skip
        self.loaded, self.rounds, self.workers = loaded, rounds, workers
        self.model, self.options, self.scale = loaded.model, resolve_options(loaded, options), scale
        self.generator = torch.Generator(loaded.model.device).manual_seed(seed)
        size = batch_size or default_batch_size(loaded.model.device)
        self.blocks_at_once = max(1, size // BLOCK)
        self.prefilter = prefilter
        self.nats: list[list[float]] = []
        self.verdicts: list[list[int]] = []

    def chunks(self, blocks: int) -> Iterator[list[tuple[tuple[int, ...], bool]]]:
        """Yield ``blocks`` chunks of `BLOCK` items, less what the prefilter holds back; note all nats and verdicts."""
        self.nats.clear()
        self.verdicts.clear()
        for start in range(0, blocks, self.blocks_at_once):
            sequences = self._write(min(self.blocks_at_once, blocks - start))
            items, nats = as_items(sequences), sequences.nats.tolist()
            verdicts = [PASS] * len(items) if sequences.verdicts is None else sequences.verdicts.tolist()
            for row in range(0, len(items), BLOCK):
                self.nats.append(nats[row : row + BLOCK])
                self.verdicts.append(verdicts[row : row + BLOCK])
                yield [items[row + i] for i, verdict in enumerate(self.verdicts[-1]) if verdict == PASS]

    def restore(self, chunk: int, molecules: list[Molecule]) -> list[Molecule]:
        """Return the molecules of a chunk with those that were held back in their places."""
        return molecules if self.prefilter is None else self.prefilter.restore(molecules, self.verdicts[chunk])

    @torch.inference_mode()
    def _write(self, blocks: int) -> Sequences:
        latents, chances = [], []
        for _ in range(blocks):
            latents.append(self.model.prior.sample(BLOCK, self.generator) * self.scale)
            chances.append(draw_uniforms(BLOCK, self.options, self.options.max_length or 0, self.generator))
        uniforms = [chance for chance in chances if chance is not None]
        z = settle(self.loaded, torch.cat(latents), self.rounds, self.options, self.workers)
        return decode_tokens(
            self.model, z, self.model.unconditioned(len(z)), self.options, batch_size=len(z),
            uniforms=torch.cat(uniforms) if uniforms else None, prefilter=self.prefilter,
        )  # fmt: skip


def sample(
    loaded: LoadedModel, n: int, options: SamplingOptions = DEFAULT, wanted: Wanted = ANY, *, seed: int = 0,
    batch_size: int | None = None, workers: int | None = None, progress: Callable[[int], None] | None = None,
    prefilter: bool | None = None, rounds: int | None = None, stop: Callable[[], bool] = never,
) -> pd.DataFrame:  # fmt: skip
    """Generate ``n`` molecules from the model's prior.

    What is no molecule is drawn again: an empty string, a sequence that did not end within the length limit, a string
    that RDKit refuses. The same seed gives the same molecules, whatever the batch size and the number of workers, and
    a longer run starts with those of a shorter one; another kind of processor may round, and so choose, otherwise.

    Args:
        loaded: the model.
        n: rows wanted, 0 or more.
        options: how tokens are chosen.
        wanted: which molecules are kept and what is computed for them.
        seed: of all chance.
        batch_size: molecules written at once; None takes what suits the device.
        workers: processes for chemistry; None means every core.
        progress: called with the number of rows that are ready.
        prefilter: find what is empty, invalid or a repeat on the device, before RDKit; the table is the same. None
            does so on a GPU, see `molvae.generate.prefilter`.
        rounds: of reading back, see `molvae.generate.read_back`; None takes what the model suggests.
        stop: asked now and then; once it says so the table holds what is there.

    Returns:
        A table with the columns smiles, state, nats (-log p of what was written, EOS included), the properties, and
        alerts (names joined by "; "). ``attrs``: ``counts``, see `Counts`; ``complete``, whether there are ``n`` rows;
        ``rounds``, how many there were; ``prefiltered``, rows that RDKit did not have to see, by reason.

    Warns:
        UserWarning: when 20 draws per molecule wanted gave fewer than ``n``.

    Raises:
        InputError: when ``n`` or ``rounds`` is negative, or the batch size or the number of workers below 1.
    """
    check_counts(n=n, batch_size=batch_size, workers=workers)
    turns = resolve_rounds(loaded, rounds)
    collector = Collector(n, wanted)
    device = loaded.model.device
    ahead = pays(device) if prefilter is None else prefilter
    screen = Prefilter(loaded.vocabulary, device, wanted.unique) if ahead else None
    source = _Source(loaded, options, seed, batch_size, wanted.prior_temperature, screen, turns, workers)
    write = Write(loaded.vocabulary, tuple(wanted.properties), wanted.alerts)
    with spare_threads(device):
        while collector.missing > 0 and collector.counts.drawn < GIVE_UP * n + 2 * BLOCK and not stop():
            _round(source, collector, write, workers, progress, stop)
    if collector.missing and not stop():
        warnings.warn(shortfall(len(collector.rows), n, asdict(collector.counts)), stacklevel=2)
    table = make_table(collector, tuple(wanted.properties))
    table.attrs["rounds"] = turns
    table.attrs["prefiltered"] = {} if screen is None else dict(screen.counts)
    return table


def _round(
    source: _Source, collector: Collector, write: Write, workers: int | None, progress: Callable[[int], None] | None,
    stop: Callable[[], bool],
) -> None:  # fmt: skip
    """Draw as many blocks as the share of good molecules so far calls for."""
    counts = collector.counts
    share = max(len(collector.rows) / counts.drawn, 1 / GIVE_UP) if counts.drawn else 1.0
    blocks = max(1, round(collector.missing / share / BLOCK + 0.499))
    written = write_all(write, source.chunks(blocks), blocks * BLOCK, workers)
    for index, molecules in enumerate(written):
        for molecule, nats in zip(source.restore(index, molecules), source.nats[index], strict=True):
            if collector.missing:
                collector.add(molecule, nats)
        if progress:
            progress(len(collector.rows))
        if stop():
            break


def make_table(collector: Collector, names: tuple[str, ...]) -> pd.DataFrame:
    """Return the rows of ``collector`` with the properties ``names``, as `sample` describes them."""
    molecules = [molecule for molecule, _ in collector.rows]
    blank = (float("nan"),) * len(names)
    table = pd.DataFrame(
        {
            "smiles": pd.Series([molecule.smiles for molecule in molecules], dtype=object),
            "state": pd.Series([molecule.state for molecule in molecules], dtype=object),
            "nats": pd.Series([nats for _, nats in collector.rows], dtype="float64"),
        }
    )
    for column, name in enumerate(names):
        values = [(molecule.values or blank)[column] for molecule in molecules]
        table[name] = pd.Series(values, dtype="float64")
    if collector.wanted.alerts:
        table["alerts"] = pd.Series(["; ".join(molecule.alerts) for molecule in molecules], dtype=object)
    table.attrs["counts"] = asdict(collector.counts)
    table.attrs["complete"] = not collector.missing
    return table
