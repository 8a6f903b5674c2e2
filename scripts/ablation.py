"""Say what each part of the hybrid search is worth: the same runs of PMO with one part off, or another one on.

    python scripts/ablation.py -o OUT [-m druglike] [--tasks perindopril_mpo,zaleplon_mpo] [--seeds 0,1,2]
        [--calls 3000] [--parts whole,no-surrogate,...] [--table-only]

Every run is stored; the same command goes on with what is missing. Differences are of the same task and seed. Writes
OUT/PART/ (see `molvae benchmark pmo`), OUT/ablation.csv and OUT/ablation.svg.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean, stdev

import matplotlib
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from molvae.benchmark.pmo import Plan
from molvae.benchmark.stored_runs import missing, missing_line, stored
from molvae.cli.benchmark_runs import finish, make_missing
from molvae.optimize.operators import MOVES

WHOLE = "whole"
PARTS = {
    WHOLE: "",
    "no-surrogate": "surrogate=off,ranked=1,generations=1",
    "no-bandit": "bandit=off",
    "no-latent-moves": "moves=graph-cross+graph-mutate+string-cross+string-mutate",
    "no-graph-moves": "moves=noise+step+blend+prior+string-cross+string-mutate",
    "no-string-moves": "moves=noise+step+blend+prior+graph-cross+graph-mutate",
    "latent-moves-alone": "moves=noise+step+blend+prior",
    "one-generation": "generations=1",
    "no-boldness": "boldness=0",
    "no-fresh-start": "patience=0",
    "no-gate": "gate=off",
    "gate-moses": "gate=moses",
    "gate-nats": "gate=nats",
    "with-graph-swap": "moves=" + "+".join(MOVES),
    "five-per-scaffold": "per_scaffold=5",
    "decoder-update": "update=250",
}
"""Part to the settings without it; the last five are off as a rule and on here."""


def compare(directory: Path, parts: list[str], plans: dict[str, Plan]) -> pd.DataFrame:
    """Return a row for each run that is there: its figures, and its AUC less that of the whole search."""
    rows = []
    whole = stored(directory / WHOLE, plans[WHOLE]) if WHOLE in plans else {}
    for part in parts:
        for entry, facts in stored(directory / part, plans[part]).items():
            auc = float(facts["auc_top10"])
            gain = auc - float(whole[entry]["auc_top10"]) if entry in whole else float("nan")
            figures = {key: facts[key] for key in ("auc_top10", "top10", "passes_moses_filters", "cpu_seconds")}
            rows.append({"part": part, "task": entry.task, "seed": entry.seed, **figures, "difference": gain})
    return pd.DataFrame(rows)


def lines(table: pd.DataFrame, parts: list[str]) -> list[str]:
    """Return the table as Markdown: for each part means over tasks and seeds, differences with their spread."""
    text = ["| part | settings | runs | AUC top-10 | difference | pass MOSES filters | CPU [s] |"]
    text.append("|---|---|--:|--:|--:|--:|--:|")
    for part in parts:
        rows = table[table["part"] == part]
        if rows.empty:
            continue
        gains = rows["difference"].dropna().tolist()
        spread = f" ± {stdev(gains) / len(gains) ** 0.5:.3f}" if len(gains) > 1 and part != WHOLE else ""
        difference = f"{fmean(gains):+.3f}{spread}" if gains and part != WHOLE else ""
        means = rows[["auc_top10", "passes_moses_filters", "cpu_seconds"]].mean()
        figures = f"{means.iloc[0]:.3f} | {difference} | {means.iloc[1]:.2f} | {means.iloc[2]:.0f}"
        text.append(f"| {part} | {PARTS[part]} | {len(rows)} | {figures} |")
    return text


def draw(table: pd.DataFrame, parts: list[str], path: Path) -> None:
    """Draw the difference of every run to the whole search, a dot each, and their mean as a bar."""
    shown = [part for part in parts if part != WHOLE and table.loc[table["part"] == part, "difference"].notna().any()]
    tasks = list(dict.fromkeys(table["task"]))
    with matplotlib.rc_context({"font.size": 9, "svg.fonttype": "none"}):
        figure = Figure(figsize=(7.5, 0.6 + 0.32 * len(shown)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for place, part in enumerate(shown):
            rows = table[table["part"] == part]
            axes.barh(place, rows["difference"].mean(), height=0.6, color="#c8d3de")
            for task, color in zip(tasks, ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#5b6673"), strict=False):
                gains = rows.loc[rows["task"] == task, "difference"]
                axes.plot(gains, [place] * len(gains), "o", color=color, markersize=4, label=None if place else task)
        axes.axvline(0, color="#5b6673", linewidth=0.8)
        axes.set_yticks(range(len(shown)), shown)
        axes.invert_yaxis()
        axes.set_xlabel("AUC top-10 less that of the whole search, same task and seed")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.legend(frameon=False, fontsize=8)
        figure.savefig(path)


def main() -> None:
    """Make what is missing, print the table, name the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-m", "--model", default="druglike")
    parser.add_argument("--tasks", default="perindopril_mpo,zaleplon_mpo")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--parts", default=",".join(PARTS), help="some of: " + ", ".join(PARTS))
    parser.add_argument("--table-only", action="store_true", help="run nothing")
    given = parser.parse_args()
    parts, seeds = given.parts.split(","), tuple(map(int, given.seeds.split(",")))
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}")
    plans = {part: Plan(tuple(given.tasks.split(",")), ("hybrid",), seeds, given.calls, PARTS[part]) for part in parts}
    stopped = ""
    for part in [] if given.table_only else parts:
        print(f"{part}: {PARTS[part] or 'as it is'}", flush=True)
        stopped = make_missing(plans[part], given.output / part, given.model, "cpu")
        if stopped.startswith("SIG"):
            break
    table = compare(given.output, parts, plans)
    print(
        "\n".join([f"{given.calls:,} calls; differences by task and seed ± standard error", "", *lines(table, parts)])
    )
    for part in parts:
        if left := missing(given.output / part, plans[part]):
            print(f"{part}: {missing_line(plans[part], left)}")
    if not table.empty:
        given.output.mkdir(parents=True, exist_ok=True)
        table.to_csv(given.output / "ablation.csv", index=False, float_format="%.6g")
        draw(table, parts, given.output / "ablation.svg")
        print(f"wrote {given.output / 'ablation.csv'} and {given.output / 'ablation.svg'}")
    finish(stopped)


if __name__ == "__main__":
    main()
