"""An external program as oracle: SMILES in, scores out; whatever else it does costs a message and a missing score."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_space import ToySpace

from molvae.errors import OracleError, UnknownNameError
from molvae.optimize.budget import BudgetedOracle
from molvae.optimize.goal_file import read_goal
from molvae.optimize.oracles import find_oracle
from molvae.optimize.process import ProcessOracle
from molvae.optimize.run import search
from molvae.optimize.search import Settings

SHELL = shutil.which("sh") or "/bin/sh"

# Each one scores by length; a molecule with N meets the behaviour. Every process that runs writes down its number.
SCRIPT = """#!{shell}
echo $$ >> pids
while read smiles; do
  case "$smiles" in
    *N*) {behaviour} ;;
    *) echo "${{#smiles}}" ;;
  esac
done
{end}
"""
BEHAVIOURS = {
    "rubbish": "echo rubbish",
    "blank": "echo",
    "infinite": "echo inf",
    "huge": "echo 1e300",
    "two_lines": "echo 1; echo 2",
    "silent": ":",
    "exits": "echo 'the license server is down' >&2; exit 3",
    "killed": "kill -9 $$",
    "hangs": "sleep 1000",
    "stubborn": "trap '' TERM; while :; do sleep 1000; done",
    "children": "sleep 1000 & exit 1",
    "floods": "yes 1",
    "binary": "printf '\\377\\376\\n'",
    "chatty": "echo noise >&2; echo nonsense",
}
MOLECULES = ["CCO", "CCN", "CCCC", "C"]


def write(folder: Path, behaviour: str = "echo nan", end: str = "") -> str:
    path = folder / "score.sh"
    path.write_text(SCRIPT.format(shell=SHELL, behaviour=behaviour, end=end))
    path.chmod(0o755)
    return "cmd:./score.sh"


def alive(folder: Path) -> list[int]:
    """Return the processes that are still there; one that was killed may take a moment to be scheduled, and to end."""
    left = [int(line) for line in (folder / "pids").read_text().split()]
    until = time.monotonic() + 5
    while left and time.monotonic() < until:
        left = [number for number in left if runs(number)]
        time.sleep(0.05 if left else 0)
    return left


def runs(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_bad_molecule_costs_only_itself(folder: Path, name: str) -> None:
    oracle = ProcessOracle(write(folder, BEHAVIOURS[name]), timeout=3.0)
    try:
        scores = oracle(MOLECULES)
    finally:
        oracle.close()
    assert [scores[0], scores[2], scores[3]] == [3.0, 4.0, 1.0]
    assert math.isnan(scores[1])
    assert oracle.problem
    if name == "exits":
        assert "exit code 3" in oracle.problem
        assert "license server" in oracle.problem
    if name == "killed":
        assert "signal 9" in oracle.problem
    if name in ("hangs", "stubborn"):
        assert "no answer" in oracle.problem
    assert alive(folder) == []


def test_a_program_that_hangs_always_ends_in_time(folder: Path) -> None:
    before = time.monotonic()
    oracle = ProcessOracle(write(folder, end="trap '' TERM; while :; do sleep 1000; done"), timeout=1.5)
    began = time.monotonic()
    # Starting Python anew after each of five hangs takes what it took now, however busy the machine is.
    starts = 8 * (began - before)
    try:
        assert all(map(math.isnan, oracle(MOLECULES)))
    finally:
        oracle.close()
    assert time.monotonic() - began < 2 * 1.5 + 5 + starts
    assert alive(folder) == []


def test_a_program_that_always_fails_stops_the_search_with_its_own_words(folder: Path) -> None:
    oracle = ProcessOracle(write(folder, end="echo 'no receptor' >&2; exit 2"), timeout=10.0)
    try:
        with pytest.raises(OracleError, match=r"gave no score.*exit code 2 \(no receptor\)"):
            BudgetedOracle(oracle, 10).score(MOLECULES)
    finally:
        oracle.close()


def test_what_a_program_says_is_in_the_log_of_the_run(folder: Path) -> None:
    line = write(folder, "echo 1", end="echo 'grid of 20 A' >&2")
    transform = '{ type = "sigmoid", low = 1, high = 9 }'
    Path("goal.toml").write_text(f'[[component]]\noracle = "{line}"\ntransform = {transform}\n')
    oracle = read_goal(Path("goal.toml")).build(20.0)
    try:
        result = search(ToySpace(), oracle, ["CCCCC"], Settings("random", budget=12), folder / "run")
    finally:
        oracle.close()
    log = folder / "run/oracle.log"
    assert log in result.files
    assert set(log.read_text().splitlines()) == {"grid of 20 A"}


def test_a_program_that_does_not_read_its_input_is_no_deadlock(folder: Path) -> None:
    path = folder / "deaf.sh"
    path.write_text(f"#!{SHELL}\nfor i in $(seq 3000); do echo 1; done\n")
    path.chmod(0o755)
    oracle = find_oracle("cmd:./deaf.sh", 30.0)
    try:
        assert oracle(["C" * 900] * 3000) == [1.0] * 3000
    finally:
        oracle.close()


def test_arguments_are_split_and_no_shell_runs(folder: Path) -> None:
    oracle = find_oracle("cmd:sed 's/.*/1;2/;s/;.*//'", 10.0)
    try:
        assert oracle(["CCO", "C"]) == [1.0, 1.0]
        assert oracle([]) == []
    finally:
        oracle.close()
    with pytest.raises(UnknownNameError, match=r"no program '\$HOME/x'"):
        find_oracle("cmd:$HOME/x")


def test_wrong_commands_are_explained_at_once(folder: Path) -> None:
    (folder / "plain.txt").write_text("no program")
    for command, text in (("no-such-program-1", "no program"), ("./plain.txt", "chmod"), ("'a", "cannot be read"),
                          ("", "names no program")):  # fmt: skip
        with pytest.raises(UnknownNameError, match=text) as caught:
            find_oracle(f"cmd:{command}")
        assert "cmd:PROGRAM" in caught.value.remedy


def test_identities_name_the_command(folder: Path) -> None:
    oracle = find_oracle(write(folder), 5.0)
    oracle.close()
    assert oracle.identity == "command:./score.sh"


def test_nothing_survives_the_death_of_the_run(folder: Path) -> None:
    spec = write(folder, end="sleep 1000")
    code = f"from molvae.optimize.process import ProcessOracle; ProcessOracle({spec!r}, 60.0)(['CCO'])"
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)})
    deadline = time.monotonic() + 60
    while not (folder / "pids").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while alive(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive(folder) == []
