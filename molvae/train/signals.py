"""Turn Ctrl-C and termination signals into a request to save and stop.

In: SIGINT, SIGTERM, SIGUSR1. Out: a flag that the training loop reads between steps.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from types import FrameType

TWICE = 1.0
"""Seconds within which two signals are one request."""


class StopRequest:
    """Catch signals for the length of a ``with`` block; a second one ends the process at once.

    One that comes within a second counts as the first: under torchrun the terminal and torchrun both pass Ctrl-C on.

    Attributes:
        signal: number of the first signal received, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = math.inf

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if time.monotonic() - self._since > TWICE:
            # The checkpoint being written is a temporary file; the previous one stays whole.
            os._exit(128 + number)
        self.signal, self._since = number, min(self._since, time.monotonic())

    def __enter__(self) -> StopRequest:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *details: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
