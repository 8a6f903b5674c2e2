"""A model that is extended or fine-tuned keeps what it could do, and says what it learned."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from molvae.cli.main import main
from molvae.config import Config, ModelConfig, build_config
from molvae.data.batch import collate, load_batch
from molvae.data.dataset import Dataset, PropertyInfo
from molvae.data.remap import extend_vocabulary, with_properties, with_vocabulary
from molvae.data.vocabulary import Vocabulary
from molvae.errors import ConfigError, InputError, UnknownNameError
from molvae.nn.checkpoint import LoadedModel, load_model
from molvae.nn.extend import extend_model, same_scale
from molvae.nn.model import SequenceVAE
from molvae.objectives.objective import mask_properties
from molvae.train.evaluate import evaluate
from molvae.train.finetune import finetune_values, mix, new_tokens, prepare_finetune
from molvae.train.run import train_model
from tests.tiny import TOKENS, tiny_dataset, tiny_values

MORE = Vocabulary(["[B]", *TOKENS, "[Na+1]"])
"""The tokens of the tiny dataset in other places, and two new ones."""


def config_with(**model: object) -> Config:
    values = tiny_values(max_steps=60)
    values["model"] = {**values["model"], **model}  # type: ignore[dict-item]
    return build_config(values)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return tiny_dataset(tmp_path / "data")


@pytest.fixture
def source(data: Dataset, tmp_path: Path) -> LoadedModel:
    return train_model(data, config_with(condition_on=["p0"]), tmp_path / "old").loaded


def extended(source: LoadedModel, vocabulary: Vocabulary = MORE, **model: object) -> SequenceVAE:
    torch.manual_seed(1)
    config = source.config.model.model_copy(update=model)
    return extend_model(source.model, source.vocabulary, config, vocabulary, source.model.property_info).eval()


def moved(tokens: torch.Tensor, old: Vocabulary, new: Vocabulary) -> torch.Tensor:
    return torch.tensor([new.tokens.index(token) for token in old.tokens])[tokens]


def test_the_extended_model_reads_and_writes_old_molecules_as_before(source: LoadedModel, data: Dataset) -> None:
    model = extended(source, condition_on=["p1", "p0"])
    batch = load_batch(data, data.rows("valid"))
    tokens = moved(batch.tokens, source.vocabulary, MORE)
    q_old, q_new = source.model.encode(batch.tokens, batch.lengths), model.encode(tokens, batch.lengths)
    assert torch.allclose(q_old.mean, q_new.mean, atol=1e-6)
    assert torch.allclose(q_old.log_std, q_new.log_std, atol=1e-6)
    # A value of p1 must not matter yet, p0 must matter as before.
    cond_old, cond_new = source.model.condition(batch.properties), model.condition(batch.properties)
    old = source.model.decoder(batch.tokens, source.model.decoder.start(q_old.mean, cond_old))
    new = model.decoder(tokens, model.decoder.start(q_old.mean, cond_new))
    places = torch.tensor([MORE.tokens.index(token) for token in source.vocabulary.tokens])
    assert torch.allclose(new[..., places], old, atol=1e-5)
    added = torch.softmax(new, -1)[..., [MORE.tokens.index("[B]"), MORE.tokens.index("[Na+1]")]]
    assert float(added.max()) < 0.01


def test_a_head_of_an_old_property_goes_on_and_a_new_one_is_drawn(source: LoadedModel) -> None:
    info = [*source.model.property_info, PropertyInfo("pic50", 6.0, 1.0, 3.0, 9.0, 10)]
    model = extend_model(source.model, source.vocabulary, source.config.model, source.vocabulary, info[::-1])
    z = torch.randn(5, source.model.latent)
    old, new = source.model.heads(z), model.heads(z)
    assert model.predict_names == ["pic50", "p1", "p0"]
    for before, after in zip(old, new, strict=True):
        assert torch.allclose(after[:, [2, 1]], before, atol=1e-6)


def test_extension_keeps_the_old_scale_of_properties(source: LoadedModel) -> None:
    shifted = [PropertyInfo("p0", 100.0, 50.0, 0.0, 200.0, 3), PropertyInfo("new", 1.0, 2.0, 0.0, 3.0, 3)]
    first, second = same_scale(shifted, source.model.property_info)
    assert (first.mean, first.std) == (source.model.property_info[0].mean, source.model.property_info[0].std)
    assert (first.minimum, first.maximum, second.mean) == (0.0, 200.0, 1.0)


def test_a_size_cannot_change(source: LoadedModel) -> None:
    with pytest.raises(ConfigError, match=r"model\.latent is 4"):
        extended(source, latent=5)


def test_remapped_tokens_name_the_same_molecules(data: Dataset) -> None:
    vocabulary = extend_vocabulary(MORE, data.vocabulary)
    assert vocabulary == MORE
    same = with_vocabulary(data, vocabulary)
    for row in (0, 17, len(data) - 1):
        assert same.vocabulary.decode(same.token_ids(row)) == data.vocabulary.decode(data.token_ids(row))


def test_a_token_without_a_place_is_named(data: Dataset) -> None:
    with pytest.raises(InputError, match=r"\[F\]"):
        with_vocabulary(data, Vocabulary([token for token in TOKENS if token != "[F]"]))


def test_missing_properties_become_unknown(data: Dataset) -> None:
    wide = with_properties(data, [PropertyInfo("logp", 2.0, 1.0, -3.0, 7.0, 10), *data.property_info])
    assert wide.property_names == ["p0", "p1", "logp"]
    assert np.isnan(wide.properties[:, 2]).all()
    assert np.array_equal(wide.properties[:, :2], data.properties, equal_nan=True)


def test_mixing_repeats_the_new_and_adds_the_old(data: Dataset) -> None:
    old = [[4, 5], [6], [7, 7, 7]] * 100
    mixed = mix(data, old)
    train = len(data.rows("train"))
    assert len(mixed.rows("train")) == 2 * train + 300
    assert np.array_equal(mixed.rows("valid"), data.rows("valid"))
    assert mixed.token_ids(len(mixed) - 1).tolist() == [7, 7, 7]
    again = len(data)
    assert mixed.token_ids(again).tolist() == data.token_ids(int(data.rows("train")[0])).tolist()
    assert np.array_equal(mixed.properties[again], data.properties[data.rows("train")[0]], equal_nan=True)
    assert np.isnan(mixed.properties[-1]).all()


def test_masking_hides_whole_molecules_and_single_values() -> None:
    shown = mask_properties(torch.ones(20_000, 3), 0.5, torch.Generator().manual_seed(0))
    hidden = shown.isnan()
    assert abs(float(hidden.float().mean()) - 0.75) < 0.01
    assert abs(float(hidden.all(1).float().mean()) - (0.5 + 0.5 * 0.5**3)) < 0.015
    assert mask_properties(torch.ones(2, 3), 0.0, None).isnan().sum() == 0


def test_fine_tuning_starts_from_the_models_own_settings(source: LoadedModel) -> None:
    values = finetune_values(source, {"train": {"lr": 0.01}})
    config = build_config(values)
    assert config.model == source.config.model
    assert (config.train.lr, config.train.max_steps, config.objective.schedule) == (0.01, 600, "constant")
    assert config.objective.beta == pytest.approx(0.1 * 60 / 1000)  # the warm-up had come this far
    assert build_config(finetune_values(source, {"train": {"epochs": 2}})).train.max_steps is None


def test_fine_tuning_learns_the_new_and_rehearsal_keeps_the_old(tmp_path: Path) -> None:
    data = tiny_dataset(tmp_path / "old_data", n=300, seed=0)
    config = config_with(latent=16, decoder_hidden=32, encoder_hidden=24)
    config.objective.beta = 0.001
    config.train.max_steps = 500
    source = train_model(data, config, tmp_path / "old").loaded
    other = tiny_dataset(tmp_path / "new_data", n=60, seed=5)
    # The same shapes in other letters: what was [C] is now [B], so nothing of it is known to the model.
    renamed = Vocabulary([{"[C]": "[B]", "[N]": "[P]"}.get(token, token) for token in other.vocabulary.tokens[4:]])
    new = Dataset(**{**vars(other), "vocabulary": renamed})
    assert new_tokens(source, new) == [token for token in renamed.tokens if token in ("[B]", "[P]")]

    old_rows = data.rows("train")
    old = [[int(token) for token in data.token_ids(int(row))] for row in old_rows]
    values = {"train": {"lr": 0.01, "max_steps": 250, "batch_size": 16, "lr_warmup_steps": 5}}
    exact = {}
    for name, rehearsed in (("with", old), ("without", [])):
        tuned_config = build_config(finetune_values(source, values))
        mixed, start = prepare_finetune(source, new, tuned_config, rehearsed)
        tuned = train_model(mixed, tuned_config, tmp_path / name, start=start).loaded
        judged_old = evaluate(tuned.model, with_vocabulary(data, tuned.vocabulary), old_rows).exact
        exact[name] = (judged_old, evaluate(tuned.model, start.codes, new.rows("train")).exact)
    before = evaluate(source.model, data, old_rows).exact
    assert exact["with"][1] > 0.5
    assert exact["without"][1] > 0.5
    assert exact["with"][0] > 0.8 * before
    assert exact["without"][0] < 0.7 * exact["with"][0]
    loaded = load_model(tmp_path / "with")
    assert loaded.facts["started_from"] == "old"
    assert loaded.vocabulary.tokens[: len(source.vocabulary)] == source.vocabulary.tokens


def test_a_condition_the_data_lack_is_named(source: LoadedModel, tmp_path: Path) -> None:
    bare = tiny_dataset(tmp_path / "bare", properties=0)
    # The model's own conditions are filled in as unknown; one that neither knows is an error.
    config = build_config(finetune_values(source, {}))
    mixed, start = prepare_finetune(source, bare, config, [])
    assert mixed.property_names == ["p0", "p1"]
    assert start.model.condition_names == ["p0"]
    with pytest.raises(UnknownNameError, match="logp"):
        prepare_finetune(source, bare, build_config(finetune_values(source, {"model": {"condition_on": ["logp"]}})), [])


def test_a_model_trained_to_do_without_is_judged_without(data: Dataset) -> None:
    config = ModelConfig.model_validate({**config_with().model.model_dump(), "condition_on": ["p0"]})
    batch = collate([np.array([4])], np.array([[2.0, 0.0]], dtype=np.float32))
    for share, expected in ((0.5, [0.0, 0.0]), (0.0, None)):
        model = SequenceVAE(config.model_copy(update={"condition_dropout": share}), 9, data.property_info)
        found = model.usual_condition(batch.properties)[0].tolist()
        assert found == (expected or model.condition(batch.properties)[0].tolist())
        assert (found[1] == 1.0) == (share == 0.0)


def test_a_used_output_is_refused_before_the_model_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for output, words in ((tmp_path, "is not empty"), (tmp_path / "notes.txt", "is a file")):
        assert main(["finetune", "absent", "-o", str(output), "-m", "absent"]) == 5
        assert words in capsys.readouterr().err


def test_a_prior_that_learned_its_codes_by_heart_is_not_kept(
    source: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from molvae.train import run

    fitted = run.fit_prior
    rates = {"offset": 0.0}

    def offset(*arguments: object) -> object:
        fit = fitted(*arguments)  # type: ignore[arg-type]
        return dataclasses.replace(fit, rate=fit.rate_normal + rates["offset"])

    monkeypatch.setattr(run, "fit_prior", offset)
    data = tiny_dataset(tmp_path / "more", n=400, seed=3)
    config = build_config(finetune_values(source, {"train": {"max_steps": 5}}))
    assert config.prior.kind == "gmm"
    for change, kept in ((-1.0, True), (1.0, False)):
        rates["offset"] = change
        mixed, start = prepare_finetune(source, data, config)
        trained = train_model(mixed, config, tmp_path / f"tuned{kept}", start=start)
        assert (trained.prior is not None) == kept
        same_as_before = trained.loaded.model.prior is start.prior
        assert same_as_before == (not kept)
