"""Several processes train what one does: the same weights, the same stop, any number of them on resume."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from molvae.cli.main import main
from molvae.config import build_config
from molvae.data.dataset import Dataset
from molvae.errors import ConfigError, DeviceError
from molvae.nn.checkpoint import load_tensors
from molvae.nn.model import SequenceVAE
from molvae.train import launch
from molvae.train.launch import count_processes, started
from molvae.train.log import MetricsLog
from molvae.train.loop import Callbacks, assist, fit
from molvae.train.processes import LostProcess, Share, check_shareable
from tests.tiny import tiny_dataset, tiny_values

ROOT = Path(__file__).resolve().parent.parent
STEPS = 12
MOLECULES = 142
"""Of which 113 are trained on: the last of eight batches of 16 holds one, less than there are processes."""
PRESETS: dict[str, dict[str, Any]] = {
    "rate": {"name": "beta_vae", "schedule": "rate", "token_dropout": 0.2, "free_bits": 0.1, "code_noise": 0.5},
    "iwae": {"name": "iwae", "samples": 5, "samples_at_once": 2},
    "aae": {"name": "aae"},
    "wae": {"name": "wae"},
    "flow_prior": {"name": "flow_prior"},
    "ss_vae": {"name": "ss_vae"},
}
# The second process: does its part of everything that the tests ask for, in their order, and says what it was told.
CHILD = """
import json, sys
from pathlib import Path
from tests import test_train_parallel as tests
from molvae.data.dataset import load_dataset
from molvae.errors import MolvaeError
data, meet = load_dataset(Path(sys.argv[1]), verify=False), sys.argv[2]
for line in sys.stdin:
    order = json.loads(line)
    share = tests.Share(1, 2, 1, 2, f"file://{meet}/{order['name']}")
    try:
        told = getattr(tests, order["do"])(share, data, order)
    except MolvaeError as error:
        told = f"{type(error).__name__}: {error.problem}"
    sys.stdout.write(json.dumps(told) + chr(10))
    sys.stdout.flush()
"""


def values_of(objective: dict[str, Any], **train: object) -> dict[str, Any]:
    values: dict[str, Any] = tiny_values(**{"max_steps": STEPS, "checkpoint_every": 5, "validate_every": 6, **train})
    values["objective"] = {"warmup_steps": 5, **objective}
    values["model"] = {**values["model"], "condition_on": ["p0"] if objective["name"] == "iwae" else []}
    values["prior"] = {**values["prior"], "layers": 2, "hidden": 8}
    return values


def model_of(data: Dataset, values: dict[str, Any]) -> SequenceVAE:
    config = build_config(values)
    torch.manual_seed(config.seed)
    return SequenceVAE(config.model, len(data.vocabulary), data.property_info)


def second_trains(share: Share, data: Dataset, order: dict[str, Any]) -> Any:
    """Take part in a training; with ``signal`` get one just as the processes agree on that step."""
    values, agree = order["values"], Share.agree

    def interrupted(self: Share, step: int, heard: int | None, seconds: float) -> tuple[int | None, float]:
        if step == order.get("signal"):
            os.kill(os.getpid(), signal.SIGTERM)
        return agree(self, step, heard, seconds)

    model = model_of(data, values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Share, "agree", interrupted)
        stopped = assist(
            model, data, build_config(values), Path(order["directory"]), share, resume=order.get("resume", False)
        )
    return {"stopped": stopped, "sum": sum(value.double().sum().item() for value in model.state_dict().values())}


def second_talks(share: Share, data: Dataset, order: dict[str, Any]) -> Any:
    """Say numbers of its own, and go while the other one still waits."""
    with share.connected(torch.device("cpu")):
        told = share.agree(3, signal.SIGINT, 1e9), share.agree(4, None, 1e9)
    return told


def second_is_elsewhere(share: Share, data: Dataset, order: dict[str, Any]) -> Any:
    with share.connected(torch.device("cpu")):
        return share.agree(7, None, 0.0)


class Second:
    """The other process, which gets one order after another."""

    def __init__(self, data: Dataset, meet: Path) -> None:
        self.meet = meet
        command = [sys.executable, "-c", CHILD, str(data.directory), str(meet)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def order(self, do: str, name: str, **more: Any) -> Share:
        """Let it do its part, and return the place of this process beside it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, "name": name, **more}) + "\n")
        self.process.stdin.flush()
        return Share(0, 2, 0, 2, f"file://{self.meet}/{name}")

    def told(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return tiny_dataset(tmp_path_factory.mktemp("data") / "tiny", n=MOLECULES)


@pytest.fixture(scope="module")
def second(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Second]:
    found = Second(data, tmp_path_factory.mktemp("meet"))
    yield found
    found.process.communicate(timeout=300)


def train(data: Dataset, values: dict[str, Any], out: Path, share: Share | None = None, **more: Any) -> Any:
    return fit(model_of(data, values), data, build_config(values), out, share=share or Share(), **more)


def by_two(second: Second, data: Dataset, values: dict[str, Any], out: Path, name: str, **more: Any) -> Any:
    share = second.order("second_trains", name, values=values, directory=str(out), **more)
    more.pop("signal", None)
    result = train(data, values, out, share, **more)
    return result, second.told()


def assert_same(one: Any, two: Any, out: Path, other: Path) -> None:
    """Compare weights, averaged weights and the log, all but timings."""
    assert one.progress.step == two.progress.step
    assert one.averaged == two.averaged
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(two.model.state_dict()[name], value, atol=2e-5, rtol=1e-4)
    for name in ("model", "average", "optimizer"):
        first, again = (load_tensors(max((place / "checkpoints").glob("step_*")) / f"{name}.safetensors")
                        for place in (out, other))  # fmt: skip
        assert first.keys() == again.keys()
        for key, value in first.items():
            torch.testing.assert_close(again[key], value, atol=2e-5, rtol=1e-3)
    logs = [MetricsLog(place / "metrics.jsonl").rows() for place in (out, other)]
    assert [(row["kind"], row["step"]) for row in logs[0]] == [(row["kind"], row["step"]) for row in logs[1]]
    for row, same in zip(*logs, strict=True):
        for key in ("loss", "distortion", "rate", "head", "match", "beta", "grad_norm"):
            if key in row:
                assert same[key] == pytest.approx(row[key], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("preset", PRESETS)
def test_two_processes_give_the_weights_of_one(data: Dataset, second: Second, tmp_path: Path, preset: str) -> None:
    values = values_of(PRESETS[preset])
    one = train(data, values, tmp_path / "one")
    heard: list[str] = []
    share = second.order("second_trains", preset, values=values, directory=str(tmp_path / "two"))
    two = train(data, values, tmp_path / "two", share, callbacks=Callbacks(on_warning=heard.append))
    assert heard == []
    assert_same(one, two, tmp_path / "one", tmp_path / "two")
    # Training did something, so the comparison is not one of two starts; and the second process ended with the same.
    start = model_of(data, values).state_dict()
    assert max((start[name] - value).abs().max().item() for name, value in two.model.state_dict().items()
               if value.numel() and name in start) > 0.02  # fmt: skip
    told = second.told()
    assert told["stopped"] is None
    if not two.averaged:
        total = sum(value.double().sum().item() for value in two.model.state_dict().values())
        assert told["sum"] == pytest.approx(total, abs=1e-9)


def test_a_run_goes_on_with_another_number_of_processes(data: Dataset, second: Second, tmp_path: Path) -> None:
    values = values_of(PRESETS["rate"])
    whole = train(data, values, tmp_path / "whole")
    first, _ = by_two(second, data, values, tmp_path / "first", "resume_a")
    for name, before in (("whole", whole), ("first", first)):
        assert before.progress.step == STEPS
        shutil.copytree(tmp_path / name, tmp_path / f"{name}_on")
        shutil.rmtree(max((tmp_path / f"{name}_on" / "checkpoints").glob("step_*")))
    alone = train(data, values, tmp_path / "first_on", resume=True)
    assert_same(whole, alone, tmp_path / "whole", tmp_path / "first_on")
    both, _ = by_two(second, data, values, tmp_path / "whole_on", "resume_b", resume=True)
    assert_same(whole, both, tmp_path / "whole", tmp_path / "whole_on")


def test_a_signal_to_any_process_stops_all_at_the_same_step(data: Dataset, second: Second, tmp_path: Path) -> None:
    values = values_of(PRESETS["rate"])
    result, told = by_two(second, data, values, tmp_path / "out", "signal", signal=7)
    assert (result.stopped_by, told["stopped"]) == (signal.SIGTERM, signal.SIGTERM)
    # It came while they agreed on step 7, so they hear of it when they agree on the next.
    assert result.progress.step == 8
    assert sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())[-1] == "step_000000008"
    last = load_tensors(tmp_path / "out" / "checkpoints" / "step_000000008" / "model.safetensors")
    assert told["sum"] == pytest.approx(sum(value.double().sum().item() for value in last.values()), abs=1e-9)


def test_the_first_process_keeps_the_time_and_a_lost_one_is_noticed(second: Second) -> None:
    share = second.order("second_talks", "talk")
    with share.connected(torch.device("cpu")):
        assert share.agree(3, None, 2.5) == (signal.SIGINT, 2.5)
        assert share.agree(4, None, 3.5) == (None, 3.5)
        with pytest.raises(LostProcess, match="has ended") as caught:
            share.agree(5, None, 4.5)
    assert "--resume" in caught.value.remedy
    assert second.told() == [[signal.SIGINT, 2.5], [None, 3.5]]


def test_processes_at_different_steps_are_refused(second: Second) -> None:
    share = second.order("second_is_elsewhere", "elsewhere")
    with share.connected(torch.device("cpu")), pytest.raises(LostProcess, match="different steps, 3 to 7"):
        share.agree(3, None, 0.0)
    assert second.told().startswith("LostProcess: ")


@pytest.mark.parametrize("n", [0, 1, 2, 7, 16])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_row_belongs_to_one_process(n: int, count: int) -> None:
    rows = [list(range(n))[Share(rank, count).rows(n)] for rank in range(count)]
    assert [row for own in rows for row in own] == list(range(n))
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_alone_there_is_nothing_to_agree_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    share = Share.from_environment()
    assert share.first
    assert share.alone
    with share.connected(torch.device("cpu")):
        assert share.agree(3, signal.SIGINT, 2.5) == (signal.SIGINT, 2.5)
    assert share.device("cpu") == torch.device("cpu")


def test_torchrun_says_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    share = Share.from_environment()
    assert (share.rank, share.count, share.local_rank, share.local_count) == (5, 8, 1, 4)
    assert count_processes("1", "cpu") == 1
    with pytest.raises(ConfigError, match="torchrun has started 8"):
        count_processes("2", "cpu")
    for name, value in (("RANK", "8"), ("RANK", "first")):
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=f"RANK = {value}"):
            Share.from_environment()


def test_devices_that_processes_cannot_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert (count_processes("auto", "auto"), count_processes("auto", "cpu"), count_processes("3", "cuda")) == (4, 1, 3)
    assert [Share(rank, 4, rank, 4).device("auto").index for rank in range(4)] == [0, 1, 2, 3]
    assert Share(1, 9, 1, 9).device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match="has 4 CUDA devices"):
        check_shareable("auto", 5)
    for name in ("cuda:1", "mps"):
        with pytest.raises(ConfigError, match="one device"):
            Share(0, 2, 0, 2).device(name)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--processes", "0"], "no number"), (["--processes", "some"], "no number"),
     (["--processes", "2", "--device", "cuda:1"], "one device")],
)  # fmt: skip
def test_the_verb_refuses(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert main(["train", str(data.directory), "-o", str(tmp_path / "model"), *arguments]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.strip().splitlines()) == 2
    assert not (tmp_path / "model").exists()


def test_the_verb_starts_the_others(data: Dataset, tmp_path: Path, run_molvae: Callable[..., Any]) -> None:
    values = values_of(PRESETS["rate"], threads=1)
    config = tmp_path / "small.toml"
    for name, part in values.items():
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in part.items()]
        with config.open("a") as handle:
            handle.write(f"[{name}]\n{''.join(lines)}")
    done = run_molvae(
        "train", data.directory, "-o", tmp_path / "two", "--config", config, "--device", "cpu", "--processes", "2",
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"{STEPS} steps, " in done.stdout
    assert done.stdout.count(f"wrote {tmp_path / 'two' / 'metrics.jsonl'}") == 1
    train(data, values, tmp_path / "one")
    rows = [MetricsLog(tmp_path / name / "metrics.jsonl").rows() for name in ("one", "two")]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]]
    assert rows[1][-1]["distortion"] == pytest.approx(rows[0][-1]["distortion"], rel=1e-4)


def test_what_a_lost_process_said_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "PATIENCE", 120.0)
    with pytest.raises(LostProcess) as caught, started(["train", "no/such/dataset", "-o", "nowhere"], 2):
        raise LostProcess("Another process of this training has ended.", "See there.")
    assert caught.value.problem.startswith("Another process of this training failed: ")
    assert "no/such/dataset" in caught.value.problem
    assert "molvae" in caught.value.remedy
    with pytest.raises(ConfigError), started(["train", "no/such/dataset", "-o", "nowhere"], 2):
        raise ConfigError("Of its own.", "Stays.")


@pytest.mark.slow
def test_torchrun_starts_the_verb(data: Dataset, tmp_path: Path) -> None:
    values = [f"--set=model.{name}=8" for name in ("encoder_hidden", "decoder_hidden", "latent")]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "molvae",
               "train", str(data.directory), "-o", str(tmp_path / "model"), "--device", "cpu", *values,
               "--set=train.max_steps=5"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("5 steps, ") == 1
    assert (tmp_path / "model" / "manifest.json").exists()
