"""Make a molecule from one or two others by editing graphs: cut and join, add, remove, exchange, close rings.

In: sanitised RDKit molecules and a generator. Out: SMILES that RDKit accepts, "" where the edit makes no molecule.

Edits are done on the Kekule form. Stereochemistry away from an edit stays; hydrogen and radicals on organic atoms are
set anew by valence. The idea of such moves for search: Jensen 2019, doi 10.1039/C8SC05372C; these are our own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from rdkit import Chem

Chance = np.random.Generator

ELEMENTS = {"C": 10.0, "N": 6.0, "O": 6.0, "F": 2.0, "S": 2.0, "Cl": 2.0, "Br": 0.7, "P": 0.3, "I": 0.2}
"""Element to how often it is chosen."""

BONDS_OF = {"C": 4, "N": 3, "O": 2, "F": 1, "S": 2, "Cl": 1, "Br": 1, "P": 3, "I": 1}
GROUPS = (
    "C", "CC", "C(C)C", "C(C)(C)C", "C(F)(F)F", "C=O", "C#N", "C(=O)O", "C(=O)N", "C(=O)OC", "C(C)=O", "O", "OC", "OCC",
    "N", "NC", "N(C)C", "NC(C)=O", "S(C)(=O)=O", "S(N)(=O)=O", "c1ccccc1", "c1ccncc1", "C1CCCCC1", "N1CCCCC1",
    "N1CCOCC1", "N1CCNCC1", "C1CC1", "c1ccoc1", "c1ccsc1", "c1cn[nH]c1",
)  # fmt: skip
"""Pieces put on an atom, by their first atom."""

REMEMBERED = 2000
"""Parents whose Kekule form is kept: the best ones are cut open thousands of times."""

RING_SIZES = {3: 0.3, 4: 0.2, 5: 3.0, 6: 4.0, 7: 0.5}
TRIES = 6
SINGLE, DOUBLE, TRIPLE = Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE
STEPS = {SINGLE: 1, DOUBLE: 2, TRIPLE: 3}
_KINDS = {1: SINGLE, 2: DOUBLE, 3: TRIPLE}


@dataclass
class Draft:
    """A molecule under the knife: its Kekule form, the hydrogens of each atom, single bonds outside rings.

    Edits change ``graph`` alone; the rest is as it was before the first one.
    """

    graph: Chem.RWMol
    hydrogens: tuple[int, ...]
    cuts: tuple[int, ...]

    def open_atoms(self, least: int = 1) -> list[int]:
        """Return atoms that can take ``least`` bonds more."""
        return [index for index, count in enumerate(self.hydrogens) if count >= least]


@lru_cache(maxsize=REMEMBERED)
def _kekulized(mol: Chem.Mol) -> Draft:
    hydrogens = tuple(atom.GetTotalNumHs() for atom in mol.GetAtoms())
    graph = Chem.RWMol(mol)
    Chem.Kekulize(graph, clearAromaticFlags=True)
    for atom in graph.GetAtoms():
        # An [nH] or a [C@H] would otherwise keep its hydrogen when the edit needs the place.
        atom.SetNoImplicit(False)
        atom.SetNumExplicitHs(0)
        atom.SetNumRadicalElectrons(0)
    cuts = (bond.GetIdx() for bond in graph.GetBonds() if bond.GetBondType() == SINGLE and not bond.IsInRing())
    return Draft(graph, hydrogens, tuple(cuts))


def draft(mol: Chem.Mol) -> Draft:
    """Return an editable copy of a sanitised molecule, which must not be changed afterwards: its form is remembered."""
    kept = _kekulized(mol)
    return Draft(Chem.RWMol(kept.graph), kept.hydrogens, kept.cuts)


@lru_cache(maxsize=REMEMBERED)
def _written(mol: Chem.Mol) -> str:
    return str(Chem.MolToSmiles(mol))


def finish(graph: Chem.RWMol) -> str:
    """Return the SMILES of an edited graph, "" when it is no molecule or fell apart.

    >>> finish(Chem.RWMol(Chem.MolFromSmiles("OCC")))
    'CCO'
    """
    if Chem.SanitizeMol(graph, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        return ""
    smiles = str(Chem.MolToSmiles(graph))
    return "" if "." in smiles else smiles


def pick(options: Sequence[int], chance: Chance) -> int:
    return options[int(chance.integers(len(options)))]


def _element(chance: Chance, least_bonds: int = 1) -> str:
    names = [name for name in ELEMENTS if BONDS_OF[name] >= least_bonds]
    weights = np.array([ELEMENTS[name] for name in names])
    return names[int(chance.choice(len(names), p=weights / weights.sum()))]


def _used(graph: Chem.RWMol, index: int) -> int:
    """Return how many bonds an atom of a Kekule form uses."""
    return sum(STEPS.get(bond.GetBondType(), 9) for bond in graph.GetAtomWithIdx(index).GetBonds())


def add_atom(work: Draft, chance: Chance) -> bool:
    """Put an atom on another, by a double bond now and then."""
    sites = work.open_atoms()
    if not sites:
        return False
    site = pick(sites, chance)
    double = work.hydrogens[site] > 1 and chance.random() < 0.2
    new = work.graph.AddAtom(Chem.Atom(_element(chance, 2 if double else 1)))
    work.graph.AddBond(site, new, DOUBLE if double else SINGLE)
    return True


def add_group(work: Draft, chance: Chance) -> bool:
    """Put one of `GROUPS` on an atom."""
    sites = work.open_atoms()
    if not sites:
        return False
    group = draft(Chem.MolFromSmiles(GROUPS[int(chance.integers(len(GROUPS)))])).graph
    site, size = pick(sites, chance), work.graph.GetNumAtoms()
    work.graph.InsertMol(group)
    work.graph.AddBond(site, size, SINGLE)
    return True


def insert_atom(work: Draft, chance: Chance) -> bool:
    """Put an atom into a single bond; in a ring this makes the ring larger."""
    bonds = [bond.GetIdx() for bond in work.graph.GetBonds() if bond.GetBondType() == SINGLE]
    if not bonds:
        return False
    bond = work.graph.GetBondWithIdx(pick(bonds, chance))
    left, right = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
    work.graph.RemoveBond(left, right)
    new = work.graph.AddAtom(Chem.Atom(_element(chance, 2)))
    work.graph.AddBond(left, new, SINGLE)
    work.graph.AddBond(new, right, SINGLE)
    return True


def remove_atom(work: Draft, chance: Chance) -> bool:
    """Take out an atom at an end, or one between two others, which are then joined."""
    atoms = [atom.GetIdx() for atom in work.graph.GetAtoms() if atom.GetDegree() in (1, 2)]
    if not atoms or work.graph.GetNumAtoms() < 3:
        return False
    index = pick(atoms, chance)
    near = [atom.GetIdx() for atom in work.graph.GetAtomWithIdx(index).GetNeighbors()]
    if len(near) == 2:
        if work.graph.GetBondBetweenAtoms(*near) is not None:
            return False
        work.graph.AddBond(near[0], near[1], SINGLE)
    work.graph.RemoveAtom(index)
    return True


def change_element(work: Draft, chance: Chance) -> bool:
    """Turn an uncharged atom into another element that can hold its bonds."""
    atoms = [atom.GetIdx() for atom in work.graph.GetAtoms() if atom.GetFormalCharge() == 0]
    index = pick(atoms, chance) if atoms else -1
    if index < 0 or _used(work.graph, index) > 4:
        return False
    atom = work.graph.GetAtomWithIdx(index)
    new = _element(chance, max(_used(work.graph, index), 1))
    if new == atom.GetSymbol():
        return False
    work.graph.ReplaceAtom(index, Chem.Atom(new))
    return True


def exchange_atoms(work: Draft, chance: Chance) -> bool:
    """Let two atoms of different elements change places, such as a nitrogen and a carbon of a ring."""
    hetero = [atom.GetIdx() for atom in work.graph.GetAtoms() if atom.GetSymbol() != "C" and not atom.GetFormalCharge()]
    if not hetero:
        return False
    one = pick(hetero, chance)
    symbol = work.graph.GetAtomWithIdx(one).GetSymbol()
    fitting = [
        atom.GetIdx() for atom in work.graph.GetAtoms()
        if atom.GetSymbol() != symbol and not atom.GetFormalCharge()
        and _used(work.graph, atom.GetIdx()) <= BONDS_OF.get(symbol, 0)
        and _used(work.graph, one) <= BONDS_OF.get(atom.GetSymbol(), 0)
    ]  # fmt: skip
    if not fitting:
        return False
    other = pick(fitting, chance)
    partner = work.graph.GetAtomWithIdx(other).GetSymbol()
    work.graph.ReplaceAtom(one, Chem.Atom(partner))
    work.graph.ReplaceAtom(other, Chem.Atom(symbol))
    return True


def change_bond(work: Draft, chance: Chance) -> bool:
    """Make a bond one step stronger where both atoms have hydrogen to give, or one step weaker."""
    choices = []
    for bond in work.graph.GetBonds():
        steps = STEPS.get(bond.GetBondType(), 0)
        free = min(work.hydrogens[bond.GetBeginAtomIdx()], work.hydrogens[bond.GetEndAtomIdx()])
        choices += [(bond.GetIdx(), steps + 1)] if steps and steps < 3 and free else []
        choices += [(bond.GetIdx(), steps - 1)] if steps > 1 else []
    if not choices:
        return False
    index, steps = choices[int(chance.integers(len(choices)))]
    work.graph.GetBondWithIdx(index).SetBondType(_KINDS[steps])
    return True


def close_ring(work: Draft, chance: Chance) -> bool:
    """Join two atoms with hydrogen to a ring, of five or six atoms mostly."""
    sites = work.open_atoms()
    if len(sites) < 2:
        return False
    first = pick(sites, chance)
    distances = Chem.GetDistanceMatrix(work.graph)[first]
    others = [site for site in sites if int(distances[site]) + 1 in RING_SIZES]
    if not others:
        return False
    weights = np.array([RING_SIZES[int(distances[site]) + 1] for site in others])
    work.graph.AddBond(first, others[int(chance.choice(len(others), p=weights / weights.sum()))], SINGLE)
    return True


def open_ring(work: Draft, chance: Chance) -> bool:
    """Cut a single bond of a ring."""
    bonds = [bond.GetIdx() for bond in work.graph.GetBonds() if bond.IsInRing() and bond.GetBondType() == SINGLE]
    if not bonds:
        return False
    bond = work.graph.GetBondWithIdx(pick(bonds, chance))
    work.graph.RemoveBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
    return True


def cut(work: Draft, chance: Chance) -> tuple[int, int, list[int], list[int]] | None:
    """Cut a bond outside rings; return its two atoms and the atoms of either side, one side at random first."""
    if not work.cuts:
        return None
    graph = work.graph
    bond = graph.GetBondWithIdx(pick(work.cuts, chance))
    ends = [bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]
    if chance.random() < 0.5:
        ends.reverse()
    graph.RemoveBond(*ends)
    sides = [list(side) for side in Chem.GetMolFrags(graph)]
    found = [next((side for side in sides if end in side), []) for end in ends]
    return ends[0], ends[1], found[0], found[1]


def drop(graph: Chem.RWMol, atoms: list[int]) -> None:
    for index in sorted(atoms, reverse=True):
        graph.RemoveAtom(index)


def move_branch(work: Draft, chance: Chance) -> bool:
    """Take the smaller side of a bond and put it on another atom."""
    parts = cut(work, chance)
    if parts is None:
        return False
    left, right, side, other = parts
    if len(side) < len(other):
        left, right, side, other = right, left, other, side
    sites = [site for site in side if work.hydrogens[site] and site != left]
    if not sites:
        return False
    work.graph.AddBond(pick(sites, chance), right, SINGLE)
    return True


def remove_branch(work: Draft, chance: Chance) -> bool:
    """Cut a bond and drop the smaller side."""
    parts = cut(work, chance)
    if parts is None:
        return False
    drop(work.graph, min(parts[2], parts[3], key=len))
    return True


Edit = Callable[[Draft, Chance], bool]
"""Changes the graph of a draft; says whether it found something to change."""

MOVES: dict[Edit, float] = {
    add_atom: 1.5, add_group: 1.0, insert_atom: 1.0, remove_atom: 1.5, change_element: 2.0, exchange_atoms: 1.0,
    change_bond: 1.0, close_ring: 1.0, open_ring: 0.5, move_branch: 1.5, remove_branch: 0.7,
}  # fmt: skip
"""Edit to how often it is tried."""


def mutate(mol: Chem.Mol, chance: Chance) -> str:
    """Return a molecule one random edit away as SMILES, "" when `TRIES` edits gave none.

    >>> mutate(Chem.MolFromSmiles("CCO"), np.random.default_rng(0)) not in ("", "CCO")
    True
    """
    return edit_with(MOVES, mol, chance)


def edit_with(edits: Mapping[Edit, float], mol: Chem.Mol, chance: Chance) -> str:
    """Return the SMILES after one of ``edits``, drawn by its weight, "" when `TRIES` gave no other molecule."""
    before = _written(mol)
    weights = np.array(list(edits.values()))
    moves = list(edits)
    for _ in range(TRIES):
        work = draft(mol)
        if not moves[int(chance.choice(len(moves), p=weights / weights.sum()))](work, chance):
            continue
        smiles = finish(work.graph)
        if smiles and smiles != before:
            return smiles
    return ""


def cross(first: Chem.Mol, second: Chem.Mol, chance: Chance, most_atoms: int = 70) -> str:
    """Return a piece of ``first`` joined to a piece of ``second``, "" when `TRIES` cuts gave no molecule.

    Each is cut at a single bond outside rings; one in four times the piece of ``second`` is put on an atom of the whole
    ``first`` instead.
    """
    for _ in range(TRIES):
        parts = cut(draft(second), chance)
        if parts is None:
            return ""
        left, right = draft(first), draft(second).graph
        graft = chance.random() < 0.25
        mine = None if graft else cut(left, chance)
        sites = left.open_atoms()
        if (graft and not sites) or not (graft or mine):
            continue
        size = left.graph.GetNumAtoms()
        site, dropped = (pick(sites, chance), []) if mine is None else (mine[0], mine[3])
        left.graph.InsertMol(right)
        left.graph.RemoveBond(size + parts[0], size + parts[1])
        left.graph.AddBond(site, size + parts[0], SINGLE)
        drop(left.graph, dropped + [size + index for index in parts[3]])
        if left.graph.GetNumAtoms() <= most_atoms:
            smiles = finish(left.graph)
            if smiles:
                return smiles
    return ""
