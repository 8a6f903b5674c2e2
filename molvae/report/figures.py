"""Draw the charts of a report as small SVG pictures, one quantity each, without any global plotting state.

In: rows of metrics.jsonl, arrays of property values, scores. Out: `Chart`s whose SVG text needs nothing from outside.
"""

from __future__ import annotations

import io
import math
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from molvae.report.structures import grid_png as grid_png
from molvae.report.structures import grid_svg as grid_svg

# Okabe and Ito's palette: told apart with every common kind of colour blindness, and in print by lightness.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#c3c8cf"
INK, MUTED, RULE = "#1f2933", "#5b6673", "#e3e6ea"
_SANS = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "molvae",  # the same data give the same bytes
    "text.parse_math": False,  # a column may be called "cost ($) or $x$"
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.unicode_minus": False,
    "axes.edgecolor": "#b8bfc7",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "ytick.left": False,
    "xtick.major.size": 3,
    "axes.labelcolor": MUTED,
}

TITLES = {
    "logp": "logP",
    "qed": "QED",
    "sa": "Synthetic accessibility (SA)",
    "np": "Natural-product likeness (NP)",
    "mol_weight": "Molecular weight [g/mol]",
    "tpsa": "Polar surface (TPSA) [Å²]",
    "hbd": "Hydrogen-bond donors",
    "hba": "Hydrogen-bond acceptors",
    "rotatable_bonds": "Rotatable bonds",
    "rings": "Rings",
    "nats": "Negative log-likelihood [nats]",
}


@dataclass(frozen=True, slots=True)
class Chart:
    """One picture: its title, a line under the title, words for those who cannot see it, and the SVG text."""

    title: str
    caption: str
    alt: str
    svg: str


def short(value: float) -> str:
    """Write a number with three significant digits, thousands apart.

    >>> short(0.12345), short(12345.6), short(float("nan"))
    ('0.123', '12,346', '-')
    """
    if not np.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def draw_svg(draw: Callable[[Axes], None], size: tuple[float, float] = (3.7, 2.05)) -> str:
    """Return one picture in the style of the report as SVG text; ``size`` in inches, 72 units of the picture each."""
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(axes)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace("'DejaVu Sans'", _SANS)


def _thin(x: NDArray[np.float64], y: NDArray[np.float64], most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    keep = np.unique(np.linspace(0, len(x) - 1, most).astype(int)) if len(x) > most else np.arange(len(x))
    return x[keep], y[keep]


def _series(rows: Sequence[Mapping[str, Any]], kind: str, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    points = [(r["step"], r[key]) for r in rows if r.get("kind") == kind and isinstance(r.get(key), int | float)]
    pairs = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(axis=1)]
    return pairs[:, 0], pairs[:, 1]


def _smooth(y: NDArray[np.float64]) -> NDArray[np.float64]:
    half = len(y) // 60
    if half == 0:
        return y
    total = np.concatenate([[0.0], np.cumsum(y)])
    low = np.maximum(np.arange(len(y)) - half, 0)
    high = np.minimum(np.arange(len(y)) + half + 1, len(y))
    smooth: NDArray[np.float64] = (total[high] - total[low]) / (high - low)
    return smooth


def _curve(
    rows: Sequence[Mapping[str, Any]], title: str, lines: Sequence[tuple[str, str, str]], scale: float
) -> Chart | None:
    drawn = [(label, color, *_series(rows, kind, key)) for kind, key, label in lines for color in [_COLORS[label]]]
    drawn = [line for line in drawn if len(line[2])]
    if not drawn:
        return None

    def draw(axes: Axes) -> None:
        smoothed = []
        for label, color, x, y in drawn:
            if label == "training" and len(x) > 60:
                axes.plot(*_thin(x, y * scale, 600), color=color, linewidth=0.6, alpha=0.25)
            smooth = _smooth(y) if label == "training" else y
            smoothed.append(smooth * scale)
            dots = "o" if len(x) <= 40 and label != "training" else ""
            axes.plot(*_thin(x, smooth * scale, 300), color=color, linewidth=1.7, marker=dots, markersize=3)
        values = np.concatenate(smoothed)
        late = np.concatenate([line[len(line) // 20 :] for line in smoothed])
        # The first steps of a loss are many times its later values and would flatten the rest.
        if values.max() > 3 * max(late.max(), 1e-9):
            axes.set_ylim(top=late.max() * 1.05)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.margins(x=0.02)

    last = ", ".join(f"{label} {short(float(y[-1]) * scale)}" for label, _, _, y in drawn)
    return Chart(title, f"last: {last}", f"{title} over training steps; last values: {last}.", draw_svg(draw))


_COLORS = {"training": BLUE, "validation": ORANGE, "exact": ORANGE, "tokens": GREEN}


def training_curves(metrics: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Draw loss, distortion, rate, beta, reconstruction and speed over steps; a quantity without rows is left out.

    Args:
        metrics: rows of metrics.jsonl: kind ("train" or "valid"), step, and the quantities in nats per molecule.
    """
    both = [("train", "training"), ("valid", "validation")]
    plans = [
        ("Loss [nats/molecule]", [(kind, "loss", label) for kind, label in both], 1.0),
        ("Distortion [nats/molecule]", [(kind, "distortion", label) for kind, label in both], 1.0),
        ("Rate [nats/molecule]", [(kind, "rate", label) for kind, label in both], 1.0),
        ("Beta", [("train", "beta", "training")], 1.0),
        ("Reconstruction [%]", [("valid", "exact", "exact"), ("valid", "token_accuracy", "tokens")], 100.0),
        ("Speed [molecules/s]", [("train", "molecules_per_s", "training")], 1.0),
    ]
    charts = [_curve(metrics, title, lines, scale) for title, lines, scale in plans]
    return [chart for chart in charts if chart is not None]


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.percentile(values, [0.5, 99.5])
    if np.all(values == np.round(values)) and high - low <= 30:
        return np.arange(np.floor(low) - 0.5, np.ceil(high) + 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, 37)


def _histogram(name: str, generated: NDArray[np.float64], reference: NDArray[np.float64]) -> Chart:
    edges = _edges(np.concatenate([generated, reference]))
    title = TITLES.get(name, name)

    def draw(axes: Axes) -> None:
        for values, color, fill in ((reference, "#8d959f", GREY), (generated, BLUE, None)):
            if not len(values):
                continue
            share = np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] * 100.0 / len(values)
            if fill:
                axes.stairs(share, edges, fill=True, facecolor=fill, edgecolor="none")
            else:
                axes.stairs(share, edges, fill=True, facecolor=color, alpha=0.14, edgecolor="none")
                axes.stairs(share, edges, color=color, linewidth=1.6)
        axes.set_ylabel("% of molecules")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=bool(edges[1] - edges[0] == 1)))

    caption = f"median {short(float(np.median(generated)))}"
    if len(reference):
        caption += f", training set {short(float(np.median(reference)))}"
    alt = f"Histogram of {title} of {len(generated)} generated molecules; {caption}."
    return Chart(title, caption, alt, draw_svg(draw))


def property_histograms(
    generated: Mapping[str, NDArray[np.float64]], reference: Mapping[str, NDArray[np.float64]] | None = None
) -> list[Chart]:
    """Draw one histogram per property, generated molecules over the training set.

    Args:
        generated: property name to values (N,); NaN is left out, a property without values is skipped.
        reference: the same for the training set; may lack properties.
    """
    charts = []
    for name, column in generated.items():
        values = column[np.isfinite(column)]
        if len(values):
            others = (reference or {}).get(name, np.empty(0))
            charts.append(_histogram(name, values, others[np.isfinite(others)]))
    return charts


def search_curve(scores: NDArray[np.float64], *, minimize: bool = False) -> Chart | None:
    """Draw every score (N,) in the order of the oracle calls, the best so far and the mean of the ten best so far.

    None when no score is finite.
    """
    title = "Best score so far"
    calls = np.arange(1, len(scores) + 1, dtype=np.float64)
    good = np.isfinite(scores)
    if not good.any():
        return None
    best = np.fmin.accumulate(scores) if minimize else np.fmax.accumulate(scores)

    def draw(axes: Axes) -> None:
        axes.plot(*_thin(calls[good], scores[good], 1500), "o", color=GREY, markersize=2.6, markeredgewidth=0)
        known = np.isfinite(best)
        steps, heights = calls[known], best[known]
        turns = np.flatnonzero(np.diff(heights, prepend=np.nan) != 0)
        turns = np.append(turns, len(steps) - 1)
        axes.step(steps[turns], heights[turns], where="post", color=BLUE, linewidth=1.9)
        axes.plot(*_thin(calls, _top_means(scores, minimize), 600), color=GREEN, linewidth=1.2)
        axes.set_xlabel("oracle calls")
        axes.set_ylabel("score")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))

    caption = f"{len(scores):,} calls, best {short(float(best[-1]))}"
    return Chart(title, caption, f"{title} over oracle calls: {caption}.", draw_svg(draw, (5.6, 2.5)))


def _top_means(scores: NDArray[np.float64], minimize: bool, most: int = 10) -> NDArray[np.float64]:
    """Return the mean of the ``most`` best of the first 1, 2, ... N scores; NaN until there are so many."""
    kept: list[float] = []
    means = np.full(len(scores), np.nan)
    for place, score in enumerate((-scores if minimize else scores).tolist()):
        if math.isfinite(score):
            insort(kept, score)
            del kept[:-most]
        if len(kept) == most:
            means[place] = -np.mean(kept) if minimize else np.mean(kept)
    return means
