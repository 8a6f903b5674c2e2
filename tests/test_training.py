"""Training as a user meets it: limits, resume after kill and signals, damaged checkpoints, bad numbers."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from molvae.config import PriorConfig, build_config
from molvae.data.batch import bucketed_rows, collate, load_batch
from molvae.data.dataset import load_dataset
from molvae.errors import (
    BusyError,
    ConfigError,
    InputError,
    ModelFileError,
    OutputError,
    TrainingError,
    UnknownNameError,
)
from molvae.files import directory_lock
from molvae.nn.checkpoint import load_model
from molvae.nn.decoder import greedy
from molvae.nn.distributions import DiagonalNormal
from molvae.nn.encoder import reverse_rows
from molvae.nn.model import SequenceVAE
from molvae.train.evaluate import evaluate
from molvae.train.fit_prior import fit_prior
from molvae.train.log import MetricsLog
from molvae.train.loop import Callbacks, Trainer
from molvae.train.optim import AveragedWeights
from molvae.train.run import train_model
from molvae.train.state import newest_state
from tests.tiny import tiny_dataset, tiny_values

ROOT = Path(__file__).resolve().parent.parent
STEPS = 40
CHILD = """
import sys, json
from pathlib import Path
from importlib.machinery import ModuleSpec
class Absent:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.partition(".")[0] in ("rdkit", "selfies", "pandas") else None
    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named {spec.name!r}")
    def exec_module(self, module): ...
sys.meta_path.insert(0, Absent())
import torch
from molvae.config import PriorConfig, build_config
from molvae.data.dataset import load_dataset
from molvae.train.run import train_model
from molvae.train.loop import Callbacks
data, out, values, resume = sys.argv[1:]
heard = Callbacks(on_metrics=lambda row, done: print(row["step"], flush=True))
config = build_config(json.loads(values))
trained = train_model(load_dataset(data), config, Path(out), device="cpu", resume=resume == "1", callbacks=heard)
sys.exit(0 if trained.result.stopped_by is None else 128 + trained.result.stopped_by)
"""


def start(data: Path, out: Path, *, resume: bool = False, **train: object) -> subprocess.Popen[str]:
    values = tiny_values(**{"max_steps": STEPS, **train})
    command = [sys.executable, "-c", CHILD, str(data), str(out), json.dumps(values), str(int(resume))]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def fingerprint(out: Path) -> tuple[str, list[dict[str, float]]]:
    """Return the hash of the final weights and the loss curve without its timings."""
    curve = [
        {key: row[key] for key in row if key not in ("seconds", "molecules_per_s")}
        for row in MetricsLog(out / "metrics.jsonl").rows()
    ]
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest(), curve


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data") / "tiny").directory


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, float]]]:
    out = tmp_path_factory.mktemp("whole") / "model"
    process = start(data, out)
    _, errors = process.communicate(timeout=60)
    # Blocked rdkit, selfies and pandas prove on the way that training needs none of them.
    assert process.returncode == 0, errors
    return fingerprint(out)


@pytest.mark.parametrize("trial", range(3))
def test_killed_and_resumed_run_ends_with_the_same_weights(
    data: Path, tmp_path: Path, uninterrupted: tuple[str, list[dict[str, float]]], trial: int
) -> None:
    out, moments = tmp_path / "model", random.Random(trial)
    process = start(data, out)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(moments.uniform(0.0, 0.5))
    process.kill()
    process.communicate()
    again = start(data, out, resume=True)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert fingerprint(out) == uninterrupted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_stops_and_resumes_exactly(
    data: Path, tmp_path: Path, uninterrupted: tuple[str, list[dict[str, float]]], number: signal.Signals
) -> None:
    out = tmp_path / "model"
    process = start(data, out)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    stopped = load_model(out, "cpu")
    assert 0 < stopped.facts["steps"] <= STEPS
    again = start(data, out, resume=True)
    again.communicate(timeout=60)
    assert fingerprint(out) == uninterrupted


@pytest.mark.slow
def test_fifty_kills_anywhere(data: Path, tmp_path: Path, uninterrupted: tuple[str, list[dict[str, float]]]) -> None:
    moments = random.Random(50)
    for trial in range(50):
        out = tmp_path / str(trial)
        process = start(data, out)
        time.sleep(moments.uniform(0.5, 8.0))
        process.kill()
        process.communicate()
        again = start(data, out, resume=(out / "run.json").exists())
        _, errors = again.communicate(timeout=120)
        assert again.returncode == 0, errors
        assert fingerprint(out) == uninterrupted


@pytest.mark.parametrize(("call", "count"), [("fsync", 3), ("fsync", 17), ("replace", 17)])
def test_killed_inside_a_save_leaves_a_whole_checkpoint(data: Path, tmp_path: Path, call: str, count: int) -> None:
    out = tmp_path / "model"
    killer = f"""
import os, signal
real, seen = os.{call}, [0]
def fatal(*arguments, **options):
    seen[0] += 1
    if seen[0] > {count} and {call == "fsync"} or seen[0] > {count} + 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)
os.{call} = fatal
"""
    values = json.dumps(tiny_values(max_steps=STEPS))
    subprocess.run([sys.executable, "-c", killer + CHILD, str(data), str(out), values, "0"], cwd=ROOT, check=False)
    assert not (out / "manifest.json").exists()
    found, passed = newest_state(out / "checkpoints")
    assert passed == []
    assert (found is None) == (not list((out / "checkpoints").glob("step_*")))
    again = start(data, out, resume=True)
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors


def test_damaged_checkpoint_is_passed_over(data: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "model", build_config(tiny_values(max_steps=30))
    train_model(load_dataset(data), config, out, device="cpu")
    newest = sorted((out / "checkpoints").glob("step_*"))[-1]
    weights = bytearray((newest / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (newest / "model.safetensors").write_bytes(weights)
    heard: list[str] = []
    longer = build_config(tiny_values(max_steps=40))
    train_model(
        load_dataset(data), longer, out, device="cpu", resume=True, callbacks=Callbacks(on_warning=heard.append)
    )
    assert any("damaged checkpoint" in text and "SHA-256" in text for text in heard)
    assert load_model(out, "cpu").facts["steps"] == 40


def test_loss_falls_and_the_model_loads(data: Path, tmp_path: Path) -> None:
    dataset, config = load_dataset(data), build_config(tiny_values(epochs=12))
    trained = train_model(dataset, config, tmp_path / "model", device="cpu")
    rows = MetricsLog(tmp_path / "model" / "metrics.jsonl").rows()
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    assert losses[-1] < 0.8 * losses[0]
    loaded = load_model(tmp_path / "model", "cpu")
    batch = load_batch(dataset, dataset.rows("valid"))
    torch.testing.assert_close(
        loaded.model.encode(batch.tokens, batch.lengths).mean,
        trained.loaded.model.encode(batch.tokens, batch.lengths).mean,
    )
    assert loaded.facts["prior"]["kind"] == "gmm"
    assert torch.equal(
        loaded.model.prior.sample(5, torch.Generator().manual_seed(0)),
        trained.loaded.model.prior.sample(5, torch.Generator().manual_seed(0)),
    )


def test_batch_is_overfitted_to_exact_reconstruction(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "few", n=20, properties=0)
    values = tiny_values(max_steps=400, lr=2e-2, validate_size=0, checkpoint_every=1000)
    config = build_config({**values, "objective": {"name": "ae"}})
    trained = train_model(dataset, config, tmp_path / "model", device="cpu")
    assert evaluate(trained.loaded.model, dataset, dataset.rows("train")).exact == 1.0


def test_existing_run_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    (tmp_path / "something").write_text("precious")
    with pytest.raises(OutputError, match="--resume"):
        train_model(load_dataset(data), build_config(tiny_values(max_steps=1)), tmp_path, device="cpu")


def test_second_run_in_one_directory_is_refused(data: Path, tmp_path: Path) -> None:
    with directory_lock(tmp_path), pytest.raises(BusyError, match=str(os.getpid())):
        train_model(load_dataset(data), build_config(tiny_values(max_steps=1)), tmp_path, device="cpu", resume=True)


def test_training_without_an_end_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no end"):
        train_model(load_dataset(data), build_config(tiny_values()), tmp_path / "model", device="cpu")


def test_unknown_property_is_refused(data: Path, tmp_path: Path) -> None:
    values = tiny_values(max_steps=1)
    config = build_config({**values, "model": {**values["model"], "condition_on": ["p9"]}})  # type: ignore[dict-item]
    with pytest.raises(UnknownNameError, match="p9"):
        train_model(load_dataset(data), config, tmp_path / "model", device="cpu")


def test_resume_with_other_sizes_is_refused(data: Path, tmp_path: Path) -> None:
    train_model(load_dataset(data), build_config(tiny_values(max_steps=10)), tmp_path / "model", device="cpu")
    values = tiny_values(max_steps=20)
    config = build_config({**values, "model": {**values["model"], "latent": 5}})  # type: ignore[dict-item]
    with pytest.raises(ModelFileError, match="does not fit"):
        train_model(load_dataset(data), config, tmp_path / "model", device="cpu", resume=True)


def test_loss_that_is_not_finite_is_skipped_then_stops(data: Path, tmp_path: Path) -> None:
    dataset, config = load_dataset(data), build_config(tiny_values(max_steps=10))
    model, heard = SequenceVAE(config.model, len(dataset.vocabulary), dataset.property_info), []
    trainer = Trainer(model, dataset, config, tmp_path, Callbacks(on_warning=heard.append))
    batch = load_batch(dataset, dataset.rows("train")[:8])
    before = {name: value.clone() for name, value in model.named_parameters()}
    real = model.decoder.log_prob
    model.decoder.log_prob = lambda *a, **k: real(*a, **k) * torch.nan  # type: ignore[method-assign]
    trainer.step(batch)
    trainer.step(batch)
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())
    with pytest.raises(TrainingError, match="3 steps in a row"):
        trainer.step(batch)
    assert len(heard) == 3


def test_condition_reaches_the_decoder(data: Path) -> None:
    dataset = load_dataset(data)
    values = tiny_values()
    config = build_config({**values, "model": {**values["model"], "condition_on": ["p0"]}})  # type: ignore[dict-item]
    model = SequenceVAE(config.model, len(dataset.vocabulary), dataset.property_info)
    cond = model.condition(torch.tensor([[0.0, 1.0], [5.0, 1.0], [torch.nan, 1.0]]))
    assert cond.shape == (3, 2)
    assert cond[2].tolist() == [0, 0]
    z, token_ids = torch.zeros(3, 4), torch.ones(3, dtype=torch.int64)
    logits, _ = model.decoder.step(token_ids, model.decoder.start(z, cond))
    assert not torch.allclose(logits[0], logits[1])


def test_steps_and_teacher_forcing_agree(data: Path) -> None:
    dataset, config = load_dataset(data), build_config(tiny_values())
    model = SequenceVAE(config.model, len(dataset.vocabulary))
    batch = load_batch(dataset, dataset.rows("train")[:6])
    z, cond = torch.randn(6, 4), model.unconditioned(6)
    whole = model.decoder(batch.tokens[:, :-1], model.decoder.start(z, cond))
    state = model.decoder.start(z, cond)
    for position in range(batch.tokens.shape[1] - 1):
        logits, state = model.decoder.step(batch.tokens[:, position], state)
        torch.testing.assert_close(logits, whole[:, position])


def test_greedy_never_writes_a_special_token(data: Path) -> None:
    config = build_config(tiny_values())
    model = SequenceVAE(config.model, 9)
    written = greedy(model.decoder, torch.randn(50, 4), model.unconditioned(50), 12)
    inside = written.cumprod(1) > 0
    assert not torch.isin(written[inside], torch.tensor([0, 1, 3])).any()
    after_end = (written == 2).cumsum(1).roll(1, 1)[:, 1:] > 0
    assert (written[:, 1:][after_end] == 0).all()


def test_epoch_visits_every_row_once_in_another_order() -> None:
    rows, lengths = np.arange(103), np.random.default_rng(0).integers(1, 30, 103)
    first, second = (bucketed_rows(rows, lengths, 10, seed=1, epoch=epoch) for epoch in (0, 1))
    assert sorted(np.concatenate(first)) == list(rows)
    assert [list(cut) for cut in first] != [list(cut) for cut in second]
    spread = [np.ptp(lengths[cut]) for cut in first]
    assert np.mean(spread) < 5


def test_collate_takes_empty_and_frames_every_row() -> None:
    batch = collate([np.array([], dtype=np.int64), np.array([5, 6])])
    assert batch.tokens.tolist() == [[1, 2, 0, 0], [1, 5, 6, 2]]
    assert batch.lengths.tolist() == [2, 4]


def test_reverse_rows_twice_is_the_same() -> None:
    tokens, lengths = torch.tensor([[1, 5, 2, 0], [1, 6, 7, 2]]), torch.tensor([3, 4])
    assert torch.equal(reverse_rows(reverse_rows(tokens, lengths), lengths), tokens)


def test_average_moves_towards_the_weights() -> None:
    layer = torch.nn.Linear(2, 2)
    average = AveragedWeights(layer, 0.99)
    start_value = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1
    for step in range(2000):
        average.update(layer, step)
    torch.testing.assert_close(average.average["weight"], start_value + 1, atol=1e-3, rtol=0)


def test_point_samples_have_the_moments_of_the_posterior() -> None:
    q = DiagonalNormal(torch.tensor([[2.0, -1.0]]), torch.tensor([[0.0, -1.0]]))
    z = q.sample(50_000, torch.Generator().manual_seed(0))[:, 0]
    torch.testing.assert_close(z.mean(0), q.mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(z.std(0), q.log_std[0].exp(), atol=0.02, rtol=0)


def test_empty_training_split_is_refused(tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "data", n=10)
    np.save(tmp_path / "data" / "split.npy", np.full(10, 2, dtype=np.uint8))
    dataset = load_dataset(dataset.directory, verify=False)
    with pytest.raises(InputError, match="no molecules"):
        train_model(dataset, build_config(tiny_values(max_steps=1)), tmp_path / "model", device="cpu")


def test_fitted_priors_beat_the_standard_normal_where_codes_are_elsewhere(data: Path) -> None:
    dataset, config = load_dataset(data), build_config(tiny_values())
    torch.manual_seed(0)
    model = SequenceVAE(config.model, len(dataset.vocabulary), dataset.property_info)
    with torch.no_grad():
        model.encoder.to_mean.weight.mul_(5)
        model.encoder.to_mean.bias.add_(3)
    for kind in ("gmm", "flow"):
        settings = PriorConfig(kind=kind, components=4, layers=2, hidden=8, max_steps=200, batch_size=64, lr=1e-2)
        fitted = fit_prior(model, dataset, settings)
        assert fitted.rate < fitted.rate_normal - 5
        with torch.no_grad():
            assert fitted.prior.sample(500, torch.Generator().manual_seed(0)).mean() > 1
    with pytest.raises(InputError, match="50 training molecules"):
        fit_prior(model, tiny_dataset(data.parent / "small", n=30), PriorConfig())
