"""Rounds of reading back what was written: where they end, what they leave alone, that chance is not disturbed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from molvae.errors import InputError
from molvae.generate.latents import decode_latents, encode_smiles
from molvae.generate.molecules import sample
from molvae.generate.read_back import read_back, settle
from molvae.generate.sampling import GREEDY, decode_tokens
from molvae.generate.wanted import Wanted
from molvae.generate.writing import resolve_options, resolve_rounds
from molvae.nn.checkpoint import LoadedModel, load_model, shipped_models

BARE = Wanted(properties=(), alerts=False)


pytestmark = pytest.mark.skipif("moses" not in shipped_models(), reason="the model moses is not there")


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model("moses", "cpu")


def drawn(loaded: LoadedModel, n: int = 40) -> torch.Tensor:
    return torch.randn((n, loaded.model.latent), generator=torch.Generator().manual_seed(3))


def test_no_round_changes_nothing_and_the_argument_is_not_written_to(loaded: LoadedModel) -> None:
    z = drawn(loaded)
    kept = z.clone()
    assert torch.equal(settle(loaded, z, 0, GREEDY), kept)
    assert not torch.equal(settle(loaded, z, 1, GREEDY), kept)
    assert torch.equal(z, kept)


def test_one_round_is_the_mean_code_of_the_likeliest_molecule(loaded: LoadedModel) -> None:
    z = drawn(loaded)
    options = resolve_options(loaded, GREEDY)
    smiles = [one.smiles for one in decode_latents(loaded, z.numpy(), options=options)]
    found = settle(loaded, z, 1, options).numpy()
    codes = encode_smiles(loaded, [one or "" for one in smiles]).latents
    readable = np.isfinite(codes[:, 0])
    assert readable.sum() > 30
    np.testing.assert_allclose(found[readable], codes[readable], atol=1e-5)
    # What is no molecule, or none that the model can read, stays where it was.
    np.testing.assert_array_equal(found[~readable], z.numpy()[~readable])


def test_a_molecule_that_comes_back_is_left_alone(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    z = drawn(loaded)
    sizes: list[int] = []

    def counting(model, part, *rest, **named):
        sizes.append(len(part))
        return decode_tokens(model, part, *rest, **named)

    monkeypatch.setattr("molvae.generate.read_back.decode_tokens", counting)
    options = resolve_options(loaded, GREEDY)
    ended = settle(loaded, z, 60, options)
    assert sizes[0] == len(z)
    assert sizes == sorted(sizes, reverse=True)
    assert len(z) - 3 <= sizes[1]
    assert 0 < sizes[4] < len(z) / 2
    once_more = settle(loaded, ended, 1, options)
    before = [one.smiles for one in decode_latents(loaded, ended.numpy(), options=options)]
    after = [one.smiles for one in decode_latents(loaded, once_more.numpy(), options=options)]
    # Some walk in a circle of two or more molecules and never end.
    assert sum(one == other for one, other in zip(before, after, strict=True)) >= len(z) - sizes[-1]


def test_read_back_says_what_it_could_not_read(loaded: LoadedModel) -> None:
    vocabulary = loaded.vocabulary
    items = [(tuple(vocabulary.encode(["[C]", "[O]"])), True), ((), True), (tuple(vocabulary.encode(["[C]"])), False)]
    z = drawn(loaded, 3)
    back = read_back(loaded, items, z, 1)
    read, readable, smiles = back.latents, back.readable, back.smiles
    assert readable.tolist() == [True, False, False]
    assert smiles == ["CO", "", ""]
    assert torch.equal(read[1:], z[1:])


def test_rounds_disturb_neither_order_nor_chance(loaded: LoadedModel) -> None:
    full = sample(loaded, 150, wanted=BARE, seed=5, rounds=2, workers=1)
    assert full.attrs["rounds"] == 2
    split = sample(loaded, 150, wanted=BARE, seed=5, rounds=2, workers=2, batch_size=64)
    assert list(full["smiles"]) == list(split["smiles"])
    assert list(sample(loaded, 40, wanted=BARE, seed=5, rounds=2)["smiles"]) == list(full["smiles"][:40])
    assert list(sample(loaded, 150, wanted=BARE, seed=5, rounds=0)["smiles"]) != list(full["smiles"])


def test_the_model_suggests_how_many(loaded: LoadedModel) -> None:
    silent = replace(loaded, facts={key: value for key, value in loaded.facts.items() if key != "rounds"})
    assert resolve_rounds(silent, None) == 0
    suggesting = replace(silent, facts={**silent.facts, "rounds": 2})
    assert resolve_rounds(suggesting, None) == 2
    assert resolve_rounds(suggesting, 1) == 1
    asked = sample(silent, 20, wanted=BARE, seed=5, rounds=2)
    assert list(sample(suggesting, 20, wanted=BARE, seed=5)["smiles"]) == list(asked["smiles"])
    assert list(sample(silent, 20, wanted=BARE, seed=5)["smiles"]) != list(asked["smiles"])
    for rounds in (-1, 101):
        with pytest.raises(InputError, match="rounds"):
            sample(loaded, 1, rounds=rounds)


def test_reading_back_makes_more_ordinary_molecules(loaded: LoadedModel) -> None:
    wanted = Wanted(properties=("sa",), alerts=False)
    plain = sample(loaded, 60, wanted=wanted, seed=0, rounds=0)
    settled = sample(loaded, 60, wanted=wanted, seed=0, rounds=3)
    assert settled["sa"].mean() < plain["sa"].mean()
    assert len(set(settled["smiles"])) > 55
