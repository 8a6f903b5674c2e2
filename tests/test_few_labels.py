"""The study of few labels: rows are taken, kept aside and judged as it says, and it goes on where it stopped."""

from __future__ import annotations

import dataclasses
import gzip
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from molvae.data.dataset import SPLITS
from molvae.errors import InputError
from molvae.nn.checkpoint import load_model

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "scripts" / "few_labels.py").exists() or not (ROOT / "data" / "moses_sample.csv.gz").exists():
    pytest.skip("the scripts are not beside the tests", allow_module_level=True)
sys.path.insert(0, str(ROOT / "scripts"))
few = importlib.import_module("few_labels")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """150 molecules and 30 held out; networks of three steps."""
    folder = tmp_path_factory.mktemp("few")
    with gzip.open(ROOT / "data" / "moses_sample.csv.gz", "rt") as file:
        header, *lines = [next(file) for _ in range(241)]
    (folder / "train.csv").write_text(header + "".join(lines[:200]))
    (folder / "test.csv").write_text(header + "".join(lines[200:]))
    (folder / "out").mkdir()
    files = ["--train", str(folder / "train.csv"), "--test", str(folder / "test.csv"), "-o", str(folder / "out")]
    sizes = ["--molecules", "150", "--tested", "30", "--steps", "3", "--workers", "1"]
    return few.Study(few.read_arguments([*files, *sizes]))


def test_intervals_are_stretched_by_the_rows_kept_aside_and_judged_on_the_others() -> None:
    rng = np.random.default_rng(0)
    kept, values = rng.normal(size=500), rng.normal(size=5000)
    zeros, narrow = np.zeros(500), np.full(500, 0.01)
    r2, mae, covered, width = few.judge((zeros, narrow), kept, (np.zeros(5000), np.full(5000, 0.01)), values)
    assert abs(r2) < 0.01
    assert mae == pytest.approx(np.sqrt(2 / np.pi), abs=0.03)
    assert covered == pytest.approx(0.9, abs=0.04)
    assert width == pytest.approx(1.645, abs=0.15)
    assert few.judge((kept, narrow), kept, (values, np.ones(5000)), values)[:3] == (1.0, 0.0, 1.0)


def test_properties_that_a_shipped_model_may_know_are_refused() -> None:
    for name in ("BertzCT", "median2"):
        few.check_property(name)
    for name in ("qed", "TPSA", "MolLogP"):
        with pytest.raises(InputError, match="may have been trained"):
            few.check_property(name)
    with pytest.raises(InputError, match="neither"):
        few.check_property("BertzTC")
    assert few.labels_of("MolMR", ["CCO", "c1ccccc1"]) == pytest.approx([12.76, 26.44], abs=0.01)


def test_more_labels_hold_those_of_fewer_and_a_tenth_is_kept_aside(study: Any) -> None:
    few_rows, kept = study.labelled(40, 0)
    more, more_kept = study.labelled(80, 0)
    assert (len(few_rows), len(kept)) == (36, 4)
    assert set(few_rows) <= set(more)
    assert set(kept) <= set(more_kept)
    assert not set(more) & set(more_kept)
    assert set(study.labelled(40, 1)[0]) != set(few_rows)
    assert not set(study.test) & set(study.smiles)


def test_rows_are_taken_as_often_as_asked_with_their_tokens_and_properties(study: Any) -> None:
    properties = np.full((len(study.smiles), 1), np.nan, dtype=np.float32)
    properties[[5, 2, 7], 0] = [1.0, 3.0, 100.0]
    taken = few.take(study.dataset, np.array([5, 2, 5, 9, 7]), properties, ["x"], np.array([7]))
    assert len(taken) == 5
    for place, row in enumerate((5, 2, 5, 9, 7)):
        np.testing.assert_array_equal(taken.token_ids(place), study.dataset.token_ids(row))
    np.testing.assert_array_equal(taken.properties[:, 0], np.array([1, 3, 1, np.nan, 100], dtype=np.float32))
    assert taken.split.tolist() == [SPLITS["train"]] * 4 + [SPLITS["valid"]]
    # What is kept aside says nothing of the unit either.
    assert (taken.property_info[0].mean, taken.property_info[0].maximum, taken.property_info[0].n) == (2.0, 3.0, 2)


def test_every_method_gives_a_row_and_is_not_asked_twice(study: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = few.train_model
    monkeypatch.setattr(few, "train_model", lambda data, *rest, **more: (seen.append(data), real(data, *rest, **more)))
    measure = few.Measure(study, load_model("moses", "cpu"))
    wanted = [("BertzCT", 60, 0, method) for method in few.METHODS]
    path = study.setting.output / "few_labels.csv"
    table = few.measure_missing(path, wanted[:2], measure)
    assert table["method"].tolist() == ["latents", "forest"]
    assert not seen
    # Sixty labels of 150 molecules: codes of a trained model tell a size from them, which a network of 3 steps cannot.
    assert table["r2"][0] > 0.3
    table = few.measure_missing(path, wanted, measure)
    assert table["method"].tolist() == list(few.METHODS)
    assert table["coverage_90"].between(0, 1).all()
    alone, semi = seen
    assert (len(alone), len(alone.rows("valid"))) == (60, 6)
    assert len(semi) >= 150
    assert np.isfinite(semi.properties[semi.rows("train"), 0]).mean() >= 0.25
    assert np.isnan(semi.properties).any()

    def never(*_: object) -> None:
        raise AssertionError("measured twice")

    again = few.measure_missing(path, wanted[1:], never)
    pd.testing.assert_frame_equal(again.reset_index(drop=True), table.iloc[1:].reset_index(drop=True))
    assert "| BertzCT | 60 | forest | 1 |" in few.summary(table)
    few.draw_figure(table, path.with_suffix(".png"))
    assert path.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_a_file_that_was_left_empty_or_with_names_alone_is_gone_on_with(tmp_path: Path) -> None:
    def measure(name: str, labels: int, draw: int, method: str) -> Any:
        return few.Row(name, labels, draw, method, 10, 0.5, 1.0, 0.9, 2.0, 1.0)

    wanted = [("BertzCT", 300, 0, "latents"), ("BertzCT", 300, 0, "forest")]
    names = ",".join(field.name for field in dataclasses.fields(few.Row))
    for number, left in enumerate(("", f"{names}\n")):
        path = tmp_path / f"{number}.csv"
        path.write_text(left)
        few.measure_missing(path, wanted[:1], measure)
        table = few.measure_missing(path, wanted, measure)
        assert table["labels"].tolist() == [300, 300]
        assert len(path.read_text().splitlines()) == 3
