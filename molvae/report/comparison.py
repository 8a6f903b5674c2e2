"""Draw a comparison of objectives: the rate-distortion plane, and reconstruction against FCD.

In: records of `molvae.benchmark.compare_table`. Out: one figure of two panels, as SVG text or PNG bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from molvae.benchmark.compare_plan import OWN
from molvae.report.figures import _SANS, _SETTINGS, INK, MUTED, RULE

# Okabe and Ito's colours, then Tol's muted ones: nine rows that most eyes tell apart, each also named beside its point.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#5b6673", "#8a8a00")
MARKERS = {OWN: "o", "normal": "v", "gmm": "s", "flow": "D", "flow_matching": "^", "latent_gan": "P"}
NAMES = {OWN: "own prior", "normal": "N(0, I)"}
SIZE = (10.5, 4.4)
DPI = 160
LEGEND = "(thin lines: equal ELBO)\ndashed: a language model; hollow: best fitted prior; right edge: no rate"
WIDE = 8.0
"""FCDs that differ by this factor are drawn on a logarithmic axis."""
BAND = 0.3
"""Share of the second panel's height that is kept for names."""

Record = Mapping[str, Any]


def comparison_svg(records: Sequence[Record]) -> str:
    """Return the figure as SVG text; an empty panel says why it is empty."""
    with matplotlib.rc_context(_SETTINGS):
        figure = _figure(records)
        FigureCanvasSVG(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("'DejaVu Sans'", _SANS)


def comparison_png(records: Sequence[Record]) -> bytes:
    """Return the figure as the bytes of a PNG, 160 dots an inch."""
    with matplotlib.rc_context(_SETTINGS):
        figure = _figure(records)
        FigureCanvasAgg(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _figure(records: Sequence[Record]) -> Figure:
    done = [record for record in records if record["state"] == "ok"]
    names = list(dict.fromkeys(record["objective"] for record in records))
    colors = {name: COLORS[place % len(COLORS)] for place, name in enumerate(names)}
    figure = Figure(figsize=SIZE, layout="constrained", facecolor="white")
    left, right = figure.subplots(1, 2)
    _plane(left, done, colors)
    _against_fcd(right, done, colors)
    figure.draw_without_rendering()
    # Names only now, when the panels no longer move.
    figure.set_layout_engine("none")
    own = [record for record in done if record["prior"] == OWN]
    rated = [(r["rate"], r["distortion"], r["objective"]) for r in own if r["rate"] is not None]
    _name(left, rated, colors)
    _name_edge(left, [(1.0, r["distortion"], r["objective"]) for r in own if r["rate"] is None], colors)
    _name_columns(right, [record for record in done if record["fcd"] is not None], colors)
    return figure


def _empty(axes: Axes, why: str) -> None:
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=MUTED)


def _plane(axes: Axes, done: Sequence[Record], colors: Mapping[str, str]) -> None:
    """Draw rate and distortion under each row's own prior; rows without a rate stand at the right edge."""
    axes.set_title("Rate-distortion plane", loc="left", color=INK)
    axes.set_xlabel(f"rate [nats per molecule] {LEGEND}")
    axes.set_ylabel("distortion [nats per molecule]")
    rows = [record for record in done if record["prior"] == OWN]
    if not rows:
        _empty(axes, "no row is measured yet")
        return
    rated = [record for record in rows if record["rate"] is not None]
    for record in rated:
        axes.plot(record["rate"], record["distortion"], "o", color=colors[record["objective"]], markersize=7, zorder=3)
        _cheaper(axes, record, done, colors)
    axes.margins(0.16)
    axes.autoscale_view()
    heights = [float(record["distortion"]) for record in rows]
    room = max(0.12 * (max(heights) - min(heights)), 0.02 * max(heights))
    axes.set_ylim(max(0.0, min(heights) - room), max(heights) + room)
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.25 * (high - low))
    for record in rows:
        if record["rate"] is None:
            axes.axhline(record["distortion"], xmin=0.96, color=colors[record["objective"]], linewidth=2.4)
    _same_elbo(axes)
    _least(axes, done)


def _cheaper(axes: Axes, record: Record, done: Sequence[Record], colors: Mapping[str, str]) -> None:
    """Draw how far a fitted prior moves the row: the least rate of all fitted ones, hollow."""
    name = record["objective"]
    others = [one for one in done if one["objective"] == name and one["prior"] != OWN and one["rate"] is not None]
    if not others:
        return
    best = min(others, key=lambda one: float(one["rate"]))
    axes.plot([record["rate"], best["rate"]], [record["distortion"]] * 2, color=colors[name], linewidth=1)
    axes.plot(
        best["rate"], record["distortion"], MARKERS[best["prior"]], color=colors[name], markersize=5, zorder=3,
        markerfacecolor="white",
    )  # fmt: skip


def _same_elbo(axes: Axes) -> None:
    """Draw lines of equal rate + distortion: every point of one has the same ELBO."""
    (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for total in np.linspace(low + bottom, high + top, 9)[1:-1]:
        ends = np.array([low, high])
        axes.plot(ends, total - ends, color=RULE, linewidth=0.9, zorder=0.5)
    axes.set_xlim(low, high)
    axes.set_ylim(bottom, top)


def _least(axes: Axes, done: Sequence[Record]) -> None:
    """Draw the line whose ELBO is that of a language model: what lies above it is excess."""
    known = [record for record in done if record["excess"] is not None]
    if not known:
        return
    least = known[0]["negative_elbo"] - known[0]["excess"]
    (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.plot([low, high], [least - low, least - high], color=INK, linewidth=1, linestyle="--", zorder=0.6)
    axes.set_xlim(low, high)
    axes.set_ylim(bottom, top)


def _name(axes: Axes, points: Sequence[tuple[float, float, str]], colors: Mapping[str, str]) -> None:
    """Write each name beside its point, a line away from any name already there."""
    taken: list[tuple[float, float]] = []
    for x, y, name in sorted(points, key=lambda point: -point[1]):
        place = axes.transData.transform((x, y))
        shift = 5.0
        while any(abs(place[0] - a) < 70 and abs(place[1] + shift - b) < 11 for a, b in taken):
            shift -= 5.5
        taken.append((place[0], place[1] + shift))
        axes.annotate(name, (x, y), (7, shift * 0.72), textcoords="offset points", fontsize=8, color=colors[name])


def _name_edge(axes: Axes, points: Sequence[tuple[float, float, str]], colors: Mapping[str, str]) -> None:
    """Write names at the right edge, ``points`` holding heights; one that would cover another goes above it."""
    last = float("-inf")
    for x, y, name in sorted(points, key=lambda point: point[1]):
        height = axes.transData.transform((0.0, y))[1]
        drawn = max(height, last + 13)
        last = drawn
        axes.annotate(
            name, (x, y), (-20, (drawn - height) * 0.72), xycoords=axes.get_yaxis_transform(), ha="right", va="center",
            textcoords="offset points", fontsize=8, color=colors[name],
        )  # fmt: skip


def _name_columns(axes: Axes, shown: Sequence[Record], colors: Mapping[str, str]) -> None:
    """Write each row's name upright above its column of points, beside the one before when that is too near."""
    exact = {str(record["objective"]): 100 * float(record["exact"]) for record in shown}
    last = float("-inf")
    for name, x in sorted(exact.items(), key=lambda entry: entry[1]):
        place = axes.transData.transform((x, axes.get_ylim()[0]))[0]
        drawn = max(place, last + 13)
        last = drawn
        axes.annotate(
            name, (x, 1.0), ((drawn - place) * 0.72, -2), xycoords=axes.get_xaxis_transform(), ha="center", va="top",
            textcoords="offset points", fontsize=8, color=colors[name], rotation=90,
        )  # fmt: skip


def _against_fcd(axes: Axes, done: Sequence[Record], colors: Mapping[str, str]) -> None:
    """Draw every prior of every row by the row's exact reconstruction and the FCD of its samples."""
    axes.set_title("Reconstruction against FCD", loc="left", color=INK)
    axes.set_xlabel("exact reconstruction [%]\n(above each other: the priors of one row)")
    axes.set_ylabel("FCD of samples (lower is better)")
    shown = [record for record in done if record["fcd"] is not None]
    if not shown:
        _empty(axes, "no FCD is measured")
        return
    floor = shown[0]["fcd_floor"]
    values = [float(record["fcd"]) for record in shown] + [floor]
    values += [float(record["fcd_posterior"]) for record in shown if record["fcd_posterior"] is not None]
    low, high = max(min(values), 1e-3), max(values)
    if high > WIDE * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
        bottom, top = low / (high / low) ** 0.05, high * (high / low) ** BAND
    else:
        bottom, top = 0.0, high * (1 + BAND)
    for name in dict.fromkeys(record["objective"] for record in shown):
        _column(axes, [record for record in shown if record["objective"] == name], colors[name])
    axes.axhline(floor, color=INK, linewidth=1, linestyle="--")
    right = max(1.0, 110 * max(float(record["exact"]) for record in shown))
    axes.set_xlim(-0.05 * right, right)
    axes.set_ylim(bottom, top)
    kinds = [kind for kind in MARKERS if any(record["prior"] == kind for record in shown)]
    handles = [_handle(MARKERS[kind], NAMES.get(kind, kind)) for kind in kinds]
    handles += [_handle("_", "decoded posterior"), Line2D([], [], color=INK, linestyle="--", label="real molecules")]
    axes.legend(handles=handles, fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _handle(marker: str, label: str) -> Line2D:
    return Line2D([], [], marker=marker, color=MUTED, linestyle="", markersize=6, label=label)


def _column(axes: Axes, rows: Sequence[Record], color: str) -> None:
    """Draw one row's priors above each other, and the FCD of its decoded posterior samples as a dash."""
    x = 100 * float(rows[0]["exact"])
    heights = [float(record["fcd"]) for record in rows]
    posterior = rows[0]["fcd_posterior"]
    ends = heights + ([float(posterior)] if posterior is not None else [])
    axes.plot([x, x], [min(ends), max(ends)], color=color, linewidth=0.8, alpha=0.5)
    for record, height in zip(rows, heights, strict=True):
        axes.plot(x, height, MARKERS[record["prior"]], color=color, markersize=6, zorder=3)
    if posterior is not None:
        axes.plot(x, posterior, "_", color=color, markersize=12, markeredgewidth=2, zorder=3)
