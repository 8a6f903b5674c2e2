"""The identities that hold by mathematics, and the contract of every row of the table."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from molvae.cli.main import main
from molvae.cli.train import OBJECTIVES
from molvae.config import Config, ObjectiveConfig, PriorConfig, build_config, read_values
from molvae.data.batch import Batch, collate
from molvae.data.vocabulary import Vocabulary
from molvae.errors import ConfigError, UnknownNameError
from molvae.nn.checkpoint import load_model, load_tensors, save_model
from molvae.nn.critic import Critic
from molvae.nn.distributions import DiagonalNormal, Posterior
from molvae.nn.model import SequenceVAE
from molvae.nn.priors import FlowPrior, StandardNormal
from molvae.objectives.adversarial import wasserstein_critic_loss
from molvae.objectives.aggregates import mmd
from molvae.objectives.bounds import importance_bound, mean_bound
from molvae.objectives.divergences import Density, analytic_kl, free_bits_penalty, kl_per_dimension, sampled_kl, zero
from molvae.objectives.objective import LossTerms, Objective, blur_codes, drop_tokens, head_loss, mask_properties
from molvae.objectives.presets import PRESETS, Row, as_normal, as_point, find_row
from molvae.objectives.schedules import RateController, build_schedule
from molvae.train.loop import Callbacks
from molvae.train.run import train_model
from tests.tiny import TOKENS, tiny_dataset, tiny_values

ROWS = sorted(PRESETS)
SMALL = PriorConfig(layers=2, hidden=8)


@pytest.fixture
def config() -> Config:
    values = tiny_values()
    return build_config({**values, "model": {**values["model"], "condition_on": ["p0"]}})  # type: ignore[dict-item]


@pytest.fixture
def model(config: Config, tmp_path: Path) -> SequenceVAE:
    dataset = tiny_dataset(tmp_path / "data")
    torch.manual_seed(0)
    return SequenceVAE(config.model, len(dataset.vocabulary), dataset.property_info)


@pytest.fixture
def batch() -> Batch:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(4, 9, length) for length in (3, 7, 1, 5)]
    properties = np.array([[1.0, 2.0], [np.nan, 0.0], [0.0, np.nan], [np.nan, np.nan]], dtype=np.float32)
    return collate(sequences, properties)


def made(name: str, model: SequenceVAE, **settings: Any) -> Objective:
    """Return the row ``name``, at once at its full beta, with ``model`` prepared for it."""
    objective = Objective(ObjectiveConfig(**{"name": name, "schedule": "constant", **settings}))
    objective.prepare(model, SMALL)
    return objective


def loss_of(objective: Objective, model: SequenceVAE, batch: Batch) -> LossTerms:
    return objective(model, batch, 0, torch.Generator().manual_seed(0))


def normals(count: int = 6, size: int = 5) -> DiagonalNormal:
    generator = torch.Generator().manual_seed(1)
    draw = lambda: torch.randn((count, size), generator=generator)  # noqa: E731
    return DiagonalNormal(draw(), 0.3 * draw() - 1)


def idle(module: torch.nn.Module) -> set[str]:
    """Return the parameters that are trained and got no gradient."""
    wanted = {name: value for name, value in module.named_parameters() if value.requires_grad}
    return {name for name, value in wanted.items() if value.grad is None or not value.grad.abs().sum() > 0}


@pytest.mark.parametrize("name", ROWS)
def test_every_row_trains_every_parameter(name: str, model: SequenceVAE, batch: Batch) -> None:
    objective = made(name, model)
    terms = loss_of(objective, model, batch)
    for value in (terms.loss, terms.distortion, terms.rate, terms.head, terms.match):
        assert value.shape == ()
        assert torch.isfinite(value)
    terms.loss.backward()
    assert idle(model) == set()
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    # A point mass has no noise to learn.
    point = objective.row.posterior is as_point
    assert frozen == ({"encoder.to_log_std.weight", "encoder.to_log_std.bias"} if point else set())
    assert (terms.critic is None) == (objective.row.adversary is None)


@pytest.mark.parametrize("name", ROWS)
def test_save_and_load_give_the_same_numbers(name: str, model: SequenceVAE, batch: Batch, config: Config,
                                             tmp_path: Path) -> None:  # fmt: skip
    objective = made(name, model)
    vocabulary = Vocabulary.from_tokens(TOKENS)
    learned = objective.density(model) is not None
    facts = {"max_tokens": 9, "prior": {"kind": "flow", "layers": 2, "hidden": 8} if learned else None}
    save_model(tmp_path / "model", model, vocabulary, config, facts)
    loaded = load_model(tmp_path / "model", "cpu").model
    again = made(name, loaded)
    # The critic is no part of the model.
    again.restore(objective.tensors())
    first, second = (loss_of(made_one, one, batch) for made_one, one in ((objective, model), (again, loaded)))
    assert torch.equal(first.loss, second.loss)
    assert torch.equal(first.match, second.match)


@pytest.mark.parametrize("name", ROWS)
def test_padding_changes_nothing(name: str, model: SequenceVAE, batch: Batch) -> None:
    padded = Batch(torch.nn.functional.pad(batch.tokens, (0, 6)), batch.lengths, batch.properties)
    objective = made(name, model)
    torch.testing.assert_close(loss_of(objective, model, batch).loss, loss_of(objective, model, padded).loss)


@pytest.mark.parametrize("name", ROWS)
def test_missing_labels_add_nothing(name: str, model: SequenceVAE, batch: Batch) -> None:
    blank = dataclasses.replace(batch, properties=torch.full_like(batch.properties, torch.nan))
    terms = loss_of(made(name, model), model, blank)
    assert terms.head.item() == 0
    without = loss_of(made(name, model, head_weight=0), model, blank) if name != "aae" else terms
    torch.testing.assert_close(terms.loss, without.loss)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ROWS)
def test_gpu_gives_the_numbers_of_the_cpu(name: str, model: SequenceVAE, batch: Batch) -> None:
    # Without noise, because generators of the two devices differ.
    objective = Objective(ObjectiveConfig(name=name, samples=1, head_weight=0, schedule="constant"))
    plain = dataclasses.replace(objective.row, posterior=as_point, divergence=zero, aggregate=None, adversary=None)
    objective.row = plain
    model.config.condition_dropout = 0.0
    found = loss_of(objective, model, batch).loss
    again = loss_of(objective, model.cuda(), batch.to(torch.device("cuda"))).loss
    torch.testing.assert_close(found, again.cpu(), atol=1e-3, rtol=1e-3)


def test_importance_row_at_one_sample_is_the_sampled_elbo(model: SequenceVAE, batch: Batch) -> None:
    found = loss_of(made("iwae", model, samples=1, head_weight=0), model, batch)
    generator = torch.Generator().manual_seed(0)
    q = model.encode(batch.tokens, batch.lengths)
    z = q.sample(1, generator)
    shown = mask_properties(batch.properties, model.config.condition_dropout, generator)
    elbo = model.decoder.log_prob(batch.tokens, z, model.condition(shown)) - sampled_kl(q, StandardNormal(4), z)
    torch.testing.assert_close(found.loss, -elbo.mean())


def test_turns_change_neither_loss_nor_gradient(model: SequenceVAE, batch: Batch) -> None:
    gradients = []
    for at_once in (1, 3, 8):
        model.zero_grad(set_to_none=True)
        terms = loss_of(made("iwae", model, samples=8, samples_at_once=at_once), model, batch)
        terms.loss.backward()
        gradients.append([terms.loss.detach(), *(value.grad for value in model.parameters() if value.requires_grad)])
    for other in gradients[1:]:
        torch.testing.assert_close(gradients[0], other)


def test_turns_hold_one_turn_in_memory(model: SequenceVAE, batch: Batch) -> None:
    def held(at_once: int) -> int:
        sizes = []
        hook = torch.autograd.graph.saved_tensors_hooks(lambda t: (sizes.append(t.numel()), t)[1], lambda t: t)
        with hook:
            loss_of(made("iwae", model, samples=16, samples_at_once=at_once), model, batch)
        return sum(sizes)

    assert held(1) < 0.3 * held(16)


def test_learned_prior_is_what_the_rate_is_measured_against(model: SequenceVAE, batch: Batch) -> None:
    objective = made("flow_prior", model, beta=1, head_weight=0)
    terms = loss_of(objective, model, batch)
    torch.testing.assert_close(terms.loss.detach(), terms.distortion + terms.rate)
    assert isinstance(model.prior, FlowPrior)
    assert objective.density(model) is model.prior
    before = model.prior
    made("flow_prior", model)
    assert model.prior is before, "a second preparation must not forget what the flow learned"


def test_mmd_sees_a_shift_and_no_difference_where_there_is_none() -> None:
    generator = torch.Generator().manual_seed(0)
    draw = lambda: torch.randn((100, 4), generator=generator)  # noqa: E731
    same = torch.stack([mmd(draw(), draw()) for _ in range(50)])
    error = same.std() / 50**0.5
    assert same.mean().abs() < 4 * error
    assert mmd(draw() + 1, draw()) > 10 * same.std()
    assert mmd(draw()[:1], draw()[:1]) == 0


def test_mmd_is_the_sum_over_pairs() -> None:
    z, other = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[2.0], [2.0], [5.0]])

    def kernel(a: float, b: float) -> float:
        return sum(2 * s / (2 * s + (a - b) ** 2) for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))

    def mean(first: torch.Tensor, second: torch.Tensor, apart: bool) -> float:
        pairs = [(i, j) for i in range(3) for j in range(3) if not (apart and i == j)]
        return sum(kernel(first[i].item(), second[j].item()) for i, j in pairs) / len(pairs)

    exact = mean(z, z, True) + mean(other, other, True) - 2 * mean(z, other, False)
    assert mmd(z, other).item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("name", ["wae", "aae"])
def test_matching_draws_codes_to_the_prior(name: str, model: SequenceVAE) -> None:
    torch.manual_seed(0)
    parts = made(name, model, critic_hidden=64, critic_lr=3e-3).parts
    assert parts is not None
    z = torch.nn.Parameter(0.3 * torch.randn(64, 4) + 3)
    optimizer, generator = torch.optim.Adam([z], lr=0.02), torch.Generator().manual_seed(0)
    for _ in range(400):
        match, critic = parts.match(1 * z, generator)
        optimizer.zero_grad()
        match.backward()
        optimizer.step()
        if parts.critic is not None and critic is not None:
            parts.critic.update(critic)
    low, middle, high = z.detach().quantile(torch.tensor([0.25, 0.5, 0.75]), dim=0)
    # A normal has 1.35 between its quartiles.
    assert middle.abs().max() < 0.8
    assert 0.4 < (high - low).mean() < 2.4


def test_gradient_penalty_is_zero_at_slope_one() -> None:
    class Linear(Critic):
        def forward(self, codes: torch.Tensor) -> torch.Tensor:
            return self.slope * codes[:, 0]

    critic, fake, real = Linear(2, 1), torch.zeros(8, 2), torch.ones(8, 2)
    for critic.slope, penalty in ((1.0, 0.0), (3.0, 10 * 4.0)):
        found = wasserstein_critic_loss(critic, fake, real, torch.Generator().manual_seed(0))
        assert found.item() == pytest.approx(-critic.slope + penalty)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "iwae", "samples": 0}, "samples"),
        ({"name": "vae", "beta": -1}, "beta"),
        ({"name": "aae", "match_weight": 0}, "critic"),
        ({"name": "wae", "match_weight": 0}, "distance"),
        ({"name": "vae", "match_weight": 2}, "no effect"),
        ({"name": "flow_prior", "free_bits": 0.1}, "free_bits"),
        ({"name": "aae", "critic_hidden": 0}, "critic_hidden"),
    ],
)
def test_contradictions_are_config_errors_with_a_remedy(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Objective(build_config({"objective": settings}).objective)
    assert len(caught.value.remedy) > 10


@pytest.mark.parametrize(("name", "words"), [("cvae", "condition_on"), ("ss_vae", "predict")])
def test_row_without_the_properties_it_needs_starts_no_run(name: str, words: str, tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "data", properties=0)
    config = build_config({**tiny_values(max_steps=1), "objective": {"name": name}})
    with pytest.raises(ConfigError, match=name) as caught:
        train_model(dataset, config, tmp_path / "model", device="cpu")
    assert words in caught.value.remedy
    assert not (tmp_path / "model").exists()


class Stopped(Exception):
    """Stands for a crash."""


@pytest.mark.parametrize("name", ["aae", "flow_prior", "iwae"])
def test_resumed_run_ends_with_the_same_weights(name: str, tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "data")
    values = {**tiny_values(max_steps=40), "objective": {"name": name}, "prior": {"layers": 2, "hidden": 8}}
    config = build_config(values)

    def crash(row: dict[str, Any], done: float) -> None:
        if row["step"] == 20:
            raise Stopped

    train_model(dataset, config, tmp_path / "whole", device="cpu")
    with pytest.raises(Stopped):
        train_model(dataset, config, tmp_path / "halved", device="cpu", callbacks=Callbacks(on_metrics=crash))
    train_model(dataset, config, tmp_path / "halved", device="cpu", resume=True)
    files = ["model.safetensors", "checkpoints/step_000000040/model.safetensors"]
    files += ["checkpoints/step_000000040/objective.safetensors"] if name == "aae" else []
    files += ["prior.safetensors"] if name == "flow_prior" else []
    for file in files:
        one, other = (load_tensors(tmp_path / run / file) for run in ("whole", "halved"))
        assert all(torch.equal(value, other[key]) for key, value in one.items()), file
    if name == "flow_prior":
        facts = load_model(tmp_path / "whole", "cpu").facts
        assert facts["prior"]["kind"] == "flow"
        assert facts["prior_rate"]["fitted"] == pytest.approx(facts["validation"]["rate"], rel=0.5)


def laplace_kl(posterior: Posterior, prior: Density, z: torch.Tensor) -> torch.Tensor:
    """Return log q(z|x) - log p(z), (K, B), for a prior of independent Laplace distributions of variance 1."""
    scale = 0.5**0.5
    return posterior.log_prob(z) + (z.abs() / scale + math.log(2 * scale)).sum(-1)


def test_new_row_is_picked_up_everywhere(
    model: SequenceVAE, batch: Batch, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Row(as_normal, laplace_kl, importance_bound, beta=0.5, schedule="warmup", samples=2)
    monkeypatch.setitem(PRESETS, "laplace", row)
    test_every_row_trains_every_parameter("laplace", model, batch)
    test_padding_changes_nothing("laplace", model, batch)
    test_missing_labels_add_nothing("laplace", model, batch)
    test_save_and_load_give_the_same_numbers("laplace", model, batch, config, tmp_path)
    dataset = tiny_dataset(tmp_path / "data")
    settings = build_config({**tiny_values(max_steps=3), "objective": {"name": "laplace"}})
    train_model(dataset, settings, tmp_path / "trained", device="cpu")
    assert load_model(tmp_path / "trained", "cpu").facts["objective"] == "laplace"
    with pytest.raises(UnknownNameError, match="laplace"):
        find_row("gan")
    assert main(["init-config", "--preset", "laplace", "-o", str(tmp_path / "settings.toml")]) == 0
    assert build_config(read_values(tmp_path / "settings.toml")).objective.beta == 0.5


def test_help_names_every_row() -> None:
    assert set(re.findall(r"[a-z_]+", OBJECTIVES)) >= set(PRESETS)
    assert set(re.findall(r"[a-z_]+", str(ObjectiveConfig.model_fields["name"].description))) >= set(PRESETS)


def test_head_loss_is_a_density_over_known_targets() -> None:
    mean, log_std = torch.tensor([[0.5, 9.0]]), torch.tensor([[0.2, 0.0]])
    found = head_loss(mean, log_std, torch.tensor([[1.0, torch.nan]]))
    exact = -torch.distributions.Normal(0.5, torch.tensor(0.2).exp()).log_prob(torch.tensor(1.0))
    torch.testing.assert_close(found, exact)


def test_analytic_kl_is_what_torch_says() -> None:
    q = normals()
    exact = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.mean, q.log_std.exp()), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(kl_per_dimension(q), exact)


def test_analytic_and_sampled_kl_agree() -> None:
    q, prior = normals(), StandardNormal(5)
    z = q.sample(20_000, torch.Generator().manual_seed(0))
    exact, sampled = analytic_kl(q, prior, z)[0], sampled_kl(q, prior, z)
    error = sampled.std(0) / 20_000**0.5
    assert ((sampled.mean(0) - exact).abs() < 5 * error).all()


def test_importance_bound_at_one_sample_is_the_elbo() -> None:
    weights = torch.randn(1, 8)
    torch.testing.assert_close(importance_bound(weights), mean_bound(weights))


def test_importance_bound_tightens_with_samples(model: SequenceVAE, batch: Batch) -> None:
    q = model.encode(batch.tokens, batch.lengths)
    z = q.sample(400, torch.Generator().manual_seed(0))
    weights = model.decoder.log_prob(batch.tokens, z, model.condition(batch.properties)) - sampled_kl(q, model.prior, z)
    means = [
        torch.stack([importance_bound(group) for group in weights.split(k)]).mean().item() for k in (1, 4, 20, 100)
    ]
    assert means == sorted(means)


def test_beta_zero_is_pure_distortion(model: SequenceVAE, batch: Batch) -> None:
    objective = Objective(ObjectiveConfig(name="vae", beta=0, schedule="constant", head_weight=0))
    terms = objective(model, batch, 0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(terms.loss.detach(), terms.distortion)


def test_loss_is_nats_per_molecule(model: SequenceVAE, batch: Batch) -> None:
    objective = Objective(ObjectiveConfig(name="vae", beta=1, schedule="constant", head_weight=0))
    terms = objective(model, batch, 0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(terms.loss.detach(), terms.distortion + terms.rate)


def test_free_bits_cancel_the_gradient_below_the_threshold() -> None:
    mean = torch.full((4, 3), 0.1, requires_grad=True)
    q = DiagonalNormal(mean, torch.zeros(4, 3))
    (kl_per_dimension(q).sum(1).mean() + free_bits_penalty(q, 0.5)).backward()
    assert mean.grad is not None
    torch.testing.assert_close(mean.grad, torch.zeros(4, 3))


def test_token_dropout_spares_bos_and_padding(batch: Batch) -> None:
    dropped = drop_tokens(batch.tokens, 0.9, torch.Generator().manual_seed(0))
    changed = dropped != batch.tokens
    assert (dropped[changed] == 3).all()
    assert not changed[:, 0].any()
    assert not changed[batch.tokens == 0].any()
    assert changed.float().mean() > 0.3


def test_code_noise_keeps_normal_codes_normal_and_spares_the_rest() -> None:
    z = torch.randn((2, 20_000, 3), generator=torch.Generator().manual_seed(1))
    blurred = blur_codes(z, 0.5, torch.Generator().manual_seed(0))
    untouched = (blurred == z).all(2)
    assert 0.48 < untouched.float().mean() < 0.52
    torch.testing.assert_close(blurred.mean((0, 1)), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(blurred[~untouched].std(0), torch.ones(3), atol=0.02, rtol=0)
    # E[z z'] = E[sqrt(1 - s^2)] = pi / 4 for s uniform in [0, 1].
    shared = (blurred * z)[~untouched].mean()
    assert abs(float(shared) - math.pi / 4) < 0.02


def test_code_noise_zero_draws_no_chance() -> None:
    z, generator = torch.ones(1, 4, 3), torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert blur_codes(z, 0.0, generator) is z
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("name", ["iwae", "flow_prior"])
def test_code_noise_is_refused_where_it_contradicts(name: str) -> None:
    with pytest.raises(ConfigError, match="code_noise"):
        Objective(ObjectiveConfig(name=name, code_noise=0.2))


def test_cyclical_schedule_starts_anew() -> None:
    schedule = build_schedule(ObjectiveConfig(warmup_steps=10), "cyclical", 1.0)
    assert [schedule.weight(step) for step in (0, 2, 5, 9, 10)] == [0, 0.4, 1, 1, 0]


def test_rate_controller_holds_the_rate() -> None:
    controller = RateController(target=30, start=0.01, gain=0.05, memory=0.5)
    for step in range(2000):
        controller.observe(60 / (1 + 10 * controller.weight(step)))
    assert 60 / (1 + 10 * controller.weight(0)) == pytest.approx(30, rel=0.02)


def test_unknown_objective_names_the_known() -> None:
    with pytest.raises(UnknownNameError, match="beta_vae"):
        find_row("gan")
