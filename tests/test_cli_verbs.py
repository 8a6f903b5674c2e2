"""The verbs interpolate, neighbors, info, init-config, completion, and train --tensorboard, as a user calls them."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import BaseModel, Field
from tiny import tiny_dataset, tiny_values

from molvae.cli import info, init_config
from molvae.cli.completion import script
from molvae.cli.main import VERBS, main
from molvae.config import Config, ModelConfig, Section, build_config, load_config
from molvae.data.vocabulary import Vocabulary
from molvae.errors import ConfigError
from molvae.nn.checkpoint import save_model
from molvae.nn.model import SequenceVAE
from molvae.objectives.presets import PRESETS
from molvae.train.log import TensorBoard

ROOT = Path(__file__).resolve().parent.parent
TOKENS = ["[C]", "[O]", "[N]", "[F]", "[=C]", "[=O]", "[#N]", "[Ring1]", "[Branch1]", "[=Branch1]"]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_tokens(TOKENS)
    config = Config(model=ModelConfig(embedding=8, encoder_hidden=16, decoder_hidden=16, decoder_layers=1, latent=4))
    network = SequenceVAE(config.model, len(vocabulary))
    with torch.no_grad():
        for weight in network.decoder.parameters():
            weight.mul_(4.0)
    directory = tmp_path_factory.mktemp("models") / "tiny"
    facts = {"max_tokens": 20, "prior": None, "objective": "vae", "steps": 7}
    save_model(directory, network, vocabulary, config, facts)
    return directory


def runs(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def fails(capsys, code: int, *arguments: object) -> str:
    """Run a verb that must fail with two lines on stderr; return them."""
    assert main([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 2, captured.err
    return captured.err


def test_interpolate_prints_a_table_and_draws_it(model, tmp_path, capsys):
    pictures = ("--svg", tmp_path / "path.svg", "--png", tmp_path / "path.png")
    runs("interpolate", "CC(=O)N", "OCC", "-m", model, "--steps", 6, *pictures)
    said = capsys.readouterr()
    table = pd.read_csv(io.StringIO(said.out))
    assert table["steps"].sum() == 7
    assert (table["position"].iloc[0], table["until"].iloc[-1]) == (0, 1)
    assert "7 points:" in said.err
    assert "note: A, CC(N)=O, does not come back from its code exactly" in said.err
    svg = (tmp_path / "path.svg").read_text()
    assert svg.startswith("<svg")
    assert svg.count("<g ") == len(table) + 2
    assert (tmp_path / "path.png").read_bytes().startswith(PNG)
    runs("interpolate", "CC(=O)N", "OCC", "-m", model, "--steps", 6, "--every", "-o", tmp_path / "path.csv")
    assert len(pd.read_csv(tmp_path / "path.csv")) == 7


def test_interpolate_refuses_what_it_cannot_read(model, tmp_path, capsys):
    assert "'[Si]' (vocabulary)" in fails(capsys, 2, "interpolate", "CCO", "[Si]", "-m", model)
    assert "'C(' (parse)" in fails(capsys, 2, "interpolate", "C(", "CCO", "-m", model)
    assert "path of 0 steps" in fails(capsys, 2, "interpolate", "C", "CCO", "-m", model, "--steps", 0)
    ending = fails(capsys, 5, "interpolate", "C", "CCO", "-m", model, "--svg", tmp_path / "path.jpg")
    assert "End it in .svg" in ending


def test_neighbors_prints_a_table_and_what_was_drawn(model, tmp_path, capsys):
    runs("neighbors", "CC(=O)N", "-m", model, "-n", 4, "--radius", "2,4", "--svg", tmp_path / "near.svg")
    said = capsys.readouterr()
    table = pd.read_csv(io.StringIO(said.out))
    assert table.columns.tolist()[:5] == ["smiles", "similarity", "radius", "distance", "nats"]
    assert set(table["radius"]) <= {2, 4}
    assert "radius 2:" in said.err
    assert "the molecule itself" in said.err
    assert (tmp_path / "near.svg").read_text().count("<g ") == len(table) + 1
    runs("neighbors", "CC(=O)N", "-m", model, "-n", 4, "--radius", "2,4", "-o", tmp_path / "near.smi")
    assert (tmp_path / "near.smi").read_text().split() == table["smiles"].tolist()


def test_neighbors_says_when_there_are_too_few(model, capsys):
    runs("neighbors", "CCO", "-m", model, "-n", 9, "--radius", "1e-7", "--properties", "none")
    said = capsys.readouterr()
    assert "warning: Only" in said.err
    assert "no list of numbers" in fails(capsys, 2, "neighbors", "CCO", "-m", model, "--radius", "1;2")
    assert "radius of -1" in fails(capsys, 2, "neighbors", "CCO", "-m", model, "--radius=-1")


def test_info_names_versions_processor_and_model(model, capsys):
    runs("info", "-m", model, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["processor"]["cores"] == os.cpu_count()
    about = found["model"]
    weights = SequenceVAE(build_config({"model": {"embedding": 8, "encoder_hidden": 16, "decoder_hidden": 16,
                          "decoder_layers": 1, "latent": 4}}).model, len(TOKENS) + 4)  # fmt: skip
    assert about["weights"] == sum(one.numel() for one in weights.parameters())
    assert (about["name"], about["latent"], about["vocabulary"], about["steps"]) == ("tiny", 4, 14, 7)
    assert about["files"] == "as written (SHA-256)"
    runs("info", "-m", model)
    said = capsys.readouterr().out
    assert "  objective        vae\n" in said
    assert max(map(len, said.splitlines())) <= 120


def test_info_of_a_broken_model_says_what_is_wrong_and_the_rest(model, tmp_path, capsys):
    broken = shutil.copytree(model, tmp_path / "broken")
    (broken / "vocab.json").write_text("{}")
    assert main(["info", "-m", str(broken)]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert f"{broken / 'vocab.json'} changed since it was written" in said
    assert "torch" in said
    assert main(["info", "-m", "nothing-like-it"]) == 3
    assert "There is no model 'nothing-like-it'." in capsys.readouterr().out


def test_info_survives_what_is_missing(monkeypatch):
    def missing(name: str) -> str:
        raise info.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(info.metadata, "version", missing)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "molvae.nn.checkpoint", raising=False)
    monkeypatch.setattr(info.Path, "read_text", lambda *a, **k: (_ for _ in ()).throw(OSError("no /proc")))
    found = info.collect()
    assert found["versions"]["rdkit"] == "not installed"
    assert "numba" not in found["versions"]
    assert "torch cannot be imported" in found["devices"]["problem"]
    assert "cannot be imported" in found["model"]["problem"]
    assert found["processor"]["name"]


def test_info_tells_no_home_directory(model, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(model.parent))
    runs("info", "-m", model)
    said = capsys.readouterr().out
    assert str(model.parent) not in said
    assert "~/tiny" in said
    monkeypatch.setenv("HOME", "/")
    assert info.hide_home("/etc/passwd") == "/etc/passwd"


def test_init_config_reads_back_as_the_defaults(tmp_path, capsys):
    path = tmp_path / "molvae.toml"
    runs("init-config", "-o", path)
    assert f"--config {path}" in capsys.readouterr().out
    assert load_config(path) == Config()
    assert "exists already" in fails(capsys, 5, "init-config", "-o", path)
    path.write_text("")
    runs("init-config", "-o", path, "--force")
    assert load_config(path) == Config()
    assert tomllib.loads(path.read_text()) == Config().model_dump(mode="json", exclude_none=True)


def fields(section: type[BaseModel]) -> list[tuple[str, str | None]]:
    found = []
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += fields(inner)
        else:
            found.append((f"{section.__name__}.{name}", field.description))
    return found


def test_every_setting_is_explained():
    assert [name for name, description in fields(Config) if not description] == []
    text = init_config.config_to_toml(Config())
    for name, description in fields(Config):
        setting = name.partition(".")[2]
        assert f"\n{setting} = " in text or f"\n# {setting} =\n" in text
        assert str(description).split()[0] in text


class Part(Section):
    """Things of all kinds."""

    rate: float = Field(1e-3, gt=0, le=1, description="a rate")
    layers: int = Field(2, ge=1, le=8, description="layers")
    kind: Literal["a", "b"] = Field("a", description="a kind")
    names: list[str] | Literal["all"] = Field("all", description="names")
    limit: int | None = Field(None, ge=1000, description="a limit")


class Everything(Section):
    """A config of one part."""

    seed: int = Field(0, ge=0, lt=2**63, description="of all chance")
    part: Part = Field(default_factory=Part)


def test_init_config_tells_defaults_and_ranges():
    text = " ".join(init_config.config_to_toml(Everything()).replace("\n# ", " ").split())
    assert "Things of all kinds. [part] " in text
    assert "a rate (default 0.001; above 0, at most 1) rate = 0.001" in text
    assert "layers (default 2; 1 to 8) layers = 2" in text
    assert '(default "a"; a or b) kind = "a"' in text
    assert '(default "all"; a list or all) names = "all"' in text
    assert "a limit (default unset; 1,000 or more) limit =" in text
    assert "of all chance (default 0; 0 or more, below 2^63) seed = 0" in text


def test_every_value_that_can_be_set_is_written_so_that_it_reads_back():
    values = {
        "model": {"condition_on": ["qed", 'odd "name"\\'], "predict": ["logp"]},
        "train": {"epochs": 3, "lr": 1e-7, "max_minutes": 0.5, "precision": "bf16"},
        "objective": {"beta": 1e-12},
    }
    config = build_config(values)
    assert build_config(tomllib.loads(init_config.config_to_toml(config))) == config


@pytest.mark.parametrize("name", PRESETS)
def test_init_config_writes_out_a_preset(name, tmp_path, capsys):
    runs("init-config", "--preset", name, "-o", "-")
    config = build_config(tomllib.loads(capsys.readouterr().out))
    row = PRESETS[name]
    assert (config.objective.name, config.objective.beta) == (name, row.beta)
    assert config.objective.schedule == row.schedule


def test_init_config_knows_no_such_preset(capsys):
    assert "'magic'" in fails(capsys, 2, "init-config", "--preset", "magic", "-o", "-")


def completed(line: str, tmp_path: Path) -> list[str]:
    """Return what bash offers after ``line``, through the script that the verb prints."""
    program = tmp_path / "molvae"
    if not program.exists():
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m molvae "$@"\n')
        program.chmod(0o755)
    code = f"""
eval "$(molvae completion bash)"
COMP_WORDS=({line}); [[ "{line}" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_molvae_completion molvae
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "--norc", "-c", code], capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_verbs_and_their_options(tmp_path):
    assert completed("molvae ", tmp_path) == list(VERBS)
    assert completed("molvae in", tmp_path) == [name for name in VERBS if name.startswith("in")]
    assert completed("molvae interpolate --st", tmp_path) == ["--steps"]
    assert {"--preset", "--force"} <= set(completed("molvae init-config --", tmp_path))
    assert completed("molvae completion ", tmp_path) == ["bash", "zsh", "fish"]


@pytest.mark.parametrize(
    ("shell", "words"),
    [
        ("zsh", {"_TYPER_COMPLETE_ARGS": "molvae neigh"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "molvae neigh", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_other_shells_are_answered(shell, words, run_molvae):
    environment = {**os.environ, **words, "_MOLVAE_COMPLETE": f"complete_{shell}", "PYTHONPATH": str(ROOT)}
    done = run_molvae(env=environment)
    assert done.returncode == 0
    assert "neighbors" in done.stdout
    assert "prepare" not in done.stdout
    assert "_MOLVAE_COMPLETE" in script(shell)


def test_completion_imports_no_library():
    code = """
import os, sys
os.environ.update(_MOLVAE_COMPLETE="complete_bash", COMP_WORDS="molvae train --", COMP_CWORD="2")
from molvae.cli.main import main
code = main()
sys.exit(str({"torch", "rdkit", "pandas", "numpy"} & set(sys.modules)) if code == 0 else code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stderr.strip() == "set()"
    assert "--resume" in done.stdout.split()


def test_a_script_for_an_unknown_shell(capsys):
    assert "'ksh'" in fails(capsys, 2, "completion", "ksh")


def scalars(directory: Path) -> dict[str, dict[int, float]]:
    """Return name -> step -> value of everything TensorBoard would show."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(directory)).Reload()
    found = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    assert all(len({one.step for one in rows}) == len(rows) for rows in found.values())
    return {tag: {one.step: one.value for one in rows} for tag, rows in found.items()}


def test_tensorboard_shows_the_rows_of_the_log(tmp_path):
    pytest.importorskip("tensorboard")
    board = TensorBoard(tmp_path / "board")
    assert not (tmp_path / "board").exists()
    board.append({"kind": "train", "step": 1, "loss": 2.5, "beta": float("nan"), "note": "text"})
    board.append({"kind": "valid", "step": 2, "exact": 0.5})
    board.close()
    assert scalars(tmp_path / "board") == {"train/loss": {1: 2.5}, "valid/exact": {2: 0.5}}


def test_tensorboard_forgets_what_a_resumed_run_does_again(tmp_path):
    pytest.importorskip("tensorboard")
    for steps, value in ((range(1, 6), 1.0), (range(4, 8), 2.0)):
        board = TensorBoard(tmp_path)
        for step in steps:
            board.append({"kind": "train", "step": step, "loss": value})
        board.close()
    assert scalars(tmp_path)["train/loss"] == {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2, 7: 2}


def test_train_writes_for_tensorboard(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    tiny_dataset(tmp_path / "data", 60)
    monkeypatch.chdir(tmp_path)
    values = tiny_values(max_steps=20)
    settings = [f"{group}.{key}={json.dumps(one)}" for group, part in values.items() for key, one in part.items()]
    arguments = [part for setting in settings for part in ("--set", setting)]
    runs("train", "data", "-o", "run", "--tensorboard", *arguments)
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    found = scalars(Path("run/tensorboard"))
    assert {"train/loss", "train/beta", "valid/exact", "valid/distortion"} <= set(found)
    for row in rows:
        name = "loss" if row["kind"] == "train" else "distortion"
        assert found[f"{row['kind']}/{name}"][row["step"]] == pytest.approx(row[name], rel=1e-5)


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(ConfigError, match=r"molvae\[track\]"):
        TensorBoard(tmp_path)
