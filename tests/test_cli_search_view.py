"""What a search shows while it runs, and when its page cannot be written."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from molvae.cli.search_view import Leaders, search_view, write_report
from molvae.optimize.result import Result
from molvae.optimize.search import Progress

STATE = Progress(30, 100, 0.9, 0.8, (("CC[NH3+]", 0.9), ("CCO", 0.85)))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_best_so_far_stand_under_the_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with search_view(100) as show:
        show(STATE)
    text = screen.getvalue()
    assert "30/100" in text
    assert "CC[NH3+]" in text
    assert text.index("0.85") > text.index("CC[NH3+]")


def test_nothing_stands_there_before_something_was_found_or_away_from_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    console = Console(file=io.StringIO())
    console.print(Leaders())
    assert console.file.getvalue().strip() == ""  # type: ignore[attr-defined]
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    with search_view(100) as show:
        show(STATE)
    assert log.getvalue() == ""


def test_a_page_that_cannot_be_written_costs_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = pd.DataFrame()
    write_report(Result(empty, empty, empty, 0, "SIGINT"), tmp_path)
    assert capsys.readouterr().err == ""
    found = Result(empty, empty, empty, 3, "budget")
    write_report(found, tmp_path)
    assert "no report.html" in capsys.readouterr().err
    assert found.files == []
