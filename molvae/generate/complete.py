"""Complete molecules with missing pieces, and rank what comes of it by how likely the whole molecule is.

In: a `LoadedModel` and SMILES with masks, see `molvae.chem.masks`. Out: a DataFrame, up to k rows for each input.

Pieces are written by the decoder into the open positions of what is given (`molvae.generate.scaffold`): a first round
under latents of the prior under which the given part is likely, further rounds under latents that the encoder reads
from the likeliest completions so far. One missing atom is not written but tried: every atom that the model knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pandas as pd
import torch
from rdkit import Chem

from molvae.chem.attachment import MOST_OPEN
from molvae.chem.codec_check import check_decoded
from molvae.chem.codec_tables import ATOM, read_meaning
from molvae.chem.masks import Masked, heavy_atoms, read_masked
from molvae.chem.rejected import Rejected
from molvae.data.vocabulary import UNK, Vocabulary
from molvae.errors import InputError
from molvae.generate.anomaly import measure_oddities
from molvae.generate.chemistry import Read, Readable, check_counts
from molvae.generate.likelihood import need_likelihood
from molvae.generate.sampling import DEFAULT, SamplingOptions
from molvae.generate.scaffold import Writer, Yield
from molvae.generate.scaffold_latents import draw_latents
from molvae.generate.writing import spare_threads
from molvae.nn.checkpoint import LoadedModel

TRIES = 128
"""Sequences written for each input."""
ROUNDS = 3
"""That they are written in."""
PARENTS = 8
"""Likeliest completions whose latents a further round sets out from."""
LINKS = (1, 12)
"""Heavy atoms of a piece between two, where any number may be: each row gets one from here to there."""
TEMPERATURE = 1.0
"""Of the tokens of a piece, when none is asked for: the ranking comes afterwards, so that variety pays."""
SAMPLES = 16
"""K of the importance-weighted bound by which completions are ranked."""
QUICK = 2
"""K of the bound by which all are compared first; `SETTLED` times as many as are wanted go on to the ranking."""
SETTLED = 2
LEAST_SETTLED = 16
AROMATIC = {"B": "b", "C": "c", "N": "n", "O": "o", "P": "p", "S": "s", "[NH1]": "[nH]", "[N+1]": "[n+]"}
"""How an atom is written in an aromatic ring."""


@dataclass(frozen=True)
class Completion:
    """One molecule that completes a masked one.

    Attributes:
        smiles: canonical.
        pieces: what was put in, in the order of the masks, [*] where it hangs on the rest.
        nats: bound on -log p of the whole molecule.
        mean: of q(z|x), (D,).
        std: of q(z|x), (D,).
    """

    smiles: str
    pieces: tuple[str, ...]
    nats: float
    mean: torch.Tensor
    std: torch.Tensor


@dataclass
class Completions:
    """The different completions of one masked molecule so far, and what became of every sequence."""

    loaded: LoadedModel
    masked: Masked
    seed: int
    counts: Yield = field(default_factory=Yield)
    found: dict[str, Completion] = field(default_factory=dict)

    @property
    def ranked(self) -> list[Completion]:
        """The likeliest first."""
        return sorted(self.found.values(), key=lambda each: (each.nats, each.smiles))

    def add(self, texts: Sequence[tuple[str, tuple[str, ...] | None]]) -> None:
        """Judge finished strings, and measure those that are new completions.

        Args:
            texts: each with the pieces that were put in, None where they are to be found in the molecule.
        """
        fresh: dict[str, tuple[Readable, tuple[str, ...]]] = {}
        read = Read(self.loaded.vocabulary)
        for text, given in texts:
            checked = check_decoded(text)
            if isinstance(checked, Rejected) or any(atom.GetNumRadicalElectrons() for atom in checked[1].GetAtoms()):
                self.counts.failed += 1
                continue
            if checked[0] in self.found or checked[0] in fresh:
                self.counts.again += 1
                continue
            pieces = given or self.masked.pieces(Chem.MolFromSmiles(checked[0]))
            readable = read(checked[0])
            if pieces is None:
                self.counts.lost += 1
            elif isinstance(readable, Rejected):
                self.counts.failed += 1
            else:
                self.counts.new += 1
                fresh[checked[0]] = readable, pieces
        rows = [readable.token_ids for readable, _ in fresh.values()]
        for (smiles, (_, pieces)), odd in zip(
            fresh.items(), measure_oddities(self.loaded, rows, QUICK, self.seed), strict=True
        ):  # fmt: skip
            mean, variance = torch.from_numpy(odd.mean), torch.from_numpy(odd.variance)
            self.found[smiles] = Completion(smiles, pieces, odd.nats, mean, variance.sqrt())

    def best(self, k: int, samples: int) -> list[Completion]:
        """Return the ``k`` likeliest, or fewer, by a bound of K = ``samples`` on the best by a quick one."""
        ahead = self.ranked[: max(SETTLED * k, LEAST_SETTLED)]
        read = Read(self.loaded.vocabulary)
        rows = [one.token_ids for one in map(read, (each.smiles for each in ahead)) if isinstance(one, Readable)]
        odd = measure_oddities(self.loaded, rows, samples, self.seed)
        settled = [replace(each, nats=one.nats) for each, one in zip(ahead, odd, strict=True)]
        return sorted(settled, key=lambda each: (each.nats, each.smiles))[:k]


def complete_one(
    loaded: LoadedModel, text: str, *, tries: int = TRIES, options: SamplingOptions = DEFAULT, seed: int = 0
) -> Completions:  # fmt: skip
    """Find different completions of one molecule with missing pieces.

    Args:
        loaded: a model with a likelihood.
        text: SMILES with masks.
        tries: sequences written, 1 or more.
        options: how tokens of a piece are chosen.
        seed: of all chance.

    Raises:
        InputError: when the text cannot be read, the model cannot write what is given, or a number makes no sense.
        ConfigError: when the model has no likelihood.
    """
    check_counts(n=tries - 1)
    need_likelihood(loaded, "Ranking completions")
    masked = read_masked(text)
    found = Completions(loaded, masked, seed)
    with spare_threads(loaded.model.device):
        if masked.scaffold is None:
            texts = atom_texts(loaded.vocabulary)
            found.counts.decoded = len(texts)
            found.add([(string, (atom,)) for atom, string in zip(texts, masked.filled(texts), strict=True)])
        else:
            _write(found, tries, options, seed)
    return found


def _write(found: Completions, tries: int, options: SamplingOptions, seed: int) -> None:
    """Write the missing pieces in rounds."""
    loaded, masked = found.loaded, found.masked
    assert masked.scaffold is not None
    warm = TEMPERATURE if options.temperature is None else options.temperature
    # A gap of a number of atoms must come last in its string, so that each is filled by a string of its own.
    at_once = MOST_OPEN if all(size.high is None for size in masked.sizes) else 1
    writer = Writer(
        loaded, masked.scaffold, replace(options, temperature=warm),
        lambda layout, count, generator: draw_latents(loaded, layout, count, "resampled", generator), seed, at_once,
    )  # fmt: skip
    for turn in range(min(ROUNDS, tries)):
        count = tries // ROUNDS + (turn < tries % ROUNDS)
        parents = found.ranked[:PARENTS] if turn else []
        sizes = draw_sizes(masked, count, writer.generator)
        if parents:
            z = around(parents, count, writer.generator)
            # Half of the rows are as long as what their latent comes from.
            sizes[::2] = [_sizes_of(masked, parents[row % len(parents)], sizes[row]) for row in range(0, count, 2)]
        else:
            z = writer.draw(writer.layout, count, writer.generator)
        rows = writer.compose(z, found.counts, sizes=sizes, spent=writer.spent)
        found.add([(writer.text(row), None) for row in rows])


def around(parents: Sequence[Completion], count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw ``count`` = N latents from q(z|x) of the ``parents`` in turn, (N, D)."""
    mean, std = (torch.stack([getattr(each, name) for each in parents]) for name in ("mean", "std"))
    which = torch.arange(count) % len(parents)
    noise = torch.randn((count, mean.shape[1]), generator=generator, device=generator.device)
    return mean[which].to(noise) + std[which].to(noise) * noise


def draw_sizes(masked: Masked, count: int, generator: torch.Generator) -> list[Mapping[int, int]]:
    """Return for ``count`` rows how many atoms each gap gets by number; a gap where the model decides is left out."""
    linking = masked.scaffold is not None and masked.scaffold.linking
    columns: dict[int, list[int]] = {}
    for label, size in enumerate(masked.sizes, start=1):
        low, high = LINKS if linking and size.high is None else (size.low, size.high)
        if high is not None:
            drawn = torch.randint(low, high + 1, (count,), generator=generator, device=generator.device)
            columns |= dict.fromkeys((1, 2) if linking else (label,), drawn.tolist())
    return [{label: column[row] for label, column in columns.items()} for row in range(count)]


def _sizes_of(masked: Masked, parent: Completion, drawn: Mapping[int, int]) -> Mapping[int, int]:
    """Return the sizes of the pieces of ``parent`` where ``drawn`` has some."""
    pieces = parent.pieces * 2 if len(parent.pieces) < max(drawn, default=0) else parent.pieces
    return {label: heavy_atoms(pieces[label - 1]) for label in drawn}


def atom_texts(vocabulary: Vocabulary) -> list[str]:
    """Return every atom that a model knows as SMILES, also as it is written in an aromatic ring.

    >>> atom_texts(Vocabulary(["[C]", "[=C]", "[NH1]", "[Ring1]"]))
    ['C', '[NH1]', 'c', '[nH]']
    """
    meanings = [read_meaning(token) for token in vocabulary.tokens[UNK + 1 :]]
    texts = dict.fromkeys(meaning.texts[0] for meaning in meanings if meaning.kind == ATOM)
    return [*texts, *(AROMATIC[text] for text in texts if text in AROMATIC)]


COLUMNS = ("input", "rank", "smiles", "pieces", "nats", "share", "state", "detail")


def complete(
    loaded: LoadedModel, masked: Sequence[str], k: int = 10, *, tries: int = TRIES, options: SamplingOptions = DEFAULT,
    samples: int = SAMPLES, seed: int = 0, progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Complete molecules with missing pieces, ranked by how likely the whole molecule is under the model.

    Args:
        loaded: a model with a likelihood.
        masked: N SMILES with masks, see `molvae.chem.masks`.
        k: different completions wanted for each, 1 or more.
        tries: sequences written for each.
        options: how tokens of a piece are chosen; the temperature is `TEMPERATURE` when none is given.
        samples: K of the bound by which completions are ranked.
        seed: of all chance.
        progress: called with the number of inputs that are ready.

    Returns:
        Up to ``k`` rows for each input, one with no SMILES for an input that cannot be completed: input; rank from 1;
        smiles; pieces, in the order of the masks with a blank between them, [*] where one hangs on the rest; nats, the
        bound on -log p(molecule); share, its part of the probability of the completions given; state, ``ok``,
        ``refused`` or ``empty``; detail. ``attrs``: ``yields``, a `Yield` as a mapping for each input; ``yield_line``.

    Raises:
        ConfigError: when the model has no likelihood.
        InputError: when a number makes no sense.
    """
    check_counts(n=min(k, tries, samples) - 1)
    need_likelihood(loaded, "Ranking completions")
    records: list[tuple[object, ...]] = []
    total, yields = Yield(), []
    for number, text in enumerate(masked, start=1):
        rows, counts = _rows_of(loaded, text, k, tries, options, samples, seed)
        records += [(text, *row) for row in rows]
        yields.append(asdict(counts))
        for name, count in yields[-1].items():
            setattr(total, name, getattr(total, name) + count)
        if progress:
            progress(number)
    table = pd.DataFrame(records, columns=list(COLUMNS))
    table.attrs |= {"yields": yields, "yield": asdict(total), "yield_line": total.line("that complete what is given")}
    return table


def _rows_of(
    loaded: LoadedModel, text: str, k: int, tries: int, options: SamplingOptions, samples: int, seed: int
) -> tuple[list[tuple[object, ...]], Yield]:
    """Return the rows of one input, less the input itself."""
    nothing = (None, None, "", np.nan, np.nan)
    try:
        found = complete_one(loaded, text, tries=tries, options=options, seed=seed)
    except InputError as error:
        return [(*nothing, "refused", f"{error.problem} {error.remedy}")], Yield()
    best = found.best(k, samples)
    if not best:
        return [(*nothing, "empty", f"nothing of {found.counts.decoded} sequences completes it")], found.counts
    nats = np.array([each.nats for each in best])
    weights = np.exp(nats.min() - nats)
    shares = (weights / weights.sum()).tolist()
    return [
        (rank, each.smiles, " ".join(each.pieces), each.nats, share, "ok", "")
        for rank, (each, share) in enumerate(zip(best, shares, strict=True), start=1)
    ], found.counts
