"""How well requests are answered: the figures, their table, their picture and the verb."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from molvae.benchmark import conditioning
from molvae.benchmark.conditioning import Settings, calibration, measure_conditioning, summarize
from molvae.benchmark.conditioning_grid import GRIDS, grid_of, requests_of
from molvae.cli.conditioning import describe_conditioning
from molvae.cli.main import main
from molvae.errors import ConfigError, OutputError
from molvae.generate.asking import Asking
from molvae.kept import Kept
from molvae.nn.checkpoint import load_model
from molvae.report.calibration import calibration_png, calibration_svg

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    loaded = load_model("druglike", "cpu")
    test = np.array([[1.0, 0.7, 2.5, 50.0, 300.0], [3.0, 0.8, 3.0, 70.0, 320.0], [4.0, np.nan, 3.0, 40.0, 320.0]])
    return measure_conditioning(loaded, Settings(8, 3, Asking(rounds=0)), test, known={"CCO"}, workers=1)


def test_the_grid_is_the_published_one_and_has_three_together() -> None:
    assert grid_of(load_model("moses", "cpu")) == GRIDS["moses"]
    asked = requests_of(GRIDS["moses"])
    assert [len(one) for one in asked] == [1] * 12 + [3] * 9
    for place, name in enumerate(("logp", "qed", "tpsa")):
        values = [one[place].low for one in asked[12:]]
        assert sorted(values) == sorted(3 * GRIDS["moses"][name])


def test_figures_stand_beside_those_of_the_unconditional_sampler(found: dict[str, Any]) -> None:
    assert len(found["requests"]) == 21
    assert found["settings"]["k"] == 1
    entry = found["requests"][0]
    part = entry["properties"]["logp"]
    assert part["requested"] == 0
    assert part["mad"] >= abs(part["bias"])
    assert part["unconditional"] > 0
    for quality in (entry, found["unconditional"]):
        assert quality["n"] == 8
        assert 0 < quality["validity"] <= 1
        assert 0 <= quality["diversity"] <= 1
        assert quality["novelty"] == 1.0
    json.dumps(found, allow_nan=False)


def test_values_of_test_molecules_are_asked_for_where_they_are_known(found: dict[str, Any]) -> None:
    test = found["test"]
    assert set(test) == {"logp", "tpsa", "sa", "qed", "logp+qed+tpsa"}
    assert test["logp"]["logp"]["n"] == 3
    assert test["qed"]["qed"]["n"] == 2
    bins = test["logp"]["logp"]["calibration"]
    assert sorted(one["requested"] for one in bins) == [1.0, 3.0, 4.0]


def test_calibration_sorts_by_what_was_asked() -> None:
    asked = np.tile(np.arange(10.0), 20)
    bins = calibration(asked, asked * 2 + 1)
    assert [one["requested"] for one in bins] == list(range(10))
    assert bins[3]["obtained"] == 7.0
    assert all(one["low"] <= one["obtained"] <= one["high"] and one["n"] == 20 for one in bins)


def test_the_summary_means_over_requests_and_compares_three_at_once() -> None:
    def entry(**mads: float) -> dict[str, Any]:
        parts = {name: {"mad": mad, "unconditional": 1.0, "coverage": None} for name, mad in mads.items()}
        return {"properties": parts}

    summary = summarize({"requests": [entry(logp=0.2), entry(logp=0.4), entry(logp=0.6, qed=0.1)]})
    assert summary["logp"]["mad"] == pytest.approx(0.3)
    assert summary["logp"]["together_ratio"] == pytest.approx(2.0)
    assert summary["qed"]["mad"] is None
    assert summary["qed"]["together_ratio"] is None


def test_table_and_picture_say_k(found: dict[str, Any]) -> None:
    lines = describe_conditioning(found)
    assert all("k = 1" in line for line in lines if "n =" in line or "test molecules" in line or "mean over" in line)
    assert sum(line.startswith("logp=") for line in lines) == 12
    svg = calibration_svg(found)
    assert svg.startswith("<svg")
    assert "k = 1" in svg
    assert svg.count("without asking") == 4
    assert calibration_png(found).startswith(b"\x89PNG")
    assert calibration_svg({**found, "test": None}).startswith("<svg")


def test_the_verbs_answer_requests_and_refuse_bad_ones(run_molvae: Run, tmp_path: Path) -> None:
    quick = ("--rounds", "0", "--no-alerts", "--workers", "1", "--device", "cpu")
    made = run_molvae("sample", "-n", "3", "--where", "logp=2.5, qed>=0.7", "-o", tmp_path / "a.csv", *quick)
    assert made.returncode == 0, made.stderr
    assert "prior resampled by the property heads" in made.stdout
    assert "k = 1, n = 3" in made.stdout
    header = (tmp_path / "a.csv").read_text().splitlines()[0].split(",")
    assert {"logp_requested", "logp_error", "qed_requested", "best_of"} <= set(header)
    for where, said in (("pIC50>=7", "knows no property"), ("qed=3", "no molecule has it")):
        refused = run_molvae("sample", "-n", "3", "--where", where, *quick)
        assert refused.returncode == 2
        assert said in refused.stderr
        assert "Traceback" not in refused.stderr
    idle = run_molvae("sample", "-n", "3", "--best-of", "4")
    assert idle.returncode == 2
    assert "--where" in idle.stderr


def test_a_measurement_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditioning, "grid_of", lambda loaded: {"sa": (2.0, 3.0)})
    loaded, settings = load_model("druglike", "cpu"), Settings(4, 2, Asking(rounds=0))
    test = np.array([[1.0, 0.7, 2.5, 50.0, 300.0], [3.0, 0.8, 3.0, 70.0, 320.0]])
    whole = measure_conditioning(loaded, settings, test, workers=1)
    told: list[tuple[str, int, int]] = []

    def stop(what: str, done: int, of: int) -> None:
        told.append((what, done, of))
        if what == "sa=3":
            raise KeyboardInterrupt

    file = tmp_path / "c.json"
    with pytest.raises(KeyboardInterrupt):
        measure_conditioning(loaded, settings, test, workers=1, say=stop, kept=Kept(file, {"n": 4}, resume=False))
    done = json.loads((tmp_path / "c.json.unfinished").read_text())["parts"]
    assert "unconditional" in done
    assert "sa=3" not in done
    with pytest.raises(OutputError, match="unfinished"):
        Kept(file, {"n": 4}, resume=False)
    with pytest.raises(ConfigError, match="another n"):
        Kept(file, {"n": 5}, resume=True)
    kept, again = Kept(file, {"n": 4}, resume=True), list[str]()
    went_on = measure_conditioning(
        loaded, settings, test, workers=1, say=lambda what, done, of: again.append(what), kept=kept
    )
    assert went_on == whole
    assert kept.path is not None
    kept.finish()
    assert not kept.path.exists()
    shares = [done / of for _, done, of in told]
    assert shares == sorted(shares)
    assert again[-1] == "sa of test molecules"


def test_what_cannot_be_resumed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="-o"):
        Kept(None, {}, resume=True)
    (tmp_path / "c.json.unfinished").write_text("[]")
    with pytest.raises(ConfigError, match="no unfinished work"):
        Kept(tmp_path / "c.json", {}, resume=True)
    assert main(["evaluate", str(tmp_path), "--resume"]) == 2


@pytest.mark.slow
def test_evaluate_writes_figures_and_picture(run_molvae: Run, tmp_path: Path) -> None:
    (tmp_path / "test.smi").write_text("CCOC(=O)c1ccccc1\nCc1ccc(C(=O)NC2CC2)cc1\nCCN(CC)C(=O)c1ccncc1\n")
    made = run_molvae(
        "evaluate", tmp_path / "test.smi", "--conditioning", "-n", "8", "--test-values", "3", "--rounds", "0",
        "-o", tmp_path / "c.json", "--picture", tmp_path / "c.png", "--workers", "1", "--device", "cpu",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "values of 3 test molecules" in made.stdout
    figures = json.loads((tmp_path / "c.json").read_text())
    assert figures["test"]["logp"]["logp"]["n"] == 3
    assert (tmp_path / "c.png").stat().st_size > 5000
