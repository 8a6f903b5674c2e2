"""Run GuacaMol's goal-directed suite v2 under a budget, and score it as GuacaMol does.

In: tasks, methods, seeds. Out: what `molvae.benchmark.stored_runs` needs to run and store them; scores from 0 to 1.

Scoring: of a search's molecules the best are taken, as many as the largest of the task's top counts, stereochemistry
left out, each once; they are scored again, missing ones count 0, and the score is the mean of the top-k means. GuacaMol
itself sets no budget; published results come from far more calls than the 10,000 that are the default here.

Source: Brown et al. 2019, doi 10.1021/acs.jcim.8b00839; ``assess_model`` in ``goal_directed_benchmark.py`` of
https://github.com/BenevolentAI/guacamol
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from rdkit import Chem

from molvae.benchmark.stored_runs import Asked, Entry, passes_moses
from molvae.benchmark.task_plan import TaskPlan
from molvae.benchmark.task_table import Published, TaskTable
from molvae.benchmark.task_table import read_table as read_task_table
from molvae.chem.parallel import map_items
from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read
from molvae.optimize.oracles import find_oracle
from molvae.optimize.result import Result
from molvae.optimize.tasks import GUACAMOL_V2, score, tasks

CALLS = 10_000

COLUMNS = ("best of data set", "SMILES LSTM", "SMILES GA", "Graph GA", "Graph MCTS")
PUBLISHED: dict[str, tuple[float, ...]] = {
    "celecoxib_rediscovery": (0.505, 1.0, 0.732, 1.0, 0.355),
    "troglitazone_rediscovery": (0.419, 1.0, 0.515, 1.0, 0.311),
    "thiothixene_rediscovery": (0.456, 1.0, 0.598, 1.0, 0.311),
    "aripiprazole_similarity": (0.595, 1.0, 0.834, 1.0, 0.380),
    "albuterol_similarity": (0.719, 1.0, 0.907, 1.0, 0.749),
    "mestranol_similarity": (0.629, 1.0, 0.790, 1.0, 0.402),
    "isomers_c11h24": (0.684, 0.993, 0.829, 0.971, 0.410),
    "isomers_c9h10n2o2pf2cl": (0.747, 0.879, 0.889, 0.982, 0.631),
    "median1": (0.334, 0.438, 0.334, 0.406, 0.225),
    "median2": (0.351, 0.422, 0.380, 0.432, 0.170),
    "osimertinib_mpo": (0.839, 0.907, 0.886, 0.953, 0.784),
    "fexofenadine_mpo": (0.817, 0.959, 0.931, 0.998, 0.695),
    "ranolazine_mpo": (0.792, 0.855, 0.881, 0.920, 0.616),
    "perindopril_mpo": (0.575, 0.808, 0.661, 0.792, 0.385),
    "amlodipine_mpo": (0.696, 0.894, 0.722, 0.894, 0.533),
    "sitagliptin_mpo": (0.509, 0.545, 0.689, 0.891, 0.458),
    "zaleplon_mpo": (0.547, 0.669, 0.413, 0.754, 0.488),
    "valsartan_smarts": (0.259, 0.978, 0.552, 0.990, 0.040),
    "deco_hop": (0.933, 0.996, 0.970, 1.0, 0.590),
    "scaffold_hop": (0.738, 0.998, 0.885, 1.0, 0.478),
}
"""Table 2 of Brown et al. 2019, in the order of `COLUMNS`; without a limit on calls."""

WHOLE = "GuacaMol v2"


@dataclass(frozen=True)
class Plan(TaskPlan):
    """The table of GuacaMol's suite v2, see `TaskPlan`; its tasks are those of `molvae.optimize.tasks.GUACAMOL_V2`."""

    figure: ClassVar[str] = "score"
    known: ClassVar[tuple[str, ...]] = GUACAMOL_V2
    unknown: ClassVar[str] = "GuacaMol's suite v2 has no task {!r}."

    tasks: tuple[str, ...] = GUACAMOL_V2
    seeds: tuple[int, ...] = (0,)
    calls: int = CALLS

    def asked(self, entry: Entry) -> Asked:
        """Return the task's oracle; the search sets out from the prior."""
        return Asked(find_oracle(entry.task))

    def account(self, entry: Entry, result: Result) -> dict[str, Any]:
        """Return what GuacaMol reports."""
        return account(entry.task, result)


def account(task: str, result: Result) -> dict[str, Any]:
    """Return the score of a search on a task, its top-k means, and the molecules behind them."""
    tops = tasks()[task].top
    ranked = result.molecules.dropna(subset=["score"]).sort_values("score", ascending=False, kind="stable")
    best = distinct(ranked["smiles"].tolist(), max(tops))
    scores = np.nan_to_num(score(task, best))
    means = top_means(scores.tolist(), tops)
    passes = map_items(passes_moses, best)
    return {
        "score": float(np.mean(list(means.values()))),
        **{f"top{top}": value for top, value in means.items()},
        "passes_moses_filters": sum(one is True for one in passes) / len(best) if best else 0.0,
        "best": [best[row] for row in np.argsort(-scores, kind="stable")[:10]],
    }


def top_means(scores: Sequence[float], tops: Sequence[int]) -> dict[int, float]:
    """Return the sum of the k best scores over k for each k; scores that are not there count 0.

    >>> top_means([0.5, 1.0], (1, 4))
    {1: 1.0, 4: 0.375}
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    return {top: float(ordered[:top].sum() / top) for top in tops}


def distinct(smiles: Sequence[str], n: int) -> list[str]:
    """Return the first ``n`` molecules, without stereochemistry, each once.

    >>> distinct(["C[C@H](O)F", "C[C@@H](O)F", "CC"], 2)
    ['CC(O)F', 'CC']
    """
    found: dict[str, None] = {}
    for one in smiles:
        mol = read(one)
        if not isinstance(mol, Rejected):
            found.setdefault(str(Chem.MolToSmiles(mol, isomericSmiles=False)), None)
        if len(found) == n:
            break
    return list(found)


def read_table(directory: Path, plan: Plan) -> TaskTable:
    """Return the table of a directory.

    Raises:
        InputError: when a stored result cannot be read.
    """
    return read_task_table(directory, plan, "GuacaMol score", Published(COLUMNS, PUBLISHED, WHOLE))
