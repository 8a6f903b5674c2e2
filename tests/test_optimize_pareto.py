"""Fronts and volumes against definitions worked out the long way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

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


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_the_front_is_what_nothing_dominates(objectives: int) -> None:
    values = np.random.default_rng(0).integers(0, 8, (60, objectives)).astype(float)
    on = set(front(values).tolist())
    for row, one in enumerate(values):
        beaten = any(dominates(other, one) for other in values)
        copied = any((values[other] == one).all() for other in range(row))
        assert (row in on) == (not beaten and not copied)


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
