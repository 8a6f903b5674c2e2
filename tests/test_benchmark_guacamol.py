"""GuacaMol's distribution benchmark: its divergences against scipy's, and molecules whose scores are known."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import Descriptors
from scipy.stats import entropy, gaussian_kde

from molvae.benchmark import guacamol_distribution as guacamol
from molvae.benchmark.guacamol_distribution import Generated, measure_distribution, unique_molecules
from molvae.benchmark.references_training import load_training
from molvae.cli.main import main
from molvae.config import Config, ModelConfig
from molvae.data.vocabulary import Vocabulary
from molvae.nn.checkpoint import save_model
from molvae.nn.model import SequenceVAE

SAMPLE = Path(__file__).resolve().parent.parent / "data" / "moses_sample.csv.gz"


def quiet(what: str, done: int, of: int) -> None:
    """Say nothing."""


def write(path: Path, smiles: list[str]) -> Path:
    path.write_text("smiles,state\n" + "".join(f"{one},x\n" for one in smiles))
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(guacamol, "has_fcd", lambda: False)


@pytest.fixture(scope="module")
def real() -> list[str]:
    with gzip.open(SAMPLE, "rt") as handle:
        return handle.read().split()[1:151]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_tokens(["[C]", "[O]", "[N]", "[F]", "[=C]", "[Ring1]", "[Branch1]"])
    config = Config(model=ModelConfig(embedding=8, encoder_hidden=16, decoder_hidden=16, decoder_layers=1, latent=4))
    network = SequenceVAE(config.model, len(vocabulary))
    directory = tmp_path_factory.mktemp("models") / "tiny"
    save_model(directory, network, vocabulary, config, {"max_tokens": 20, "prior": None})
    return directory


def runs(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def test_kl_is_what_scipy_makes_of_it() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=400), rng.normal(0.5, 1.4, size=300)
    at = np.linspace(min(p.min(), q.min()), max(p.max(), q.max()), 1000)
    expected = entropy(gaussian_kde(p)(at) + 1e-10, gaussian_kde(q)(at) + 1e-10)
    assert guacamol.continuous_kl(p, q) == pytest.approx(expected, rel=1e-9)
    counts, more = rng.poisson(3, 400).astype(float), rng.poisson(4, 300).astype(float)
    left, edges = np.histogram(counts, bins=10, density=True)
    right, _ = np.histogram(more, bins=edges, density=True)
    assert guacamol.counted_kl(counts, more) == pytest.approx(entropy(left + 1e-10, right + 1e-10), rel=1e-9)


def test_values_outside_the_range_of_the_reference_are_left_out_and_alone_are_infinitely_far() -> None:
    assert guacamol.counted_kl(np.arange(9.0), np.full(9, 50.0)) == math.inf
    some = np.array([0.0, 1.0, 1.0])
    assert guacamol.counted_kl(np.arange(9.0), np.array([*some, 50.0])) == guacamol.counted_kl(np.arange(9.0), some)


def test_the_training_molecules_themselves_score_full_but_for_novelty(tmp_path: Path, real: list[str]) -> None:
    training = load_training(write(tmp_path / "train.csv", real[:60]), workers=1, say=quiet, stereo=False)
    found = measure_distribution(Generated(real[:60], real[:60]), training, 60, 0, 1, quiet)
    scores = found["scores"]
    assert (scores["validity"], scores["uniqueness"], scores["novelty"], scores["fcd"]) == (1, 1, 0, None)
    assert scores["kl"] == pytest.approx(1, abs=1e-9)
    assert len(found["kl_divergences"]) == 10
    other = measure_distribution(
        Generated(["CCO", "CCC", "CCC", "C("], ["CCO", "CCC", "CCN"]), training, 60, 0, 1, quiet
    )
    assert other["scores"]["validity"] == 0.75
    assert other["scores"]["uniqueness"] == pytest.approx(2 / 3)
    assert other["scores"]["novelty"] == 1
    assert other["scores"]["kl"] < 0.5
    assert "4 molecules, 3 of them distinct, where 60" in other["notes"][-1]


def test_stereo_does_not_make_a_molecule_novel_for_guacamol(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", ["C[C@H](N)O", "CCO", "CCN"])
    training = load_training(path, workers=1, say=quiet, stereo=False)
    drawn = ["C[C@@H](N)O", "C[C@H](N)O", "CCF"]
    scores = measure_distribution(Generated(drawn, drawn), training, 3, 0, 1, quiet)["scores"]
    assert scores["uniqueness"] == pytest.approx(2 / 3)
    assert scores["novelty"] == 0.5


def test_the_guacamol_verb_measures_a_file_and_a_model(
    tmp_path: Path, model: Path, real: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    train = write(tmp_path / "train.csv", real[:50])
    samples = write(tmp_path / "mine.csv", real[50:80])
    base = ("benchmark", "guacamol-distribution", "--train", train, "--workers", 1)
    runs(*base, "--samples", samples, "-n", 30, "-o", tmp_path / "out")
    said = capsys.readouterr().out
    assert "n = 30, seed 0" in said
    assert "novelty     1.0000  0.0000" in said
    found = json.loads((tmp_path / "out" / "guacamol_distribution.json").read_text())
    assert found["scores"]["validity"] == 1
    runs(*base, "-m", model, "-n", 12)
    assert "model tiny; n = 12" in capsys.readouterr().out


def test_descriptors_are_rdkits_and_a_bad_one_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    found = guacamol._describe("CC(=O)Nc1ccccc1")
    mol = Chem.MolFromSmiles("CC(=O)Nc1ccccc1")
    assert isinstance(found, guacamol.Flat)
    assert found.values == (
        Descriptors.BertzCT(mol), Descriptors.MolLogP(mol), Descriptors.MolWt(mol), Descriptors.TPSA(mol),
        1, 1, 1, 0, 1,
    )  # fmt: skip
    monkeypatch.setattr(Descriptors, "BertzCT", lambda mol: math.nan)
    again = guacamol._describe("CCO")
    assert isinstance(again, guacamol.Flat)
    assert again.values[0] == 0


def test_distinct_molecules_come_in_order_without_stereo() -> None:
    drawn = ["OCC", "C(", "C[C@H](N)O", "CCO", "", "C[C@@H](N)O", "CC"]
    assert unique_molecules(drawn, 9, 1) == ["CCO", "CC(N)O", "CC"]
    assert unique_molecules(drawn, 2, 1) == ["CCO", "CC(N)O"]


def test_one_value_throughout_is_infinitely_far_from_many() -> None:
    assert guacamol.continuous_kl(np.ones(5), np.arange(5.0)) == math.inf
    assert guacamol.continuous_kl(np.ones(5), np.ones(7)) == 0


def test_fcd_score_is_the_exponential(tmp_path: Path, real: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guacamol, "has_fcd", lambda: True)
    asked: list[int] = []

    def fake(smiles: list[str], say: object) -> int:
        asked.append(len(smiles))
        return len(smiles)

    monkeypatch.setattr(guacamol, "chemnet_statistics", fake)
    monkeypatch.setattr(guacamol, "frechet_distance", lambda one, two: 5.0)
    training = load_training(write(tmp_path / "train.csv", real[:30]), workers=1, say=quiet, stereo=False)
    found = measure_distribution(Generated([*real[30:42], "C("], real[30:42]), training, 20, 0, 1, quiet)
    assert found["scores"]["fcd"] == pytest.approx(math.exp(-1))
    assert found["frechet_distance"] == 5
    assert asked == [12, 20]


def test_nothing_valid_scores_nothing(tmp_path: Path) -> None:
    training = load_training(write(tmp_path / "train.csv", ["CCO", "CCN", "CCC"]), workers=1, say=quiet, stereo=False)
    found = measure_distribution(Generated(["C(", ""], ["C("]), training, 3, 0, 1, quiet)
    assert found["scores"] == {"validity": 0, "uniqueness": None, "novelty": None, "kl": None, "fcd": None}
