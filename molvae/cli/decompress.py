"""Verb ``molvae decompress``: turn what ``molvae compress`` wrote into the same bytes again.

In: a compressed file and the model that made it. Out: the file, exactly; or an error that says what differs.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from molvae.cli.options import Model, Output, Workers

Source = Annotated[
    str, typer.Argument(metavar="IN", help="File that molvae compress wrote, or - for stdin.", show_default=False)
]


def command(source: Source, output: Output = None, model: Model = None, workers: Workers = None) -> None:
    """Give back the file of SMILES that was compressed, exactly, or nothing.

    The model must be the one it was compressed with; another model, other libraries that compute otherwise, and a
    damaged file are errors.
    """
    from molvae.cli.compress import read_bytes
    from molvae.cli.output import STDOUT
    from molvae.cli.progress import progress_bar
    from molvae.errors import OutputError
    from molvae.files import write_bytes
    from molvae.generate.archive import unpack
    from molvae.generate.compress import decompress
    from molvae.nn.checkpoint import load_model

    if output is not None and (output.is_dir() or output.suffix.lower() == ".gz"):
        raise OutputError(f"{output} cannot take the plain bytes.", "Give a file that does not end in .gz.")
    content = read_bytes(source)
    rows = unpack(content)[0].rows
    loaded = load_model(model, "cpu")
    with progress_bar("Decompressing", rows) as update:
        data = decompress(loaded, content, workers=workers, progress=update)
    if output is None or output == STDOUT:
        sys.stdout.buffer.write(data)
        return
    write_bytes(output, data)
    typer.echo(f"{len(content):,} -> {len(data):,} bytes\nwrote {output}")
