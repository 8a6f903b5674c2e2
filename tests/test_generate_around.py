"""Paths between molecules and molecules around one: geometry, counts, and one row per different molecule."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from molvae.api import MolVAE
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import standardize
from molvae.config import Config, ModelConfig
from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError, UnknownNameError
from molvae.generate import neighbors as module
from molvae.generate.interpolate import interpolate, latent_path
from molvae.generate.latents import Decoded, decode_latents, encode_smiles
from molvae.generate.neighbors import neighbors
from molvae.generate.posterior import noise_distance, read_all, read_posteriors
from molvae.nn.checkpoint import LoadedModel
from molvae.nn.model import SequenceVAE

TOKENS = ["[C]", "[O]", "[N]", "[F]", "[=C]", "[=O]", "[#N]", "[Ring1]", "[Branch1]", "[=Branch1]"]
A, B = "CC(=O)NC1CC1", "OCCN"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> LoadedModel:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_tokens(TOKENS)
    config = Config(model=ModelConfig(embedding=8, encoder_hidden=16, decoder_hidden=16, decoder_layers=1, latent=6))
    model = SequenceVAE(config.model, len(vocabulary)).eval()
    with torch.no_grad():
        # An untrained decoder hardly looks at z; this one writes many different molecules.
        for name, weight in model.decoder.named_parameters():
            weight.mul_(6.0 if "latent" in name or "to_" in name else 3.0)
        for weight in model.encoder.to_log_std.parameters():
            weight.add_(0.3 * torch.randn(weight.shape))
        model.encoder.to_mean.weight.mul_(8.0)
    return LoadedModel(model, vocabulary, config, {"max_tokens": 20, "prior": None}, tmp_path_factory.mktemp("m"))


def test_posteriors_are_those_of_encode_and_name_what_cannot_be_read(loaded):
    smiles = [A, "C(", "CCO", "[Si]", "", B]
    found = read_posteriors(loaded, smiles)
    expected = encode_smiles(loaded, smiles)
    assert found.smiles == expected.smiles
    assert [one and one.reason for one in found.rejected] == [one and one.reason for one in expected.rejected]
    np.testing.assert_allclose(found.mean, expected.latents, atol=1e-5)
    readable = [0, 2, 5]
    assert (found.std[readable] > 0).all()
    assert np.isnan(found.std[[1, 3, 4]]).all()
    with pytest.raises(InputError, match=r"'\[Si\]' \(vocabulary\): the model was not trained with \[Si\]"):
        read_all(loaded, ["CCO", "[Si]"])
    with pytest.raises(InputError, match="Correct the SMILES"):
        read_all(loaded, ["C("])


def test_the_posterior_noise_is_that_of_sampled_codes(loaded):
    found = read_posteriors(loaded, [A])
    draws = encode_smiles(loaded, [A] * 200, sampled=True).latents
    np.testing.assert_allclose(draws.std(axis=0), found.std[0], rtol=0.2)
    assert noise_distance(draws, found.mean[0], found.std[0]).mean() == pytest.approx(1.0, abs=0.1)


def test_a_spherical_path_keeps_its_length_and_turns_evenly():
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=12), 2 * rng.normal(size=12)
    path = latent_path(start, end, 8)
    assert path.shape == (9, 12)
    np.testing.assert_array_equal(path[[0, -1]], [start, end])
    lengths = np.linalg.norm(path, axis=1)
    np.testing.assert_allclose(lengths, np.linspace(lengths[0], lengths[-1], 9), rtol=1e-9)
    unit = path / lengths[:, None]
    turns = np.arccos((unit[1:] * unit[:-1]).sum(axis=1))
    np.testing.assert_allclose(turns, turns[0], rtol=1e-6)


def test_a_straight_path_is_straight():
    path = latent_path(np.array([0.0, 4.0]), np.array([8.0, 0.0]), 4, spherical=False)
    np.testing.assert_allclose(path, [[0, 4], [2, 3], [4, 2], [6, 1], [8, 0]])


@pytest.mark.parametrize("end", [[2.0, 2.0], [-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]])
def test_where_no_arc_exists_the_path_is_straight(end):
    start = np.array([1.0, 1.0])
    path = latent_path(start, np.array(end), 4)
    assert np.isfinite(path).all()
    np.testing.assert_allclose(path, latent_path(start, np.array(end), 4, spherical=False))


def test_interpolation_decodes_every_point_of_the_path(loaded):
    table = interpolate(loaded, A, B, steps=12, fold=False)
    ends = read_posteriors(loaded, [A, B])
    decoded = decode_latents(loaded, latent_path(ends.mean[0], ends.mean[1], 12))
    assert table["smiles"].tolist() == [one.smiles for one in decoded]
    assert table["state"].tolist() == [one.state for one in decoded]
    np.testing.assert_allclose(table["position"], np.arange(13) / 12)
    assert (table["distance_a"].iloc[0], table["distance_b"].iloc[-1]) == (0, 0)
    assert table["distance_a"].iloc[-1] > 0.5
    assert table.attrs["ends"] == ["CC(=O)NC1CC1", "NCCO"]
    straight = interpolate(loaded, A, B, steps=12, fold=False, spherical=False)
    assert straight["distance_a"].is_monotonic_increasing
    assert not np.allclose(straight["distance_a"], table["distance_a"])


def test_folding_loses_no_point(loaded):
    every = interpolate(loaded, A, B, steps=40, fold=False)
    folded = interpolate(loaded, A, B, steps=40)
    assert len(folded) < len(every)
    assert folded["steps"].sum() == len(every) == 41
    unfolded = [one for one, count in zip(folded["smiles"], folded["steps"], strict=True) for _ in range(count)]
    assert unfolded == every["smiles"].tolist()
    what = list(zip(folded["smiles"], folded["state"], strict=True))
    assert all(before != after for before, after in pairwise(what))
    np.testing.assert_allclose(folded["until"], (folded["steps"].cumsum() - 1) / 40)


def test_a_path_to_itself_is_one_molecule(loaded):
    table = interpolate(loaded, "OCC", "CCO", steps=5)
    assert table["steps"].tolist() == [6]
    assert table["distance_b"].tolist() == [0]


def test_points_without_a_molecule_keep_their_row(loaded, monkeypatch):
    real = decode_latents

    def failing(model, latents, **options):
        found = real(model, latents, **options)
        found[1:3] = [type(found[0])(None, "too-long", 9.0)] * 2
        return found

    monkeypatch.setattr("molvae.generate.interpolate.decode_latents", failing)
    table = interpolate(loaded, A, B, steps=6)
    bad = table[table["smiles"].isna()]
    assert bad["state"].tolist() == ["too-long"]
    assert bad["steps"].tolist() == [2]
    assert bad[["similarity_a", "similarity_b"]].isna().all().all()


@pytest.mark.parametrize("steps", [0, -3, 10**9])
def test_impossible_steps(loaded, steps):
    with pytest.raises(InputError, match=f"A path of {steps} steps"):
        interpolate(loaded, A, B, steps=steps)


def test_neighbors_are_different_valid_and_sorted(loaded):
    table = neighbors(loaded, A, 12, seed=3)
    assert table.attrs["complete"]
    assert len(table) == table["smiles"].nunique() == 12
    assert table["similarity"].is_monotonic_decreasing
    assert table.attrs["start"] not in set(table["smiles"])
    for smiles in table["smiles"]:
        checked = standardize(smiles)
        assert not isinstance(checked, Rejected)
        assert checked.smiles == smiles
    assert list(table.columns[:5]) == ["smiles", "similarity", "radius", "distance", "nats"]
    values = MolVAE.properties(table["smiles"].tolist(), ["qed"])
    np.testing.assert_allclose(table["qed"], values["qed"])


def test_every_draw_is_counted_once(loaded):
    table = neighbors(loaded, A, 15)
    rings = table.attrs["rings"]
    for ring in rings:
        assert ring["drawn"] == ring["itself"] + ring["again"] + ring["failed"] + ring["new"]
    assert sum(ring["new"] for ring in rings) == len(table)
    found = table.groupby("radius").size().to_dict()
    assert found == {ring["radius"]: ring["new"] for ring in rings if ring["new"]}
    radii = [ring["radius"] for ring in rings]
    assert radii == list(module.RADII[: len(radii)])


def test_the_molecule_itself_is_counted_and_left_out(loaded, monkeypatch):
    def decode(model, latents, **options):
        written = ["CC(=O)NC1CC1", "CCO", None, f"C{'C' * len(latents)}O"]
        return [Decoded(written[row % 4], "ok" if written[row % 4] else "too-long", 1.0) for row in range(len(latents))]

    monkeypatch.setattr(module, "decode_latents", decode)
    table = neighbors(loaded, A, 3, radii=[1.0])
    assert set(table["smiles"]) == {"CCO", f"C{'C' * module.BLOCK}O"}
    quarter = module.BLOCK // 4
    assert table.attrs["rings"] == [
        {"radius": 1.0, "drawn": 4 * quarter, "itself": quarter, "again": 2 * quarter - 2, "failed": quarter, "new": 2}
    ]


def test_the_radius_is_in_units_of_the_noise(loaded):
    table = neighbors(loaded, A, 60, radii=[0.5, 3.0])
    means = table.groupby("radius")["distance"].mean()
    assert means[0.5] == pytest.approx(0.5, rel=0.25)
    assert means[3.0] == pytest.approx(3.0, rel=0.25)


def test_given_radii_share_the_molecules(loaded):
    table = neighbors(loaded, A, 10, radii=[1.0, 2.0, 4.0])
    assert sorted(table.groupby("radius").size()) == [3, 3, 4]


def test_what_one_radius_cannot_give_the_next_one_does(loaded):
    table = neighbors(loaded, A, 10, radii=[1e-9, 4.0])
    first, second = table.attrs["rings"]
    assert first["new"] <= 1  # the mean decodes to one molecule, whatever the noise
    assert first["drawn"] == module.GIVE_UP * 5 // module.BLOCK * module.BLOCK + module.BLOCK
    assert second["new"] == 10 - first["new"]
    assert table.attrs["complete"]


def test_too_few_are_fewer_and_say_so(loaded):
    table = neighbors(loaded, A, 10, radii=[1e-9])
    assert not table.attrs["complete"]
    assert len(table) <= 1


def test_a_longer_list_starts_with_the_shorter_one(loaded):
    short, long = neighbors(loaded, A, 5, radii=[2.0], seed=1), neighbors(loaded, A, 40, radii=[2.0], seed=1)
    assert set(short["smiles"]) <= set(long["smiles"])
    assert neighbors(loaded, A, 5, radii=[2.0], seed=1).equals(short)
    assert set(neighbors(loaded, A, 5, radii=[2.0], seed=2)["smiles"]) != set(short["smiles"])


def test_nothing_wanted_is_an_empty_table(loaded):
    table = neighbors(loaded, A, 0, properties=["qed"])
    assert list(table.columns) == ["smiles", "similarity", "radius", "distance", "nats", "qed"]
    assert len(table) == 0
    assert table.attrs["complete"]


@pytest.mark.parametrize("radius", [0.0, -1.0, math.nan, math.inf])
def test_impossible_radii(loaded, radius):
    with pytest.raises(InputError, match="A radius of"):
        neighbors(loaded, A, radii=[1.0, radius])


def test_wrong_use(loaded):
    with pytest.raises(InputError, match="-1 molecules"):
        neighbors(loaded, A, -1)
    with pytest.raises(UnknownNameError, match="beauty"):
        neighbors(loaded, A, properties=["beauty"])
    with pytest.raises(InputError, match="vocabulary"):
        neighbors(loaded, "[Si]")


def test_the_python_surface(loaded):
    model = MolVAE(loaded)
    assert model.interpolate(A, B, steps=4).equals(interpolate(loaded, A, B, steps=4))
    assert model.neighbors(A, 3, radii=[2.0], properties=["qed"], seed=5).equals(
        neighbors(loaded, A, 3, radii=[2.0], properties=["qed"], seed=5)
    )
