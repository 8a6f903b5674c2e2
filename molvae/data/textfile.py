"""Open a file of text that a stranger made, whatever its compression and encoding, without trusting it.

In: a path or ``-``. Out: lines of text, the SHA-256 of the bytes read; a clean stop for what is no text.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from molvae.errors import InputError

MAX_LINE = 1 << 20
"""Characters in a line; a longer one is no line of a table."""
MAX_RATIO = 300
"""Times gzip may shrink SMILES; real files reach 10, a bomb 1,029."""
RATIO_FROM = 64 << 20
"""Unpacked bytes before the ratio is judged."""

_BLOCK = 1 << 16
_MAGIC = {
    b"\x1f\x8b": "compressed twice",
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    b"PAR1": "a Parquet file",
    b"\x7fELF": "a program",
    b"%PDF": "a PDF",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstandard",
}
_REMEDY = "Give a .csv, .tsv, .smi, .smiles or .sdf file, plain or as .gz, or a .parquet file by that name."


class _Hashed(io.RawIOBase):
    """Pass bytes through and remember how many there were and their SHA-256."""

    def __init__(self, inner: BinaryIO) -> None:
        self.inner = inner
        self.digest = hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self.inner.read(len(buffer))
        self.digest.update(block)
        self.count += len(block)
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self.inner.close()
        super().close()


class _Unpacked(io.RawIOBase):
    """Unpack gzip as it is read; a damaged file or a bomb ends with an `InputError`."""

    def __init__(self, packed: _Hashed, buffered: BinaryIO, name: str) -> None:
        self.packed = packed
        self.inner = gzip.GzipFile(fileobj=buffered)
        self.name = name
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        try:
            block = self.inner.read1(len(buffer))
        except EOFError as error:
            raise InputError(f"{self.name} is cut off: its gzip data ends early.", "Copy the file again.") from error
        except (zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"{self.name} is damaged: {error}.", "Copy the file again.") from error
        self.count += len(block)
        if self.count > RATIO_FROM and self.count > MAX_RATIO * max(self.packed.count, 1):
            raise InputError(
                f"{self.name} unpacks to more than {MAX_RATIO} times its size, which no real table does.",
                "If it is meant, unpack it yourself and give the plain file.",
            )
        buffer[: len(block)] = block
        return len(block)


def _open_bytes(path: str) -> BinaryIO:
    if path == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError("- means standard input, and nothing is piped into it.", "Pipe a file in, or name one.")
        return sys.stdin.buffer
    place = Path(path)
    try:
        kind = place.stat().st_mode
        if stat.S_ISDIR(kind):
            raise InputError(f"{path} is a directory.", "Name the files in it.")
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
            raise InputError(f"{path} is a device or a socket, not a file.", _REMEDY)
        return place.open("rb")
    except FileNotFoundError as error:
        broken = place.is_symlink()
        problem = f"{path} is a link to a file that is not there." if broken else f"There is no file {path}."
        raise InputError(problem, "Check the path.") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.", "Check the path and its permissions.") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path!r} cannot be a path: {error}.", "Check the path.") from error


class TextFile:
    """A file being read once, from front to back.

    Args:
        path: a file (plain or gzip, told by its bytes), a FIFO, or ``-`` for standard input.

    Raises:
        InputError: when it is missing, unreadable, empty, not text, or says .gz and is not gzip.
    """

    def __init__(self, path: str) -> None:
        self.name = "standard input" if path == "-" else path
        self._hashed = _Hashed(_open_bytes(path))
        raw: Any = io.BufferedReader(self._hashed, _BLOCK)
        head = self._peek(raw)
        if head.startswith(b"\x1f\x8b"):
            raw = io.BufferedReader(_Unpacked(self._hashed, raw, self.name), _BLOCK)
            head = self._peek(raw)
        elif path.endswith(".gz") and head:
            raise InputError(f"{path} is not gzip, though its name says so.", "Rename it, or copy it again.")
        if not head:
            raise InputError(f"{self.name} is empty.", "Give a file with at least one molecule.")
        encoding = _encoding(head, self.name)
        errors = "replace" if encoding == "utf-16" else "surrogateescape"
        self._text = io.TextIOWrapper(raw, encoding, errors=errors, newline="")

    def _peek(self, raw: Any) -> bytes:
        try:
            return bytes(raw.peek(_BLOCK))
        except OSError as error:
            raise InputError(f"Cannot read {self.name}: {error.strerror}.", "Copy the file again.") from error

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the file so far, packed if it is packed."""
        return self._hashed.count

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes read so far; of the whole file after the last line."""
        return self._hashed.digest.hexdigest()

    def lines(self) -> Iterator[str]:
        """Yield every line with its line end; bytes that are not UTF-8 are read as Latin-1.

        Raises:
            InputError: at a line of more than `MAX_LINE` characters, at damaged gzip data, or when reading fails.
        """
        number = 0
        while True:
            number += 1
            try:
                line = self._text.readline(MAX_LINE + 1)
            except OSError as error:
                raise InputError(f"Cannot read {self.name}: {error.strerror}.", "Copy the file again.") from error
            if not line:
                return
            if len(line) > MAX_LINE:
                raise InputError(f"Line {number} of {self.name} is longer than {MAX_LINE:,} characters.", _REMEDY)
            yield line if line.isascii() else _repair(line)

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self._hashed.inner is not getattr(sys.stdin, "buffer", None):
            self._text.close()
            self._hashed.close()


def _repair(line: str) -> str:
    """Read a line again as Latin-1 when its bytes are not UTF-8 (or UTF-16)."""
    if any("\ud800" <= char <= "\udfff" for char in line):
        return line.encode("utf-8", "surrogateescape").decode("latin-1")
    return line


def _encoding(head: bytes, name: str) -> str:
    for bom, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(bom):
            return encoding
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if head[257:262] == b"ustar":
        kind = "a tar archive"
    # White space and the escape character occur in text; a twentieth of other control bytes does not.
    odd = sum(head.count(byte) for byte in range(32) if byte not in b"\t\n\v\f\r\x1b")
    if kind or odd * 20 > len(head):
        raise InputError(f"{name} is no text: it is {kind or 'binary'}.", _REMEDY)
    return "utf-8"


def count_lines(path: str) -> int | None:
    """Count the lines of a regular file by reading it once; None for standard input and FIFOs.

    Raises:
        InputError: as `TextFile` does, so that a file cut off at its end is found before the work starts.
    """
    if path == "-" or not os.path.isfile(path):
        return None
    source = TextFile(path)
    try:
        return sum(1 for _ in source.lines())
    finally:
        source.close()
