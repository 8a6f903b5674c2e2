"""Let Ctrl-C and SIGTERM end a search between two steps, or at once while only the oracle is at work.

In: signals. Out: the name of the one that came; `Interrupted` where it may break in.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal came while the oracle was at work; its batch is lost, nothing else."""


class Stopper:
    """Take SIGINT and SIGTERM for requests to stop, inside a ``with`` block on the main thread; elsewhere do nothing.

    The first signal is noted in ``requested``; a second one ends everything at once, as `KeyboardInterrupt`.
    """

    def __init__(self) -> None:
        self.requested = ""
        self._open = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopper:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
        if self._open:
            raise Interrupted

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Run a block that a signal may break into with `Interrupted`."""
        self._open = True
        try:
            if self.requested:
                raise Interrupted
            yield
        finally:
            self._open = False
