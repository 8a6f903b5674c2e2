"""Find molecules around a molecule that keep a part of it.

In: one SMILES and the part as SMARTS. Out: a DataFrame of different molecules, the likest first, each with the part and
whatever is written anew where the rest of the molecule was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import torch
from rdkit import Chem

from molvae.chem.attachment import MOST_OPEN, Scaffold, read_scaffold
from molvae.chem.fingerprints import morgan, tanimoto
from molvae.chem.open_ends import Layout
from molvae.chem.properties import check_names
from molvae.errors import InputError
from molvae.generate.chemistry import check_counts
from molvae.generate.posterior import read_all
from molvae.generate.sampling import DEFAULT, SamplingOptions
from molvae.generate.scaffold import Found, Writer, Yield, as_table, collect
from molvae.generate.wanted import PROPERTIES
from molvae.generate.writing import spare_threads
from molvae.nn.checkpoint import LoadedModel

RADII = (0.5, 1.0, 2.0)
"""Radii that share the molecules wanted when none is given."""


def scaffold_of(lead: str, keep: str) -> Scaffold:
    """Return the part of a molecule that SMARTS matches, open where the rest hangs on it.

    A bond that cannot be cut, one in a ring or a double or triple one, keeps the atoms at both ends, and a ring is kept
    whole; of several matches the first is taken.

    Args:
        lead: canonical SMILES.
        keep: SMARTS.

    Raises:
        InputError: when there is no such part, nothing else than it, or too much hangs on it.

    >>> scaffold_of("CCc1ccc(C(=O)NC)cc1", "c1ccccc1").smiles
    '[1*]c1ccc([2*])cc1'
    """
    mol, query = Chem.MolFromSmiles(lead), Chem.MolFromSmarts(keep)
    if query is None or not query.GetNumAtoms():
        raise InputError(f"{keep!r} is not SMARTS.", 'Write what is to be kept like this: "c1ccccc1".')
    match = mol.GetSubstructMatch(query)
    if not match:
        raise InputError(f"{lead} does not contain {keep!r}.", "Name a part of the molecule; aromatic atoms are small.")
    kept = _whole(mol, set(match))
    cut = [bond for bond in mol.GetBonds() if (bond.GetBeginAtomIdx() in kept) != (bond.GetEndAtomIdx() in kept)]
    if not 1 <= len(cut) <= MOST_OPEN:
        what = "Nothing hangs" if not cut else f"{len(cut)} groups hang"
        raise InputError(
            f"{what} on the part of {lead} that {keep!r} keeps; 1 to {MOST_OPEN} can be made anew.",
            "Keep less of the molecule." if not cut else "Keep more of the molecule, so that fewer bonds leave it.",
        )
    return _open(mol, kept, cut)


def _whole(mol: Chem.Mol, kept: set[int]) -> set[int]:
    """Add atoms until only single bonds outside rings leave ``kept``."""
    while True:
        beyond = {
            end for bond in mol.GetBonds() for start, end in (_ends(bond), _ends(bond)[::-1])
            if start in kept and end not in kept
            and (bond.IsInRing() or bond.GetBondType() != Chem.BondType.SINGLE)
        }  # fmt: skip
        if not beyond:
            return kept
        kept = kept | beyond


def _ends(bond: Chem.Bond) -> tuple[int, int]:
    return bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()


def _open(mol: Chem.Mol, kept: set[int], cut: Sequence[Chem.Bond]) -> Scaffold:
    """Cut ``mol`` and return the piece with the kept atoms."""
    pieces = Chem.FragmentOnBonds(mol, [bond.GetIdx() for bond in cut], dummyLabels=[(0, 0)] * len(cut))
    atoms = next(atoms for atoms in Chem.GetMolFrags(pieces) if not kept.isdisjoint(atoms))
    if not kept <= set(atoms):
        raise InputError("The part to be kept falls apart.", "Name a part whose atoms hang together.")
    scaffold = read_scaffold(Chem.MolFragmentToSmiles(pieces, atoms))
    return Scaffold(Chem.MolToSmiles(scaffold.mol), scaffold.mol)


def neighbors_keep(
    loaded: LoadedModel, smiles: str, keep: str, n: int = 20, *,
    radii: Sequence[float] = (), properties: Sequence[str] = PROPERTIES, options: SamplingOptions = DEFAULT,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Write the rest of a molecule anew around a part of it, under latents around its own.

    Args:
        loaded: the model.
        smiles: the molecule; it is not among the results.
        keep: SMARTS of the part to be kept, see `scaffold_of`.
        n: molecules wanted, 0 or more.
        radii: distances of the latents in units of the posterior's own noise; each gives an equal share.
        properties: columns to compute.
        options: how tokens are chosen, see `molvae.generate.scaffold.sample_scaffold`.
        seed: of all chance.

    Returns:
        Up to ``n`` rows, the likest first: smiles, similarity (Tanimoto to the molecule, Morgan radius 2), radius, what
        sits at each open position, nats, the properties. ``attrs``: ``start``, ``scaffold``, ``rings`` (radius and
        yield of each), ``complete``.

    Raises:
        InputError: when the model cannot read the molecule, or the part cannot be kept, or a number makes no sense.
        UnknownNameError: when a property does not exist.
    """
    check_counts(n=n)
    names = check_names(properties)
    for radius in radii:
        if not 0 < radius < math.inf:
            raise InputError(f"A radius of {radius} is not possible.", "Choose a number above 0, such as 1.")
    read = read_all(loaded, [smiles])
    start = str(read.smiles[0])
    found = Found(scaffold_of(start, keep), frozenset([start]))
    reached: list[float] = []
    rings: list[dict[str, object]] = []
    device = loaded.model.device
    mean, std = (torch.tensor(part[0], dtype=torch.float32, device=device) for part in (read.mean, read.std))
    chosen = radii or RADII
    for place, radius in enumerate(chosen):
        found.counts = Yield()
        writer = Writer(loaded, found.scaffold, options, _Around(mean, radius * std), seed + place)
        with spare_threads(device):
            collect(writer, found, -(-n * (place + 1) // len(chosen)))
        reached += [radius] * (len(found.smiles) - len(reached))
        rings.append({"radius": radius, **asdict(found.counts), "line": found.counts.line()})
    return _sorted(as_table(found, n, names, False, None), start, reached, rings)


@dataclass(frozen=True)
class _Around:
    """Draw latents around a point: normal noise with the deviations ``std`` (D,) about ``mean`` (D,)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __call__(self, _: Layout, count: int, generator: torch.Generator) -> torch.Tensor:
        noise = torch.randn((count, len(self.mean)), generator=generator, device=self.mean.device)
        return self.mean + self.std * noise


def _sorted(table: pd.DataFrame, start: str, reached: list[float], rings: list[dict[str, object]]) -> pd.DataFrame:
    """Add similarity and radius, and put the likest first."""
    marks = morgan([start, *table["smiles"]])
    table.insert(1, "similarity", tanimoto(marks[:1], marks[1:])[0].astype(np.float64))
    table.insert(2, "radius", pd.Series(reached, dtype="float64"))
    attrs = {**table.attrs, "start": start, "rings": rings}
    ordered = table.drop(columns="state").sort_values("similarity", ascending=False, kind="stable", ignore_index=True)
    ordered.attrs.update(attrs)
    return ordered
