"""Draw a MOSES run beside published models.

In: rows of `molvae.benchmark.moses_table`. Out: a figure of six panels of bars, as SVG text or PNG bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from molvae.benchmark.moses_table import PUBLISHED
from molvae.report.figures import _SANS, _SETTINGS, BLUE, GREY, INK, MUTED, ORANGE

PANELS = ("FCD/Test", "SNN/Test", "Scaf/Test", "Scaf/TestSF", "Novelty", "Filters")
LOGARITHMIC = frozenset({"FCD/Test"})
MINE = "this run"
SIZE = (9.6, 4.6)
DPI = 150

Row = Mapping[str, Any]


def moses_svg(rows: Sequence[Row]) -> str:
    """Return the figure as SVG text."""
    with matplotlib.rc_context(_SETTINGS):
        figure = _figure(rows)
        FigureCanvasSVG(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("'DejaVu Sans'", _SANS)


def moses_png(rows: Sequence[Row]) -> bytes:
    """Return the figure as the bytes of a PNG, 150 dots an inch."""
    with matplotlib.rc_context(_SETTINGS):
        figure = _figure(rows)
        FigureCanvasAgg(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _figure(rows: Sequence[Row]) -> Figure:
    figure = Figure(figsize=SIZE, layout="constrained")
    table = {f"{row['metric']}/{row['reference']}": row for row in rows}
    table |= {row["metric"]: row for row in rows if row["metric"] in PANELS}
    for number, name in enumerate(PANELS):
        _panel(figure.add_subplot(2, 3, number + 1), name, table.get(name))
    n = f"{rows[0]['n']:,}" if rows else "no"
    figure.suptitle(f"this run: n = {n}; published: n = 30,000; line: as many real molecules as this run", fontsize=8)
    return figure


def _panel(axes: Axes, name: str, row: Row | None) -> None:
    """Draw one metric: a bar for each model, this run's on top, and the floor as a line."""
    bars = [(label, figures[name], None) for label, figures in PUBLISHED.items() if name in figures][::-1]
    floor = None if row is None else row["floor"]
    if row is not None and row["result"] is not None:
        bars.append((MINE, row["result"], row["spread"]))
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", visible=True)
    values = [value for _, value, _ in bars]
    colors = [BLUE if label == MINE else GREY for label, _, _ in bars]
    axes.barh(range(len(bars)), values, color=colors, height=0.7)
    for place, (label, value, spread) in enumerate(bars):
        if spread is not None:
            axes.errorbar(value, place, xerr=spread, color=INK, capsize=2, linewidth=0.9)
        axes.annotate(f"{value:.3g}", (value, place), (3, 0), textcoords="offset points", va="center", fontsize=7,
                      color=INK if label == MINE else MUTED)  # fmt: skip
    if floor is not None:
        axes.axvline(floor, color=ORANGE, linewidth=1.2)
    axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
    positive = [value for value in [*values, floor] if value is not None and value > 0]
    if name in LOGARITHMIC and positive:
        axes.set_xscale("log")
        axes.set_xlim(min(positive) / 1.6, max(positive) * 3)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, max(positive, default=1.0) * 1.22)
    better = "lower is better" if name.startswith("FCD") else "higher is better"
    axes.set_title(f"{name} ({better})", fontsize=8.5, loc="left", color=INK)
