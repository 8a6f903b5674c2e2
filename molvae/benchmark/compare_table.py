"""Put a comparison into one table: long as CSV, a line for each prior of each row; wide as Markdown, a line a row.

In: the summary of a `Comparison`. Out: records with fixed columns, CSV and Markdown text.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from typing import Any

from molvae.benchmark.compare_plan import OWN
from molvae.benchmark.evaluation import COLLAPSED_RATE

Record = dict[str, Any]
COLUMNS = (
    "objective", "prior", "state", "samples", "beta", "weights", "steps", "molecules_seen", "decoder_passes", "minutes",
    "distortion", "distortion_error", "rate", "negative_elbo", "negative_bound", "bound_samples", "excess", "exact",
    "same_molecule", "token_accuracy", "active_units", "latent", "validity", "uniqueness", "novelty", "fcd",
    "fcd_posterior", "fcd_floor", "n", "n_fcd", "drawn_ok", "seed", "budget", "hardware", "note",
)  # fmt: skip


def records(summary: Mapping[str, Any]) -> list[Record]:
    """Return one record for each prior of each row, all with the keys `COLUMNS`; what there is not is None.

    ``rate`` and ``negative_elbo`` [nats per molecule] are those under the record's own prior; ``negative_bound`` stands
    beside the prior that the row was trained with only. ``excess`` is ``negative_elbo`` minus what a molecule costs the
    decoder as a plain language model, see `language_model`. ``state`` is ok, failed or missing; ``note`` says why.
    """
    found, floor = [], (summary["reference"] or {}).get("fcd_floor")
    plain = language_model(summary)
    for item in _order(summary):
        name, _, kind = item.partition(".")
        row, prior = summary["results"].get(name), summary["results"].get(item)
        record: Record = dict.fromkeys(COLUMNS)
        record |= {"objective": name, "prior": kind, "seed": summary["seed"], "budget": summary["request"]["budget"],
                   "hardware": summary["hardware"], "fcd_floor": floor}  # fmt: skip
        failure = summary["failures"].get(name) or summary["failures"].get(item)
        record["state"] = "failed" if failure else "missing" if prior is None else "ok"
        record["note"] = f"{failure['problem']} {failure['remedy']}" if failure else None
        if row is not None:
            record |= _of_row(row)
        if row is not None and prior is not None:
            record |= _of_prior(row, prior, kind)
        if plain is not None and record["negative_elbo"] is not None:
            record["excess"] = record["negative_elbo"] - plain["nats"]
        found.append(record)
    return found


def language_model(summary: Mapping[str, Any]) -> Record | None:
    """Return the row that shows what a molecule costs a decoder that ignores its codes; None where no row does.

    All rows have the same decoder and training; where the posterior of one has collapsed, that decoder has become a
    plain language model. Of several such rows the cheapest counts: its tightest bound under its own prior.

    Returns:
        ``row``, its ``nats``, their ``standard_error``, its ``rate`` and ``bound_samples``.
    """
    found = []
    for name in summary["request"]["objectives"]:
        likelihood: Record = (summary["results"].get(name) or {}).get("likelihood") or {}
        own = likelihood.get("priors", {}).get("model")
        if own is not None and likelihood["rate"]["mean"] < COLLAPSED_RATE:
            most = max(own["negative_bound"], key=int)
            bound = own["negative_bound"][most]
            found.append({"row": name, "nats": bound["mean"], "standard_error": bound["standard_error"],
                          "rate": likelihood["rate"]["mean"], "bound_samples": int(most)})  # fmt: skip
    return min(found, key=lambda entry: float(entry["nats"])) if found else None


def _order(summary: Mapping[str, Any]) -> list[str]:
    """Return every prior of every row, done or not, as ``NAME.KIND`` in the order asked for."""
    there = {*summary["results"], *summary["missing"]}
    ordered = []
    for name in summary["request"]["objectives"]:
        kinds = [OWN, *summary["request"]["priors"]]
        ordered += [f"{name}.{kind}" for kind in kinds if f"{name}.{kind}" in there]
    return ordered


def _of_row(row: Mapping[str, Any]) -> Record:
    keys = ("samples", "beta", "weights", "steps", "molecules_seen", "decoder_passes", "minutes", "n")
    greedy, codes = row["reconstruction"], row["codes"]
    return {
        **{key: row[key] for key in keys},
        "distortion": row["distortion"]["mean"], "distortion_error": row["distortion"]["standard_error"],
        "exact": greedy["exact"], "same_molecule": greedy["same_molecule"], "token_accuracy": greedy["token_accuracy"],
        "active_units": codes["active_units"], "latent": codes["latent"],
        "fcd_posterior": row["posterior_samples"]["fcd"],
    }  # fmt: skip


def _of_prior(row: Mapping[str, Any], prior: Mapping[str, Any], kind: str) -> Record:
    record = {key: prior[key] for key in ("validity", "uniqueness", "novelty", "fcd", "drawn_ok", "rate")}
    record["n_fcd"] = prior["n"]
    likelihood = row["likelihood"]
    own = likelihood["priors"].get("model") if likelihood and kind == OWN else None
    if own is not None:
        most = max(own["negative_bound"], key=int)
        record |= {"rate": own["rate"]["mean"], "negative_elbo": own["negative_elbo"]["mean"],
                   "negative_bound": own["negative_bound"][most]["mean"], "bound_samples": int(most)}  # fmt: skip
    elif prior["rate"] is not None:
        record["negative_elbo"] = row["distortion"]["mean"] + prior["rate"]
    return record


def to_csv(rows: list[Record]) -> str:
    """Return `records` as CSV text; an empty cell is what there is not."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    return buffer.getvalue()


def _text(form: Callable[[Any], str], value: Any) -> str:
    """Return ``value`` as a cell, - when there is none.

    >>> _text("{:.2f}".format, None), _text("{:.2f}".format, 1.234)
    ('-', '1.23')
    """
    return "-" if value is None or (isinstance(value, float) and not math.isfinite(value)) else form(value)


NATS, SHARE, FCD, COUNT = "{:.2f}".format, "{:.1%}".format, "{:.2f}".format, "{:,}".format


def to_markdown(summary: Mapping[str, Any]) -> str:
    """Return the comparison as Markdown: a sentence on its terms, a line for each row, and what failed or is missing.

    The FCD of samples from each prior has a column; validity, uniqueness and novelty are those of the row's own prior.
    """
    rows = records(summary)
    kinds = [kind for kind in (OWN, *summary["request"]["priors"]) if any(row["prior"] == kind for row in rows)]
    bound = max((row["bound_samples"] or 0 for row in rows), default=0)
    head = [
        "objective", "passes", "distortion", "rate", "-ELBO", f"-bound (K = {bound})", "excess", "exact",
        "active units", "valid / unique / novel", *(f"FCD {'own prior' if kind == OWN else kind}" for kind in kinds),
        "FCD posterior",
    ]  # fmt: skip
    lines = [_terms(summary, rows), "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in summary["request"]["objectives"]:
        of_name = {row["prior"]: row for row in rows if row["objective"] == name}
        lines.append(f"| {' | '.join(_cells(name, of_name, kinds))} |")
    floor = (summary["reference"] or {}).get("fcd_floor")
    if floor is not None:
        blank = ["-"] * (len(head) - 2 - len(kinds))
        lines.append(f"| {' | '.join(['real molecules (floor)', *blank, *[NATS(floor)] * (len(kinds) + 1)])} |")
    notes = [*(summary["reference"] or {}).get("notes", ())]
    notes += [f"{item} failed: {one['problem']} {one['remedy']}" for item, one in summary["failures"].items()]
    notes.append(_on_excess(summary))
    undone = [item for item in summary["missing"] if item not in summary["failures"]]
    notes += [f"not done yet: {', '.join(undone)}"] if undone else []
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)]).rstrip() + "\n"


def _cells(name: str, of_name: Mapping[str, Record], kinds: list[str]) -> list[str]:
    own = of_name[OWN]
    active = None if own["active_units"] is None else f"{own['active_units']} of {own['latent']}"
    three = " / ".join(_text("{:.3f}".format, own[key]) for key in ("validity", "uniqueness", "novelty"))
    return [
        name, _text(COUNT, own["decoder_passes"]), _text(NATS, own["distortion"]), _text(NATS, own["rate"]),
        *(_text(NATS, own[key]) for key in ("negative_elbo", "negative_bound", "excess")), _text(SHARE, own["exact"]),
        _text(str, active), three, *(_text(FCD, of_name.get(kind, {}).get("fcd")) for kind in kinds),
        _text(FCD, own["fcd_posterior"]),
    ]  # fmt: skip


def _on_excess(summary: Mapping[str, Any]) -> str:
    """Return what the excess is measured over, or why there is none, in a line."""
    plain = language_model(summary)
    if plain is None:
        return "excess is left out: it needs a row whose decoder ignores its codes, such as vae (beta 1)"
    return (
        f"excess: -ELBO minus the {plain['nats']:.2f} +- {plain['standard_error']:.2f} nats that a molecule costs "
        f"{plain['row']}, whose decoder all but ignores its codes (rate {plain['rate']:.2f}, "
        f"K = {plain['bound_samples']}): waste that a prior has to model"
    )


def _terms(summary: Mapping[str, Any], rows: list[Record]) -> str:
    """Return the terms that all rows share, in a line."""
    reference = summary["reference"] or {}
    weights = [row["weights"] for row in rows if row["weights"]]
    sizes = " to ".join(dict.fromkeys(f"{size / 1e6:.2f}" for size in (min(weights), max(weights)))) if weights else "-"
    measured = max((row["n"] or 0 for row in rows), default=0)
    return (
        f"{summary['molecules']:,} training molecules, {summary['request']['budget']:,} decoder passes a row; "
        f"{sizes} M weights; seed {summary['seed']}; n = {measured:,} held-out molecules for likelihood and "
        f"reconstruction (greedy from the mean), n = {reference.get('n', 0):,} for FCD, against the "
        f"{reference.get('split', '')} split, at token temperature {summary['request']['temperature']:g}; "
        f"{summary['hardware']}. Nats per molecule."
    )
