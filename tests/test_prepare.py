"""``molvae prepare`` on good input: every row accounted for, everything in the dataset as promised."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from molvae.chem.properties import compute
from molvae.chem.selfies import decode
from molvae.chem.standardize import StandardizeOptions, standardize
from molvae.data.dataset import load_dataset
from molvae.data.prepare import PrepareOptions, prepare
from molvae.data.splits import Splitter
from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError, OutputError
from tests.nasty import load_nasty

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data" / "moses_sample.csv.gz"
with gzip.open(SAMPLE, "rt") as handle:
    MOSES = handle.read().split()[1:]
PLAIN = PrepareOptions(properties=())


def write(path: Path, smiles: list[str]) -> Path:
    path.write_text("smiles\n" + "\n".join(smiles) + "\n")
    return path


def rejects(directory: Path) -> list[dict[str, str]]:
    csv.field_size_limit(1 << 20)
    with (directory / "rejected.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def molecules(directory: Path) -> list[str]:
    """Decode the token ids of a dataset to canonical SMILES."""
    dataset = load_dataset(directory)
    tokens = [dataset.vocabulary.decode(dataset.token_ids(row).tolist()) for row in range(len(dataset))]
    return [standardize(decode(one)).smiles for one in tokens]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """400 molecules of MOSES, three of them twice, two broken, prepared with two properties."""
    place = tmp_path_factory.mktemp("prepared")
    rows = [*MOSES[:400], *MOSES[:2], "C(", "OCC", "CCO", "c1cccc1"]
    path = write(place / "in.csv", rows)
    options = PrepareOptions(properties=("logp", "hbd"), splitter=Splitter("random", 0.1, 0.1, seed=3))
    summary = prepare([str(path)], place / "set", options)
    assert (summary.read, summary.accepted, summary.duplicates, summary.rejected) == (406, 401, 3, 2)
    return place / "set"


def test_tokens_are_the_molecules_in_order(prepared):
    table = pd.read_parquet(prepared / "molecules.parquet")
    assert molecules(prepared) == table["smiles"].tolist()
    assert table["smiles"].tolist()[:400] == [standardize(one).smiles for one in MOSES[:400]]
    assert table["row"].tolist() == [*range(1, 401), 404]


def test_what_was_rejected_is_named(prepared):
    assert [(row["row"], row["input"], row["reason"]) for row in rejects(prepared)] == [
        ("403", "C(", "parse"),
        ("406", "c1cccc1", "sanitize"),
    ]


def test_properties_and_their_statistics(prepared):
    dataset = load_dataset(prepared)
    table = pd.read_parquet(prepared / "molecules.parquet")
    expected = compute(table["smiles"].tolist(), ["logp", "hbd"]).astype(np.float32)
    np.testing.assert_array_equal(dataset.properties, expected)
    np.testing.assert_array_equal(table[["logp", "hbd"]].to_numpy(), expected)
    train = expected[dataset.rows("train")].astype(np.float64)
    info = dataset.property_info[0]
    assert (info.name, info.n) == ("logp", len(train))
    assert info.mean == pytest.approx(train[:, 0].mean())
    assert info.std == pytest.approx(train[:, 0].std())
    assert (info.minimum, info.maximum) == (train[:, 0].min(), train[:, 0].max())


def test_splits_agree_and_have_about_their_shares(prepared):
    dataset = load_dataset(prepared)
    names = pd.read_parquet(prepared / "molecules.parquet")["split"]
    assert [["train", "valid", "test"][split] for split in dataset.split] == names.tolist()
    assert 250 < (dataset.split == 0).sum() < 380
    assert (dataset.split == 1).any()
    assert (dataset.split == 2).any()


def test_manifest_says_where_it_came_from(prepared):
    manifest = json.loads((prepared / "manifest.json").read_text())
    assert manifest["counts"]["read"] == 406
    assert manifest["counts"]["rejected_by_reason"] == {"parse": 1, "sanitize": 1}
    assert manifest["inputs"][0]["sha256"] == load_dataset(prepared).manifest["inputs"][0]["sha256"]
    assert len(manifest["inputs"][0]["sha256"]) == 64
    assert set(manifest["files"]) >= {"tokens.npy", "vocab.json", "rejected.csv", "molecules.parquet"}
    assert not [path.name for path in prepared.iterdir() if path.name.startswith(".")]


def test_same_bytes_whatever_the_number_of_workers(tmp_path):
    path = write(tmp_path / "in.csv", MOSES[:900])
    for workers in (1, 3):
        prepare([str(path)], tmp_path / str(workers), PrepareOptions(properties=("hbd",), workers=workers))
    for file in (tmp_path / "1").iterdir():
        assert file.read_bytes() == (tmp_path / "3" / file.name).read_bytes(), file.name


def test_every_nasty_string_gets_its_class(tmp_path):
    nasty = load_nasty()
    path = tmp_path / "nasty.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["smiles", "n"])
        writer.writerows([smiles, number] for number, (smiles, _, _) in enumerate(nasty))
    options = PrepareOptions(properties=(), max_rejected=1, splitter=Splitter(valid=0, test=0), smiles_column="smiles")
    summary = prepare([str(path)], tmp_path / "set", options)
    assert summary.read == 807 == summary.accepted + summary.duplicates + summary.rejected
    got = {int(row["row"]): row["reason"] for row in rejects(tmp_path / "set")}
    wanted = {row: kind.removeprefix("reject:") for row, (_, kind, _) in enumerate(nasty, 1) if "reject" in kind}
    assert got == wanted
    canonical = pd.read_parquet(tmp_path / "set" / "molecules.parquet")["smiles"].tolist()
    assert molecules(tmp_path / "set") == canonical


def test_switches_and_lost_stereo(tmp_path):
    path = write(tmp_path / "in.csv", ["C[C@H](N)C(=O)[O-].[Na+]", "F/C=C/F", "C[C@H](C)O", *MOSES[:20]])
    options = PrepareOptions(properties=(), splitter=Splitter(valid=0, test=0))
    assert prepare([str(path)], tmp_path / "kept", options).stereo_lost == 1
    bare = StandardizeOptions(largest_fragment=True, neutralise=True, stereo=False)
    summary = prepare([str(path)], tmp_path / "bare", replace(options, standardize=bare))
    assert summary.stereo_lost == 3
    assert molecules(tmp_path / "bare")[:3] == ["CC(N)C(=O)O", "FC=CF", "CC(C)O"]


def test_scaffold_split_keeps_ring_systems_together(tmp_path):
    from molvae.chem.scaffolds import murcko

    path = write(tmp_path / "in.csv", MOSES[:600])
    prepare([str(path)], tmp_path / "set", PrepareOptions(properties=(), splitter=Splitter("scaffold", 0.2, 0.2)))
    table = pd.read_parquet(tmp_path / "set" / "molecules.parquet")
    assert set(table["split"]) == {"train", "valid", "test"}
    ringed = table.assign(scaffold=table["smiles"].map(murcko)).query("scaffold != ''")
    assert (ringed.groupby("scaffold")["split"].nunique() == 1).all()


def test_column_split(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("SPLIT,smiles\ntrain,C\nTest_scaffolds,CC\nvalidation,CCC\n")
    prepare([str(path)], tmp_path / "set", PrepareOptions(properties=(), splitter=Splitter("column:SPLIT")))
    assert load_dataset(tmp_path / "set").split.tolist() == [0, 2, 1]
    path.write_text("SPLIT,smiles\ntrain,C\nelsewhere,CC\n")
    with pytest.raises(InputError, match="Row 2 has 'elsewhere'"):
        prepare([str(path)], tmp_path / "other", PrepareOptions(properties=(), splitter=Splitter("column:SPLIT")))


def test_own_columns_are_kept_and_blanks_stay_missing(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(
        "id,smiles,pIC50,logp,name\nx1,C,5.5,1,a\nx2,CC,,2,b\nx3,CCC,>10,3,c\nx4,CCCC,NA,4,d\n"
        + "".join(f"x{n},{'C' * n},{n},5,e\n" for n in range(5, 20))
    )
    summary = prepare(
        [str(path)], tmp_path / "set", PrepareOptions(properties=("logp",), splitter=Splitter(valid=0, test=0))
    )
    dataset = load_dataset(tmp_path / "set")
    assert dataset.property_names == ["logp", "pIC50", "given_logp"]
    assert np.isnan(dataset.properties[:4, 1]).tolist() == [False, True, True, True]
    assert dataset.property_info[1].n == 16
    assert summary.not_numbers == {"pIC50": 1}


def test_tokens_outside_a_vocabulary_are_named(tmp_path):
    path = write(tmp_path / "in.csv", ["CCO", "CCN", "CCBr", "CC"])
    vocabulary = Vocabulary.from_tokens(["[C]", "[O]", "[N]", "[F]"])
    options = PrepareOptions(properties=(), vocabulary=vocabulary, splitter=Splitter(valid=0, test=0))
    prepare([str(path)], tmp_path / "set", options)
    assert [(row["reason"], row["detail"]) for row in rejects(tmp_path / "set")] == [("vocabulary", "[Br]")]
    assert load_dataset(tmp_path / "set").vocabulary == vocabulary
    assert molecules(tmp_path / "set") == ["CCO", "CCN", "CC"]


def test_long_molecules_can_be_refused(tmp_path):
    path = write(tmp_path / "in.csv", ["CCO", "C" * 30])
    prepare([str(path)], tmp_path / "set", PrepareOptions(properties=(), max_tokens=10, splitter=Splitter(valid=0)))
    assert [row["reason"] for row in rejects(tmp_path / "set")] == ["too-long"]


def test_many_rejected_rows_stop_and_name_the_reason(tmp_path):
    path = write(tmp_path / "in.csv", [*MOSES[:300], *[one[:-1] + "(" for one in MOSES[300:312]], "CC O"])
    with pytest.raises(InputError, match=r"13 of 313 rows rejected \(4.2%\), 12 of them as parse .* row 301") as stop:
        prepare([str(path)], tmp_path / "set", PLAIN)
    assert "--max-rejected" in stop.value.remedy
    assert [one.name for one in tmp_path.iterdir()] == ["in.csv"]
    allowed = PrepareOptions(properties=(), max_rejected=0.05)
    assert prepare([str(path)], tmp_path / "set", allowed).rejected == 13


def test_nine_rejected_rows_are_put_up_with(tmp_path):
    path = write(tmp_path / "in.csv", [*MOSES[:30], *["C("] * 9])
    assert prepare([str(path)], tmp_path / "set", PLAIN).rejected == 9


def test_a_column_cut_by_one_character_stops(tmp_path):
    path = write(tmp_path / "in.csv", [one[:-1] for one in MOSES[:400]])
    with pytest.raises(InputError, match="rows rejected"):
        prepare([str(path)], tmp_path / "set", PLAIN)


def test_force_replaces_a_dataset_and_nothing_else(tmp_path):
    path = write(tmp_path / "in.csv", MOSES[:50])
    output = tmp_path / "set"
    prepare([str(path)], output, PLAIN)
    with pytest.raises(OutputError, match="exists"):
        prepare([str(path)], output, PLAIN)
    prepare([str(path)], output, PrepareOptions(properties=(), force=True))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years")
    with pytest.raises(OutputError, match="no dataset"):
        prepare([str(path)], mine, PrepareOptions(properties=(), force=True))
    assert (mine / "thesis.tex").read_text() == "years"


def test_several_files_are_one_input(tmp_path):
    first, second = tmp_path / "a.smi", tmp_path / "b.csv.gz"
    first.write_text("CCO ethanol\nCC\n")
    with gzip.open(second, "wt") as file:
        file.write("smiles,x\nCCC,1\nOCC,2\n")
    summary = prepare([str(first), str(second)], tmp_path / "set", PrepareOptions(splitter=Splitter(valid=0, test=0)))
    assert (summary.read, summary.accepted, summary.duplicates) == (4, 3, 1)
    values = load_dataset(tmp_path / "set").properties[:, -1]
    assert np.isnan(values[:2]).all()
    assert values[2] == 1


@pytest.mark.parametrize(
    "splitter", [{"kind": "byname"}, {"valid": -0.1}, {"valid": 0.6, "test": 0.5}, {"kind": "column:"}]
)
def test_impossible_splits_are_refused(splitter):
    with pytest.raises(InputError):
        Splitter(**splitter)


MEMORY = """
import os, sys
from pathlib import Path
from molvae.data import prepare
from molvae.data.ready import Ready
from molvae.data.seen import hash_smiles
place = Path(sys.argv[1])
with (place / "in.smi").open("w") as file:
    file.writelines(f"C{number:040d}\\n" for number in range(300_000))
peaks = [0]
def used():
    # Not ru_maxrss: it survives the exec and would be that of the test run.
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024
def pretend(job, chunks, workers, whole):
    for chunk in chunks:
        peaks.append(max(peaks[-1], used()))
        yield [Ready(cell, ("[C]",) * 30, hash_smiles(cell), 0, False, False, [1.0]) for cell in chunk]
prepare.map_chunks = pretend
summary = prepare.prepare([str(place / "in.smi")], place / "set", prepare.PrepareOptions(properties=("qed",)))
assert summary.accepted == 300_000, summary
sys.stdout.write(f"{peaks[len(peaks) // 3]} {max(peaks[-1], used())}")
"""


def test_memory_does_not_grow_with_the_input(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, timeout=100, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    after_a_third, at_the_end = map(int, done.stdout.split())
    # Twice the rows more may cost a few MiB of hashes; held in memory they would cost a hundred.
    assert at_the_end - after_a_third < 40_000
    assert at_the_end < 600_000
    assert len(load_dataset(tmp_path / "set")) == 300_000


def test_a_column_that_is_left_out_is_named(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("smiles,pIC50,note\nCCO,5.1,hit\nCCN,4.2,\nCCC,,miss\n")
    summary = prepare([str(tmp_path / "in.csv")], tmp_path / "out", PrepareOptions(properties=(), workers=1))
    assert summary.properties == ("pIC50",)
    assert summary.left_out == ("note",)
