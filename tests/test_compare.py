"""``molvae compare``: equal terms for every row, resuming row by row, a failing row, the table and the figure."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from molvae.benchmark import compare, compare_measure
from molvae.benchmark.compare import Comparison, Listener
from molvae.benchmark.compare_measure import build_yardstick
from molvae.benchmark.compare_plan import (
    OWN,
    SMALL,
    Request,
    all_objectives,
    plan_row,
    resumed,
    write_request,
)
from molvae.benchmark.compare_table import COLUMNS, records, to_csv, to_markdown
from molvae.benchmark.fcd import Gaussian
from molvae.chem.selfies import decode
from molvae.cli import compare as verb
from molvae.cli.main import main
from molvae.data.dataset import Dataset
from molvae.errors import ConfigError, MolvaeError, OutputError, UnknownNameError
from molvae.nn.checkpoint import load_model
from molvae.nn.model import SequenceVAE
from molvae.objectives.objective import Objective
from molvae.report.comparison import comparison_png, comparison_svg
from tests.tiny import tiny_dataset, tiny_values

VALUES: dict[str, Any] = {**tiny_values(), "prior": {"components": 2, "max_steps": 20, "layers": 2, "hidden": 8}}
TRAIN, HELD = 160, 40
BUDGET = 1280


def with_table(dataset: Dataset) -> Dataset:
    """Give a tiny dataset the table of SMILES that a prepared one has."""
    smiles = [decode(dataset.vocabulary.decode(dataset.token_ids(row))) for row in range(len(dataset))]
    pyarrow.parquet.write_table(pyarrow.table({"smiles": smiles}), dataset.directory / "molecules.parquet")
    return dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return with_table(tiny_dataset(tmp_path_factory.mktemp("data") / "tiny"))


def fake_statistics(smiles: Any) -> Gaussian:
    features = np.array([[len(one), one.count("C"), one.count("N")] for one in smiles], dtype=float)
    return Gaussian(features.mean(0), np.cov(features, rowvar=False) + np.eye(3), len(features))


@pytest.fixture(autouse=True, scope="module")
def fake_fcd() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_measure, "chemnet_statistics", fake_statistics)
        patch.setattr(compare_measure, "has_fcd", lambda: True)
        yield


def request(objectives: tuple[str, ...] = ("ae",), priors: tuple[str, ...] = (), **fields: Any) -> Request:
    return Request(objectives, priors, **{"values": VALUES, "budget": BUDGET, "number": 20, "samples": 3, **fields})


def comparison(data: Dataset, asked: Request, directory: Path, listener: Listener | None = None) -> Comparison:
    return Comparison(data, asked, directory, device="cpu", hardware="test", workers=1, listener=listener)


@pytest.fixture(scope="module")
def done(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    asked = request(("ae", "iwae", "flow_prior"), ("normal", "gmm", "latent_gan"), fitted=("ae", "flow_prior"))
    found = comparison(data, asked, tmp_path_factory.mktemp("compare"))
    assert found.run() is None
    assert found.failures == {}
    return found


def test_samples_are_paid_for_from_the_same_budget(data: Dataset) -> None:
    asked = request(values={**VALUES, "rows": {"iwae": {"objective": {"samples": 4}}}})
    plans = {name: plan_row(name, asked, data) for name in all_objectives()}
    assert plans["iwae"].samples == 4
    assert plans["iwae"].molecules == BUDGET // 4
    batch = VALUES["train"]["batch_size"]
    for name, plan in plans.items():
        assert plan.samples == (4 if name == "iwae" else 1)
        assert plan.steps * batch * plan.samples == BUDGET
        assert plan.config.train.max_steps == plan.steps
        assert plan.config.objective.warmup_steps == plan.steps // 4
    assert plan_row("iwae", request(), data).samples == 8


def test_a_budget_that_is_no_whole_number_of_epochs_or_batches(data: Dataset) -> None:
    steps = [plan_row("vae", request(budget=budget), data).steps for budget in (1, 16, 400, 10 * TRAIN)]
    assert steps == [1, 1, 25, 100]


def test_rows_differ_in_nothing_but_their_objective(data: Dataset) -> None:
    before = json.dumps(SMALL)
    configs = {name: plan_row(name, request(values={}), data).config for name in all_objectives()}
    # Not every row could train with noise on its codes, so none does.
    assert {Objective(config.objective).code_noise for config in configs.values()} == {0.0}
    noisy = plan_row("beta_vae", request(values={"objective": {"code_noise": 0.3}}), data).config
    assert Objective(noisy.objective).code_noise == 0.3
    for name, config in configs.items():
        assert config.seed == configs["ae"].seed
        assert config.model.condition_on == (["p0", "p1"] if name == "cvae" else [])
        assert config.model.predict == ("all" if name == "ss_vae" else [])
        same = {"condition_on": [], "predict": []}
        assert config.model.model_copy(update=same) == configs["ae"].model.model_copy(update=same)
    assert json.dumps(SMALL) == before


def test_the_usual_networks_are_small_in_every_row(data: Dataset) -> None:
    for name in all_objectives():
        config = plan_row(name, request(values={}), data).config
        model = SequenceVAE(config.model, 60, data.property_info)
        Objective(config.objective).prepare(model, config.prior)
        assert sum(weight.numel() for weight in model.parameters()) <= 1_500_000


def test_settings_of_one_row_stay_in_it(data: Dataset) -> None:
    asked = request(values={**VALUES, "rows": {"aae": {"objective": {"match_weight": 7.0}}}})
    asked.check()
    assert plan_row("aae", asked, data).config.objective.match_weight == 7.0
    assert plan_row("vae", asked, data).config.objective.match_weight is None


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"objectives": ("ae", "nonsense")}, UnknownNameError, "nonsense"),
        ({"priors": ("nonsense",)}, UnknownNameError, "flow_matching"),
        ({"values": {"train": {"epochs": 3}}}, ConfigError, "--budget"),
        ({"values": {"objective": {"name": "vae"}}}, ConfigError, "--objectives"),
        ({"values": {"rows": {"vae": {"model": {"latent": 2}}}}}, ConfigError, "all rows share"),
        ({"values": {"rows": {"wea": {}}}}, UnknownNameError, "wea"),
        ({"values": {"model": {"latnet": 2}}}, ConfigError, "model.latent"),
    ],
)
def test_what_makes_a_comparison_unfair_is_refused(change: Any, error: type[MolvaeError], said: str) -> None:
    with pytest.raises(error) as caught:
        replace(request(), **change).check()
    assert said in str(caught.value)


def test_every_row_and_prior_is_measured(done: Comparison) -> None:
    assert done.missing() == []
    assert done.items() == [
        "ae", "ae.own", "ae.gmm", "ae.latent_gan", "iwae", "iwae.own",
        "flow_prior", "flow_prior.own", "flow_prior.normal", "flow_prior.gmm", "flow_prior.latent_gan",
    ]  # fmt: skip
    passes = {name: done.results[name]["decoder_passes"] for name in ("ae", "iwae", "flow_prior")}
    assert passes == dict.fromkeys(passes, BUDGET)
    assert done.results["iwae"]["molecules_seen"] == BUDGET // 8
    for item in done.items():
        if "." in item:
            assert done.results[item]["n"] == done.results[item]["drawn_ok"] == HELD
            assert done.results[item]["fcd"] >= 0
            assert 0 < done.results[item]["uniqueness"] <= 1
    assert load_model(done.directory / "priors" / "ae.gmm", "cpu").facts["prior"]["kind"] == "gmm"


def test_what_has_no_likelihood_has_no_rate(done: Comparison) -> None:
    rows = {(row["objective"], row["prior"]): row for row in records(done.summary())}
    assert all(set(row) == set(COLUMNS) and row["state"] == "ok" for row in rows.values())
    for kind in (OWN, "gmm"):
        assert rows["ae", kind]["rate"] is None
        assert rows["ae", kind]["negative_elbo"] is None
    assert rows["ae", OWN]["distortion"] > 0
    assert rows["flow_prior", "latent_gan"]["rate"] is None
    for key in (("iwae", OWN), ("flow_prior", OWN), ("flow_prior", "normal")):
        row = rows[key]
        assert row["negative_elbo"] == pytest.approx(row["distortion"] + row["rate"])
    assert rows["iwae", OWN]["negative_bound"] <= rows["iwae", OWN]["negative_elbo"] + 1e-6
    assert rows["iwae", OWN]["bound_samples"] == 3
    # The flow learned with the row, not N(0, I), is its own prior.
    assert rows["flow_prior", OWN]["rate"] != pytest.approx(rows["flow_prior", "normal"]["rate"], abs=1e-3)


def test_table_and_figure(done: Comparison) -> None:
    summary = done.summary()
    rows = records(summary)
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [row["objective"] for row in read] == [item.partition(".")[0] for item in done.items() if "." in item]
    assert {row["hardware"] for row in read} == {"test"}
    text = to_markdown(summary)
    for said in (f"{BUDGET:,} decoder passes", "seed 0", "n = 20", "| FCD gmm |", "| iwae | 1,280 |", "floor"):
        assert said in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    svg = comparison_svg(rows)
    for said in ("Rate-distortion plane", "Reconstruction against FCD", "flow_prior", "latent_gan"):
        assert f">{said}<" in svg
    assert comparison_svg(rows) == svg
    assert comparison_png(rows).startswith(b"\x89PNG")


def test_figure_of_nothing_says_so() -> None:
    svg = comparison_svg([])
    assert ">no row is measured yet<" in svg
    assert ">no FCD is measured<" in svg


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("done again")


def test_what_is_finished_is_not_done_again(done: Comparison, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "train_model", never)
    monkeypatch.setattr(compare, "fit_prior", never)
    again = comparison(data, done.request, done.directory)
    assert again.missing() == []
    assert again.run() is None
    assert again.results == done.results
    (done.directory / "results" / "ae.gmm.json").unlink()
    (done.directory / "results" / "iwae.json").unlink()
    again = comparison(data, done.request, done.directory)
    assert again.missing() == ["ae.gmm", "iwae"]
    assert again.run() is None
    assert again.failures == {}
    # Measured anew from the model and the prior that were kept.
    assert again.results == done.results


def test_an_interrupted_row_goes_on_to_the_same_weights(done: Comparison, data: Dataset, tmp_path: Path) -> None:
    asked = request(("iwae", "ae"))

    def interrupt(row: str, what: str, step: int, total: int, shown: Any) -> None:
        if what == "training" and row == "ae" and step < total:
            os.kill(os.getpid(), signal.SIGINT)

    first = comparison(data, asked, tmp_path, Listener(stage=interrupt))
    assert first.run() == signal.SIGINT
    assert first.missing() == ["ae", "ae.own"]
    assert load_model(tmp_path / "rows" / "ae", "cpu").facts["steps"] < plan_row("ae", asked, data).steps
    second = comparison(data, asked, tmp_path)
    assert second.run() is None
    weights = [load_model(place / "rows" / "ae", "cpu").model.state_dict() for place in (tmp_path, done.directory)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert second.results["ae"]["distortion"] == done.results["ae"]["distortion"]


def test_a_failing_row_costs_only_itself(tmp_path: Path) -> None:
    bare = with_table(tiny_dataset(tmp_path / "bare", properties=0))
    found = comparison(bare, request(("cvae", "ae")), tmp_path / "out")
    assert found.run() is None
    assert found.missing() == ["cvae", "cvae.own"]
    assert "condition_on" in found.failures["cvae"].remedy
    states = {row["objective"]: (row["state"], row["note"]) for row in records(found.summary())}
    assert states["ae"] == ("ok", None)
    assert states["cvae"][0] == "failed"
    assert "model.condition_on" in states["cvae"][1]
    assert "cvae failed: " in to_markdown(found.summary())
    assert ">ae<" in comparison_svg(records(found.summary()))


def test_a_failing_prior_costs_only_itself(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = compare.fit_prior

    def fit(model: Any, dataset: Any, config: Any, *rest: Any) -> Any:
        if config.kind == "gmm":
            raise ValueError("codes that\nare no numbers")
        return real(model, dataset, config, *rest)

    monkeypatch.setattr(compare, "fit_prior", fit)
    found = comparison(data, request(priors=("gmm", "flow")), tmp_path)
    assert found.run() is None
    assert found.missing() == ["ae.gmm"]
    assert found.failures["ae.gmm"].problem == "ValueError: codes that are no numbers"
    monkeypatch.setattr(compare, "fit_prior", real)
    again = comparison(data, request(priors=("gmm", "flow")), tmp_path)
    assert again.run() is None
    assert (again.missing(), again.failures) == ([], {})


def test_a_full_disk_ends_everything(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OutputError("Cannot write: no space.", "Free space.")

    monkeypatch.setattr(compare, "train_model", full)
    with pytest.raises(OutputError):
        comparison(data, request(("ae", "vae")), tmp_path).run()


def test_without_the_package_fcd_is_left_out_with_a_note(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_measure, "has_fcd", lambda: False)
    monkeypatch.setattr(compare_measure, "chemnet_statistics", never)
    found = comparison(data, request(), tmp_path)
    assert found.run() is None
    assert found.results["ae.own"]["fcd"] is None
    assert found.results["ae.own"]["validity"] > 0
    assert "molvae[metrics]" in to_markdown(found.summary())
    assert ">no FCD is measured<" in comparison_svg(records(found.summary()))


def test_floor_and_samples_have_the_same_n(data: Dataset) -> None:
    yard = build_yardstick(data, request(generated=25))
    assert (yard.split, yard.n, len(yard.reference)) == ("valid", 25, 25)
    assert yard.fcd(yard.reference) == pytest.approx(0, abs=1e-9)
    assert yard.floor is not None
    assert yard.floor > 0
    assert build_yardstick(data, request(generated=10**6)).n == HELD


def test_only_rows_and_priors_can_be_added_on_resume(data: Dataset, tmp_path: Path) -> None:
    write_request(tmp_path, request(("ae",), ("gmm",)), data)
    wider = resumed(tmp_path, data, {"objectives": ("vae", "ae"), "priors": ("flow",)})
    assert (wider.objectives, wider.priors) == (("ae", "vae"), ("gmm", "flow"))
    assert resumed(tmp_path, data, {"budget": BUDGET}) == request(("ae",), ("gmm",))
    for given in ({"budget": 5}, {"values": {"seed": 3}}, {"samples": 4}):
        with pytest.raises(ConfigError, match="comparable"):
            resumed(tmp_path, data, given)
    other = tiny_dataset(tmp_path / "other", seed=1)
    with pytest.raises(ConfigError, match="differs"):
        resumed(tmp_path, other, {})
    with pytest.raises(ConfigError, match="no comparison"):
        resumed(tmp_path / "nothing", data, {})


@pytest.fixture
def arguments(data: Dataset, tmp_path: Path) -> list[str]:
    config = tmp_path / "small.toml"
    sections = [
        f"[{section}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in entries.items())
        for section, entries in VALUES.items()
    ]
    config.write_text("\n".join(sections))
    return ["compare", str(data.directory), "-o", str(tmp_path / "out"), "--config", str(config), "--workers", "1",
            "--device", "cpu", "--budget", "320", "-n", "20", "--samples", "2"]  # fmt: skip


def test_verb_writes_table_and_figure_and_resumes(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--objectives", "ae,wae", "--priors", "none"]) == 0
    said = capsys.readouterr().out
    for name in verb.FILES:
        assert f"wrote {tmp_path / 'out' / name}" in said
        assert (tmp_path / "out" / name).stat().st_size > 0
    assert "| wae | 320 |" in said
    summary = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert summary["request"]["budget"] == 320
    assert summary["missing"] == []
    assert main([*arguments, "--objectives", "ae"]) == OutputError.exit_code
    assert "--resume" in capsys.readouterr().err
    assert main([*arguments[:4], "--resume", "--objectives", "vae", "--workers", "1", "--device", "cpu"]) == 0
    assert list(json.loads((tmp_path / "out" / "compare.json").read_text())["results"]) == [
        "ae", "ae.own", "wae", "wae.own", "vae", "vae.own",
    ]  # fmt: skip


def test_verb_says_what_is_missing_when_it_is_stopped(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "measure_prior", stop)
    assert main([*arguments, "--objectives", "ae", "--priors", "gmm"]) == 130
    said = capsys.readouterr().out
    assert "1 of 3 results are there; missing: ae.own, ae.gmm" in said
    assert "--resume" in said


def test_verb_fails_in_the_end_when_a_row_did(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = with_table(tiny_dataset(tmp_path / "bare", properties=0))
    arguments[1] = str(bare.directory)
    assert main([*arguments, "--objectives", "ss_vae,ae", "--priors", "none"]) == 7
    printed = capsys.readouterr()
    assert "1 of 4 failed, the others are done (ss_vae)" in printed.err
    assert "| ae | 320 |" in printed.out


def test_verb_takes_one_budget(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--epochs", "2"]) == ConfigError.exit_code
    assert "Give one of them" in capsys.readouterr().err
