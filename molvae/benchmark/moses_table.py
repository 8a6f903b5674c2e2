"""Put a MOSES run into a table: result, floor, and what is above the floor, beside published models.

In: the summary of `molvae.benchmark.moses_run`. Out: rows, CSV, lines for people.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from molvae.benchmark.metrics import mean_and_spread

COLUMNS = ("metric", "reference", "n", "result", "spread", "floor", "floor_spread", "excess", "better")
LOWER = frozenset({"FCD", "logP", "SA", "QED", "weight"})
"""Metrics of which less is better."""

PUBLISHED: dict[str, dict[str, float]] = {
    "CharRNN": {"valid": .975, "FCD/Test": .0732, "FCD/TestSF": .520, "SNN/Test": .602, "Scaf/Test": .924,
                "Scaf/TestSF": .110, "IntDiv": .856, "Filters": .994, "Novelty": .842},
    "VAE": {"valid": .977, "FCD/Test": .099, "FCD/TestSF": .567, "SNN/Test": .626, "Scaf/Test": .939,
            "Scaf/TestSF": .059, "IntDiv": .856, "Filters": .997, "Novelty": .695},
    "JTN-VAE": {"valid": 1.0, "FCD/Test": .395, "FCD/TestSF": .938, "SNN/Test": .548, "Scaf/Test": .896,
                "Scaf/TestSF": .101, "IntDiv": .855, "Filters": .976, "Novelty": .914},
    "LatentGAN": {"valid": .897, "FCD/Test": .297, "FCD/TestSF": .828, "SNN/Test": .537, "Scaf/Test": .887,
                  "Scaf/TestSF": .107, "IntDiv": .857, "Filters": .974, "Novelty": .950},
    "AAE": {"valid": .937, "FCD/Test": .556, "FCD/TestSF": 1.057, "SNN/Test": .608, "Scaf/Test": .902,
            "Scaf/TestSF": .079, "IntDiv": .856, "Filters": .996, "Novelty": .793},
}  # fmt: skip
"""Figures of the MOSES paper (n = 30,000, mean of its runs), https://doi.org/10.3389/fphar.2020.565644."""


def split_name(name: str) -> tuple[str, str]:
    """Return metric and reference of a name; distances of properties are to Test, the rest needs no reference.

    >>> split_name("FCD/TestSF"), split_name("logP"), split_name("valid"), split_name("Novelty")
    (('FCD', 'TestSF'), ('logP', 'Test'), ('valid', ''), ('Novelty', 'training set'))
    """
    metric, _, reference = name.partition("/")
    if not reference:
        reference = {"Novelty": "training set"}.get(name, "Test" if name in LOWER else "")
    return metric, reference


def records(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row a metric: `COLUMNS`, and one column for each run and each floor."""
    rows = []
    for name in summary["metrics"]:
        metric, reference = split_name(name)
        mine = {f"run_{key}": run[name] for key, run in summary["runs"].items()}
        real = {f"floor_{key}": run[name] for key, run in summary["floors"].items()}
        result, spread = mean_and_spread(list(mine.values()))
        floor, floor_spread = mean_and_spread(list(real.values()))
        excess = result - floor if metric == "FCD" and result is not None and floor is not None else None
        rows.append({
            "metric": metric, "reference": reference, "n": summary["n"], "result": result, "spread": spread,
            "floor": floor, "floor_spread": floor_spread, "excess": excess,
            "better": "lower" if metric in LOWER else "higher", **mine, **real,
        })  # fmt: skip
    return rows


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; a figure that cannot be had is a blank cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else list(COLUMNS), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _with_spread(value: float | None, spread: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if spread is None else f"{value:.4f} ± {spread:.4f}"


def describe_table(summary: Mapping[str, Any]) -> list[str]:
    """Return the table as lines for people, the model's own figures below it."""
    head = ("metric", "reference", "result", "real molecules", "excess")
    cells = [head]
    for row in records(summary):
        excess = "" if row["excess"] is None else f"{row['excess']:+.4f}"
        cells.append((row["metric"], row["reference"], _with_spread(row["result"], row["spread"]),
                      _with_spread(row["floor"], row["floor_spread"]), excess))  # fmt: skip
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [*describe_setting(summary), "", *lines, *describe_model(summary.get("model") or {})]


def describe_setting(summary: Mapping[str, Any]) -> list[str]:
    """Return what was measured, how many, with which seeds, against what."""
    subject, training = summary["subject"], summary["training"]
    what = f"samples {subject.get('samples')}"
    if "model" in subject:
        how = f"token temperature {subject['temperature']:g}, {subject['rounds']} rounds of reading back"
        what = f"model {subject['model']}, {how}"
    seeds = ", ".join(summary["runs"])
    chance = f"sampling seeds {seeds}" if "model" in subject else "one file"
    lines = [f"MOSES: {what}; n = {summary['n']:,}, {chance}; ± is the standard deviation over seeds"]
    for reference in summary["references"]:
        drawn = reference["drawn_with_seed"]
        lines.append(
            f"  {reference['name']}: {reference['n']:,} molecules of {reference['source']} "
            f"(SHA-256 {reference['sha256'][:12]}{'' if drawn is None else f', drawn with seed {drawn}'})"
        )
    lines.append(
        f"  real molecules: {summary['n']:,} of the {training['n']:,} in {training['source']}, drawn with seeds "
        f"{', '.join(summary['floors'])}; no figure at this n should be expected past theirs"
    )
    return [*lines, *(f"  note: {note}" for note in summary["notes"])]


def describe_model(parts: Mapping[str, Any]) -> list[str]:
    """Return the figures that only a model has."""
    lines: list[str] = []
    if back := parts.get("reconstruction"):
        lines.append(f"exact reconstruction ({back['protocol']}): {back['exact']:.4%} of {back['n']:,} molecules of "
                     f"{back['source']} (same molecule {back['same_molecule']:.4%})")  # fmt: skip
    if (found := parts.get("likelihood")) and (nats := found["nats"]):
        base = f"{found['n']:,} molecules of {found['source']}, seed {found['seed']}"
        lines.append(
            f"rate {nats['rate']['mean']:.2f} ± {nats['rate']['standard_error']:.2f} nats, distortion "
            f"{nats['distortion']['mean']:.2f} ± {nats['distortion']['standard_error']:.2f} nats ({base})"
        )
        for name, prior in sorted(nats["priors"].items()):
            under = {"model": "the model's prior", "normal": "N(0, I)"}[name]
            lines.append(
                f"under {under}: rate {prior['rate']['mean']:.2f}, -ELBO {prior['negative_elbo']['mean']:.2f}, "
                f"importance-weighted -log p {prior['nats_per_molecule']:.2f} nats (K = {found['k']})"
            )
    if found and found["active_units"] is not None:
        lines.append(f"active units {found['active_units']} of {found['latent']}")
    if (copies := parts.get("near_copies")) and copies["codes"] and copies["held_out"]["n"]:
        lines.append(
            f"near copies: {copies['prior']['share']:.3%} of {copies['prior']['n']:,} prior draws lie in the noise "
            f"of one of {copies['codes']:,} training codes (distance up to {copies['limit']:.3f}); of "
            f"{copies['held_out']['n']:,} held-out codes {copies['held_out']['share']:.3%}; seed {copies['seed']}"
        )
    return ["", *lines] if lines else []
