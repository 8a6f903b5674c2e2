"""Verb ``molvae compress``: make a file of SMILES small, so that every byte comes back.

In: a file of SMILES and a model. Out: a file that ``molvae decompress`` turns into the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from molvae.cli.options import Model, Workers

Source = Annotated[
    str, typer.Argument(metavar="IN", help="File with one SMILES a line, or - for stdin.", show_default=False)
]
Target = Annotated[Path, typer.Option("-o", "--output", help="File to write.", show_default=False)]
Verify = Annotated[
    bool, typer.Option("--verify/--no-verify", help="Decompress again and compare before anything is written.")
]
XZ_UP_TO = 64 << 20
"""Bytes of input up to which the size that xz would reach is stated beside."""


def command(
    source: Source,
    output: Target,
    model: Model = None,
    verify: Verify = True,
    workers: Workers = None,
) -> None:
    """Compress a file of SMILES under a model: line i comes back as line i, to the byte.

    Canonical SMILES within the model's vocabulary take the bits that the model gives them; anything else is kept as it
    is, by LZMA. Reading the file needs the same model, torch and kind of processor: what differs is an error.
    """
    from molvae.cli.progress import progress_bar
    from molvae.files import write_bytes
    from molvae.generate.compress import compress
    from molvae.nn.checkpoint import load_model

    check_target(source, output)
    data = read_bytes(source)
    loaded = load_model(model, "cpu")
    with progress_bar("Compressing", data.count(b"\n")) as update:
        result = compress(loaded, data, verify=verify, workers=workers, progress=update)
    write_bytes(output, result.content)
    kept = result.lines - result.by_model
    typer.echo(f"{result.lines:,} lines: {result.by_model:,} by the model, {kept:,} kept as they are")
    size = len(result.content)
    each = f", {size / result.lines:.2f} bytes a line" if result.lines else ""
    typer.echo(f"{len(data):,} -> {size:,} bytes{each}{_beside(data)}")
    weights = loaded.directory / "model.safetensors"
    if weights.is_file():
        typer.echo(f"the model that reads it again has {weights.stat().st_size:,} bytes, which are not counted")
    typer.echo(f"wrote {output}{' (verified)' if verify else ''}")


def check_target(source: str, output: Path) -> None:
    """Check the file to write before the work.

    Raises:
        OutputError: when it is a directory, stdout (which carries what is said), or the file that is read.
    """
    from molvae.errors import OutputError

    if str(output) == "-":
        raise OutputError("The compressed file cannot go to stdout.", "Name a file with -o.")
    if output.is_dir():
        raise OutputError(f"{output} is a directory.", "Give a file.")
    if source != "-" and output.exists() and Path(source).exists() and output.samefile(source):
        raise OutputError(f"{output} is the file that is read.", "Choose another output.")


def _beside(data: bytes) -> str:
    """Return what xz makes of the same bytes, in words."""
    import lzma

    if not 0 < len(data) <= XZ_UP_TO:
        return ""
    return f" (xz -9: {len(lzma.compress(data, preset=9)):,})"


def read_bytes(source: str) -> bytes:
    """Return the bytes of a file or of standard input.

    Raises:
        InputError: when it cannot be read, or is itself compressed.
    """
    from molvae.errors import InputError

    if source == "-":
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError("- means standard input, and nothing is piped into it.", "Pipe a file in, or name one.")
        data = sys.stdin.buffer.read()
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"Cannot read {source}: {error.strerror}.", "Check the path.") from error
    if data.startswith((b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"BZh")):
        raise InputError(
            f"{source} is compressed already.", f"Unpack it first, for instance: zcat {source} | molvae compress - ..."
        )
    return data
