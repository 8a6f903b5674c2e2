"""Turn Ctrl-C and termination signals into a request to save and stop.

In: SIGINT, SIGTERM, SIGUSR1. Out: a flag that the training loop reads between steps.
"""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType


class StopRequest:
    """Catch signals for the length of a ``with`` block; a second one ends the process at once.

    Attributes:
        signal: number of the first signal received, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            # The checkpoint being written is a temporary file; the previous one stays whole.
            os._exit(128 + number)
        self.signal = number

    def __enter__(self) -> StopRequest:
        self._previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *details: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
