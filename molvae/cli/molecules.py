"""Read the molecules that a verb is given.

In: a path, or - for stdin. Out: SMILES as given, one per row, in order.
"""

from __future__ import annotations


def read_smiles(source: str, column: str | None = None) -> list[str]:
    """Return the cells of the SMILES column of ``source``; see `molvae.generate.known.read_smiles`."""
    from molvae.generate.known import read_smiles as read

    return read(source, column)
