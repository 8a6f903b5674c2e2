"""Batches for a front: boxes against the long way, the chosen ones against a greedy search by volume."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from rdkit import Chem
from toy_space import ToySpace

from molvae.errors import InputError
from molvae.optimize import hybrid
from molvae.optimize.features import featurize
from molvae.optimize.goal import PARETO, Component, GoalOracle
from molvae.optimize.nehvi import boxes, choose, choose_batch, log_improvement
from molvae.optimize.oracles import FunctionOracle
from molvae.optimize.pareto import front, hypervolume
from molvae.optimize.run import search
from molvae.optimize.search import Settings
from molvae.optimize.surrogate import MORGAN_ONLY, GaussianProcess
from molvae.optimize.transforms import Linear

MOLS = [Chem.MolFromSmiles("C" * n + tail) for n in range(1, 11) for tail in ("", "O", "N", "F")]


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_the_softened_improvement_is_the_volume_that_is_added(objectives: int) -> None:
    chance = np.random.default_rng(objectives)
    reference = np.full(objectives, 0.2)
    known, asked = chance.random((9, objectives)), chance.random((40, objectives)) * 1.3
    lower, upper = boxes(known, reference)
    before = hypervolume(known, reference)
    added = [hypervolume(np.vstack([known, one]), reference) - before for one in asked]
    assert np.count_nonzero(added) > 5
    assert np.exp(log_improvement(asked, lower, upper, soft=1e-6)) == pytest.approx(added, abs=2e-5)
    softened = log_improvement(asked, lower, upper)
    assert np.isfinite(softened).all()
    assert np.corrcoef(np.exp(softened), added)[0, 1] > 0.999


def test_boxes_do_not_overlap_and_leave_out_what_is_dominated() -> None:
    known = np.array([[3.0, 1.0, 2.0], [1.0, 3.0, 1.0], [2.0, 2.0, 3.0], [0.0, 9.0, 9.0]])
    lower, upper = boxes(known, np.zeros(3))
    for cell in itertools.product(range(5), repeat=3):
        middle = np.array(cell) + 0.5
        holding = int(((lower < middle) & (middle < upper)).all(axis=1).sum())
        beaten = any((middle < one).all() for one in known[:3])
        assert holding == (not beaten)
    assert [one.tolist() for one in boxes(np.zeros((0, 2)), np.ones(2))] == [[[1.0, 1.0]], [[np.inf, np.inf]]]


def test_what_improves_nothing_is_ranked_by_how_little_it_misses() -> None:
    lower, upper = boxes(np.array([[1.0, 1.0]]), np.zeros(2))
    near, far = log_improvement(np.array([[0.99, 0.5], [0.7, 0.5]]), lower, upper)
    assert near > far > -np.inf


def test_candidates_are_chosen_one_by_one_given_the_ones_before() -> None:
    chance = np.random.default_rng(5)
    known, candidates = chance.random((1, 6, 2)), chance.random((1, 30, 2)) * 1.5
    wanted: list[int] = []
    for _ in range(3):
        held = np.vstack([known[0], candidates[0, wanted]])
        volumes = [hypervolume(np.vstack([held, one]), np.zeros(2)) for one in candidates[0]]
        wanted.append(int(np.argmax(volumes)))
    assert choose(known, candidates, np.zeros(2), 3) == wanted
    assert sorted(choose(known, candidates[:, :3], np.zeros(2), 9)) == [0, 1, 2]


def test_uncertain_candidates_are_worth_more_than_sure_ones_of_the_same_mean() -> None:
    chance = np.random.default_rng(0)
    known = np.ones((200, 1, 2))
    sure, vague = np.full((200, 1, 2), 0.9), 0.9 + 0.5 * chance.standard_normal((200, 1, 2))
    assert choose(known, np.concatenate([sure, vague], axis=1), np.zeros(2), 1) == [1]


def test_joint_draws_have_the_mean_the_width_and_the_likeness_of_the_process() -> None:
    process = GaussianProcess(MORGAN_ONLY)
    process.add(featurize(MOLS[:20]))
    process.fit(np.array([float(mol.GetNumAtoms()) for mol in MOLS[:20]]))
    asked = featurize([MOLS[30], MOLS[31], MOLS[34], MOLS[3]])
    mean, deviation = process.predict(asked)
    drawn = process.draw(asked, 4000, np.random.default_rng(0))
    assert drawn.mean(0) == pytest.approx(mean, abs=5 * deviation.max() / 60)
    assert drawn.std(0) == pytest.approx(deviation, rel=0.06)
    assert np.corrcoef(drawn[:, 0], drawn[:, 2])[0, 1] > 0.3
    assert np.array_equal(drawn, process.draw(asked, 4000, np.random.default_rng(0)))


def test_a_batch_grows_the_front_more_than_chance() -> None:
    values = np.array([[mol.GetNumAtoms(), 12.0 - mol.GetNumAtoms()] for mol in MOLS], dtype=np.float64)
    processes = []
    for column in values[8:20].T:
        process = GaussianProcess()
        process.add(featurize(MOLS[8:20]))
        process.fit(column)
        processes.append(process)
    rest = [*range(8), *range(20, 40)]
    pool = featurize([MOLS[row] for row in rest])
    rows = choose_batch(processes, values[8:20], pool, 6, np.random.default_rng(0))
    assert len(set(rows)) == 6
    chosen = values[[rest[row] for row in rows]]
    assert chosen[:, 0].max() >= 10
    assert chosen[:, 1].max() >= 10
    assert len(front(chosen)) >= 4


def count(letter: str) -> FunctionOracle:
    return FunctionOracle(lambda smiles: [float(one.count(letter)) for one in smiles], letter)


@pytest.mark.parametrize(("options", "expected"), [("", False), (",front=nehvi", True)])
def test_tanimoto_bo_searches_a_front_by_expected_growth(
    options: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def noting(*given: object) -> list[int]:
        asked.append(1)
        return choose_batch(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(hybrid, "choose_batch", noting)
    goal = GoalOracle([Component(one, count(one), Linear()) for one in "FO"], mean=PARETO)
    settings = Settings("tanimoto-bo", 60, 1, options="batch=8,ranked=4,warm=16" + options)
    result = search(ToySpace(), goal, [], settings)
    assert bool(asked) == expected
    again = search(ToySpace(), goal, [], settings)
    assert result.molecules["smiles"].tolist() == again.molecules["smiles"].tolist()
    drawn = [one.count("F") * one.count("O") for one in result.molecules["smiles"][:24]]
    found = result.molecules[["raw_F", "raw_O"]].to_numpy()
    assert hypervolume(found, np.zeros(2)) > max(drawn)


def test_an_unknown_way_to_choose_is_explained() -> None:
    with pytest.raises(InputError, match="nehvi"):
        Settings("hybrid", options="front=best")
