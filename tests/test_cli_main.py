"""The command line as a whole: help, failures in two lines, exit codes, progress."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from molvae.cli import main as cli
from molvae.cli import progress
from molvae.errors import BusyError, InputError, MolvaeError

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "rdkit", "pandas", "pydantic", "numpy", "rich", "selfies"}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Return a function that puts another command in the place of ``molvae sample``."""

    def replace(command: Callable[..., None]) -> None:
        monkeypatch.setitem(sys.modules, "molvae.cli.sample", SimpleNamespace(command=command))

    return replace


def fails_with(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


def python(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    settings = {"capture_output": True, "text": True, "timeout": 60, "cwd": ROOT, **options}
    return subprocess.run(command, **settings)  # type: ignore[call-overload]


def test_help_names_every_verb_and_imports_no_library() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = python(
        "import sys; from molvae.cli.main import main; code = main(['--help']);"
        f"sys.exit(str({HEAVY} & set(sys.modules)) if {HEAVY} & set(sys.modules) else code)"
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    for name, line in cli.VERBS.items():
        assert f"  {name} " in done.stdout
        assert line in done.stdout
    # Time on the processor, so that a busy machine does not fail the test.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.4


def test_no_arguments_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize("name", cli.VERBS)
def test_every_verb_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "-h"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: molvae {name} " in text
    assert len(text.splitlines()) > 5


def test_help_of_the_verbs_loads_neither_torch_nor_rdkit() -> None:
    code = """
import sys
from molvae.cli.main import VERBS, main
for verb in VERBS:
    main([verb, "--help"])
sys.exit(str({"torch", "rdkit", "pandas"} & set(sys.modules)))
"""
    assert python(code).stderr.strip() == "set()"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trin"], "No such command 'trin'. Did you mean 'train'?"),
        (["--bad"], "No such option: --bad"),
        (["sample", "--bad"], "No such option: --bad"),
        (["sample", "many"], "many"),
    ],
)
def test_wrong_use_is_two_lines(
    arguments: list[str], said: str, verb: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    def command(n: int = 1) -> None:
        """Sample."""

    verb(command)
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    first, second = captured.err.splitlines()
    assert first.startswith("error: ")
    assert said in first
    assert second == ("See molvae sample --help." if arguments[0] == "sample" else "See molvae --help.")
    assert captured.out == ""


def test_options_reach_the_verb(verb: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    def command(n: int = 1) -> None:
        typer.echo(n + 1)

    verb(command)
    assert cli.main(["sample", "--n", "41", "--debug"]) == 0
    assert capsys.readouterr().out == "42\n"


@pytest.mark.parametrize("error", [InputError("rows.csv is empty.", "Give a file\nwith rows."), BusyError("a", "b")])
def test_a_known_failure_is_two_lines(
    error: MolvaeError, verb: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    verb(fails_with(error))
    assert cli.main(["sample"]) == error.exit_code
    expected = f"error: {error.problem}\n{' '.join(error.remedy.split())}\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("arguments", [["--debug", "sample"], ["sample", "--debug"]])
def test_debug_shows_the_traceback(
    arguments: list[str], verb: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    verb(fails_with(ZeroDivisionError("by nothing")))
    assert cli.main(["sample"]) == cli.FAULT
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: ZeroDivisionError: by nothing"
    assert "--debug" in second
    assert cli.main(arguments) == cli.FAULT
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_out_of_memory_and_missing_file(verb: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    verb(fails_with(MemoryError("needed 10 GiB")))
    assert cli.main(["sample"]) == cli.NO_MEMORY
    assert "out of memory: needed 10 GiB" in capsys.readouterr().err
    verb(fails_with(FileNotFoundError(2, "No such file or directory", "a.csv")))
    assert cli.main(["sample"]) == cli.NO_OUTPUT
    assert capsys.readouterr().err == "error: No such file or directory: a.csv.\nCheck the path.\n"


def test_interrupt_and_exit_codes_pass(verb: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    verb(fails_with(KeyboardInterrupt()))
    assert cli.main(["sample"]) == cli.INTERRUPTED
    verb(fails_with(typer.Exit(3)))
    assert cli.main(["sample"]) == 3
    assert capsys.readouterr().err == ""


def test_a_reader_that_leaves_is_no_error() -> None:
    code = """
import sys, types, typer
from molvae.cli.main import main
def command() -> None:
    for _ in range(100_000):
        typer.echo("CCO")
sys.modules["molvae.cli.sample"] = types.SimpleNamespace(command=command)
sys.exit(main(["sample"]))
"""
    pipe = f"set -o pipefail; {sys.executable} -c '{code}' | head -n 1"
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout == "CCO\n"
    assert done.stderr == ""
    assert done.returncode == cli.BROKEN_PIPE


def test_sigterm_leaves_nothing_half_written(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys, types
from pathlib import Path
from molvae.cli.main import main
from molvae.files import new_directory
def command() -> None:
    with new_directory(Path({str(tmp_path / "out")!r})) as directory:
        (directory / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
sys.modules["molvae.cli.sample"] = types.SimpleNamespace(command=command)
sys.argv = ["molvae", "sample"]
sys.exit(main())
"""
    done = python(code)
    assert (done.returncode, done.stderr) == (cli.TERMINATED, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_two_lines(run_molvae: Run) -> None:
    with open("/dev/full", "w") as full:
        done = run_molvae("--help", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == cli.NO_OUTPUT
    assert done.stderr.splitlines()[0] == "error: No space left on device."
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(("arguments", "redirect", "code"), [("--help", ">&-", 0), ("nothing", "2>&-", 2)])
def test_closed_streams(arguments: str, redirect: str, code: int) -> None:
    line = f"{sys.executable} -m molvae {arguments} {redirect}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_version(run_molvae: Run, tmp_path: Path) -> None:
    done = run_molvae("--version", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "LANG": "C", "HOME": ""})
    assert done.stdout.startswith("molvae 0.")


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_progress_speaks_every_ten_seconds() -> None:
    clock, stream = Clock(), io.StringIO()
    update = progress._plain_lines("Training", 1000, 100, stream, clock)
    for second in range(1, 31):
        clock.now = float(second)
        update(100 + 10 * second, loss=0.25)
    assert stream.getvalue().splitlines() == [
        "Training: 200/1,000  10/s  1m20s left  loss 0.25",
        "Training: 300/1,000  10/s  1m10s left  loss 0.25",
        "Training: 400/1,000  10/s  1m00s left  loss 0.25",
    ]


def test_progress_rate_follows_the_last_minute() -> None:
    clock = Clock()
    rate = progress._rate(0, clock)
    done = 0
    for second in range(1, 400):
        clock.now = float(second)
        done += 100 if second < 200 else 1
        latest = rate(done)
    assert latest == pytest.approx(1.0)


def test_progress_survives_a_closed_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(), io.StringIO()
    update = progress._plain_lines("Training", None, 0, stream, clock)
    stream.close()
    clock.now = 100.0
    update(5)
    monkeypatch.setattr(sys, "stderr", None)
    with progress.progress_bar("Training", 10) as update:
        update(5)


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress.progress_bar("Sampling [new]", 1000) as update:
        update(500, valid="99 %")
    assert "Sampling [new]" in stream.getvalue()
    assert "500/1,000" in stream.getvalue()
    assert "valid 99 %" in stream.getvalue()
