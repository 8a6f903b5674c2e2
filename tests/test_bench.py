"""The benchmark: its table tells the truth about what ran, and its shims leave the peer's work alone."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from molvae.config import ModelConfig
from molvae.nn.model import SequenceVAE

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
if not (SCRIPTS / "bench.py").exists():
    pytest.skip("the scripts are not beside the tests", allow_module_level=True)
sys.path.insert(0, str(SCRIPTS))

from bench import network, peers, roofline, table  # noqa: E402
from bench.cases import CASES, COMPARISONS, Comparison  # noqa: E402
from bench.setting import Setting, Unavailable  # noqa: E402

LINE = Comparison("decode", "other", "a", "b", None, 10, 100)


def setting(folder: Path, **changes: object) -> Setting:
    values = {"smiles": str(folder / "x.smi"), "wheel": None, "dataset": None, "device": "cpu", "threads": 1}
    return Setting(**{**values, "molecules": 20, "folder": str(folder), **changes})  # type: ignore[arg-type]


def repeats(*speeds: float) -> list[dict[str, float]]:
    return [{"molecules": speed, "cpu": 1.0, "wall": 2.0} for speed in speeds]


def test_every_row_names_cases_that_exist() -> None:
    for line in COMPARISONS:
        for name in (line.ours, line.peer):
            assert callable(getattr(importlib.import_module(CASES[name].module), CASES[name].function))


def test_figures_are_medians_and_ratios_are_of_neighbours() -> None:
    found = table.row(LINE, {"a": repeats(100, 50, 400), "b": repeats(10, 1, 100)}, "cpu", {})
    assert (found["ours_per_s"], found["peer_per_s"], found["ratio"]) == (100, 10, 10)
    assert table.row(LINE, {"a": repeats(100), "b": repeats(10)}, "wall", {})["ours_per_s"] == 50


def test_what_did_not_run_says_why_and_shows_no_figure() -> None:
    found = table.row(LINE, {"a": repeats(7), "b": [{"skipped": "selfies is not installed"}]}, "cpu", {})
    text = table.markdown([found])
    assert found["ratio"] is None
    assert "| decode | other | 7 | not run |  | 10 / 100 |  |" in text
    assert "not run: decode: selfies is not installed" in text


def test_the_plot_is_a_png_also_without_any_figure(tmp_path: Path) -> None:
    found = table.row(LINE, {"a": repeats(7), "b": repeats(2)}, "cpu", {})
    for rows in ([found], []):
        table.plot(rows, "title", tmp_path / "x.png")
        assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_operations_are_two_for_each_weight_and_token() -> None:
    config = ModelConfig(embedding=8, encoder_hidden=16, decoder_hidden=24, decoder_layers=3, latent=4, predict=[])
    model = SequenceVAE(config, 11)
    weights = {name: p.numel() for name, p in model.named_parameters() if name.count("weight") and p.dim() == 2}
    decoder = sum(n for name, n in weights.items() if "decoder.gru" in name or "to_logits" in name)
    encoder = sum(n for name, n in weights.items() if "_gru" in name)
    train, sample = roofline.operations(config, 11, 9)
    assert sample == 2 * decoder * 10
    assert train == 3 * (2 * decoder * 10 + 2 * encoder * 11)


def test_sampling_writes_the_lengths_that_are_imposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ModelConfig(embedding=4, encoder_hidden=8, decoder_hidden=8, decoder_layers=3, latent=4, predict=[])
    monkeypatch.setattr(network, "SIZES", small)
    monkeypatch.setattr(network, "SAMPLED", {"cpu": 40})
    monkeypatch.setattr(network.sampling, "Stepper", network.sampling.Stepper)
    assert network.sample_ours(setting(tmp_path))() == 40  # raises unless the lengths are kept


def test_training_takes_batches_of_average_length(tmp_path: Path) -> None:
    drawn = setting(tmp_path).lengths(20_000).mean()
    batches = network.synthetic_batches(setting(tmp_path), 64, 4)
    assert np.mean([float(batch.lengths.float().mean()) - 2 for batch in batches]) == pytest.approx(drawn, rel=0.02)


def test_the_peer_is_read_out_of_its_wheel_with_both_shims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "peer.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("moses/__init__.py", "raise RuntimeError('loads all metrics')")
        archive.writestr("moses/vae/__init__.py", "")
        for name in ("config", "trainer"):
            archive.writestr(f"moses/vae/{name}.py", "import no_such_library\n")
        archive.writestr(
            "moses/vae/model.py", "import torch\ndef mask():\n    return torch.zeros(1, dtype=torch.uint8)\n"
        )
    monkeypatch.setattr(peers, "UNUSED", ("no_such_library",))
    _, model, _ = peers.import_moses(wheel)
    for name in [name for name in sys.modules if name.split(".")[0] == "moses"]:
        del sys.modules[name]
    assert model.mask().dtype == torch.bool
    assert torch.zeros(1, dtype=torch.uint8).dtype == torch.uint8
    assert "no_such_library" not in sys.modules


def test_without_the_wheel_the_peer_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="molsets"):
        network.train_peer(setting(tmp_path))


def test_molecules_are_repeated_when_the_file_is_short(tmp_path: Path) -> None:
    (tmp_path / "x.smi").write_text("SMILES,id\nC,1\nCC,2\n")
    assert setting(tmp_path).read_smiles(5) == ["C", "CC", "C", "CC", "C"]


def test_one_command_writes_table_json_and_plot(tmp_path: Path) -> None:
    (tmp_path / "x.smi").write_text("CCO\nc1ccccc1\nCC(=O)O\n")
    command = [sys.executable, str(SCRIPTS / "bench.py"), "--stages", "tokenise", "--repeats", "1", "--molecules", "30",
               "--smiles", str(tmp_path / "x.smi"), "-o", str(tmp_path / "out")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    part = json.loads((tmp_path / "out" / "bench.json").read_text())["cpu"]
    rows = {one["stage"]: one for one in part["rows"]}
    assert rows["tokenise"]["ours_per_s"] > 0
    assert rows["tokenise"]["molecules"] == 30
    assert rows["decode"]["ours_per_s"] is None
    assert "**GPU**: not run. `python scripts/bench.py --device cuda" in done.stdout
    assert (tmp_path / "out" / "bench.png").stat().st_size > 1000
