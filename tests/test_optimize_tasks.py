"""Named oracles: what every one of them keeps, and the benchmark tasks' agreement with the original code."""

from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem.Pharm2D import Generate, Gobbi_Pharm2D

from molvae.chem.standardize import read
from molvae.errors import ConfigError, InputError, UnknownNameError
from molvae.nn.checkpoint import load_model
from molvae.optimize.oracles import ORACLES, find_oracle, from_zero_to_one, list_oracles
from molvae.optimize.tasks import GUACAMOL_TRIVIAL, GUACAMOL_V2, HOP, PMO, TASK_NAMES, raw_values, score, tasks
from molvae.optimize.tasks_pharmacophore import overlap, pharmacophore
from molvae.optimize.tasks_terms import DESCRIPTORS, Count, Matches, Similarity, compile_smarts, formula_counts
from molvae.optimize.transforms import (
    TRANSFORMS,
    UNBOUNDED,
    Clipped,
    DoubleSigmoid,
    Gaussian,
    Range,
    ReverseSigmoid,
    Sigmoid,
    Step,
    Threshold,
    parameters,
)

# The first molecules of the original code's scores: scripts/check_guacamol.py --golden.
GOLDEN = json.loads((Path(__file__).parent / "data" / "golden_tasks.json").read_text("utf-8"))
MOLECULES = sorted({smiles for rows in GOLDEN.values() for smiles in rows})[:24]
GARBAGE = ["", "C(", "not a molecule", "CC O", "C" * 1001]
NAMES = [*dict.fromkeys([*ORACLES, *TASK_NAMES]), f"similarity:{HOP}", "substructure:c1ccccc1", "alerts:PAINS,BRENK",
         "alerts:MOSES", "head:logp"]  # fmt: skip


def make(name: str) -> object:
    return find_oracle(name, loaded=load_model("moses") if name.startswith("head:") else None)


@pytest.mark.parametrize("name", NAMES)
def test_every_named_oracle_keeps_the_contract(name: str) -> None:
    oracle = make(name)
    mixed = [*MOLECULES[:12], *GARBAGE, *MOLECULES[12:]]
    scores = dict(zip(mixed, oracle(mixed), strict=True))
    assert all(math.isnan(scores[one]) for one in GARBAGE)
    # moses has no stereo and no charges; what it cannot read has no prediction.
    known = MOLECULES if name != "head:logp" else [one for one in MOLECULES if not math.isnan(scores[one])]
    assert len(known) > 5
    assert all(math.isfinite(scores[one]) for one in known)
    assert all(isinstance(value, float) for value in scores.values())
    if from_zero_to_one(name):
        assert all(0.0 <= scores[one] <= 1.0 for one in known)
    shuffled = random.Random(0).sample(mixed, len(mixed))
    again = dict(zip(shuffled, oracle(shuffled), strict=True))
    tolerance = 1e-5 if name == "head:logp" else 0.0
    assert all(abs(again[one] - scores[one]) <= tolerance for one in known)
    assert oracle.identity
    assert not oracle.problem
    assert oracle([]) == []


@pytest.mark.parametrize("name", TASK_NAMES)
def test_scores_are_those_of_the_original_code(name: str) -> None:
    expected = GOLDEN[name]
    assert len(expected) == 10
    assert score(name, list(expected)) == pytest.approx(list(expected.values()), abs=1e-6)


def test_golden_scores_tell_right_from_wrong() -> None:
    # A task on which all golden molecules score alike would prove nothing.
    for name, rows in GOLDEN.items():
        values = np.array(list(rows.values()))
        assert np.ptp(values) > 0.05, name


@pytest.mark.parametrize("name", [name for name in TASK_NAMES if tasks()[name].reference])
def test_nothing_scores_above_the_reference(name: str) -> None:
    best = score(name, [tasks()[name].reference])[0]
    assert best == pytest.approx(1.0, abs=1e-12)
    assert (score(name, MOLECULES) <= best).all()


def test_suites_are_complete() -> None:
    assert (len(GUACAMOL_V2), len(GUACAMOL_TRIVIAL), len(PMO)) == (20, 7, 20)
    assert set(TASK_NAMES) == set(tasks()) == set(GOLDEN)
    assert set(PMO) <= set(TASK_NAMES)
    listed = [name for name, _ in list_oracles()]
    assert set(TASK_NAMES) | set(ORACLES) < set(listed)
    assert len(set(listed)) == len(listed)


def test_raw_values_explain_the_score() -> None:
    smiles = MOLECULES[0]
    oracle = find_oracle("osimertinib_mpo")
    value = oracle([smiles])[0]
    raw = oracle.raw[smiles]
    assert list(raw) == ["similarity_fcfp4", "similarity_ecfp6", "tpsa", "logp"]
    scores = [transform(np.array([raw[name]]))[0] for name, _, transform in tasks()["osimertinib_mpo"].parts]
    assert value == pytest.approx(math.prod(scores) ** 0.25, abs=1e-12)
    assert np.isnan(raw_values("osimertinib_mpo", ["C("])).all()
    assert all(len({name for name, _, _ in task.parts}) == len(task.parts) for task in tasks().values())


def test_pharmacophores_are_as_similar_as_rdkit_says() -> None:
    drawn = random.Random(1).sample(MOLECULES, 10)
    extra = ["C", "OCCO", "CC(C)C", "OC(=O)c1ccc(N)cc1.NCCO", "NCCCCCCCCCCCCN", "P(C)(C)CCS"]
    mols = [Chem.MolFromSmiles(smiles) for smiles in [HOP, *drawn, *extra]]
    theirs = [Generate.Gen2DFingerprint(mol, Gobbi_Pharm2D.factory) for mol in mols]
    ours = [pharmacophore(mol) for mol in mols]
    assert [len(one) for one in ours] == [one.GetNumOnBits() for one in theirs]
    for a in range(len(mols)):
        for b in range(len(mols)):
            expected = DataStructs.TanimotoSimilarity(theirs[a], theirs[b])
            assert overlap(ours[a], ours[b]) == pytest.approx(expected, abs=1e-12)


def test_counts_not_bits_make_the_similarity() -> None:
    # Both chains have the same environments, one of them more often.
    short, long = Chem.MolFromSmiles("CCCCCCC"), Chem.MolFromSmiles("CCCCCCCCCCCCCC")
    assert Similarity("CCCCCCC", "ECFP4")(short) == 1.0
    assert Similarity("CCCCCCC", "ECFP4")(long) < 0.6


def test_atoms_are_counted_with_their_hydrogen() -> None:
    mol = Chem.MolFromSmiles("[2H]C(Cl)C[NH3+]")
    assert formula_counts("CHCl3") == {"C": 1, "H": 1, "Cl": 3}
    with_hydrogen = Chem.AddHs(mol)
    for element in ("C", "Cl", "N", "H", "F"):
        expected = sum(atom.GetSymbol() == element for atom in with_hydrogen.GetAtoms())
        assert Count(element)(mol) == expected
    assert Count("")(mol) == with_hydrogen.GetNumAtoms()


def test_smarts_that_do_not_parse_are_refused() -> None:
    assert Matches("C=O", absent=True)(Chem.MolFromSmiles("CC=O")) == 0.0
    for smarts in ("C(", "", "[#6"):
        with pytest.raises(InputError, match="does not parse"):
            compile_smarts(smarts)
        with pytest.raises(InputError, match="does not parse"):
            find_oracle(f"substructure:{smarts}")


@pytest.mark.parametrize(
    ("name", "text"),
    [("zaleplon", "Did you mean zaleplon_mpo"), ("alerts:PAIN", "Did you mean PAINS"), ("Qed", "Did you mean qed")],
)
def test_wrong_names_are_explained(name: str, text: str) -> None:
    with pytest.raises(UnknownNameError, match=text):
        find_oracle(name)


def test_heads_need_a_model_that_has_them() -> None:
    with pytest.raises(InputError, match="needs a model"):
        find_oracle("head:logp")
    with pytest.raises(UnknownNameError, match="Did you mean head:logp"):
        find_oracle("head:logpp", loaded=load_model("moses"))
    predicted = np.array(make("head:logp")(MOLECULES))
    real = np.array([DESCRIPTORS["logp"](read(one)) for one in MOLECULES])
    known = ~np.isnan(predicted)
    # In the property's own unit, not standardised.
    assert np.abs(predicted - real)[known].mean() < 1.0
    assert np.corrcoef(predicted[known], real[known])[0, 1] > 0.5


def test_a_small_batch_is_fast_enough_for_a_benchmark() -> None:
    # The reference is read once: about 100 molecules on the slowest kind of fingerprint.
    smiles = MOLECULES * 4
    score("deco_hop", smiles[:2])
    began = time.process_time()
    score("deco_hop", smiles)
    assert time.process_time() - began < 1.0


VALUES = np.array([-1e6, -3.0, 0.0, 0.4, 1.0, 2.5, 1e6])
BUILT = [Sigmoid(0, 1), ReverseSigmoid(0, 1, 0.5), DoubleSigmoid(0, 2), Step(0, 1), Range(0, 1, 0.5), Clipped(0.8),
         Clipped(0.0, 1.0), Gaussian(1, 0.5), TRANSFORMS["min_gaussian"](1.0, 0.5),
         TRANSFORMS["max_gaussian"](1.0, 0.5), Threshold(0.5), TRANSFORMS["linear"](2.0)]  # fmt: skip


@pytest.mark.parametrize("transform", BUILT, ids=repr)
def test_transforms_keep_missing_values_and_their_range(transform: object) -> None:
    scores = transform(VALUES)
    assert scores.shape == VALUES.shape
    assert np.isfinite(scores).all()
    assert np.isnan(transform(np.array([np.nan]))).all()
    names = {kind: name for name, kind in TRANSFORMS.items()}
    if names[type(transform)] not in UNBOUNDED:
        assert ((scores >= 0) & (scores <= 1)).all()


def test_transforms_have_their_published_values() -> None:
    x = np.array([0.0, 2.5, 5.0, 10.0])
    # REINVENT: 1 / (1 + 10 ** (k * (x - middle) * 10 / (low - high))).
    expected = 1 / (1 + 10 ** (0.25 * (x - 5.0) * 10 / -10.0))
    assert Sigmoid(0, 10, 0.25)(x) == pytest.approx(expected, abs=1e-12)
    assert ReverseSigmoid(0, 10, 0.25)(x) == pytest.approx(1 - expected, abs=1e-12)
    rising, falling = 1 / (1 + 10 ** (-1.5 * (x - 1.0))), 1 - 1 / (1 + 10 ** (-1.5 * (x - 6.0)))
    assert DoubleSigmoid(1, 6)(x) == pytest.approx(np.where(x < 3.5, rising, falling), abs=1e-12)
    assert Step(low=2.5, high=5)(x).tolist() == [0, 1, 1, 0]
    assert Range(5, 6, 5)(x).tolist() == [0.0, 0.5, 1.0, pytest.approx(0.2)]
    assert Threshold(5)(x).tolist() == [0, 0.5, 1, 1]
    assert TRANSFORMS["min_gaussian"](5.0, 1.0)(x)[:3].tolist() == [1, 1, 1]
    assert TRANSFORMS["max_gaussian"](5.0, 2.5)(x).tolist() == pytest.approx([math.exp(-2), math.exp(-0.5), 1, 1])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sigmoid", {"low": 1, "high": 1}), ("sigmoid", {"low": 0, "high": 1, "k": 0}), ("step", {}),
        ("step", {"low": 2, "high": 1}), ("range", {"low": 0, "high": 1, "margin": 0}),
        ("gaussian", {"mean": 0, "std": 0}),
        ("double_sigmoid", {"low": 2, "high": 1}), ("clipped", {"high": 1, "low": 1}), ("threshold", {"high": 0}),
        ("double_sigmoid", {"low": 0, "high": 1, "coef_si": -1}), ("range", {"low": 2, "high": 1, "margin": 1}),
    ],
)  # fmt: skip
def test_transforms_refuse_what_makes_no_sense(name: str, values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        TRANSFORMS[name](**values)


def test_parameters_are_read_from_the_transforms() -> None:
    assert parameters("sigmoid") == (["low", "high"], ["k"])
    assert parameters("step") == ([], ["low", "high"])
