"""Do to one molecule everything that preparing a dataset needs, parsing it as seldom as possible.

In: the cell of a table, in a worker process. Out: `Ready`, or `Rejected`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from molvae.chem.properties import compute_mol
from molvae.chem.rejected import Rejected
from molvae.chem.scaffolds import murcko_mol
from molvae.chem.selfies import encode
from molvae.chem.standardize import StandardizeOptions, standardize_mol
from molvae.data.seen import hash_smiles


class Ready(NamedTuple):
    """A molecule ready to be stored; small, because it travels between processes.

    Attributes:
        smiles: canonical SMILES.
        selfies: its tokens joined, proven to decode to ``smiles``.
        identity: 64-bit hash of ``smiles``.
        scaffold: Murcko scaffold, "" when there is none or nobody asked.
        changed: whether ``smiles`` differs from the cell.
        stereo_lost: whether the cell names stereochemistry that is gone.
        values: the computed properties, in the order asked for.
    """

    smiles: str
    selfies: str
    identity: int
    scaffold: str
    changed: bool
    stereo_lost: bool
    values: list[float]


@dataclass(frozen=True, slots=True)
class MakeReady:
    """The work on one cell, with its settings, in a form that travels to a worker process.

    Args:
        options: of `standardize`.
        properties: names of the properties to compute.
        scaffold: whether the scaffold is wanted.
        max_tokens: most SELFIES tokens allowed, None for any number.
        vocabulary: tokens allowed, None for all that selfies has.
    """

    options: StandardizeOptions
    properties: tuple[str, ...] = ()
    scaffold: bool = False
    max_tokens: int | None = None
    vocabulary: frozenset[str] | None = None

    def __call__(self, cell: str) -> Ready | Rejected:
        """Return the molecule in ``cell``, or why it is refused.

        >>> MakeReady(StandardizeOptions(), ("hbd",))("OCC").values
        [1.0]
        """
        result = standardize_mol(cell, self.options)
        if isinstance(result, Rejected):
            return result
        standard, mol = result
        tokens = encode(standard.smiles)
        if isinstance(tokens, Rejected):
            return Rejected(cell, tokens.reason, tokens.detail)
        if self.max_tokens is not None and len(tokens) > self.max_tokens:
            return Rejected(cell, "too-long", f"{len(tokens)} tokens, at most {self.max_tokens} are allowed")
        if self.vocabulary is not None:
            unknown = [token for token in dict.fromkeys(tokens) if token not in self.vocabulary]
            if unknown:
                return Rejected(cell, "vocabulary", " ".join(unknown))
        return Ready(
            standard.smiles,
            "".join(tokens),
            hash_smiles(standard.smiles),
            murcko_mol(mol) if self.scaffold else "",
            standard.changed,
            standard.stereo_lost,
            compute_mol(mol, self.properties),
        )
