"""Name the few shapes that every part of a report is made of, so that the template stays small.

In: figures and plain strings (never markup). Out: `Section`s of `Block`s, ready for the template, which escapes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from molvae.report.figures import Chart, short
from molvae.report.structures import molecule_svg, pair_svg


@dataclass(frozen=True, slots=True)
class Card:
    """One key figure: what it is, its value, and a note in small print."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """One structure, or a pair with an arrow between: drawings, SMILES, figures under it, a mark and a warning."""

    drawings: tuple[str, ...]
    smiles: tuple[str, ...]
    facts: tuple[tuple[str, str], ...] = ()
    mark: str = ""
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Count:
    """One line of a table of counts; ``share`` (0 to 1) draws the bar."""

    label: str
    n: int
    share: float
    words: str = ""
    kind: str = "bad"


@dataclass(frozen=True, slots=True)
class Block:
    """A titled part of a section; exactly one of the sequences is filled."""

    title: str = ""
    text: str = ""
    key: tuple[tuple[str, str], ...] = ()
    charts: Sequence[Chart] = ()
    tiles: Sequence[Tile] = ()
    counts: Sequence[Count] = ()
    rows: Sequence[Sequence[str]] = ()
    head: Sequence[str] = ()
    notes: Sequence[tuple[str, str]] = ()


@dataclass(slots=True)
class Section:
    """A part of the page with an entry in the navigation."""

    anchor: str
    title: str
    lead: str = ""
    blocks: list[Block] = field(default_factory=list)


def named(title: str, path: Path, several: bool) -> str:
    """Return ``title``, with the name of ``path`` when the report has several of its kind."""
    return f"{title}: {path.name}" if several else title


def percent(part: float, whole: float) -> str:
    """Write a share, ``100 %`` only when nothing is missing and ``0 %`` only when there is nothing.

    >>> percent(1, 3), percent(9999, 10000), percent(10000, 10000), percent(0, 0)
    ('33.3 %', '99.99 %', '100 %', '-')
    """
    if whole <= 0:
        return "-"
    share = 100.0 * part / whole
    digits = 0 if part in (0, whole) else 2 if share > 99.9 or share < 0.1 else 1
    text = f"{share:.{digits}f}"
    return "< 0.01 %" if text == "0.00" else "> 99.99 %" if digits and float(text) >= 100 else f"{text} %"


def single(smiles: str, facts: Sequence[tuple[str, str]] = (), warning: str = "") -> Tile:
    """Return a tile with one structure."""
    return Tile((molecule_svg(smiles, 212, 150),), (smiles,), tuple(facts), warning=warning)


def pair(
    first: str, second: str, facts: Sequence[tuple[str, str]], mark: str, *, shared: bool, whole_rings: bool = True
) -> Tile:
    """Return a tile with two structures in one orientation, common or differing atoms highlighted (see `pair_svg`)."""
    drawings = pair_svg(first, second, 212, 150, shared=shared, whole_rings=whole_rings)
    return Tile(drawings, (first, second), tuple(facts), mark)


def analogue(parent: str, smiles: str, facts: Sequence[tuple[str, str]] = (), warning: str = "") -> Tile:
    """Return a tile with one structure, what ``parent`` does not have highlighted; no highlight without a parent."""
    if not parent or parent == smiles:
        return single(smiles, facts, warning)
    _, drawing = pair_svg(parent, smiles, 212, 150, shared=False)
    return Tile((drawing,), (smiles,), tuple(facts), warning=warning)


def count_lines(
    counts: Mapping[str, int], whole: int, words: Mapping[str, str], good: Sequence[str] = ("ok",)
) -> list[Count]:
    """Return counts as lines, good ones first, then the largest first.

    Args:
        counts: label to number.
        whole: what a full bar stands for.
        words: label to explanation.
        good: labels that are no failure.
    """
    order = sorted(counts, key=lambda label: (label not in good, -counts[label], label))
    return [
        Count(label or "(blank)", counts[label], counts[label] / max(whole, 1), words.get(label, ""),
              "good" if label in good else "bad")
        for label in order
    ]  # fmt: skip


def figures_of(row: Mapping[str, object], names: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the finite numbers of a table row as (label, text), in the order of ``names``."""
    found = []
    for name, label in names.items():
        value = row.get(name)
        if isinstance(value, int | float) and value == value:
            found.append((label, short(float(value)) if abs(value) >= 100 else f"{value:.2f}"))
    return found
