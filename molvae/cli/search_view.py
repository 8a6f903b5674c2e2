"""Show a search while it runs, and write its page when it ends.

In: `Progress` of every batch; a `Result` and its directory. Out: a bar, on a terminal with the best molecules so far
under it; report.html.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from molvae.optimize.result import Result
    from molvae.optimize.search import Progress

REPORT = "report.html"


@dataclass
class Leaders:
    """The best molecules so far, as a table that rich draws anew whenever it looks."""

    rows: tuple[tuple[str, float], ...] = field(default=())

    def __rich__(self) -> Any:
        """Return the table."""
        from rich.markup import escape
        from rich.table import Table

        table = Table("score", "best so far", box=None, padding=(0, 2, 0, 0), header_style="dim")
        for smiles, score in self.rows:
            table.add_row(f"{score:.4g}", escape(smiles))
        return table if self.rows else ""


@contextmanager
def search_view(budget: int) -> Iterator[Callable[[Progress], None]]:
    """Show a search until the block ends; yields what is to be told of every batch."""
    from molvae.cli.progress import progress_bar

    leaders = Leaders()
    with progress_bar("Optimising", budget, below=leaders) as update:

        def show(state: Progress) -> None:
            leaders.rows = state.leaders
            update(state.n_calls, best=state.best, top10=state.top10)

        yield show


def write_report(result: Result, directory: Path) -> None:
    """Write the page of a search into its directory and name it among its files; why it cannot is said, no more."""
    from molvae.errors import MolvaeError
    from molvae.report.html import build_report

    if not result.n_calls:
        return
    try:
        result.files.append(build_report([directory], directory / REPORT))
    except MolvaeError as error:
        typer.echo(f"no {REPORT}: {error.problem}", err=True)
