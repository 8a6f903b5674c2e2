"""What all tests share: one thread per process, and the command line as a subprocess."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# No test module is imported before this one, so torch and numpy see it, and subprocesses inherit it.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))


@pytest.fixture
def run_molvae() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs ``python -m molvae ARGUMENTS...`` and returns the finished process."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "molvae", *map(str, arguments)]
        settings = {"capture_output": True, "text": True, "timeout": 120, "env": environment, **options}
        return subprocess.run(command, **settings)  # type: ignore[call-overload]

    return run
