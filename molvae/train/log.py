"""Keep the record of a run: one JSON object a line.

In: numbers of a step. Out: ``metrics.jsonl``, cut back to the checkpoint's step when a run is resumed.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from molvae.files import write_text


class MetricsLog:
    """Append rows to ``path``; each is on disk before the next step begins."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, Any]) -> None:
        """Write one row; a float that is not finite becomes null."""
        clean = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()
        }
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(clean) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows; a torn last line, left by a killed process, is skipped."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_text("utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows

    def has(self, kind: str, step: int) -> bool:
        """Say whether there is a row of ``kind`` for ``step``."""
        return any(row["kind"] == kind and row["step"] == step for row in self.rows())

    def cut_after(self, step: int) -> None:
        """Drop the rows of steps after ``step``: a resumed run writes them again."""
        if not self.path.exists():
            return
        rows = [row for row in self.rows() if row["step"] <= step]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))
