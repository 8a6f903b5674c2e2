"""Readers of drafts: what they practise on and learn, how they travel with a model, and what they are good for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_dataset, tiny_values

from molvae.chem.properties import compute
from molvae.chem.selfies import decode
from molvae.cli.main import main
from molvae.config import build_config
from molvae.data.vocabulary import BOS, EOS
from molvae.errors import ConfigError, ModelFileError
from molvae.files import write_manifest
from molvae.generate import practice
from molvae.generate.latents import encode_smiles, read_smiles, summarise_sequences
from molvae.generate.practice import practise, random_requests
from molvae.generate.predict import Predictor
from molvae.generate.read_back import ReadBack
from molvae.generate.reading import read_drafts
from molvae.kept import Kept
from molvae.nn.checkpoint import LoadedModel, load_model, save_model
from molvae.nn.heads import PropertyReader
from molvae.nn.model import SequenceVAE
from molvae.train.fit_reader import Lesson, calibrate, dataset_lesson, fit_reader, judge, steps_for


@pytest.fixture
def tiny(tmp_path: Path) -> LoadedModel:
    dataset, config = tiny_dataset(tmp_path / "tiny"), build_config(tiny_values())
    torch.manual_seed(0)
    model = SequenceVAE(config.model, len(dataset.vocabulary), dataset.property_info).eval()
    return LoadedModel(model, dataset.vocabulary, config, {"max_tokens": 10}, tmp_path)


@pytest.fixture(scope="module")
def moses() -> LoadedModel:
    return load_model("moses", "cpu")


def lesson(n: int, size: int, seed: int) -> Lesson:
    """Return summaries of which the first two numbers are the targets; every third second target is unknown."""
    summary = torch.randn(n, size, generator=torch.Generator().manual_seed(seed)).half()
    targets = summary[:, :2].float().clone()
    targets[::3, 1] = math.nan
    return Lesson(summary, targets)


def test_random_requests_ask_something_of_every_row_and_stay_in_range() -> None:
    rows = torch.randn(4096, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1])
    drawn = random_requests(rows, 2000, torch.Generator().manual_seed(1))
    asked = (~drawn.isnan()).sum(1)
    assert asked.min() == 1
    assert asked.max() == 3
    assert 0.6 < float((asked == 1).float().mean()) < 0.85
    assert (drawn.nan_to_num(0.0).abs() <= rows.abs().amax(0)).all()
    # Half are uniform: far more of them lie far out than of the rows.
    far = (drawn[:, 0].abs() > 2).sum() / (~drawn[:, 0].isnan()).sum()
    assert far > 2 * (rows[:, 0].abs() > 2).float().mean()


def test_a_reader_learns_what_stands_in_the_summary_and_says_how_sure_it_is(tiny: LoadedModel) -> None:
    size = tiny.model.encoder.summary_size
    real, drafts, unseen = (lesson(n, size, seed) for n, seed in ((3000, 0), (2000, 1), (1000, 2)))
    first, again = (fit_reader(tiny.model, real, drafts, seed=5) for _ in range(2))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    tiny.model.reader = first
    heads, reader = judge(tiny.model, "unseen", unseen)
    assert (heads.who, reader.who, reader.n) == ("heads", "reader", 1000)
    units = [info.std for info in tiny.model.property_info]
    for column, unit in enumerate(units):
        assert reader.mad[column] < 0.25 * unit
        assert reader.mad[column] < 0.4 * heads.mad[column]
        assert 0.75 < reader.inside[column] <= 1.0


def test_intervals_are_stretched_until_they_hold_what_they_promise(tiny: LoadedModel) -> None:
    size = tiny.model.encoder.summary_size
    reader = fit_reader(tiny.model, lesson(3000, size, 0), lesson(2000, size, 1), seed=5)
    with torch.no_grad():
        reader.network[2].bias[2:] -= math.log(3.0)
    tiny.model.reader = reader
    before = judge(tiny.model, "unseen", lesson(1000, size, 3))[1]
    factors = calibrate(reader, lesson(1000, size, 2))
    after = judge(tiny.model, "unseen", lesson(1000, size, 3))[1]
    assert max(before.inside) < 0.75
    assert min(factors) > 1.5
    assert all(0.86 < share < 0.94 for share in after.inside)
    assert after.mad == pytest.approx(before.mad)


def test_molecules_are_predicted_by_heads_and_reader_drafts_by_the_reader_and_latents_by_the_heads(
    moses: LoadedModel,
) -> None:
    smiles = ["CCOC(=O)c1ccccc1", "no molecule", "Cc1ccc(O)cc1"]
    latents = encode_smiles(moses, smiles, workers=1).latents
    reader = PropertyReader(moses.model.encoder.summary_size, 3, len(moses.model.predict_names))
    with torch.no_grad():
        for weight in reader.parameters():
            weight.zero_()
    info = next(one for one in moses.model.property_info if one.name == "logp")
    had = moses.model.reader
    try:
        moses.model.reader = None
        plain = Predictor(moses, ["logp"]).of_smiles(smiles, workers=1)["logp"]
        moses.model.reader = reader
        written = Predictor(moses, ["logp"]).of_smiles(smiles, workers=1, written=True)["logp"]
        both = Predictor(moses, ["logp"]).of_smiles(smiles, workers=1)["logp"]
        by_latent = Predictor(moses, ["logp"])(latents)["logp"]
    finally:
        moses.model.reader = had
    read = [0, 2]
    np.testing.assert_allclose(written.mean[read], info.mean)
    np.testing.assert_allclose(written.std[read], info.std)
    for found in (written, both, plain):
        assert np.isnan(found.mean[1])
        assert np.isnan(found.std[1])
    np.testing.assert_allclose(by_latent.mean, plain.mean, atol=1e-5)
    # The surer of the two counts for more, by the squares of how sure they are.
    weights = np.array([plain.std[read] ** -2, np.full(2, info.std) ** -2])
    expected = (weights * np.array([plain.mean[read], np.full(2, info.mean)])).sum(0) / weights.sum(0)
    np.testing.assert_allclose(both.mean[read], expected, rtol=1e-6)
    np.testing.assert_allclose(both.std[read], np.minimum(plain.std[read], info.std), rtol=1e-6)


def test_small_tables_are_not_learned_by_heart(tiny: LoadedModel) -> None:
    size = tiny.model.encoder.summary_size
    assert steps_for(lesson(100_000, size, 0), lesson(200_000, size, 0)) > 20 * steps_for(
        lesson(100_000, size, 0), lesson(1000, size, 0)
    )


def test_lessons_of_a_dataset_are_what_the_encoder_knows(tiny: LoadedModel, tmp_path: Path) -> None:
    dataset = tiny_dataset(tmp_path / "again")
    rows = np.array([3, 50, 7])
    found = dataset_lesson(tiny.model, dataset, rows)
    ids = [dataset.tokens[dataset.offsets[row] : dataset.offsets[row + 1]].tolist() for row in rows]
    means, summary = summarise_sequences(tiny.model, ids)
    torch.testing.assert_close(found.summary.float(), summary, atol=1e-3, rtol=1e-2)
    raw = torch.from_numpy(np.array(dataset.properties[rows]))
    torch.testing.assert_close(found.targets, tiny.model.targets(raw), equal_nan=True)
    kept, apart = found.split(1 / 3, torch.Generator().manual_seed(0))
    assert (len(kept), len(apart)) == (2, 1)
    torch.testing.assert_close(means, torch.stack([_mean(tiny, row) for row in ids]), atol=1e-5, rtol=1e-4)


def _mean(loaded: LoadedModel, ids: list[int]) -> torch.Tensor:
    tokens = torch.tensor([[BOS, *ids, EOS]])
    with torch.no_grad():
        return loaded.model.encode(tokens, torch.tensor([len(ids) + 2])).mean[0]


def test_a_reader_travels_with_its_model_and_with_no_other(tiny: LoadedModel, tmp_path: Path) -> None:
    reader = PropertyReader(tiny.model.encoder.summary_size, 7, 2).eval()
    tiny.model.reader = reader
    save_model(tmp_path / "one", tiny.model, tiny.vocabulary, tiny.config, tiny.facts)
    assert not any(name.startswith("reader.") for name in load_file(tmp_path / "one" / "model.safetensors"))
    summary = torch.randn(3, tiny.model.encoder.summary_size)
    loaded = load_model(tmp_path / "one", "cpu").model
    assert loaded.reader is not None
    torch.testing.assert_close(loaded.reader(summary)[0], reader(summary)[0])
    tiny.model.reader = None
    with torch.no_grad():
        tiny.model.encoder.to_mean.weight.add_(0.5)
    save_model(tmp_path / "two", tiny.model, tiny.vocabulary, tiny.config, tiny.facts)
    assert load_model(tmp_path / "two", "cpu").model.reader is None
    (tmp_path / "two" / "reader.safetensors").write_bytes((tmp_path / "one" / "reader.safetensors").read_bytes())
    (tmp_path / "two" / "manifest.json").unlink()
    write_manifest(tmp_path / "two", {"kind": "model"})
    with pytest.raises(ModelFileError, match="another model") as caught:
        load_model(tmp_path / "two", "cpu")
    assert "fit-reader" in caught.value.remedy


def test_drafts_are_read_by_the_reader_and_moves_still_aim_by_the_heads(tiny: LoadedModel) -> None:
    model, z = tiny.model, torch.zeros(1, 4)
    wanted = torch.tensor([[1.0, math.nan]])
    read = ReadBack(z, torch.tensor([True]), ["C"], torch.zeros(1, model.encoder.summary_size))
    plain = read_drafts(model, read, wanted)
    reader = PropertyReader(model.encoder.summary_size, 3, 2)
    with torch.no_grad():
        for weight in reader.parameters():
            weight.zero_()
        reader.network[2].bias.copy_(torch.tensor([0.75, 0.0, math.log(0.5), 0.0]))
    model.reader = reader
    found = read_drafts(model, read, wanted)
    assert float(found.off) == pytest.approx(0.25)
    assert float(found.missed) == pytest.approx(math.hypot(0.25, 0.5))
    said = float(model.heads(z)[0][0, 0].detach())
    assert float(plain.off) == pytest.approx(abs(said - 1.0))
    assert float(found.aims[0, 0]) == pytest.approx(said + 0.25)


def test_practice_is_distinct_drafts_with_the_values_of_rdkit(
    moses: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(practice, "AT_ONCE", 24)
    counts: list[int] = []
    found = practise(moses, 40, 3, workers=1, say=counts.append)
    assert counts[-1] == 40
    assert len(found.token_ids) >= 40
    assert len({tuple(row) for row in found.token_ids}) == len(found.token_ids)
    smiles = [decode([moses.vocabulary.tokens[one] for one in row]) for row in found.token_ids[:5]]
    names = [info.name for info in moses.model.property_info]
    np.testing.assert_allclose(found.values[:5], compute(smiles, names, 1), rtol=1e-6)
    assert len(read_smiles(moses, smiles, workers=1)) == 5


def test_practice_goes_on_where_it_was_stopped(
    moses: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(practice, "AT_ONCE", 8)
    whole = practise(moses, 60, 3, workers=1)

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        practise(moses, 60, 3, workers=1, say=stop, kept=Kept(tmp_path / "taught", {}, False))
    kept = Kept(tmp_path / "taught", {}, True)
    assert list(kept.parts) == ["drafts of seed 3, turn 0"]
    again = practise(moses, 60, 3, workers=1, kept=kept)
    assert again.token_ids == whole.token_ids
    np.testing.assert_array_equal(again.values, whole.values)


def test_a_model_without_computable_heads_cannot_practise(tiny: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="RDKit computes"):
        practise(tiny, 10, 0)


def test_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(practice, "AT_ONCE", 24)
    table = tmp_path / "molecules.smi"
    rows = (Path(load_model("moses", "cpu").directory) / "held_out.smi").read_text().splitlines()[:150]
    table.write_text("\n".join(rows) + "\n")
    asked = ["prepare", str(table), "-o", str(tmp_path / "data"), "--test", "0", "--workers", "1"]
    assert main([*asked, "--properties", "logp,qed,sa,tpsa,mol_weight"]) == 0
    words = ["fit-reader", str(tmp_path / "data"), "-m", "moses", "-o", str(tmp_path / "taught"), "--workers", "1"]
    capsys.readouterr()
    assert main([*words, "--drafts", "100", "--molecules", "120"]) == 0
    said = capsys.readouterr().out
    assert "drafts under the reader" in said
    assert f"wrote {tmp_path / 'taught' / 'reader.safetensors'}" in said
    taught = load_model(tmp_path / "taught", "cpu")
    assert taught.model.reader is not None
    card = (tmp_path / "taught" / "README.md").read_text()
    assert card.count("## Reader of drafts") == 1
    assert main(words) == 5
    assert "exists already" in capsys.readouterr().err
