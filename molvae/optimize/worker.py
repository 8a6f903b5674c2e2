"""Run a user's function or program in a process of its own and pass lists of SMILES and scores over a socket, as JSON
lines.

In: a file descriptor and ``module:function`` or ``cmd:PROGRAM ARGUMENTS`` on the command line. Out: one JSON line per
request on that descriptor.

`molvae.optimize.process` starts this file by its path. It imports nothing of the package, so that it starts fast and
so that the user's module meets a clean interpreter.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import json
import math
import numbers
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

MAX_SCORE = 1e30
"""A larger absolute value is taken for a mistake, not for a score."""

COMMAND = "cmd:"
"""What the name of a program starts with."""

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_BLOCK = 65_536
_BYTES_PER_LINE = 1024
_STDERR_KEPT = 2000
_STDERR = 2
_SHOWN = 60


class NotScoresError(ValueError):
    """What a function returned is not a list of one score per molecule."""


def read_scores(answer: Any, n: int) -> list[float | None]:
    """Return one float per molecule, None where a value is not a usable score.

    Usable are finite real numbers up to `MAX_SCORE`, of Python, numpy or torch; a string is not, even one of digits.

    Args:
        answer: what the function returned.
        n: how many molecules it was given.

    Raises:
        NotScoresError: when the answer is not a list of ``n`` entries.

    >>> read_scores([1, 0.5, "2", None, float("nan"), 1j], 6)
    [1.0, 0.5, None, None, None, None]
    """
    listed = hasattr(answer, "__len__") and hasattr(answer, "__iter__")
    if not listed or isinstance(answer, str | bytes | dict | set):
        raise NotScoresError(f"returned {type(answer).__name__}, not a list of numbers")
    if len(answer) != n:
        raise NotScoresError(f"returned {len(answer)} values for {n} molecules")
    return [_score(value) for value in answer]


def _odd(values: Any, scores: list[float | None]) -> dict[str, str]:
    if None not in scores:
        return {}
    text = " ".join(repr(list(values)[scores.index(None)]).split())
    return {"odd": f"returned {text[:_SHOWN]}, which is no finite number"}


def _score(value: Any) -> float | None:
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if not isinstance(value, numbers.Real):
        return None
    try:
        score = float(value)
    except (OverflowError, ValueError, TypeError):
        return None
    return score if math.isfinite(score) and abs(score) <= MAX_SCORE else None


def describe(error: BaseException) -> str:
    """Return an exception as one line with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)} line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{place}"


class Command:
    """A program that reads SMILES on stdin, one a line, and writes as many lines, a number each, and ends.

    It is started anew for every batch, without a shell, in this process's group, so that both end together. A line that
    is no number is a molecule without a score.

    Raises:
        LookupError: when there is no such program, or it may not be executed.

    >>> Command("sed s/.*/0.5/")(["CCO", "CCN"])
    [0.5, 0.5]
    """

    def __init__(self, line: str) -> None:
        try:
            self.arguments = shlex.split(line)
        except ValueError as error:
            raise LookupError(f"The command {line!r} cannot be read: {error}.") from error
        if not self.arguments:
            raise LookupError("cmd: names no program.")
        program = self.arguments[0]
        if shutil.which(program) is None:
            if os.path.isfile(program):
                raise LookupError(f"{program} may not be executed (chmod +x {program}).")
            raise LookupError(f"There is no program {program!r} here or on the PATH.")
        self._errors = b""
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, smiles: list[str]) -> list[float | None]:
        """Run the program once.

        Raises:
            NotScoresError: when it fails, writes too much, or not a line for each molecule.
        """
        self._errors = b""
        pipe = subprocess.PIPE
        with subprocess.Popen(self.arguments, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            self._process = process
            threads = [threading.Thread(target=work, args=(process, smiles), daemon=True)
                       for work in (self._feed, self._listen)]  # fmt: skip
            for thread in threads:
                thread.start()
            written = self._read(process, _BLOCK + _BYTES_PER_LINE * len(smiles))
            code = process.wait()
            threads[1].join(1.0)
            self._process = None
        if code:
            raise NotScoresError(f"{_how(code)}{self._last_line()}")
        lines = written.decode(errors="replace").splitlines()
        if len(lines) != len(smiles):
            raise NotScoresError(f"wrote {len(lines)} lines for {len(smiles)} molecules{self._last_line()}")
        return [_number(line) for line in lines]

    def stop(self, *_: object) -> None:
        """Wait for the program to end itself, then end: what SIGTERM does here; SIGKILL comes when it takes long."""
        if self._process is not None:
            self._process.wait()
        os._exit(128 + signal.SIGTERM)

    def _feed(self, process: subprocess.Popen[bytes], smiles: list[str]) -> None:
        assert process.stdin is not None
        with contextlib.suppress(OSError, ValueError), process.stdin:
            process.stdin.write("".join(f"{one}\n" for one in smiles).encode())

    def _listen(self, process: subprocess.Popen[bytes], _: list[str]) -> None:
        assert process.stderr is not None
        while block := os.read(process.stderr.fileno(), _BLOCK):
            self._errors = (self._errors + block)[-_STDERR_KEPT:]
            with contextlib.suppress(OSError):
                os.write(_STDERR, block)

    def _read(self, process: subprocess.Popen[bytes], most: int) -> bytes:
        assert process.stdout is not None
        written = b""
        while block := os.read(process.stdout.fileno(), _BLOCK):
            written += block
            if len(written) > most:
                process.kill()
                raise NotScoresError(f"wrote more than {most} bytes")
        return written

    def _last_line(self) -> str:
        lines = self._errors.decode(errors="replace").split("\n")
        last = next((" ".join(line.split()) for line in reversed(lines) if line.strip()), "")
        return f" ({last[:300]})" if last else ""


def _how(code: int) -> str:
    return f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code} ({signal.strsignal(-code)})"


def _number(line: str) -> float | None:
    try:
        return float(line)
    except ValueError:
        return None


def find_function(spec: str) -> Callable[[list[str]], Any]:
    """Import ``module:function``, looking in the working directory first; or make a `Command` of ``cmd:...``.

    Raises:
        LookupError: when there is no such module, function or program, or it cannot be called.
    """
    if spec.startswith(COMMAND):
        return Command(spec.removeprefix(COMMAND))
    module_name, _, path = spec.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise LookupError(f"There is no module {module_name!r} here or among the installed packages.") from error
        raise
    for name in path.split("."):
        if not hasattr(found, name):
            raise LookupError(f"The module {module_name!r} has no {path!r}.")
        found = getattr(found, name)
    if not callable(found):
        raise LookupError(f"{spec} is a {type(found).__name__}, not a function.")
    function: Callable[[list[str]], Any] = found
    return function


def source_digest(function: Callable[[list[str]], Any], spec: str) -> str:
    """Return what changes when the files change that a function or a program consists of, as far as they are known.

    Those are the function's module, or the program and its arguments that are files.
    """
    if isinstance(function, Command):
        names = [shutil.which(function.arguments[0]) or "", *function.arguments[1:]]
    else:
        names = [getattr(sys.modules.get(spec.partition(":")[0]), "__file__", None) or ""]
    digest = hashlib.sha256()
    for name in names:
        if os.path.isfile(name):
            with open(name, "rb") as handle:
                digest.update(handle.read())
    return digest.hexdigest()[:16]


def _die_with_parent(channel: socket.socket, *, alone: bool) -> None:
    """End this process and its children when the parent is gone, even while the user's function hangs.

    Args:
        channel: closes when the parent is gone.
        alone: let the kernel kill this process at once too, because a function may keep the thread below from running.
            Not with a program: it has to be killed first, by that thread.
    """
    if alone:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as handle:
        # When memory runs out the kernel should take this process, not the run.
        handle.write("1000")
    poll = select.poll()
    poll.register(channel, select.POLLRDHUP)

    def watch() -> None:
        poll.poll()
        _end_group()

    threading.Thread(target=watch, daemon=True).start()


def _end_group() -> None:
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def answer(
    function: Callable[[list[str]], Any], smiles: list[str], passing: tuple[type[BaseException], ...] = ()
) -> dict[str, Any]:
    """Ask a function and return ``{"scores": ...}`` or ``{"error": one line}``; ``passing`` exceptions go through.

    With scores that are None comes ``odd``, which names the first value that is none.

    >>> answer(lambda smiles: 1 / 0, ["C"])["error"].partition(" (")[0]
    'ZeroDivisionError: division by zero'
    """
    try:
        values = function(list(smiles))
        scores = read_scores(values, len(smiles))
        return {"scores": scores, **_odd(values, scores)}
    except passing:
        raise
    except NotScoresError as error:
        return {"error": str(error)}
    except (Exception, SystemExit) as error:  # the oracle boundary: whatever the user's function raises is an answer
        return {"error": describe(error)}


def serve(channel: socket.socket, spec: str) -> None:
    """Import the function, say whether that worked, and answer requests until the parent hangs up."""

    def send(message: dict[str, Any]) -> None:
        channel.sendall(json.dumps(message, allow_nan=False).encode() + b"\n")

    try:
        function = find_function(spec)
    except LookupError as error:
        send({"unknown": str(error.args[0]) if error.args else describe(error)})
        return
    except (Exception, SystemExit) as error:  # the oracle boundary: the user's module may raise anything on import
        send({"error": describe(error)})
        return
    if isinstance(function, Command):
        signal.signal(signal.SIGTERM, function.stop)
    send({"ready": True, "source": source_digest(function, spec)})
    with channel.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            request = json.loads(line)
            send({"id": request["id"], **answer(function, request["smiles"])})


if __name__ == "__main__":
    _channel = socket.socket(fileno=int(sys.argv[1]))
    _channel.set_inheritable(False)
    _die_with_parent(_channel, alone=not sys.argv[2].startswith(COMMAND))
    with contextlib.suppress(OSError):
        serve(_channel, sys.argv[2])
    _end_group()
