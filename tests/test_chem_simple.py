"""The short way to standardise the usual string, and work on whole chunks, give what the long ways give."""

from __future__ import annotations

import gzip

import pytest
from rdkit import Chem

from molvae.chem.parallel import EachItem, map_chunks
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import (
    MAX_LENGTH,
    StandardizeOptions,
    _standardize_simple,
    screen,
    standardize,
    standardize_mol,
)
from tests.nasty import PATH, load_nasty

SAMPLE = PATH.parent.parent.parent / "data" / "moses_sample.csv.gz"
OPTIONS = [StandardizeOptions(), StandardizeOptions(True, True, False)]


def strings() -> list[str]:
    with gzip.open(SAMPLE, "rt") as handle:
        sample = handle.read().split()[1:201]
    other = [
        Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(smiles), 1, randomSeed=seed)[0]
        for seed, smiles in enumerate(sample)
    ]
    return sample + other + [smiles for smiles, _, _ in load_nasty()]


@pytest.mark.parametrize("options", OPTIONS, ids=["default", "everything"])
def test_the_short_way_gives_what_the_long_way_gives(options: StandardizeOptions):
    short = 0
    for smiles in strings():
        simple = _standardize_simple(smiles, options)
        short += simple is not None
        if simple is not None:
            full = standardize_mol(smiles, options)
            assert not isinstance(full, Rejected), smiles
            assert simple == full[0], smiles
    assert short > 400  # of 400 strings of the sample and 800 nasty ones


@pytest.mark.parametrize(
    "smiles",
    ["[H]N=C", "[2H]C", "[H][H]", "C[C@H](O)F", "F/C=C/F", "[CH3:1]O", "*C", "[#6]", "C->[Fe]", " C", "", "C\n"],
)
def test_the_short_way_keeps_away_from_hydrogen_stereo_and_oddities(smiles: str):
    assert _standardize_simple(smiles, StandardizeOptions()) is None


def test_the_pattern_of_usual_strings_takes_no_time_on_long_ones():
    long = "C" * (MAX_LENGTH - 1) + "*"
    assert _standardize_simple(long, StandardizeOptions()) is None
    assert isinstance(standardize("(" * MAX_LENGTH), Rejected)


@pytest.mark.parametrize("text", ["CCO", "C C", " C ", "C\x7f", "Cé", "", "C" * 30])
def test_screening_lets_through_what_is_graphic_and_short(text: str):
    result = screen(text, 20)
    plain = text.strip()
    allowed = 0 < len(plain) <= 20 and plain.isascii() and plain.isprintable() and " " not in plain
    assert (result == plain) if allowed else isinstance(result, Rejected)


def halve(chunk: list[int]) -> list[object]:
    return EachItem(_half)(chunk)


def _half(number: int) -> int:
    if number % 2:
        raise ValueError("odd")
    return number // 2


def test_a_function_of_whole_chunks_keeps_order_here_and_in_workers():
    [here] = map_chunks(halve, [[0, 1, 2]], whole=True)
    assert [here[0], here[1].reason, here[2]] == [0, "crashed", 1]
    there = [
        one for part in map_chunks(halve, [[2 * n, 4 * n] for n in range(20)], workers=1, whole=True) for one in part
    ]
    assert there == [value for n in range(20) for value in (n, 2 * n)]
