"""Give every molecule a number that does not depend on how it was written, to find duplicates by.

In: a `Description`. Out: a 64-bit hash a molecule.
"""

from __future__ import annotations

import torch

from molvae.nn.molgraph import MolGraphs
from molvae.nn.molgraph_tables import GraphTables
from molvae.nn.molgraph_valence import Description
from molvae.nn.molgraph_walk import look_up, pack

ROUNDS = 16
"""Bonds over which an atom sees; molecules that differ only in what lies farther apart get one hash."""

_FIRST, _SECOND, _THIRD = -7046029254386353131, -4658895280553007687, -7723592293110705685


def _mix(values: torch.Tensor) -> torch.Tensor:
    """Scatter the bits of int64 numbers over all 64, one to one (the finisher of splitmix64, shifted by 32)."""
    values = values * _FIRST
    values = (values ^ (values >> 32 & 0xFFFFFFFF)) * _SECOND
    return values ^ (values >> 32 & 0xFFFFFFFF)


@torch.inference_mode()
def ring_bonds(graphs: MolGraphs) -> torch.Tensor:
    """Say which bonds are part of a ring, (M,) bool.

    Every ring bond of the tree of chain bonds puts a random number on one of its ends and takes it from the other; a
    chain bond is part of a ring unless the numbers below it cancel out (up to one chance in 2^64). In a molecule where
    a ring bond joins two fragments, every bond counts as outside.

    Source: the cycle space of a graph by random labels, Pritchard and Thurimella, doi:10.1145/2000807.2000814.
    """
    chains = int((~graphs.root).sum())
    (up, child), (left, right) = graphs.bonds[:, :chains], graphs.bonds[:, chains:]
    fragment = graphs.root.long().cumsum(0)
    joins = (fragment.index_select(0, left) != fragment.index_select(0, right)).long()
    odd = joins.new_zeros(len(graphs)).index_add_(0, graphs.molecule.index_select(0, left), joins)
    # One row more than atoms: what the first atom of a fragment is bonded to.
    nothing = len(graphs.token)
    parent = torch.full((nothing + 1,), nothing, device=up.device).scatter_(0, child, up)
    tag = _mix(torch.arange(1, len(left) + 1, device=left.device))
    below = tag.new_zeros(nothing + 1).index_add_(0, right, tag).index_add_(0, left, -tag)
    for _ in range(_doublings(graphs)):
        below = below.index_add(0, parent, below)
        below[nothing] = 0
        parent = parent.index_select(0, parent)
    inside = torch.cat([below.index_select(0, child) != 0, torch.ones_like(left, dtype=torch.bool)])
    return inside & (look_up(odd, look_up(graphs.molecule, graphs.bonds[0])) == 0)


def _doublings(graphs: MolGraphs) -> int:
    """Return k with no chain in a molecule longer than 2^k bonds."""
    return int(graphs.n_atoms.max()).bit_length() if len(graphs) else 0


@torch.inference_mode()
def graph_hash(about: Description, rounds: int = ROUNDS) -> torch.Tensor:
    """Hash molecules by their atoms and how these are bonded (Weisfeiler and Lehman), (B,) int64.

    An atom starts with its element, charge, isotope, hydrogens, number of bonds, of bonds in rings, and sum of bond
    orders, and takes up what its neighbours have ``rounds`` times. The order of atoms has no part in it. Nor has the
    order of a single bond: both Kekule forms of a ring give one hash, and outside rings the sums at the atoms tell
    where the double bonds are. Stereochemistry is left out, see ``MolGraphs.stereo``; a hydrogen that is an atom of its
    own is not the same as one that is not.

    Different hashes mean different molecules up to stereo (and up to ways of writing: hydrogens as atoms, charges that
    RDKit's clean-up moves, a ring bond over a ``.``). The same hash nearly always means the same molecule; not for
    graphs that look alike from every atom, for rings of 4n atoms that differ only by where their double bonds are, and
    for what lies more than ``rounds`` bonds apart. Of 714,902 molecules of MOSES and ZINC250k no two of different
    constitution share a hash.

    Args:
        about: of `describe`.
        rounds: times that atoms look at their neighbours.

    Returns:
        (B,) int64; rows without atoms have the same one.
    """
    graphs, tables = about.graphs, about.graphs.tables
    left, right = graphs.bonds
    degree = graphs.sum_bonds(torch.ones_like(left))
    ringed = graphs.sum_bonds(ring_bonds(graphs).long())
    label = graphs.per_atom(tables.number) | graphs.per_atom(tables.isotope) << 8 | about.hydrogens << 20
    label |= about.valence << 28 | degree << 36 | ringed << 44 | graphs.per_atom(tables.charge) + 32 << 52
    label = _mix(label)
    for _ in range(rounds):
        around = label * _THIRD
        around.index_add_(0, left, label.index_select(0, right))
        around.index_add_(0, right, label.index_select(0, left))
        label = _mix(around)
    return _mix(graphs.sum_atoms(label) + graphs.n_atoms)


@torch.inference_mode()
def token_hash(tokens: torch.Tensor, tables: GraphTables) -> torch.Tensor:
    """Hash rows of token ids (B, T) up to EOS, without what counts for nothing; equal rows only share one, (B,) int64.

    >>> tables = GraphTables.build(["<pad>", "<bos>", "<eos>", "<unk>", "[C]", "[O]"], {"?": 8})
    >>> first, second, third = token_hash(torch.tensor([[4, 5, 2, 5], [4, 3, 5, 0], [5, 4, 0, 0]]), tables).tolist()
    >>> first == second, first == third
    (True, False)
    """
    packed = pack(tokens, tables)
    place = torch.arange(len(packed), device=packed.device)[:, None]
    return _mix(torch.where(packed > 0, _mix(packed | place << 32), 0).sum(0))
