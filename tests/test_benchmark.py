"""FCD and the card: the distance is the published one, and too few molecules are refused."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from scipy.linalg import sqrtm

from molvae.benchmark.card import HeldOut, card_table, choose_temperature, measure_card
from molvae.benchmark.fcd import Gaussian, chemnet_statistics, frechet_distance
from molvae.errors import InputError

SAMPLE = Path(__file__).resolve().parent.parent / "data" / "moses_sample.csv.gz"


def gaussian(seed: int, size: int = 20, n: int = 200) -> Gaussian:
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(n, size)) @ rng.normal(size=(size, size)) + rng.normal(size=size)
    return Gaussian(data.mean(0), np.cov(data, rowvar=False), n)


def test_frechet_distance_is_the_formula_with_a_matrix_root() -> None:
    one, two = gaussian(0), gaussian(1)
    root = np.real(sqrtm(one.covariance @ two.covariance))
    exact = np.square(one.mean - two.mean).sum() + np.trace(one.covariance + two.covariance - 2 * root)
    assert frechet_distance(one, two) == pytest.approx(exact, rel=1e-8)
    assert frechet_distance(two, one) == pytest.approx(exact, rel=1e-8)


def test_distance_to_itself_is_zero_even_where_the_covariance_is_singular() -> None:
    few = gaussian(2, size=20, n=5)
    # Eigenvalues that should be 0 are off by rounding, and the root of that is what remains.
    rounding = 20 * np.sqrt(np.finfo(float).eps * np.trace(few.covariance) ** 2)
    assert abs(frechet_distance(few, few)) < rounding


def test_chemnet_tells_real_molecules_from_chains() -> None:
    pytest.importorskip("fcd", reason="needs the extra metrics")
    with gzip.open(SAMPLE, "rt") as handle:
        smiles = handle.read().split()[1:401]
    real, more = chemnet_statistics(smiles[:200]), chemnet_statistics(smiles[200:])
    chains = chemnet_statistics(["C" * length + "O" for length in range(3, 60)])
    assert frechet_distance(real, more) < 0.5 * frechet_distance(real, chains)


def test_one_molecule_has_no_distribution() -> None:
    with pytest.raises(InputError, match="at least 2"):
        chemnet_statistics(["CCO"])


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcd", None)
    with pytest.raises(InputError, match=r"molvae\[metrics\]"):
        chemnet_statistics(["CCO", "CCC"])


def test_card_refuses_too_few_molecules() -> None:
    few = HeldOut(["C"], "held-out", ["C"] * 9, "held-out")
    with pytest.raises(InputError, match="10 reference"):
        measure_card(cast(Any, None), ["C"] * 100, few, 10, 0, lambda text: None)
    with pytest.raises(InputError, match="10 training"):
        measure_card(cast(Any, None), ["C"] * 9, HeldOut(["C"], "", ["C"] * 10, ""), 10, 0, lambda text: None)


def test_card_states_n_seed_and_floor() -> None:
    names = ("exact", "active_units", "latent", "validity", "uniqueness", "novelty", "fcd_prior", "fcd_posterior")
    figures = {**dict.fromkeys(names, 0.5), "n": 1000, "seed": 3, "fcd_floor": 0.25, "asked": 5000, "accepted": 0.996}
    figures |= {"fcd_prior_plain": 0.5, "fcd_prior_once": 0.75, "uniqueness_plain": 0.5}
    figures |= {"temperature": 0.3, "rounds": 5}
    facts = {"validation": {"rate": 20.0, "distortion": 3.0, "n": 100}, "prior": None, "prior_rate": None}
    table = card_table(figures, facts, HeldOut([], "ZINC test", [], "held-out"))
    assert "seed 3" in table
    assert "| accepted of 5,000 ZINC test molecules | 99.60% |" in table
    assert "| FCD of 1,000 real training molecules (the floor) | 0.25 |" in table
    assert "temperature 0.3, 5 rounds of reading back, the default) against 1,000 held-out molecules | 0.50" in table
    assert "| the same without reading back | 0.75 |" in table
    assert "N(0, I) only" in table


def test_the_temperature_with_the_least_distance_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    from molvae.benchmark import card

    asked: list[float | None] = []

    def fake_sample(loaded: Any, n: int, options: Any, wanted: Any, seed: int, rounds: int) -> pd.DataFrame:
        assert rounds == card.ROUNDS
        asked.append(options.temperature)
        return pd.DataFrame({"smiles": ["C" * (1 + round(10 * options.temperature))]})

    monkeypatch.setattr(card, "sample", fake_sample)
    monkeypatch.setattr(card, "chemnet_statistics", lambda smiles: len(smiles[0]))
    monkeypatch.setattr(card, "frechet_distance", lambda one, two: abs(one - 7.0))
    best, found = choose_temperature(cast(Any, None), ["C"] * 9, 3, 0)
    assert best == 0.6
    assert asked == list(card.TEMPERATURES)
    assert found["0"] == 6.0
