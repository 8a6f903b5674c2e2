"""The codec: to the byte what selfies.decoder writes, whatever the tokens, the limits and the way it decodes."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import selfies
from rdkit import Chem

from molvae.chem import codec as codec_module
from molvae.chem import codec_check, codec_kernel
from molvae.chem.codec import TokenCodec
from molvae.chem.codec_check import check_decoded
from molvae.chem.codec_kernel import load
from molvae.chem.codec_tables import LONGEST, Lexicon, read_meaning
from molvae.chem.rejected import Rejected
from molvae.chem.selfies import constraint_table, decode, split
from molvae.chem.standardize import standardize_mol
from molvae.data.vocabulary import EOS, PAD, SPECIALS, UNK, Vocabulary
from molvae.errors import InputError
from molvae.generate.chemistry import Molecule, Write, codec_of, write_all
from scripts.check_codec import ODD, main
from tests.nasty import load_nasty

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data" / "moses_sample.csv.gz"
LIMITS = ("default", "octet_rule", "hypervalent", "molvae")
OF_MOSES = (
    "[#Branch1] [#Branch2] [#C] [#N] [=Branch1] [=Branch2] [=C] [=N] [=O] [=Ring1] [=Ring2] [=S] [Br] [Branch1] "
    "[Branch2] [C] [Cl] [F] [NH1] [N] [O] [P] [Ring1] [Ring2] [S] ."
)
BEYOND = (
    "[C@@H1] [C@H1] [C@@] [C@] [/C] [\\C] [/N] [\\N] [/O] [N+1] [NH1+1] [O-1] [=N+1] [=N-1] [/Cl] [\\S] [13CH3] [2H] "
    "[-/Ring1] [\\/Ring1] [-\\Ring2] [#Branch3] [Ring3] [#Ring1] [PH1] [S@@] [B-1] [Si] [=Se]"
)
DENSE = "[Branch1] [Branch2] [Ring1] [Ring2] [P] [S] [C] [C] [=Branch1] [#Branch3]"
MOSES = OF_MOSES.split()
STEREO = [*MOSES, *BEYOND.split()]


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    yield
    selfies.set_semantic_constraints(constraint_table())


@pytest.fixture(params=["plain", "compiled"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "compiled" and load() is None:
        pytest.skip("numba cannot be used here")
    monkeypatch.setattr(codec_module, "COMPILE_AFTER", 0 if request.param == "compiled" else sys.maxsize)
    return request.param


def reference(row: Sequence[str]) -> str:
    try:
        return selfies.decoder("".join(row))
    except selfies.DecoderError:
        return ""


def flatten(rows: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    return list(chain.from_iterable(rows)), list(accumulate(map(len, rows), initial=0))


def decode_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    tokens = sorted({token for row in rows for token in row})
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    return TokenCodec(tokens).decode_many(*flatten([[ids[token] for token in row] for row in rows]))


def random_rows(alphabet: Sequence[str], n: int, seed: int = 0, longest: int = 80) -> list[list[str]]:
    generator = random.Random(seed)
    return [generator.choices(alphabet, k=generator.randint(1, longest)) for _ in range(n)]


def assert_same(rows: Sequence[Sequence[str]]) -> None:
    differing = [(row, text) for row, text in zip(rows, decode_rows(rows), strict=True) if text != reference(row)]
    assert differing == []


@lru_cache(maxsize=1)
def real_rows() -> list[tuple[str, ...]]:
    with gzip.open(SAMPLE, "rt") as handle:
        smiles = handle.read().split()[1:201]
    smiles += [text for text, expected, _ in load_nasty() if expected.startswith("accept")]
    rows = []
    for text in smiles:
        try:
            rows.append(split(selfies.encoder(text)))
        except selfies.EncoderError:
            continue
    return rows


def test_real_molecules(way: str) -> None:
    assert len(real_rows()) > 500
    assert_same(real_rows())


@pytest.mark.parametrize("table", LIMITS)
def test_random_strings(way: str, table: str) -> None:
    selfies.set_semantic_constraints(constraint_table() if table == "molvae" else table)
    robust = [*sorted(selfies.get_semantic_robust_alphabet()), "."]
    for alphabet in (MOSES, STEREO, robust, ODD):
        assert_same(random_rows(alphabet, 200 if table == "molvae" else 60))


def test_long_random_strings_with_many_rings_and_branches(way: str) -> None:
    heavy = [*MOSES, *DENSE.split() * 4]
    assert_same(random_rows(heavy, 25, longest=LONGEST))


@pytest.mark.parametrize(
    ("text", "smiles"),
    [
        ("", ""),
        (".", ""),
        ("[C].[O]", "C.O"),
        ("..[C]...[=O]..", "C.O"),
        ("[C][C][C].[Ring1][O][Ring1][C]", "CCC1.O1"),
        ("[C][C].[C][C][Ring1][Ring2][O]", "C1C.CC1O"),
        ("[C][C][Branch1][Ring2][N].[O][F]", "CCN.OF"),
        ("[C][C][Branch1].[O]", "CC.O"),
        ("[C][Ring1][C]", "C"),
        ("[C][C][Ring1][C]", "C=C"),
        ("[C][C][C][Ring1][Ring1][=Ring1][Ring1]", "C#1CC#1"),
        ("[C][=C][=C][#Ring1][C]", "C=C=C"),
        ("[C][C][Ring1][C][Ring1][C][Ring1][C]", "C#C"),
        ("[C][C][C][-/Ring1][Ring1]", "C1CC/1"),
        ("[C][C][C][\\/Ring1][Ring1]", "C\\1CC/1"),
        ("[/C][/C][=C][\\F]", "C/C=C\\F"),
        ("[C][/C][Ring1][C]", "C=C"),
        ("[CH4][C]", "[CH4]"),
        ("[C][CH4][C]", "C"),
        ("[C][epsilon][O]", "C"),
        ("[epsilon][C][O]", "CO"),
        ("[nop][C][nop][O]", "CO"),
        ("[C][C][C][Ring1][nop][Ring1]", "C1CC1"),
        ("[C][nonsense]", ""),
        ("[F][F][nonsense]", "FF"),
        ("[C][Ring1][nonsense][O]", "CO"),
        ("[C][Branch1]", "C"),
        ("[C][Branch1][F][O][N]", "C(O)N"),
        ("[C][Branch2][Ring1][Branch1][C][C][O]", "CCCO"),
        ("[13CH3][C@@H1][Branch1][C][N][O-1]", "[13CH3][C@@H1](N)[O-1]"),
        ("[S][#Branch1][Branch1][#Branch1][Ring1][C][F][Cl]", "S(CF)Cl"),
    ],
)
def test_rules_one_by_one(way: str, text: str, smiles: str) -> None:
    row = split(text)
    assert reference(row) == smiles
    assert decode_rows([row]) == [smiles]
    assert decode(row) == smiles


@pytest.mark.parametrize("rings", [9, 10, 99, 100, 150])
def test_ring_numbers_of_any_length(way: str, rings: int) -> None:
    row = ["[C]", "[C]", "[C]", "[Ring1]", "[Ring1]", "[C]"] * rings
    expected = reference(row)
    assert f"%{rings}" in expected or rings < 10
    assert decode_rows([row]) == [expected]


def test_numbers_of_three_digits_reach_far_back(way: str) -> None:
    row = ["[C]"] * 700 + ["[Ring3]", "[Ring2]", "[Branch1]", "[S]", "[O]"]
    assert "1" in reference(row)
    assert decode_rows([row]) == [reference(row)]
    branch = ["[C]", "[C]", "[Branch3]", "[C]", "[Ring2]", "[P]", *["[C]"] * 60, "[O]"]
    assert decode_rows([branch]) == [reference(branch)]


def test_what_the_tables_do_not_cover_goes_to_selfies(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["[C]"] * (LONGEST + 1), ["[C]", "C", "[O]"], ["[C.O]", "[N]"], ["[C]", "[O"], ["", "[C]"], ["[C]", "[N]"]]
    expected, calls, original = list(map(reference, rows)), [], selfies.decoder
    assert expected == ["C" * (LONGEST + 1), "", "", "", "C", "CN"]
    monkeypatch.setattr(selfies, "decoder", lambda text: calls.append(text) or original(text))
    assert decode_rows(rows) == expected
    assert len(calls) == 5


def test_branches_nested_deeper_than_python_allows(way: str) -> None:
    row = ["[P]", *["[Branch1]", "[P]", "[P]"] * 1500, "[C]"]
    assert decode_rows([row]) == [decode(row)]
    assert_same([["[P]", *["[Branch2]", "[P]", "[P]", "[P]"] * 240, "[C]"]])


def test_limits_set_later_are_followed(way: str) -> None:
    codec, row = TokenCodec(["[N]", "[=N]", "[#N]"]), [0, 1, 2]
    texts = []
    for table in ("default", "hypervalent", "default"):
        selfies.set_semantic_constraints(table)
        assert codec.decode(row) == codec.decode_many(row, [0, 3])[0] == decode(["[N]", "[=N]", "[#N]"])
        texts.append(codec.decode(row))
    assert texts == ["N=NN", "N=N#N", "N=NN"]


def test_any_limit_can_be_expressed(way: str) -> None:
    selfies.set_semantic_constraints({"C": 0, "N": 10**30, "O": 1, "S": 12, "?": 7})
    assert_same(random_rows(["[C]", "[N]", "[#N]", "[S]", "[=S]", "[O]", "[Br]", "[Ring1]", "[#Branch1]", "."], 500))


def test_specials_are_left_out_and_eos_ends(way: str) -> None:
    vocabulary = Vocabulary.from_tokens([*MOSES, "[nop]"])
    codec, generator = codec_of(vocabulary), np.random.default_rng(3)
    rows = [generator.integers(0, len(vocabulary), size).tolist() for size in generator.integers(0, 60, 400)]
    rows += [[], [EOS], [PAD, UNK], [PAD, 20, EOS, 20]]
    expected = [reference(vocabulary.decode(row)) for row in rows]
    assert codec.decode_many(*flatten(rows)) == expected
    assert [codec.decode(row) for row in rows] == expected
    assert expected.count("") < 200
    assert codec.tokens[: len(SPECIALS)] == SPECIALS


def test_slices_of_a_bigger_array(way: str) -> None:
    codec = TokenCodec(["[C]", "[N]", "[O]"])
    ids = np.array([0, 1, 2, 2, 1, 0], dtype=np.uint8)
    ids.setflags(write=False)
    assert codec.decode_many(ids, np.array([1, 1, 3, 5], dtype=np.int32)) == ["", "NO", "ON"]
    assert codec.decode_many([], [0]) == []
    assert TokenCodec([]).decode_many([], [0, 0]) == [""]


@pytest.mark.parametrize(
    ("ids", "offsets"),
    [
        ([0, 3], [0, 2]),
        ([-1], [0, 1]),
        ([0], [0, 2]),
        ([0, 1], [1, 0]),
        ([0], [-1, 1]),
        ([0], []),
        ([0.5], [0, 1]),
        ([[0]], [0, 1]),
    ],
)
def test_misuse_is_refused(ids: list[int], offsets: list[int]) -> None:
    with pytest.raises(InputError):
        TokenCodec(["[C]", "[N]", "[O]"]).decode_many(ids, offsets)


def test_misuse_of_single_ids_is_refused() -> None:
    codec = TokenCodec(["[C]"])
    for wrong in ([1], [-1]):
        with pytest.raises(InputError, match="no token id"):
            codec.decode(wrong)
    for arguments in ({"left_out": (1,)}, {"end": 7}):
        with pytest.raises(InputError, match="no token id"):
            TokenCodec(["[C]"], **arguments)


def test_small_batches_do_not_load_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[int] = []
    monkeypatch.setattr(codec_module, "load", lambda: loads.append(1))
    codec = TokenCodec(["[C]"])
    half = [0] * (codec_module.COMPILE_AFTER // 2)
    offsets = range(len(half) + 1)
    assert codec.decode_many(half, offsets) == ["C"] * len(half)
    assert loads == []
    codec.decode_many(half, offsets)
    assert loads == [1]


def _refuse(function: Callable[..., None]) -> None:
    raise RuntimeError("cannot cache function: no locator available")


NO_CACHE = SimpleNamespace(
    njit=lambda cache: _refuse, core=SimpleNamespace(errors=SimpleNamespace(NumbaError=ArithmeticError))
)


@pytest.mark.parametrize("numba", [None, NO_CACHE], ids=["missing", "without a cache"])
def test_without_numba_plain_python_does_the_work(monkeypatch: pytest.MonkeyPatch, numba: object) -> None:
    monkeypatch.setattr(codec_module, "COMPILE_AFTER", 0)
    monkeypatch.setitem(sys.modules, "numba", numba)
    load.cache_clear()
    try:
        assert load() is None
        rows = random_rows(MOSES, 50)
        assert decode_rows(rows) == list(map(reference, rows))
    finally:
        load.cache_clear()


def test_numba_is_not_imported_with_the_package() -> None:
    code = (
        "import sys; from molvae.generate.chemistry import codec_of; from molvae.data.vocabulary import Vocabulary; "
        "assert codec_of(Vocabulary(['[C]'])).decode([4, 4]) == 'CC'; assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_the_lexicon_forgets_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("molvae.chem.codec_tables._MOST_KEPT", 10)
    lexicon = Lexicon()
    for number in range(1, 60):
        assert lexicon.look_up([f"[{number}C]"])[0][5][0] == f"[{number}C]"
        assert len(lexicon._meanings) <= 12


def test_a_meaning_does_not_depend_on_what_selfies_has_seen() -> None:
    assert read_meaning("[CH9]") == read_meaning("[CH9]")
    selfies.set_semantic_constraints({"C": 12, "?": 8})
    assert read_meaning("[CH9]").capacity == 3


def decoded_sample() -> list[str]:
    rows = random_rows(STEREO, 400, seed=5) + random_rows(["[C]", "[C]", "[Ring1]", "[C@H1]", "[C@]", "[Branch1]"], 400)
    return [text for text in map(decode, rows) if text]


def test_one_reading_judges_as_two_do() -> None:
    for text in decoded_sample():
        full, short = standardize_mol(text), check_decoded(text)
        if isinstance(full, Rejected):
            assert short == full
        else:
            assert not isinstance(short, Rejected)
            assert short[0] == full[0].smiles == Chem.MolToSmiles(short[1])


def test_molecules_whose_canonical_form_changes_are_still_refused() -> None:
    changing = [text for text, expected, _ in load_nasty() if expected == "reject:roundtrip" and ":" not in text]
    changing = [text for text in changing if "@" in text or "/" in text]
    assert len(changing) > 5
    for text in changing:
        assert isinstance(standardize_mol(text), Rejected)
        assert check_decoded(text) == standardize_mol(text)


@pytest.mark.parametrize(
    ("smiles", "readings"),
    [
        ("OCC", 0),
        ("N[C@@H](C)C(=O)O", 0),
        ("Cl/C=C/F", 0),
        ("O[C@@H]1CC[C@H](C)CC1", 1),
        ("Cl/C=C/C=C/F", 1),
        ("C[2H]", 1),
        ("", 1),
        ("FCF.F(C)C", 1),
        ("C" * 1001, 1),
    ],
)
def test_a_second_reading_only_where_it_may_matter(monkeypatch: pytest.MonkeyPatch, smiles: str, readings: int) -> None:
    calls = []
    monkeypatch.setattr(codec_check, "standardize_mol", lambda text: calls.append(text) or Rejected(text, "crashed"))
    check_decoded(smiles)
    assert len(calls) == readings


def test_molecules_do_not_depend_on_how_token_ids_are_cut_into_chunks() -> None:
    vocabulary = Vocabulary.from_tokens(STEREO)
    write, generator = Write(vocabulary, ("mol_weight",)), np.random.default_rng(4)
    items = [
        (tuple(generator.integers(4, len(vocabulary), size).tolist()), bool(finished))
        for size, finished in zip(generator.integers(0, 40, 90), generator.random(90) < 0.9, strict=True)
    ]
    single = [write(item) for item in items]
    assert Molecule(None, "too-long") in single
    for size in (1, 7, 90):
        chunks = (items[start : start + size] for start in range(0, len(items), size))
        assert [molecule for done in write_all(write, chunks, len(items), None) for molecule in done] == single
    for item, molecule in zip(items, single, strict=True):
        if item[1] and molecule.smiles is not None:
            assert molecule.smiles == Chem.CanonSmiles(reference(vocabulary.decode(item[0])))


def test_the_script_that_compares_everything(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [str(SAMPLE), "--most", "100", "--random", "300", "--reread", "50", "--limits", "molvae", "hypervalent"]
    monkeypatch.setattr(codec_module, "COMPILE_AFTER", codec_module.COMPILE_AFTER)
    assert main([*arguments, "--quiet"]) == 0
    out = capsys.readouterr().out
    assert out.count("strings 100,") == 8
    assert "0 in all differ" in out
    monkeypatch.setattr(codec_module, "write_smiles", lambda meanings: "C")
    assert main([str(SAMPLE), "--most", "20", "--quiet"]) == 20


def test_the_passes_are_plain_python_until_they_are_compiled() -> None:
    tables = codec_kernel.make_tables([read_meaning(token) for token in MOSES])
    kernel = codec_kernel.Kernel(
        codec_kernel._clean, codec_kernel._derive, codec_kernel._close_rings, codec_kernel._write
    )
    rows = random_rows(MOSES, 25)
    ids, offsets = flatten([[MOSES.index(token) for token in row] for row in rows])
    texts, refused = kernel.decode(np.array(ids, np.int32), np.array(offsets), tables)
    assert texts == list(map(reference, rows))
    assert refused == []
