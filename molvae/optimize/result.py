"""Turn the calls of a search into tables and files.

In: calls with their parents. Out: `Result`; molecules.csv, best.csv and run.json in the run's directory, and for goals
of several objectives pareto.csv and hypervolume.csv.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from molvae.chem.fingerprints import morgan, tanimoto
from molvae.files import write_json, write_with
from molvae.optimize.pareto import front, hypervolume_curve

TOP = 100
POINTS = 100
"""Of a hypervolume curve, at most, but one every `FEWEST` calls at most."""
FEWEST = 10
JOURNAL, MOLECULES, BEST, RUN = "journal.jsonl", "molecules.csv", "best.csv", "run.json"
PARETO_FRONT, HYPERVOLUME = "pareto.csv", "hypervolume.csv"
PRINTS = "oracle.log"


@dataclass(frozen=True)
class Found:
    """A molecule that was scored.

    Attributes:
        step: number of the call, from 1.
        smiles: canonical SMILES.
        parent: the molecule it was made from, "" for a start.
        start: the start it descends from, "" for a start.
        score: the oracle's own value, NaN = failed.
        raw: the values behind the score, by name, for oracles that tell them.
    """

    step: int
    smiles: str
    parent: str
    start: str
    score: float
    raw: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Front:
    """What a search for several objectives found.

    Attributes:
        molecules: those that no other one dominates: step, smiles, parent, and each objective by its name, best first
            by the first one.
        curve: calls, and the hypervolume of all molecules until then.
        reference: the corner that the volume is measured from, one number for all objectives.
    """

    molecules: pd.DataFrame
    curve: pd.DataFrame
    reference: float

    @property
    def hypervolume(self) -> float:
        """The volume at the end, 0 before the first call."""
        return float(self.curve["hypervolume"].iloc[-1]) if len(self.curve) else 0.0


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        best: the best molecule of each start and the `TOP` best of all: smiles, score, parent, parent_score,
            similarity (Tanimoto to the parent, Morgan radius 2, 2,048 bits), best_of_parent; best first. A parent here
            is the start that a molecule descends from; starts have none.
        molecules: every molecule scored, in the order of the calls: step, smiles, parent, score (NaN = failed), and a
            column ``raw_...`` for each value behind the score, for goals and benchmark tasks.
        starts: the start molecules: input, smiles, decoded, exact (decodes to itself), repaired (by
            its exact code), problem, score.
        n_calls: unique oracle calls used.
        stopped: why it ended: "budget", "nothing new", or the name of a signal.
        files: what was written.
        front: for goals of several objectives; else None.
        notes: what else should be known, a sentence each.
    """

    best: pd.DataFrame
    molecules: pd.DataFrame
    starts: pd.DataFrame
    n_calls: int
    stopped: str
    files: list[Path] = field(default_factory=list)
    front: Front | None = None
    notes: list[str] = field(default_factory=list)


def pareto_front(
    found: Sequence[Found], names: Sequence[str], values: NDArray[np.float64], minimize: bool = False,
    refused: Collection[str] = (),
) -> Front:  # fmt: skip
    """Return the front among N molecules, and how the volume below it grew call by call.

    The volume is measured from 0 in every objective, the worst that a score from 0 to 1 can be; from 1 when low scores
    are looked for.

    Args:
        found: N molecules in the order of their calls.
        names: of M objectives.
        values: (N, M) objectives as the oracle tells them, NaN where one is missing.
        minimize: whether low ones are better.
        refused: molecules that are on no front.
    """
    sign, reference = (-1.0, 1.0) if minimize else (1.0, 0.0)
    worth = sign * values
    worth[[row for row, one in enumerate(found) if one.smiles in refused]] = math.nan
    rows = front(worth).tolist()
    rows.sort(key=lambda row: (-worth[row, 0], row))
    table = pd.DataFrame(
        {
            "step": pd.Series([found[row].step for row in rows], dtype=int),
            "smiles": pd.Series([found[row].smiles for row in rows], dtype=object),
            "parent": pd.Series([found[row].parent for row in rows], dtype=object),
            **{name: pd.Series(values[rows, column], dtype=float) for column, name in enumerate(names)},
        }
    )
    every = max(FEWEST, math.ceil(len(found) / POINTS))
    curve = hypervolume_curve(worth, np.full(len(names), sign * reference), every)
    return Front(table, pd.DataFrame(curve, columns=["calls", "hypervolume"]), reference)


def molecules_table(found: list[Found]) -> pd.DataFrame:
    """Return one row per call: step, smiles, parent, score, raw values."""
    rows = [(one.step, one.smiles, one.parent, one.score) for one in found]
    table = pd.DataFrame(rows, columns=["step", "smiles", "parent", "score"])
    for name in dict.fromkeys(name for one in found for name in one.raw):
        table[f"raw_{name}"] = pd.Series([one.raw.get(name, math.nan) for one in found], dtype=float)
    return table


def best_table(found: list[Found], minimize: bool, refused: Collection[str] = ()) -> pd.DataFrame:
    """Return the best molecule of each start and the `TOP` best of all but ``refused``, best first (see `Result`)."""
    sign = -1.0 if minimize else 1.0
    scores = {one.smiles: one.score for one in found}
    listed = [one for one in found if not math.isnan(one.score) and one.smiles not in refused]
    ranked = sorted(listed, key=lambda one: (-sign * one.score, one.step))
    kept, heads = ranked[:TOP], {}
    for one in ranked:
        if one.start and one.start not in heads:
            heads[one.start] = one.smiles
    shown = {one.smiles for one in kept}
    kept += [one for one in ranked if one.smiles not in shown and heads.get(one.start) == one.smiles]
    return pd.DataFrame(
        {
            "smiles": pd.Series([one.smiles for one in kept], dtype=object),
            "score": pd.Series([one.score for one in kept], dtype=float),
            "parent": pd.Series([one.start for one in kept], dtype=object),
            "parent_score": pd.Series([scores.get(one.start, math.nan) for one in kept], dtype=float),
            "similarity": pd.Series(_similarities(kept), dtype=float),
            "best_of_parent": pd.Series([heads.get(one.start) == one.smiles for one in kept], dtype=bool),
        }
    )


def _similarities(kept: list[Found]) -> list[float]:
    names = sorted({name for one in kept for name in (one.smiles, one.start) if name})
    bits = morgan(names)
    place = {name: row for row, name in enumerate(names)}
    values = []
    for one in kept:
        pair = bits[[place[one.smiles]]], bits[[place[one.start]]] if one.start else None
        values.append(math.nan if pair[1] is None else round(float(tanimoto(pair[0], pair[1])[0, 0]), 6))
    return values


def top_mean(scores: list[float], n: int, minimize: bool) -> float:
    """Return the mean of the ``n`` best scores, NaN when there is none.

    >>> top_mean([1.0, 3.0, float("nan"), 2.0], 2, minimize=False)
    2.5
    """
    finite = sorted((score for score in scores if not math.isnan(score)), reverse=not minimize)[:n]
    return float(np.mean(finite)) if finite else math.nan


def write_tables(directory: Path, result: Result) -> list[Path]:
    """Write molecules.csv, best.csv and what there is of a front; a failed score is an empty cell.

    Raises:
        OutputError: when a file cannot be written.
    """
    tables = {MOLECULES: result.molecules, BEST: result.best}
    if result.front is not None:
        tables |= {PARETO_FRONT: result.front.molecules, HYPERVOLUME: result.front.curve}
    for name, table in tables.items():
        _write_table(directory / name, table)
    return [directory / name for name in tables]


def _write_table(path: Path, table: pd.DataFrame) -> None:
    write_with(path, lambda temporary: table.to_csv(temporary, index=False) and None)


def write_facts(directory: Path, facts: dict[str, Any]) -> None:
    """Write run.json; a number that is not finite becomes null."""
    write_json(directory / RUN, _plain(facts))


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {str(key): _plain(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_plain(entry) for entry in value]
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value
