"""Whatever a user's function does, it costs a message and a missing score; nothing is left running."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from molvae.optimize.prints import CUT, MOST
from molvae.optimize.process import ProcessOracle

# A molecule with N meets the behaviour, the others are scored; every process that runs writes down its number.
MODULE = """
import ctypes, json, math, os, signal, subprocess, sys, time

def note():
    with open("pids", "a") as handle:
        handle.write(f"{os.getpid()}\\n")

note()

class Number(float):
    pass

def guarded(misbehave):
    def function(smiles):
        if any("N" in one for one in smiles):
            return misbehave(smiles)
        return [float(len(one)) for one in smiles]
    return function

def values(value):
    return guarded(lambda smiles: [value if "N" in one else float(len(one)) for one in smiles])

def _raise(smiles): raise ValueError("I dislike " + smiles[0])
def _hang(smiles):
    while True: time.sleep(60)
def _stubborn(smiles):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _hang(smiles)
def _segfault(smiles): ctypes.string_at(0)
def _vanish(smiles): os._exit(0)
def _kill(smiles): os.kill(os.getpid(), signal.SIGKILL)
def _quit(smiles): sys.exit(3)
def _children(smiles):
    if os.fork() == 0:
        note()
        _hang(smiles)
    subprocess.Popen(["sleep", "1000"])
    os._exit(1)
def _recurse(smiles): return _recurse(smiles)

raises, hangs, stubborn, segfaults = map(guarded, (_raise, _hang, _stubborn, _segfault))
vanishes, killed, quits, children, recurses = map(guarded, (_vanish, _kill, _quit, _children, _recurse))
short = guarded(lambda smiles: [1.0] * (len(smiles) - 1))
long = guarded(lambda smiles: [1.0] * (len(smiles) + 1))
none, text, mapping, number = (guarded(lambda smiles, v=v: v) for v in (None, "1" * 9, {"CC": 1}, 1.0))
nan, inf, none_value, str_value, complex_value = map(values, (math.nan, -math.inf, None, "0.9", 1j))
huge, too_huge, listed = map(values, (1e300, 10**400, [1.0]))

def prints(smiles):
    print('{"id": 1, "scores": [9, 9, 9]}', flush=True)
    sys.stderr.write("x" * 1000)
    return [float(len(one)) for one in smiles]

def floods(smiles):
    for _ in range(2000): os.write(1, b"x" * 10_000)
    return [float(len(one)) for one in smiles]

def odd_numbers(smiles):
    import numpy as np
    return np.array([len(one) for one in smiles], dtype=np.float32)
"""

FAILING = (
    "raises", "hangs", "stubborn", "segfaults", "vanishes", "killed", "quits", "children", "recurses", "short", "long",
    "none", "text", "mapping", "number", "nan", "inf", "none_value", "str_value", "complex_value", "huge", "too_huge",
    "listed",
)  # fmt: skip


@pytest.fixture(autouse=True)
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MODULE)


def alive() -> list[int]:
    """Return the processes of the user's module that still run."""
    time.sleep(0.05)
    pids = {int(line) for line in Path("pids").read_text().split()}
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text()]


@pytest.mark.parametrize("behaviour", FAILING)
def test_a_failure_costs_its_own_molecule_only(behaviour: str) -> None:
    with ProcessOracle(f"mine:{behaviour}", timeout=1.0) as oracle:
        began = time.monotonic()
        scores = oracle(["CC", "CNC", "CCCC", "C"])
        assert time.monotonic() - began < 1.0 + 5.0
        assert math.isnan(scores[1])
        assert [scores[0], *scores[2:]] == [2.0, 4.0, 1.0]
        assert oracle.problem
        assert oracle(["CCC"]) == [3.0]
    assert alive() == []


@pytest.mark.parametrize("behaviour", ["prints", "floods", "odd_numbers"])
def test_noise_and_numpy_change_nothing(behaviour: str) -> None:
    with ProcessOracle(f"mine:{behaviour}", timeout=10.0) as oracle:
        assert oracle(["CC", "CNC", "C"]) == [2.0, 3.0, 1.0]
        assert oracle.problem == ""


def test_what_is_printed_is_kept_up_to_a_limit(tmp_path: Path) -> None:
    log = tmp_path / "oracle.log"
    Path("talks.py").write_text(
        "import os, sys\nprint('loaded')\n"
        "def f(smiles):\n    print('asked', smiles)\n    sys.stderr.write('hm\\n')\n"
        "    os._exit(1) if 'N' in smiles else None\n    return [1.0] * len(smiles)\n"
    )
    with ProcessOracle("talks:f", timeout=20) as oracle:
        assert oracle(["C"]) == [1.0]
        oracle.keep_prints(log)
        assert oracle(["CC", "N"])[0] == 1.0
    text = log.read_text()
    assert text.startswith("loaded\nasked ['C']\nhm\nasked ['CC', 'N']")
    # The last words before a crash are there, and so is the process that came after it.
    assert "asked ['N']\nhm\n" in text
    assert text.count("loaded") >= 2

    with ProcessOracle("mine:floods", timeout=20) as oracle:
        oracle.keep_prints(tmp_path / "flood.log")
        oracle(["CC"])
    kept = (tmp_path / "flood.log").read_bytes()
    assert len(kept) == MOST + len(CUT)
    assert kept.endswith(CUT)

    with ProcessOracle("mine:odd_numbers", timeout=20) as oracle:
        oracle.keep_prints(tmp_path / "silent.log")
        oracle(["CC"])
    assert not (tmp_path / "silent.log").exists()


@pytest.mark.parametrize("behaviour", ["hangs", "stubborn"])
def test_a_function_that_always_hangs_ends_in_time(behaviour: str) -> None:
    with ProcessOracle(f"mine:{behaviour}", timeout=0.5) as oracle:
        began = time.monotonic()
        assert all(math.isnan(score) for score in oracle(["CN"] * 10))
        assert time.monotonic() - began < 2 * 0.5 + 5.0
        assert "0.5 s" in oracle.problem or "0.125 s" in oracle.problem
    assert alive() == []


def test_a_list_larger_than_any_buffer_goes_through_and_a_deaf_process_does_not_block() -> None:
    many = ["C" * 50] * 20_000
    with ProcessOracle("mine:raises", timeout=20.0) as oracle:
        assert oracle(many) == [50.0] * len(many)
    Path("deaf.py").write_text("import time\ndef f(smiles):\n    time.sleep(60)\n")
    with ProcessOracle("deaf:f", timeout=0.5) as oracle:
        assert all(math.isnan(score) for score in oracle(many))


def test_a_value_that_is_no_score_is_shown() -> None:
    for function, shown in (("str_value", "'0.9'"), ("none_value", "None"), ("inf", "-inf")):
        with ProcessOracle(f"mine:{function}", timeout=20) as oracle:
            oracle(["CC", "CN"])
            assert f"returned {shown}, which is no finite number" in oracle.problem


def test_a_share_of_the_limit_is_called_so_and_no_limit_is_none() -> None:
    with ProcessOracle("mine:hangs", timeout=1.2) as oracle:
        assert math.isnan(oracle(["CN", "CC"])[0])
        assert "its share of the 1.2 s for a second try" in oracle.problem
    with ProcessOracle("mine:prints", timeout=math.inf) as oracle:
        assert oracle(["CC", "CN"]) == [2.0, 2.0]


def test_nothing_survives_the_death_of_the_parent() -> None:
    script = (
        "import os, sys, threading, time, signal\n"
        "from molvae.optimize.process import ProcessOracle\n"
        "oracle = ProcessOracle('mine:stubborn', timeout=60)\n"
        "threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()\n"
        "oracle(['CN'])\n"
    )
    root = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": root}, timeout=30)
    assert done.returncode == -9
    end = time.monotonic() + 5
    while alive() and time.monotonic() < end:
        time.sleep(0.05)
    assert alive() == []
