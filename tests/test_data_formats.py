"""SD and Parquet files in and out: the same molecules, the same rows, and every flaw explained."""

from __future__ import annotations

import gzip
import os
import resource
import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from nasty import load_nasty
from rdkit import Chem
from rdkit.Chem import AllChem

from molvae.chem.rejected import Rejected
from molvae.chem.sdf import MAX_RECORD, draw_molblock, format_record, molblock_smiles, split_records
from molvae.chem.standardize import Standardized, standardize
from molvae.cli.main import main
from molvae.config import Config, ModelConfig
from molvae.data import prepare as preparing
from molvae.data.parquet import to_arrow
from molvae.data.prepare import PrepareOptions, prepare
from molvae.data.sdf import write_sdf
from molvae.data.splits import Splitter
from molvae.data.table import Table, count_rows, read_smiles
from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError, OutputError
from molvae.nn.checkpoint import save_model
from molvae.nn.model import SequenceVAE

ALANINE = "C[C@H](N)C(=O)O"
BY_HAND = [
    ALANINE, "C/C=C/C", "C/C=C\\C", "CC=CC", "C[N+](C)(C)CC(=O)[O-]", "[13CH4]", "[2H]C([2H])([2H])O",
    "[Na+].CC(=O)[O-]", "C[NH3+].[Cl-]", "c1cc[nH]c1", "[O-][n+]1ccccc1", "OB(O)c1ccccc1", "C[S@](=O)c1ccccc1",
    "C[CH2]", "[CH3]", "C[Si](C)C", "F[P-](F)(F)(F)(F)F", "C1CC1[C@@]1(O)CC[C@H](F)C1", "CC(=NO)c1ccccc1",
    "C[C@@H]1CC[C@H](C)CC1", "O=[N+]([O-])c1ccccc1",
]  # fmt: skip
OPTIONS = PrepareOptions(splitter=Splitter(valid=0, test=0), properties=(), workers=1)


def hard_molecules(n: int) -> list[str]:
    """Return canonical SMILES with stereo, charges, isotopes, several parts; different from each other."""
    found = []
    for smiles in [*BY_HAND, *(smiles for smiles, _, _ in load_nasty() if len(smiles) < 120 and "*" not in smiles)]:
        standard = standardize(smiles)
        if isinstance(standard, Standardized) and (smiles in BY_HAND or any(sign in smiles for sign in "@/\\+-.[")):
            found.append(standard.smiles)
    return list(dict.fromkeys(found))[:n]


def write(path: Path, table: pd.DataFrame, smiles: str = "smiles") -> int:
    with path.open("w", encoding="utf-8") as handle:
        return write_sdf(handle, table, smiles, workers=1)


def sdf(path: Path, *records: tuple[str, dict[str, str]]) -> str:
    path.write_text("".join(format_record(block, fields.items()) for block, fields in records))
    return str(path)


def block(smiles: str) -> str:
    return draw_molblock(smiles).block


def rows(table: Table) -> list[list[str] | str]:
    return list(table.rows())


def test_two_hundred_hard_molecules_come_back_the_same(tmp_path):
    molecules = hard_molecules(200)
    assert len(molecules) == 200
    assert sum("@" in one for one in molecules) > 30
    assert sum("." in one for one in molecules) > 10
    assert sum("+" in one for one in molecules) > 30
    assert sum(any(f"[{mass}" in one for mass in range(1, 10)) for one in molecules) > 3
    differing = write(tmp_path / "out.sdf", pd.DataFrame({"smiles": molecules}))
    assert read_smiles(tmp_path / "out.sdf") == molecules
    # A drawing alone is enough for nearly all; what it cannot say stands beside it.
    drawn = [molblock_smiles(record.block) for record in split_records((tmp_path / "out.sdf").open())]
    assert sum(one != other for one, other in zip(drawn, molecules, strict=True)) == differing
    # Molfiles lack a sign for the stereochemistry of Se, As, Pt, Co and two cages, and for a charge of -100.
    assert differing <= 8
    assert all(draw_molblock(standardize(one).smiles).exact for one in BY_HAND)


def test_rdkit_reads_what_is_written(tmp_path):
    table = pd.DataFrame(
        {"smiles": [ALANINE, None, "CCO"], "qed": [0.5, float("nan"), 0.25], "ok": [True, False, True]}
    )
    write(tmp_path / "out.sdf", table)
    read = list(Chem.SDMolSupplier(str(tmp_path / "out.sdf")))
    assert [Chem.MolToSmiles(mol) for mol in read] == [ALANINE, "", "CCO"]
    assert [mol.GetPropsAsDict() for mol in read] == [
        {"smiles": ALANINE, "qed": 0.5, "ok": "True"},
        {"ok": "False"},
        {"smiles": "CCO", "qed": 0.25, "ok": "True"},
    ]
    assert read[0].GetConformer().GetPositions()[:, :2].std() > 0.5
    assert not read[0].GetConformer().GetPositions()[:, 2].any()


def test_texts_cannot_break_out_of_their_record(tmp_path):
    table = pd.DataFrame({"smiles": ["C", "CC"], "a>\n<b": ["x\n\n$$$$\nM  END", "> <c>"]})
    write(tmp_path / "out.sdf", table)
    opened = Table(str(tmp_path / "out.sdf"))
    assert opened.columns == ("smiles", "smiles_2", "a b")
    assert rows(opened) == [["C", "C", "x $$$$ M END"], ["CC", "CC", "> <c>"]]
    assert [mol.GetProp("a b") for mol in Chem.SDMolSupplier(str(tmp_path / "out.sdf"))] == ["x $$$$ M END", "> <c>"]


def test_the_drawing_that_says_less_is_not_read(tmp_path):
    selenium = standardize("C[Se@](=O)c1ccccc1").smiles
    assert not draw_molblock(selenium).exact
    assert write(tmp_path / "out.sdf", pd.DataFrame({"output": [selenium, "C"]}), "output") == 1
    opened = Table(str(tmp_path / "out.sdf"))
    assert opened.columns == ("smiles", "output")
    assert [row[0] for row in rows(opened)] == [selenium, "C"]


def test_properties_are_columns_and_rows_keep_their_place(tmp_path):
    path = sdf(tmp_path / "a.sdf", (block("CCO"), {"id": "x1", "IC50": "2.5"}), (block("CC"), {"note": "late"}))
    opened = Table(path)
    assert opened.columns == ("smiles", "id", "IC50", "note")
    assert rows(opened) == [["CCO", "x1", "2.5", ""], ["CC", "", "", "late"]]
    assert opened.numeric_columns() == ["IC50"]
    assert read_smiles(path, "id") == ["x1", ""]
    with pytest.raises(InputError, match="no column mol"):
        Table(path, "mol")


def test_multi_line_texts_and_odd_line_ends(tmp_path):
    text = (
        block("CCO").replace("\n", "\r\n") + ">  25 <a> (MD-1)\r\none\r\ntwo\r\n\r\n> DT9\r\n3\r\n\r\n$$$$\r\n\r\n \r\n"
    )
    (tmp_path / "a.sdf").write_bytes(text.encode())
    opened = Table(str(tmp_path / "a.sdf"))
    assert opened.columns == ("smiles", "a", "DT9")
    assert rows(opened) == [["CCO", "one\ntwo", "3"]]


def test_names_that_come_late_are_named_and_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("molvae.data.table.HEAD", 1)
    path = sdf(tmp_path / "a.sdf", (block("CCO"), {"a": "1"}), (block("CC"), {"a": "2", "b": "3"}))
    opened = Table(path)
    assert rows(opened) == [["CCO", "1"], ["CC", "2"]]
    assert opened.late == ("b",)
    summary = prepare([path], tmp_path / "set", OPTIONS)
    assert summary.properties == ("a",)
    assert summary.left_out == ("b",)


GOOD = block("CCO")
FLAWS = {
    "counts": (GOOD.replace("  3  2", "  x  2"), "counts line is not readable"),
    "too few lines": (GOOD.replace("  3  2", " 30  2"), "names 30 atoms"),
    "no end": (GOOD.replace("M  END\n", ""), "without M  END"),
    "no such element": (GOOD.replace(" C  ", " Xx "), "cannot read its atoms"),
    "bond to nowhere": (GOOD.replace("  1  2  1", "  1  9  1"), "cannot read its atoms"),
    "query bond": (GOOD.replace("  1  2  1  0", "  1  2  8  0"), "a query, not a molecule"),
    "query atom": (GOOD.replace(" O  ", " Q  "), "a query, not a molecule"),
    "too large": ("\n\n\n" + "x" * 99 + "\n" + "x\n" * (MAX_RECORD // 2) + "M  END\n", "more than"),
    "not a structure": ("CCO\n", "without M  END"),
    "V3000 without end": ("\n\n\n  0  0  0     0  0            999 V3000\nM  V30 BEGIN CTAB\nM  END\n", "V3000"),
    "too many atoms": ("\n\n\n  0  0  0     0  0        999 V3000\nM  V30 COUNTS 1001 0 0 0 0\nM  END\n", "1001 atoms"),
}  # fmt: skip


@pytest.mark.parametrize("case", FLAWS)
def test_a_flawed_record_is_one_explained_row(tmp_path, case):
    flawed, problem = FLAWS[case]
    path = sdf(tmp_path / "a.sdf", (GOOD, {"n": "1"}), (flawed, {"n": "2"}), (block("CC"), {"n": "3"}))
    found = rows(Table(path))
    assert len(found) == 3
    assert problem in found[1]
    assert [found[0], found[2]] == [["CCO", "1"], ["CC", "3"]]
    summary = prepare([path], tmp_path / "set", OPTIONS)
    assert (summary.read, summary.accepted, dict(summary.reasons)) == (3, 2, {"missing": 1})
    (row, rejected), = summary.examples  # fmt: skip
    assert row == 2
    assert problem in rejected.detail
    assert pd.read_parquet(tmp_path / "set" / "molecules.parquet")["row"].tolist() == [1, 3]


def test_impossible_chemistry_is_refused_by_its_own_name(tmp_path):
    pentavalent = Chem.MolFromSmiles("CC(C)(C)(C)C", sanitize=False)
    path = sdf(tmp_path / "a.sdf", (GOOD, {}), (Chem.MolToMolBlock(pentavalent, kekulize=False), {}))
    summary = prepare([path], tmp_path / "set", OPTIONS)
    assert dict(summary.reasons) == {"sanitize": 1}
    assert "valence" in summary.examples[0][1].detail


def test_a_file_cut_off_is_said_and_a_last_record_without_its_end_is_read(tmp_path):
    text = format_record(block("CC"), [("a", "1")]) + GOOD
    (tmp_path / "whole.sdf").write_text(text)
    assert read_smiles(tmp_path / "whole.sdf") == ["CC", "CCO"]
    (tmp_path / "cut.sdf").write_text(text[:-40])
    assert rows(Table(str(tmp_path / "cut.sdf")))[1] == "a record without M  END: the file is cut off"


@pytest.mark.parametrize("content", ["smiles\nCCO\n", "\n\n\n\n$$$$\n", "$$$$\n$$$$\n"])
def test_a_file_without_any_record_is_refused(tmp_path, content):
    (tmp_path / "a.sdf").write_text(content)
    with pytest.raises(InputError, match="no record that can be read"):
        Table(str(tmp_path / "a.sdf"))


def test_three_dimensions_tell_the_stereochemistry_and_are_forgotten():
    for smiles in (ALANINE, "C[C@@H](N)C(=O)O", "C/C=C/Cl", "C/C=C\\Cl"):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        assert AllChem.EmbedMolecule(mol, randomSeed=1) == 0
        assert molblock_smiles(Chem.MolToMolBlock(mol)) == Chem.CanonSmiles(smiles)
        assert molblock_smiles(Chem.MolToV3KMolBlock(mol)) == Chem.CanonSmiles(smiles)


def test_no_molecule_has_no_atoms():
    assert molblock_smiles(block("")) == ""
    assert draw_molblock("").exact
    assert not draw_molblock("C(").exact
    assert isinstance(molblock_smiles("junk"), Rejected)


def test_a_pipe_and_gzip_are_read_and_counted(tmp_path):
    path = sdf(tmp_path / "a.sdf", (GOOD, {}), (block("CC"), {}))
    (tmp_path / "a.SDF.gz").write_bytes(gzip.compress(Path(path).read_bytes()))
    assert read_smiles(tmp_path / "a.SDF.gz") == ["CCO", "CC"]
    assert count_rows(path) == count_rows(str(tmp_path / "a.SDF.gz")) == 2
    os.mkfifo(tmp_path / "pipe.sdf")
    content = Path(path).read_bytes()
    threading.Thread(target=(tmp_path / "pipe.sdf").write_bytes, args=(content,), daemon=True).start()
    assert count_rows(str(tmp_path / "pipe.sdf")) is None
    assert read_smiles(tmp_path / "pipe.sdf") == ["CCO", "CC"]


def test_standard_input_may_be_sdf(run_molvae, tmp_path):
    path = sdf(tmp_path / "a.sdf", (GOOD, {}), (FLAWS["counts"][0], {}))
    done = run_molvae("check", "-", "--no-alerts", input=Path(path).read_text())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("CCO,CCO,ok")
    assert "1 of 2 rows cannot be read, the first: row 2: parse: its counts line is not readable" in done.stderr


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("molvae.data.table.HEAD", 10)
    record = format_record(block("C"), [("note", "x" * 40_000)])
    small, large = tmp_path / "small.sdf", tmp_path / "large.sdf"
    small.write_text(record * 50)
    large.write_text(record * 1700)

    def peak(path: Path) -> int:
        assert all(isinstance(row, list) for row in Table(str(path)).rows())
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = peak(small)
    # 66 MB more in the file; the first ten records are looked at together, the others one by one.
    assert peak(large) - before < 20_000


PARQUET = {
    "smiles": ["CCO", None, "C("],
    "count": [1, 2, None],
    "value": [0.1, float("nan"), 1e-12],
    "flag": [True, None, False],
    "tags": [["a"], None, []],
}


def test_parquet_columns_are_cells(tmp_path):
    path = tmp_path / "a.parquet"
    types = {"count": pa.int64(), "flag": pa.bool_(), "value": pa.float64(), "smiles": pa.string()}
    schema = pa.schema([(name, types.get(name, pa.list_(pa.string()))) for name in PARQUET])
    pq.write_table(pa.table(PARQUET, schema=schema), path)
    opened = Table(str(path))
    assert opened.columns == tuple(PARQUET)
    assert rows(opened) == [
        ["CCO", "1", "0.1", "True", "['a']"], ["", "2", "nan", "", ""], ["C(", "", "1e-12", "False", "[]"],
    ]  # fmt: skip
    assert opened.numeric_columns() == ["count", "value"]
    assert count_rows(str(path)) == 3
    summary = prepare([str(path)], tmp_path / "set", OPTIONS)
    assert dict(summary.reasons) == {"empty": 1, "parse": 1}
    kept = pd.read_parquet(tmp_path / "set" / "molecules.parquet")
    assert kept[["count", "value"]].to_numpy()[0] == pytest.approx([1.0, 0.1])


def test_parquet_is_read_a_batch_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("molvae.data.parquet.BATCH", 7)
    smiles = ["C" * (1 + n % 50) for n in range(2500)]
    pd.DataFrame({"n": range(2500), "SMILES": smiles}).to_parquet(tmp_path / "a.parquet")
    opened = Table(str(tmp_path / "a.parquet"))
    assert opened.columns[opened.smiles] == "SMILES"
    assert rows(opened) == [[str(n), one] for n, one in enumerate(smiles)]


def test_a_dataset_can_be_prepared_from_its_own_table_and_manifest_names_it(tmp_path):
    (tmp_path / "a.smi").write_text("CCO\nCCN\n")
    prepare([str(tmp_path / "a.smi")], tmp_path / "one", OPTIONS)
    table = tmp_path / "one" / "molecules.parquet"
    prepare([str(table)], tmp_path / "two", OPTIONS)
    assert read_smiles(tmp_path / "two" / "molecules.parquet") == ["CCO", "CCN"]
    manifest = pd.read_json(tmp_path / "two" / "manifest.json", typ="series")
    entry = manifest["inputs"][0]
    assert (entry["name"], entry["bytes"]) == ("molecules.parquet", table.stat().st_size)
    assert entry["sha256"] == preparing.Table(str(table)).source.sha256


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.parquet", b"", "no readable Parquet"),
        ("a.parquet", b"smiles\nC\n", "no readable Parquet"),
        ("a.parquet", b"PAR1" + b"\0" * 100 + b"PAR1", "no readable Parquet"),
        ("a.parquet", None, "is not there"),
        ("a.parquet.gz", b"x", "unknown suffix"),
        ("a.mol2", b"x", r"unknown suffix \.mol2"),
        ("a.csv", b"PAR1" + b"\0" * 100, "a Parquet file"),
    ],
)
def test_files_that_are_not_what_they_say(tmp_path, name, content, problem):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=problem) as stop:
        Table(str(tmp_path / name))
    assert ".sdf" in stop.value.remedy or ".parquet" in stop.value.remedy or "Copy" in stop.value.remedy


def test_parquet_damaged_in_the_middle(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"smiles": ["C" * (1 + n % 90) for n in range(5000)]}).to_parquet(path)
    content = bytearray(path.read_bytes())
    content[20:300] = b"\xff" * 280
    path.write_bytes(content)
    with pytest.raises(InputError, match="to its end"):
        rows(Table(str(path)))


def test_typed_columns():
    table = pd.DataFrame(
        {
            "text": pd.Series(["a", None], dtype=object),
            "flag": pd.Series([True, None], dtype=object),
            "mixed": pd.Series(["a", 1.5], dtype=object),
            "number": [1.0, float("nan")],
            "count": [1, 2],
            "plain": ["x", "y"],
        }
    )
    arrow = to_arrow(table)
    assert [str(kind) for kind in arrow.schema.types] == ["string", "bool", "string", "double", "int64", "string"]
    assert arrow["number"].to_pylist() == [1.0, None]
    assert arrow["flag"].to_pylist() == [True, None]


def verb(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def test_check_writes_every_format_alike(tmp_path, capsys):
    (tmp_path / "in.smi").write_text("\n".join([ALANINE, "C(", "C[Se@](=O)c1ccccc1", "[Na+].[Cl-]"]) + "\n")
    for name in ("a.csv", "a.tsv.gz", "a.parquet", "a.sdf", "a.sdf.gz", "a.smi.gz"):
        verb("check", tmp_path / "in.smi", "--no-alerts", "-o", tmp_path / name)
    assert "1 of 4 drawings cannot say everything" in capsys.readouterr().out
    csv = pd.read_csv(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(csv, pd.read_csv(tmp_path / "a.tsv.gz", sep="\t"))
    parquet = pd.read_parquet(tmp_path / "a.parquet")
    assert list(parquet.columns) == list(csv.columns)
    assert parquet["sane"].dtype == bool
    assert parquet["n_atoms"].tolist() == csv["n_atoms"].tolist()
    expected = ["" if pd.isna(one) else one for one in csv["smiles"]]
    assert read_smiles(tmp_path / "a.sdf") == expected
    assert gzip.decompress((tmp_path / "a.sdf.gz").read_bytes()) == (tmp_path / "a.sdf").read_bytes()
    assert gzip.decompress((tmp_path / "a.smi.gz").read_bytes()).decode().split() == [one for one in expected if one]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] == ".") == []


@pytest.mark.parametrize("name", ["a.xlsx", "a.parquet.gz", "a.gz", "a", "a.mol"])
def test_an_unknown_ending_is_refused_before_the_work(tmp_path, capsys, monkeypatch, name):
    monkeypatch.setattr("molvae.chem.checks.check_many", lambda *given, **named: pytest.fail("it worked first"))
    (tmp_path / "in.smi").write_text("C\n")
    assert main(["check", str(tmp_path / "in.smi"), "-o", str(tmp_path / name)]) == OutputError.exit_code
    said = capsys.readouterr().err
    assert all(ending in said for ending in (".csv", ".sdf", ".parquet"))


def test_optimize_takes_a_directory_and_says_what_else_was_meant(tmp_path, capsys):
    assert main(["optimize", "--oracle", "qed", "-o", str(tmp_path / "out.sdf")]) == OutputError.exit_code
    assert "--best" in capsys.readouterr().err
    arguments = ["optimize", "--oracle", "qed", "-o", str(tmp_path / "run"), "--best", str(tmp_path / "best.xlsx")]
    assert main(arguments) == OutputError.exit_code
    assert ".sdf" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_tokens(["[C]", "[O]", "[N]", "[=O]", "[C@@H1]", "[Branch1]", "[=Branch1]"])
    config = Config(model=ModelConfig(embedding=8, encoder_hidden=16, decoder_hidden=16, decoder_layers=1, latent=4))
    directory = tmp_path_factory.mktemp("model")
    facts = {"max_tokens": 20, "prior": None}
    save_model(directory, SequenceVAE(config.model, len(vocabulary)), vocabulary, config, facts)
    return directory


def test_through_the_model_and_back(model, tmp_path, capsys):
    write(tmp_path / "in.sdf", pd.DataFrame({"smiles": ["CCO", "c1ccccc1", "CCN"]}))
    for name in ("z.csv", "z.parquet", "z.sdf"):
        verb("encode", tmp_path / "in.sdf", "-m", model, "-o", tmp_path / name)
    types = pq.read_schema(tmp_path / "z.parquet")
    assert [str(types.field(name).type) for name in ("input", "state", "z0")] == ["string", "string", "float"]
    assert pd.read_parquet(tmp_path / "z.parquet")["z0"].isna().tolist() == [False, True, False]
    for name in ("z.csv", "z.parquet"):
        verb("decode", tmp_path / name, "-m", model, "-o", tmp_path / f"{name}.csv")
    assert (tmp_path / "z.csv.csv").read_bytes() == (tmp_path / "z.parquet.csv").read_bytes()
    capsys.readouterr()
    verb("decode", tmp_path / "z.parquet", "-m", model, "-o", tmp_path / "back.sdf")
    assert "1 missing" in capsys.readouterr().out
    expected = pd.read_csv(tmp_path / "z.csv.csv", keep_default_na=False)["smiles"].tolist()
    assert read_smiles(tmp_path / "back.sdf") == expected
    assert expected[1] == ""
    verb("reconstruct", tmp_path / "in.sdf", "-m", model, "-o", tmp_path / "r.sdf")
    assert rows(Table(str(tmp_path / "r.sdf")))[1][0] == ""
    assert read_smiles(tmp_path / "r.sdf", "input") == ["CCO", "c1ccccc1", "CCN"]
    verb("sample", "-n", 5, "-m", model, "-o", tmp_path / "s.sdf", "--no-alerts", "--properties", "qed")
    assert Table(str(tmp_path / "s.sdf")).numeric_columns() == ["nats", "qed"]


def test_optimize_writes_its_best_where_asked(model, tmp_path, capsys):
    write(tmp_path / "in.sdf", pd.DataFrame({"smiles": ["CCO", "CCN"]}))
    options = ("-m", model, "--start", tmp_path / "in.sdf", "--budget", 12, "--method", "random")
    verb("optimize", "--oracle", "qed", *options, "-o", tmp_path / "run", "--best", tmp_path / "best.sdf")
    assert "best.sdf" in capsys.readouterr().out
    best = pd.read_csv(tmp_path / "run" / "best.csv")
    assert read_smiles(tmp_path / "best.sdf") == best["smiles"].tolist()
    assert len(best) > 0
