"""What the distribution benchmarks measure with: each number against another way to get it, and the caches."""

from __future__ import annotations

import csv
import gzip
import math
from collections import Counter
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import BRICS, rdFingerprintGenerator
from scipy.spatial.distance import cosine
from scipy.stats import wasserstein_distance as scipy_wasserstein

from molvae.benchmark import fcd, metrics_similarity, references, references_training
from molvae.benchmark.fcd import Gaussian
from molvae.benchmark.metrics import cosine_similarity, mean_and_spread, unique_share, wasserstein_distance
from molvae.benchmark.metrics_molecules import describe
from molvae.benchmark.metrics_similarity import compare_all, internal_diversity, nearest_similarity
from molvae.benchmark.references import Choice, load_reference
from molvae.benchmark.references_training import load_training
from molvae.chem.alerts import moses_alerts, passes_moses
from molvae.errors import InputError

SAMPLE = Path(__file__).resolve().parent.parent / "data" / "moses_sample.csv.gz"
SUSPECT = [
    "C=CC#N", "O=C1NC(=S)SC1=Cc1ccccc1", "O=C1C=CC(=O)C=C1", "CC(=O)Cl", "C1CO1", "N#CC(C#N)=Cc1ccccc1", "CN=[N+]=[N-]",
    "Oc1ccccc1O", "CN(C)c1ccc(N=Nc2ccccc2)cc1", "CCS", "O=CC=Cc1ccccc1", "C[Si](C)(C)C", "C1CCCCCCCC1", "CCBr", "CCI",
    "O=C(O)C(F)(F)F", "c1ccc2c(c1)ccc1ccccc12", "CC(=O)OC(C)=O", "O=[N+]([O-])c1ccccc1", "NNc1ccccc1", "CP(=O)(O)O",
    "O=C1c2ccccc2C(=O)c2ccccc21", "Cc1ccc(S(=O)(=O)Cl)cc1", "C#CCN", "CC(C)=NO", "O=C1CSC(=Nc2ccccc2)N1", "CSSC",
]  # fmt: skip


def quiet(what: str, done: int, of: int) -> None:
    """Say nothing."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def real() -> list[str]:
    with gzip.open(SAMPLE, "rt") as handle:
        return handle.read().split()[1:151]


def write(path: Path, smiles: list[str]) -> Path:
    path.write_text("smiles\n" + "\n".join(smiles) + "\n")
    return path


def test_wasserstein_is_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=301), rng.normal(0.3, 2.0, size=77).round(1)
    assert wasserstein_distance(a, b) == pytest.approx(scipy_wasserstein(a, b), abs=1e-12)
    assert wasserstein_distance([*a, math.nan], b) == pytest.approx(scipy_wasserstein(a, b), abs=1e-12)
    assert math.isnan(wasserstein_distance(a, []))


def test_cosine_is_scipys() -> None:
    one, two = Counter("aabbbcd"), Counter("bbccccee")
    keys = sorted(one | two)
    expected = 1 - cosine([one[key] for key in keys], [two[key] for key in keys])
    assert cosine_similarity(one, two) == pytest.approx(expected, abs=1e-12)
    assert math.isnan(cosine_similarity(one, {}))


def test_unique_is_of_the_first_k_and_unknown_when_there_are_fewer() -> None:
    assert unique_share(["C", "C", "N", "N", "O"], 4) == 0.5
    assert math.isnan(unique_share(["C"], 2))


def test_a_figure_that_one_run_lacks_has_no_mean() -> None:
    assert mean_and_spread([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_spread([1.0, None, 3.0]) == (None, None)
    assert mean_and_spread([]) == (None, None)


@pytest.mark.parametrize("kernel", ["compiled", "numpy"])
def test_similarities_are_rdkits(real: list[str], kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kernel == "numpy":
        monkeypatch.setattr(metrics_similarity, "_kernel", lambda: metrics_similarity._compare_plainly)
    bits = describe(real, filters=False).fingerprints
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(smiles)) for smiles in real]
    table = np.array([DataStructs.BulkTanimotoSimilarity(one, prints[:60]) for one in prints[70:]])
    found = compare_all(bits[70:], bits[:60])
    expected = np.stack([table.max(1), table.mean(1), np.square(table).mean(1)], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert nearest_similarity(bits[70:], bits[:60]) == pytest.approx(table.max(1).mean(), abs=1e-6)
    own = np.array([DataStructs.BulkTanimotoSimilarity(one, prints) for one in prints])
    first, second = internal_diversity(bits)
    assert first == pytest.approx(1 - own.mean(), abs=1e-6)
    assert second == pytest.approx(1 - np.sqrt(np.square(own).mean(1)).mean(), abs=1e-6)
    np.fill_diagonal(own, 0)
    np.testing.assert_allclose(compare_all(bits, bits, skip_self=True)[:, 0], own.max(1), atol=1e-6)


def test_numba_compiles_the_similarities() -> None:
    pytest.importorskip("numba")
    assert metrics_similarity._kernel() is not metrics_similarity._compare_plainly


def test_two_empty_fingerprints_are_equal_and_no_reference_is_refused() -> None:
    empty = np.zeros((2, 128), dtype=np.uint8)
    assert compare_all(empty, empty)[:, 0].tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="cannot be compared"):
        compare_all(empty, empty[:0])
    assert math.isnan(nearest_similarity(empty, empty[:0]))


def test_filters_say_what_every_pattern_says(real: list[str]) -> None:
    mols = [Chem.MolFromSmiles(smiles) for smiles in [*SUSPECT, *real[:60]]]
    text = (files("molvae.chem") / "moses_filters.csv").read_text("utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    queries = [(f"MOSES: {row['kind']} {row['name']}", Chem.MolFromSmarts(row["smarts"])) for row in rows]
    for mol in mols:
        whole, told = Chem.AddHs(mol), moses_alerts(mol)
        slow = [name for name, query in queries if whole.HasSubstructMatch(query)]
        assert [one for one in told if one.startswith(("MOSES: mcf", "MOSES: pains"))] == slow
        assert passes_moses(mol) == (not told)
    passing = [passes_moses(mol) for mol in mols]
    assert passing.count(False) > 10
    assert passing.count(True) > 10


def test_no_pattern_is_screened_away_from_a_molecule_that_holds_it() -> None:
    """Every pattern that is itself a molecule is found in that molecule."""
    text = (files("molvae.chem") / "moses_filters.csv").read_text("utf-8")
    rows = list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))
    tried = 0
    for row in rows:
        mol = Chem.MolFromSmiles(Chem.MolToSmiles(Chem.MolFromSmarts(row["smarts"])))
        if mol is None or not mol.GetNumAtoms() or any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
            continue
        mol = Chem.MolFromSmiles(Chem.MolToSmiles(mol))
        if mol is not None and Chem.AddHs(mol).HasSubstructMatch(Chem.MolFromSmarts(row["smarts"])):
            tried += 1
            assert not passes_moses(mol), row["name"]
    assert tried > 50


def test_describe_keeps_order_and_counts_what_is_no_molecule() -> None:
    found = describe(["OCC", "C(", "", "c1ccc2ccccc2c1", "OCC", "CC(=O)NCc1ccccc1"])
    assert found.smiles == ["CCO", "c1ccc2ccccc2c1", "CCO", "CC(=O)NCc1ccccc1"]
    assert (found.given, found.fingerprints.shape, found.values.shape) == (6, (4, 128), (4, 4))
    assert found.scaffolds == {"c1ccc2ccccc2c1": 1}
    pieces = Chem.MolToSmiles(BRICS.BreakBRICSBonds(Chem.MolFromSmiles("CC(=O)NCc1ccccc1"))).split(".")
    assert found.fragments == Counter([*pieces, "CCO", "CCO", "c1ccc2ccccc2c1"])
    assert found.values[0, 3] == pytest.approx(46.069, abs=1e-3)
    assert found.passes.all()
    assert not describe(["CC[O-]"]).passes.any()
    assert not describe(["CCO"], filters=False).passes.any()


def test_chemnet_gives_the_packages_activations() -> None:
    package = pytest.importorskip("fcd", reason="needs the extra metrics")
    import torch

    from molvae.benchmark.metrics_chemnet import activations, known_layers, take_apart

    network = package.load_ref_model()
    assert known_layers(network)
    net = take_apart(network, getattr(package.utils, "__vocab"))
    smiles = ["C", "CC(=O)Nc1ccc(Br)cc1", "C[Si](C)(C)Cl", "[Na+].[O-]c1ccccc1", "C" * 120, "C" * 347, "C" * 349]
    columns = (
        torch.tensor(np.stack([package.utils.get_one_hot(one, 350) / 35 for one in smiles])).transpose(1, 2).float()
    )
    with torch.inference_mode():
        expected = network(columns).numpy()
    np.testing.assert_allclose(activations(net, smiles), expected, atol=2e-5)
    # A SMILES beyond 350 columns changes nobody else.
    np.testing.assert_allclose(activations(net, [*smiles, "C" * 400])[:-1], expected, atol=2e-5)


def test_a_reference_is_computed_once(tmp_path: Path, real: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "has_fcd", lambda: False)
    path = write(tmp_path / "test.csv", [*real[:40], "C("])
    first = load_reference("Test", Choice(path), workers=1, say=quiet)
    assert (first.given, first.n, first.gaussian) == (41, 40, None)

    def fail(*arguments: object, **more: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(references, "describe", fail)
    again = load_reference("Test", Choice(path), workers=1, say=quiet)
    assert (again.fragments, again.scaffolds) == (first.fragments, first.scaffolds)
    np.testing.assert_array_equal(again.fingerprints, first.fingerprints)
    np.testing.assert_array_equal(again.values, first.values)
    write(path, real[:39])
    with pytest.raises(AssertionError, match="computed again"):
        load_reference("Test", Choice(path), workers=1, say=quiet)


def test_a_damaged_cache_is_made_anew(tmp_path: Path, real: list[str], own_cache: Path) -> None:
    path = write(tmp_path / "test.csv", real[:20])
    first = load_reference("Test", Choice(path), workers=1, say=quiet, fcd=False)
    (entry,) = (own_cache / "molvae" / "references").iterdir()
    (entry / "values.npy").write_bytes(b"nothing")
    again = load_reference("Test", Choice(path), workers=1, say=quiet, fcd=False)
    np.testing.assert_array_equal(again.values, first.values)


def test_part_of_a_reference_is_drawn_by_its_seed(tmp_path: Path, real: list[str]) -> None:
    path = write(tmp_path / "test.csv", real[:30])
    one, same, other = (Choice(path, 10, seed).read() for seed in (0, 0, 1))
    assert one == same
    assert one != other
    assert len(set(one)) == 10
    assert Choice(path, 99).read() == real[:30]
    empty = write(tmp_path / "empty.csv", ["C(", "x"])
    with pytest.raises(InputError, match="no molecule"):
        load_reference("Test", Choice(empty), workers=1, say=quiet, fcd=False)


def test_a_cache_that_cannot_be_written_is_no_failure(
    tmp_path: Path, real: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = write(tmp_path / "test.csv", real[:5])
    assert load_reference("Test", Choice(path), workers=1, say=quiet, fcd=False).n == 5


def test_novelty_is_exact_even_when_hashes_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references_training, "hash_smiles", lambda smiles: len(smiles))
    training = load_training(write(tmp_path / "train.csv", ["CCO", "CCN", "OC", "C("]), workers=1, say=quiet)
    assert len(training) == 3
    assert [one in training for one in ("CCO", "CCN", "CO", "CCF", "OC", "C")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert training.novelty(["CCO", "CCO", "CCF", "CC"]) == pytest.approx(2 / 3)
    assert math.isnan(training.novelty([]))


def test_the_training_set_is_canonical_kept_and_drawn_by_seed(tmp_path: Path, real: list[str]) -> None:
    path = write(tmp_path / "train.csv", ["OCC", "C[C@H](N)O", *real[:50]])
    training = load_training(path, workers=1, say=quiet)
    assert training.smiles(0) == "CCO"
    assert training.pick(7, 3) == load_training(path, workers=1, say=quiet).pick(7, 3)
    assert training.pick(7, 3) != training.pick(7, 4)
    assert sorted(training.pick(99, 0)) == sorted(training.smiles(row) for row in range(52))
    assert "C[C@H](N)O" in training
    assert "CC(N)O" not in training
    flat = load_training(path, workers=1, say=quiet, stereo=False)
    assert "CC(N)O" in flat
    assert flat.facts()["strings"] == "made canonical, without stereo"


def test_strings_of_a_named_split_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references_training, "named_split", lambda sha256: "moses:train")
    training = load_training(write(tmp_path / "train.csv", ["OCC"]), workers=1, say=quiet)
    assert "OCC" in training
    assert "CCO" not in training
    assert training.facts()["strings"] == "as they stand in the file"


def test_a_new_version_of_a_library_is_a_new_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    one = references.key_of("molecules", {"sha256": "0"}, ("rdkit",))
    assert one == references.key_of("molecules", {"sha256": "0"}, ("rdkit",))
    assert one != references.key_of("molecules", {"sha256": "1"}, ("rdkit",))
    monkeypatch.setattr(references.metadata, "version", lambda name: "0")
    assert one != references.key_of("molecules", {"sha256": "0"}, ("rdkit",))


def test_named_splits_are_known_by_their_checksum() -> None:
    assert references.named_split("f896fbf3764f88d94670b9959e5872c600c12152a18233823e820761b7a791b2") == "moses:test"
    assert references.named_split("0") is None


def test_chemnet_statistics_are_kept_apart_and_once(
    tmp_path: Path, real: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "has_fcd", lambda: True)
    monkeypatch.setattr(references, "key_of", lambda kind, facts, packages: f"{kind}-{facts['sha256'][:8]}")
    asked: list[list[str]] = []

    def fake(smiles: list[str], say: object) -> Gaussian:
        asked.append(smiles)
        return Gaussian(np.ones(3), np.eye(3), len(smiles))

    monkeypatch.setattr(references, "chemnet_statistics", fake)
    path = write(tmp_path / "test.csv", ["OCC", "C(", *real[:4]])
    first, again = (load_reference("Test", Choice(path), workers=1, say=quiet) for _ in range(2))
    assert len(asked) == 1
    assert asked[0][0] == "CCO"
    assert again.gaussian is not None
    assert (again.gaussian.n, first.n) == (5, 5)
    np.testing.assert_array_equal(again.gaussian.covariance, np.eye(3))


def test_statistics_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcd", reason="needs the extra metrics")
    table = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    monkeypatch.setattr(fcd, "BLOCK", 16)
    monkeypatch.setattr(fcd, "_predict", lambda smiles, batch_size: table[[int(one) for one in smiles]])
    told: list[int] = []
    found = fcd.chemnet_statistics([str(row) for row in range(50)], say=told.append)
    np.testing.assert_allclose(found.mean, table.astype(np.float64).mean(0), atol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(table.astype(np.float64), rowvar=False), atol=1e-12)
    assert told == [16, 32, 48, 50]


def test_another_network_is_run_by_its_own_package(monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("fcd", reason="needs the extra metrics")
    monkeypatch.setattr(fcd, "known_layers", lambda network: False)
    monkeypatch.setattr(package, "get_predictions", lambda network, smiles, batch: np.ones((len(smiles), 4)))
    assert fcd._predict(["C", "CC"], 2).tolist() == [[1.0] * 4] * 2


def test_many_molecules_pass_through_worker_processes_in_order() -> None:
    smiles = ["C" * (1 + row % 40) + "O" for row in range(450)]
    told: list[int] = []
    found = describe(smiles, filters=False, workers=2, say=told.append)
    assert [len(one) for one in found.smiles] == [len(one) for one in smiles]
    assert told == [200, 400, 450]
