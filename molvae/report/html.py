"""Write one self-contained HTML page about a run: no script, nothing fetched, everything from data escaped.

In: model, dataset and optimisation directories and CSV tables. Out: one HTML file that opens offline.
"""

from __future__ import annotations

import base64
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from molvae import __version__
from molvae.errors import InputError
from molvae.files import write_text
from molvae.report.contents import Contents, Mapper, build_contents
from molvae.report.tables import Sources, read_sources

MOST_FILES = 40


@dataclass(frozen=True, slots=True)
class FileLine:
    """One file behind the report."""

    path: str
    size: str
    sha256: str


def human_size(n: int) -> str:
    """Write a number of bytes for people.

    >>> human_size(999), human_size(1536), human_size(25_000_000)
    ('999 B', '1.5 KiB', '23.8 MiB')
    """
    size, unit = float(n), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _manifests(sources: Sources) -> list[tuple[Path, dict[str, Any]]]:
    models = [(model.path, model.manifest) for model in sources.models]
    return models + [(dataset.path, dataset.manifest) for dataset in sources.datasets]


def _files(sources: Sources) -> list[FileLine]:
    homes: dict[Path, dict[str, Any]] = dict(_manifests(sources))
    homes.update((run.path, run.facts) for run in sources.searches)
    lines, seen = [], set()
    for home, manifest in homes.items():
        listed = manifest.get("files")
        known = listed if isinstance(listed, dict) else {}
        for path in sorted(entry for entry in home.iterdir() if entry.is_file() and not entry.name.startswith(".")):
            entry = known.get(path.name)
            digest = str(entry.get("sha256", ""))[:12] if isinstance(entry, dict) else ""
            lines.append(FileLine(str(path), human_size(path.stat().st_size), digest))
            seen.add(path)
    for table in (*sources.samples, *sources.reconstructions):
        if table.path not in seen and table.path.is_file():
            lines.append(FileLine(str(table.path), human_size(table.path.stat().st_size), ""))
    return lines


def _versions(sources: Sources) -> list[tuple[str, str]]:
    found = {"molvae": __version__, "python": platform.python_version()}
    found.update((name, metadata.version(name)) for name in ("rdkit", "matplotlib"))
    for path, manifest in _manifests(sources):
        versions = manifest.get("versions")
        if isinstance(versions, dict):
            found.update({f"{key} ({path.name})": str(value) for key, value in versions.items()})
    return list(found.items())


def _seeds(sources: Sources) -> str:
    facts = [*(run.config for run in sources.models), *(run.settings for run in sources.searches)]
    facts += [dataset.manifest for dataset in sources.datasets]
    seeds = [str(values["seed"]) for values in facts if isinstance(values.get("seed"), int)]
    return ", ".join(dict.fromkeys(seeds)) or "not recorded"


def _page(title: str, sources: Sources, contents: Contents, paths: Sequence[Path]) -> str:
    environment = Environment(
        loader=PackageLoader("molvae.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    # Only text that this package drew itself is let through unescaped: SVG from RDKit and from matplotlib.
    environment.filters["svg"] = Markup
    environment.filters["picture"] = lambda svg: "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
    files = _files(sources)
    return environment.get_template("report.html.j2").render(
        title=title,
        when=f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC",
        about=[str(path) for path in paths],
        version=__version__,
        seed=_seeds(sources),
        versions=_versions(sources),
        sections=contents.sections,
        cards=contents.cards[:8],
        missing=contents.missing,
        notes=sources.notes,
        files=files[:MOST_FILES],
        more_files=max(0, len(files) - MOST_FILES),
    )


def build_report(
    sources: Sequence[Path], output: Path, title: str | None = None, reference: Path | None = None,
    mapper: Mapper | None = None,
) -> Path:  # fmt: skip
    """Write the report of ``sources`` to ``output`` and return its path.

    Args:
        sources: model or run directories, dataset directories, optimize directories, CSV tables of samples or of
            reconstructions, or a directory that holds some of these.
        output: the page, ending in .html; an existing one is replaced.
        title: heading of the page; None takes the name of the first source.
        reference: dataset directory whose training split stands behind the histograms and decides what is new; None
            takes the first dataset among the sources.
        mapper: draws the latent map of each model, see `molvae.report.contents.Mapper`; None leaves it out.

    Missing parts are left out and named with the command that makes them.

    Raises:
        InputError: when a source is missing or holds nothing to show, or ``output`` does not end in .html.
        OutputError: when ``output`` cannot be written.
    """
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise InputError(f"{output} is no HTML file name.", "End the output in .html, e.g. -o report.html.")
    found = read_sources(sources)
    if reference is not None and not (reference / "molecules.parquet").is_file():
        raise InputError(f"{reference} has no molecules.parquet.", "Give a directory written by molvae prepare.")
    if reference is None:
        tables = [dataset.path for dataset in found.datasets if (dataset.path / "molecules.parquet").is_file()]
        reference = tables[0] if tables else None
    heading = title or sources[0].resolve().name
    write_text(output, _page(heading, found, build_contents(found, reference, mapper), sources))
    return output
