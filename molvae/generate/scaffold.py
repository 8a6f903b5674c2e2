"""Generate molecules that hold a scaffold: what is new sits at its open positions and nowhere else.

In: a `LoadedModel` and a scaffold, SMILES with [*]. Out: a DataFrame of different molecules and what sits where.

The scaffold's tokens are given to the decoder in an order in which every open position lies on the main chain and one
of them comes last; what the decoder then writes is a branch or the tail of the string, and masks keep it there (see
`molvae.generate.constrained`). Where no order has all open positions on its main chain, the molecule so far is written
again from another atom, and the next position is filled. Every molecule is looked at by RDKit in the end all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from rdkit import Chem

from molvae.chem.alerts import moses_alerts
from molvae.chem.attachment import MOST_OPEN, Scaffold, read_scaffold, substituents
from molvae.chem.codec_check import check_decoded
from molvae.chem.open_ends import Layout, lay_out, lay_out_link
from molvae.chem.parallel import map_items
from molvae.chem.properties import check_names, compute
from molvae.chem.rejected import Rejected
from molvae.errors import InputError
from molvae.generate.chemistry import check_counts, codec_of
from molvae.generate.sampling import DEFAULT, SamplingOptions
from molvae.generate.scaffold_latents import JUDGES, Source, draw_latents, likeliest
from molvae.generate.scaffold_write import NO_SIZES, Written, write_rows
from molvae.generate.spent import Spent
from molvae.generate.wanted import PROPERTIES
from molvae.generate.writing import GIVE_UP, resolve_options, spare_threads
from molvae.nn.checkpoint import LoadedModel

BLOCK = 64
"""Molecules begun at a time."""
TEMPERATURE = 0.3
"""Of the tokens that are chosen, when none is asked for; what a model suggests is for whole molecules. On ten
scaffolds (``moses``, 16 sequences each) .3 and 1 gave the same yield, 1.00, and .90 and .83 without MOSES alerts."""
AGAIN = 4
"""Orders looked at when a molecule is written again from another atom."""
LEAST_ROOM = 4
"""Tokens that each open position must have below the longest molecule of the training set."""

Draw = Callable[[Layout, int, torch.Generator], torch.Tensor]
"""Gives latents (N, D) for a layout, a number N and a generator."""


@dataclass
class Yield:
    """What became of every sequence decoded; ``decoded`` is the sum of the others.

    Attributes:
        new: different molecules that hold the scaffold.
        again: molecules that were there before.
        partial: sequences with an open position left, which were written again from another atom.
        failed: no molecule, a radical, or nothing that SELFIES and the model's vocabulary can write again.
        lost: molecules that do not hold the scaffold, never given out: an open stereo centre got a group that it had
            already and is none any more. Without such a centre none was ever seen.
    """

    decoded: int = 0
    new: int = 0
    again: int = 0
    partial: int = 0
    failed: int = 0
    lost: int = 0

    @property
    def share(self) -> float:
        """Different valid molecules per sequence decoded."""
        return self.new / self.decoded if self.decoded else 0.0

    def line(self, what: str = "with the scaffold") -> str:
        """Return the yield as a line for people; ``what`` says of which molecules.

        >>> Yield(10, 9, 1).line()
        'yield 0.90: 9 different molecules with the scaffold of 10 sequences decoded, 1 again'
        """
        rest = "".join(f", {getattr(self, name):,} {name}" for name in ("again", "partial", "failed", "lost")
                       if getattr(self, name))  # fmt: skip
        return (
            f"yield {self.share:.2f}: {self.new:,} different molecules {what} of {self.decoded:,} "
            f"sequences decoded{rest}"
        )


@dataclass
class Found:
    """The different molecules so far, in the order drawn."""

    scaffold: Scaffold
    known: frozenset[str] = frozenset()
    counts: Yield = field(default_factory=Yield)
    smiles: list[str] = field(default_factory=list)
    parts: list[tuple[str, ...]] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def add(self, text: str, nats: float) -> None:
        """Judge one finished string, and keep its molecule when it is a new one that holds the scaffold."""
        checked = check_decoded(text)
        if isinstance(checked, Rejected) or any(atom.GetNumRadicalElectrons() for atom in checked[1].GetAtoms()):
            self.counts.failed += 1
            return
        canonical = checked[0]
        # Read as the table has it, so that equal positions are told apart as anybody would who reads the table.
        parts = substituents(self.scaffold, Chem.MolFromSmiles(canonical))
        if parts is None:
            self.counts.lost += 1
        elif canonical in self.seen or canonical in self.known:
            self.counts.again += 1
        else:
            self.counts.new += 1
            self.seen.add(canonical)
            self.smiles.append(canonical)
            self.parts.append(parts)
            self.nats.append(nats)


class Writer:
    """Write molecules with a scaffold, from layouts chosen once.

    Args:
        loaded: the model.
        scaffold: what they hold.
        options: how tokens are chosen.
        draw: where latents come from.
        seed: of all chance.
        at_once: open positions filled by one string at most.

    Raises:
        InputError: when the model cannot write the scaffold: too large, or with tokens it was not trained with.
    """

    def __init__(
        self, loaded: LoadedModel, scaffold: Scaffold, options: SamplingOptions, draw: Draw, seed: int,
        at_once: int = MOST_OPEN,
    ) -> None:  # fmt: skip
        self.loaded, self.draw, self.seed, self.at_once = loaded, draw, seed, at_once
        temperature = TEMPERATURE if options.temperature is None else options.temperature
        self.options = resolve_options(loaded, replace(options, temperature=temperature))
        self.generator = torch.Generator(loaded.model.device).manual_seed(seed)
        linking = scaffold.linking
        layouts = lay_out_link(scaffold, seed) if linking else lay_out(scaffold.mol, seed, at_once=at_once)
        if not layouts:
            raise InputError(
                f"SELFIES cannot write the scaffold {scaffold.smiles!r} with something at its open positions.",
                "Leave out stereo bonds beside an open position, or give another scaffold.",
            )
        check_size(loaded, scaffold, layouts)
        self.layout = likeliest(loaded, layouts, draw(layouts[0], JUDGES, self.generator))[0]
        # What is finished from another atom is another string each time; only whole layouts can tell repeats.
        self.spent = None if self.layout.left else Spent()

    def write(self, count: int, found: Found) -> None:
        """Begin ``count`` molecules, no string twice if it can be helped, and hand what they become to ``found``."""
        for row in self.compose(self.draw(self.layout, count, self.generator), found.counts, spent=self.spent):
            found.add(self.text(row), row.nats)

    def text(self, row: Written) -> str:
        """Return what was written as SMILES, "" when nothing was."""
        return codec_of(self.loaded.vocabulary).decode(row.token_ids)

    def compose(
        self, z: torch.Tensor, counts: Yield, cond: torch.Tensor | None = None, guidance: float = 0.0,
        sizes: Sequence[Mapping[int, int]] = (), spent: Spent | None = None,
    ) -> list[Written]:  # fmt: skip
        """Write one molecule for each latent ``z`` (N, D); what comes of it is not judged.

        Args:
            z: (N, D).
            counts: told of every sequence decoded, and of those that had to be written again.
            cond, guidance, sizes, spent: see `molvae.generate.scaffold_write.write_rows`.

        Returns:
            N rows in order, each with the nats of all that was put in; no tokens where that failed.
        """
        given = sizes or [NO_SIZES] * len(z)
        return self._fill([self.layout] * len(z), z, counts, cond, guidance, given, spent)

    def _fill(
        self, layouts: Sequence[Layout], z: torch.Tensor, counts: Yield, cond: torch.Tensor | None, guidance: float,
        sizes: Sequence[Mapping[int, int]], spent: Spent | None = None,
    ) -> list[Written]:  # fmt: skip
        """Fill the gaps of each layout; what has an open position left is laid out again, and so on."""
        model, vocabulary = self.loaded.model, self.loaded.vocabulary
        rows = write_rows(model, vocabulary, layouts, z, self.options, self.generator, cond, guidance, sizes,
                          spent)  # fmt: skip
        counts.decoded += len(rows)
        again: dict[int, Layout] = {}
        for number, (layout, row) in enumerate(zip(layouts, rows, strict=True)):
            following = self._again(row, layout) if layout.left else None
            if following is not None:
                again[number] = following
            elif layout.left:
                rows[number] = replace(row, token_ids=())
        if again:
            counts.partial += len(again)
            kept = torch.tensor(list(again), device=z.device)
            asked = None if cond is None else cond[kept]
            rest = self._fill(list(again.values()), z[kept], counts, asked, guidance, [sizes[row] for row in again])
            for number, row in zip(again, rest, strict=True):
                rows[number] = replace(row, nats=rows[number].nats + row.nats)
        return rows

    def _again(self, row: Written, layout: Layout) -> Layout | None:
        """Write a molecule that has open positions left from another atom, with those at the end."""
        mol = Chem.MolFromSmiles(self.text(row))
        if mol is None or not row.token_ids:
            return None
        opened = Chem.RWMol(mol)
        for label, atom in layout.left:
            dummy = Chem.Atom(0)
            dummy.SetIsotope(label)
            here = opened.GetAtomWithIdx(row.atoms[atom])
            here.SetNumExplicitHs(max(here.GetNumExplicitHs() - 1, 0))
            opened.AddBond(here.GetIdx(), opened.AddAtom(dummy), Chem.BondType.SINGLE)
        Chem.SanitizeMol(opened)
        options = lay_out(opened.GetMol(), self.seed, AGAIN, self.at_once)
        known = [each for each in options if not self.loaded.vocabulary.missing(each.tokens())]
        return known[0] if known else None


def check_size(loaded: LoadedModel, scaffold: Scaffold, layouts: Sequence[Layout]) -> None:
    """Refuse a scaffold that leaves no room below the longest molecule that the model has seen.

    Raises:
        InputError: says how long it may be.
    """
    longest = loaded.facts.get("max_tokens")
    if longest is None:
        return
    size, most = min(len(layout.tokens()) for layout in layouts), int(longest) - LEAST_ROOM
    if size > most:
        raise InputError(
            f"The scaffold {scaffold.smiles!r} takes {size} tokens; the longest molecule that the model was trained "
            f"with has {longest}.",
            f"Give a scaffold of at most {most} tokens, or a model of larger molecules with -m.",
        )


def sample_scaffold(
    loaded: LoadedModel, n: int, scaffold: str, *,
    options: SamplingOptions = DEFAULT, source: Source = "prior", properties: Sequence[str] = PROPERTIES,
    alerts: bool = True, known: frozenset[str] = frozenset(), seed: int = 0, workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Generate ``n`` different molecules that hold a scaffold, with something at every open position.

    Args:
        loaded: the model.
        n: molecules wanted, 0 or more.
        scaffold: SMILES with one to three [*], or two fragments with one each, which a linker then joins.
        options: how tokens are chosen; the temperature is `TEMPERATURE` when none is given.
        source: where latents come from.
        properties: columns to compute.
        alerts: name MOSES alerts; no molecule is left out for one.
        known: canonical SMILES that are not wanted.
        seed: of all chance.
        workers: processes for chemistry; None means every core.
        progress: called with the number of molecules that are ready.

    Returns:
        Up to ``n`` rows: smiles, R1 to R3 (what sits at each [*], in the order written, with [*] at its bond) or linker
        (with [1*] and [2*]), state, nats (-log p of what was put in), the properties, alerts. ``attrs``: ``yield``, see
        `Yield`; ``scaffold``; ``complete``, whether there are ``n`` rows.

    Raises:
        InputError: when the scaffold cannot be read or written, or a number makes no sense.
        UnknownNameError: when a property does not exist.
    """
    check_counts(n=n, workers=workers)
    names = check_names(properties)
    read = read_scaffold(scaffold)
    writer = Writer(loaded, read, options, lambda layout, count, generator: draw_latents(
        loaded, layout, count, source, generator), seed)  # fmt: skip
    found = Found(read, known)
    with spare_threads(loaded.model.device):
        collect(writer, found, n, progress)
    return as_table(found, n, names, alerts, workers)


def collect(writer: Writer, found: Found, n: int, progress: Callable[[int], None] | None = None) -> None:
    """Write until ``found`` holds ``n`` molecules, or `GIVE_UP` times as many were begun."""
    begun = 0
    while len(found.smiles) < n and begun < GIVE_UP * n:
        count = min(BLOCK, n - len(found.smiles))
        writer.write(count, found)
        begun += count
        if progress:
            progress(len(found.smiles))


def as_table(found: Found, n: int, names: Sequence[str], alerts: bool, workers: int | None) -> pd.DataFrame:
    """Return the table of `sample_scaffold`."""
    columns: dict[str, Any] = {"smiles": pd.Series(found.smiles, dtype=object)}
    for place, name in enumerate(found.scaffold.names):
        columns[name] = pd.Series([parts[place] for parts in found.parts], dtype=object)
    columns["state"] = pd.Series(["ok"] * len(found.smiles), dtype=object)
    columns["nats"] = pd.Series(found.nats, dtype="float64")
    values = compute(found.smiles, names)
    columns |= {name: pd.Series(values[:, place], dtype="float64") for place, name in enumerate(names)}
    if alerts:
        named = map_items(name_alerts, found.smiles, workers)
        columns["alerts"] = pd.Series(["" if isinstance(each, Rejected) else each for each in named], dtype=object)
    table = pd.DataFrame(columns)
    table.attrs["yield"] = asdict(found.counts)
    table.attrs["yield_line"] = found.counts.line()
    table.attrs["scaffold"] = found.scaffold.smiles
    table.attrs["complete"] = len(table) == n
    return table


def name_alerts(smiles: str) -> str:
    """Name the MOSES alerts of one molecule."""
    return "; ".join(moses_alerts(Chem.MolFromSmiles(smiles)))
