"""SD files as tables: the molecule is the column smiles, its named texts are the other columns.

In: lines of text, or a table. Out: rows of cells, or an SD file with two-dimensional drawings.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO

from molvae.chem.parallel import map_chunks
from molvae.chem.rejected import Rejected
from molvae.chem.sdf import Drawing, Record, draw_molblock, format_record, molblock_smiles, split_records

if TYPE_CHECKING:
    import pandas as pd

STRUCTURE = "smiles"
"""Name of the column made from the structure."""
EXACT = "molvae_exact_smiles"
"""Named text with the molecule itself, beside a drawing that cannot say everything; read in place of the drawing."""
CHUNK = 200


class SdfRows:
    """The rows of an SD file.

    Args:
        lines: of the file.
        head: records looked at for the names of columns.

    Attributes:
        names: `STRUCTURE`, and the names of the texts in the first ``head`` records.
        late: names that occur only after those; their texts are not in the rows.
    """

    def __init__(self, lines: Iterable[str], head: int) -> None:
        self._records = split_records(lines)
        self._head = list(itertools.islice(self._records, head))
        self._fields = list(dict.fromkeys(name for record in self._head for name in record.fields if name != EXACT))
        self.names = [STRUCTURE, *self._fields]
        self.late: dict[str, None] = {}

    def rows(self) -> Iterator[list[str] | str]:
        """Yield as many cells as there are names for every record, or what is wrong with it."""
        known = frozenset([*self._fields, EXACT])
        for record in itertools.chain(self._head, self._records):
            self.late.update(dict.fromkeys(name for name in record.fields if name not in known))
            yield self._row(record)

    def _row(self, record: Record) -> list[str] | str:
        if record.problem:
            return record.problem
        smiles = record.fields.get(EXACT) or molblock_smiles(record.block)
        if isinstance(smiles, Rejected):
            if not smiles.smiles:
                return f"{smiles.reason}: {smiles.detail}"
            # RDKit refuses this text for the same cause wherever it is read, and then says so.
            smiles = smiles.smiles
        return [smiles, *(record.fields.get(name, "") for name in self._fields)]


def cell_text(value: Any) -> str:
    """Return the text of a value, "" for a missing one.

    >>> cell_text(0.1 + 0.2), cell_text(float("nan")), cell_text(None), cell_text(True)
    ('0.3', '', '', 'True')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def write_sdf(
    handle: TextIO, table: pd.DataFrame, smiles: str, workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:  # fmt: skip
    """Write one record per row, in order, streaming.

    Args:
        handle: an open text file.
        table: every column becomes a named text; missing values (None, NaN, "") are left out.
        smiles: name of the column with the structures; where it is missing the record has no atoms.
        workers: processes that draw; None means every core.
        progress: called with the number of records written.

    Returns:
        How many molecules a drawing cannot hold exactly; they have the text `EXACT`.
    """
    cells = [text if isinstance(text, str) else "" for text in table[smiles].tolist()]
    columns = [(str(name), table[name].tolist()) for name in table.columns]
    chunks = (cells[start : start + CHUNK] for start in range(0, len(cells), CHUNK))
    row = differing = 0
    for drawings in map_chunks(draw_molblock, chunks, workers):
        for one in drawings:
            drawing = Drawing(draw_molblock("").block, False) if isinstance(one, Rejected) else one
            texts = [(name, cell_text(values[row])) for name, values in columns]
            if not drawing.exact:
                differing += 1
                texts.append((EXACT, cells[row]))
            handle.write(format_record(drawing.block, [(name, text) for name, text in texts if text.strip()]))
            row += 1
        if progress is not None:
            progress(row)
    return differing
