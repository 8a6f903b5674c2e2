"""The second stage: priors fitted to frozen codes, with and without conditions, and ``molvae fit-prior``."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from molvae.cli.main import main
from molvae.cli.train import describe_prior
from molvae.config import PriorConfig, build_config
from molvae.data.dataset import Dataset, load_dataset
from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError
from molvae.nn.checkpoint import LoadedModel, load_model, save_model
from molvae.nn.distributions import DiagonalNormal
from molvae.nn.model import SequenceVAE
from molvae.nn.priors import CONDITIONAL
from molvae.train.fit_prior import PriorFit, fit_prior, measure_prior
from molvae.train.prior_codes import Codes, CodeSource, dataset_for, rate_against, split_codes
from molvae.train.prior_training import fit_flow, fit_flow_matching, fit_latent_gan
from tests.tiny import TOKENS, tiny_dataset, tiny_values

FITTED = ("gmm", "flow", "flow_matching", "latent_gan")
QUICK = {"layers": 2, "hidden": 16, "blocks": 1, "components": 4, "max_steps": 150, "batch_size": 64, "lr": 1e-2}
GENTLE = {**QUICK, "lr": 3e-3, "max_steps": 400, "critic_steps": 2}


def quick(kind: str, **settings: Any) -> PriorConfig:
    return PriorConfig(**{**(GENTLE if kind == "latent_gan" else QUICK), "kind": kind, **settings})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_dataset(tmp_path_factory.mktemp("data") / "tiny")


def tiny_model(dataset: Dataset, conditions: tuple[str, ...] = ()) -> LoadedModel:
    """Return a model whose codes lie around 3, not around 0."""
    values = tiny_values()
    config = build_config({**values, "model": {**values["model"], "condition_on": list(conditions)}})  # type: ignore[dict-item]
    torch.manual_seed(0)
    model = SequenceVAE(config.model, len(dataset.vocabulary), dataset.property_info)
    with torch.no_grad():
        model.encoder.to_mean.weight.mul_(5)
        model.encoder.to_mean.bias.add_(3)
    return LoadedModel(model.eval(), dataset.vocabulary, config, {"max_tokens": 9, "steps": 5}, Path("nowhere"))


@pytest.mark.parametrize("kind", FITTED)
def test_every_kind_learns_where_the_codes_are(kind: str, data: Dataset) -> None:
    model = tiny_model(data).model
    heard: list[tuple[int, int, float]] = []
    fit = fit_prior(model, data, quick(kind), 0, lambda *report: heard.append(report))
    with torch.no_grad():
        drawn = fit.prior.sample(2000, torch.Generator().manual_seed(0))
    codes = split_codes(model, data, 200, 0)[0].posterior.sample(1, torch.Generator().manual_seed(1))[0]
    torch.testing.assert_close(drawn.mean(0), codes.mean(0), atol=0.5, rtol=0)
    torch.testing.assert_close(drawn.std(0), codes.std(0), atol=0.5, rtol=0.3)
    if kind == "latent_gan":
        assert math.isnan(fit.rate)
        assert "no density" in describe_prior(fit)
    else:
        assert fit.rate < fit.rate_normal - 5
        assert f"{fit.rate:.1f} nats" in describe_prior(fit)
    if kind != "gmm":
        assert heard[-1][:2] == (fit.settings.max_steps, fit.settings.max_steps)
        assert math.isnan(heard[-1][2]) == (kind == "latent_gan")
    again = fit_prior(model, data, quick(kind, max_steps=3), 0).prior
    twice = fit_prior(model, data, quick(kind, max_steps=3), 0).prior
    assert all(torch.equal(value, twice.state_dict()[name]) for name, value in again.state_dict().items())


@pytest.mark.parametrize(("kind", "fit"), [
    ("flow", fit_flow), ("flow_matching", fit_flow_matching), ("latent_gan", fit_latent_gan),
])  # fmt: skip
def test_conditional_prior_follows_what_is_known(kind: str, fit: Any, data: Dataset) -> None:
    model = tiny_model(data, ("p0", "p1")).model
    generator = torch.Generator().manual_seed(0)
    properties = torch.randn((2000, 2), generator=generator) * model.scaler.std + model.scaler.mean
    properties[::3, 0] = math.nan
    known = model.scaler.scale(properties).nan_to_num(0.0)
    mean = torch.randn((2000, 4), generator=generator)
    mean[:, 0] = 2 * known[:, 0] + 0.2 * mean[:, 0]
    mean[:, 1] = -2 * known[:, 1] + 0.2 * mean[:, 1]
    codes = Codes(DiagonalNormal(mean, torch.full_like(mean, -3.0)), properties)
    settings = quick(kind, batch_size=256, max_steps=400 if kind != "latent_gan" else 700, hidden=32)
    prior = fit(CodeSource(model, codes, 4, 0.4), codes.first(200), settings, 0, None).eval()

    def average(*values: float) -> torch.Tensor:
        row = torch.tensor([values]) * model.scaler.std + model.scaler.mean
        with torch.no_grad():
            return prior.sample(1000, generator, model.condition(row).expand(1000, -1)).mean(0)

    tolerance = 0.9 if kind == "latent_gan" else 0.5
    assert average(1.0, math.nan)[0].item() == pytest.approx(2, abs=tolerance)
    assert average(math.nan, 1.0)[1].item() == pytest.approx(-2, abs=tolerance)
    both = average(-1.0, -1.0)
    assert both[0].item() == pytest.approx(-2, abs=tolerance)
    assert both[1].item() == pytest.approx(2, abs=tolerance)
    assert average(math.nan, math.nan)[:2].abs().max() < tolerance
    if prior.has_density:
        rates = [
            rate_against(prior, codes.posterior, torch.Generator().manual_seed(0), cond)
            for cond in (model.condition(properties), None)
        ]
        assert rates[0] < rates[1] - 1


def test_prior_is_conditional_only_where_there_are_conditions(data: Dataset) -> None:
    for conditions, asked, kind, expected in (
        ((), True, "flow", False), (("p0",), True, "flow", True), (("p0",), False, "flow", False),
        (("p0",), True, "gmm", False),
    ):  # fmt: skip
        fit = fit_prior(tiny_model(data, conditions).model, data, quick(kind, conditional=asked, max_steps=5))
        assert fit.settings.conditional == expected
        assert (fit.rate_given is not None) == expected
        assert ("given" in fit.facts()["prior_rate"]) == expected
    assert set(CONDITIONAL) < set(FITTED)


def test_facts_hold_no_number_that_json_cannot(data: Dataset) -> None:
    fit = fit_prior(tiny_model(data).model, data, quick("latent_gan", max_steps=2))
    facts = fit.facts()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["prior_rate"]["fitted"] is None


def test_learned_prior_is_measured_as_it_is(data: Dataset) -> None:
    model = tiny_model(data).model
    fit = fit_prior(model, data, quick("flow"))
    model.prior = fit.prior
    found = measure_prior(model, data, quick("gmm"))
    assert found.prior is fit.prior
    assert found.settings.kind == "flow"
    assert found.rate < found.rate_normal


def test_dataset_is_read_with_the_names_of_the_model(data: Dataset) -> None:
    loaded = tiny_model(data, ("p0",))
    swapped = dataclasses.replace(
        data, properties=data.properties[:, ::-1].copy(), property_info=data.property_info[::-1],
        vocabulary=Vocabulary.from_tokens(TOKENS),
    )  # fmt: skip
    found = dataset_for(loaded, swapped, conditions=True)
    np.testing.assert_array_equal(found.properties, data.properties)
    assert found.property_names == ["p0", "p1"]
    without = dataclasses.replace(data, properties=data.properties[:, 1:], property_info=data.property_info[1:])
    with pytest.raises(InputError, match="p0"):
        dataset_for(loaded, without, conditions=True)
    assert np.isnan(dataset_for(loaded, without, conditions=False).properties[:, 0]).all()


@pytest.fixture(scope="module")
def model(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / "first"
    loaded = tiny_model(data, ("p0",))
    facts = {**loaded.facts, "figures": {"fcd_prior": 3.0}, "trained_on": {"dataset": "tiny", "molecules": 160}}
    save_model(directory, loaded.model, loaded.vocabulary, loaded.config, facts, card="# first\n\nA card.\n")
    (directory / "held_out.smi").write_text("CC\n")
    return directory


def arguments(data: Dataset, model: Path, output: Path, *more: str) -> list[str]:
    settings = [f"prior.{name}={value}" for name, value in {**QUICK, "max_steps": 10}.items()]
    sets = [word for setting in settings for word in ("--set", setting)]
    return ["fit-prior", str(data.directory), "-m", str(model), "-o", str(output), "--device", "cpu", *sets, *more]


@pytest.mark.parametrize("kind", [*FITTED, "normal"])
def test_command_writes_a_model_with_the_prior(
    kind: str, data: Dataset, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(data, model, tmp_path / "second", "--prior", kind, "--seed", "3")) == 0
    said = capsys.readouterr().out
    first, second = load_model(model, "cpu"), load_model(tmp_path / "second", "cpu")
    for name, value in first.model.encoder.state_dict().items():
        assert torch.equal(value, second.model.encoder.state_dict()[name])
    assert second.facts["prior"]["kind"] == second.config.prior.kind == kind
    assert second.facts["prior"]["conditional"] == (kind in CONDITIONAL)
    assert second.facts["prior_of"] == "first"
    assert second.facts["steps"] == 5
    assert "figures" not in second.facts
    draws = second.model.prior.sample(3, torch.Generator().manual_seed(0), second.model.unconditioned(3))
    assert draws.shape == (3, 4)
    for name in ("config.json", "model.safetensors", "prior.safetensors", "manifest.json", "README.md", "held_out.smi"):
        assert (tmp_path / "second" / name).exists()
        assert f"wrote {tmp_path / 'second' / name}" in said
    assert "prior fitted to 152 codes" in said
    card = (tmp_path / "second" / "README.md").read_text()
    assert card.startswith("# first\n\nA card.")
    assert card.count("## Prior") == 1


def test_command_on_a_model_that_has_such_a_prior_replaces_it(data: Dataset, model: Path, tmp_path: Path) -> None:
    assert main(arguments(data, model, tmp_path / "second", "--prior", "flow")) == 0
    assert main(arguments(data, tmp_path / "second", tmp_path / "third", "--prior", "gmm")) == 0
    assert (tmp_path / "third" / "README.md").read_text().count("## Prior") == 1
    assert load_model(tmp_path / "third", "cpu").facts["prior"]["kind"] == "gmm"


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--prior", "gan"], 2, "prior.kind"),
        (["--set", "prior.max_steps=0"], 2, "prior.max_steps"),
        (["--set", "model.latent=9"], 2, "leaves the model as it is"),
        (["--device", "cuda:99"], 4, "cuda:99"),
    ],
)
def test_command_refuses(
    more: list[str], code: int, words: str, data: Dataset, model: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(arguments(data, model, tmp_path / "second", *more)) == code
    found = capsys.readouterr().err
    assert words in found
    assert len(found.strip().splitlines()) == 2
    assert not (tmp_path / "second").exists()


def test_command_keeps_what_is_there(
    data: Dataset, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious").write_text("x")
    assert main(arguments(data, model, tmp_path)) == 5
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_command_needs_the_conditions_of_the_model(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tiny_dataset(tmp_path / "bare", properties=0)
    assert main(arguments(bare, model, tmp_path / "second", "--prior", "flow")) == 2
    assert "--properties p0" in capsys.readouterr().err
    assert main(arguments(bare, model, tmp_path / "second", "--prior", "flow", "--set", "prior.conditional=false")) == 0
    assert load_model(tmp_path / "second", "cpu").facts["prior"]["conditional"] is False
    small = tiny_dataset(tmp_path / "small", n=30)
    assert main(arguments(small, model, tmp_path / "third", "--prior", "flow")) == 2
    assert "50 training molecules" in capsys.readouterr().err
    assert len(load_dataset(small.directory)) == 30


def test_a_fit_is_described_with_and_without_conditions(data: Dataset) -> None:
    prior = tiny_model(data).model.prior
    plain = PriorFit(prior, 20.0, 25.0, 1000, PriorConfig())
    assert describe_prior(plain) == "prior fitted to 1,000 codes: a code costs 20.0 nats, 25.0 under N(0, I)"
    assert "(18.0 when all conditions are known)" in describe_prior(dataclasses.replace(plain, rate_given=18.0))


def test_codes_that_are_all_noise_are_judged_on_other_noise() -> None:
    """A mixture fitted to the noise of a collapsed posterior must not be judged on the very same draws."""
    from molvae.config import PriorConfig
    from molvae.nn.distributions import DiagonalNormal
    from molvae.train.fit_prior import _fit_mixture, rate_against

    collapsed = DiagonalNormal(torch.zeros(600, 8), torch.zeros(600, 8))
    prior = _fit_mixture(collapsed, collapsed, PriorConfig(components=8), 0)
    fresh = rate_against(prior, collapsed, torch.Generator().manual_seed(77))
    assert 0 < fresh < 0.3
