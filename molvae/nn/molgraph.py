"""Derive molecular graphs from token ids on the device they are on, without RDKit or selfies.

In: token ids (B, T) and `GraphTables`. Out: `MolGraphs`, the atoms and bonds of B molecules as flat tensors.

The graphs are those that ``selfies.decoder`` writes as SMILES, atom for atom in the same order and bond for bond, with
double bonds in place (no aromaticity). What follows from a graph is in `molgraph_valence` (hydrogens, validity,
formula, weight, rings, fragments) and `molgraph_hash` (duplicates).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from molvae.nn.molgraph_rings import close_rings
from molvae.nn.molgraph_tables import ATOM, BROKEN, ORDER_SHIFT, RING, GraphTables
from molvae.nn.molgraph_walk import Walk, look_up, pack, walk


@dataclass(frozen=True)
class MolGraphs:
    """B molecules with N atoms and M bonds in all; atoms of a molecule stand together, in the order of its SMILES.

    Attributes:
        tables: what they were derived with.
        offsets: (B + 1,) int64; molecule i has the atoms ``offsets[i]`` to ``offsets[i + 1] - 1``.
        molecule: (N,) int64, which molecule an atom is in.
        token: (N,) int64, the token that made the atom; look its element and charge up in ``tables``.
        bonds: (2, M) int64, the two atoms of each bond, first the earlier one; chain bonds first, then ring bonds.
        orders: (M,) int64, 1 to 3.
        root: (N,) bool, first atoms of fragments as written, ``.`` between them; ring bonds may join them again.
        stereo: (B,) bool, an atom, bond or ring that was made says something about stereochemistry.
        broken: (B,) bool, a token that selfies refuses was reached; such a molecule has no atoms.
    """

    tables: GraphTables
    offsets: torch.Tensor
    molecule: torch.Tensor
    token: torch.Tensor
    bonds: torch.Tensor
    orders: torch.Tensor
    root: torch.Tensor
    stereo: torch.Tensor
    broken: torch.Tensor

    def __len__(self) -> int:
        return len(self.broken)

    @property
    def n_atoms(self) -> torch.Tensor:
        """Atoms written, (B,) int64; hydrogens only where they are atoms of their own."""
        return self.offsets.diff()

    def per_atom(self, table: torch.Tensor) -> torch.Tensor:
        """Look a column of the tables up for every atom, (N,)."""
        return look_up(table, self.token)

    def sum_bonds(self, values: torch.Tensor) -> torch.Tensor:
        """Add ``values`` (M,) of bonds up at both their atoms, (N,)."""
        total = values.new_zeros(len(self.token))
        return total.index_add_(0, self.bonds[0], values).index_add_(0, self.bonds[1], values)

    def sum_atoms(self, values: torch.Tensor) -> torch.Tensor:
        """Add ``values`` (N,) of atoms up in their molecules, (B,)."""
        return values.new_zeros(len(self)).index_add_(0, self.molecule, values)

    def count_atoms(self, flags: torch.Tensor) -> torch.Tensor:
        """Count the atoms of each molecule that have the flag (N,) bool, (B,) int64."""
        return self.sum_atoms(flags.long())


@torch.inference_mode()
def derive(tokens: torch.Tensor, tables: GraphTables) -> MolGraphs:
    """Derive the graphs of a batch: what ``selfies.decoder`` makes of it, on CPU and GPU alike.

    PAD, BOS, UNK and ``[nop]`` count for nothing, EOS ends a row. ``.`` between fragments, branches that reach beyond
    the one they stand in, index symbols cut off by the end, rings that raise the order of a bond, rings from an atom to
    itself and full atoms are treated as selfies treats them. What is done at a step does not depend on the
    data; the device is asked for numbers ten times a batch (lengths, atoms, rings), never once per step.

    Args:
        tokens: (B, T) integers; B or T may be 0.
        tables: of the vocabulary the ids are of.

    >>> names = ["<pad>", "<bos>", "<eos>", "<unk>", "[C]", "[=O]", "[Ring1]"]
    >>> tables = GraphTables.build(names, {"C": 4, "O": 2, "?": 8})
    >>> graphs = derive(torch.tensor([[4, 5, 2, 0], [4, 4, 4, 6], [2, 0, 0, 0]]), tables)
    >>> graphs.n_atoms.tolist(), graphs.bonds.T.tolist(), graphs.orders.tolist()
    ([2, 3, 0], [[0, 1], [2, 3], [3, 4]], [2, 1, 2])
    """
    steps = walk(pack(tokens, tables), tables)
    count = tokens.shape[0]
    broken = ((steps.actions & BROKEN) > 0).any(0)
    made = ((steps.actions & ATOM) > 0) & ~broken
    molecule, place = _positions(made)
    offsets = torch.cat([place.new_zeros(1), made.sum(0).cumsum(0)])
    atom_at = steps.tokens.new_zeros(steps.tokens.numel())
    atoms = torch.arange(len(place), device=place.device)
    atom_at[place] = atoms
    order = steps.actions.view(-1).index_select(0, place) >> ORDER_SHIFT & 3
    token = steps.tokens.view(-1).index_select(0, place)
    parent = look_up(atom_at, steps.previous.view(-1).index_select(0, place))
    parent = torch.where(order > 0, parent, -1)
    stereo_atom = look_up(tables.stereo, token)

    rings = _Rings.of(steps, atom_at, offsets, broken)
    capacity = look_up(tables.capacity, token)
    bonds, orders, closed = close_rings(capacity, parent, order, rings.molecule, rings.ends, rings.order)
    stereo = atoms.new_zeros(count).index_add_(0, molecule, stereo_atom.long())
    stereo.index_add_(0, rings.molecule, (closed & look_up(tables.stereo, rings.token)).long())
    return MolGraphs(tables, offsets, molecule, token, bonds, orders, parent < 0, stereo > 0, broken)


def _positions(flags: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return row and ``position * B + row`` of every flag (T, B) that is set, row after row."""
    steps, count = flags.shape
    found = flags.T.reshape(-1).nonzero().squeeze(1)
    row = torch.div(found, max(steps, 1), rounding_mode="floor")
    return row, (found - row * steps) * count + row


@dataclass(frozen=True)
class _Rings:
    """Ring tokens in the order written, row after row; R of them.

    Attributes:
        molecule: (R,) int64.
        ends: (2, R) int64 atoms, the earlier one first.
        order: (R,) int64, wanted bond order.
        token: (R,) int64.
    """

    molecule: torch.Tensor
    ends: torch.Tensor
    order: torch.Tensor
    token: torch.Tensor

    @classmethod
    def of(cls, steps: Walk, atom_at: torch.Tensor, offsets: torch.Tensor, broken: torch.Tensor) -> _Rings:
        """Find the rings; a ring that reaches before the first atom of its molecule goes to that atom."""
        molecule, place = _positions(((steps.actions & RING) > 0) & ~broken)
        right = look_up(atom_at, steps.previous.view(-1).index_select(0, place))
        back = steps.reach.view(-1).index_select(0, place)
        left = torch.maximum(right - back - 1, look_up(offsets, molecule))
        order = steps.actions.view(-1).index_select(0, place) >> ORDER_SHIFT & 3
        return cls(molecule, torch.stack([left, right]), order, steps.tokens.view(-1).index_select(0, place))
