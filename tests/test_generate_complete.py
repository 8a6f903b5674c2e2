"""Molecules with missing pieces: how masks are read and refused, filled with just as many atoms, and ranked."""

from __future__ import annotations

import inspect
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rdkit import Chem
from tiny import untrained

from molvae.api import MolVAE
from molvae.chem.masks import Masked, Size, heavy_atoms, is_masked, read_masked
from molvae.chem.open_ends import lay_out
from molvae.chem.selfies import decode
from molvae.cli import impute
from molvae.cli.main import main
from molvae.config import Config, ObjectiveConfig
from molvae.data.vocabulary import EOS
from molvae.errors import ConfigError, InputError
from molvae.generate.anomaly import measure_oddities
from molvae.generate.chemistry import Read, Readable
from molvae.generate.complete import SAMPLES, TRIES, Completions, around, atom_texts, complete, complete_one, draw_sizes
from molvae.generate.constrained import ENDLESS, Filling, Kind, grammar_of
from molvae.generate.sampling import SamplingOptions
from molvae.generate.scaffold import Writer, Yield
from molvae.nn.checkpoint import LoadedModel, load_model

LINKER = "c1ccccc1{3}C(=O)Nc1ccccc1"
FEW = 24
"""Sequences where what is written does not matter."""

AMIDE, WHOLE = "Cc1ccc(C(={1})NCc2ccccc2OC)cc1", "COc1ccccc1CNC(=O)c1ccc(C)cc1"
"""As large as the molecules that the model knows: of much smaller ones it has no opinion."""


@pytest.fixture(scope="module")
def moses() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model("moses", "cpu")


@pytest.fixture(scope="module")
def wild(moses: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return untrained(moses.vocabulary, tmp_path_factory.mktemp("m"), 60)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("C{?", "brace without its partner"), ("C}", "brace without its partner"), ("C{x}", "{x} .* no missing piece"),
        ("C{}", "no missing piece"), ("C{-1}", "no missing piece"), ("C{0}", "no number of heavy atoms"),
        ("C{5..2}", "no number of heavy atoms"), ("C{61}", "no number of heavy atoms"),
        ("CC", "0 missing pieces; 1 to 3"),
        ("C({1})({2})({2}){2}", "4 missing pieces"), ("[*]C{2}", r"a \* beside"), ("c1cc{2}", "cannot be read"),
        ("CC(C)(C)(C){2}", "valence"), ("C{?}.C", "more than one molecule"), ("{?}", "Nothing .* is given"),
        ("{1}", "Nothing .* is given"), ("C{2}{?}", "side by side"), ("C={2}", "another bond than a single one"),
        ("C1C{2}C1", "in a ring"), ("C{2}(C)C", "joins too much"), ("C{?}C{2}C", "joins too much"),
    ],
)  # fmt: skip
def test_masks_that_make_no_sense_are_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        read_masked(text)
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("text", "scaffold", "sizes", "atoms"),
    [
        ("c1ccccc1{?}", "*c1ccccc1", (Size(),), 6),
        ("c1ccccc1{3}C(=O)N", "*C(N)=O.*c1ccccc1", (Size(3, 3),), 9),
        ("{ 2..5 }c1ccc({?})cc1", "*c1ccc(*)cc1", (Size(2, 5), Size()), 6),
        ("F[C@H](C){2}c1ccccc1", "F[C@H](C)*.*c1ccccc1", (Size(2, 2),), 9),
    ],
)
def test_what_is_given_is_open_at_the_masks(text: str, scaffold: str, sizes: tuple[Size, ...], atoms: int) -> None:
    masked = read_masked(text)
    assert masked.scaffold is not None
    mol = Chem.Mol(masked.scaffold.mol)
    for atom in mol.GetAtoms():
        atom.SetIsotope(0)
    assert Chem.MolToSmiles(mol) == Chem.CanonSmiles(scaffold)
    assert (masked.sizes, masked.atoms) == (sizes, atoms)
    assert masked.scaffold.linking == ("." in scaffold)


def test_pieces_are_told_by_their_sizes_where_symmetry_leaves_a_choice() -> None:
    mol = Chem.MolFromSmiles("Cc1ccc(CCC)cc1")
    assert read_masked("{1}c1ccc({3})cc1").pieces(mol) == ("[*]C", "[*]CCC")
    assert read_masked("{3}c1ccc({1})cc1").pieces(mol) == ("[*]CCC", "[*]C")
    assert read_masked("{2}c1ccc({2})cc1").pieces(mol) is None
    assert read_masked("{?}c1ccc({2..4})cc1").pieces(mol) == ("[*]C", "[*]CCC")
    assert read_masked("{?}c1ccccc1").pieces(mol) is None
    assert read_masked("CC(=O)N{1}").pieces(Chem.MolFromSmiles("CC(=O)NC")) is None  # one atom is tried, not found
    assert heavy_atoms("[1*]C([2*])C#N") == 3
    assert [count in Size(2, 5) for count in (1, 2, 5, 6)] == [False, True, True, False]
    assert 99 in Size()
    assert [is_masked(text) for text in ("C{?}", "C}", "C[*]", "")] == [True, True, False, False]


@pytest.mark.parametrize("kind", ["tail", "link"])
@pytest.mark.parametrize("size", [1, 2, 5, 11])
def test_a_gap_of_a_number_of_atoms_gets_just_as_many(moses: LoadedModel, kind: Kind, size: int) -> None:
    grammar, rng, ended, dead = grammar_of(moses.vocabulary), random.Random(size), 0, 0
    for _ in range(60):
        filling, written = Filling(grammar, kind, 4, size), []
        while not filling.done:
            number = filling.mask()
            if number in grammar.dead:
                dead += 1
                break
            token = rng.choice(grammar.allowed(number))
            filling.take(token)
            written.append(token)
        if not filling.done:
            continue
        assert written.pop() == EOS
        assert filling.atoms == size
        after = ["[Br]"] if kind == "link" else []
        mol = Chem.MolFromSmiles(decode(["[Cl]", "[C]", *moses.vocabulary.decode(written), *after]))
        radical = any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
        ended += not radical
        assert mol.GetNumAtoms() == size + 2 + len(after)
        if kind == "link":
            (bromine,) = [atom for atom in mol.GetAtoms() if atom.GetSymbol() == "Br"][-1:]
            assert bromine.GetDegree() == 1
    assert ended > 30
    assert dead < 20


def test_a_gap_without_a_number_is_as_before(moses: LoadedModel) -> None:
    grammar = grammar_of(moses.vocabulary)
    filling = Filling(grammar, "tail", 3)
    assert filling.to_come == ENDLESS
    carbon = moses.vocabulary.tokens.index("[C]")
    for _ in range(3):
        filling.take(carbon)
    assert grammar.allowed(filling.mask()) == [EOS]
    sized = Filling(grammar, "tail", 3, 5)
    for _ in range(4):
        sized.take(carbon)
        assert EOS not in grammar.allowed(sized.mask())
    sized.take(carbon)
    assert carbon not in grammar.allowed(sized.mask())
    assert EOS in grammar.allowed(sized.mask())


def test_with_one_open_position_at_a_time_each_is_last() -> None:
    masked = read_masked("{2}c1ccc({3})cc1")
    assert masked.scaffold is not None
    for layout in lay_out(masked.scaffold.mol, 0, at_once=1):
        assert (len(layout.labels), len(layout.left)) == (1, 1)
        assert {layout.labels[0], layout.left[0][0]} == {1, 2}


@pytest.mark.parametrize(
    "text",
    [LINKER, "O=C(Nc1ccccc1){2..4}", "{2}c1ccc({5})cc1", "CN1CCC({?})CC1", "c1ccccc1{?}N1CCOCC1",
     "{?}c1ccc2nc({3})ccc2c1"],
)  # fmt: skip
def test_whatever_is_written_completes_what_is_given_with_pieces_of_the_sizes(wild: LoadedModel, text: str) -> None:
    masked = read_masked(text)
    assert masked.scaffold is not None
    generator = torch.Generator().manual_seed(0)
    options = SamplingOptions(temperature=1.0)
    at_once = 3 if all(size.high is None for size in masked.sizes) else 1
    writer = Writer(
        wild, masked.scaffold, options, lambda _, n, chance: torch.randn((n, 6), generator=chance), 0, at_once
    )
    counts = Yield()
    rows = writer.compose(torch.randn((40, 6)), counts, sizes=draw_sizes(masked, 40, generator))
    assert counts.decoded == 40 + counts.partial
    whole = 0
    for row in rows:
        mol = Chem.MolFromSmiles(writer.text(row)) if row.token_ids else None
        if mol is None or any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()):
            continue
        pieces = masked.pieces(Chem.MolFromSmiles(Chem.MolToSmiles(mol)))
        assert pieces is not None, writer.text(row)
        assert all(heavy_atoms(piece) in size for piece, size in zip(pieces, masked.sizes, strict=True))
        assert mol.GetNumAtoms() == masked.atoms + sum(map(heavy_atoms, pieces))
        whole += 1
    assert whole > 20


def test_sizes_are_drawn_from_what_was_asked() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = draw_sizes(read_masked("{2..4}c1ccc({?})cc1"), 60, generator)
    assert {tuple(each) for each in drawn} == {(1,)}
    assert {each[1] for each in drawn} == {2, 3, 4}
    links = draw_sizes(read_masked("c1ccccc1{?}C"), 200, generator)
    assert all(each[1] == each[2] for each in links)
    assert {each[1] for each in links} == set(range(1, 13))


def test_completions_are_ranked_by_the_likelihood_of_the_whole_molecule(moses: LoadedModel) -> None:
    table = complete(moses, [LINKER], 6, tries=FEW, seed=3)
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    assert len(table) > 2
    assert (table["state"] == "ok").all()
    assert table["smiles"].is_unique
    assert (np.diff(table["nats"]) >= 0).all()
    assert table["share"].sum() == pytest.approx(1)
    read = [Read(moses.vocabulary)(text) for text in table["smiles"]]
    rows = [one.token_ids for one in read if isinstance(one, Readable)]
    exact = [odd.nats for odd in measure_oddities(moses, rows, SAMPLES, 3)]
    np.testing.assert_allclose(table["nats"], exact, rtol=1e-3)
    masked = read_masked(LINKER)
    for text, pieces in zip(table["smiles"], table["pieces"], strict=True):
        found = masked.pieces(Chem.MolFromSmiles(text))
        assert found == (pieces,)
        assert heavy_atoms(pieces) == 3
    counts = table.attrs["yield"]
    assert counts["decoded"] == FEW
    assert counts["decoded"] == sum(counts[name] for name in ("new", "again", "failed", "lost"))
    assert "that complete what is given of 24 sequences" in table.attrs["yield_line"]
    pd.testing.assert_frame_equal(table, complete(moses, [LINKER], 6, tries=FEW, seed=3))


def test_one_atom_is_tried_with_every_element_wherever_it_is(moses: LoadedModel) -> None:
    assert {"C", "N", "O", "S", "F", "Cl", "Br", "c", "n", "o", "s", "[nH]"} <= set(atom_texts(moses.vocabulary))
    table = complete(moses, ["Cc1cc{1}cc1C(=O)NC1CC1", AMIDE, "CC({1})(C)c1ccccc1"], 9)
    rows = {text: set(part["smiles"]) for text, part in table.groupby("input")}
    assert rows["Cc1cc{1}cc1C(=O)NC1CC1"] == {Chem.CanonSmiles(f"Cc1cc{atom}cc1C(=O)NC1CC1") for atom in "cn"}
    assert {WHOLE, WHOLE.replace("=O", "=S")} <= rows[AMIDE]
    best = table[(table["input"] == AMIDE) & (table["rank"] == 1)]
    assert best["smiles"].tolist() == [WHOLE]
    assert best["pieces"].tolist() == ["O"]
    assert all(Chem.MolFromSmiles(text).GetNumAtoms() == 10 for text in rows["CC({1})(C)c1ccccc1"])


def test_latents_of_later_rounds_lie_about_the_likeliest_so_far(moses: LoadedModel) -> None:
    found = Completions(moses, read_masked("c1ccccc1{1..9}"), 0)
    found.add([("CCc1ccccc1", None), ("CCc1ccccc1", None), ("c1ccccc1CCO", None), ("C", None), ("", None)])
    assert list(found.found) == ["CCc1ccccc1", "OCCc1ccccc1"]
    assert vars(found.counts) == {"decoded": 0, "new": 2, "again": 1, "partial": 0, "failed": 1, "lost": 1}
    first, second = found.ranked
    assert first.nats <= second.nats
    z = around([first, second], 400, torch.Generator().manual_seed(0))
    for place, each in enumerate((first, second)):
        away = (z[place::2] - each.mean) / each.std
        assert abs(float(away.mean())) < 0.05
        assert float(away.std()) == pytest.approx(1, abs=0.05)
    assert [one.smiles for one in found.best(1, 2)] == [found.best(2, 2)[0].smiles]


def test_what_cannot_be_completed_is_a_row_with_the_reason(moses: LoadedModel) -> None:
    table = complete(moses, ["C{x}", "C[Si](C)(C)C{?}", "CC{1}"], 2, tries=FEW)
    assert table["input"].unique().tolist() == ["C{x}", "C[Si](C)(C)C{?}", "CC{1}"]
    assert table["state"].tolist()[:2] == ["refused", "refused"]
    assert table["smiles"][:2].isna().all()
    assert "no missing piece" in table["detail"][0]
    assert "not trained with [Si]" in table["detail"][1]
    assert (table["state"][2:] == "ok").all()
    assert len(table.attrs["yields"]) == 3
    assert complete(moses, []).empty
    for bad in ({"k": 0}, {"tries": 0}, {"samples": 0}):
        with pytest.raises(InputError):
            complete(moses, ["C{?}"], **bad)


def test_a_model_without_a_likelihood_is_refused(wild: LoadedModel) -> None:
    plain = LoadedModel(
        wild.model, wild.vocabulary, Config(objective=ObjectiveConfig(name="ae")), wild.facts, wild.directory
    )
    with pytest.raises(ConfigError, match="needs a likelihood"):
        complete_one(plain, "C{?}")


def test_impute_on_the_command_line_completes_molecules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, picture = tmp_path / "out.csv", tmp_path / "out.svg"
    common = ["-m", "moses", "--device", "cpu", "-k", "3", "-o", str(out)]
    assert main(["impute", AMIDE, *common, "--svg", str(picture)]) == 0
    said = capsys.readouterr().out
    assert f"{AMIDE}: likeliest {WHOLE}" in said
    assert "yield " in said
    table = pd.read_csv(out)
    assert list(table.columns) == ["input", "rank", "smiles", "pieces", "nats", "share", "state", "detail"]
    assert "<svg" in picture.read_text("utf-8")
    many = tmp_path / "many.csv"
    many.write_text("name,smiles\na,c1ccc{1}cc1\nb,CCO\n")
    assert main(["impute", str(many), *common]) == 0
    assert "warning: CCO: 'CCO' has 0 missing pieces" in capsys.readouterr().out
    assert pd.read_csv(out)["state"].value_counts()["refused"] == 1
    assert main(["impute", "C{?", *common]) == 2
    assert "brace without its partner" in capsys.readouterr().err
    assert main(["impute", "C{1}", *common, "--by-head"]) != 0


def test_the_verb_writes_as_many_sequences_as_the_function() -> None:
    assert inspect.signature(impute.command).parameters["tries"].default == TRIES


def test_pictures_are_for_missing_pieces_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "plain.csv"
    table.write_text("smiles,logp\nCCO,\n")
    assert main(["impute", str(table), "-m", "moses", "--svg", str(tmp_path / "a.svg")]) != 0
    assert "Pictures are drawn of molecules with missing pieces" in capsys.readouterr().err


def test_the_python_interface_gives_the_same_table(moses: LoadedModel) -> None:
    table = MolVAE(moses).complete(["c1ccc{1}cc1C", "CC{1}"], 2, seed=1)
    pd.testing.assert_frame_equal(table, complete(moses, ["c1ccc{1}cc1C", "CC{1}"], 2, seed=1))
    assert isinstance(read_masked("CC{1}"), Masked)
