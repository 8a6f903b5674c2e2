"""The benchmark of missing pieces: what is cut out is what would put the molecule together again."""

from __future__ import annotations

import gzip
import importlib
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rdkit import Chem

from molvae.chem.masks import heavy_atoms, read_masked

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "scripts" / "mask_benchmark.py").exists() or not (ROOT / "data" / "moses_sample.csv.gz").exists():
    pytest.skip("the scripts are not beside the tests", allow_module_level=True)
sys.path.insert(0, str(ROOT / "scripts"))
masks: Any = importlib.import_module("mask_benchmark")


@pytest.fixture(scope="module")
def smiles() -> list[str]:
    with gzip.open(ROOT / "data" / "moses_sample.csv.gz", "rt") as file:
        next(file)
        return [next(file).strip() for _ in range(60)]


@pytest.mark.parametrize("kind", ["substituent", "linker", "substituent?", "linker?"])
def test_the_truth_completes_what_is_left_with_the_piece_that_was_cut(kind: str, smiles: list[str]) -> None:
    found = masks.cases(smiles, kind, 15, 0)
    assert len(found) == 15
    for case in found:
        masked = read_masked(case.masked)
        pieces = masked.pieces(Chem.MolFromSmiles(case.truth))
        assert pieces is not None
        assert case.atoms in masks.SIZES
        assert heavy_atoms(case.piece) == case.atoms
        assert masked.atoms + case.atoms == Chem.MolFromSmiles(case.truth).GetNumHeavyAtoms()
        assert re.findall(r"\{(.*?)\}", case.masked) == ["?" if kind.endswith("?") else str(case.atoms)]


def test_an_atom_put_back_gives_the_molecule(smiles: list[str]) -> None:
    for case in masks.cases(smiles, "atom", 30, 1):
        filled = [case.piece, case.piece.lower(), f"[{case.piece.lower()}H]"]
        back = [Chem.MolFromSmiles(text) for text in read_masked(case.masked).filled(filled)]
        assert case.truth in {Chem.MolToSmiles(mol) for mol in back if mol}


def test_cases_depend_on_the_seed_and_not_on_their_number(smiles: list[str]) -> None:
    assert masks.cases(smiles, "linker", 20, 3)[:5] == masks.cases(smiles, "linker", 5, 3)
    assert masks.cases(smiles, "linker", 5, 3) != masks.cases(smiles, "linker", 5, 4)


def test_what_has_no_piece_is_passed_over() -> None:
    ring, rng = Chem.MolFromSmiles("c1ccccc1"), random.Random(0)
    assert masks.take_substituent(ring, rng) is None
    assert masks.take_linker(ring, rng) is None
    assert [case.truth for case in masks.cases(["c1ccccc1", "CCc1ccccc1"], "substituent", 5, 0)] == ["CCc1ccccc1"]
    assert masks.cases(["CCc1ccccc1"], "linker", 5, 0) == []


def test_guesses_know_frequencies_and_what_is_asked_for() -> None:
    usual = Counter({(3, "a"): 9, (2, "b"): 5, (2, "c"): 7, (1, "C"): 90, (1, "N"): 9})
    case = masks.Case("c1ccccc1{2}", "CCc1ccccc1", "b", 2)
    assert masks.guess(case, usual, None) == 2
    assert masks.guess(masks.Case("c1ccccc1{?}", "CCc1ccccc1", "b", 2), usual, None) == 5
    assert masks.guess(masks.Case("C{1}", "CN", "N", 1), usual, ["N", "F", "C"]) == 2
    assert masks.guess(masks.Case("C{1}", "CF", "F", 1), usual, ["N", "F"]) == 2
    assert masks.guess(masks.Case("C{1}", "CF", "F", 1), usual, ["N", "C"]) == 0
    assert masks.usual_pieces(["CCO", "CCC"], "atom", 0) == {(1, "C"): 5, (1, "O"): 1}


def test_the_command_goes_on_where_it_stopped(
    smiles: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.smi").write_text("\n".join(smiles) + "\n")
    call = ["mask_benchmark", str(tmp_path / "in.smi"), "--reference", str(tmp_path / "in.smi"), "-m", "moses",
            "--kinds", "atom", "-o", str(tmp_path / "out.csv"), "-n"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [*call, "4"])
    masks.main()
    first = (tmp_path / "out.csv").read_text()
    monkeypatch.setattr(sys, "argv", [*call, "6"])
    masks.main()
    assert (tmp_path / "out.csv").read_text().startswith(first)
    table = pd.read_csv(tmp_path / "out.csv")
    assert table["number"].tolist() == [0, 1, 2, 3, 4, 5]
    # The model is trained; by chance it would put back about one of three.
    assert (table["rank"] == 1).sum() >= 4
    assert (table["found"] == 1).all()
    assert (table["best"] == table["truth"]).tolist() == (table["rank"] == 1).tolist()
    said = capsys.readouterr().out
    assert "| atom | 4 |" in said
    assert "| atom | 6 |" in said
    monkeypatch.setattr(sys, "argv", [*call[:-3], "-o", str(tmp_path / "x.csv"), "--kinds", "atoms"])
    with pytest.raises(SystemExit):
        masks.main()
    assert not (tmp_path / "x.csv").exists()
