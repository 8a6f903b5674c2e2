"""Generation end to end with a tiny untrained model: counts, order, determinism, one result per input."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pandas as pd
import pytest
import torch

from molvae.chem.rejected import REASONS
from molvae.chem.standardize import Standardized, standardize
from molvae.config import Config, ModelConfig
from molvae.data.batch import collate
from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError, UnknownNameError
from molvae.generate.chemistry import Read, Readable, Write, write_all
from molvae.generate.latents import decode_latents, encode_smiles
from molvae.generate.molecules import sample
from molvae.generate.reconstruction import reconstruct
from molvae.generate.sampling import SamplingOptions
from molvae.generate.wanted import Wanted
from molvae.generate.writing import BLOCK
from molvae.nn.checkpoint import LoadedModel, find_model, shipped_models
from molvae.nn.model import SequenceVAE

TOKENS = ["[C]", "[O]", "[N]", "[F]", "[=C]", "[=O]", "[#N]", "[Ring1]", "[Branch1]", "[=Branch1]", "[C@H1]", "[S]"]
BARE = Wanted(properties=(), alerts=False)


def untrained(tokens: list[str] = TOKENS, seed: int = 0, max_tokens: int = 20) -> LoadedModel:
    torch.manual_seed(seed)
    vocabulary = Vocabulary.from_tokens(tokens)
    config = Config(model=ModelConfig(embedding=8, encoder_hidden=16, decoder_hidden=16, decoder_layers=1, latent=4))
    model = SequenceVAE(config.model, len(vocabulary)).eval()
    return LoadedModel(model, vocabulary, config, {"max_tokens": max_tokens, "prior": None}, Path("nowhere"))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return untrained()


def same(a, b) -> bool:
    return a.drop(columns="nats").equals(b.drop(columns="nats")) and np.allclose(a["nats"], b["nats"], atol=1e-3)


def test_sample_gives_exactly_n_molecules_with_every_column(loaded):
    table = sample(loaded, 30, seed=1)
    assert list(table.columns) == ["smiles", "state", "nats", "logp", "qed", "sa", "mol_weight", "tpsa", "alerts"]
    assert len(table) == 30
    assert (table["state"] == "ok").all()
    assert (table["nats"] > 0).all()
    assert table[["logp", "qed", "sa", "mol_weight", "tpsa"]].notna().all(axis=None)
    for smiles in table["smiles"]:
        again = standardize(smiles)
        assert isinstance(again, Standardized)
        assert again.smiles == smiles


def test_counts_add_up_and_empty_strings_are_never_reported(loaded):
    table = sample(loaded, 150, wanted=BARE, seed=3)
    counts = table.attrs["counts"]
    assert counts["drawn"] == sum(count for name, count in counts.items() if name != "drawn")
    assert counts["ok"] == 150 == len(table)
    assert counts["empty"] > 0
    assert "" not in set(table["smiles"])


def test_every_column_is_there_for_no_molecules(loaded):
    table = sample(loaded, 0)
    assert len(table) == 0
    assert "alerts" in table
    assert table.attrs["complete"]


def test_unique_and_novel(loaded):
    plain = sample(loaded, 100, wanted=BARE)
    assert plain["smiles"].duplicated().any()
    known = set(plain["smiles"][:10])
    table = sample(loaded, 60, wanted=Wanted(unique=True, novel_to=known, properties=(), alerts=False))
    assert not table["smiles"].duplicated().any()
    assert not known & set(table["smiles"])
    assert table.attrs["counts"]["duplicates"] > 0
    assert table.attrs["counts"]["known"] > 0


def test_same_seed_same_molecules_whatever_the_batch_size_and_workers(loaded):
    options = SamplingOptions(precision="fp32")
    one = sample(loaded, 260, options, BARE, seed=5, workers=1)
    assert same(one, sample(loaded, 260, options, BARE, seed=5, workers=2, batch_size=70))
    assert same(one.head(90), sample(loaded, 90, options, BARE, seed=5, batch_size=1000))
    assert not same(one, sample(loaded, 260, options, BARE, seed=6, workers=1))


def test_keep_failed_reports_what_did_not_end(loaded):
    options = SamplingOptions(max_length=6)
    table = sample(loaded, 50, options, Wanted(properties=("qed",), alerts=False, keep_failed=True))
    failed = table[table["state"] != "ok"]
    assert set(failed["state"]) == {"too-long"}
    assert failed["smiles"].isna().all()
    assert failed["qed"].isna().all()
    assert len(table) == 50


def test_a_model_that_repeats_itself_ends_with_a_warning():
    loaded = untrained(["[F]"], max_tokens=3)
    with pytest.warns(UserWarning, match="Only [0-9]+ of 40 molecules") as caught:
        table = sample(loaded, 40, wanted=Wanted(unique=True, properties=(), alerts=False))
    assert caught[0].filename == __file__
    assert 0 < len(table) < 40
    assert not table.attrs["complete"]
    assert table.attrs["counts"]["drawn"] <= 20 * 40 + 2 * BLOCK + 20 * 40


def test_prior_temperature_scales_latents(loaded):
    spread = {}
    for scale in (1e-6, 1.0):
        wanted = Wanted(properties=(), alerts=False, keep_failed=True, prior_temperature=scale)
        spread[scale] = np.ptp(sample(loaded, 20, SamplingOptions(greedy=True, precision="fp32"), wanted)["nats"])
    assert spread[1e-6] < 1e-3 < spread[1.0]


def test_a_run_that_is_stopped_keeps_what_it_has(loaded):
    whole, seen = sample(loaded, 500, SamplingOptions(), BARE, seed=5), []
    part = sample(
        loaded, 500, SamplingOptions(), BARE, seed=5, batch_size=64, progress=seen.append, stop=lambda: len(seen) >= 2
    )
    assert 0 < len(part) < 500
    assert part["smiles"].tolist() == whole["smiles"].tolist()[: len(part)]
    assert not part.attrs["complete"]


def test_ctrl_c_writes_what_was_sampled(tmp_path):
    table = tmp_path / "new.csv"
    command = [sys.executable, "-m", "molvae", "sample", "-n", "100000", "--workers", "1", "--device", "cpu"]
    process = subprocess.Popen(
        [*command, "--properties", "none", "--no-alerts", "-o", str(table)], stdout=PIPE, stderr=PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Sampling: "):
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    rows = len(pd.read_csv(table))
    assert 0 < rows < 100_000
    assert f"stopped by SIGINT: {rows:,} of 100,000 molecules" in out


def test_progress_ends_at_n(loaded):
    seen: list[int] = []
    sample(loaded, 70, wanted=BARE, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 70


@pytest.mark.parametrize("wrong", [{"n": -1}, {"n": 5, "batch_size": 0}, {"n": 5, "workers": 0}])
def test_counts_out_of_range(loaded, wrong):
    with pytest.raises(InputError):
        sample(loaded, **wrong)


def test_unknown_property_and_wrong_prior_temperature():
    with pytest.raises(UnknownNameError, match="lopg"):
        Wanted(properties=("lopg",))
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="prior_temperature"):
            Wanted(prior_temperature=value)


def test_random_token_ids_are_molecules_or_say_why_not(loaded):
    write = Write(loaded.vocabulary)
    generator = np.random.default_rng(0)
    states = []
    for _ in range(1500):
        result = write((generator.integers(4, len(loaded.vocabulary), generator.integers(0, 40)).tolist(), True))
        assert (result.smiles is None) == (result.state != "ok")
        assert result.smiles != ""
        states.append(result.state)
    assert set(states) == {"ok", "empty"}


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_models())
def test_100_000_random_token_strings_of_a_shipped_vocabulary(name):
    vocabulary = Vocabulary.load(find_model(name) / "vocab.json")
    generator = np.random.default_rng(1)
    items = [
        (generator.integers(4, len(vocabulary), length).tolist(), True) for length in generator.integers(1, 80, 100_000)
    ]
    chunks = (items[start : start + 500] for start in range(0, len(items), 500))
    states = Counter(
        molecule.state for done in write_all(Write(vocabulary), chunks, len(items), None) for molecule in done
    )
    assert set(states) <= {"ok", "empty"}
    assert states["ok"] > 98_000


def test_encode_keeps_order_and_names_what_is_missing(loaded):
    smiles = ["CCO", "C(", "", "[Si](C)(C)C", "OCC", "C=O"]
    encoded = encode_smiles(loaded, smiles)
    assert encoded.latents.shape == (6, 4)
    assert encoded.latents.dtype == np.float32
    assert encoded.smiles == ["CCO", None, None, None, "CCO", "C=O"]
    reasons = [rejected.reason if rejected else None for rejected in encoded.rejected]
    assert reasons == [None, "parse", "empty", "vocabulary", None, None]
    assert "[Si]" in encoded.rejected[3].detail
    assert np.isnan(encoded.latents[[1, 2, 3]]).all()
    np.testing.assert_allclose(encoded.latents[0], encoded.latents[4], atol=1e-6)
    assert not np.allclose(encoded.latents[0], encoded.latents[5])


def test_batches_of_any_size_give_the_same_latents(loaded):
    smiles = ["C" * n for n in range(1, 40)]
    np.testing.assert_allclose(
        encode_smiles(loaded, smiles, batch_size=7).latents, encode_smiles(loaded, smiles).latents, atol=1e-6
    )


def test_sampled_latents_differ_by_seed_only(loaded):
    draw = lambda seed: encode_smiles(loaded, ["CCO", "CCN", "CC"], sampled=True, seed=seed, batch_size=2).latents  # noqa: E731
    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).all()


@pytest.mark.parametrize("smiles", ["CCO", [None, "C"], [1.5]])
def test_encode_refuses_what_is_no_list_of_strings(loaded, smiles):
    with pytest.raises(InputError, match="list of SMILES"):
        encode_smiles(loaded, smiles)


def test_decode_gives_one_result_per_latent(loaded):
    latents = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32) * 3
    latents[[5, 7]] = np.nan
    latents[9, 2] = np.inf
    options = SamplingOptions(precision="fp32")
    decoded = decode_latents(loaded, latents, options=options, seed=1, workers=1)
    assert len(decoded) == 300
    assert [decoded[row].state for row in (5, 7, 9)] == ["missing"] * 3
    assert {row.state for row in decoded} <= {"ok", *REASONS}
    assert "empty" in {row.state for row in decoded}
    assert all((row.smiles is None) == (row.state != "ok") for row in decoded)
    again = decode_latents(loaded, latents, options=options, seed=1, workers=2, batch_size=100)
    assert [row.smiles for row in decoded] == [row.smiles for row in again]


def test_decode_in_parts_equals_decode_at_once(loaded):
    latents = np.random.default_rng(1).normal(size=(40, 4))
    whole = [row.smiles for row in decode_latents(loaded, latents)]
    parts = [row.smiles for latent in latents for row in decode_latents(loaded, latent[None])]
    assert whole == parts


@pytest.mark.parametrize("latents", [np.zeros((2, 3)), np.zeros(4), [["a", "b", "c", "d"]], np.zeros((1, 2, 4))])
def test_decode_refuses_other_shapes(loaded, latents):
    with pytest.raises(InputError):
        decode_latents(loaded, latents)


def test_no_latents_give_no_molecules(loaded):
    assert decode_latents(loaded, []) == []
    assert encode_smiles(loaded, []).latents.shape == (0, 4)


def test_reconstruct_has_a_row_per_input(loaded):
    smiles = ["CCO", "C(", "[Si](C)(C)C", "OC=O"]
    table = reconstruct(loaded, smiles)
    assert list(table.columns) == ["input", "canonical", "output", "match", "state", "detail", "similarity"]
    assert table["input"].tolist() == smiles
    assert table["canonical"].tolist() == ["CCO", None, None, "O=CO"]
    assert table["state"].tolist()[1:3] == ["parse", "vocabulary"]
    assert table["match"].tolist() == [
        a is not None and a == b for a, b in zip(table["canonical"], table["output"], strict=True)
    ]
    assert table["similarity"].isna().tolist()[1:3] == [True, True]


def test_an_autoencoder_that_learnt_three_molecules_reconstructs_them():
    loaded = untrained(seed=2)
    smiles = ["CCO", "CC(=O)N", "C#N"]
    read = [Read(loaded.vocabulary)(text) for text in smiles]
    assert all(isinstance(item, Readable) for item in read)
    batch = collate([np.array(item.token_ids) for item in read])
    optimizer = torch.optim.Adam(loaded.model.parameters(), lr=0.03)
    for _ in range(150):
        z = loaded.model.encode(batch.tokens, batch.lengths).mean[None]
        loss = -loaded.model.decoder.log_prob(batch.tokens, z, loaded.model.unconditioned(3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    table = reconstruct(loaded, smiles)
    assert table["match"].all()
    assert (table["similarity"] == 1).all()
    assert table["canonical"].tolist() == ["CCO", "CC(N)=O", "C#N"]
