"""Start the other processes of a training on this machine, of which this process is the first.

In: the command line they run, and how many processes there are to be. Out: the `Share` of this one.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO

import torch

from molvae.errors import ConfigError
from molvae.train.processes import LostProcess, Share, check_shareable

HOST = "127.0.0.1"
PATIENCE = 30.0
"""Seconds that the others get to end by themselves."""

Started = tuple[subprocess.Popen[bytes], IO[bytes]]


def count_processes(asked: str, device: str) -> int:
    """Return how many processes ``asked`` means, a number or auto: one for each GPU that ``device`` leaves open.

    Raises:
        ConfigError, DeviceError: when it is no number, torchrun decides already, or so many cannot share the device.

    >>> count_processes("auto", "cpu"), count_processes("3", "cpu")
    (1, 3)
    """
    outside = Share.from_environment().count
    if asked != "auto" and not (asked.isdecimal() and int(asked) > 0):
        raise ConfigError(f"--processes {asked} is no number of processes.", "Give a number from 1 on, or auto.")
    if outside > 1:
        if asked not in ("auto", "1"):
            raise ConfigError(
                f"--processes {asked} was asked for, and torchrun has started {outside} already.",
                "Leave --processes out, or torchrun.",
            )
        return 1
    if asked == "auto":
        found = torch.cuda.device_count() if device in ("auto", "cuda") and torch.cuda.is_available() else 1
        return max(1, found)
    if int(asked) > 1:
        check_shareable(device, int(asked))
    return int(asked)


@contextmanager
def started(arguments: Sequence[str], count: int) -> Iterator[Share]:
    """Run ``molvae ARGUMENTS`` in ``count`` - 1 other processes until the block ends; with 1, start none.

    They are no part of the terminal's session: Ctrl-C reaches the first process, which tells them. What they print is
    kept, and read when one is lost.

    Raises:
        LostProcess: when the block does, with what the lost one said.
    """
    if count == 1:
        yield Share.from_environment()
        return
    with socket.create_server((HOST, 0)) as place:
        port = place.getsockname()[1]
    with ExitStack() as stack:
        others: list[Started] = []
        for rank in range(1, count):
            errors = stack.enter_context(tempfile.TemporaryFile())
            others.append((_start(stack, errors, arguments, Share(rank, count, rank, count), port), errors))
        try:
            yield Share(0, count, 0, count, f"tcp://{HOST}:{port}")
            _wait(others)
        except LostProcess as error:
            _wait(others)
            said = _first_words(others)
            if said is None:
                raise
            raise LostProcess(f"Another process of this training failed: {said[0]}", said[1]) from error


def _start(
    stack: ExitStack, errors: IO[bytes], arguments: Sequence[str], share: Share, port: int
) -> subprocess.Popen[bytes]:
    """Start the process of ``share``; when ``stack`` closes it is ended, whatever it does."""
    place = {"RANK": share.rank, "WORLD_SIZE": share.count, "LOCAL_RANK": share.local_rank,
             "LOCAL_WORLD_SIZE": share.local_count, "MASTER_ADDR": HOST, "MASTER_PORT": port}  # fmt: skip
    environment = {**os.environ, **{name: str(value) for name, value in place.items()}}
    process = subprocess.Popen(
        [sys.executable, "-m", "molvae", *arguments], env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
    )  # fmt: skip
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _wait(others: Sequence[Started]) -> None:
    for process, _ in others:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()


def _first_words(others: Sequence[Started]) -> tuple[str, str] | None:
    """Return problem and remedy of a process that failed by itself, not because it had lost another one."""
    for process, errors in others:
        if process.returncode:
            errors.seek(0)
            lines = errors.read().decode("utf-8", "replace").splitlines()
            problem = next((place for place, line in enumerate(lines) if line.startswith("error: ")), None)
            if problem is None:
                return f"it ended with code {process.returncode}.", "Look for a lack of memory; go on with --resume."
            if "Another process of this training" not in lines[problem]:
                return lines[problem].removeprefix("error: "), " ".join(lines[problem + 1 : problem + 2])
    return None
