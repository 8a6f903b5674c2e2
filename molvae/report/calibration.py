"""Draw what molecules had against what was asked for: one panel a property.

In: figures of `molvae.benchmark.conditioning`. Out: one figure, as SVG text or PNG bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from molvae.report.figures import _SANS, _SETTINGS, BLUE, GREY, INK, MUTED, ORANGE, TITLES, short

DPI = 160
PANEL = (3.1, 3.0)


def calibration_svg(found: Mapping[str, Any]) -> str:
    """Return the figure as SVG text."""
    with matplotlib.rc_context(_SETTINGS):
        figure = _figure(found)
        FigureCanvasSVG(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("'DejaVu Sans'", _SANS)


def calibration_png(found: Mapping[str, Any]) -> bytes:
    """Return the figure as the bytes of a PNG, 160 dots an inch."""
    with matplotlib.rc_context(_SETTINGS):
        figure = _figure(found)
        FigureCanvasAgg(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _figure(found: Mapping[str, Any]) -> Figure:
    names = list(found["summary"])
    figure = Figure(figsize=(PANEL[0] * len(names), PANEL[1] + 0.5), layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        _panel(axes, found, name)
    settings = found["settings"]
    figure.suptitle(
        f"Obtained against requested (k = {settings['k']}): means of requests by value in blue, points of the grid in "
        "orange; bars 10 to 90 %",
        color=MUTED, fontsize=8, x=0.01, ha="left",
    )  # fmt: skip
    return figure


def _panel(axes: Axes, found: Mapping[str, Any], name: str) -> None:
    """Draw the calibration of one property; the diagonal is what was asked for."""
    test = (found["test"] or {}).get(name, {}).get(name)
    grid = [entry["properties"][name] for entry in found["requests"] if list(entry["properties"]) == [name]]
    ends = [part["requested"] for part in grid] + [bin_["requested"] for bin_ in (test or {}).get("calibration", [])]
    axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=GREY, linewidth=1.2, zorder=1)
    if test:
        bins = test["calibration"]
        centre = [bin_["obtained"] for bin_ in bins]
        # The mean of a skewed tenth may lie outside its own 10 to 90 %.
        below = [max(0.0, bin_["obtained"] - bin_["low"]) for bin_ in bins]
        above = [max(0.0, bin_["high"] - bin_["obtained"]) for bin_ in bins]
        axes.errorbar(
            [bin_["requested"] for bin_ in bins], centre, yerr=[below, above], fmt="o-", color=BLUE, markersize=3.5,
            linewidth=1.2, elinewidth=0.8, zorder=3,
        )  # fmt: skip
    shown = [part for part in grid if part["bias"] is not None]
    axes.plot(
        [part["requested"] for part in shown], [part["requested"] + part["bias"] for part in shown], "D", color=ORANGE,
        markersize=5, zorder=4,
    )  # fmt: skip
    summary = found["summary"][name]
    axes.set_title(TITLES.get(name, name), loc="left", color=INK)
    numbers = [float("nan") if summary[key] is None else summary[key] for key in ("mad", "unconditional")]
    axes.set_xlabel(f"requested\nMAD {short(numbers[0])}, without asking {short(numbers[1])}")
    axes.set_ylabel("obtained")
