"""PMO's accounting: the area by hand and by its own formula, results stored once, a table that says what is missing."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from toy_space import ToySpace

from molvae.benchmark import stored_runs
from molvae.benchmark.pmo import CALLS, Plan, account, curve, top_auc
from molvae.benchmark.pmo_table import COLUMNS, PUBLISHED, read_table
from molvae.benchmark.stored_runs import Entry, missing, read_result, run_entry, run_plan
from molvae.benchmark.task_table import markdown, table_csv, write_table
from molvae.errors import ConfigError, InputError, UnknownNameError
from molvae.files import directory_lock
from molvae.optimize.result import Result
from molvae.optimize.tasks import PMO, tasks

LOADED: Any = SimpleNamespace(directory=Path("toy"))


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_runs, "ModelSpace", lambda loaded: ToySpace())


def published_formula(scores: list[float], top: int, every: int, calls: int) -> float:
    """What PMO computes at the end of a run, step by step: trapezoids between readings, then padding."""
    total, before, called = 0.0, 0.0, 0
    for index in range(every, min(len(scores), calls), every):
        now = float(np.mean(sorted(scores[:index], reverse=True)[:top]))
        total += every * (now + before) / 2
        before, called = now, index
    now = float(np.mean(sorted(scores, reverse=True)[:top]))
    total += (len(scores) - called) * (now + before) / 2
    if len(scores) < calls:
        total += (calls - len(scores)) * now
    return total / calls


def test_the_area_of_a_case_worked_out_by_hand() -> None:
    # Six of ten calls; the best two after 2, 4 and 6 calls average .2, .6 and .7: areas .2, .8, 1.3, then 4 * .7.
    scores = [0.1, 0.3, 0.5, 0.7, 0.2, 0.7]
    assert curve(scores, top=2, every=2) == [(2, pytest.approx(0.2)), (4, pytest.approx(0.6)), (6, pytest.approx(0.7))]
    assert top_auc(scores, top=2, every=2, calls=10) == pytest.approx((0.2 + 0.8 + 1.3 + 2.8) / 10)
    # Not padded, and a last piece shorter than the others: ten best of fewer than ten are all of them.
    assert top_auc([1.0, 0.0, 0.0], top=10, every=2, calls=3) == pytest.approx((0.5 + (0.5 + 1 / 3) / 2) / 3)


@pytest.mark.parametrize("length", [1, 9, 99, 100, 101, 250, 999, 1000])
@pytest.mark.parametrize("top", [1, 10, 100])
def test_the_area_is_that_of_the_published_formula(length: int, top: int) -> None:
    scores = np.random.default_rng(length).random(length).tolist()
    expected = published_formula(scores, top, 100, 1000)
    assert top_auc(scores, top, 100, 1000) == pytest.approx(expected, abs=1e-12)


def test_the_area_at_its_ends() -> None:
    assert top_auc([], calls=100) == 0.0
    assert top_auc([1.0] * 2000, calls=1000) == top_auc([1.0] * 1000, calls=1000) == pytest.approx(0.95)
    assert top_auc([math.nan] * 50 + [1.0] * 50, top=1, calls=100) == pytest.approx(0.5)
    later = top_auc([0.0] * 500 + [1.0] * 500, calls=1000)
    assert later < top_auc([1.0] * 500 + [0.0] * 500, calls=1000)
    with pytest.raises(InputError):
        top_auc([1.0], every=0)


def test_what_is_reported_of_a_search() -> None:
    smiles = ["CCO", "CC[N+](C)(C)C", "CCN", "CCC"]
    table = pd.DataFrame({"smiles": smiles, "score": [0.2, 0.9, math.nan, 0.1]})
    facts = account(Result(table, table, table, 4, "budget"), 10)
    assert facts["top1"] == 0.9
    assert facts["top10"] == pytest.approx(0.3)
    assert facts["auc_top10"] == top_auc([0.2, 0.9, 0.0, 0.1], calls=10)
    assert facts["best"][:2] == ["CC[N+](C)(C)C", "CCO"]
    assert facts["passes_moses_filters"] == 0.75


def test_a_plan_is_run_stored_and_not_run_again(tmp_path: Path) -> None:
    plan = Plan(("qed", "median1"), ("random",), (0, 1), 40)
    begun: list[Entry] = []
    results = list(run_plan(LOADED, plan, tmp_path, begun.append))
    assert [entry.name for entry in begun] == ["qed.random.0", "median1.random.0", "qed.random.1", "median1.random.1"]
    assert missing(tmp_path, plan) == []
    for entry, facts in zip(plan.entries(), results, strict=True):
        assert read_result(entry.path(tmp_path), "auc_top10") == json.loads(json.dumps(facts))
        assert facts["n_calls"] <= 40
        molecules = pd.read_csv(tmp_path / "runs" / entry.name / "molecules.csv")
        assert facts["auc_top10"] == pytest.approx(published_formula(molecules["score"].tolist(), 10, 100, 40))
        assert molecules["smiles"].is_unique
    assert list(run_plan(LOADED, plan, tmp_path)) == []
    more = Plan(("qed", "median1"), ("random",), (0, 1, 2), 40)
    assert [entry.seed for entry in missing(tmp_path, more)] == [2, 2]


def test_results_are_the_same_twice(tmp_path: Path) -> None:
    plan = Plan(("median1",), ("random",), (3,), 40)
    first, second = (next(run_plan(LOADED, plan, tmp_path / name)) for name in "ab")
    for facts in (first, second):
        del facts["seconds"], facts["cpu_seconds"]
    assert first == second


def test_an_interrupted_plan_goes_on_where_it_was(tmp_path: Path) -> None:
    plan = Plan(("median1", "qed"), ("random",), (0,), 150)
    whole = list(run_plan(LOADED, plan, tmp_path / "whole"))

    def interrupt(entry: Entry) -> Callable[[Any], None] | None:
        if entry.task != "qed":
            return None
        return lambda state: os.kill(os.getpid(), signal.SIGTERM) if state.n_calls > 32 else None

    results = list(run_plan(LOADED, plan, tmp_path / "part", interrupt))
    assert [facts["stopped"] for facts in results] == [whole[0]["stopped"], "SIGTERM"]
    assert [entry.task for entry in missing(tmp_path / "part", plan)] == ["qed"]
    before = (tmp_path / "part" / "runs" / "qed.random.0" / "journal.jsonl").read_text().splitlines()
    assert 32 < len(before) < 150
    again = list(run_plan(LOADED, plan, tmp_path / "part"))
    assert [facts["auc_top10"] for facts in again] == [whole[1]["auc_top10"]]
    after = (tmp_path / "part" / "runs" / "qed.random.0" / "journal.jsonl").read_text().splitlines()
    assert after[: len(before)] == before


def test_a_run_that_another_process_is_at_is_passed_over(tmp_path: Path) -> None:
    plan = Plan(("median1", "qed"), ("random",), (0,), 30)
    with directory_lock(tmp_path / "runs" / "median1.random.0"):
        done = list(run_plan(LOADED, plan, tmp_path))
    assert [facts["task"] for facts in done] == ["qed"]
    assert [entry.task for entry in missing(tmp_path, plan)] == ["median1"]


@pytest.mark.parametrize(("change", "text"), [({"calls": 41}, "calls = 41"), ({"options": "a=1"}, "options = a=1")])
def test_results_of_other_terms_are_refused(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    plan = Plan(("qed",), ("random",), (0,), 40)
    next(run_plan(LOADED, plan, tmp_path))
    path = plan.entries()[0].path(tmp_path)
    path.write_text(json.dumps({**read_result(path, "auc_top10"), **change}))
    with pytest.raises(ConfigError, match=text):
        list(run_plan(LOADED, plan, tmp_path))
    other = {"model": {"manifest_sha256": "other"}, "calls": 40, "options": ""}
    path.write_text(json.dumps({**read_result(path, "auc_top10"), **other}))
    with pytest.raises(ConfigError, match="another model"):
        list(run_plan(LOADED, plan, tmp_path))


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    entry = Entry("qed", "random", 0)
    entry.path(tmp_path).parent.mkdir()
    for content in ("{", "[]", '{"task": "qed"}', '{"task": 1, "auc_top10": 0.5}'):
        entry.path(tmp_path).write_text(content)
        with pytest.raises(InputError, match=r"qed\.random\.0\.json"):
            read_table(tmp_path, Plan(("qed",), ("random",), (0,)))


def store(folder: Path, task: str, seed: int, value: float, method: str = "random") -> None:
    path = Entry(task, method, seed).path(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"task": task, "auc_top10": value}))


def test_the_table_shows_what_is_there_and_names_what_is_not(tmp_path: Path) -> None:
    plan = Plan(("qed", "median1"), ("random",), (0, 1))
    for task, seed, value in (("qed", 0, 0.9), ("qed", 1, 0.8), ("median1", 0, 0.2)):
        store(tmp_path, task, seed, value)
    table = read_table(tmp_path, plan)
    text = markdown(table)
    assert "| qed | 0.850 ± 0.071 (2) | 0.941 |" in text
    assert "| median1 | 0.200 (1) | 0.340 |" in text
    assert "sum of 1 of 20 tasks" in text
    assert "| **0.850** | **0.941** |" in text
    assert "Missing (1 of 4): median1 random seed 1." in text
    assert "cannot be compared" not in text
    assert table_csv(table).splitlines()[1:] == ["qed,random,2,0.850000,0.070711", "median1,random,1,0.200000,"]
    assert "cannot be compared" in markdown(read_table(tmp_path, Plan(("qed",), ("random",), (0,), 500)))
    assert [path.name for path in write_table(tmp_path, table)] == ["table.md", "table.csv"]
    assert "missing" in markdown(read_table(tmp_path, Plan(("zaleplon_mpo",), ("random",), (0,))))


def test_a_whole_table_is_the_sum_of_twenty(tmp_path: Path) -> None:
    for number, task in enumerate(PMO):
        store(tmp_path, task, 0, number / 100)
    table = read_table(tmp_path, Plan(PMO, ("random",), (0,)))
    assert table.label() == "PMO-20"
    assert table.missing == ()
    assert table.sums() == pytest.approx([1.9, 12.458, 11.591, 11.437, 13.594, 13.912], abs=5e-4)


def test_published_figures_cover_every_task() -> None:
    assert set(PUBLISHED) == set(PMO)
    assert all(len(row) == len(COLUMNS) for row in PUBLISHED.values())
    assert set(PMO) <= set(tasks())
    assert CALLS == 10_000


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"tasks": ("jnk3",)}, UnknownNameError, "runs offline"),
        ({"methods": ("ranodm",)}, UnknownNameError, "random"),
        ({"seeds": (0, 0)}, InputError, "given twice"), ({"seeds": ()}, InputError, "missing"),
        ({"seeds": (-1,)}, InputError, "below 0"), ({"calls": 0}, InputError, "no calls"),
    ],
)  # fmt: skip
def test_plans_that_make_no_sense_are_refused(change: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Plan(**{"methods": ("random",), **change})


def test_an_oracle_is_never_asked_beyond_the_budget(tmp_path: Path) -> None:
    facts = run_entry(ToySpace(), Entry("qed", "random", 0), Plan(("qed",), ("random",), (0,), 25), tmp_path)
    assert facts["n_calls"] == 25
    assert len((tmp_path / "runs" / "qed.random.0" / "journal.jsonl").read_text().splitlines()) == 25


@pytest.mark.slow
def test_the_command_line_fills_a_table(
    tmp_path: Path, run_molvae: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    arguments = ("benchmark", "pmo", "-m", "moses", "--method", "random", "--calls", 60, "-o", tmp_path)
    done = run_molvae(*arguments, "--tasks", "qed", "--seeds", "0")
    assert done.returncode == 0, done.stderr
    shown = run_molvae(*arguments, "--tasks", "qed,median1", "--seeds", "0", "--table-only")
    assert "Missing (1 of 2): median1 random seed 0." in shown.stdout
    wrong = run_molvae(*arguments, "--tasks", "qed", "--seeds", "zero")
    assert wrong.returncode == 2
    assert "--seeds zero are not whole numbers." in wrong.stderr
