"""The surrogate learns, the bandit shifts, parents are drawn from the top, gates refuse."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from rdkit import Chem
from toy_space import ToySpace

from molvae.optimize import surrogate
from molvae.optimize.bandit import Bandit
from molvae.optimize.families import Turns
from molvae.optimize.features import COUNTED, DESCRIPTORS, _generators, describe, featurize, similarity
from molvae.optimize.gate import GATES, make_gate
from molvae.optimize.gaussian import cholesky, evidence, extend, solve
from molvae.optimize.method import Starts
from molvae.optimize.population import Member, Population, draw_parents, read_molecule
from molvae.optimize.surrogate import GROWTH, MIXED, MORGAN_ONLY, GaussianProcess

CHAINS = ["C" * n + tail for n in range(1, 9) for tail in ("O", "N", "C(=O)O", "c1ccccc1", "F")]
MOLS = [Chem.MolFromSmiles(one) for one in CHAINS]


def atoms(mols: Sequence[Chem.Mol]) -> NDArray[np.float64]:
    return np.array([float(mol.GetNumAtoms()) for mol in mols])


def test_features_are_what_rdkit_says() -> None:
    features = featurize(MOLS[:3])
    assert features.morgan.shape == features.pairs.shape
    assert set(np.unique(features.morgan)) == {0.0, 1.0}
    for found, made in zip((features.morgan, features.pairs), _generators(), strict=True):
        assert (found == [made.GetFingerprintAsNumPy(mol) for mol in MOLS[:3]]).all()
    assert (similarity(features.morgan, features.morgan).diagonal() == 1).all()
    facts = dict(zip(DESCRIPTORS, describe(Chem.MolFromSmiles("C[NH+](C)CCCl")), strict=True))
    assert (facts["n_C"], facts["n_Cl"], facts["n_H"], facts["charge"], facts["n_atoms"]) == (4, 1, 11, 1, 6)


@pytest.mark.parametrize("smiles", ["CCO", "C[NH+](C)CCCl", "[2H]OC", "[H][H]", "[Na+].[Cl-]", "*C", "C[CH2]", "BrI"])
def test_counts_are_those_of_the_atoms(smiles: str) -> None:
    mol = Chem.MolFromSmiles(smiles)
    facts = dict(zip(DESCRIPTORS, describe(mol), strict=True))
    symbols = Counter(atom.GetSymbol() for atom in mol.GetAtoms())
    assert {element: facts[f"n_{element}"] for element in COUNTED} == {element: symbols[element] for element in COUNTED}
    assert facts["n_H"] == sum(atom.GetTotalNumHs() for atom in mol.GetAtoms())
    assert facts["n_atoms"] == mol.GetNumAtoms()


def test_features_that_are_remembered_are_the_same_and_not_shared() -> None:
    first = featurize(MOLS[:2])
    kept = first.morgan.copy()
    first.morgan[:] = 7
    again = featurize([MOLS[1], Chem.MolFromSmiles(CHAINS[0])])
    assert (again.morgan == kept[::-1]).all()
    assert (again.numbers == first.numbers[::-1]).all()


def test_a_string_is_read_once_and_other_writings_are_not_mixed_up() -> None:
    one, other = read_molecule("CCO"), read_molecule("OCC")
    assert one is not None
    assert other is not None
    assert one is read_molecule("CCO")
    assert one[0] == other[0] == "CCO"
    assert [atom.GetSymbol() for atom in other[1].GetAtoms()] == ["O", "C", "C"]
    assert read_molecule("C(") is read_molecule("") is None


@pytest.mark.parametrize("kernels", [MIXED, MORGAN_ONLY])
def test_the_mean_goes_through_what_is_known_and_doubt_grows_away_from_it(kernels: tuple) -> None:  # type: ignore[type-arg]
    process = GaussianProcess(kernels)
    process.add(featurize(MOLS[::2]))
    process.fit(atoms(MOLS[::2]))
    mean, near = process.predict(featurize(MOLS[::2]))
    spread = atoms(MOLS).std()
    assert abs(mean - atoms(MOLS[::2])).max() < 0.5 * spread
    _, far = process.predict(featurize([Chem.MolFromSmiles("FC(Br)(Cl)S(=O)(=O)P")]))
    assert far[0] > 2 * near.mean()
    guess = process.predict(featurize(MOLS[1::2]))[0]
    assert np.corrcoef(guess, atoms(MOLS[1::2]))[0, 1] > 0.7


def test_molecules_added_piece_by_piece_or_dropped_make_no_difference() -> None:
    whole, parts = GaussianProcess(), GaussianProcess()
    whole.add(featurize(MOLS[:30]))
    for start in (0, 7, 20):
        parts.add(featurize(MOLS[start : {0: 7, 7: 20, 20: 40}[start]]))
    parts.keep(np.arange(30))
    values = atoms(MOLS[:30])
    for process in (whole, parts):
        process.fit(values)
    assert len(parts) == 30
    asked = featurize(MOLS[30:])
    assert np.allclose(whole.predict(asked), parts.predict(asked), rtol=1e-3, atol=1e-3)


def test_a_factor_that_grew_predicts_like_a_new_one_and_is_made_anew_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surrogate, "EXTENDED", 30)
    grown, values = GaussianProcess(), atoms(MOLS)
    grown.add(featurize(MOLS[:30]))
    grown.fit(values[:30])
    units = grown._center
    grown.add(featurize(MOLS[30:34]))
    grown.fit(values[:34])
    assert grown._center is units
    assert len(grown._lower) == 34
    whole = GaussianProcess((grown.kernel,))
    whole.add(featurize(MOLS[:34]))
    whole.fit(values[:34])
    asked = featurize(MOLS[34:])
    for one, other in zip(grown.predict(asked), whole.predict(asked), strict=True):
        assert np.allclose(one, other, rtol=0.05, atol=0.05 * values.std())
    grown.add(featurize(MOLS[34:]))
    grown.fit(values)
    assert len(MOLS) > GROWTH * 30
    assert grown._center is not units
    units = grown._center
    grown.keep(np.arange(20))
    grown.fit(values[:20])
    assert grown._center is not units
    assert len(grown._lower) == 20


def test_a_factor_grows_by_rows() -> None:
    points = np.random.default_rng(0).standard_normal((12, 4))
    gram = points @ points.T
    for old in (1, 7, 11):
        grown = extend(cholesky(gram[:old, :old], 0.1), gram[old:, :old], gram[old:, old:], 0.1)
        assert np.allclose(grown, cholesky(gram, 0.1))
        assert (np.triu(grown, 1) == 0).all()


@pytest.mark.parametrize("values", [[1.0, 1.0], [np.nan, 1.0], [1e300, -1e300]])
def test_nothing_to_learn_leaves_it_unready(values: list[float]) -> None:
    process = GaussianProcess()
    process.add(featurize(MOLS[:2]))
    with np.errstate(over="ignore", invalid="ignore"):
        process.fit(np.array(values))
    assert not process.ready
    with pytest.raises(ValueError, match="two different"):
        process.predict(featurize(MOLS[:1]))


def test_the_algebra() -> None:
    chance = np.random.default_rng(0)
    root = chance.standard_normal((20, 20))
    gram = root @ root.T / 20 + 0.1 * np.eye(20)
    lower = cholesky(gram, 0.01)
    assert np.allclose(lower @ lower.T, gram + 0.01 * np.eye(20))
    right = chance.standard_normal((20, 3))
    assert np.allclose(lower @ solve(lower, right), right)
    assert np.allclose(lower.T @ solve(lower, right, transpose=True), right)
    assert np.isfinite(cholesky(np.ones((5, 5)), 0.0)).all()
    drawn = lower @ chance.standard_normal(20)
    assert evidence(gram, 0.01, drawn) > evidence(np.eye(20), 0.01, drawn)


def test_the_bandit_prefers_what_pays_and_forgets() -> None:
    bandit = Bandit(["a", "b", "c"])
    for _ in range(20):
        bandit.learn({"a": (10, 5), "b": (10, 0), "c": (10, 1)})
    shares = bandit.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["a"] > 0.5 > shares["c"] > shares["b"] > 0.05
    for _ in range(200):
        bandit.learn({"a": (10, 0), "b": (10, 5)})
    assert bandit.shares()["b"] > 0.5
    dealt = bandit.deal(100, np.random.default_rng(0))
    assert sum(dealt.values()) == 100
    assert dealt["b"] > dealt["a"]


def test_a_bandit_that_may_not_learn_keeps_even_shares() -> None:
    bandit = Bandit(["a", "b"], learn=False)
    bandit.learn({"a": (10, 10)})
    assert bandit.shares() == {"a": 0.5, "b": 0.5}


def member(smiles: str, score: float, start: int = 0) -> Member:
    return Member(smiles, Chem.MolFromSmiles(smiles), smiles, start, score)


def test_the_best_come_first_each_once_and_failures_last() -> None:
    population = Population(3)
    for smiles, score in (("C", 1.0), ("CC", np.nan), ("CCC", 3.0), ("CCCC", 2.0), ("C", 9.0)):
        population.add(member(smiles, score))
    assert [one.smiles for one in population.best()] == ["CCC", "CCCC", "C"]
    assert len(population) == 4
    assert population.best(start=1) == []


def test_a_scaffold_has_only_so_many_places() -> None:
    population = Population(10, per_scaffold=2)
    for n in range(6):
        population.add(member("C" * (n + 1) + "c1ccccc1", float(n)))
        population.add(member("C" * (n + 1), -float(n)))
    best = [one.smiles for one in population.best()]
    assert sum("c1" in one for one in best) == 2
    assert best[0] == "CCCCCCc1ccccc1"
    assert len(best) == 8


def test_parents_come_from_the_top() -> None:
    ranked = [member("C" * (n + 1), -float(n)) for n in range(50)]
    counts = Counter(one.smiles for one in draw_parents(ranked, 3000, np.random.default_rng(0)))
    assert counts["C"] > 5 * counts["C" * 10] > 0
    assert len(counts) == 50


def test_turns_are_even_and_drawn_starts_share_them() -> None:
    codes = ToySpace().encode(["CCCCC", "CCCCN", "CCCNC"])
    starts = Starts(("CCCCC", "CCCCN", "CCCNC"), codes.mean, codes.std, np.zeros(3))
    turns = Turns(starts)
    total: Counter[int | None] = Counter()
    for n in (1, 2, 5, 4):
        dealt = turns.deal(n)
        assert sum(count for _, count in dealt) == n
        total.update(dict(dealt))
    assert set(total.values()) == {4}
    drawn = Starts(starts.smiles, codes.mean, codes.std, np.zeros(3), drawn=True)
    assert Turns(drawn).deal(7) == [(None, 7)]


ODD = ("CC=C=CC", "COOC", "CNNNC", "C1CC#CCC1", "C[CH2]", "C1CCCCCCCCC1", "CC.CC", "C" * 80)


@pytest.mark.parametrize("name", GATES)
def test_gates(name: str) -> None:
    gate = make_gate(name, ToySpace(), np.random.default_rng(0))
    good = ["CC(=O)Nc1ccc(C)cc1", "Cc1ccc(S(=O)(=O)N2CCOCC2)cc1"]
    members = [member(one, 0.0) for one in (*good, *ODD)]
    passed = gate(members)
    assert passed[:2] == [True, True]
    assert passed[2:] == [name == "off"] * len(ODD)
    assert gate([member("CC[N+](C)(C)C", 0.0)]) == [name != "moses"]


class Judging(ToySpace):
    """Molecules are the stranger the longer; it cannot read fluorine."""

    def nats(self, smiles: Sequence[str]) -> NDArray[np.float64]:
        return np.array([float(len(one)) if one and "F" not in one else math.nan for one in smiles])

    def exploration(self, smiles: Sequence[str], n: int) -> NDArray[np.float64]:
        return -self.nats(smiles)


@pytest.mark.parametrize("name", ["nats", "les"])
def test_the_gates_of_a_model_refuse_what_is_strange_to_it(name: str) -> None:
    gate = make_gate(name, Judging(), np.random.default_rng(0))
    asked = ("CCO", "CCCCCCCCCCCCCCCCCCCCCCCCCCCCCCC", "CCF", "COOC")
    assert gate([member(one, 0.0) for one in asked]) == [True, False, False, False]
