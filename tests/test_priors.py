"""The contract of every prior, and the mathematics of those that are networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from molvae.config import PriorConfig, build_config
from molvae.data.dataset import PropertyInfo
from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError, ModelFileError
from molvae.files import write_manifest
from molvae.nn.checkpoint import codes_digest, load_model, save_model
from molvae.nn.distributions import standard_normal_log_prob
from molvae.nn.flow_matching import FlowMatchingPrior, normal_velocity, row_signs
from molvae.nn.model import SequenceVAE
from molvae.nn.priors import CONDITIONAL, FlowPrior, Prior, build_prior
from molvae.nn.whitening import Whitened
from tests.tiny import TOKENS, tiny_values

KINDS = list(PriorConfig.model_fields["kind"].annotation.__args__)  # type: ignore[union-attr]
LATENT, CONDITIONS = 4, 2
SIZES = {"layers": 2, "hidden": 8, "components": 3, "blocks": 1, "ode_steps": 6}


def stirred(prior: Prior, by: float = 0.3) -> Prior:
    """Return ``prior`` with random weights everywhere, also where a fresh one has zeros, and a whitening that works."""
    torch.manual_seed(1)
    for value in prior.parameters():
        torch.nn.init.normal_(value, std=by)
    if isinstance(prior, Whitened):
        prior.standardize(torch.randn(500, prior.latent) @ torch.randn(prior.latent, prior.latent) + 1)
    return prior.eval()


def make(kind: str, latent: int = LATENT, *, conditional: bool = True, **sizes: Any) -> Prior:
    return build_prior({"kind": kind, "conditional": conditional, **SIZES, **sizes}, latent, 2 * CONDITIONS)


def drawn(prior: Prior, n: int = 5, cond: torch.Tensor | None = None) -> torch.Tensor:
    with torch.no_grad():
        return prior.sample(n, torch.Generator().manual_seed(0), cond)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_prior_keeps_the_contract(kind: str, conditional: bool) -> None:
    prior = stirred(make(kind, conditional=conditional))
    cond = torch.randn(5, 2 * CONDITIONS)
    z = drawn(prior)
    assert z.shape == (5, LATENT)
    assert torch.isfinite(z).all()
    assert torch.equal(z, drawn(prior))
    assert torch.equal(z, drawn(prior, cond=torch.zeros(5, 2 * CONDITIONS))), "None knows nothing"
    sees = conditional and kind in CONDITIONAL
    assert torch.equal(z, drawn(prior, cond=cond)) != sees
    if not prior.has_density:
        with pytest.raises(InputError, match="no density"):
            prior.log_prob(z)
        return
    with torch.no_grad():
        log_prob = prior.log_prob(z)
        assert log_prob.shape == (5,)
        assert torch.isfinite(log_prob).all()
        assert torch.equal(log_prob, prior.log_prob(z, cond)) != sees
        torch.testing.assert_close(prior.log_prob(z[2:3]), log_prob[2:3], atol=1e-4, rtol=0)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_save_and_load_give_the_same_numbers(kind: str, conditional: bool, tmp_path: Path) -> None:
    values = tiny_values()
    values["model"]["condition_on"] = ["p0", "p1"]  # type: ignore[index]
    config, vocabulary = build_config(values), Vocabulary.from_tokens(TOKENS)
    info = [PropertyInfo(f"p{i}", 0.0, 1.0, -1.0, 1.0, 9) for i in range(CONDITIONS)]
    model = SequenceVAE(config.model, len(vocabulary), info)
    model.prior = stirred(make(kind, conditional=conditional))
    facts = {"max_tokens": 9, "prior": {"kind": kind, "conditional": conditional, **SIZES}}
    save_model(tmp_path / "model", model, vocabulary, config, facts)
    loaded = load_model(tmp_path / "model", "cpu").model.prior
    cond = torch.randn(5, 2 * CONDITIONS)
    assert torch.equal(drawn(loaded, cond=cond), drawn(model.prior, cond=cond))
    if loaded.has_density:
        z = torch.randn(5, LATENT)
        assert torch.equal(loaded.log_prob(z, cond), model.prior.log_prob(z, cond))


@pytest.mark.parametrize("kind", ["flow", "flow_matching"])
def test_density_integrates_to_one_and_samples_follow_it_under_every_condition(kind: str) -> None:
    prior = stirred(make(kind, 2, ode_steps=10))
    axis = torch.linspace(-9, 9, 91)
    grid = torch.cartesian_prod(axis, axis)
    for cond in (torch.zeros(4), torch.tensor([1.0, -1.0, 1.0, 1.0])):
        with torch.no_grad():
            mass = prior.log_prob(grid, cond.expand(len(grid), -1)).exp() * (axis[1] - axis[0]) ** 2
        assert mass.sum().item() == pytest.approx(1, abs=2e-3)
        z = drawn(prior, 4000, cond.expand(4000, -1))
        mean = (mass[:, None] * grid).sum(0)
        deviation = (mass[:, None] * (grid - mean).square()).sum(0).sqrt()
        assert ((z.mean(0) - mean).abs() < 4 * deviation / 4000**0.5).all()
        torch.testing.assert_close(z.std(0), deviation, atol=0, rtol=0.06)


def test_flow_inverts() -> None:
    prior = stirred(make("flow")).double()
    assert isinstance(prior, FlowPrior)
    noise = torch.randn(100, LATENT, dtype=torch.float64)
    with torch.no_grad():
        transform = prior._given(100, torch.randn(100, 2 * CONDITIONS, dtype=torch.float64)).transform
        torch.testing.assert_close(transform(transform.inv(noise)), noise, atol=1e-5, rtol=0)


def test_flow_matching_inverts() -> None:
    prior = stirred(make("flow_matching", ode_steps=40))
    assert isinstance(prior, FlowMatchingPrior)
    noise, context = torch.randn(100, LATENT), torch.randn(100, 2 * CONDITIONS)
    white = prior.carry(noise, context)
    assert (white - noise).abs().max() > 0.1
    torch.testing.assert_close(prior.carry(white, context, back=True), noise, atol=1e-5, rtol=0)


def test_flow_matching_starts_as_the_normal_that_fits_the_codes() -> None:
    prior = FlowMatchingPrior(3, 1, 8)
    codes = torch.randn(2000, 3) @ torch.tensor([[1.0, 0.4, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 2.0]]) + 2
    prior.standardize(codes)
    normal = torch.distributions.MultivariateNormal(codes.mean(0), torch.cov(codes.T))
    torch.testing.assert_close(prior.log_prob(codes[:50]), normal.log_prob(codes[:50]), atol=2e-3, rtol=0)


def test_normal_velocity_is_the_mean_over_paths() -> None:
    noise, codes = torch.randn(2, 400_000, generator=torch.Generator().manual_seed(0)).unbind()
    for time in (0.2, 0.7):
        x, slope = (1 - time) * noise + time * codes, codes - noise
        regression = float((x * slope).mean() / x.square().mean())
        assert normal_velocity(torch.ones(1, 1), torch.tensor([[time]])).item() == pytest.approx(regression, abs=0.01)


def test_estimated_density_is_unbiased(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = stirred(make("flow_matching", 6, hidden=16))
    z = drawn(prior, 400)
    exact = prior.log_prob(z)
    monkeypatch.setattr("molvae.nn.flow_matching.EXACT_UP_TO", 2)
    estimated = prior.log_prob(z)
    error = (estimated - exact).std() / 400**0.5
    assert (estimated - exact).abs().max() > 1e-4
    assert (estimated - exact).mean().abs() < 4 * error


def test_signs_are_fair_and_depend_on_the_row_alone() -> None:
    z = torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0))
    first, second = row_signs(z, 0), row_signs(z, 1)
    assert set(first.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(row_signs(z[7:9], 0), first[7:9])
    limit = 5 / 20_000**0.5
    assert first.mean(0).abs().max() < limit
    assert (first * second).mean(0).abs().max() < limit
    assert (first.T @ first / len(z) - torch.eye(16)).abs().max() < limit
    assert (first * z.sign()).mean(0).abs().max() < limit


def test_whitening_whitens_and_goes_back() -> None:
    prior = Whitened(3, 0)
    codes = torch.randn(1000, 3) @ torch.tensor([[1.0, 0.9, 0.0], [0.0, 0.2, 0.0], [0.0, 0.0, 5.0]]) - 1
    prior.standardize(codes)
    white = prior.to_white(codes)
    torch.testing.assert_close(torch.cov(white.T), torch.eye(3), atol=1e-2, rtol=0)
    torch.testing.assert_close(prior.from_white(white), codes, atol=1e-4, rtol=0)
    flat = torch.cat([codes[:, :2], torch.zeros(1000, 1)], dim=1)
    prior.standardize(flat)
    assert torch.isfinite(prior.to_white(flat)).all(), "an unused dimension has no variance"


def test_entry_of_an_older_model_is_unconditional() -> None:
    old = build_prior({"kind": "flow", **{name: SIZES[name] for name in ("layers", "hidden")}}, LATENT, 4)
    assert isinstance(old, FlowPrior)
    assert old.condition_size == 0
    z = torch.randn(3, LATENT)
    before = standard_normal_log_prob(z)
    assert old.log_prob(z).shape == before.shape


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return a directory with the models ``one`` and ``two``, each with a flow as its prior."""
    config, vocabulary = build_config(tiny_values()), Vocabulary.from_tokens(TOKENS)
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        model = SequenceVAE(config.model, len(vocabulary))
        model.prior = stirred(make("flow", conditional=False))
        facts = {"max_tokens": 9, "prior": {"kind": "flow", "conditional": False, **SIZES}}
        save_model(tmp_path / name, model, vocabulary, config, facts)
    return tmp_path


def test_prior_of_another_model_is_refused(saved: Path) -> None:
    (saved / "one" / "prior.safetensors").write_bytes((saved / "two" / "prior.safetensors").read_bytes())
    write_manifest(saved / "one")
    with pytest.raises(ModelFileError, match="another model") as caught:
        load_model(saved / "one", "cpu")
    assert "fit-prior" in caught.value.remedy


def test_prior_that_does_not_say_whose_it_is_is_taken(saved: Path) -> None:
    path = saved / "one" / "prior.safetensors"
    save_file(load_file(path), path)
    write_manifest(saved / "one")
    assert load_model(saved / "one", "cpu").model.prior.has_density


def test_prior_stays_with_a_copy_in_half_precision_and_another_decoder(saved: Path) -> None:
    loaded = load_model(saved / "one", "cpu")
    digest = codes_digest(loaded.model)
    save_model(saved / "half", loaded.model, loaded.vocabulary, loaded.config, loaded.facts, half=True)
    (saved / "half" / "prior.safetensors").write_bytes((saved / "one" / "prior.safetensors").read_bytes())
    write_manifest(saved / "half")
    assert codes_digest(load_model(saved / "half", "cpu").model) == digest
    with torch.no_grad():
        loaded.model.decoder.to_logits.bias += 1
    assert codes_digest(loaded.model) == digest, "codes depend on the encoder alone"
    with torch.no_grad():
        loaded.model.encoder.to_mean.bias += 1
    assert codes_digest(loaded.model) != digest


def test_facts_of_a_prior_are_plain_json(saved: Path) -> None:
    facts = json.loads((saved / "one" / "config.json").read_text())["facts"]
    assert facts["prior"]["kind"] == "flow"
