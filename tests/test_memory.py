"""Freed memory stays in a process that trains, where the C library can be told so."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from molvae.train.memory import keep_memory
kept = {keep} and keep_memory()
for _ in range(40):
    torch.ones(12_000_000).add_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(40):
    torch.ones(12_000_000).add_(1)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> tuple[str, int]:
    environment = {"OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True, check=True, env=environment
    )
    kept, count = done.stdout.split()
    return kept, int(count)


def test_freed_blocks_are_used_again_without_page_faults() -> None:
    kept, after = faults(True)
    if kept != "True":
        pytest.skip("the C library has no mallopt")
    assert after < 0.1 * faults(False)[1]
