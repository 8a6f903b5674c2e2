"""Tables as strangers make them: read rightly, or refused in two lines with nothing left behind."""

from __future__ import annotations

import gzip
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from molvae.data import table, textfile
from molvae.data.table import Table, read_smiles
from molvae.data.textfile import count_lines
from molvae.errors import InputError

ROOT = Path(__file__).resolve().parent.parent

GOOD: dict[str, tuple[str, bytes, list[str]]] = {
    "csv with header": ("a.csv", b"SMILES,x\nCCO,1\nCC,2\n", ["CCO", "CC"]),
    "name in capitals and a prefix": ("a.csv", b"id,Canonical_SMILES\n1,CCO\n", ["CCO"]),
    "no header": ("a.csv", b"CCO,1\nCC,2\n", ["CCO", "CC"]),
    "no header, SMILES second": ("a.csv", b"m1,CCO\nm2,CC\n", ["CCO", "CC"]),
    "header that tells nothing": ("a.csv", b"id,compound\nm1,CCO\nm2,c1ccccc1\n", ["CCO", "c1ccccc1"]),
    "one column without header": ("a.csv", b"CCO\nCC\n", ["CCO", "CC"]),
    "one row": ("a.csv", b"CCO\n", ["CCO"]),
    "tab": ("a.tsv", b"smiles\tx\nCCO\t1\n", ["CCO"]),
    "wrong delimiter": ("a.csv", b"x;smiles\n1;CCO\n2;CC\n", ["CCO", "CC"]),
    "tabs in a csv": ("a.csv", b"x\tsmiles\n1\tCCO\n2\tCC\n", ["CCO", "CC"]),
    "CRLF": ("a.csv", b"smiles,x\r\nCCO,1\r\nCC,2\r\n", ["CCO", "CC"]),
    "CR": ("a.csv", b"smiles,x\rCCO,1\rCC,2\r", ["CCO", "CC"]),
    "BOM": ("a.csv", b"\xef\xbb\xbfsmiles,x\nCCO,1\n", ["CCO"]),
    "UTF-16": ("a.csv", "smiles,x\nCCO,1\n".encode("utf-16"), ["CCO"]),
    "UTF-16 big end first": ("a.csv", b"\xfe\xff" + "smiles,x\nCCO,1\n".encode("utf-16-be"), ["CCO"]),
    "Latin-1": ("a.csv", "smiles,größe\nCCO,5 Å\n".encode("latin-1"), ["CCO"]),
    "mixed encodings": ("a.csv", b"smiles,x\nCCO,\xe5\nCC,\xc3\xa5\n", ["CCO", "CC"]),
    "NUL in a cell": ("a.csv", b"smiles,x\nCC\x00O,1\nCC,2" + b"2" * 99 + b"\n", ["CC\x00O", "CC"]),
    "quoted comma": ("a.csv", b'smiles,x\n"CCO |c:1,2|",1\n', ["CCO |c:1,2|"]),
    "unquoted comma in CX": ("a.csv", b"smiles,x\nCCO |c:1,2|,1\nCC,1\nC,1\n", ["", "CC", "C"]),
    "short row": ("a.csv", b"smiles,x\nCCO\nCC,1\nC,1\n", ["", "CC", "C"]),
    "long row": ("a.csv", b"smiles,x\nCCO,1,2\nCC,1\nC,1\n", ["", "CC", "C"]),
    "all rows long": ("a.csv", b"smiles,x\nm1,CCO,1\nm2,CC,1\n", ["", ""]),
    "all rows long by empty cells": ("a.csv", b"smiles,x\nCCO,1,\nCC,1,\n", ["CCO", "CC"]),
    "duplicate column": ("a.csv", b"x,smiles,x\n1,CCO,2\n", ["CCO"]),
    "blank lines": ("a.csv", b"smiles\n\nCCO\n\n\nCC\n", ["CCO", "CC"]),
    "empty cells": ("a.csv", b"smiles,x\n,1\nCC,2\n", ["", "CC"]),
    "words pandas takes for missing": ("a.csv", b"smiles\nNA\nNone\nnull\nC\n", ["NA", "None", "null", "C"]),
    "no line end at the end": ("a.csv", b"smiles,x\nCCO,1", ["CCO"]),
    "spaces around names": ("a.csv", b" smiles , x\nCCO,1\n", ["CCO"]),
    "a cell of 200,000 characters": ("a.csv", b"smiles,x\n" + b"C" * 200_000 + b",1\nC,2\n", ["C" * 200_000, "C"]),
    "smi": ("a.smi", b"CCO ethanol\nCC\tethane\nC\n", ["CCO", "CC", "C"]),
    "smi with header": ("a.smi", b"SMILES name\nCCO ethanol\n", ["CCO"]),
    "smiles with header and tabs": ("a.smiles", b"ID\tSMILES\n1\tCCO\n", ["CCO"]),
    "smi with a blank first line": ("a.smi", b"\nCCO\n \nCC\n", ["CCO", " ", "CC"]),
    "gzip": ("a.csv.gz", gzip.compress(b"smiles\nCCO\n"), ["CCO"]),
    "gzip without the suffix": ("a.csv", gzip.compress(b"smiles\nCCO\n"), ["CCO"]),
    "gzip in members": ("a.csv.gz", gzip.compress(b"smiles\nCCO\n") + gzip.compress(b"CC\n"), ["CCO", "CC"]),
}


def a_tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("a.csv")
        member.size = 7
        archive.addfile(member, io.BytesIO(b"smiles\n"))
    return buffer.getvalue()


BAD: dict[str, tuple[str, bytes, str]] = {
    "0 bytes": ("a.csv", b"", "is empty"),
    "0 bytes packed": ("a.csv.gz", gzip.compress(b""), "is empty"),
    "0 bytes, .gz": ("a.csv.gz", b"", "is empty"),
    "blank lines only": ("a.csv", b"\n\n\n", "has no rows"),
    "a header alone": ("a.csv", b"smiles,x\n", "has no rows"),
    "a binary": ("a.csv", bytes(range(256)) * 20, "no text"),
    "a program": ("a.csv", b"\x7fELF" + bytes(2000), "a program"),
    "a spreadsheet": ("a.csv", b"PK\x03\x04" + b"x" * 2000, "a zip archive or a spreadsheet"),
    "a tar": ("a.csv.gz", a_tar(), "a tar archive"),
    "packed twice": ("a.csv.gz", gzip.compress(gzip.compress(b"smiles\nC\n")), "compressed twice"),
    "not gzip": ("a.csv.gz", b"smiles\nCCO\n", "not gzip"),
    "gzip cut off": ("a.csv.gz", gzip.compress(os.urandom(5000).hex().encode())[:-900], "cut off"),
    "gzip damaged": ("a.csv.gz", gzip.compress(b"smiles\nCCO\n" * 99)[:-8] + b"\0" * 8, "damaged"),
    "no SMILES": ("a.csv", b"id,name\n1,ethanol\n2,water\n", "no column that holds SMILES"),
    "quote never closed": ("a.csv", b'smiles,x\n"CCO,1\n' + b"CC,2\n" * 50, "is not closed"),
    "quote not closed at the end": ("a.csv", b'smiles,x\nCC,2\n"CCO,1\n', "is not closed"),
    "a line of 2 MB": ("a.smi", b"C" * (2 << 20), "longer than"),
    "two SMILES columns of one name": ("a.csv", b"smiles,smiles\nC,CC\n", "several columns"),
    "unknown suffix": ("a.docx", b"smiles\nC\n", "unknown suffix"),
}


def put(directory: Path, name: str, content: bytes) -> str:
    path = directory / name
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("case", GOOD)
def test_read_rightly(tmp_path, case):
    name, content, expected = GOOD[case]
    assert read_smiles(put(tmp_path, name, content)) == expected


@pytest.mark.parametrize("case", BAD)
def test_refused(tmp_path, case):
    name, content, problem = BAD[case]
    with pytest.raises(InputError, match=problem):
        read_smiles(put(tmp_path, name, content))


def test_a_column_by_name_and_by_number(tmp_path):
    path = put(tmp_path, "a.csv", b"from,to\nC,CC\nN,NN\n")
    assert read_smiles(path, "TO") == ["CC", "NN"]
    assert read_smiles(path, "1") == ["C", "N"]
    with pytest.raises(InputError, match="no column mol") as stop:
        read_smiles(path, "mol")
    assert "from, to" in stop.value.remedy


def test_a_damaged_row_does_not_take_the_next_with_it(tmp_path):
    opened = Table(put(tmp_path, "a.csv", b'smiles,x\n"C"C,1\nCC,2\n'))
    rows = list(opened.rows())
    assert isinstance(rows[0], str)
    assert rows[1:] == [["CC", "2"]]


def test_numeric_columns(tmp_path):
    content = b",smiles,ic50,name,empty,flag\n" + b"".join(b"%d,C,%d.5,m%d,,x\n" % (n, n, n) for n in range(20))
    assert Table(put(tmp_path, "a.csv", content)).numeric_columns() == ["ic50"]


@pytest.mark.parametrize(
    ("cell", "value"),
    [("1e3", 1000.0), (" -2 ", -2.0), (">10", None), ("1,000", None), ("inf", None), ("1_000", None), ("0x1", None)],
)
def test_cells_that_are_numbers(cell, value):
    assert table.number(cell) == value


@pytest.mark.parametrize("cell", ["", " ", "NA", "nan", "None", "N/A", "-"])
def test_cells_that_are_blank(cell):
    assert table.number(cell) != table.number(cell)


def places(directory: Path) -> dict[str, tuple[str, str]]:
    (directory / "dangling.csv").symlink_to(directory / "gone.csv")
    (directory / "folder.csv").mkdir()
    return {
        "missing": (str(directory / "none.csv"), "There is no file"),
        "dangling": (str(directory / "dangling.csv"), "link to a file that is not there"),
        "directory": (str(directory / "folder.csv"), "is a directory"),
        "device": ("/dev/zero", "a device"),
        "NUL in the path": ("a\0b.csv", "cannot be a path"),
    }


@pytest.mark.parametrize("case", ["missing", "dangling", "directory", "device", "NUL in the path"])
def test_paths_that_are_no_files(tmp_path, case):
    path, problem = places(tmp_path)[case]
    with pytest.raises(InputError, match=problem):
        Table(path)


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = put(tmp_path, "a.csv", b"smiles\nC\n")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        Table(path)


def test_a_bomb_is_stopped_early(tmp_path, monkeypatch):
    monkeypatch.setattr(textfile, "RATIO_FROM", 1 << 20)
    path = put(tmp_path, "a.smi.gz", gzip.compress(b"CCCCCCCC\n" * 2_000_000))
    with pytest.raises(InputError, match="300 times"):
        count_lines(path)


def test_lines_are_counted_only_where_they_can_be_read_again(tmp_path):
    assert count_lines(put(tmp_path, "a.smi", b"C\nCC\nC")) == 3
    assert count_lines("-") is None


CLI_BAD: dict[str, Callable[[Path], list[str]]] = {
    "missing file": lambda place: [str(place / "none.csv")],
    "empty file": lambda place: [put(place, "a.csv", b"")],
    "all rows invalid": lambda place: [put(place, "a.csv", b"smiles\nC(\nC)\n")],
    "header only": lambda place: [put(place, "a.csv", b"smiles\n")],
    "wrong column": lambda place: [put(place, "a.csv", b"smiles\nC\n"), "--smiles-column", "mol"],
    "unknown property": lambda place: [put(place, "a.csv", b"smiles\nC\n"), "--properties", "logd"],
    "unknown split": lambda place: [put(place, "a.csv", b"smiles\nC\n"), "--split", "column:part"],
    "negative count": lambda place: [put(place, "a.csv", b"smiles\nC\n"), "--workers", "-1"],
    "share above 1": lambda place: [put(place, "a.csv", b"smiles\nC\n"), "--max-rejected", "1.5"],
    "a device": lambda place: ["/dev/zero"],
}


@pytest.mark.parametrize("case", CLI_BAD)
def test_the_command_line_says_it_in_two_lines_and_leaves_nothing(run_molvae, tmp_path, case):
    arguments = CLI_BAD[case](tmp_path)
    before = sorted(tmp_path.iterdir())
    done = run_molvae("prepare", *arguments, "-o", tmp_path / "set")
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("error: ")
    assert done.stdout == ""
    assert sorted(tmp_path.iterdir()) == before


def test_an_output_that_cannot_be_written(run_molvae, tmp_path):
    path = put(tmp_path, "a.csv", b"smiles\nC\n")
    done = run_molvae("prepare", path, "-o", Path(path) / "set")
    assert done.returncode == 5
    assert len(done.stderr.strip().splitlines()) == 2


def test_standard_input_and_the_printed_sum(run_molvae, tmp_path):
    options = ("--properties", "none", "--valid", "0", "--test", "0", "-o", tmp_path / "set")
    done = run_molvae("prepare", "-", *options, input="CCO ethanol\nOCC\nC(\nCC\n")
    assert done.returncode == 0, done.stderr
    assert "4 rows read = 2 accepted + 1 duplicates + 1 rejected" in done.stdout
    assert "parse, such as row 3: 'C('" in done.stdout
    assert str(tmp_path / "set" / "rejected.csv") in done.stdout


def test_a_fifo_is_read_once(run_molvae, tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(b"smiles,x\nCCO,1\nCC,2\n",), daemon=True)
    writer.start()
    options = ("--properties", "none", "--valid", "0", "--test", "0", "-o", tmp_path / "set")
    done = run_molvae("prepare", fifo, *options)
    assert "2 rows read = 2 accepted" in done.stdout, done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing_behind(tmp_path, number, code):
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip(f"this shell ignores {number.name} in background jobs, and so do their children")
    path = put(tmp_path, "a.smi", b"".join(b"%s\n" % (b"C" * (1 + n % 40) + b"N" * (n // 40)) for n in range(9000)))
    command = [sys.executable, "-m", "molvae", "prepare", path, "-o", str(tmp_path / "set"), "--workers", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    began = time.monotonic()
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() - began < 60:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    assert process.wait(30) == code
    assert [one.name for one in tmp_path.iterdir()] == ["a.smi"]


def test_help_loads_no_chemistry(run_molvae):
    done = run_molvae("prepare", "--help", env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "typer" in imported
    assert not imported & {"rdkit", "torch", "pandas", "numpy", "selfies", "pyarrow"}
