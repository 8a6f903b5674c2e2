"""A process that holds cases ready and times one repeat whenever it is told to.

In: lines of standard input, each the name of a case. Out: a line of JSON each: molecules, CPU and wall seconds, or why
the case cannot run. Processes stay alive, so that ours and the peer's repeats can take turns.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from bench.cases import CASES
from bench.setting import Setting, Unavailable

ROOF = "roof"
"""Name under which the matrix rate is measured."""


def _family() -> set[int]:
    """Return this process and its living descendants; chemistry runs in workers."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # ended meanwhile
    found = {os.getpid()}
    while new := {child for child, parent in parents.items() if parent in found} - found:
        found |= new
    return found


def cpu_seconds() -> float:
    """Return the CPU time of this process and of all its descendants, those that ended included."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = time.process_time()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total += ended.ru_utime + ended.ru_stime
    for process in _family() - {os.getpid()}:
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15])) / ticks
    return total


def _measure(repeat: Callable[[], int]) -> dict[str, Any]:
    cpu, wall = cpu_seconds(), time.perf_counter()
    count = repeat()
    return {"molecules": count, "cpu": cpu_seconds() - cpu, "wall": time.perf_counter() - wall,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}  # fmt: skip


def _roof(setting: Setting) -> dict[str, Any]:
    import torch

    from bench.network import prepare_torch
    from bench.roofline import matrix_rate, memory_rate

    device = prepare_torch(setting)
    return {"bf16": matrix_rate(device, torch.bfloat16), "fp32": matrix_rate(device, torch.float32),
            "memory": memory_rate(device)}  # fmt: skip


def serve(setting: Setting, answers: TextIO) -> None:
    """Answer every line of standard input with one line; the first repeat of a case is a warm-up and does not count."""
    ready: dict[str, Callable[[], int]] = {}
    for line in sys.stdin:
        name = line.strip()
        try:
            if name == ROOF:
                answer = _roof(setting)
            else:
                if name not in ready:
                    case = CASES[name]
                    ready[name] = getattr(importlib.import_module(case.module), case.function)(setting)
                    ready[name]()
                answer = _measure(ready[name])
        except (Unavailable, ImportError) as reason:
            answer = {"skipped": str(reason)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main(setting: str) -> None:
    """Keep standard output for answers: whatever a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(Setting.from_json(setting), answers)
