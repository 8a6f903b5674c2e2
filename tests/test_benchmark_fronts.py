"""Volumes below fronts and GuacaMol's own scoring: worked out by hand, stored once, continued, shown as a table."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from toy_space import QUICK, ToySpace

from molvae.benchmark import guacamol_goals, multiobjective, stored_runs
from molvae.benchmark.guacamol_goals import COLUMNS, PUBLISHED, distinct, top_means
from molvae.benchmark.multiobjective import PROBLEMS, PartOracle, goal_of
from molvae.benchmark.stored_runs import Asked, Entry, Plan, missing, missing_line, read_result, run_entry, run_plan
from molvae.benchmark.task_table import Published, markdown, read_table
from molvae.errors import InputError, UnknownNameError
from molvae.files import directory_lock
from molvae.optimize.goal import GEOMETRIC, PARETO
from molvae.optimize.oracles import find_oracle
from molvae.optimize.pareto import hypervolume
from molvae.optimize.result import Result
from molvae.optimize.tasks import CELECOXIB, GUACAMOL_V2, SILDENAFIL, TADALAFIL, score, tasks
from molvae.report.volumes import volume_chart, volume_curves

LOADED: Any = SimpleNamespace(directory=Path("toy"))


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_runs, "ModelSpace", lambda loaded: ToySpace())


def result_of(molecules: pd.DataFrame) -> Result:
    return Result(molecules, molecules, molecules, len(molecules), "budget")


def test_objectives_are_the_parts_of_the_tasks() -> None:
    smiles = [TADALAFIL, SILDENAFIL, CELECOXIB, "CCO"]
    goal = goal_of("median2", PARETO)
    goal(smiles)
    parts = [[goal.raw[one][part] for part in ("tadalafil", "sildenafil")] for one in smiles]
    assert parts[0][0] == parts[1][1] == 1.0
    # The task itself is the geometric mean of its two similarities.
    assert np.sqrt(np.prod(parts, axis=1)) == pytest.approx(score("median2", smiles).tolist(), abs=1e-12)
    assert goal_of("median2", GEOMETRIC)(smiles) == pytest.approx(score("median2", smiles).tolist(), abs=1e-12)
    other = goal_of("qed_celecoxib", PARETO)
    other(smiles)
    assert other.raw[CELECOXIB]["similarity_ecfp4"] == 1.0
    assert other.raw["CCO"]["qed"] == pytest.approx(find_oracle("qed")(["CCO"])[0])
    assert math.isnan(PartOracle("qed", "qed")(["C("])[0])
    assert goal.identity != other.identity


def test_a_front_is_accounted_as_worked_out_by_hand() -> None:
    smiles = ["CCO", "C[NH3+]", "CCN", "CCC"]
    table = pd.DataFrame({"smiles": smiles, "raw_a": [0.5, 1.0, 0.4, math.nan], "raw_b": [0.5, 0.2, 0.4, 1.0]})
    facts = multiobjective.account(result_of(table), ["a", "b"])
    assert facts["hypervolume"] == pytest.approx(0.5 * 0.5 + 0.5 * 0.2)
    assert facts["curve"] == [[4, pytest.approx(0.35)]]
    assert facts["front"] == [{"smiles": "CCO", "a": 0.5, "b": 0.5}, {"smiles": "C[NH3+]", "a": 1.0, "b": 0.2}]
    assert facts["passes_moses_filters"] == 0.5
    empty = multiobjective.account(result_of(table[:0]), ["a", "b"])
    assert (empty["hypervolume"], empty["curve"], empty["front"]) == (0.0, [], [])


def test_problems_are_run_by_methods_of_both_kinds_and_drawn(tmp_path: Path) -> None:
    plan = multiobjective.Plan(("qed_celecoxib",), ("hybrid", "random"), (0, 1), 120, "")
    assert plan.asked(plan.entries()[0]).oracle.mean == PARETO  # type: ignore[attr-defined]
    assert plan.asked(Entry("median2", "random", 0)).oracle.mean == GEOMETRIC  # type: ignore[attr-defined]
    only = multiobjective.Plan(("qed_celecoxib",), ("random",), (0, 1), 120)
    results = list(run_plan(LOADED, only, tmp_path))
    for entry, facts in zip(only.entries(), results, strict=True):
        assert read_result(entry.path(tmp_path), "hypervolume") == json.loads(json.dumps(facts))
        molecules = pd.read_csv(tmp_path / "runs" / entry.name / "molecules.csv")
        values = molecules[["raw_qed", "raw_similarity_ecfp4"]].to_numpy()
        assert facts["hypervolume"] == pytest.approx(hypervolume(values, np.zeros(2)))
        assert [calls for calls, _ in facts["curve"]] == [100, 120]
    quick = multiobjective.Plan(("qed_celecoxib",), ("hybrid",), (0,), 40, QUICK["hybrid"])
    (mine,) = run_plan(LOADED, quick, tmp_path / "hybrid")
    assert mine["hypervolume"] > 0
    table = read_table(tmp_path, only, "Hypervolume above (0, 0)", Published())
    text = markdown(table)
    mean = np.mean([facts["hypervolume"] for facts in results])
    assert f"| qed_celecoxib | {mean:.3f} ± " in text
    assert "sum of" not in text
    picture = volume_curves([("qed_celecoxib", facts["method"], facts["curve"]) for facts in [*results, mine]])
    assert picture.startswith("<svg")
    assert "random (2)" in re.sub(r"<[^>]*>", "", picture)
    assert "hybrid (1)" in re.sub(r"<[^>]*>", "", picture)


def test_the_chart_of_one_search_says_where_it_ends() -> None:
    chart = volume_chart([[100.0, 0.1], [150.0, 0.25]])
    assert chart is not None
    assert "150 calls, at the end 0.25" in chart.alt
    assert volume_chart([]) is None


def test_scores_are_means_of_top_means_with_zeros_for_what_is_not_there() -> None:
    assert top_means([0.2, 1.0, 0.6], (1, 2, 10)) == {1: 1.0, 2: 0.8, 10: pytest.approx(0.18)}
    assert top_means([], (1,)) == {1: 0.0}
    assert distinct(["C[C@H](O)F", "C[C@@H](O)F", "[13CH3]C", "CC", "CCC"], 3) == ["CC(O)F", "CC", "CCC"]


def test_a_guacamol_score_worked_out_by_hand() -> None:
    # Of a task with stereochemistry in its reference only the flat molecule counts, and it is scored again.
    smiles = ["C[C@H](O)c1ccccc1", "C[C@@H](O)c1ccccc1", "CCO", "CCN"]
    table = pd.DataFrame({"smiles": smiles, "score": [0.9, 0.8, 0.3, math.nan]})
    facts = guacamol_goals.account("mestranol_similarity", result_of(table))
    flat = sorted(score("mestranol_similarity", ["CC(O)c1ccccc1", "CCO"]).tolist(), reverse=True)
    assert tasks()["mestranol_similarity"].top == (1, 10, 100)
    expected = (flat[0], sum(flat) / 10, sum(flat) / 100)
    assert (facts["top1"], facts["top10"], facts["top100"]) == pytest.approx(expected)
    assert facts["score"] == pytest.approx(sum(expected) / 3)
    assert facts["best"] == ["CC(O)c1ccccc1", "CCO"]
    alone = guacamol_goals.account("celecoxib_rediscovery", result_of(table))
    assert alone["score"] == alone["top1"]
    assert guacamol_goals.account("median1", result_of(table[:0]))["score"] == 0.0


def test_the_guacamol_suite_is_run_and_summed(tmp_path: Path) -> None:
    plan = guacamol_goals.Plan(("median1", "isomers_c11h24"), ("random",), (0,), 40)
    results = list(run_plan(LOADED, plan, tmp_path))
    assert missing(tmp_path, plan) == []
    for facts in results:
        assert facts["score"] == pytest.approx(np.mean([facts[f"top{top}"] for top in tasks()[facts["task"]].top]))
    table = guacamol_goals.read_table(tmp_path, plan)
    text = markdown(table)
    assert f"| median1 | {results[0]['score']:.3f} (1) | 0.334 | 0.438 |" in text
    assert "sum of 2 of 20 tasks" in text
    assert "cannot be compared" not in text


def test_published_scores_cover_the_suite_and_have_the_published_sums() -> None:
    assert set(PUBLISHED) == set(GUACAMOL_V2)
    sums = dict(zip(COLUMNS, np.sum(list(PUBLISHED.values()), axis=0).round(3).tolist(), strict=True))
    assert sums["SMILES LSTM"] == 17.341
    assert sums["Graph GA"] == 17.983
    assert sums["best of data set"] == 12.144


def test_an_interrupted_front_goes_on_without_a_repeated_call(tmp_path: Path) -> None:
    plan = multiobjective.Plan(("median2",), ("random",), (0,), 120)
    whole = list(run_plan(LOADED, plan, tmp_path / "whole"))

    def interrupt(entry: Entry) -> Callable[[Any], None]:
        return lambda state: os.kill(os.getpid(), signal.SIGTERM) if state.n_calls > 32 else None

    results = list(run_plan(LOADED, plan, tmp_path / "part", interrupt))
    assert [facts["stopped"] for facts in results] == ["SIGTERM"]
    journal = tmp_path / "part" / "runs" / "median2.random.0" / "journal.jsonl"
    before = journal.read_text().splitlines()
    again = list(run_plan(LOADED, plan, tmp_path / "part"))
    assert [facts["curve"] for facts in again] == [facts["curve"] for facts in whole]
    assert journal.read_text().splitlines()[: len(before)] == before


def test_a_run_without_a_directory_is_locked_too(tmp_path: Path) -> None:
    class Once:
        figure, resumable, calls, options = "value", False, 20, ""

        def entries(self) -> list[Entry]:
            return [Entry("one", "random", 0), Entry("two", "random", 0)]

        def terms(self, entry: Entry) -> dict[str, Any]:
            return {}

        def asked(self, entry: Entry) -> Asked:
            return Asked(find_oracle("qed"), ("CCCCC",) if entry.task == "one" else ())

        def account(self, entry: Entry, result: Result) -> dict[str, Any]:
            return {"value": float(result.n_calls)}

    plan: Plan = Once()  # type: ignore[assignment]
    with directory_lock(tmp_path / "runs" / "one.random.0"):
        done = list(run_plan(LOADED, plan, tmp_path))
    assert [facts["task"] for facts in done] == ["two"]
    assert missing_line(plan, missing(tmp_path, plan)) == "Missing (1 of 2): one random seed 0."
    assert missing_line(plan, plan.entries(), 1) == "Missing (2 of 2): one random seed 0 and 1 more."
    assert missing_line(plan, []) == ""
    # Another process finished it between the look and the lock.
    assert run_entry(ToySpace(), plan.entries()[1], plan, tmp_path) is None


@pytest.mark.parametrize(
    ("made", "error", "text"),
    [
        (lambda: multiobjective.Plan(("median3",)), UnknownNameError, "median2"),
        (lambda: guacamol_goals.Plan(("jnk3",)), UnknownNameError, "suite v2"),
        (lambda: multiobjective.Plan(seeds=()), InputError, "missing"),
        (lambda: guacamol_goals.Plan(calls=0), InputError, "no calls"),
    ],
)
def test_plans_that_make_no_sense_are_refused(made: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        made()


def test_problems_name_parts_that_exist() -> None:
    for parts in PROBLEMS.values():
        for task, part in parts:
            assert part in [name for name, _, _ in tasks()[task].parts]


@pytest.mark.slow
def test_the_command_line_fills_tables(
    tmp_path: Path, run_molvae: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    common = ("-m", "moses", "--method", "random", "--calls", 60, "--seeds", "0")
    volumes = run_molvae("benchmark", "multiobjective", *common, "--problems", "median2", "-o", tmp_path / "mo")
    assert volumes.returncode == 0, volumes.stderr
    assert (tmp_path / "mo" / "curves.svg").read_text().startswith("<svg")
    goals = run_molvae("benchmark", "guacamol", *common, "--tasks", "median1", "-o", tmp_path / "gm")
    assert goals.returncode == 0, goals.stderr
    assert "sum of 1 of 20 tasks" in goals.stdout
