"""The table of nasty SMILES with the class that each must get."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

PATH = Path(__file__).parent / "data" / "nasty_smiles.tsv.gz"


def load_nasty() -> list[tuple[str, str, str]]:
    """Return (SMILES, expected class, category) of all rows; the file holds SMILES with Python's backslash escapes."""
    csv.field_size_limit(1 << 20)
    with gzip.open(PATH, "rt", encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [
            (row["smiles"].encode("latin-1").decode("unicode_escape"), row["expected"], row["category"]) for row in rows
        ]
