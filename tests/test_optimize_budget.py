"""The budget counts unique molecules and is never exceeded; the journal pays for nothing twice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from molvae.errors import ConfigError, InputError, OracleError
from molvae.optimize.budget import BudgetedOracle
from molvae.optimize.journal import Journal
from molvae.optimize.oracles import FunctionOracle

WRITINGS = ["CCO", "OCC", "C(C)O", "CC", "C", "", "C(", "CCCO", "OCCC", "N", "O", "c1ccccc1", "C1=CC=CC=C1"]


class Counting:
    """An oracle that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, smiles: list[str]) -> list[float]:
        self.asked += smiles
        return [float(len(one)) for one in smiles]


def budgeted(function: Any, budget: int, journal: Journal | None = None) -> BudgetedOracle:
    return BudgetedOracle(FunctionOracle(function, "test"), budget, journal)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from(WRITINGS), max_size=12), max_size=5), st.integers(1, 9))
def test_each_molecule_is_paid_for_once_and_the_budget_holds(batches: list[list[str]], budget: int) -> None:
    counting = Counting()
    oracle = budgeted(counting, budget)
    seen: dict[str, float] = {}
    for batch in batches:
        scores = oracle.score(batch)
        assert scores.shape == (len(batch),)
        for one, score in zip(batch, scores, strict=True):
            molecule = oracle.canonical(one)
            if not math.isnan(score):
                assert seen.setdefault(molecule, score) == score == len(molecule)
            else:
                assert molecule == "" or (oracle.left == 0 and molecule not in counting.asked)
    assert len(counting.asked) == len(set(counting.asked)) == oracle.n_calls <= budget
    distinct = {oracle.canonical(one) for batch in batches for one in batch} - {""}
    assert oracle.n_calls == min(budget, len(distinct))
    assert [call.smiles for call in oracle.calls] == counting.asked


@pytest.mark.parametrize("budget", [0, -3])
def test_a_budget_that_is_not_positive_is_refused(budget: int) -> None:
    with pytest.raises(InputError, match="--budget"):
        budgeted(Counting(), budget)


BAD = {
    "raises": lambda one: 1 / 0,
    "nan": lambda one: math.nan,
    "inf": lambda one: math.inf,
    "minus_inf": lambda one: -math.inf,
    "none": lambda one: None,
    "text": lambda one: "0.5",
    "complex": lambda one: 1j,
    "huge": lambda one: 1e300,
    "larger_than_floats": lambda one: 10**400,
    "list": lambda one: [1.0],
}


@pytest.mark.parametrize("behaviour", BAD)
def test_a_bad_value_is_a_failure_and_never_a_score(behaviour: str) -> None:
    def function(smiles: list[str]) -> list[Any]:
        return [BAD[behaviour](one) if "N" in one else 1.0 for one in smiles]

    oracle = budgeted(function, 10)
    assert np.array_equal(oracle.score(["CC", "CN", "CCC", "CCCC"]), [1, math.nan, 1, 1], equal_nan=True)
    assert (oracle.n_calls, oracle.n_failed) == (4, 1)
    assert np.isnan(oracle.score(["NC"])[0])
    assert oracle.n_calls == 4


@pytest.mark.parametrize("answer", [[], [1.0], None, 3.0, "1111", {"C": 1.0}])
def test_an_answer_that_is_not_a_score_each_stops_with_a_reason(answer: Any) -> None:
    oracle = budgeted(lambda smiles: answer if len(smiles) > 1 else None, 10)
    with pytest.raises(OracleError, match="4 of 4 molecules") as caught:
        oracle.score(["C", "CC", "CCC", "CCCC"])
    assert "returned" in caught.value.problem
    assert oracle.n_calls == 4


def test_small_batches_are_judged_together() -> None:
    oracle = budgeted(lambda smiles: [math.nan] * len(smiles), 10)
    for one in ("C", "CC", "CCC"):
        assert np.isnan(oracle.score([one])[0])
    with pytest.raises(OracleError, match="4 of 4"):
        oracle.score(["CCCC"])


def test_the_journal_replays_without_a_call_and_counts_alike(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    first = Counting()

    def partly(smiles: list[str]) -> list[float]:
        return [math.nan if one == "CC" else value for one, value in zip(smiles, first(smiles), strict=True)]

    oracle = budgeted(partly, 5, Journal(path, "python:test"))
    oracle.score(["CCO", "CC", "OCC", "CCN"])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["call"] for line in lines] == [1, 2, 3]
    assert lines[1] == {"call": 2, "smiles": "CC", "oracle": "python:test", "score": None}
    second = Counting()
    again = budgeted(second, 5, Journal(path, "python:test"))
    scores = again.score(["CCO", "CC", "CCN", "C", "O", "N"])
    assert second.asked == ["C", "O"]
    assert (again.n_calls, again.n_replayed, again.left) == (5, 3, 0)
    assert np.isnan(scores[[1, 5]]).all()


def test_prepaid_scores_that_are_not_met_again_still_count(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    budgeted(Counting(), 3, Journal(path, "python:test")).score(["C", "CC"])
    counting = Counting()
    budgeted(counting, 3, Journal(path, "python:test")).score(["O", "N", "S"])
    assert counting.asked == ["O"]


def test_what_a_search_that_strayed_leaves_in_the_journal_is_settled(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", "python:test")
    budgeted(Counting(), 5, journal).score(["CCO", "CC", "N"])
    journal.close()
    counting = Counting()
    oracle = budgeted(counting, 5, Journal(tmp_path / "journal.jsonl", "python:test"))
    oracle.score(["CCO"])
    assert (oracle.strayed, oracle.left, oracle.payable) == (False, 4, 2)
    oracle.score(["CCC", "CCN", "CCF"])
    assert (oracle.strayed, oracle.left, oracle.payable) == (True, 2, 0)
    assert counting.asked == ["CCC", "CCN"]
    assert oracle.settle() == 2
    assert [call.smiles for call in oracle.calls] == ["CCO", "CCC", "CCN", "CC", "N"]
    assert (oracle.calls[-1].score, oracle.left, oracle.settle()) == (1.0, 0, 0)


def test_a_batch_that_was_half_written_is_no_other_course(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", "python:test")
    budgeted(Counting(), 5, journal).score(["CCO", "CC"])
    journal.close()
    oracle = budgeted(Counting(), 5, Journal(tmp_path / "journal.jsonl", "python:test"))
    oracle.score(["CCO", "CC", "N"])
    assert not oracle.strayed
    assert oracle.settle() == 0


def test_a_torn_last_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    budgeted(Counting(), 9, Journal(path, "python:test")).score(["C", "CC", "CCC"])
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for size in sorted({*range(0, len(whole), 9), *(end + step for end in [0, *ends] for step in (-2, -1, 0, 1))}):
        if not 0 <= size <= len(whole):
            continue
        path.write_bytes(whole[:size])
        journal = Journal(path, "python:test")
        kept = sum(end <= size for end in ends)
        assert len(journal.entries) == kept
        journal.append([("N", 1.0)])
        journal.close()
        assert len(Journal(path, "python:test").entries) == kept + 1


@pytest.mark.parametrize("line", [0, 1])
@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"\xff\xfe", b'{"call": 9, "smiles": "C", "oracle": "x", "score": 1}', b"[1]"]
)
def test_a_torn_middle_is_refused(line: int, damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    budgeted(Counting(), 9, Journal(path, "python:test")).score(["C", "CC", "CCC"])
    lines = path.read_bytes().split(b"\n")
    lines[line] = damage
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(InputError, match=f"line {line + 1}"):
        Journal(path, "python:test")


def test_scores_of_another_oracle_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    budgeted(Counting(), 9, Journal(path, "python:test")).score(["C"])
    with pytest.raises(ConfigError, match="python:test"):
        Journal(path, "qed")
