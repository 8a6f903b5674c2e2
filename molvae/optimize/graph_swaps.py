"""Make a molecule from another by what chemists swap: a branch for a common group, one ring for an aromatic one.

In: sanitised RDKit molecules and a generator. Out: SMILES that RDKit accepts, "" where the edit makes no molecule.

Each is many steps of `molvae.optimize.graph_moves`, whose halfway molecules are worse than both ends and die out.
"""

from __future__ import annotations

from collections.abc import Callable

from rdkit import Chem

from molvae.optimize.graph_moves import DOUBLE, GROUPS, SINGLE, STEPS, Chance, Draft, cut, draft, drop, edit_with, pick

_NEITHER = Chem.ChiralType.CHI_UNSPECIFIED


def swap_branch(work: Draft, chance: Chance) -> bool:
    """Cut a bond, drop the smaller side, and put one of `GROUPS` there."""
    parts = cut(work, chance)
    if parts is None:
        return False
    left, right, side, other = parts
    if len(side) < len(other):
        left, side, other = right, other, side
    size = work.graph.GetNumAtoms()
    work.graph.InsertMol(draft(Chem.MolFromSmiles(GROUPS[int(chance.integers(len(GROUPS)))])).graph)
    work.graph.AddBond(left, size, SINGLE)
    drop(work.graph, other)
    return True


def _outside(graph: Chem.RWMol, index: int, ring: set[int]) -> int:
    """Return how many bonds of an atom go to others than those of a ring."""
    bonds = graph.GetAtomWithIdx(index).GetBonds()
    return sum(STEPS.get(bond.GetBondType(), 9) for bond in bonds if bond.GetOtherAtomIdx(index) not in ring)


def _rings(work: Draft, doubles: Callable[[int, int], bool]) -> list[tuple[int, ...]]:
    """Return the rings of five or six atoms whose size and number of double bonds are as asked."""
    graph = work.graph
    Chem.GetSymmSSSR(graph)
    found = []
    for atoms, bonds in zip(graph.GetRingInfo().AtomRings(), graph.GetRingInfo().BondRings(), strict=True):
        count = sum(graph.GetBondWithIdx(bond).GetBondType() == DOUBLE for bond in bonds)
        if len(atoms) in (5, 6) and doubles(len(atoms), count):
            found.append(atoms)
    return found


def _become(graph: Chem.RWMol, index: int, symbol: str) -> None:
    if graph.GetAtomWithIdx(index).GetSymbol() != symbol:
        graph.ReplaceAtom(index, Chem.Atom(symbol))
    atom = graph.GetAtomWithIdx(index)
    atom.SetFormalCharge(0)
    atom.SetChiralTag(_NEITHER)


def make_aromatic(work: Draft, chance: Chance) -> bool:
    """Make a ring of five or six atoms aromatic; nitrogen or oxygen that cannot stay becomes what can.

    A ring of five needs an atom that gives two electrons: its oxygen, its sulfur, or a nitrogen. An atom with two
    neighbours outside the ring, or a double bond there, has no place in such a ring.
    """
    rings = _rings(work, lambda size, count: count < size // 2)
    if not rings:
        return False
    graph, atoms = work.graph, list(rings[int(chance.integers(len(rings)))])
    turn = int(chance.integers(len(atoms)))
    atoms = atoms[turn:] + atoms[:turn]
    used = [_outside(graph, index, set(atoms)) for index in atoms]
    if max(used) > 1:
        return False
    others = 0
    if len(atoms) == 5:
        # The first atom of the turned ring, unless another one gives electrons already.
        others = 1
        hetero = [place for place, index in enumerate(atoms) if graph.GetAtomWithIdx(index).GetSymbol() != "C"]
        giver = pick(hetero, chance) if hetero else 0
        atoms, used = atoms[giver:] + atoms[:giver], used[giver:] + used[:giver]
        symbol = graph.GetAtomWithIdx(atoms[0]).GetSymbol()
        _become(graph, atoms[0], symbol if symbol in ("O", "S") and not used[0] else "N")
    for index, outside in zip(atoms[others:], used[others:], strict=True):
        symbol = graph.GetAtomWithIdx(index).GetSymbol()
        _become(graph, index, "C" if outside or symbol == "C" else "N")
    for place, index in enumerate(atoms):
        bond = graph.GetBondBetweenAtoms(index, atoms[(place + 1) % len(atoms)])
        bond.SetBondType(DOUBLE if place % 2 else SINGLE)
    return True


def make_saturated(work: Draft, chance: Chance) -> bool:
    """Make every double bond inside an aromatic ring of five or six atoms a single one."""
    rings = _rings(work, lambda size, count: count >= size // 2)
    if not rings:
        return False
    atoms = rings[int(chance.integers(len(rings)))]
    for place, index in enumerate(atoms):
        bond = work.graph.GetBondBetweenAtoms(index, atoms[(place + 1) % len(atoms)])
        bond.SetBondType(SINGLE)
    return True


SWAPS: dict[Callable[[Draft, Chance], bool], float] = {swap_branch: 2.0, make_aromatic: 1.0, make_saturated: 0.5}
"""Edit to how often it is tried."""


def swap(mol: Chem.Mol, chance: Chance) -> str:
    """Return a molecule one swap away as SMILES, "" when a few tries gave none.

    >>> import numpy as np
    >>> swap(Chem.MolFromSmiles("CCO"), np.random.default_rng(0)) not in ("", "CCO")
    True
    """
    return edit_with(SWAPS, mol, chance)
