"""Do to a chunk of molecules everything that preparing a dataset needs, parsing each as seldom as possible.

In: cells of a table, in a worker process. Out: `Ready` or `Rejected` for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rdkit import Chem

from molvae.chem.encoder import Encoded, Tokens, as_texts, encode_when_it_pays, settle
from molvae.chem.parallel import EachItem
from molvae.chem.properties import compute_mol
from molvae.chem.rejected import Rejected
from molvae.chem.scaffolds import murcko_mol
from molvae.chem.standardize import Standardized, StandardizeOptions, standardize, standardize_mol
from molvae.data.seen import hash_smiles
from molvae.data.splits import Splitter


class Ready(NamedTuple):
    """A molecule ready to be stored; small, because it travels between processes.

    Attributes:
        smiles: canonical SMILES.
        tokens: its SELFIES, proven to decode to ``smiles``.
        identity: 64-bit hash of ``smiles``.
        split: id of its split; -1 when a column of the table decides.
        changed: whether ``smiles`` differs from the cell.
        stereo_lost: whether the cell names stereochemistry that is gone.
        values: the computed properties, in the order asked for.
    """

    smiles: str
    tokens: Tokens
    identity: int
    split: int
    changed: bool
    stereo_lost: bool
    values: list[float]


class _Half(NamedTuple):
    """A molecule on its way to `Ready`; as text it is the cell it comes from."""

    cell: str
    standard: Standardized
    mol: Chem.Mol | None
    encoded: Encoded | None = None

    def __str__(self) -> str:
        return self.cell


@dataclass(frozen=True, slots=True)
class MakeReady:
    """The work on cells, with its settings, in a form that travels to a worker process.

    Args:
        options: of `standardize`.
        properties: names of the properties to compute.
        splitter: how molecules are divided.
        max_tokens: most SELFIES tokens allowed, None for any number.
        vocabulary: tokens allowed, None for all that selfies has.
    """

    options: StandardizeOptions
    properties: tuple[str, ...] = ()
    splitter: Splitter = field(default_factory=Splitter)
    max_tokens: int | None = None
    vocabulary: frozenset[str] | None = None

    def __call__(self, cells: Sequence[str]) -> list[Ready | Rejected]:
        """Return the molecule in each cell, or why it is refused.

        >>> [one.values for one in MakeReady(StandardizeOptions(), ("hbd",))(["OCC"])]
        [[1.0]]
        """
        results: list[_Half | Rejected] = EachItem(self._standardize)(cells)
        halves = [half for half in results if isinstance(half, _Half)]
        encoded = encode_when_it_pays([half.standard.smiles for half in halves])
        whole = [half._replace(encoded=one) for half, one in zip(halves, encoded, strict=True)]
        finished = iter(EachItem(self._finish)(whole))
        return [result if isinstance(result, Rejected) else next(finished) for result in results]

    def _standardize(self, cell: str) -> _Half | Rejected:
        if not self.properties and self.splitter.kind != "scaffold":
            standard = standardize(cell, self.options)
            return standard if isinstance(standard, Rejected) else _Half(cell, standard, None)
        result = standardize_mol(cell, self.options)
        return result if isinstance(result, Rejected) else _Half(cell, *result)

    def _finish(self, half: _Half) -> Ready | Rejected:
        cell, standard, mol, encoded = half
        tokens = settle(standard.smiles, encoded)
        if isinstance(tokens, Rejected):
            return Rejected(cell, tokens.reason, tokens.detail)
        count = len(tokens) // 2 if isinstance(tokens, bytes) else len(tokens)
        if self.max_tokens is not None and count > self.max_tokens:
            return Rejected(cell, "too-long", f"{count} tokens, at most {self.max_tokens} are allowed")
        if self.vocabulary is not None:
            unknown = [token for token in dict.fromkeys(as_texts(tokens)) if token not in self.vocabulary]
            if unknown:
                return Rejected(cell, "vocabulary", " ".join(unknown))
        return Ready(
            standard.smiles,
            tokens,
            hash_smiles(standard.smiles),
            self._split(standard.smiles, mol),
            standard.changed,
            standard.stereo_lost,
            compute_mol(mol, self.properties) if mol is not None else [],
        )

    def _split(self, smiles: str, mol: Chem.Mol | None) -> int:
        if self.splitter.column is not None:
            return -1
        scaffold = murcko_mol(mol) if mol is not None and self.splitter.kind == "scaffold" else ""
        return self.splitter.by_key(scaffold or smiles)
