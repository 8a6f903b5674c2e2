"""Keep the parts of long work as they come, so that it can go on where it was stopped.

In: a file that is to be written, what is asked. Out: parts, computed or taken from a file beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from molvae.errors import ConfigError, OutputError
from molvae.files import write_json

SUFFIX = ".unfinished"


class Kept:
    """Results so far, in ``FILE.unfinished`` beside the file that is to be.

    Args:
        file: file or directory that the work writes in the end; None keeps nothing.
        request: what is done and how, as JSON can hold it; unfinished work of another kind is refused.
        resume: whether to go on with what is there; with nothing there it begins.

    Raises:
        OutputError: when unfinished work is there and it is not to go on.
        ConfigError: when it is of something else, cannot be read, or there is no file to keep it beside.
    """

    def __init__(self, file: Path | None, request: Mapping[str, Any], resume: bool) -> None:
        self.path = None if file is None else file.with_name(file.name + SUFFIX)
        self.request: dict[str, Any] = json.loads(json.dumps(request))
        self.parts: dict[str, Any] = {}
        if self.path is None and resume:
            raise ConfigError("There is nothing to go on with on stdout.", "Give the file with -o.")
        if self.path is not None and self.path.exists():
            if not resume:
                raise OutputError(f"{self.path} holds unfinished work.", "Go on with --resume, or remove that file.")
            self.parts = self._read(self.path)

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            there = json.loads(path.read_text("utf-8"))
            request, parts = dict(there["request"]), dict(there["parts"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no unfinished work.", "Remove it and begin anew.") from error
        differing = [name for name in self.request if request.get(name) != self.request[name]]
        if differing:
            raise ConfigError(
                f"The work in {path} has another {differing[0]}.", "Give the same settings, or remove that file."
            )
        return parts

    def part(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return a part that is there, or compute and keep it."""
        if name not in self.parts:
            self.parts[name] = compute()
            if self.path is not None:
                write_json(self.path, {"request": self.request, "parts": self.parts})
        return self.parts[name]

    @property
    def begun(self) -> bool:
        """Whether something is kept."""
        return self.path is not None and bool(self.parts)

    def finish(self) -> None:
        """Remove the parts; call it when the whole is written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
