"""Results come in order, one per item, whatever an item does to the process that works on it."""

from __future__ import annotations

import os
import signal
import time

import pytest

from molvae.chem import parallel
from molvae.chem.parallel import map_chunks, map_items
from molvae.chem.rejected import Rejected


def double(number: int) -> int:
    return 2 * number


def deadly(number: int) -> int:
    """Die in three ways, each on one number."""
    if number == 7:
        os._exit(1)
    if number == 30:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 31:
        raise RuntimeError("not this one")
    return number


def sleepy(number: int) -> int:
    if number == 3:
        time.sleep(60)
    return number


def process_id(number: int) -> int:
    return os.getpid()


def test_order_is_kept_over_many_chunks():
    chunks = [list(range(start, start + 7)) for start in range(0, 700, 7)]
    results = [result for part in map_chunks(double, chunks, workers=2) for result in part]
    assert results == [2 * number for number in range(700)]


def test_few_items_run_in_this_process_and_many_do_not():
    assert set(map_items(process_id, range(5))) == {os.getpid()}
    assert os.getpid() not in map_items(process_id, range(parallel.SMALL + 1), workers=1)


def test_a_dead_process_costs_only_the_item_that_killed_it():
    chunks = [list(range(start, start + 10)) for start in range(0, 60, 10)]
    results = [result for part in map_chunks(deadly, chunks, workers=2) for result in part]
    assert len(results) == 60
    lost = {number: result for number, result in enumerate(results) if isinstance(result, Rejected)}
    assert set(lost) == {7, 30, 31}
    assert {result.reason for result in lost.values()} == {"crashed"}
    assert "not this one" in lost[31].detail
    assert [result for result in results if not isinstance(result, Rejected)] == sorted(set(range(60)) - set(lost))


def test_a_hanging_item_is_given_up(monkeypatch):
    monkeypatch.setattr(parallel, "PATIENCE", 3.0)
    results = [result for part in map_chunks(sleepy, [[1, 2], [3, 4], [5]], workers=1) for result in part]
    assert [isinstance(result, Rejected) for result in results] == [False, False, True, False, False]
    assert "no answer" in results[2].detail


def test_an_exception_in_this_process_becomes_rejected():
    assert map_items(deadly, [1, 31, 2])[1].reason == "crashed"


def test_reading_ahead_is_bounded():
    taken = 0

    def source():
        nonlocal taken
        for start in range(0, 4000, 10):
            taken += 1
            yield list(range(start, start + 10))

    stream = map_chunks(double, source(), workers=2)
    next(stream)
    assert taken <= 8
    stream.close()


@pytest.mark.parametrize("chunks", [[], [[]]])
def test_nothing_in_nothing_out(chunks):
    assert [result for part in map_chunks(double, chunks) for result in part] == []
