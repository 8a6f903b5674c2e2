"""Draw how the volume below a front grows with the calls.

In: curves of (calls, hypervolume). Out: a `Chart` of one search, or SVG text with a panel for each problem.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from statistics import fmean

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from molvae.report.figures import _SANS, _SETTINGS, BLUE, GREEN, INK, ORANGE, Chart, draw_svg, short

Curve = Sequence[Sequence[float]]
"""Pairs of calls and volume."""

COLORS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", INK)
"""Of methods, in their order; after the last one the first comes again."""

PANEL = (4.2, 2.9)


def volume_chart(curve: Curve) -> Chart | None:
    """Draw the curve of one search; None when it has no points."""
    if not len(curve):
        return None

    def draw(axes: Axes) -> None:
        axes.plot(*_columns([[0, 0.0], *curve]), color=BLUE, linewidth=1.9)
        axes.set_xlabel("oracle calls")
        axes.set_ylabel("hypervolume")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))

    caption = f"{int(curve[-1][0]):,} calls, at the end {short(float(curve[-1][1]))}"
    return Chart("Hypervolume", caption, f"Hypervolume over oracle calls: {caption}.", draw_svg(draw, (5.6, 2.5)))


def volume_curves(curves: Sequence[tuple[str, str, Curve]]) -> str:
    """Return a figure as SVG text: a panel for each problem, thin lines for runs, a thick one for a method's mean.

    Args:
        curves: problem, method and curve of each run, at least one; runs of one method are read at the same calls, as
            far as they go.
    """
    problems = list(dict.fromkeys(problem for problem, _, _ in curves))
    methods = list(dict.fromkeys(method for _, method, _ in curves))
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(PANEL[0] * len(problems), PANEL[1]), layout="constrained")
        FigureCanvasSVG(figure)
        for place, problem in enumerate(problems):
            axes = figure.add_subplot(1, len(problems), place + 1)
            for number, method in enumerate(methods):
                mine = [curve for name, way, curve in curves if (name, way) == (problem, method)]
                _draw(axes, method, COLORS[number % len(COLORS)], mine)
            axes.set_title(problem, fontsize=8.5, loc="left", color=INK)
            axes.set_xlabel("oracle calls")
            axes.set_ylabel("hypervolume" if place == 0 else "")
            axes.set_ylim(bottom=0)
            axes.legend(frameon=False, fontsize=8)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("'DejaVu Sans'", _SANS)


def _draw(axes: Axes, method: str, color: str, curves: Sequence[Curve]) -> None:
    """Draw the runs of one method and their mean."""
    if not curves:
        return
    for curve in curves:
        axes.plot(*_columns(curve), color=color, linewidth=0.7, alpha=0.45)
    points = [[fmean(float(point[0]) for point in row), fmean(float(point[1]) for point in row)]
              for row in zip(*curves, strict=False)]  # fmt: skip
    axes.plot(*_columns(points), color=color, linewidth=1.9, label=f"{method} ({len(curves)})")


def _columns(curve: Curve) -> tuple[list[float], list[float]]:
    return [float(point[0]) for point in curve], [float(point[1]) for point in curve]
