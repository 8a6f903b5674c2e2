"""Keep the record of a run: one JSON object a line, and on request the same numbers for TensorBoard.

In: numbers of a step. Out: ``metrics.jsonl``, cut back to the checkpoint's step when a run is resumed; event files.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from molvae.errors import ConfigError
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


class TensorBoard:
    """Write rows of ``metrics.jsonl`` as scalars too, named ``train/loss``, ``valid/exact`` and so on.

    Rows of a resumed run that the run before had reached already replace those, as they do in ``metrics.jsonl``.

    Args:
        directory: of the event files; made with the first row.

    Raises:
        ConfigError: when the package tensorboard is not installed.
    """

    def __init__(self, directory: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                f"TensorBoard cannot be written: {error}.", 'Install the extra track: pip install "molvae[track]".'
            ) from error
        self.directory, self._make = directory, SummaryWriter
        self._writer: SummaryWriter | None = None

    def append(self, row: dict[str, Any]) -> None:
        """Write the finite numbers of one row, with keys ``kind`` and ``step``."""
        if self._writer is None:
            self._writer = self._make(str(self.directory), purge_step=row["step"], flush_secs=10)
        for name, value in row.items():
            if name not in ("kind", "step") and isinstance(value, int | float) and math.isfinite(value):
                self._writer.add_scalar(f"{row['kind']}/{name}", value, row["step"])

    def close(self) -> None:
        """Put everything on disk."""
        if self._writer is not None:
            self._writer.close()
