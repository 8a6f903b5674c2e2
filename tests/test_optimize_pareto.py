"""Fronts and volumes against definitions worked out the long way."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_space import QUICK, ToySpace

from molvae.optimize.goal import Component, GoalOracle
from molvae.optimize.oracles import FunctionOracle
from molvae.optimize.pareto import (
    crowding,
    dominates,
    front,
    front_ranks,
    hypervolume,
    hypervolume_curve,
    random_scalar,
    ranking,
)
from molvae.optimize.result import Found, pareto_front
from molvae.optimize.run import search
from molvae.optimize.search import Settings
from molvae.optimize.transforms import Linear
from molvae.report.search import search_section
from molvae.report.tables import read_sources


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_front_is_what_nothing_dominates(objectives: int) -> None:
    values = np.random.default_rng(0).integers(0, 8, (60, objectives)).astype(float)
    on = set(front(values).tolist())
    for row, one in enumerate(values):
        beaten = any(dominates(other, one) for other in values)
        copied = any((values[other] == one).all() for other in range(row))
        assert (row in on) == (not beaten and not copied)


def test_rounding_puts_nothing_dominated_on_the_front() -> None:
    for rows in ([[0.9, 1e-30], [0.9, 1e-20]], [[1.0, 0.0], [1.0, 1e-17]], [[1e-17, 1.0], [0.0, 1.0], [0.0, 2.0]]):
        values = np.array(rows)
        assert front(values).tolist() == [
            row for row, one in enumerate(values) if not any(dominates(other, one) for other in values)
        ]


def test_ranks_peel_front_after_front() -> None:
    values = np.random.default_rng(1).random((50, 2))
    ranks = front_ranks(values)
    assert set(np.flatnonzero(ranks == 0)) == set(front(values))
    for row, other in itertools.permutations(range(50), 2):
        if dominates(values[row], values[other]):
            assert ranks[row] < ranks[other]
    assert front_ranks(np.array([[1.0, 1.0], [1.0, 1.0]])).tolist() == [0, 0]
    assert front_ranks(np.empty((0, 2))).tolist() == []


def test_a_missing_objective_is_last_and_never_on_the_front() -> None:
    values = np.array([[np.nan, 9.0], [0.0, 0.0], [9.0, np.nan], [1.0, 1.0]])
    assert front(values).tolist() == [3]
    assert ranking(values).tolist()[:2] == [3, 1]


def test_the_ends_and_the_lonely_come_first() -> None:
    values = np.array([[0.0, 1.0], [0.1, 0.9], [0.2, 0.8], [1.0, 0.0]])
    alone = crowding(values)
    assert np.isinf(alone[[0, 3]]).all()
    assert alone[2] > alone[1] > 0
    assert set(ranking(values)[:2]) == {0, 3}
    assert ranking(values)[2] == 2


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_the_volume_is_that_of_the_union_of_boxes(objectives: int) -> None:
    chance = np.random.default_rng(objectives)
    values = chance.integers(0, 5, (12, objectives)).astype(float)
    reference = np.full(objectives, 1.0)
    cells = itertools.product(range(1, 5), repeat=objectives)
    union = sum(any((np.array(cell) + 1 <= one).all() for one in values) for cell in cells)
    assert hypervolume(values, reference) == pytest.approx(union)


def test_the_curve_ends_at_the_volume_of_all_and_never_falls() -> None:
    values = np.random.default_rng(3).random((250, 2))
    values[7] = np.nan
    curve = hypervolume_curve(values, np.zeros(2))
    assert [calls for calls, _ in curve] == [100, 200, 250]
    volumes = [volume for _, volume in curve]
    assert volumes == sorted(volumes)
    assert volumes[-1] == pytest.approx(hypervolume(values, np.zeros(2)))
    assert hypervolume_curve(values[:0], np.zeros(2)) == []


def test_scalars_find_the_front_from_all_sides() -> None:
    angles = np.linspace(0.1, np.pi / 2 - 0.1, 9)
    values = np.concatenate([np.stack([np.cos(angles), np.sin(angles)], axis=1), np.full((20, 2), 0.3)])
    chance = np.random.default_rng(0)
    winners = [int(random_scalar(values, np.zeros(2), chance).argmax()) for _ in range(300)]
    assert set(winners) == set(range(9))


def found_of(names: str) -> list[Found]:
    return [Found(step, name * step, "", "", 0.0) for step, name in enumerate(names, 1)]


def test_the_front_of_a_search_is_listed_with_its_volume() -> None:
    found = found_of("CNOFSP")
    values = np.array([[0.5, 0.5], [0.2, 1.0], [0.4, 0.4], [np.nan, 1.0], [1.0, 1.0], [1.0, 0.1]])
    front = pareto_front(found, ["a", "b"], values, refused={"SSSSS"})
    assert front.molecules["smiles"].tolist() == ["PPPPPP", "C", "NN"]
    assert front.molecules[["a", "b"]].to_numpy().tolist() == [[1.0, 0.1], [0.5, 0.5], [0.2, 1.0]]
    assert front.molecules["step"].tolist() == [6, 1, 2]
    # By hand: .2 wide up to 1, then .3 up to .5, then .5 up to .1.
    assert front.hypervolume == pytest.approx(0.2 + 0.15 + 0.05)
    assert front.curve.to_numpy().tolist() == [[6, pytest.approx(0.4)]]
    assert values[4].tolist() == [1.0, 1.0]


def test_low_objectives_are_measured_from_one() -> None:
    values = np.array([[0.5, 0.5], [0.2, 0.9], [0.9, 0.9]])
    front = pareto_front(found_of("CNO"), ["a", "b"], values, minimize=True)
    assert front.molecules["smiles"].tolist() == ["NN", "C"]
    assert front.reference == 1.0
    assert front.hypervolume == pytest.approx(0.25 + 0.3 * 0.1)


def test_a_search_without_calls_has_an_empty_front() -> None:
    front = pareto_front([], ["a", "b"], np.empty((0, 2)))
    assert (len(front.molecules), front.hypervolume) == (0, 0.0)
    assert front.molecules.columns.tolist() == ["step", "smiles", "parent", "a", "b"]


def test_a_long_search_has_a_hundred_points_or_so() -> None:
    values = np.random.default_rng(0).random((1234, 2))
    front = pareto_front(found_of("C" * 1234), ["a", "b"], values)
    assert 90 <= len(front.curve) <= 101
    assert front.curve["calls"].iloc[-1] == 1234


@pytest.mark.parametrize("mean", ["pareto", "arithmetic"])
def test_a_run_writes_its_front_when_it_has_one(tmp_path: Path, mean: str) -> None:
    parts = [Component("f", FunctionOracle(shares_of("F"), "F"), Linear()),
             Component("o", FunctionOracle(shares_of("O"), "O"), Linear())]  # fmt: skip
    result = search(ToySpace(), GoalOracle(parts, mean), [], Settings("hybrid", 40, 0, options=QUICK["hybrid"]),
                    tmp_path / "run")  # fmt: skip
    names = {path.name for path in result.files}
    if mean != "pareto":
        assert result.front is None
        assert not names & {"pareto.csv", "hypervolume.csv"}
        return
    assert {"pareto.csv", "hypervolume.csv"} <= names
    assert result.front is not None
    molecules = pd.read_csv(tmp_path / "run" / "molecules.csv")
    values = molecules[["raw_f", "raw_o"]].to_numpy()
    written = pd.read_csv(tmp_path / "run" / "pareto.csv")
    assert set(written["smiles"]) == set(molecules["smiles"].iloc[front(values)])
    curve = pd.read_csv(tmp_path / "run" / "hypervolume.csv")
    assert curve["hypervolume"].iloc[-1] == pytest.approx(hypervolume(values, np.zeros(2)))
    section = search_section(read_sources([tmp_path / "run"]).searches[0], [], False)
    assert section is not None
    titles = [block.title for block in section.blocks]
    assert titles.index("Front") + 1 == titles.index("Molecules of the front")


def shares_of(letter: str) -> Callable[[list[str]], list[float]]:
    return lambda smiles: [one.count(letter) / 4 for one in smiles]
