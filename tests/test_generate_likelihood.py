"""Importance-weighted bounds, the figures of `molvae evaluate`, and what they say of broken models."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from tiny import tiny_dataset

from molvae.benchmark.aggregate import mean_discrepancy, moment_kl, mutual_information
from molvae.benchmark.evaluation import Settings, evaluate_model
from molvae.benchmark.held_out import held_out
from molvae.cli.main import main
from molvae.config import Config, ModelConfig, ObjectiveConfig, PriorConfig
from molvae.data.batch import collate
from molvae.data.dataset import load_dataset
from molvae.data.vocabulary import Vocabulary
from molvae.errors import ConfigError, InputError
from molvae.generate.likelihood import (
    Normal,
    densities,
    has_density,
    importance_weights,
    is_point_mass,
    need_likelihood,
)
from molvae.nn.checkpoint import LoadedModel, save_model
from molvae.nn.distributions import DiagonalNormal
from molvae.nn.model import SequenceVAE
from molvae.nn.priors import build_prior
from molvae.objectives.divergences import kl_per_dimension

TOKENS = ("[C]", "[N]", "[O]", "[=C]", "[F]")
SIZES = {"embedding": 8, "encoder_hidden": 12, "decoder_hidden": 16, "decoder_layers": 1, "latent": 4}


def tiny_model(objective: str = "vae", tokens: tuple[str, ...] = TOKENS, seed: int = 0) -> LoadedModel:
    torch.manual_seed(seed)
    vocabulary = Vocabulary.from_tokens(tokens)
    config = Config(model=ModelConfig(**SIZES), objective=ObjectiveConfig(name=objective))
    model = SequenceVAE(config.model, len(vocabulary)).eval()
    with torch.no_grad():  # codes that differ from molecule to molecule
        model.encoder.to_mean.weight.mul_(8)
    return LoadedModel(model, vocabulary, config, {"max_tokens": 10, "prior": None}, Path("nowhere"))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return tiny_model()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data") / "tiny", n=100, properties=0).directory


def three_molecules() -> Any:
    return collate([np.array([4, 5]), np.array([6, 6, 7, 8]), np.array([4])])


def noise(k: int, b: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn((k, b, 4), generator=torch.Generator().manual_seed(seed))


def test_one_sample_is_the_sampled_elbo(loaded: LoadedModel) -> None:
    weights = importance_weights(loaded.model, three_molecules(), noise(1), {"normal": Normal()})
    elbo = weights.log_px - (weights.log_qz - weights.log_pz["normal"])
    assert torch.allclose(weights.bound("normal"), elbo[0])


def test_groups_of_one_average_to_the_elbo_and_the_bound_tightens(loaded: LoadedModel) -> None:
    weights = importance_weights(loaded.model, three_molecules(), noise(256), {"normal": Normal()})
    bounds = [weights.bound("normal", k).mean().item() for k in (1, 4, 16, 64, 256)]
    assert torch.allclose(weights.bound("normal", 1), weights.log_weights("normal").mean(0))
    assert bounds == sorted(bounds)
    assert bounds[-1] > bounds[0] + 1e-3


def test_the_bound_reaches_the_integral() -> None:
    loaded = tiny_model(seed=3)
    torch.nn.init.zeros_(loaded.model.encoder.to_log_std.bias)  # q(z|x) as wide as the prior, elsewhere
    batch = collate([np.array([4, 5])])
    # p(x) by drawing from the prior, which needs no q at all.
    z = torch.randn((20_000, 4), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        posterior = loaded.model.encode(batch.tokens, batch.lengths)
        log_px = loaded.model.decoder.log_prob(batch.tokens, z[:, None], loaded.model.unconditioned(1)).double()
    truth = float(log_px.logsumexp(0) - math.log(len(z)))
    assert posterior.mean.abs().max() > 0.3
    weights = importance_weights(loaded.model, batch, noise(4000, 1), {"normal": Normal()})
    assert weights.bound("normal").item() == pytest.approx(truth, abs=0.05)
    assert weights.bound("normal", 1).item() < truth - 0.1


def test_chunks_change_nothing(loaded: LoadedModel) -> None:
    whole = importance_weights(loaded.model, three_molecules(), noise(10), densities(loaded.model))
    parts = importance_weights(loaded.model, three_molecules(), noise(10), densities(loaded.model), rows_at_once=7)
    assert torch.allclose(whole.log_weights("model"), parts.log_weights("model"), atol=1e-5)
    assert whole.log_px.shape == parts.log_px.shape == (10, 3)


def test_tokens_sum_to_the_molecule_and_padding_is_silent(loaded: LoadedModel) -> None:
    weights = importance_weights(loaded.model, three_molecules(), noise(6), densities(loaded.model), keep_tokens=True)
    assert weights.tokens is not None
    assert torch.allclose(weights.tokens.sum(2), weights.log_px, atol=1e-5)
    surprise = weights.surprise("normal")
    assert (surprise[2, 2:] == 0).all()
    assert (surprise[2, :2] > 0).all()


def test_models_without_a_likelihood_are_refused(loaded: LoadedModel) -> None:
    assert not is_point_mass(loaded)
    with pytest.raises(ConfigError, match="without noise"):
        need_likelihood(tiny_model("ae"), "A score")
    other = tiny_model()
    other.model.prior = torch.nn.Identity()  # type: ignore[assignment]
    assert list(densities(other.model)) == ["normal"]
    with pytest.raises(ConfigError, match="no density"):
        need_likelihood(other, "A score")


@pytest.mark.parametrize("kind", get_args(PriorConfig.model_fields["kind"].annotation))
def test_every_prior_is_judged_by_its_density_or_left_out(kind: str) -> None:
    loaded = tiny_model()
    loaded.model.prior = build_prior({**PriorConfig().model_dump(), "kind": kind}, 4)
    priors = densities(loaded.model)
    assert has_density(loaded.model.prior) == ("model" in priors) == (kind != "latent_gan")
    weights = importance_weights(loaded.model, three_molecules(), noise(4), priors)
    for name in priors:
        assert weights.bound(name).isfinite().all()
    if kind in ("normal", "gmm"):  # unfitted, a mixture of N(0, I)
        assert torch.allclose(weights.bound("model"), weights.bound("normal"), atol=1e-4)


def test_mutual_information_is_that_of_a_gaussian_channel_and_stops_at_log_n() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn((2000, 1), generator=generator)
    noisy = DiagonalNormal(mean, torch.zeros(2000, 1))
    draws = [mutual_information(noisy, z) for z in noisy.sample(8, generator)]
    assert np.mean(draws) == pytest.approx(0.5 * math.log(1 + float(mean.var())), abs=0.02)
    sharp = DiagonalNormal(mean, torch.full((2000, 1), -20.0))
    assert mutual_information(sharp, mean) == pytest.approx(math.log(2000), abs=1e-3)
    silent = DiagonalNormal(torch.zeros(50, 3), torch.zeros(50, 3))
    assert mutual_information(silent, silent.sample(1, generator)[0]) == pytest.approx(0, abs=1e-4)


def test_moment_kl_is_the_formula_in_one_dimension() -> None:
    z = 2 * torch.randn((50_000, 1), generator=torch.Generator().manual_seed(0)) + 1
    assert moment_kl(z) == pytest.approx(0.5 * (4 + 1 - 1 - math.log(4)), abs=0.05)
    with pytest.raises(ValueError, match="covariance"):
        moment_kl(z[:2])


def test_mean_discrepancy_tells_shifted_samples_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn((400, 4), generator=generator) for _ in range(2))
    assert abs(mean_discrepancy(one, two)) < 0.005 < 0.05 < mean_discrepancy(one, two + 1)


def test_evaluation_agrees_with_itself(loaded: LoadedModel, dataset: Path) -> None:
    molecules = held_out(loaded, str(dataset), None, 1000, 0, None)
    assert len(molecules) == molecules.asked == 20
    found = evaluate_model(loaded, molecules, Settings(samples=20, encodings=2, decodings=2))
    part = found["likelihood"]["priors"]["normal"]
    elbo = found["likelihood"]["distortion"]["mean"] + part["rate"]["mean"]
    assert part["negative_elbo"]["mean"] == pytest.approx(elbo)
    assert part["negative_bound"]["1"]["mean"] == pytest.approx(elbo)
    assert list(part["negative_bound"]) == ["1", "10", "20"]
    assert part["bits_per_molecule"] == pytest.approx(part["nats_per_molecule"] / math.log(2))
    tokens = found["data"]["tokens_per_molecule"]
    assert part["nats_per_token"] * tokens == pytest.approx(part["nats_per_molecule"])
    batch = collate(molecules.token_ids)
    kl = kl_per_dimension(loaded.model.encode(batch.tokens, batch.lengths)).sum(1).mean().item()
    assert found["likelihood"]["rate"]["mean"] == pytest.approx(kl, rel=1e-4)
    codes = found["codes"]
    assert codes["mutual_information_at_least"] <= codes["mutual_information_ceiling"] == pytest.approx(math.log(20))
    for protocol in found["reconstruction"].values():
        assert 0 <= protocol["exact"] <= protocol["same_molecule"] <= 1
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert evaluate_model(loaded, molecules, Settings(samples=20, encodings=2, decodings=2)) == found


def test_a_perfect_autoencoder_is_counted_right(monkeypatch: pytest.MonkeyPatch, loaded: LoadedModel) -> None:
    from molvae.benchmark import protocols
    from molvae.benchmark.held_out import HeldOut
    from molvae.generate.sampling import Sequences

    molecules = HeldOut("two", [np.array([4, 6]), np.array([4])], np.zeros((2, 0), dtype=np.float32), {}, 2)
    vocabulary = loaded.vocabulary
    assert vocabulary.tokens[4:6] == ("[=C]", "[C]")
    # Row 0 comes back; row 1 comes back as another string of the same molecule.
    written = Sequences(
        np.array([[4, 6], [5, 0]], dtype=np.uint16), np.array([2, 1]), np.zeros(2, np.float32), np.array([True, True])
    )
    monkeypatch.setattr(protocols, "decode_tokens", lambda *arguments, **named: written)
    found = protocols.reconstruct_greedily(loaded, molecules, torch.zeros(2, 4))
    assert found == {"exact": 0.5, "same_molecule": 1.0, "token_accuracy": pytest.approx(4 / 5)}


def test_collapse_and_missing_noise_are_said(dataset: Path) -> None:
    silent = tiny_model()
    for layer in (silent.model.encoder.to_mean, silent.model.encoder.to_log_std):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    few = Settings(samples=2, encodings=1, decodings=1)
    found = evaluate_model(silent, held_out(silent, str(dataset), None, 20, 0, None), few)
    assert "collapsed" in found["warnings"][0]
    assert "objective.beta" in found["warnings"][0]
    assert found["codes"]["active_units"] == 0
    plain = tiny_model("ae")
    found = evaluate_model(plain, held_out(plain, str(dataset), None, 20, 0, None), few)
    assert found["likelihood"] is None
    assert any("without noise" in warning for warning in found["warnings"])
    json.dumps(found, allow_nan=False)


def test_tokens_that_the_model_lacks_are_counted(dataset: Path, tmp_path: Path) -> None:
    lacking = tiny_model(tokens=("[O]", "[C]", "[N]", "[=C]"))
    molecules = held_out(lacking, str(dataset), "train", 1000, 0, None)
    data = load_dataset(dataset)
    foreign = data.vocabulary.tokens.index("[F]")
    without = [row for row in data.rows("train") if foreign not in data.token_ids(int(row))]
    assert len(molecules) == len(without) < molecules.asked == 80
    assert molecules.left_out == {"vocabulary": 80 - len(without)}
    first = [data.vocabulary.tokens[token] for token in data.token_ids(int(without[0]))]
    assert [lacking.vocabulary.tokens[token] for token in molecules.token_ids[0]] == first
    file = tmp_path / "some.smi"
    file.write_text("CCO\nnothing\nCCF\nCCN\n")
    molecules = held_out(lacking, str(file), None, 10, 0, None)
    assert (len(molecules), molecules.left_out) == (2, {"parse": 1, "vocabulary": 1})
    with pytest.raises(InputError, match="no split"):
        held_out(lacking, str(file), "valid", 10, 0, None)
    file.write_text("F\nFF\n")
    with pytest.raises(InputError, match="2 vocabulary"):
        held_out(lacking, str(file), None, 10, 0, None)


def test_the_verb_prints_and_writes_the_same(loaded: LoadedModel, dataset: Path, tmp_path: Path, capsys: Any) -> None:
    save_model(tmp_path / "model", loaded.model, loaded.vocabulary, loaded.config, loaded.facts)
    arguments = ["evaluate", str(dataset), "-m", str(tmp_path / "model"), "--samples", "3", "-n", "15",
                 "--device", "cpu"]  # fmt: skip
    assert main([*arguments, "-o", str(tmp_path / "found.json"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "found.json").read_text())
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "15 of 15 molecules measured" in said
    assert "bits per token" in said
    assert "3 encodings x 3 decodings" in said
