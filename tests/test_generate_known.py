"""What counts as known: the train split of a dataset, or the molecules of a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError
from molvae.generate.known import load_known, read_smiles


def dataset(directory: Path, smiles: list[str], split: list[int]) -> Path:
    """Write a dataset of molecules without tokens: enough to ask what is in it."""
    directory.mkdir()
    n = len(split)
    for name, array in {
        "tokens": np.zeros(0, dtype=np.uint8),
        "offsets": np.zeros(n + 1, dtype=np.int64),
        "split": np.array(split, dtype=np.uint8),
        "properties": np.zeros((n, 0), dtype=np.float32),
    }.items():
        np.save(directory / f"{name}.npy", array)
    Vocabulary.from_tokens(["[C]"]).save(directory / "vocab.json")
    (directory / "properties.json").write_text(json.dumps({"version": 1, "properties": []}))
    (directory / "manifest.json").write_text(json.dumps({"files": {}}))
    pd.DataFrame({"smiles": smiles, "split": split}).to_parquet(directory / "molecules.parquet")
    return directory


def test_the_train_split_alone_counts(tmp_path):
    path = dataset(tmp_path / "set", ["C", "CC", "CCC", "CCCC"], [0, 1, 0, 2])
    assert load_known(path) == {"C", "CCC"}


def test_a_table_of_another_length_is_refused(tmp_path):
    path = dataset(tmp_path / "set", ["C", "CC"], [0, 0])
    pd.DataFrame({"smiles": ["C"]}).to_parquet(path / "molecules.parquet")
    with pytest.raises(InputError, match="another length"):
        load_known(path)


@pytest.mark.parametrize("content", [None, b"junk"])
def test_a_dataset_without_its_table_is_refused(tmp_path, content):
    path = dataset(tmp_path / "set", ["C"], [0])
    (path / "molecules.parquet").unlink()
    if content is not None:
        (path / "molecules.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"molecules\.parquet"):
        load_known(path)


def test_a_directory_that_is_no_dataset(tmp_path):
    with pytest.raises(InputError):
        load_known(tmp_path)


def test_a_file_is_canonicalised_and_what_is_no_molecule_left_out(tmp_path):
    path = tmp_path / "known.smi"
    path.write_text("OCC\nC(\nc1ccccc1\nC1=CC=CC=C1\n")
    assert load_known(path) == {"CCO", "c1ccccc1"}


def test_a_file_without_molecules_is_refused(tmp_path):
    path = tmp_path / "known.smi"
    path.write_text("C(\nC)\n")
    with pytest.raises(InputError, match="no molecule"):
        load_known(path)


def test_read_smiles_keeps_every_row_in_order(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("id,smiles\n1,CCO\n2\n3,C(\n4,CCN,extra\n5,C\n")
    assert read_smiles(path) == ["CCO", "", "C(", "", "C"]
    assert read_smiles(path, "1") == ["1", "", "3", "", "5"]
    with pytest.raises(InputError, match="no column nothing"):
        read_smiles(path, "nothing")


def test_what_worker_processes_and_checks_import_is_light():
    code = (
        "import sys, molvae.generate.chemistry, molvae.generate.checking, molvae.generate.known\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
