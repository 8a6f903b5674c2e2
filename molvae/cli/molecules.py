"""Read the molecules that a verb is given.

In: a path, - for stdin, or the name of a dataset's split. Out: SMILES as given, one per row, in order.
"""

from __future__ import annotations

import typer


def locate(source: str) -> str:
    """Return ``source`` itself, or the file of the split that it names, such as ``moses:test``; fetched when missing.

    A file of that name comes first. Says on stderr which file a name stands for.
    """
    from molvae.data.sources import find_split

    split = find_split(source)
    if split is None:
        return source
    from molvae.cli.datasets import bring

    path = str(bring(split.source)[0] / split.file)
    typer.echo(f"{source}: {path}", err=True)
    return path


def read_smiles(source: str, column: str | None = None) -> list[str]:
    """Return the cells of the SMILES column of ``source``; "" for a row that cannot be read, and stderr says why."""
    from contextlib import closing

    from molvae.data.table import Table

    table = Table(locate(source), column)
    cells, count, first = [], 0, ""
    with closing(table.source):
        for number, row in enumerate(table.rows(), 1):
            if isinstance(row, str):
                count += 1
                first = first or f"row {number}: {row}"
            cells.append("" if isinstance(row, str) else row[table.smiles])
    if count:
        typer.echo(f"{table.name}: {count:,} of {len(cells):,} rows cannot be read, the first: {first}", err=True)
    return cells
