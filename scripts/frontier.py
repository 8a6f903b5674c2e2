"""Draw the log of experiments: what a setting reconstructs, against how its samples look with and without reading back.

    python scripts/frontier.py data/experiments.csv -o data/frontier.png

Each setting is a vertical line from the FCD of decoded posteriors (bar) over that of samples read back (filled) to that
of samples as first written (hollow), at its rate on the left and at its exact reconstruction on the right.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLORS = {"compare": "#5b6673", "moses": "#0072B2", "druglike": "#D55E00"}
NAMES = {"compare": "small networks, 12 minutes each", "moses": "moses", "druglike": "druglike"}
PUBLISHED = (("JTN-VAE, published", 0.395), ("CharRNN, published", 0.073))
"""FCD to MOSES test at n = 30,000."""
HIGHEST = 40.0


def panel(axes: Axes, log: pd.DataFrame, column: str, scale: float) -> None:
    """Draw every setting of ``log`` that has ``column``, multiplied by ``scale``, over FCD."""
    for family, rows in log.dropna(subset=[column, "fcd_prior"]).groupby("family", sort=False):
        color, x = COLORS[str(family)], rows[column] * scale
        lowest = rows[["fcd_prior", "fcd_read_back", "fcd_posterior"]].min(axis=1)
        axes.vlines(x, lowest, rows["fcd_prior"], color=color, linewidth=0.8, alpha=0.5)
        axes.plot(x, rows["fcd_prior"], "o", color=color, markerfacecolor="white", markersize=5)
        axes.plot(x, rows["fcd_read_back"].where(rows["fcd_read_back"] < HIGHEST), "o", color=color, markersize=5)
        axes.plot(x, rows["fcd_posterior"], "_", color=color, markersize=8)
    for _, row in log.dropna(subset=[column, "name"]).iterrows():
        lowest = row[["fcd_prior", "fcd_read_back", "fcd_posterior"]].astype(float).min()
        axes.annotate(
            str(row["name"]), (row[column] * scale, lowest), xytext=(0, -9), textcoords="offset points",
            ha="center", fontsize=7, color=COLORS[row["family"]],
        )  # fmt: skip
    for text, level in PUBLISHED:
        axes.axhline(level, color="#999999", linewidth=0.6, linestyle=":")
        axes.annotate(text, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7)
    axes.set_yscale("log")
    axes.set_ylim(0.05, HIGHEST)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Read the log, draw it, name the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    log = pd.read_csv(given.log)
    with matplotlib.rc_context({"font.size": 9}):
        figure = Figure(figsize=(10.5, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharey=True)
        panel(left, log, "rate", 1.0)
        left.set(xlabel="rate to the model's prior [nats per molecule]", ylabel="FCD (floors .05 to .5, by n)")
        panel(right, log, "exact", 100.0)
        right.set(xlabel="exact reconstruction of held-out molecules, greedy, z = mean [%]")
        for family, name in NAMES.items():
            left.plot([], [], "s", color=COLORS[family], label=name)
        left.plot([], [], "o", color="black", markerfacecolor="white", label="samples as first written")
        left.plot([], [], "o", color="black", label="read back and written again, 5 rounds")
        left.plot([], [], "_", color="black", markersize=8, label="decoded posteriors")
        left.legend(fontsize=7, loc="center left", bbox_to_anchor=(0.0, 0.235), frameon=False)
        figure.savefig(given.output, dpi=160)
    print(f"wrote {given.output}: {len(log)} settings")


if __name__ == "__main__":
    main()
