"""Read the molecules that a verb is given.

In: a path, or - for stdin. Out: SMILES as given, one per row, in order.
"""

from __future__ import annotations


def read_smiles(source: str, column: str | None = None) -> list[str]:
    """Return the cells of the SMILES column of ``source``, as `molvae prepare` would read them; a missing cell is "".

    Args:
        source: .csv .tsv .smi .smiles, each also .gz, or ``-`` for stdin.
        column: its name; None finds it.

    Raises:
        InputError: when the file cannot be read, has no such column, or holds no row.
    """
    from molvae.data.table import read_smiles as read

    return read(source, column)
