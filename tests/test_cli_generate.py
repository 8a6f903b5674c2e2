"""The verbs sample, encode, decode, reconstruct and check, as a user calls them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from molvae.cli.main import main
from molvae.config import Config, ModelConfig
from molvae.data.vocabulary import Vocabulary
from molvae.nn.checkpoint import save_model
from molvae.nn.model import SequenceVAE

TOKENS = ["[C]", "[O]", "[N]", "[F]", "[=C]", "[=O]", "[#N]", "[Ring1]", "[Branch1]", "[=Branch1]"]
SMILES = ["CCO", "C(", "CC(=O)N", "[Si](C)(C)C", "OCC"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_tokens(TOKENS)
    config = Config(model=ModelConfig(embedding=8, encoder_hidden=16, decoder_hidden=16, decoder_layers=1, latent=4))
    directory = tmp_path_factory.mktemp("model")
    save_model(
        directory, SequenceVAE(config.model, len(vocabulary)), vocabulary, config, {"max_tokens": 20, "prior": None}
    )
    return directory


@pytest.fixture
def molecules(tmp_path) -> Path:
    path = tmp_path / "in.smi"
    path.write_text("\n".join(SMILES) + "\n")
    return path


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False)


def fails(capsys, code: int, *arguments: object) -> str:
    """Run a verb that must fail with two lines on stderr; return them."""
    assert main([str(argument) for argument in arguments]) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 2, err
    assert "Traceback" not in err
    return err


def runs(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def test_sample_to_csv(model, tmp_path, capsys):
    out = tmp_path / "new.csv"
    runs("sample", "-n", 12, "-m", model, "-o", out, "--seed", 3)
    table = read(out)
    assert list(table.columns) == ["smiles", "state", "nats", "logp", "qed", "sa", "mol_weight", "tpsa", "alerts"]
    assert len(table) == 12
    said = capsys.readouterr().out
    assert f"wrote {out}" in said
    assert "drawn" in said
    assert "12 molecules in" in said


def test_the_same_seed_writes_the_same_bytes(model, tmp_path):
    for name, workers in (("a.csv", 1), ("b.csv", 2)):
        runs("sample", "-n", 210, "-m", model, "-o", tmp_path / name, "--seed", 9, "--no-alerts", "--workers", workers)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_sample_to_smi_and_to_stdout(model, tmp_path, capsys):
    runs("sample", "-n", 7, "-m", model, "-o", tmp_path / "new.smi", "--unique")
    lines = (tmp_path / "new.smi").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 7
    capsys.readouterr()
    runs("sample", "-n", 7, "-m", model, "--unique", "--properties", "qed,rings", "--no-alerts")
    said = capsys.readouterr()
    table = pd.read_csv(io.StringIO(said.out))
    assert list(table.columns) == ["smiles", "state", "nats", "qed", "rings"]
    assert table["smiles"].tolist() == lines
    assert "drawn" in said.err


def test_sample_not_in_a_file(model, tmp_path):
    runs("sample", "-n", 20, "-m", model, "-o", tmp_path / "first.smi")
    runs("sample", "-n", 20, "-m", model, "-o", tmp_path / "second.smi", "--not-in", tmp_path / "first.smi")
    first, second = ((tmp_path / name).read_text().split() for name in ("first.smi", "second.smi"))
    assert len(second) == 20
    assert not set(first) & set(second)


def test_fewer_molecules_than_wanted_is_said(model, tmp_path, capsys):
    arguments = ("--unique", "--prior-temperature", 1e-6, "--properties", "none", "--no-alerts", "--temperature", 0.01)
    runs("sample", "-n", 30, "-m", model, "-o", tmp_path / "new.csv", *arguments)
    said = capsys.readouterr().out
    assert "warning: Only" in said
    assert len(read(tmp_path / "new.csv")) < 30


def test_encode_then_decode(model, molecules, tmp_path, capsys):
    runs("encode", molecules, "-m", model, "-o", tmp_path / "z.csv")
    table = read(tmp_path / "z.csv")
    assert list(table.columns) == ["input", "smiles", "state", "detail", "z0", "z1", "z2", "z3"]
    assert table["input"].tolist() == SMILES
    assert table["state"].tolist() == ["ok", "parse", "ok", "vocabulary", "ok"]
    assert table["z0"].tolist()[1] == ""
    assert "rejected: 1 parse, 1 vocabulary" in capsys.readouterr().out
    runs("encode", molecules, "-m", model, "-o", tmp_path / "z.npy")
    latents = np.load(tmp_path / "z.npy", allow_pickle=False)
    assert latents.shape == (5, 4)
    assert np.isnan(latents[[1, 3]]).all()
    for name in ("z.csv", "z.npy"):
        runs("decode", tmp_path / name, "-m", model, "-o", tmp_path / f"{name}.back.csv")
    back = read(tmp_path / "z.csv.back.csv")
    assert len(back) == 5
    assert back["state"].tolist()[1] == "missing"
    assert (tmp_path / "z.csv.back.csv").read_bytes() == (tmp_path / "z.npy.back.csv").read_bytes()


def test_reconstruct_prints_the_exact_share(model, molecules, tmp_path, capsys):
    runs("reconstruct", molecules, "-m", model, "-o", tmp_path / "back.csv")
    table = read(tmp_path / "back.csv")
    assert len(table) == 5
    said = capsys.readouterr().out
    assert f"exactly reconstructed: {(table['match'] == True).sum()} of 3 molecules" in said  # noqa: E712
    assert "rejected: 1 parse, 1 vocabulary" in said


def test_check_counts_over_all(molecules, tmp_path, capsys):
    (tmp_path / "known.smi").write_text("OCC\n")
    runs("check", molecules, "-o", tmp_path / "checked.csv", "--reference", tmp_path / "known.smi")
    table = read(tmp_path / "checked.csv")
    assert table["input"].tolist() == SMILES
    assert table["smiles"].tolist() == ["CCO", "", "CC(N)=O", "C[Si](C)C", "CCO"]
    said = capsys.readouterr().out
    assert "validity: 80.0%" in said
    assert "uniqueness: 75.0%" in said
    assert "novelty: 66.7%" in said
    assert "states: 4 ok, 1 parse" in said


def test_spreadsheet_cells_are_defused_only_when_asked(model, tmp_path):
    path = tmp_path / "evil.csv"
    path.write_text("smiles\n=cmd\n+1\n-2\n@x\nC\n")
    runs("check", path, "-o", tmp_path / "raw.csv")
    assert read(tmp_path / "raw.csv")["input"].tolist() == ["=cmd", "+1", "-2", "@x", "C"]
    runs("check", path, "-o", tmp_path / "safe.csv", "--spreadsheet")
    assert read(tmp_path / "safe.csv")["input"].tolist() == ["'=cmd", "'+1", "'-2", "'@x", "C"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("-n", "-5"), 2, "-5 molecules"),
        (("--properties", "lopg"), 2, "lopg"),
        (("--temperature", "-1"), 2, "temperature"),
        (("--top-p", "0"), 2, "top_p"),
        (("--precision", "fp8"), 2, "precision"),
        (("--batch-size", "0"), 2, "batch size"),
        (("--workers", "0"), 2, "workers"),
        (("--seed", "-1"), 2, "--seed"),
        (("-m", "no-such-model"), 2, "no-such-model"),
        (("--device", "cuda:7"), 4, "cuda:7"),
        (("--device", "toaster"), 4, "toaster"),
        (("-o", "new.xlsx"), 5, ".csv"),
        (("-o", "/proc/no/new.csv"), 5, "/proc"),
        (("-o", "/dev/null/new.csv"), 5, "/dev/null"),
        (("-o", "/proc"), 5, "ending"),
        (("-o", "new.smi", "--keep-failed"), 2, "keep-failed"),
        (("--not-in", "no-such-file.smi"), 2, "no-such-file.smi"),
    ],
)
def test_sample_refuses_in_two_lines(model, capsys, monkeypatch, tmp_path, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    given = ("-m", model, *arguments) if "-m" not in arguments else arguments
    assert words in fails(capsys, code, "sample", *(given if "-n" in given else ("-n", 3, *given)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"smiles,logp\nC,1\n", b"z0,z2\n1,2\n", b"\x93NUMPY\x00junk", b"z0\nabc\n"])
@pytest.mark.parametrize("name", ["z.csv", "z.npy"])
def test_decode_refuses_what_holds_no_latents(model, capsys, tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    assert name in fails(capsys, 2, "decode", tmp_path / name, "-m", model)


def test_decode_refuses_other_dimensions(model, capsys, tmp_path):
    np.save(tmp_path / "z.npy", np.zeros((3, 5), dtype=np.float32))
    assert "(3, 5)" in fails(capsys, 2, "decode", tmp_path / "z.npy", "-m", model)
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    fails(capsys, 2, "decode", tmp_path / "objects.npy", "-m", model)


@pytest.mark.parametrize("verb", ["encode", "reconstruct"])
def test_a_missing_input_is_named(model, capsys, tmp_path, verb):
    assert "nowhere.smi" in fails(capsys, 2, verb, tmp_path / "nowhere.smi", "-m", model)


def test_a_changed_model_is_refused(model, capsys, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    with (copy / "model.safetensors").open("r+b") as handle:
        handle.seek(200)
        handle.write(b"\xff\x00\xff")
    assert "model.safetensors" in fails(capsys, 3, "sample", "-n", "1", "-m", copy)


@pytest.mark.parametrize("verb", ["sample", "encode", "decode", "reconstruct", "check"])
def test_help_of_each_verb(verb, capsys):
    runs(verb, "-h")
    assert "Usage" in capsys.readouterr().out
