"""``molvae train`` on the command line: what it writes, and what it says when it cannot."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tiny import tiny_dataset

Run = Callable[..., subprocess.CompletedProcess[str]]
SMALL = [
    argument
    for setting in (
        "model.encoder_hidden=12", "model.decoder_hidden=16", "model.decoder_layers=1", "model.latent=4",
        "train.batch_size=16", "prior.components=2", "train.threads=1", "train.validate_size=20",
    )
    for argument in ("--set", setting)
]  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data") / "tiny").directory


def test_trains_writes_and_says_so(run_molvae: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    done = run_molvae("train", data, "-o", out, *SMALL, "--set", "train.epochs=2", "--seed", "3")
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "prior.safetensors", "README.md", "metrics.jsonl", "reconstruction.csv"):
        assert (out / name).exists()
        assert f"wrote {out / name}" in done.stdout
    assert json.loads((out / "config.json").read_text())["config"]["seed"] == 3
    assert len(json.loads((out / "samples" / "epoch_002.json").read_text())) > 0
    assert (out / "samples" / "epoch_002.svg").read_text().startswith("<svg")
    kinds = [json.loads(line)["kind"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert {"train", "valid"} <= set(kinds)


def test_resume_keeps_the_settings_of_the_run(run_molvae: Run, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    run_molvae("train", data, "-o", out, *SMALL, "--set", "train.max_steps=5")
    done = run_molvae("train", data, "-o", out, "--resume", "--set", "train.max_steps=8")
    assert done.returncode == 0, done.stderr
    content = json.loads((out / "config.json").read_text())
    assert content["facts"]["steps"] == 8
    assert content["config"]["model"]["latent"] == 4


def test_interrupt_saves_and_exits_130(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    command = [
        sys.executable,
        "-m",
        "molvae",
        "train",
        str(data),
        "-o",
        str(out),
        *SMALL,
        "--set",
        "train.max_steps=100000",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (out / "metrics.jsonl").exists():
        assert process.poll() is None, process.stderr
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in printed
    assert "Traceback" not in errors
    assert (out / "manifest.json").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--objective", "gan"], "no objective 'gan'"),
        (["--set", "train.learning_rate=1"], "unknown setting train.learning_rate"),
        (["--set", "model.latent=0"], "model.latent"),
        (["--set", "model.condition_on=['logD']"], "logD"),
        (["--device", "cuda:7"], "CUDA"),
        (["--config", "absent.toml"], "absent.toml"),
        (["--resume"], "no run to resume"),
    ],
)
def test_bad_settings_are_two_lines(
    run_molvae: Run, data: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    done = run_molvae("train", data, "-o", tmp_path / "model", *arguments)
    assert done.returncode > 0
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 2
    assert not (tmp_path / "model" / "model.safetensors").exists()


def test_bad_datasets_are_two_lines(run_molvae: Run, tmp_path: Path) -> None:
    broken = tiny_dataset(tmp_path / "broken").directory
    (broken / "tokens.npy").write_bytes(b"\x00" * 100)
    empty = tmp_path / "empty"
    empty.mkdir()
    for place, says in ((tmp_path / "absent", "no dataset"), (empty, "not a complete"), (broken, "changed")):
        done = run_molvae("train", place, "-o", tmp_path / "model")
        assert done.returncode > 0
        assert says in done.stderr
        assert len(done.stderr.strip().splitlines()) == 2
