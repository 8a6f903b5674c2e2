"""Checks, alerts, properties, fingerprints and scaffolds against RDKit and the published MOSES rules."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import QED, Crippen, Descriptors, rdFingerprintGenerator

from molvae.chem.checks import check, check_many, summarize
from molvae.chem.fingerprints import morgan, tanimoto
from molvae.chem.properties import PROPERTIES, compute
from molvae.chem.scaffolds import murcko
from molvae.errors import UnknownNameError

with gzip.open(Path(__file__).parent.parent / "data" / "moses_sample.csv.gz", "rt") as handle:
    SAMPLE = handle.read().split()[1:]

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def test_training_molecules_of_moses_pass_its_filters_and_are_sane():
    results = check_many(SAMPLE[:60], scores=False)
    assert all(result.state == "ok" and result.passes_moses and result.sane for result in results)
    assert not any(alert.startswith("MOSES") for result in results for alert in result.alerts)


@pytest.mark.parametrize(
    ("smiles", "alert"),
    [
        ("C1CCCCCCC1", "MOSES: ring of 8 atoms"),
        ("C[N+](C)(C)C", "MOSES: charge"),
        ("C[Si](C)(C)C", "MOSES: atom Si"),
        ("CN=[N+]=[N-]", "BRENK: Azido_group"),
        ("O=C1C=CC(=O)C=C1", "PAINS: quinone_A(370)"),
    ],
)
def test_alerts_by_name(smiles, alert):
    result = check(smiles)
    assert alert in result.alerts
    assert result.passes_moses == (not any(one.startswith("MOSES") for one in result.alerts))


def test_one_result_per_input_in_order():
    given = ["OCC", "", "C(", "c1ccccc1C", "CC O", "\u200bC"]
    results = check_many(given, alerts=False)
    assert [result.given for result in results] == given
    assert [result.state for result in results] == ["ok", "empty", "parse", "ok", "whitespace", "charset"]
    assert [result.smiles for result in results] == ["CCO", None, None, "Cc1ccccc1", None, None]


def test_sizes_and_sanity():
    result = check("c1ccc2ccccc2c1.CCO", alerts=False, scores=False)
    assert (result.n_atoms, result.n_fragments, result.n_rings, result.largest_ring) == (13, 2, 2, 6)
    assert not result.sane
    assert result.scaffold == "c1ccc2ccccc2c1"
    assert check("C1CCCCCCC1", alerts=False).sane
    for odd in ("C1CCCCCCCC1", "C" * 101, "[CH2]C"):
        assert not check(odd, alerts=False, scores=False).sane


def test_scores_are_numbers_or_nan():
    result = check(ASPIRIN, alerts=False)
    assert 1 <= result.sa <= 2
    assert -2 < result.np < 2
    assert math.isnan(check("C(").sa)
    assert isinstance(check("[Na+]").sa, float)


def test_summary_counts():
    results = check_many(["CCO", "OCC", "c1ccccc1C", "C(", ""], alerts=True, scores=False)
    counts = summarize(results, training={"CCO"})
    assert counts["states"] == {"ok": 3, "parse": 1, "empty": 1}
    assert counts["validity"] == pytest.approx(0.6)
    assert counts["uniqueness"] == pytest.approx(2 / 3)
    assert counts["novelty"] == pytest.approx(0.5)
    assert counts["scaffolds"] == 1
    assert math.isnan(summarize(results)["novelty"])
    assert math.isnan(summarize([])["validity"])


def test_properties_are_those_of_rdkit():
    smiles = [*SAMPLE[:40], ASPIRIN, "CC(=O)[O-].[Na+]", "[2H]OC", "C[C@H](N)C(=O)O"]
    table = compute(smiles, list(PROPERTIES))
    mols = [Chem.MolFromSmiles(one) for one in smiles]
    names = list(PROPERTIES)
    for name, function in (("qed", QED.qed), ("logp", Crippen.MolLogP), ("mol_weight", Descriptors.MolWt)):
        expected = [function(mol) for mol in mols]
        np.testing.assert_array_equal(table[:, names.index(name)], expected)
    assert np.isfinite(table).all()
    aspirin = dict(zip(names, table[40], strict=True))
    assert aspirin["mol_weight"] == pytest.approx(180.159, abs=1e-3)
    assert (aspirin["hbd"], aspirin["hba"], aspirin["rings"]) == (1, 3, 1)
    assert aspirin["tpsa"] == pytest.approx(63.6, abs=0.01)


def test_a_failed_molecule_is_nan_and_the_rest_stands():
    table = compute(["C(", "CCO", ""], ["hbd", "rings"])
    assert table.shape == (3, 2)
    assert np.isnan(table[[0, 2]]).all()
    assert table[1].tolist() == [1, 0]
    assert compute([], ["qed"]).shape == (0, 1)
    assert compute(["C"], []).shape == (1, 0)


def test_an_unknown_property_is_named():
    with pytest.raises(UnknownNameError, match="logd"):
        compute(["C"], ["logd"])


def test_fingerprints_and_similarities_are_those_of_rdkit():
    smiles = SAMPLE[:30]
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    theirs = [generator.GetFingerprint(Chem.MolFromSmiles(one)) for one in smiles]
    ours = morgan(smiles)
    np.testing.assert_array_equal(np.unpackbits(ours, axis=1), np.array([list(bits) for bits in theirs]))
    similar = tanimoto(ours[:7], ours)
    assert similar.dtype == np.float32
    for row in range(7):
        np.testing.assert_allclose(similar[row], DataStructs.BulkTanimotoSimilarity(theirs[row], theirs), rtol=1e-6)


def test_no_molecule_is_like_nothing():
    bits = morgan(["C(", "CCO"])
    assert not bits[0].any()
    assert tanimoto(bits, bits).tolist() == [[0, 0], [0, 1]]
    assert tanimoto(bits[:0], bits).shape == (0, 2)
    with pytest.raises(ValueError, match="multiple of 64"):
        morgan(["C"], bits=100)


@pytest.mark.parametrize(
    ("smiles", "scaffold"),
    [(ASPIRIN, "c1ccccc1"), ("CCO", ""), ("C(", ""), ("O=C(c1ccccc1)N1CCCC1", "O=C(c1ccccc1)N1CCCC1")],
)
def test_scaffolds(smiles, scaffold):
    assert murcko(smiles) == scaffold
