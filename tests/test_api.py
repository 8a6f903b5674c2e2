"""The Python surface: one object, one result per input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import molvae
from molvae.api import MolVAE
from molvae.config import Config, ModelConfig
from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError, UnknownNameError
from molvae.nn.checkpoint import save_model
from molvae.nn.model import SequenceVAE

SMILES = ["CCO", "C(", "CC(N)=O", "[Si]"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MolVAE:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_tokens(["[C]", "[O]", "[N]", "[=O]", "[=C]", "[Branch1]", "[=Branch1]", "[Ring1]"])
    config = Config(model=ModelConfig(embedding=8, encoder_hidden=16, decoder_hidden=16, decoder_layers=1, latent=5))
    directory = tmp_path_factory.mktemp("model")
    save_model(
        directory, SequenceVAE(config.model, len(vocabulary)), vocabulary, config,
        {"max_tokens": 20, "prior": None}, card="# A card\n",
    )  # fmt: skip
    return MolVAE.from_pretrained(directory, device="cpu")


def test_public_name():
    assert molvae.MolVAE is MolVAE


def test_facts_about_the_model(model):
    assert model.latent_size == 5
    assert model.device == torch.device("cpu")
    assert "[C]" in model.vocabulary
    assert repr(model).endswith("latent_size=5, device='cpu')")


def test_encode_and_why_not(model):
    latents, rejected = model.encode(SMILES, return_rejected=True)
    assert latents.shape == (4, 5)
    assert [one.reason if one else None for one in rejected] == [None, "parse", None, "vocabulary"]
    np.testing.assert_array_equal(latents, model.encode(SMILES))


def test_decode_gives_none_never_an_empty_string(model):
    latents = model.encode(SMILES)
    decoded = model.decode(np.concatenate([latents, np.random.default_rng(0).normal(size=(50, 5)) * 5]))
    assert len(decoded) == 54
    assert decoded[1] is None
    assert decoded[3] is None
    assert "" not in decoded
    assert model.decode(latents) == decoded[:4]


def test_decode_may_be_given_options(model):
    latents = np.zeros((40, 5))
    options = molvae.generate.sampling.SamplingOptions(temperature=1.5)
    assert len(set(model.decode(latents, options=options, seed=1))) > 1
    assert model.decode(latents, options=options, seed=1) == model.decode(latents, options=options, seed=1)


def test_sample(model):
    table = model.sample(9, seed=1, unique=True, properties=["qed"], alerts=False)
    assert list(table.columns) == ["smiles", "state", "nats", "qed"]
    assert table["smiles"].nunique() == 9
    other = model.sample(9, seed=1, unique=True, not_in=set(table["smiles"]), properties=[], alerts=False)
    assert not set(other["smiles"]) & set(table["smiles"])
    assert other.equals(model.sample(9, seed=1, unique=True, not_in=table["smiles"], properties=[], alerts=False))
    with pytest.raises(InputError, match="no-such-file"):
        model.sample(1, not_in="no-such-file.smi")
    with pytest.raises(InputError):
        model.sample(-1)
    with pytest.raises(UnknownNameError):
        model.sample(1, properties=["beauty"])


def test_reconstruct_check_and_properties(model):
    assert model.reconstruct(SMILES)["canonical"].tolist() == ["CCO", None, "CC(N)=O", None]
    assert model.check(SMILES)["state"].tolist() == ["ok", "parse", "ok", "ok"]
    values = model.properties(["CCO", "C("], ["tpsa", "hbd"])
    assert values["hbd"].tolist()[0] == 1
    assert values.isna().all(axis=1).tolist() == [False, True]


def test_save_and_load_again(model, tmp_path):
    model.save_pretrained(tmp_path / "copy")
    copy = MolVAE.from_pretrained(tmp_path / "copy", device="cpu")
    np.testing.assert_array_equal(copy.encode(SMILES), model.encode(SMILES))
    assert (tmp_path / "copy" / "README.md").read_text() == "# A card\n"
    assert copy.sample(5, alerts=False).equals(model.sample(5, alerts=False))
    model.save_pretrained(tmp_path / "half", half=True)
    half = MolVAE.from_pretrained(tmp_path / "half", device="cpu")
    np.testing.assert_allclose(half.encode(["CCO"]), model.encode(["CCO"]), atol=0.01)


def test_optimize_reaches_the_search(model):
    result = model.optimize(lambda smiles: [float(len(one)) for one in smiles], ["CCO"], budget=15, seed=1)
    assert 1 <= result.n_calls <= 15
    assert result.molecules["smiles"][0] == "CCO"


def test_unknown_model():
    with pytest.raises(UnknownNameError, match="nothing-like-it"):
        MolVAE.from_pretrained("nothing-like-it")
