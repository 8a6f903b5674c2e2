"""Canonical form and the class of every nasty string."""

from __future__ import annotations

import random

import pytest
from rdkit import Chem

from molvae.chem.rejected import REASONS, Rejected
from molvae.chem.selfies import encode
from molvae.chem.standardize import Standardized, StandardizeOptions, standardize, standardize_many
from tests.nasty import load_nasty

NASTY = load_nasty()


def classify(smiles: str) -> tuple[str, Standardized | None]:
    """Return ``accept`` or ``reject:reason`` as `molvae prepare` decides it."""
    standard = standardize(smiles)
    result = standard if isinstance(standard, Rejected) else encode(standard.smiles)
    if isinstance(result, Rejected):
        return f"reject:{result.reason}", None
    return "accept", standard


def test_the_table_is_whole():
    assert len(NASTY) == 807


def test_every_nasty_string_gets_its_class():
    wrong = []
    for smiles, expected, _ in NASTY:
        got, standard = classify(smiles)
        wanted = "accept" if expected == "accept-normalised" else expected
        if got != wanted or (expected == "accept-normalised" and standard is not None and not standard.changed):
            wrong.append((smiles[:60], expected, got))
    assert wrong == []


def test_mutated_strings_never_raise_and_what_is_taken_is_a_fixed_point():
    generator = random.Random(0)
    seeds = [smiles for smiles, expected, _ in NASTY if expected.startswith("accept") and len(smiles) < 200]
    for _ in range(1500):
        text = list(generator.choice(seeds))
        for _ in range(generator.randint(1, 3)):
            if text and generator.random() < 0.5:
                del text[generator.randrange(len(text))]
            text.insert(generator.randint(0, len(text)), generator.choice("CNOclno()[]=#123%+-@/\\.:H*~ \x00é"))
        result = standardize("".join(text))
        if isinstance(result, Standardized):
            again = standardize(result.smiles)
            assert isinstance(again, Standardized)
            assert again.smiles == result.smiles
            encode(result.smiles)
        else:
            assert result.reason in REASONS


@pytest.mark.parametrize(
    ("smiles", "canonical", "notes"),
    [
        ("OCC", "CCO", ()),
        (" CCO\r", "CCO", ("white space removed",)),
        ("[CH3:1][OH:2]", "CO", ("atom maps removed",)),
        ("[13CH3]O", "[13CH3]O", ()),
        ("C[N+](C)(C)C.[Cl-]", "C[N+](C)(C)C.[Cl-]", ()),
        ("C[C@H](N)C(=O)O", "C[C@H](N)C(=O)O", ()),
        ("[H]OC", "CO", ()),
    ],
)
def test_what_is_kept_and_what_is_not(smiles, canonical, notes):
    result = standardize(smiles)
    # Bracket atoms keep exactly the hydrogens they were given, so canonical forms are compared as RDKit reads them.
    assert result.smiles == Chem.CanonSmiles(canonical)
    assert result.notes == notes
    assert result.changed == (result.smiles != smiles)


@pytest.mark.parametrize(
    ("options", "smiles", "expected"),
    [
        ({"largest_fragment": True}, "CC(=O)[O-].[Na+]", "CC(=O)[O-]"),
        ({"largest_fragment": True, "neutralise": True}, "CC(=O)[O-].[Na+]", "CC(=O)O"),
        ({"neutralise": True}, "C[N+](C)(C)C", "C[N+](C)(C)C"),
        ({"stereo": False}, "C[C@H](N)/C=C/O", "CC(N)C=CO"),
    ],
)
def test_switches(options, smiles, expected):
    assert standardize(smiles, StandardizeOptions(**options)).smiles == Chem.CanonSmiles(expected)


@pytest.mark.parametrize(
    ("smiles", "options", "lost"),
    [
        ("C[C@H](N)C(=O)O", {}, False),
        ("F/C=C/F", {}, False),
        ("C(/F)=C/F", {}, False),
        ("C[C@H](C)O", {}, True),
        ("C/C=C(C)/C", {}, True),
        ("C[C@H](N)C(=O)O", {"stereo": False}, True),
    ],
)
def test_lost_stereo_is_told(smiles, options, lost):
    assert standardize(smiles, StandardizeOptions(**options)).stereo_lost is lost


def test_a_list_gives_one_result_per_input_in_order_and_long_lists_use_processes():
    results = standardize_many(["OCC", "C(", "", "c1ccccc1"] * 100, workers=1)
    assert len(results) == 400
    assert [getattr(r, "reason", None) or r.smiles for r in results[:4]] == ["CCO", "parse", "empty", "c1ccccc1"]
    assert results[4:] == results[:4] * 99


def test_a_reason_outside_the_list_is_refused():
    with pytest.raises(ValueError, match="unknown reason"):
        Rejected("C", "because")
