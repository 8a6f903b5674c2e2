"""Keep what a user's function or program prints.

In: bytes that other processes write to a pipe. Out: a file that holds the first of them.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

MOST = 10_000_000
"""Bytes kept; the rest is read, so that nobody waits, and dropped."""

CUT = b"\n... more was printed, which is not kept\n"
_BLOCK = 65_536


class Prints:
    """What came through pipes that are always read; until `keep` names a file it waits in memory.

    Args:
        most: bytes kept.
    """

    def __init__(self, most: int = MOST) -> None:
        self._left = most
        self._waiting = b""
        self._path: Path | None = None
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None

    @contextlib.contextmanager
    def pipe(self) -> Iterator[int]:
        """Hold a file descriptor open for long enough to give it to a new process as its output."""
        leave, entrance = os.pipe()
        self._reader = threading.Thread(target=self._read, args=(leave,), daemon=True)
        self._reader.start()
        try:
            yield entrance
        finally:
            os.close(entrance)

    def keep(self, path: Path) -> None:
        """Append what was printed, and what will be, to a file, which is made when there is something to write."""
        with self._lock:
            self._path = path
            self._write(b"")

    def settle(self, patience: float = 1.0) -> None:
        """Wait ``patience`` seconds at most for what the latest process, which ended, printed last."""
        if self._reader is not None:
            self._reader.join(patience)

    def _read(self, leave: int) -> None:
        try:
            while block := os.read(leave, _BLOCK):
                with self._lock:
                    self._write(self._cut(block))
        finally:
            os.close(leave)

    def _cut(self, block: bytes) -> bytes:
        kept = block[: self._left]
        if 0 < self._left < len(block):
            kept += CUT
        self._left = max(0, self._left - len(block))
        return kept

    def _write(self, block: bytes) -> None:
        self._waiting += block
        if self._path is None or not self._waiting:
            return
        # A full disk must not end a search whose results are still to be written.
        with contextlib.suppress(OSError), self._path.open("ab") as handle:
            handle.write(self._waiting)
        self._waiting = b""
