"""The chemistry of generation, one molecule at a time, as it runs in worker processes; never imports torch.

In: token ids as written, or SMILES as given. Out: `Molecule` with state, properties and alerts; `Readable` token ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from molvae.chem.alerts import catalogue_alerts, moses_alerts
from molvae.chem.parallel import SMALL, map_chunks, map_items
from molvae.chem.properties import compute_mol
from molvae.chem.rejected import Rejected
from molvae.chem.selfies import decode, encode
from molvae.chem.standardize import DEFAULT, StandardizeOptions, standardize, standardize_mol
from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError


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


@dataclass(frozen=True)
class Write:
    """Turn token ids into a checked molecule: SELFIES, SMILES, RDKit, properties, alerts.

    Args:
        vocabulary: the model's.
        properties: keys of `molvae.chem.properties.PROPERTIES`.
        alerts: look for PAINS, BRENK, NIH and MOSES alerts (about 3 ms a molecule).
    """

    vocabulary: Vocabulary
    properties: tuple[str, ...] = ()
    alerts: bool = False

    def __call__(self, item: tuple[Sequence[int], bool]) -> Molecule:
        """Write one molecule from its token ids and whether it was finished; every string is checked by RDKit."""
        token_ids, finished = item
        if not finished:
            return Molecule(None, "too-long")
        result = standardize_mol(decode(self.vocabulary.decode(token_ids)))
        if isinstance(result, Rejected):
            return Molecule(None, result.reason)
        standard, mol = result
        alerts = (*catalogue_alerts(mol), *moses_alerts(mol)) if self.alerts else ()
        return Molecule(standard.smiles, "ok", tuple(compute_mol(mol, self.properties)), alerts)


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
    write: Write, chunks: Iterable[Sequence[tuple[Sequence[int], bool]]], total: int, workers: int | None
) -> Iterator[list[Molecule]]:
    """Apply ``write`` to every chunk, in order, in worker processes while the next chunks are being made.

    Args:
        write: what to do.
        chunks: read lazily; each a sequence of items for ``write``.
        total: how many items there are in all; a few are done in this process.
        workers: processes, None means every core.
    """
    results: Iterator[list[Any]]
    if total <= SMALL:
        results = (map_items(write, list(chunk)) for chunk in chunks)
    else:
        results = map_chunks(write, chunks, workers)
    for chunk in results:
        yield [Molecule(None, item.reason) if isinstance(item, Rejected) else item for item in chunk]
