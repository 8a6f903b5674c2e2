"""Say what follows from molecular graphs: hydrogens, validity, formula, weight, rings and fragments.

In: `MolGraphs`. Out: `Description`, one entry a molecule, on the same device.

Validity is RDKit's: no atom has more bonds and hydrogens than `max_valence` allows. RDKit first rewrites N=O, N#N and
halogen oxo groups with charges (its clean-up), which `clean_up` imitates where the bond limits let such groups appear.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from molvae.nn.molgraph import MolGraphs
from molvae.nn.molgraph_rings import in_turn
from molvae.nn.molgraph_walk import look_up

_NITROGEN, _OXYGEN, _HALOGENS = 7, 8, (17, 35, 53, 85)


@dataclass(frozen=True)
class Description:
    """What is known about B molecules with N atoms in all.

    Attributes:
        graphs: the molecules.
        hydrogens: (N,) int64, explicit and implicit hydrogens of each atom; hydrogens that are atoms not counted.
        valence: (N,) int64, bond orders and hydrogens written with the atom, without implicit ones.
        valid: (B,) bool, at least one atom, and RDKit would accept every valence.
        n_bonds: (B,) int64.
        n_fragments: (B,) int64, connected parts.
        n_rings: (B,) int64, size of the smallest set of smallest rings: bonds - atoms + fragments. (RDKit's
            `GetRingInfo` lists more in cages such as cubane, where that set is not unique.)
        formula: (B, S) int64, atoms by column of ``graphs.tables.columns``, hydrogens included.
        weight: (B,) float64, g/mol, averages over isotopes unless the token names one.
    """

    graphs: MolGraphs
    hydrogens: torch.Tensor
    valence: torch.Tensor
    valid: torch.Tensor
    n_bonds: torch.Tensor
    n_fragments: torch.Tensor
    n_rings: torch.Tensor
    formula: torch.Tensor
    weight: torch.Tensor

    def formulas(self) -> list[str]:
        """Write formulas as RDKit does: C, H, then by letter; isotopes with their element, no charge."""
        counts: list[dict[str, int]] = [{} for _ in range(len(self.graphs))]
        for row, numbers in zip(counts, self.formula.tolist(), strict=True):
            for (symbol, _), number in zip(self.graphs.tables.columns, numbers, strict=True):
                if number:
                    row[symbol] = row.get(symbol, 0) + number
        return [_formula(row) for row in counts]


def _formula(counts: dict[str, int]) -> str:
    first = [symbol for symbol in ("C", "H") if symbol in counts]
    ordered = first + sorted(set(counts) - set(first))
    return "".join(symbol + (str(counts[symbol]) if counts[symbol] > 1 else "") for symbol in ordered)


@torch.inference_mode()
def describe(graphs: MolGraphs) -> Description:
    """Compute everything in `Description`.

    >>> from molvae.nn.molgraph import derive
    >>> from molvae.nn.molgraph_tables import GraphTables
    >>> names = ["<pad>", "<bos>", "<eos>", "<unk>", "[C]", "[=O]", "[Ring1]"]
    >>> tables = GraphTables.build(names, {"C": 4, "O": 2, "?": 8})
    >>> about = describe(derive(torch.tensor([[4, 4, 4, 6], [4, 5, 0, 0], [0, 0, 0, 0]]), tables))
    >>> about.formulas(), about.n_rings.tolist(), about.valid.tolist()
    (['C3H6', 'CH2O', ''], [0, 0, 0], [True, True, False])
    """
    tables, token = graphs.tables, graphs.token
    written = graphs.per_atom(tables.hydrogens)
    valence = graphs.sum_bonds(graphs.orders) + written
    ladder = tables.ladder.index_select(0, token)
    # The lowest valence that is high enough; hydrogens fill up to it.
    filled = torch.where(ladder >= valence[:, None], ladder, 1 << 20).amin(1) if len(token) else valence
    implied = torch.where(graphs.per_atom(tables.implicit) & (filled < 1 << 20), filled - valence, 0)
    hydrogens = written + implied
    n_bonds = torch.bincount(look_up(graphs.molecule, graphs.bonds[0]), minlength=len(graphs))
    n_atoms, n_fragments = graphs.n_atoms, count_fragments(graphs)
    formula = torch.bincount(
        graphs.molecule * len(tables.columns) + graphs.per_atom(tables.species),
        minlength=len(graphs) * len(tables.columns),
    ).view(len(graphs), len(tables.columns))
    formula[:, 0] += graphs.sum_atoms(hydrogens)
    return Description(
        graphs, hydrogens, valence, _valid(graphs, valence), n_bonds, n_fragments, n_bonds - n_atoms + n_fragments,
        formula, formula.double() @ tables.weights,
    )  # fmt: skip


def _valid(graphs: MolGraphs, valence: torch.Tensor) -> torch.Tensor:
    """Say which molecules have atoms and no valence RDKit would refuse, (B,) bool."""
    most = graphs.per_atom(graphs.tables.most)
    if graphs.tables.cleans:
        charge, valence = clean_up(graphs, valence)
        number = graphs.per_atom(graphs.tables.number)
        other = look_up(graphs.tables.recharged, number * 17 + charge.clamp(-8, 8) + 8)
        most = torch.where(charge == graphs.per_atom(graphs.tables.charge), most, other)
    return (graphs.count_atoms(valence > most) == 0) & (graphs.n_atoms > 0)


def count_fragments(graphs: MolGraphs) -> torch.Tensor:
    """Count connected parts, (B,) int64; ring bonds may join what ``.`` parts."""
    label = torch.arange(int(graphs.root.sum()), device=graphs.root.device)
    fragment = graphs.root.long().cumsum(0) - 1
    ends = look_up(fragment, graphs.bonds)
    joins = ends[:, (ends[0] != ends[1]).nonzero().squeeze(1)]
    while joins.numel():
        low = look_up(label, joins).amin(0)
        lower = label.scatter_reduce(0, joins[0], low, "amin").scatter_reduce(0, joins[1], low, "amin")
        lower = look_up(lower, lower)
        if torch.equal(lower, label):
            break
        label = lower
    molecule = graphs.molecule[graphs.root]
    kept = label == torch.arange(len(label), device=label.device)
    return label.new_zeros(len(graphs)).index_add_(0, molecule, kept.long())


def clean_up(graphs: MolGraphs, valence: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return charge and valence of every atom (N,) as they are after RDKit's clean-up. Nothing else follows it:
    hydrogens, formula and hash are those of the molecule as written.

    A neutral N with valence 5 hands one bond to a neutral =O or #N beside it: N=O becomes [N+][O-]. A neutral halogen
    with valence 3, 5 or 7 and oxygen around it only does so with every =O. Nitrogens change one after the other in the
    order of atoms, as in RDKit. Its clean-up of P=O is left out: it changes no verdict.

    Source: ``MolOps::cleanUp`` of RDKit 2026.9.
    """
    number = graphs.per_atom(graphs.tables.number)
    charge, valence, orders = graphs.per_atom(graphs.tables.charge), valence.clone(), graphs.orders.clone()
    center = torch.cat([graphs.bonds[0], graphs.bonds[1]])
    other = torch.cat([graphs.bonds[1], graphs.bonds[0]])
    bond = torch.arange(graphs.bonds.shape[1], device=center.device).repeat(2)

    halogen = torch.isin(number, torch.tensor(_HALOGENS, device=number.device)) & (charge == 0)
    halogen &= (valence > 1) & (valence < 8) & (valence % 2 == 1)
    odd = (look_up(number, other) != _OXYGEN).long()
    halogen &= torch.zeros_like(charge).index_add_(0, center, odd) == 0
    chosen = (look_up(halogen, center) & (look_up(orders, bond) == 2)).nonzero().squeeze(1)
    changed = look_up(other, chosen)
    charge.index_fill_(0, changed, -1)
    for atoms in (changed, look_up(center, chosen)):
        valence.index_add_(0, atoms, torch.ones_like(atoms), alpha=-1)
    charge.index_add_(0, look_up(center, chosen), torch.ones_like(chosen))
    orders.index_fill_(0, look_up(bond, chosen), 1)

    nitrogens = ((number == _NITROGEN) & (charge == 0) & (valence == 5)).nonzero().squeeze(1)
    place = torch.zeros_like(number).index_fill_(0, nitrogens, 1)
    near = (look_up(place, center) > 0).nonzero().squeeze(1)
    center, other, bond = look_up(center, near), look_up(other, near), look_up(bond, near)
    for turn in in_turn(look_up(graphs.molecule, nitrogens)):
        _share(look_up(nitrogens, turn), (center, other, bond), number, charge, valence, orders)
    return charge, valence


def _share(
    atoms: torch.Tensor,
    near: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    number: torch.Tensor,
    charge: torch.Tensor,
    valence: torch.Tensor,
    orders: torch.Tensor,
) -> None:
    """Let each of ``atoms``, one a molecule, hand over one bond, in place; the first that can be handed over."""
    center, other, bond = near
    now = torch.zeros_like(number, dtype=torch.bool).index_fill_(0, atoms, True)
    kind, order = look_up(number, other), look_up(orders, bond)
    fits = ((kind == _OXYGEN) & (order == 2)) | ((kind == _NITROGEN) & (order == 3))
    fits &= look_up(now, center) & (look_up(charge, other) == 0) & (look_up(charge, center) == 0)
    fits &= look_up(valence, center) == 5
    none = len(orders)
    first = torch.full_like(number, none).scatter_reduce_(0, center, torch.where(fits, bond, none), "amin")
    chosen = (fits & (look_up(first, center) == bond)).nonzero().squeeze(1)
    giver, taker = look_up(center, chosen), look_up(other, chosen)
    one = torch.ones_like(giver)
    charge.index_add_(0, giver, one).index_add_(0, taker, one, alpha=-1)
    valence.index_add_(0, giver, one, alpha=-1).index_add_(0, taker, one, alpha=-1)
    orders.index_add_(0, look_up(bond, chosen), one, alpha=-1)
