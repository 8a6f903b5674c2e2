"""Heads for measured properties: the process against the dense formula, honest intervals, chemists' own tables."""

from __future__ import annotations

import dataclasses
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from molvae.api import MolVAE
from molvae.chem.domain import Domain
from molvae.cli.main import main
from molvae.config import Config, ModelConfig
from molvae.data.dataset import PropertyInfo
from molvae.data.vocabulary import Vocabulary
from molvae.errors import ConfigError, InputError, ModelFileError, UnknownNameError
from molvae.generate.asking import Asking
from molvae.generate.conditional import sample_where
from molvae.generate.impute import COMPUTED, GIVEN, MISSING, PREDICTED, impute
from molvae.generate.labelled import label, read_labels
from molvae.generate.predict import (
    FITTED,
    FITTED_FILE,
    Predictor,
    fitted_heads,
    join_fitted,
    predictable,
    write_heads,
)
from molvae.generate.requests import parse_where
from molvae.nn.checkpoint import LoadedModel, load_model, save_model
from molvae.nn.gaussian_process import GaussianProcess, _Bound, covariance, fit_process
from molvae.nn.model import SequenceVAE
from molvae.optimize.goal import Component, GoalOracle
from molvae.optimize.oracles import find_oracle
from molvae.optimize.oracles_head import HeadOracle
from molvae.optimize.transforms import Linear
from molvae.train.fit_head import (
    CrossValidation,
    check_labels,
    cross_validate,
    fit_head,
    group_folds,
    random_folds,
    stretch,
)

TOKENS = ["[C]", "[O]", "[N]", "[F]", "[=O]", "[Branch1]"]
SIZES = {"embedding": 8, "encoder_hidden": 16, "decoder_hidden": 16, "decoder_layers": 1, "latent": 4}
CHAINS = [f"C{''.join(middle)}C" for middle in product("CNO", repeat=4)]
"""81 chains, 9 of which read the same from both ends; 45 different molecules."""


def surface(z: torch.Tensor) -> torch.Tensor:
    """A smooth function of latents (N, D)."""
    return 5 + torch.sin(2 * z[:, 0]) + 0.5 * z[:, 1]


@pytest.fixture(scope="module")
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn((160, 4), generator=generator, dtype=torch.float64)
    return z, surface(z) + 0.1 * torch.randn(160, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def process(rows: tuple[torch.Tensor, torch.Tensor]) -> GaussianProcess:
    return fit_process(rows[0][:120], rows[1][:120])


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    vocabulary = Vocabulary.from_tokens(TOKENS)
    info = [PropertyInfo("logp", 1.0, 2.0, -5.0, 5.0, 10)]
    config = Config(model=ModelConfig(**SIZES))
    model = SequenceVAE(config.model, len(vocabulary), info).eval()
    return LoadedModel(model, vocabulary, config, {"max_tokens": 20, "prior": None}, Path("nowhere"))


def assay(path: Path, molecules: list[str], extra: str = "") -> Path:
    """Write a table of chains and a value that counts their atoms."""
    lines = [f"{one},{one.count('N') - 0.5 * one.count('O') + 0.01 * row}" for row, one in enumerate(molecules)]
    path.write_text("smiles,pIC50\n" + "\n".join(lines) + "\n" + extra)
    return path


def test_the_process_is_the_dense_formula(rows: tuple[torch.Tensor, torch.Tensor], process: GaussianProcess) -> None:
    z, values = rows[0][:120], rows[1][:120]
    scales = process.get_buffer("log_scales")
    target = (values - values.mean()) / values.std()
    inner = covariance(z, z, scales) + scales[3].exp() * torch.eye(120, dtype=torch.float64)
    across = covariance(rows[0][120:], z, scales)
    mean = values.mean() + values.std() * (across @ torch.linalg.solve(inner, target))
    own = covariance(rows[0][120:], rows[0][120:], scales).diagonal()
    variance = own - (across @ torch.linalg.solve(inner, across.T)).diagonal() + scales[3].exp()
    found = process(rows[0][120:])
    torch.testing.assert_close(found[0], mean, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found[1], values.std() * variance.sqrt(), atol=1e-3, rtol=1e-2)


def test_the_process_learns_a_smooth_function(
    rows: tuple[torch.Tensor, torch.Tensor], process: GaussianProcess
) -> None:
    mean, std = process(rows[0][120:])
    error = mean - rows[1][120:]
    assert error.square().mean().sqrt() < 0.4 * rows[1].std()
    assert 0.75 <= (error.abs() < 1.645 * std).double().mean() <= 1


def test_the_process_has_a_gradient_and_knows_what_is_far(
    rows: tuple[torch.Tensor, torch.Tensor], process: GaussianProcess
) -> None:
    z = rows[0][120:].clone().requires_grad_()
    process(z)[0].sum().backward()
    assert z.grad is not None
    assert z.grad[:, 0].abs().mean() > z.grad[:, 3].abs().mean()
    novelty = process.novelty(rows[0][:20])
    assert (novelty < 0.3).all()
    assert (novelty >= 0).all()


def test_fewer_points_bound_the_likelihood_from_below(rows: tuple[torch.Tensor, torch.Tensor]) -> None:
    z, values = rows[0], (rows[1] - rows[1].mean()) / rows[1].std()
    scales = torch.tensor([0.0, 0.0, -1.0, -2.0], dtype=torch.float64)
    whole = covariance(z, z, scales) + scales[3].exp() * torch.eye(len(z), dtype=torch.float64)
    exact = -torch.distributions.MultivariateNormal(torch.zeros(len(z), dtype=torch.float64), whole).log_prob(values)
    nats = [float(_Bound(z, values, z[:points], scales).nats) for points in (10, 40, 160)]
    assert nats[0] > nats[1] > nats[2] >= float(exact) - 1e-3
    assert nats[2] == pytest.approx(float(exact), abs=1e-2)
    few = fit_process(z, values, torch.Generator().manual_seed(0), inducing=40)
    assert few.get_buffer("points").shape == (40, 4)


def test_folds_share_rows_out() -> None:
    assert np.bincount(random_folds(103, seed=1)).tolist() == [11] * 3 + [10] * 7
    assert (random_folds(50, seed=1) == random_folds(50, seed=1)).all()
    groups = ["a"] * 30 + ["b"] * 5 + ["c"] * 5 + list("defghijk")
    folds = group_folds(groups, folds=4)
    assert all(len({fold for fold, one in zip(folds, groups, strict=True) if one == name}) == 1 for name in groups)
    assert len(set(folds.tolist())) == 4


def test_intervals_hold_what_they_promise_on_rows_left_out() -> None:
    generator = torch.Generator().manual_seed(3)
    z = torch.randn((150, 4), generator=generator, dtype=torch.float64)
    # Noise with heavy tails, which a normal interval would misjudge.
    noise = torch.randn(150, generator=generator, dtype=torch.float64) ** 3 * 0.2
    values = (surface(z) + noise).numpy()
    checked = cross_validate(z.numpy().astype(np.float32), values, random_folds(150, 0, 5))
    assert 0.84 <= checked.coverage(values) <= 0.96
    head = fit_head(z.numpy().astype(np.float32), values, checked)
    assert float(head.get_buffer("stretch")) == checked.factor


def test_stretch_makes_nine_in_ten_fit() -> None:
    values = np.linspace(-10, 10, 201)
    checked = CrossValidation(np.zeros(201, dtype=np.int64), np.zeros(201), np.full(201, 4.0))
    factor = stretch(checked, values)
    inside = np.abs(values) <= 1.6449 * 4 * factor
    assert 0.895 <= inside.mean() <= 0.915


@pytest.mark.parametrize("values", [np.arange(5.0), np.ones(40)])
def test_tables_that_teach_nothing_are_refused(values: Any) -> None:
    with pytest.raises(InputError, match="pIC50"):
        check_labels(values, "pIC50")


def test_every_row_of_a_table_is_accounted_for(loaded: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "assay.csv"
    path.write_text("id,smiles,pIC50\n1,CCO,5\n2,OCC,7\n3,CCN,>8\n4,CCC,\n5,C(,4\n6,C[Si],4\n7,CCF,inf\n8,CC,6\n")
    smiles, values = read_labels(str(path), "pic50")
    found = label(loaded, smiles, values)
    assert found.smiles == ["CCO", "CC"]
    assert found.values.tolist() == [6, 6]
    assert found.repeated == 1
    assert found.left_out == {"not a number": 2, "no value": 1, "parse": 1, "vocabulary": 1}
    assert found.rows == 8 == len(found.smiles) + found.repeated + sum(found.left_out.values())
    assert found.latents.shape == (2, 4)
    with pytest.raises(UnknownNameError, match="no column 'Ki'"):
        read_labels(str(path), "Ki")


def test_fitted_heads_travel_with_their_model_only(loaded: LoadedModel, tmp_path: Path) -> None:
    z = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    head = fit_process(torch.from_numpy(z), surface(torch.from_numpy(z)))
    write_heads(tmp_path / FITTED_FILE, loaded, {"pIC50": head})
    noted = {"minimum": 3.0, "maximum": 7.0, "mean": 5.0, "std": 0.8, "n": 40}
    carrying = dataclasses.replace(loaded, directory=tmp_path, facts={**loaded.facts, FITTED: {"pIC50": noted}})
    assert predictable(carrying) == ["pIC50", "logp"]
    again = fitted_heads(carrying)["pIC50"]
    torch.testing.assert_close(again(torch.from_numpy(z))[0], head(torch.from_numpy(z))[0], rtol=0, atol=0)
    found = Predictor(carrying, ["pIC50", "logp"])(np.vstack([z, np.full((1, 4), np.nan)]))
    np.testing.assert_allclose(found["pIC50"].mean[:-1], head(torch.from_numpy(z))[0], rtol=1e-5)
    assert np.isnan(found["pIC50"].mean[-1])
    assert np.isnan(found["logp"].mean[-1])
    assert np.isfinite(found["pIC50"].novelty[:-1]).all()
    assert np.isnan(found["logp"].novelty).all()
    with pytest.raises(UnknownNameError, match="qed"):
        Predictor(carrying, ["qed"])
    torch.manual_seed(1)
    other = SequenceVAE(loaded.config.model, len(loaded.vocabulary), loaded.model.property_info)
    with pytest.raises(ModelFileError, match="another model"):
        fitted_heads(dataclasses.replace(carrying, model=other))
    damaged = dataclasses.replace(carrying, facts={FITTED: {"Ki": {}}})
    with pytest.raises(ModelFileError, match="Ki"):
        fitted_heads(damaged)


def test_trained_heads_speak_the_propertys_unit(loaded: LoadedModel) -> None:
    z = torch.randn(3, 4)
    mean, log_std = loaded.model.heads(z)
    found = Predictor(loaded, ["logp"])(z.numpy())["logp"]
    np.testing.assert_allclose(found.mean, (2 * mean[:, 0] + 1).detach().numpy(), rtol=1e-5)
    np.testing.assert_allclose(found.std, (2 * log_std[:, 0].exp()).detach().numpy(), rtol=1e-5)


def test_impute_keeps_computes_predicts_and_says_which(loaded: LoadedModel) -> None:
    columns = {"logp": np.array([3.0, np.nan, np.nan]), "tpsa": np.array([np.nan, np.nan, 1.0])}
    smiles = ["CCO", "CCN", "C["]
    found = impute(loaded, smiles, columns)
    assert found["logp"].origin.tolist() == [GIVEN, COMPUTED, MISSING]
    assert found["logp"].values[0] == 3
    assert np.isnan(found["logp"].values[2])
    assert found["tpsa"].values[0] == pytest.approx(20.23, abs=0.01)
    assert found["tpsa"].std.tolist() == [0, 0, 0]
    guessed = impute(loaded, smiles, columns, by_head=True)
    assert guessed["logp"].origin.tolist() == [GIVEN, PREDICTED, MISSING]
    assert guessed["logp"].std[1] > 0
    assert guessed["tpsa"].origin[0] == COMPUTED
    with pytest.raises(UnknownNameError, match="neither computed nor predicted"):
        impute(loaded, smiles, {"Ki": columns["logp"]})


def test_the_verbs(loaded: LoadedModel, tmp_path: Path, capsys: Any) -> None:
    save_model(tmp_path / "model", loaded.model, loaded.vocabulary, loaded.config, loaded.facts, card="# m\n")
    table = assay(tmp_path / "assay.csv", CHAINS, "CC,\nCCC,>9\n")
    target = tmp_path / "with_head"
    common = ["--workers", "1", "--device", "cpu"]
    asked = ["fit-head", str(table), "--property", "pIC50", "-m", str(tmp_path / "model"), "-o", str(target)]
    assert main([*asked, *common]) == 0
    said = capsys.readouterr().out
    assert "83 rows = 45 molecules + 36 repeated (averaged) + 2 left out (1 not a number, 1 no value)" in said
    assert said.count("head on latents") == 2
    assert said.count("forest on fingerprints") == 2
    assert "pIC50" in (target / "README.md").read_text()
    again = load_model(target, "cpu")
    assert again.facts[FITTED]["pIC50"]["n"] == 45
    out = tmp_path / "full.csv"
    assert main(["impute", str(table), "-m", str(target), "-o", str(out), *common]) == 0
    assert "pIC50: 81 given, 0 computed, 2 predicted, 0 missing" in capsys.readouterr().out
    filled = pd.read_csv(out)
    assert filled["pIC50"].notna().all()
    assert (filled["pIC50_std"][:81] == 0).all()
    assert (filled["pIC50_std"][81:] > 0).all()
    assert main([*asked, *common]) != 0
    few = assay(tmp_path / "few.csv", CHAINS[:5])
    asked[1], asked[-1] = str(few), str(tmp_path / "none")
    assert main([*asked, *common]) != 0
    assert "needs 30" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_heads_travel_with_copies_and_new_priors(loaded: LoadedModel, tmp_path: Path) -> None:
    values = [one.count("N") + 0.1 * one.count("O") for one in CHAINS]
    facts = {**loaded.facts, "usual": {"samples": 16}, "figures": {"exact": 1.0}, "steps": 3}
    save_model(tmp_path / "model", loaded.model, loaded.vocabulary, loaded.config, facts, card="# m\n")
    model = MolVAE.from_pretrained(tmp_path / "model", "cpu")
    taught = model.fit_head(CHAINS, values, "pIC50", tmp_path / "taught")
    before = taught.impute(["CCO", "C["], "pIC50")
    assert np.isnan(before["pIC50"][1])
    chains = tmp_path / "chains.smi"
    chains.write_text("".join(f"{one}\n{one}F\n" for one in CHAINS))
    args = ["prepare", str(chains), "-o", str(tmp_path / "data"), "--vocabulary-from", str(tmp_path / "model")]
    assert main([*args, "--properties", "logp", "--workers", "1"]) == 0
    args = ["fit-prior", str(tmp_path / "data"), "-m", str(tmp_path / "taught"), "-o", str(tmp_path / "both")]
    assert main([*args, "--prior", "normal", "--device", "cpu"]) == 0
    taught.save_pretrained(tmp_path / "copy", half=True)
    assert MolVAE.from_pretrained(tmp_path / "copy", "cpu").impute(["CCO"], "pIC50")["pIC50"][0] == pytest.approx(
        before["pIC50"][0], abs=0.05
    )
    with pytest.raises(ConfigError, match="trained with logp"):
        model.fit_head(CHAINS, values, "logp", tmp_path / "none")
    both = MolVAE.from_pretrained(tmp_path / "both", "cpu")
    # What hangs on the prior goes with it, the rest stays.
    assert {"usual", "figures", "steps"} & both.loaded.facts.keys() == {"steps"}
    after = both.impute(["CCO", "C["], "pIC50")
    pd.testing.assert_frame_equal(before, after)
    with pytest.raises(InputError, match="needs 30"):
        model.fit_head(CHAINS[:5], values[:5], "pIC50", tmp_path / "none")


def test_a_search_takes_a_fitted_head_for_its_oracle(loaded: LoadedModel, tmp_path: Path) -> None:
    values = [one.count("N") + 0.1 * one.count("O") for one in CHAINS]
    save_model(tmp_path / "model", loaded.model, loaded.vocabulary, loaded.config, loaded.facts)
    taught = MolVAE(load_model(tmp_path / "model", "cpu")).fit_head(CHAINS, values, "pIC50", tmp_path / "taught")
    plain, sure = (find_oracle(name, loaded=taught.loaded) for name in ("head:pIC50", "head:pIC50:sure"))
    at_most = find_oracle("head:pIC50:atmost", loaded=taught.loaded)
    asked = [*CHAINS[:2], "C[", "OCO"]
    scores, careful, high = (np.array(oracle(asked)) for oracle in (plain, sure, at_most))
    assert np.isnan(scores[2])
    assert np.isnan(careful[2])
    filled = taught.impute(asked, "pIC50")
    np.testing.assert_allclose(scores, filled["pIC50"], rtol=1e-6)
    # A measured molecule is its own nearest; of another one the bound comes nearer to what the table holds.
    domain = Domain.of(label(loaded, CHAINS, list(values)).smiles)
    facts = taught.loaded.facts[FITTED]["pIC50"]
    near, trust = domain.judge(asked)
    np.testing.assert_allclose(filled["pIC50_nearest"][[0, 1, 3]], near[[0, 1, 3]])
    assert trust[[0, 1]].tolist() == [1, 1]
    assert trust[3] < 1
    for bound, side in ((careful, -1), (high, 1)):
        usual = facts["mean"] + side * facts["std"]
        expected = trust * (filled["pIC50"] + side * filled["pIC50_std"]) + (1 - trust) * usual
        np.testing.assert_allclose(bound[[0, 1, 3]], expected[[0, 1, 3]], rtol=1e-6)
    assert isinstance(plain, HeadOracle)
    assert "guesses at 1 of the 2 best" in plain.caution([asked[0], asked[3]])
    with pytest.raises(UnknownNameError, match="Ki"):
        find_oracle("head:Ki:sure", loaded=taught.loaded)
    for oracle, minimize, better in (("sure", True, "atmost"), ("atmost", False, "sure")):
        with pytest.raises(InputError, match="not sure of") as raised:
            taught.optimize(f"head:pIC50:{oracle}", minimize=minimize)
        assert f"head:pIC50:{better}" in str(raised.value)
    goal = GoalOracle([Component("activity", plain, Linear())])
    assert "head:pIC50 guesses" in goal.caution(["OCO"])


def test_requests_see_fitted_heads_beside_the_trained_ones(loaded: LoadedModel, tmp_path: Path) -> None:
    values = [one.count("N") + 0.1 * one.count("O") for one in CHAINS]
    save_model(tmp_path / "model", loaded.model, loaded.vocabulary, loaded.config, loaded.facts)
    taught = MolVAE(load_model(tmp_path / "model", "cpu")).fit_head(CHAINS, values, "pIC50", tmp_path / "taught").loaded
    joined = join_fitted(taught)
    assert taught.model.predict_names == ["logp"]
    assert joined.model.predict_names == ["logp", "pIC50"]
    assert join_fitted(loaded) is loaded
    z = torch.randn(5, 4, requires_grad=True)
    mean, log_std = joined.model.heads(z)
    centre, deviation = fitted_heads(taught)["pIC50"](z.detach())
    info = joined.model.property_info[-1]
    np.testing.assert_allclose(mean[:, 1].detach() * info.std + info.mean, centre, rtol=1e-5)
    np.testing.assert_allclose(log_std[:, 1].detach().exp() * info.std, deviation, rtol=1e-5)
    torch.testing.assert_close(mean[:, 0], taught.model.heads(z)[0][:, 0])
    (slope,) = torch.autograd.grad(mean[:, 1].sum(), z)
    assert slope.abs().sum() > 0
    table = sample_where(joined, 4, parse_where("pIC50>=2"), Asking(rounds=1), seed=1, workers=1)
    assert {"pIC50_requested", "pIC50_predicted", "pIC50_std", "pIC50_error"} <= set(table.columns)
    assert (table["pIC50_requested"] >= 2).all()
    with pytest.raises(UnknownNameError, match="Ki"):
        sample_where(taught, 4, parse_where("Ki>=2"))
    far = f"pIC50={info.maximum + 3:g}, logp=2"
    warnings = sample_where(taught, 0, parse_where(far), Asking(rounds=0), workers=1).attrs["warnings"]
    away = (info.maximum + 3 - info.mean) / info.std
    assert len(warnings) == 1
    assert f"lies 3 above the training set ({info.minimum:.4g} to {info.maximum:.4g}" in warnings[0]
    assert f"{away:.1f} standard deviations" in warnings[0]
    assert sample_where(taught, 0, parse_where("pIC50>=2"), workers=1).attrs["warnings"] == ()
