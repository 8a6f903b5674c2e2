"""The chemistry of generation: decoding batch by batch, checking one by one in worker processes; never imports torch.

In: token ids as written, or SMILES as given. Out: `Molecule` with state, properties and alerts; `Readable` token ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, chain
from typing import Any

import numpy as np

from molvae.chem.alerts import catalogue_alerts, moses_alerts
from molvae.chem.codec import TokenCodec
from molvae.chem.codec_check import check_decoded
from molvae.chem.parallel import SMALL, map_chunks, map_items
from molvae.chem.properties import compute_mol
from molvae.chem.rejected import Rejected
from molvae.chem.selfies import encode
from molvae.chem.standardize import DEFAULT, StandardizeOptions, standardize
from molvae.data.vocabulary import BOS, EOS, PAD, UNK, Vocabulary
from molvae.errors import InputError

Item = tuple[Sequence[int], bool]
"""Token ids as a model wrote them, and whether it finished."""


@dataclass(frozen=True, slots=True)
class Molecule:
    """What a row of token ids turned out to be.

    Args:
        smiles: canonical SMILES, None when it is no molecule.
        state: ``ok`` or a key of `molvae.chem.rejected.REASONS`.
        values: the properties asked for, in order; empty when it is no molecule.
        alerts: names of alerts, empty when none or not asked for.
    """

    smiles: str | None
    state: str
    values: tuple[float, ...] = ()
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Readable:
    """A molecule that the model can read: its canonical SMILES and its token ids, without BOS and EOS."""

    smiles: str
    token_ids: tuple[int, ...]


@lru_cache(maxsize=4)
def codec_of(vocabulary: Vocabulary) -> TokenCodec:
    """Return the codec of a vocabulary: specials are left out, EOS ends a molecule."""
    return TokenCodec(vocabulary.tokens, left_out=(PAD, BOS, UNK), end=EOS)


@dataclass(frozen=True)
class Judge:
    """Turn a decoded SMILES into a checked molecule: RDKit, properties, alerts.

    Args:
        properties: keys of `molvae.chem.properties.PROPERTIES`.
        alerts: look for PAINS, BRENK, NIH and MOSES alerts (about 3 ms a molecule).
    """

    properties: tuple[str, ...] = ()
    alerts: bool = False

    def __call__(self, smiles: str | None) -> Molecule:
        """Check one SMILES of `Write.translate`; None is what was not finished."""
        if smiles is None:
            return Molecule(None, "too-long")
        result = check_decoded(smiles)
        if isinstance(result, Rejected):
            return Molecule(None, result.reason)
        canonical, mol = result
        alerts = (*catalogue_alerts(mol), *moses_alerts(mol)) if self.alerts else ()
        values = tuple(compute_mol(mol, self.properties)) if self.properties else ()
        return Molecule(canonical, "ok", values, alerts)


@dataclass(frozen=True)
class Write:
    """Turn token ids into checked molecules: SMILES by the codec, then `Judge`.

    Args:
        vocabulary: the model's.
        properties, alerts: as in `Judge`.
    """

    vocabulary: Vocabulary
    properties: tuple[str, ...] = ()
    alerts: bool = False

    @property
    def judge(self) -> Judge:
        """The part of the work that needs RDKit."""
        return Judge(self.properties, self.alerts)

    def translate(self, items: Sequence[Item]) -> list[str | None]:
        """Return the SMILES of each item, not checked yet; None for one that was not finished."""
        rows = [token_ids if finished else () for token_ids, finished in items]
        offsets = list(accumulate(map(len, rows), initial=0))
        flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=offsets[-1])
        texts = codec_of(self.vocabulary).decode_many(flat, offsets)
        return [text if finished else None for text, (_, finished) in zip(texts, items, strict=True)]

    def __call__(self, item: Item) -> Molecule:
        """Write one molecule; every string is checked by RDKit."""
        return self.judge(self.translate([item])[0])


@dataclass(frozen=True)
class Read:
    """Turn a SMILES as given into the token ids that a model with ``vocabulary`` reads."""

    vocabulary: Vocabulary
    options: StandardizeOptions = DEFAULT

    def __call__(self, smiles: str) -> Readable | Rejected:
        """Standardise, translate and look up one SMILES, or say why that cannot be done."""
        standard = standardize(smiles, self.options)
        if isinstance(standard, Rejected):
            return standard
        tokens = encode(standard.smiles)
        if isinstance(tokens, Rejected):
            return Rejected(smiles, tokens.reason, tokens.detail)
        token_ids = self.vocabulary.encode(tokens)
        if token_ids is None:
            missing = ", ".join(self.vocabulary.missing(tokens))
            return Rejected(smiles, "vocabulary", f"the model was not trained with {missing}")
        return Readable(standard.smiles, tuple(token_ids))


def check_counts(n: int = 0, batch_size: int | None = None, workers: int | None = None) -> None:
    """Refuse counts that make no sense.

    Raises:
        InputError: when ``n`` is negative, or the batch size or the number of workers below 1.
    """
    if n < 0:
        raise InputError(f"{n} molecules were asked for.", "Ask for 0 or more.")
    for name, value in (("batch size", batch_size), ("number of workers", workers)):
        if value is not None and value < 1:
            raise InputError(f"A {name} of {value} is not possible.", "Choose 1 or more.")


def write_all(
    write: Write, chunks: Iterable[Sequence[Item]], total: int, workers: int | None
) -> Iterator[list[Molecule]]:
    """Apply ``write`` to every chunk, in order, in worker processes while the next chunks are being made.

    This process decodes, a chunk at a time; worker processes get SMILES, and RDKit runs in them.

    Args:
        write: what to do.
        chunks: read lazily; each a sequence of items for ``write``.
        total: how many items there are in all; a few are done in this process.
        workers: processes, None means every core.
    """
    results: Iterator[list[Any]]
    texts = (write.translate(chunk) for chunk in chunks)
    if total <= SMALL:
        results = (map_items(write.judge, chunk) for chunk in texts)
    else:
        results = map_chunks(write.judge, texts, workers)
    for chunk in results:
        yield [Molecule(None, item.reason) if isinstance(item, Rejected) else item for item in chunk]
