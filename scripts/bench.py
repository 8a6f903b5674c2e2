"""Measure every stage beside the peer that does the same work and beside what the machine can do.

    python scripts/bench.py --wheel molsets-0.3.1-py3-none-any.whl -o runs/bench
    python scripts/bench.py --device cuda --wheel ... -o runs/bench    # adds the GPU's rows to the same table

Writes OUT/bench.json, OUT/bench.md and OUT/bench.png. Ours and the peer's repeats take turns in processes of their own
on the same cores; a figure is the median over repeats. With one thread a rate is per second of CPU time, so that other
work on the machine disturbs it less; with more threads, and on a GPU, per second of wall clock. The wheel of MOSES
(pip download --no-deps molsets==0.3.1) is read at run time and never installed; without it its rows stay empty, and so
do rows whose libraries are missing. Network stages need neither RDKit nor selfies.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench.cases import CASES, COMPARISONS, STAGES, Comparison
from bench.setting import Setting
from bench.table import markdown, plot, row
from bench.worker import ROOF
from bench.worker import main as work

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {
    "cpu": "python scripts/bench.py --wheel molsets-0.3.1-py3-none-any.whl -o {output}",
    "cuda": "python scripts/bench.py --device cuda --wheel molsets-0.3.1-py3-none-any.whl -o {output}",
}


class Worker:
    """A process of ``bench.worker`` with its environment."""

    def __init__(self, setting: Setting, environment: dict[str, str]) -> None:
        threads = {name: str(setting.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        # The worker may be started from anywhere; the package is the one beside this script.
        paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--worker", setting.to_json()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **threads, **paths, **environment},
        )  # fmt: skip

    def ask(self, name: str) -> dict[str, Any]:
        """Do one repeat of a case (the first one after a warm-up)."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(name + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            return {"skipped": f"its process ended with code {self.process.wait()}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Let the process go."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


def measure(lines: Sequence[Comparison], setting: Setting, repeats: int, seconds: float) -> dict[str, Any]:
    """Time the cases of one stage in turns; return repeats by case, and rates of the machine.

    Args:
        lines: comparisons of the stage.
        setting: for every case.
        repeats: of each case.
        seconds: after which no further round begins.
    """
    names = dict.fromkeys(name for line in lines for name in (line.peer, line.ours, line.roof) if name in CASES)
    workers: dict[str, Worker] = {}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    roofs: list[dict[str, Any]] = []
    started = time.monotonic()
    try:
        for _ in range(repeats):
            for name in names:
                case = CASES[name]
                if found[name] and "skipped" in found[name][-1]:
                    continue
                if case.process not in workers:
                    workers[case.process] = Worker(setting, case.environment)
                found[name].append(workers[case.process].ask(name))
            if any(line.roof and line.roof not in CASES for line in lines):
                if ROOF not in workers:
                    workers[ROOF] = Worker(setting, {})
                roofs.append(workers[ROOF].ask(ROOF))
            if time.monotonic() - started > seconds:
                break
    finally:
        for worker in workers.values():
            worker.end()
    return {"cases": found, "roofs": roofs}


def machine(device: str) -> dict[str, Any]:
    """Say what ran."""
    import torch

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    gpu = torch.cuda.get_device_name() if device != "cpu" and torch.cuda.is_available() else None
    return {"cpu": name, "cores": len(os.sched_getaffinity(0)), "gpu": gpu, "torch": torch.__version__,
            "python": platform.python_version(), "load": os.getloadavg()[0]}  # fmt: skip


def limits(roofs: Sequence[dict[str, Any]], setting: Setting) -> dict[str, float]:
    """Return molecules per second that the best matrix rate measured allows, for training and sampling."""
    from bench.network import SIZES, VOCABULARY
    from bench.roofline import operations

    tokens = float(setting.lengths(100_000).mean())
    train, sample = operations(SIZES, VOCABULARY, tokens)
    rates = {kind: max((one.get(kind, 0.0) for one in roofs), default=0.0) for kind in ("bf16", "fp32", "memory")}
    if not rates["bf16"]:
        return {}
    return {"train": rates["bf16"] / train, "train32": rates["fp32"] / train, "sample": rates["bf16"] / sample,
            "sample32": rates["fp32"] / sample, "operations_train": train, "operations_sample": sample,
            **{f"{kind}_per_s": value for kind, value in rates.items()}}  # fmt: skip


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--wheel", type=Path, help="molsets-0.3.1-py3-none-any.whl")
    sample = ROOT / "data" / "moses_sample.csv.gz"
    parser.add_argument("--smiles", type=Path, default=sample, help="molecules, one a line")
    parser.add_argument("--dataset", type=Path, help="a prepared dataset whose lengths the network stages take")
    parser.add_argument("--stages", default=",".join(STAGES), help="separated by commas; default: all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--molecules", type=int, default=2000, help="in one repeat of a chemistry stage")
    parser.add_argument("--seconds", type=float, default=400, help="after which a stage begins no further round")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/bench"))
    given = parser.parse_args()
    unknown = set(given.stages.split(",")) - set(STAGES)
    if unknown:
        parser.error(f"no stage {', '.join(sorted(unknown))}; choose from {', '.join(STAGES)}")
    if min(given.repeats, given.threads, given.molecules) < 1:
        parser.error("repeats, threads and molecules are 1 or more")
    return given


def run(given: argparse.Namespace, folder: str) -> dict[str, Any]:
    """Measure the stages asked for; return one device's part of ``bench.json``."""

    def text(path: Path | None) -> str | None:
        return None if path is None else str(path.resolve())

    setting = Setting(str(given.smiles.resolve()), text(given.wheel), text(given.dataset), given.device, given.threads,
                      given.molecules, folder)  # fmt: skip
    clock = "cpu" if given.device == "cpu" and given.threads == 1 else "wall"
    rows, raw = [], {}
    for stage in STAGES:
        lines = [line for line in COMPARISONS if line.stage == stage and (given.device == "cpu" or line.gpu)]
        if stage not in given.stages.split(","):
            left = [{"skipped": f"left out by --stages; add {stage}"}]
            rows += [row(line, {line.ours: left, line.peer: left}, clock, {}) for line in lines]
            continue
        if not lines:
            continue
        sys.stderr.write(f"{stage} ...\n")
        raw[stage] = result = measure(lines, setting, given.repeats, given.seconds)
        bounds = limits(result["roofs"], setting) if result["roofs"] else {}
        rows += [{**row(line, result["cases"], clock, bounds), "limits": bounds} for line in lines]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    return {"machine": machine(given.device), "threads": given.threads, "clock": clock, "repeats": given.repeats,
            "seed": setting.seed, "date": today, "rows": rows, "raw": raw}  # fmt: skip


def write(output: Path, parts: dict[str, Any]) -> str:
    """Write JSON, table and plot of all devices; return the table."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "bench.json").write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")
    texts = []
    for device, name in (("cpu", "CPU"), ("cuda", "GPU")):
        part = parts.get(device)
        command = COMMANDS[device].format(output=output)
        if part is None:
            texts.append(f"**{name}**: not run. `{command}`\n")
            continue
        about = part["machine"]
        used = about["gpu"] if device == "cuda" else f"{part['threads']} thread(s) of an {about['cpu']}"
        title = f"{name}: {used}, PyTorch {about['torch']}, molecules per second of {part['clock']} time, " + (
            f"median of {part['repeats']}"
        )
        texts.append(f"**{title}** (`{command}`)\n\n{markdown(part['rows'])}")
        plot(part["rows"], title, output / ("bench.png" if device == "cpu" else "bench_gpu.png"))
    table = "\n".join(texts)
    (output / "bench.md").write_text(table, encoding="utf-8")
    return table


def main() -> None:
    """Measure, keep what an earlier run found on the other device, and print the table."""
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2])
        return
    given = arguments()
    known = given.output / "bench.json"
    parts: dict[str, Any] = json.loads(known.read_text("utf-8")) if known.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        parts[given.device] = run(given, folder)
    sys.stdout.write(write(given.output, parts))


if __name__ == "__main__":
    main()
