"""The identities that hold by mathematics, and the contract of every row of the table."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from molvae.config import Config, ObjectiveConfig, build_config
from molvae.data.batch import Batch, collate
from molvae.errors import UnknownNameError
from molvae.nn.distributions import DiagonalNormal
from molvae.nn.model import SequenceVAE
from molvae.nn.priors import StandardNormal
from molvae.objectives.bounds import importance_bound, mean_bound
from molvae.objectives.divergences import analytic_kl, free_bits_penalty, kl_per_dimension, sampled_kl
from molvae.objectives.objective import Objective, drop_tokens, head_loss
from molvae.objectives.presets import PRESETS, find_row
from molvae.objectives.schedules import RateController, build_schedule
from tests.tiny import tiny_dataset, tiny_values

ROWS = sorted(PRESETS)


@pytest.fixture
def config() -> Config:
    return build_config(tiny_values())


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


def normals(count: int = 6, size: int = 5) -> DiagonalNormal:
    generator = torch.Generator().manual_seed(1)
    draw = lambda: torch.randn((count, size), generator=generator)  # noqa: E731
    return DiagonalNormal(draw(), 0.3 * draw() - 1)


@pytest.mark.parametrize("name", ROWS)
def test_every_row_trains_every_parameter(name: str, model: SequenceVAE, batch: Batch) -> None:
    objective = Objective(ObjectiveConfig(name=name, schedule="constant"))
    terms = objective(model, batch, 0, torch.Generator().manual_seed(0))
    assert torch.isfinite(terms.loss)
    terms.loss.backward()
    unused = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # A point mass has no noise to learn.
    expected = {"encoder.to_log_std.weight", "encoder.to_log_std.bias"} if name == "ae" else set()
    assert unused == expected


@pytest.mark.parametrize("name", ROWS)
def test_padding_changes_nothing(name: str, model: SequenceVAE, batch: Batch) -> None:
    padded = Batch(torch.nn.functional.pad(batch.tokens, (0, 6)), batch.lengths, batch.properties)
    losses = [
        Objective(ObjectiveConfig(name=name))(model, one, 0, torch.Generator().manual_seed(0)).loss
        for one in (batch, padded)
    ]
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("name", ROWS)
def test_missing_labels_add_nothing(name: str, model: SequenceVAE, batch: Batch) -> None:
    blank = dataclasses.replace(batch, properties=torch.full_like(batch.properties, torch.nan))
    terms = Objective(ObjectiveConfig(name=name))(model, blank, 0, torch.Generator().manual_seed(0))
    assert terms.head.item() == 0
    assert torch.isfinite(terms.loss)


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
