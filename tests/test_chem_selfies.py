"""SELFIES tokens: exact round trips, a closed alphabet, and random strings that RDKit accepts."""

from __future__ import annotations

import gzip
import random

import pytest
import selfies
from rdkit import Chem

from molvae.chem.rejected import Rejected
from molvae.chem.selfies import constraint_table, decode, encode, is_allowed, split
from molvae.chem.standardize import Standardized, standardize
from tests.nasty import PATH, load_nasty

SAMPLE = PATH.parent.parent.parent / "data" / "moses_sample.csv.gz"


def sample(n: int) -> list[str]:
    with gzip.open(SAMPLE, "rt") as handle:
        return handle.read().split()[1 : n + 1]


def every_token() -> set[str]:
    """Return the tokens of the MOSES sample and of every nasty molecule that is accepted."""
    tokens: set[str] = set()
    for smiles in sample(300) + [smiles for smiles, expected, _ in load_nasty() if expected.startswith("accept")]:
        standard = standardize(smiles)
        assert isinstance(standard, Standardized)
        encoded = encode(standard.smiles)
        assert not isinstance(encoded, Rejected)
        tokens.update(encoded)
    return tokens


def test_real_molecules_round_trip_exactly():
    for smiles in sample(500):
        canonical = standardize(smiles).smiles
        assert Chem.CanonSmiles(decode(encode(canonical))) == canonical


def test_salts_and_stereo_round_trip():
    for smiles in ("CC(=O)[O-].[Na+]", "C[C@H](N)C(=O)O.Cl", "F/C=C/F", "[13CH4].[2H]O"):
        canonical = standardize(smiles).smiles
        tokens = encode(canonical)
        assert ("." in tokens) == ("." in canonical)
        assert Chem.CanonSmiles(decode(tokens)) == canonical


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("*C", "unsupported-selfies"),
        ("C[C+100]", "unsupported-selfies"),
        ("C11", "unsupported-selfies"),
        ("C:C", "roundtrip"),
        ("CI(C)C", "unsupported-selfies"),
    ],
)
def test_what_selfies_cannot_say_is_refused(smiles, reason):
    assert encode(smiles).reason == reason


@pytest.mark.parametrize(
    "token",
    ["[nop]", "[epsilon]", "[Ring4]", "[Branch4]", "[--Ring1]", "[CH5]", "[C+10]", "[Og]", "[*]", "[c]", "", "C", "[C"],
)
def test_tokens_that_stay_out(token):
    assert not is_allowed(token)


@pytest.mark.parametrize(
    "token", ["[C]", "[=N+1]", "[O-1]", "[\\/Ring2]", "[#Branch3]", "[C@@H1]", "[13CH3]", "[Na+1]"]
)
def test_tokens_that_may_enter(token):
    assert is_allowed(token)


def test_the_limits_of_selfies_stay_as_they_are():
    active = selfies.get_semantic_constraints()
    assert active == constraint_table()
    for atom, bonds in selfies.get_preset_constraints("default").items():
        assert active[atom] == bonds


def test_rdkit_accepts_every_atom_of_the_table_with_every_number_of_bonds():
    refused = []
    for atom, bonds in constraint_table().items():
        if atom != "?":
            charge = atom.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
            element = atom.removesuffix(charge)
            body = f"[{element}{charge}]"
            forms = [body + "(F)" * bonds, body + "(=C)" * (bonds // 2) + "C" * (bonds % 2)]
            refused += [form for form in forms if Chem.MolFromSmiles(form) is None]
    assert refused == []


def test_random_tokens_decode_to_molecules_or_to_nothing():
    generator = random.Random(1)
    for alphabet in (sorted(every_token()), sorted({token for smiles in sample(300) for token in encode(smiles)})):
        assert all(map(is_allowed, alphabet))
        invalid = []
        for _ in range(1500):
            smiles = decode(generator.choices(alphabet, k=generator.randint(1, 60)))
            if smiles and Chem.MolFromSmiles(smiles) is None:
                invalid.append(smiles)
        assert invalid == []


def test_nothing_and_nonsense_decode_to_nothing():
    assert decode([]) == ""
    assert decode(["[Branch1]"]) == ""
    assert decode(["[nonsense]"]) == ""
    assert decode(["."]) == ""


def test_split_is_the_inverse_of_joining():
    for smiles in [*sample(50), "CC(=O)[O-].[Na+]"]:
        tokens = encode(standardize(smiles).smiles)
        assert split("".join(tokens)) == tokens
    assert split("") == ()
