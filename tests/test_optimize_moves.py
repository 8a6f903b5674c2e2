"""Moves make molecules of molecules, and the same ones from the same seed."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from rdkit import Chem

from molvae.chem.rejected import Rejected
from molvae.chem.standardize import standardize
from molvae.optimize import graph_moves, string_moves
from molvae.optimize.graph_moves import MOVES, cross, draft, finish, mutate
from molvae.optimize.graph_swaps import SWAPS, make_aromatic, make_saturated, swap, swap_branch

SMILES = (
    "CC(=O)Nc1ccc(O)cc1", "Cc1ccc(S(=O)(=O)NC2CCN(C)CC2)cc1", "C[C@H](N)C(=O)O", "c1ccc2[nH]ccc2c1", "C1CCCCC1",
    "O=[N+]([O-])c1ccccc1F", "C[NH+]1CCC(OC(=O)C#N)CC1", "CCO",
)  # fmt: skip
MOLS = [Chem.MolFromSmiles(smiles) for smiles in SMILES]


def is_molecule(smiles: str) -> bool:
    return not isinstance(standardize(smiles), Rejected) and "." not in smiles


def test_mutations_are_other_molecules_near_by() -> None:
    chance = np.random.default_rng(0)
    for mol in MOLS:
        before, made = Chem.MolToSmiles(mol), {mutate(mol, chance) for _ in range(40)} - {""}
        assert len(made) > 10
        assert before not in made
        for one in made:
            assert is_molecule(one), one
            assert abs(Chem.MolFromSmiles(one).GetNumAtoms() - mol.GetNumAtoms()) <= 8


def test_what_is_remembered_of_a_parent_is_not_touched_by_edits() -> None:
    for mol in MOLS:
        before = Chem.MolToSmiles(mol)
        fresh = [mutate(Chem.Mol(mol), np.random.default_rng(seed)) for seed in range(20)]
        for edit in MOVES:
            edit(draft(mol), np.random.default_rng(3))
        assert [mutate(mol, np.random.default_rng(seed)) for seed in range(20)] == fresh
        assert finish(draft(mol).graph) == Chem.MolToSmiles(mol) == before


RINGS = {
    "CC1CCCCC1": "Cc1ccccc1", "CC1CCOCC1": "Cc1ccncc1", "CC1CCC[NH2+]C1": "Cc1cccnc1", "OC1CCOC1": "Oc1ccoc1",
    "CN1CCCC1": "Cn1cccc1", "CN1CCN(C)CC1": "Cc1ccc(C)cc1",
}  # fmt: skip
"""A saturated ring and the aromatic one it becomes: two electrons come from the atom that has them, an atom with a
substituent is carbon, another one that is not carbon is nitrogen."""


@pytest.mark.parametrize(("ring", "aromatic"), RINGS.items())
def test_a_saturated_ring_becomes_aromatic(ring: str, aromatic: str) -> None:
    made = set()
    for seed in range(20):
        work = draft(Chem.MolFromSmiles(ring))
        assert make_aromatic(work, np.random.default_rng(seed))
        made.add(finish(work.graph))
    assert made == {Chem.CanonSmiles(aromatic)}


@pytest.mark.parametrize("ring", ["CC1(C)CCCCC1", "O=C1CCCO1", "C1CC1", "c1ccccc1", "C1CCC2(C1)CCCC2", "CCO"])
def test_a_ring_that_cannot_be_aromatic_is_left_alone(ring: str) -> None:
    for seed in range(10):
        work = draft(Chem.MolFromSmiles(ring))
        before = finish(Chem.RWMol(work.graph))
        assert not make_aromatic(work, np.random.default_rng(seed))
        assert finish(work.graph) == before


def test_an_aromatic_ring_becomes_saturated_and_its_substituents_stay() -> None:
    work = draft(Chem.MolFromSmiles("Cc1ccc(C(=O)O)nc1"))
    assert make_saturated(work, np.random.default_rng(0))
    assert finish(work.graph) == Chem.CanonSmiles("CC1CCC(C(=O)O)NC1")


def test_a_swapped_branch_leaves_the_larger_side_and_brings_a_common_group() -> None:
    chance, made = np.random.default_rng(0), set()
    for _ in range(300):
        work = draft(Chem.MolFromSmiles("Clc1ccc2ccccc2c1"))
        assert swap_branch(work, chance)
        made.add(finish(work.graph))
    assert len(made) == len(graph_moves.GROUPS)
    naphthalene = Chem.MolFromSmiles("c1ccc2ccccc2c1")
    assert all(Chem.MolFromSmiles(one).HasSubstructMatch(naphthalene) for one in made)
    assert not any("Cl" in one for one in made)


def test_swaps_are_molecules_and_leave_their_parent_as_it_was() -> None:
    for mol in MOLS:
        before = Chem.MolToSmiles(mol)
        made = [swap(mol, np.random.default_rng(seed)) for seed in range(30)]
        assert made == [swap(Chem.Mol(mol), np.random.default_rng(seed)) for seed in range(30)]
        assert all(is_molecule(one) for one in made if one)
        assert before not in made
        for edit in SWAPS:
            edit(draft(mol), np.random.default_rng(3))
        assert finish(draft(mol).graph) == Chem.MolToSmiles(mol) == before


def test_children_hold_atoms_of_both_parents() -> None:
    chance = np.random.default_rng(1)
    first, second = Chem.MolFromSmiles("ClCCCCl"), Chem.MolFromSmiles("BrCCCBr")
    made = [cross(first, second, chance) for _ in range(60)]
    assert all(made)
    assert all(map(is_molecule, made))
    assert sum("Cl" in one and "Br" in one for one in made) > 20


def test_a_child_is_never_larger_than_allowed() -> None:
    chance = np.random.default_rng(1)
    made = [cross(MOLS[1], MOLS[0], chance, most_atoms=12) for _ in range(30)]
    assert any(made)
    assert max(Chem.MolFromSmiles(one).GetNumAtoms() for one in made if one) <= 12


def test_a_ring_alone_cannot_be_cut_but_can_be_put_on() -> None:
    chance = np.random.default_rng(1)
    ring, chain = MOLS[4], MOLS[7]
    assert cross(chain, ring, chance) == ""
    assert "" in {cross(ring, chain, chance) for _ in range(10)} | {""}
    assert any("C1CCCCC1" in cross(ring, chain, chance) for _ in range(20))


@pytest.mark.parametrize("move", MOVES)
def test_every_edit_works_somewhere(move: Callable[..., bool]) -> None:
    chance = np.random.default_rng(2)
    made = set()
    for mol in MOLS:
        for _ in range(5):
            work = draft(mol)
            if move(work, chance):
                made.add(finish(work.graph))
    made -= {"", *SMILES}
    assert len(made) > 3
    assert all(map(is_molecule, made))


EXPECTED = {
    graph_moves.add_atom: 1, graph_moves.insert_atom: 1, graph_moves.remove_atom: -1, graph_moves.change_element: 0,
    graph_moves.exchange_atoms: 0, graph_moves.change_bond: 0, graph_moves.close_ring: 0, graph_moves.move_branch: 0,
}  # fmt: skip


@pytest.mark.parametrize("move", EXPECTED)
def test_an_edit_changes_the_count_of_atoms_as_it_says(move: Callable[..., bool]) -> None:
    chance = np.random.default_rng(3)
    for _ in range(20):
        work = draft(MOLS[1])
        if move(work, chance):
            smiles = finish(work.graph)
            assert not smiles or Chem.MolFromSmiles(smiles).GetNumAtoms() == MOLS[1].GetNumAtoms() + EXPECTED[move]


def test_rings_are_closed_and_opened() -> None:
    chance = np.random.default_rng(4)
    for move, change in ((graph_moves.close_ring, 1), (graph_moves.open_ring, -1)):
        made = []
        for _ in range(20):
            work = draft(MOLS[1])
            made.append(finish(work.graph) if move(work, chance) else "")
        sizes = {(mol.GetNumBonds(), mol.GetNumAtoms()) for mol in map(Chem.MolFromSmiles, filter(None, made))}
        assert sizes == {(MOLS[1].GetNumBonds() + change, MOLS[1].GetNumAtoms())}


def test_stereo_away_from_the_edit_stays() -> None:
    mol = Chem.MolFromSmiles("C[C@H](N)CCCCCCCCO")
    work = draft(mol)
    work.graph.RemoveAtom(mol.GetNumAtoms() - 1)
    assert finish(work.graph) == Chem.CanonSmiles("C[C@H](N)CCCCCCCC")


def test_moves_repeat_with_their_seed() -> None:
    def run(seed: int) -> list[str]:
        chance = np.random.default_rng(seed)
        pairs = itertools.pairwise(MOLS)
        return [made for one, other in pairs for made in (mutate(one, chance), cross(one, other, chance))]

    assert run(5) == run(5) != run(6)


def test_strings_become_molecules() -> None:
    chance = np.random.default_rng(0)
    tokens = [string_moves.tokens_of(Chem.CanonSmiles(smiles)) for smiles in SMILES]
    mutated = [string_moves.mutate(one, string_moves.TOKENS, chance) for one in tokens for _ in range(10)]
    spliced = [string_moves.splice(one, other, chance) for one, other in itertools.pairwise(tokens)]
    for made in (mutated, spliced):
        assert np.mean([is_molecule(one) for one in made]) > 0.8
    assert len(set(mutated)) > 40


def test_strings_of_nothing_are_nothing() -> None:
    chance = np.random.default_rng(0)
    assert string_moves.tokens_of("*C") == ()
    assert string_moves.mutate((), string_moves.TOKENS, chance) == ""
    assert string_moves.splice((), ("[C]",), chance) == ""
