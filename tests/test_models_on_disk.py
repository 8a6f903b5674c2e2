"""Model directories: what is saved comes back, and what is damaged, missing or hostile is refused in two lines."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from molvae.config import Config, ConfigError, PriorConfig, build_config, load_config
from molvae.data.vocabulary import Vocabulary
from molvae.errors import DeviceError, ModelFileError, MolvaeError, OutputError, UnknownNameError
from molvae.files import new_directory, verify_manifest, write_bytes, write_manifest
from molvae.nn.checkpoint import find_model, load_model, save_model
from molvae.nn.device import choose_device
from molvae.nn.model import SequenceVAE
from molvae.nn.priors import FlowPrior, build_prior
from tests.tiny import TOKENS, tiny_dataset, tiny_values

PRIOR = {"kind": "flow", "layers": 2, "hidden": 8}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    config = build_config(tiny_values())
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_tokens(TOKENS)
    model = SequenceVAE(config.model, len(vocabulary))
    prior = FlowPrior(4, 2, 8)
    prior.standardize(torch.randn(50, 4))
    model.prior = prior
    save_model(tmp_path / "model", model, vocabulary, config, {"max_tokens": 9, "prior": {**PRIOR}}, card="# card\n")
    return tmp_path / "model"


def test_round_trip(directory: Path) -> None:
    first, again = load_model(directory, "cpu"), load_model(directory, "cpu")
    save_model(directory.parent / "copy", first.model, first.vocabulary, first.config, first.facts)
    copy = load_model(directory.parent / "copy", "cpu")
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
        assert torch.equal(value, copy.model.state_dict()[name])
    assert copy.vocabulary == first.vocabulary
    assert copy.facts == first.facts


def test_half_precision_is_half_the_size(directory: Path) -> None:
    loaded = load_model(directory, "cpu")
    save_model(directory.parent / "half", loaded.model, loaded.vocabulary, loaded.config, loaded.facts, half=True)
    half = load_model(directory.parent / "half", "cpu")
    for name, value in loaded.model.state_dict().items():
        torch.testing.assert_close(half.model.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    sizes = [(path / "model.safetensors").stat().st_size for path in (directory, directory.parent / "half")]
    assert sizes[1] < 0.75 * sizes[0]


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.json", "config.json", "properties.json", "manifest.json"])
def test_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(ModelFileError, match=name):
        load_model(directory, "cpu")


def test_every_flipped_bit_is_found(directory: Path) -> None:
    path = directory / "model.safetensors"
    good, chance = path.read_bytes(), random.Random(0)
    for _ in range(100):
        place = chance.randrange(len(good))
        path.write_bytes(good[:place] + bytes([good[place] ^ 1 << chance.randrange(8)]) + good[place + 1 :])
        with pytest.raises(ModelFileError, match="SHA-256"):
            load_model(directory, "cpu")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncation_is_found_even_when_the_manifest_agrees(directory: Path, share: float) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    write_manifest(directory)
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        load_model(directory, "cpu")


def test_pickle_under_a_safetensors_name_is_not_run(directory: Path) -> None:
    program = b"cposix\nsystem\n(S'touch " + str(directory / "ran").encode() + b"'\ntR."
    (directory / "model.safetensors").write_bytes(program)
    write_manifest(directory)
    with pytest.raises(ModelFileError):
        load_model(directory, "cpu")
    assert not (directory / "ran").exists()


def test_weights_of_another_size_are_refused(directory: Path) -> None:
    content = json.loads((directory / "config.json").read_text())
    content["config"]["model"]["latent"] = 5
    (directory / "config.json").write_text(json.dumps(content))
    write_manifest(directory)
    with pytest.raises(ModelFileError, match="does not fit"):
        load_model(directory, "cpu")


def test_newer_format_asks_for_an_update(directory: Path) -> None:
    content = json.loads((directory / "config.json").read_text())
    content["facts"]["format"] = 99
    (directory / "config.json").write_text(json.dumps(content))
    write_manifest(directory)
    with pytest.raises(ModelFileError, match="Update"):
        load_model(directory, "cpu")


def test_manifest_cannot_point_outside(directory: Path) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    manifest["files"]["../secret"] = {"sha256": "0", "bytes": 0}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelFileError):
        verify_manifest(directory)


def test_unknown_model_lists_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match="no model"):
        find_model("no-such-model")


@pytest.mark.parametrize("name", ["cuda:99", "toaster", "mps", "meta"])
def test_device_that_is_not_there(name: str) -> None:
    with pytest.raises(DeviceError):
        choose_device(name)


def test_errors_are_two_lines() -> None:
    for error in (UnknownNameError("a", "b"), OutputError("a", "b"), ModelFileError("a", "b")):
        assert str(error) == "a\nb"
        assert error.exit_code > 0
        assert isinstance(error, MolvaeError)


def test_new_directory_is_all_or_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with new_directory(tmp_path / "out") as half:
            (half / "file").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_failed_write_keeps_the_previous_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "f", b"old")
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="No space left"):
        write_bytes(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_flow_prior_integrates_to_one_and_inverts() -> None:
    torch.manual_seed(0)
    prior = FlowPrior(2, 2, 16)
    codes = torch.randn(500, 2) @ torch.tensor([[1.0, 0.5], [0.0, 0.4]]) + torch.tensor([1.0, -1.0])
    prior.standardize(codes)
    axis = torch.linspace(-7, 7, 281)
    grid = torch.cartesian_prod(axis + 1, axis - 1)
    with torch.no_grad():
        mass = prior.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
        noise = torch.randn(100, 2)
        transform = prior.flow().transform
        torch.testing.assert_close(transform(transform.inv(noise)), noise, atol=1e-4, rtol=0)
    assert mass.item() == pytest.approx(1, abs=0.01)


def test_mixture_density_is_what_torch_says() -> None:
    prior = build_prior({"kind": "gmm", "components": 3}, 2)
    torch.manual_seed(0)
    factors = torch.tril(0.3 * torch.randn(3, 2, 2)) + torch.eye(2)
    prior.get_buffer("means").copy_(torch.randn(3, 2))
    prior.get_buffer("factors").copy_(factors)
    exact = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.full((3,), 1 / 3)),
        torch.distributions.MultivariateNormal(prior.get_buffer("means"), scale_tril=factors),
    )
    z = torch.randn(50, 2)
    torch.testing.assert_close(prior.log_prob(z), exact.log_prob(z))
    drawn = prior.sample(20_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), exact.mean, atol=0.05, rtol=0)


@pytest.mark.parametrize("facts", [None, {"kind": "normal"}, {"kind": "gmm", "components": 2}, PRIOR])
def test_every_prior_samples_the_same_for_the_same_seed(facts: dict[str, object] | None) -> None:
    prior = build_prior(facts, 4)
    with torch.no_grad():
        draws = [prior.sample(7, torch.Generator().manual_seed(3)) for _ in range(2)]
        assert draws[0].shape == (7, 4)
        assert torch.equal(draws[0], draws[1])
        assert prior.log_prob(draws[0]).shape == (7,)


def test_config_names_the_unknown_key_and_the_bad_value(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown setting train\.learning"):
        load_config(overrides=["train.learning=1"])
    with pytest.raises(ConfigError, match=r"train\.lr = -1"):
        load_config(overrides=["train.lr=-1"])
    with pytest.raises(ConfigError, match="no '='"):
        load_config(overrides=["train.lr"])
    with pytest.raises(ConfigError, match="Cannot read"):
        load_config(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("[train\nlr = 1")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(tmp_path / "bad.toml")


def test_config_survives_json() -> None:
    config = load_config(overrides=["model.latent=7", "objective.name=ae"])
    assert build_config(json.loads(json.dumps(config.model_dump(mode="json")))) == config
    assert isinstance(config, Config)
    assert PriorConfig().kind == "gmm"


def test_what_a_resumed_run_writes_anew_does_not_spoil_the_model(tmp_path: Path) -> None:
    import shutil

    from molvae.errors import ModelFileError
    from molvae.files import write_manifest
    from molvae.nn.checkpoint import find_model, load_model

    copy = tmp_path / "model"
    shutil.copytree(find_model(), copy)
    (copy / "reconstruction.csv").write_text("before\n")
    write_manifest(copy, {"kind": "model"})
    (copy / "reconstruction.csv").write_text("after\n")
    assert load_model(copy).facts["steps"] > 0
    (copy / "vocab.json").write_text("{}")
    with pytest.raises(ModelFileError, match="changed"):
        load_model(copy)


def test_a_dataset_is_no_model_and_says_so(tmp_path: Path) -> None:
    tiny_dataset(tmp_path / "dataset")
    with pytest.raises(ModelFileError, match="is a dataset, not a model") as caught:
        load_model(tmp_path / "dataset", "cpu")
    assert "molvae train" in caught.value.remedy
