"""Remember every paid score on disk, line by line, so that a run that dies pays for nothing twice.

In: (canonical SMILES, score) as they come. Out: ``journal.jsonl``, a line each: call, smiles, oracle, score
(null = failed), and raw, the values behind the score, when there are any.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from molvae.errors import ConfigError, InputError, OutputError
from molvae.files import sync_directory


class Journal:
    """An append-only file of scores; what is in it when it is opened stands in ``entries``, raw values in ``raw``.

    A line that was being written when the process died is dropped, and the file is cut there.

    Args:
        path: the file; made when missing.
        identity: the oracle's identity; lines of another oracle are refused.

    Raises:
        InputError: when a line before the last is damaged.
        ConfigError: when the lines come from another oracle.
        OutputError: when the file cannot be read or written.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self.identity = path, identity
        self.entries: dict[str, float] = {}
        self.raw: dict[str, dict[str, float]] = {}
        self.count = 0
        try:
            content = path.read_bytes() if path.exists() else b""
            kept = self._read(content)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if kept < len(content):
                os.ftruncate(self._descriptor, kept)
            os.fsync(self._descriptor)
            sync_directory(path.parent)
        except OSError as error:
            raise OutputError(f"Cannot use {path}: {error.strerror or error}.", "Choose a writable place.") from error

    def _read(self, content: bytes) -> int:
        """Fill ``entries`` and return how many bytes of ``content`` are whole lines."""
        lines = content.split(b"\n")
        kept = 0
        for number, line in enumerate(lines[:-1], start=1):
            try:
                oracle, smiles, score = self._parse(line, number)
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines) - 1 and not lines[-1]:
                    return kept
                raise InputError(
                    f"{self.path} is damaged in line {number}.",
                    "Restore it from a copy, or start anew in another directory.",
                ) from error
            if oracle != self.identity:
                raise ConfigError(
                    f"{self.path} holds scores of {oracle}, not of {self.identity}.",
                    "Resume with the same oracle, or start anew in another directory.",
                )
            self.entries[smiles] = score
            self.count = number
            kept += len(line) + 1
        return kept

    def _parse(self, line: bytes, number: int) -> tuple[str, str, float]:
        entry = json.loads(line)
        smiles, score = entry["smiles"], entry["score"]
        if entry["call"] != number or not isinstance(smiles, str) or smiles in self.entries:
            raise ValueError("calls are numbered from 1 and no molecule comes twice")
        if score is not None and not isinstance(score, int | float):
            raise TypeError("a score is a number or null")
        self.raw[smiles] = {name: _value(value) for name, value in entry.get("raw", {}).items()}
        return str(entry["oracle"]), smiles, _value(score)

    def append(self, scored: Sequence[tuple[str, float]], raw: Mapping[str, Mapping[str, float]] | None = None) -> None:
        """Write one line for each (canonical SMILES, score or NaN) and wait until the disk has them.

        Raises:
            OutputError: when they cannot be written.
        """
        lines = []
        for smiles, score in scored:
            self.count += 1
            entry = {"call": self.count, "smiles": smiles, "oracle": self.identity, "score": _or_none(score)}
            if raw and raw.get(smiles):
                entry["raw"] = {name: _or_none(value) for name, value in raw[smiles].items()}
            lines.append(json.dumps(entry) + "\n")
        rest = memoryview("".join(lines).encode())
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            raise OutputError(
                f"Cannot write {self.path}: {error.strerror or error}.", "Free space, then continue with --resume."
            ) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _value(stored: float | None) -> float:
    return math.nan if stored is None else float(stored)


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
