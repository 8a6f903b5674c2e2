"""Say what was measured: the table, the JSON and the plot.

In: repeats of every case. Out: rows; Markdown; a PNG.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cases import Comparison

Repeats = Sequence[Mapping[str, Any]]


def rate(repeats: Repeats, clock: str) -> float | None:
    """Return the median molecules per second, None when nothing was measured.

    >>> rate([{"molecules": 10, "cpu": 2.0}, {"molecules": 10, "cpu": 1.0}, {"molecules": 10, "cpu": 4.0}], "cpu")
    5.0
    """
    speeds = [one["molecules"] / one[clock] for one in repeats if one.get(clock)]
    return statistics.median(speeds) if speeds else None


def median_ratio(ours: Repeats, peer: Repeats, clock: str) -> float | None:
    """Return the median over pairs of repeats that ran one after the other, None when a side was not measured."""
    pairs = [(a, b) for a, b in zip(ours, peer, strict=False) if a.get(clock) and b.get(clock)]
    ratios = [a["molecules"] / a[clock] / (b["molecules"] / b[clock]) for a, b in pairs]
    return statistics.median(ratios) if ratios else None


def reason(repeats: Repeats) -> str:
    """Return why there is no figure."""
    return next((one["skipped"] for one in repeats if "skipped" in one), "not run")


def row(
    line: Comparison, measured: Mapping[str, Repeats], clock: str, roofs: Mapping[str, float]
) -> dict[str, Any]:  # fmt: skip
    """Put one comparison together.

    Args:
        line: what is compared.
        measured: repeats by case.
        clock: ``cpu`` or ``wall``.
        roofs: molecules per second that the machine's rates allow, by kind.
    """
    ours, peer = measured.get(line.ours, []), measured.get(line.peer, [])
    own, its = rate(ours, clock), rate(peer, clock)
    roof = roofs.get(line.roof or "") or (rate(measured.get(line.roof or "", []), clock))
    return {
        "stage": line.stage, "peer": line.label, "ours_per_s": own, "peer_per_s": its,
        "ratio": median_ratio(ours, peer, clock), "must": line.must, "goal": line.goal,
        "roof_per_s": roof, "share_of_roof": own / roof if own and roof else None,
        "repeats": min(len(ours), len(peer)), "molecules": ours[0].get("molecules") if ours else None,
        "why_not": {"ours": None if own else reason(ours), "peer": None if its else reason(peer)},
    }  # fmt: skip


def _number(value: float | None, missing: str = "") -> str:
    if value is None:
        return missing
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the table; a figure that was not measured says why below it."""
    lines = [
        "| stage | beside | ours [1/s] | peer [1/s] | ratio | must / goal | of the roof |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    notes: dict[str, None] = {}
    for one in rows:
        for side in ("ours", "peer"):
            if one["why_not"][side]:
                notes[f"{one['stage']}: {one['why_not'][side]}"] = None
        asked = "" if one["must"] is None else f"{one['must']:g} / {one['goal']:g}"
        ratio = "" if one["ratio"] is None else f"{one['ratio']:.2f}"
        lines.append(
            f"| {one['stage']} | {one['peer']} | {_number(one['ours_per_s'], 'not run')} | "
            f"{_number(one['peer_per_s'], 'not run')} | {ratio} | {asked} | {_percent(one['share_of_roof'])} |"
        )
    return "\n".join([*lines, "", *(f"- not run: {note}" for note in notes)]).rstrip() + "\n"


def plot(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Draw ours, the peer's and the roof, molecules per second on a logarithmic axis, and write a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [one for one in rows if one["ours_per_s"] or one["peer_per_s"]]
    figure = Figure(figsize=(9, 1.2 + 0.42 * max(1, len(shown))), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, one in enumerate(shown):
        for key, shift, colour in (("ours_per_s", -0.2, "#0072b2"), ("peer_per_s", 0.2, "#bbbbbb")):
            if one[key]:
                axes.barh(place + shift, one[key], 0.38, color=colour)
        if one["roof_per_s"]:
            axes.plot([one["roof_per_s"]] * 2, [place - 0.42, place + 0.42], color="#d55e00", linewidth=2)
        if one["ratio"]:
            digits = 0 if one["ratio"] >= 10 else 2
            right = max(one["ours_per_s"], one["peer_per_s"])
            axes.annotate(f"  {one['ratio']:,.{digits}f} x", (right, place), va="center", fontsize=8)
    axes.set_yticks(range(len(shown)), [f"{one['stage']}: {one['peer']}" for one in shown], fontsize=8)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_xlabel("molecules per second (blue: molvae, grey: the peer named, orange: the machine's limit)")
    axes.set_title(title, fontsize=9)
    figure.savefig(path, metadata={"Software": None})
