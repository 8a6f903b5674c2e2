"""Fetch one pinned wheel through pip, so that its indexes, mirrors and proxies hold; nothing is installed or imported.

In: the name and version of a package. Out: the path of its wheel, for the caller to check.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from molvae.errors import DownloadError

POLL = 0.2
"""Seconds between two looks at how much has arrived."""


def pip_download(
    package: str, version: str, work: Path, size: int = 0, progress: Callable[[int], None] | None = None
) -> Path:
    """Let pip bring a wheel, and nothing but a wheel: a source distribution would run code.

    Args:
        package, version: exactly these.
        work: a directory for pip to work in.
        size: bytes of the wheel, for ``progress``, which is called with the bytes that have arrived.

    Returns:
        The path of the wheel, somewhere in ``work``.

    Raises:
        DownloadError: when there is no pip, or it cannot bring the wheel; with the last of what it says.
    """
    target, scratch, log = work / "wheel", work / "scratch", work / "pip.log"
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input", "--no-color",
               "--disable-pip-version-check", "--progress-bar=off", "--dest", str(target),
               f"{package}=={version}"]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment)
        try:
            while True:
                try:
                    code = process.wait(POLL)
                    break
                except subprocess.TimeoutExpired:
                    if progress is not None:
                        progress(min(_bytes_below(work), size))
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = sorted(target.glob("*.whl")) if target.is_dir() else []
    if code != 0 or len(wheels) != 1:
        raise _pip_failed(f"{package}=={version}", log.read_text("utf-8", errors="replace"))
    if progress is not None:
        progress(size)
    return wheels[0]


def _bytes_below(directory: Path) -> int:
    """Return the bytes of all files below, of which some may vanish meanwhile."""
    total = 0
    for root, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total


def _pip_failed(wanted: str, said: str) -> DownloadError:
    if "No module named pip" in said:
        return DownloadError(
            f"pip is missing for {sys.executable}, and {wanted} comes through it.",
            f"Install it: {sys.executable} -m ensurepip.",
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")] or lines or ["no reason"]
    return DownloadError(
        f"pip could not bring {wanted}: {errors[0][:300].rstrip('.')}.",
        f"Check the network and pip's settings (index, proxy): {sys.executable} -m pip download --no-deps {wanted}.",
    )
