"""Exact codes: every molecule comes back, the noise is what a draw would have used, and moves are moves."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nasty import load_nasty

from molvae.api import MolVAE
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import standardize
from molvae.cli.main import main
from molvae.config import Config, ModelConfig
from molvae.data.batch import collate
from molvae.data.dataset import PropertyInfo
from molvae.data.vocabulary import BOS, EOS, Vocabulary
from molvae.errors import InputError, ModelFileError
from molvae.generate import exact_fit
from molvae.generate.exact import EXACT, ExactCodes, condition, decode_exact, encode_exact, sample_exact
from molvae.generate.exact_files import holds_codes, read_codes, write_codes
from molvae.generate.exact_fit import MARGIN, _swap, fit_noise
from molvae.generate.exact_moves import hold, redraw
from molvae.generate.exact_noise import Noise, NoiseReader
from molvae.generate.neighbors import neighbors
from molvae.generate.sampling import PLAIN, decode_tokens
from molvae.generate.stepper import Stepper
from molvae.nn.checkpoint import LoadedModel, load_model, save_model
from molvae.nn.model import SequenceVAE

TOKENS = ["[C]", "[O]", "[N]", "[F]", "[=C]", "[=O]", "[#N]", "[Ring1]", "[Branch1]", "[=Branch1]"]
SMILES = ["CCO", "CC(=O)NC1CC1", "C", "C(", "OCCN", "[Si](C)C", "", "CC(N)C(=O)O", "FC1CC1", "C" * 60, "CC(O)COC=O"]
READABLE = [row for row, one in enumerate(SMILES) if row not in (3, 5, 6)]
CANONICAL = [standardize(SMILES[row]).smiles for row in READABLE]


def made(directory: Path, **more: object) -> LoadedModel:
    """Return an untrained model that writes many different molecules, on disk and in memory."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_tokens(TOKENS)
    sizes = {"embedding": 8, "encoder_hidden": 16, "decoder_hidden": 16, "decoder_layers": 2, "latent": 6}
    config = Config(model=ModelConfig(**sizes, **more))
    info = [PropertyInfo(name, 1.0, 2.0, -5.0, 9.0, 10) for name in ("logp", "qed", "sa")]
    model = SequenceVAE(config.model, len(vocabulary), info).eval()
    with torch.no_grad():
        for name, weight in model.decoder.named_parameters():
            weight.mul_(4.0 if "to_" in name else 2.5)
        model.encoder.to_mean.weight.mul_(8.0)
        model.decoder.to_logits.bias[EOS] += 1.0
    save_model(directory, model, vocabulary, config, {"max_tokens": 20, "prior": None})
    return load_model(directory, "cpu")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> LoadedModel:
    return made(tmp_path_factory.mktemp("exact"), predict=[])


@pytest.fixture(scope="module")
def conditional(tmp_path_factory) -> LoadedModel:
    return made(tmp_path_factory.mktemp("conditional"), predict=[], condition_on=["sa", "logp"])


@pytest.fixture(scope="module")
def codes(loaded) -> ExactCodes:
    return encode_exact(loaded, SMILES, workers=1)


def written(loaded: LoadedModel, codes: ExactCodes, **options: object) -> list[str | None]:
    return [one.smiles for one in decode_exact(loaded, codes, workers=1, **options)]


def far_from(numbers: np.ndarray, distribution: np.ufunc | object) -> float:
    """Return the Kolmogorov-Smirnov distance times the root of n: above 1.95 once in a thousand."""
    heights = distribution(np.sort(numbers))  # type: ignore[operator]
    steps = np.arange(len(numbers) + 1) / len(numbers)
    return float(max(np.abs(heights - steps[1:]).max(), np.abs(heights - steps[:-1]).max()) * len(numbers) ** 0.5)


def gumbel(value: np.ndarray) -> np.ndarray:
    return np.exp(-np.exp(-value))


# --- the noise ---


def splitmix(number: int) -> int:
    full = 2**64 - 1
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & full
    number = (number ^ number >> 27) * 0x94D049BB133111EB & full
    return number ^ number >> 31


def test_noise_is_the_same_for_ever():
    """Files of codes hold seeds only; what follows from them is written down here once more, in whole numbers."""
    seeds, golden = [0, 2**64 - 1], 0x9E3779B97F4A7C15
    reader = NoiseReader(Noise.of_seeds(np.array(seeds, dtype=np.uint64)), 3, torch.device("cpu"))
    for position in (0, 7, 999):
        numbers = reader.waits(position, torch.tensor([0, 1])).numpy()
        for row, seed in enumerate(seeds):
            key = splitmix((seed + golden * (position + 1)) % 2**64)
            bits = [splitmix((key + golden * (token + 1)) % 2**64) >> 11 for token in range(3)]
            np.testing.assert_allclose(numbers[row], [-math.log((one + 0.5) / 2**53) for one in bits], rtol=1e-12)
    assert reader.waits(7, torch.tensor([1]))[0, 0].item() == pytest.approx(0.8099512748971107, rel=1e-12)


def test_noise_is_gumbel_and_independent_over_seeds_positions_and_tokens():
    n = 4000
    reader = NoiseReader(Noise.of_seeds(np.arange(n, dtype=np.uint64)), 30, torch.device("cpu"))
    rows = torch.arange(n)
    first, second = (reader.read(position, rows).double().numpy() for position in (0, 1))
    assert far_from(first[:, 5], gumbel) < 1.95
    assert far_from(second[3], lambda value: gumbel(value)) < 1.95
    for one, other in ((first[:, 0], first[:, 1]), (first[:, 4], second[:, 4]), (first[:-1, 2], first[1:, 2])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / n**0.5
    cold = NoiseReader(Noise.of_seeds(np.arange(n, dtype=np.uint64), 0.25), 30, torch.device("cpu"))
    np.testing.assert_allclose(cold.read(0, rows).numpy(), first / 4, rtol=1e-5, atol=1e-6)


def test_edits_replace_numbers_and_the_later_one_counts():
    rows, places = np.array([2, 0, 2, 2]), np.array([[1, 4], [0, 3], [1, 4], [5, 0]])
    noise = Noise.of_edits(np.arange(3, dtype=np.uint64), rows, places, np.array([1.0, 2.0, 3.0, 4.0]))
    assert (noise.offsets.tolist(), noise.values.tolist()) == ([0, 1, 1, 3], [2.0, 3.0, 4.0])
    plain = NoiseReader(Noise.of_seeds(noise.seeds), 6, torch.device("cpu"))
    reader = NoiseReader(noise, 6, torch.device("cpu"))
    there = torch.tensor([2, 1])
    got, expected = reader.read(1, there), plain.read(1, there)
    assert got[0, 4] == 3.0
    got[0, 4] = expected[0, 4]
    torch.testing.assert_close(got, expected)
    assert reader.read(0, torch.tensor([0]))[0, 3] == 2.0
    torch.testing.assert_close(reader.read(9, there), plain.read(9, there))
    again = noise.edited(np.array([0]), np.array([[0, 3]]), np.array([-math.inf]))
    assert again.values.tolist() == [-math.inf, 3.0, 4.0]


def test_take_and_join_keep_each_rows_noise():
    rng = np.random.default_rng(0)
    rows, places = rng.integers(0, 5, 40), rng.integers(0, 8, (40, 2))
    noise = Noise.of_edits(rng.integers(0, 99, 5).astype(np.uint64), rows, places, rng.normal(size=40))
    order = np.array([3, 3, 0, 4])
    both = Noise.join([noise.take(order), noise])
    for position in range(8):
        expected = NoiseReader(noise, 8, torch.device("cpu")).read(position, torch.arange(5))
        got = NoiseReader(both, 8, torch.device("cpu")).read(position, torch.arange(9))
        torch.testing.assert_close(got, expected[[*order, *range(5)]])
    assert len(noise.take(np.zeros(0, dtype=np.int64))) == 0


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_noise_given_the_token_is_what_a_draw_would_have_used(temperature):
    """Drawing a token and then its noise is drawing noise: every number is Gumbel again, none tells of another."""
    n, rng = 20_000, np.random.default_rng(3)
    logits = torch.tensor([0.3, 2.0, -1.0, 1.5, -4.0])
    chance = (logits / temperature).softmax(0).numpy()
    wanted = torch.from_numpy(rng.choice(5, n, p=chance / chance.sum()))
    waits = torch.from_numpy(rng.exponential(size=(n, 5)))
    numbers = -temperature * waits.log()
    winner = (logits + numbers).argmax(1)
    wrong = (winner != wanted).nonzero().squeeze(1)
    mine, other = _swap(logits.expand(n, 5)[wrong], waits[wrong], wanted[wrong], winner[wrong], temperature)
    numbers[wrong, wanted[wrong]], numbers[wrong, winner[wrong]] = mine, other
    scores = logits + numbers
    assert (scores.gather(1, wanted[:, None]).squeeze(1) >= scores.max(1).values - 1e-9).all()
    standard = numbers.numpy() / temperature
    for token in range(5):
        assert far_from(standard[:, token], gumbel) < 1.95
    assert np.abs(np.corrcoef(standard.T) - np.eye(5)).max() < 4.5 / n**0.5


# --- round trips ---


def test_every_readable_molecule_comes_back_and_the_others_keep_their_reasons(loaded, codes):
    decoded = decode_exact(loaded, codes, workers=1)
    assert [decoded[row].smiles for row in READABLE] == CANONICAL
    assert [decoded[row].state for row in (3, 5, 6)] == ["parse", "vocabulary", "empty"]
    assert [one and one.reason for one in codes.rejected][3:7] == ["parse", None, "vocabulary", "empty"]
    assert np.isnan(codes.latents[[3, 5, 6]]).all()
    greedy = MolVAE(loaded).decode(codes.latents)
    assert sum(greedy[row] == one for row, one in zip(READABLE, CANONICAL, strict=True)) < len(READABLE) / 2


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_neither_batches_nor_order_nor_arithmetic_matter(loaded, codes, batch_size):
    order = np.random.default_rng(batch_size).permutation(len(SMILES))
    expected = [dict(zip(READABLE, CANONICAL, strict=True)).get(row) for row in order.tolist()]
    assert written(loaded, codes.take(order), batch_size=batch_size) == expected
    shuffled = encode_exact(loaded, [SMILES[row] for row in order], batch_size=batch_size, workers=1)
    assert written(loaded, shuffled) == expected
    np.testing.assert_array_equal(shuffled.noise.seeds, codes.noise.seeds[order])
    np.testing.assert_allclose(shuffled.latents, codes.latents[order], atol=1e-5)
    assert len(shuffled.noise.values) == len(codes.noise.values)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_num_threads(2)
        torch.set_float32_matmul_precision("medium")
        assert written(loaded, shuffled) == expected
    finally:
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision(before)


def test_leads_are_wide_enough_for_rounding(loaded, codes):
    """Every token of a code leads by the margin, also when another batch computes the logits."""
    for row in READABLE[:4]:
        code = codes.take([row])
        z, cond = torch.from_numpy(code.latents), loaded.model.unconditioned(1)
        tokens = decode_tokens(loaded.model, z, cond, EXACT, noise=code.noise).row(0)
        reader = NoiseReader(code.noise, loaded.model.vocab_size, z.device)
        batch = collate([np.array(tokens)]).tokens
        logits = loaded.model.decoder(batch[:, :-1], loaded.model.decoder.start(z, cond))[0].detach()
        for position, token in enumerate([*tokens, EOS]):
            scores = logits[position] + reader.read(position, torch.tensor([0]))[0]
            assert scores[token] - scores[torch.arange(len(scores)) != token].max() > 0.9 * MARGIN


def test_length_is_bounded_only_by_what_can_be_written(loaded):
    longest = encode_exact(loaded, ["C" * 1000, "C" * 999 + "OC"], workers=1)
    assert [one and one.reason for one in longest.rejected] in ([None, "too-long"], [None, "too-large"])
    assert written(loaded, longest) == ["C" * 1000, None]


def test_sampled_codes_of_another_seed_are_others_and_come_back_too(loaded, codes):
    first, again, other = (encode_exact(loaded, SMILES, sampled=True, seed=seed, workers=1) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.latents, again.latents)
    assert np.nanmax(np.abs(first.latents - codes.latents)) > 0.1
    assert (first.noise.seeds[READABLE] != other.noise.seeds[READABLE]).all()
    for one in (first, other):
        assert [written(loaded, one)[row] for row in READABLE] == CANONICAL


@pytest.mark.parametrize("given", [None, [math.nan, math.nan], [2.5, math.nan], [2.5, -1.0]])
def test_with_any_condition_molecules_come_back(conditional, given):
    codes = encode_exact(conditional, SMILES, conditions=given, workers=1)
    assert [written(conditional, codes)[row] for row in READABLE] == CANONICAL
    if given and not math.isnan(given[0]):
        assert written(conditional, replace(codes, conditions=None)) != written(conditional, codes)
        assert codes.take([1, 1]).conditions is not None


def test_conditions_are_those_of_the_model_by_name_and_shape(conditional):
    got = condition(conditional.model, [3.0, math.nan], 2)
    assert got.tolist() == [[1.0, 0.0, 1.0, 0.0]] * 2
    with pytest.raises(InputError, match=r"2 numbers a molecule \(sa, logp\)"):
        condition(conditional.model, [1.0], 2)


def test_a_molecule_that_does_not_come_back_gets_a_wider_margin(loaded, monkeypatch):
    class Rough(Stepper):
        """Rounds as coarsely as a tenth of a nat, otherwise each time."""

        def step(self, token_ids, state):
            logits, state = super().step(token_ids, state)
            return logits + 0.1 * torch.randn(logits.shape, generator=chance), state

    chance = torch.Generator().manual_seed(0)
    rows = [tuple(4 + (row * place) % 10 for place in range(12)) for row in range(40)]
    z, cond = torch.randn(40, 6, generator=chance), loaded.model.unconditioned(40)
    drawn = Noise.of_seeds(np.arange(40, dtype=np.uint64))
    monkeypatch.setattr(exact_fit, "Stepper", Rough)
    monkeypatch.setattr(exact_fit, "ROUNDS", 0)
    assert 0 < fit_noise(loaded.model, z, cond, rows, drawn)[1].sum() < 40
    monkeypatch.undo()
    monkeypatch.setattr(exact_fit, "Stepper", Rough)
    noise, fine = fit_noise(loaded.model, z, cond, rows, drawn)
    assert fine.all()
    options = replace(EXACT, max_length=13)
    assert [decode_tokens(loaded.model, z, cond, options, noise=noise).row(row) for row in range(40)] == rows


def test_a_decoder_that_computes_nothing_sensible_rejects(tmp_path):
    broken = made(tmp_path, predict=[])
    with torch.no_grad():
        broken.model.decoder.to_logits.bias.fill_(math.nan)
    codes = encode_exact(broken, ["CCO", "C("], workers=1)
    assert [one.reason for one in codes.rejected if one] == ["roundtrip", "parse"]
    assert np.isnan(codes.latents).all()


def test_bad_requests_are_refused(loaded, codes):
    with pytest.raises(InputError, match="temperature of 0"):
        encode_exact(loaded, ["C"], temperature=0)
    with pytest.raises(InputError, match="list of SMILES"):
        encode_exact(loaded, "CCO")
    with pytest.raises(InputError, match="do not fit 11 codes"):
        codes.moved(np.zeros((2, 6)))
    assert len(encode_exact(loaded, [])) == 0
    assert decode_exact(loaded, encode_exact(loaded, [])) == []


def test_codes_of_another_model_are_refused(loaded, conditional, codes):
    with pytest.raises(ModelFileError, match="another model"):
        decode_exact(conditional, codes)


# --- draws from the prior ---


def test_draws_by_noise_have_the_probabilities_of_the_model(loaded):
    n = 6000
    z = torch.randn(1, 6, generator=torch.Generator().manual_seed(4)).expand(n, -1)
    cond, options = loaded.model.unconditioned(n), replace(PLAIN, precision="fp32", max_length=30)
    drawn = Noise.of_seeds(np.random.default_rng(0).integers(0, 2**63, n).astype(np.uint64))
    held = decode_tokens(loaded.model, z, cond, options, noise=drawn)
    plain = decode_tokens(loaded.model, z, cond, options, torch.Generator().manual_seed(9))
    by_noise, by_sampling = (Counter(one.row(row) for row in range(n)) for one in (held, plain))
    frequent = [row for row, count in by_noise.most_common(15) if len(row) < 30]
    assert len(frequent) > 8
    for row in frequent:
        tokens = torch.tensor([[BOS, *row, EOS]])
        with torch.no_grad():
            p = loaded.model.decoder.log_prob(tokens, z[None, :1], cond[:1])[0, 0].exp().item()
        width = 4 * (n * p * (1 - p)) ** 0.5
        assert abs(by_noise[row] - n * p) < width
        assert abs(by_sampling[row] - n * p) < width
    lengths = [np.bincount([len(row) for row in one.elements()], minlength=31) for one in (by_noise, by_sampling)]
    assert (np.abs(lengths[0] - lengths[1]) < 4.5 * (lengths[0] + lengths[1] + 4) ** 0.5).all()


def test_codes_of_draws_are_drawn_not_searched(loaded):
    codes = sample_exact(loaded, 150, seed=3, workers=1)
    assert codes.rejected == (None,) * 150
    smiles = written(loaded, codes)
    assert None not in smiles
    without = replace(codes, noise=Noise.of_seeds(codes.noise.seeds))
    assert written(loaded, without) == smiles
    assert 0 < len(codes.noise.values) < 150 * 0.5  # only leads below the margin are edited
    assert written(loaded, sample_exact(loaded, 40, seed=3, workers=1)) == smiles[:40]
    assert written(loaded, sample_exact(loaded, 40, seed=4, workers=1)) != smiles[:40]
    assert len(sample_exact(loaded, 0)) == 0


def test_draws_under_a_condition_hold(conditional):
    codes = sample_exact(conditional, 20, conditions=[3.0, math.nan], workers=1)
    assert None not in written(conditional, codes)
    assert codes.conditions is not None
    assert written(conditional, codes) != written(conditional, sample_exact(conditional, 20, workers=1))


# --- files ---


@pytest.mark.parametrize("ending", [".npz", ".parquet"])
def test_files_give_back_codes_and_reasons(conditional, tmp_path, ending):
    for given in (None, [2.0, math.nan]):
        codes = encode_exact(conditional, SMILES, conditions=given, workers=1, temperature=0.5)
        path = tmp_path / f"codes{ending}"
        write_codes(path, codes)
        again = read_codes(path)
        assert holds_codes(path)
        assert again.rejected == codes.rejected
        assert (again.model, again.noise.temperature) == (codes.model, 0.5)
        for name in ("seeds", "offsets", "positions", "tokens", "values"):
            np.testing.assert_array_equal(getattr(again.noise, name), getattr(codes.noise, name))
        np.testing.assert_array_equal(again.latents, codes.latents)
        assert (again.conditions is None) == (given is None)
        assert [written(conditional, again)[row] for row in READABLE] == CANONICAL
    empty = encode_exact(conditional, [])
    write_codes(path, empty)
    assert len(read_codes(path)) == 0


def test_a_damaged_file_is_refused_in_two_lines(codes, tmp_path):
    path = tmp_path / "codes.npz"
    write_codes(path, codes)
    whole = path.read_bytes()
    with np.load(path) as file:
        arrays = dict(file)
    facts = json.loads(arrays["facts"].tobytes())
    other_format = np.frombuffer(json.dumps({**facts, "format": 2}).encode(), dtype=np.uint8)
    changes: list[dict[str, np.ndarray]] = [
        {"facts": other_format}, {"latents": arrays["latents"].astype(np.float64)}, {"seeds": arrays["seeds"][1:]},
        {"offsets": arrays["offsets"][::-1]}, {"values": np.full_like(arrays["values"], np.nan)},
        {"positions": arrays["positions"] + np.uint16(2000)}, {"facts": arrays["facts"][:-1]},
    ]  # fmt: skip
    for change in changes:
        np.savez(path, **{**arrays, **change})
        with pytest.raises(InputError, match="holds no exact codes"):
            read_codes(path)
    for content in (whole[:-100], b"", b"SMILES\nCCO\n"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="holds no exact codes"):
            read_codes(path)
    with pytest.raises(InputError, match="Cannot read"):
        read_codes(tmp_path / "none.npz")
    with pytest.raises(InputError, match="ending"):
        write_codes(tmp_path / "codes.csv", codes)
    pd.DataFrame({"z0": [1.0]}).to_parquet(tmp_path / "plain.parquet")
    assert not holds_codes(tmp_path / "plain.parquet")
    with pytest.raises(InputError, match="holds no exact codes"):
        read_codes(tmp_path / "plain.parquet")


# --- moves ---


def test_holding_the_noise_keeps_the_molecule_near_z_and_loses_it_far_away(loaded, codes):
    rng = np.random.default_rng(0)
    stay = {}
    for width in (0.0, 0.1, 0.5, 3.0):
        same = []
        for row, smiles in zip(READABLE[:4], CANONICAL[:4], strict=True):
            z = codes.latents[row] + width * rng.standard_normal((30, 6))
            same += [one == smiles for one in written(loaded, hold(codes.take([row]), z))]
        stay[width] = np.mean(same)
    assert stay[0.0] == 1
    assert 1 > stay[0.1] > stay[0.5] > stay[3.0]
    with pytest.raises(InputError, match="11 codes"):
        hold(codes, codes.latents)


def test_wide_margins_and_little_noise_keep_it_longer(loaded):
    rng = np.random.default_rng(1)
    noise = 0.2 * rng.standard_normal((60, 6))
    shares = []
    for options in ({}, {"temperature": 0.3, "margin": 2.0}):
        codes = encode_exact(loaded, CANONICAL[:5], workers=1, **options)
        assert written(loaded, codes) == CANONICAL[:5]
        moved = [written(loaded, hold(codes.take([row]), codes.latents[row] + noise)) for row in range(5)]
        shares.append(np.mean([one == CANONICAL[row] for row in range(5) for one in moved[row]]))
    assert shares[1] > shares[0] + 0.1


def test_new_noise_changes_the_token_it_belongs_to_and_no_other_noise(loaded, codes):
    code = codes.take([1])
    moved = redraw(loaded, code.take([0] * 200), np.random.default_rng(0))
    z, cond = torch.from_numpy(code.latents), loaded.model.unconditioned(1)
    before = [*decode_tokens(loaded.model, z, cond, EXACT, noise=code.noise).row(0), EOS]
    np.testing.assert_array_equal(moved.latents, code.latents.repeat(200, 0))
    after = decode_tokens(loaded.model, torch.from_numpy(moved.latents), cond.expand(200, -1), EXACT, noise=moved.noise)
    usual = loaded.model.vocab_size - 3
    places = set()
    for row in range(200):
        own = moved.noise.take(np.array([row]))
        new = [place for place in set(own.positions.tolist()) if (own.positions == place).sum() == usual]
        assert len(new) == 1
        places.add(new[0])
        tokens = [*after.row(row), EOS]
        assert tokens[: new[0]] == before[: new[0]]
        assert tokens[new[0]] != before[new[0]]
    assert len(places) > 3
    assert len(set(written(loaded, moved))) > 50
    assert len(redraw(loaded, code.take([]), np.random.default_rng(0))) == 0
    with pytest.raises(InputError, match="Choose 1 or more"):
        redraw(loaded, code, np.random.default_rng(0), tokens=0)
    with pytest.raises(InputError, match="without a code"):
        redraw(loaded, codes, np.random.default_rng(0))


def test_positions_are_redrawn_as_often_as_new_noise_would_change_them(loaded, codes):
    code = codes.take([1])
    n = 3000
    z, cond = torch.from_numpy(code.latents).expand(n, -1), loaded.model.unconditioned(n)
    before = [*decode_tokens(loaded.model, z[:1], cond[:1], EXACT, noise=code.noise).row(0), EOS]
    batch = collate([np.array(before[:-1])]).tokens
    logits = loaded.model.decoder(batch[:, :-1], loaded.model.decoder.start(z[:1], cond[:1])).detach()
    doubt = 1 - logits.softmax(2).gather(2, batch[:, 1:, None])[0, :, 0].numpy()
    moved = redraw(loaded, code.take([0] * n), np.random.default_rng(0))
    sizes = np.zeros((n, len(before)))
    np.add.at(sizes, (moved.noise.rows, moved.noise.positions.astype(int)), 1)
    counts = np.bincount(sizes.argmax(1), minlength=len(before))
    expected = n * doubt / doubt.sum()
    assert (np.abs(counts - expected) < 4.5 * np.sqrt(expected + 1)).all()


def test_several_tokens_at_once(loaded, codes):
    moved = redraw(loaded, codes.take([1] * 20), np.random.default_rng(0), tokens=3)
    usual = loaded.model.vocab_size - 3
    for row in range(20):
        positions = Counter(moved.noise.take(np.array([row])).positions.tolist())
        assert sum(count == usual for count in positions.values()) == 3


def test_neighbours_with_the_noise_held_belong_to_the_molecule_itself(loaded):
    smiles = "CC(=O)NC1CC1"
    plain, held = (neighbors(loaded, smiles, 5, radii=(0.05,), properties=(), exact=exact) for exact in (False, True))
    assert plain.attrs["rings"][0]["itself"] == 0  # this model does not give it back from its mean
    assert held.attrs["rings"][0]["itself"] > 0.5 * held.attrs["rings"][0]["drawn"]
    table = MolVAE(loaded).neighbors(smiles, 15, properties=(), redraw=1)
    assert len(table) == 15
    assert (table["radius"] == 0).all()
    assert (table["distance"] == 0).all()
    assert smiles not in set(table["smiles"])
    wide = neighbors(loaded, smiles, 10, radii=(1.0,), properties=(), redraw=2)
    assert (wide["radius"] == 1).all()
    again = neighbors(loaded, smiles, 15, properties=(), redraw=1)
    pd.testing.assert_frame_equal(table, again)
    with pytest.raises(InputError, match="-1 tokens"):
        neighbors(loaded, smiles, 3, redraw=-1)


# --- the interfaces ---


def test_the_python_interface(loaded):
    model = MolVAE(loaded)
    codes = model.encode(SMILES, exact=True)
    assert [model.decode(codes)[row] for row in READABLE] == CANONICAL
    assert isinstance(codes.rejected[3], Rejected)
    assert model.encode(["CCO"]).shape == (1, 6)
    assert None not in model.decode(model.sample_exact(7, seed=2))


def test_the_command_line_gives_back_the_molecules(loaded, tmp_path, capsys):
    source, out = tmp_path / "in.smi", tmp_path / "out.csv"
    source.write_text("\n".join(SMILES[:6]) + "\n")
    for name in ("codes.npz", "codes.parquet"):
        path = tmp_path / name
        own = ["-m", str(loaded.directory), "--workers", "1"]
        assert main(["encode", "--exact", str(source), "-o", str(path), *own]) == 0
        assert "rejected: 1 parse, 1 vocabulary" in capsys.readouterr().out
        assert main(["decode", str(path), "-o", str(out), *own]) == 0
        table = pd.read_csv(out, keep_default_na=False)
        assert table["smiles"].tolist() == [*CANONICAL[:3], "", CANONICAL[3], ""]
        assert table["state"].tolist() == ["ok", "ok", "ok", "parse", "ok", "vocabulary"]
        assert "[Si]" in table["detail"].iloc[5]
        assert main(["decode", str(path), "--temperature", "1", *own]) == 2
        assert "which say themselves which tokens are written" in capsys.readouterr().err
    for target in ([], ["-o", str(tmp_path / "codes.csv")]):
        assert main(["encode", "--exact", str(source), *target, "-m", str(loaded.directory)]) == 5
    table = tmp_path / "near.csv"
    command = ["neighbors", "CCO", "--exact", "--redraw", "1", "-n", "4", "-o", str(table), "-m", str(loaded.directory)]
    assert main(command) == 0
    assert len(pd.read_csv(table)) == 4


# --- shipped models ---


@pytest.mark.parametrize("name", ["moses", "druglike"])
def test_shipped_models_give_back_all_they_can_read(name):
    loaded = load_model(name, "cpu")
    usual = (loaded.directory / "held_out.smi").read_text().split()[:150]
    nasty = [one for one, _, _ in load_nasty() if 0 < len(one) < 150]
    given = [*usual, *nasty[:: max(1, len(nasty) // 100)]]
    codes = encode_exact(loaded, given, workers=1)
    order = np.random.default_rng(0).permutation(len(given))
    back = dict(zip(order.tolist(), decode_exact(loaded, codes.take(order), batch_size=50, workers=1), strict=True))
    readable = [row for row, why in enumerate(codes.rejected) if why is None]
    assert len(readable) >= 150
    assert len(readable) > len(usual) or name == "moses"
    assert [back[row].smiles for row in readable] == [standardize(given[row]).smiles for row in readable]
    assert all(back[row].state == why.reason for row, why in enumerate(codes.rejected) if why is not None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["moses", "druglike"])
def test_every_held_out_molecule_comes_back(name):
    loaded = load_model(name, "cpu")
    given = (loaded.directory / "held_out.smi").read_text().split()
    codes = encode_exact(loaded, given)
    assert [one.smiles for one in decode_exact(loaded, codes, batch_size=97)] == [
        standardize(one).smiles if why is None else None for one, why in zip(given, codes.rejected, strict=True)
    ]
