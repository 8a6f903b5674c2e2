"""Keep a user's function or program at arm's length: its own process group, a time limit, a verdict for each molecule.

In: ``module:function`` or ``cmd:PROGRAM`` and lists of SMILES. Out: one float per molecule, NaN where it failed, hung
or died.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from molvae.errors import OracleError, UnknownNameError
from molvae.optimize.prints import Prints
from molvae.optimize.worker import COMMAND

WORKER = Path(__file__).with_name("worker.py")
SPEC = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL."""

START = 10.0
"""Seconds that starting Python and importing a module may take on a busy machine, when the limit of a batch is less."""

_TICK = 0.2
_LONGEST = 1e6
"""Seconds that a socket can be told to wait, which inf is not."""

_PATIENT_TRIES = 4
_BYTES_PER_SCORE = 64
_MEND = "Import the module in Python and mend it."


class _LostError(Exception):
    """A request got no usable answer; the text says why."""


def _ending(pid: int, wait: float) -> str:
    """Say how a child process ended, "" when it still runs after ``wait`` seconds.

    It is not reaped: while it is a zombie its number, which is also that of its group, is given to nobody else.
    """
    end = time.monotonic() + wait
    while True:
        try:
            state = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return "its process ended"
        if state is not None:
            break
        if time.monotonic() >= end:
            return ""
        time.sleep(0.01)
    if state.si_code == os.CLD_EXITED:
        return f"its process ended with exit code {state.si_status}"
    return f"its process was killed by signal {state.si_status} ({signal.strsignal(state.si_status)})"


class ProcessOracle:
    """A function ``f(list[str]) -> list[float]``, or a program (`molvae.optimize.worker.Command`), in its own process.

    A batch that fails is tried a second time, molecule by molecule, within the same time limit again, so that one
    molecule that kills the function costs only itself.

    Args:
        spec: ``module:function``, the module looked for in the working directory first, or ``cmd:PROGRAM ARGUMENTS``.
        timeout: seconds a batch may take.

    Attributes:
        problem: why the latest molecule without a score has none.
        source: digest of the function's module, or of the program, which changes when it is edited.

    Raises:
        UnknownNameError: when there is no such module, function or program, or it cannot be called.
        OracleError: when the module cannot be imported.
    """

    def __init__(self, spec: str, timeout: float = 300.0) -> None:
        self.name = spec
        self.identity = f"function:{spec}" if not spec.startswith(COMMAND) else f"command:{spec.removeprefix(COMMAND)}"
        self.timeout = timeout
        self.problem = self.source = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._buffer = b""
        self._requests = 0
        self._polite = True
        self._prints = Prints()
        self._start()

    def __enter__(self) -> ProcessOracle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, smiles: list[str]) -> list[float]:
        """Return a score per molecule, in order; NaN where there is none.

        Raises:
            OracleError: when the process cannot be started again after it was lost.
        """
        if not smiles:
            return []
        try:
            return self._request(smiles, self.timeout)
        except _LostError as lost:
            self.problem = str(lost)
            return self._one_by_one(smiles)

    def keep_prints(self, path: Path) -> None:
        """Append to a file what the function printed and will print, or the program to stderr; see `Prints`."""
        self._prints.keep(path)

    def close(self) -> None:
        """End the process and whatever it started; a later call starts a new one."""
        self._stop(signal.SIGTERM)
        self._prints.settle()

    def _one_by_one(self, smiles: list[str]) -> list[float]:
        """Give each molecule a second try alone; once more than half of them failed the rest is not tried."""
        scores: list[float] = []
        left = self.timeout
        share = self.timeout / min(len(smiles), _PATIENT_TRIES)
        failed = 0
        for one in smiles:
            limit = min(share, left)
            began = time.monotonic()
            if limit <= 0 or (failed >= _PATIENT_TRIES and 2 * failed > len(smiles)):
                scores.append(math.nan)
                continue
            try:
                scores += self._request([one], limit)
            except _LostError as lost:
                self.problem = f"{lost} on {one}"
                scores.append(math.nan)
            failed += math.isnan(scores[-1])
            # What ending a stubborn process took is not counted against the others.
            left -= min(time.monotonic() - began, limit)
        return scores

    def _request(self, smiles: list[str], limit: float) -> list[float]:
        """Send one request and wait for its answer.

        Raises:
            _LostError: when there is none in ``limit`` seconds, or it is not scores; the process may be gone then.
        """
        if self._process is None or _ending(self._process.pid, 0.0):
            self._stop(signal.SIGKILL)
            self._start()
        self._requests += 1
        deadline = time.monotonic() + limit
        try:
            self._send({"id": self._requests, "smiles": smiles}, deadline, limit)
            answer = self._receive(deadline, limit, 65_536 + _BYTES_PER_SCORE * len(smiles))
        except _LostError:
            self._stop(signal.SIGTERM)
            raise
        except BaseException:
            self._stop(signal.SIGKILL)
            raise
        if "error" in answer:
            raise _LostError(str(answer["error"]))
        scores = answer.get("scores")
        if answer.get("id") != self._requests or not isinstance(scores, list) or len(scores) != len(smiles):
            self._stop(signal.SIGTERM)
            raise _LostError("its process answered with something else than scores")
        if None in scores:
            self.problem = str(answer.get("odd", "returned something else than a finite number"))
        return [math.nan if score is None else float(score) for score in scores]

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs, self._prints.pipe() as printed:
            # -P: the folder of worker.py must not shadow the user's modules; -u: what comes before a crash is kept.
            command = [sys.executable, "-u", "-P", str(WORKER), str(theirs.fileno()), self.name]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed,
                pass_fds=[theirs.fileno()], start_new_session=True,
            )  # fmt: skip
        self._channel, self._buffer = ours, b""
        try:
            limit = max(self.timeout, START)
            answer = self._receive(time.monotonic() + limit, limit, 65_536)
        except _LostError as lost:
            self._stop(signal.SIGTERM)
            raise OracleError(f"Importing {self.name} failed: {lost}.", _MEND) from lost
        except BaseException:
            self._stop(signal.SIGKILL)
            raise
        if "ready" in answer:
            self.source = str(answer.get("source", ""))
            return
        self._stop(signal.SIGTERM)
        if "unknown" in answer:
            remedy = "Give module:function; the module is looked for in the working directory first."
            if self.name.startswith(COMMAND):
                remedy = "Give cmd:PROGRAM ARGUMENTS, with a program that exists and may be executed."
            raise UnknownNameError(str(answer["unknown"]), remedy)
        raise OracleError(f"Importing {self.name} failed: {answer.get('error')}.", _MEND)

    def _send(self, message: dict[str, Any], deadline: float, limit: float) -> None:
        assert self._channel is not None
        self._channel.settimeout(min(max(deadline - time.monotonic(), 1e-3), _LONGEST))
        try:
            self._channel.sendall(json.dumps(message).encode() + b"\n")
        except TimeoutError as error:
            raise _LostError(self._late(limit)) from error
        except OSError as error:
            raise _LostError(self._how_it_ended()) from error

    def _receive(self, deadline: float, limit: float, most: int) -> dict[str, Any]:
        assert self._channel is not None
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise _LostError(self._late(limit))
            self._channel.settimeout(min(left, _TICK))
            try:
                block = self._channel.recv(65_536)
            except TimeoutError:
                # Children of a dead process may hold the channel open, so its end alone is no sign.
                if self._process is not None and not _ending(self._process.pid, 0.0):
                    continue
                block = b""
            except OSError:
                block = b""
            if not block:
                raise _LostError(self._how_it_ended())
            self._buffer += block
            if len(self._buffer) > most:
                raise _LostError("its process answered with something else than scores")
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise _LostError("its process answered with something else than scores") from error
        return answer if isinstance(answer, dict) else {}

    def _late(self, limit: float) -> str:
        share = f", its share of the {self.timeout:.3g} s for a second try," if limit < self.timeout else ""
        return f"gave no answer in {limit:.3g} s{share}"

    def _how_it_ended(self) -> str:
        assert self._process is not None
        return _ending(self._process.pid, 1.0) or "its process closed the channel"

    def _stop(self, first: signal.Signals) -> None:
        """End the whole process group, politely when ``first`` is SIGTERM, and reap the process."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            # A function that ignored SIGTERM once is not waited for again.
            if first != signal.SIGKILL and self._polite:
                os.killpg(process.pid, first)
                self._polite = bool(_ending(process.pid, GRACE))
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        if channel is not None:
            # Last, because a worker whose channel closes ends its group at once, without the polite part.
            channel.close()
