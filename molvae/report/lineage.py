"""Find, for every start of an optimisation, the best molecule that came from it.

In: the rows of molecules.csv (smiles, parent, score). Out: before-and-after pairs with their scores.
"""

from __future__ import annotations

import math

import pandas as pd

Gain = tuple[str, float, str, float]


def roots(parents: dict[str, str]) -> dict[str, str]:
    """Return for every molecule the start it descends from.

    Args:
        parents: SMILES to the parent's SMILES; an empty parent, or a parent that is the molecule itself, is a start.

    A parent without a row of its own is a start; a circle (a molecule found again from its own descendant) ends at the
    first molecule met twice.

    >>> roots({"CC": "", "CCO": "CC", "CCN": "CCO", "C": "CS"})
    {'CC': 'CC', 'CCO': 'CC', 'CCN': 'CC', 'C': 'CS'}
    """
    found: dict[str, str] = {}
    for smiles in parents:
        path = [smiles]
        seen = {smiles}
        while path[-1] not in found:
            parent = parents.get(path[-1], "")
            if not parent or parent in seen:
                break
            path.append(parent)
            seen.add(parent)
        root = found.get(path[-1], path[-1])
        found.update(dict.fromkeys(path, root))
    return {smiles: found[smiles] for smiles in parents}


def best_of_each(rows: pd.DataFrame, fallback: str) -> list[Gain]:
    """Return (start, its score, best descendant, its score), largest gain first.

    Args:
        rows: columns smiles, score (float, NaN = failed) and, when known, parent; in the order of the calls.
        fallback: the best molecule of all, shown against the first scored one when the table names no parents.
    """
    rows = rows.dropna(subset="score").drop_duplicates("smiles")
    scores = {str(k): float(v) for k, v in zip(rows["smiles"], rows["score"], strict=True)}
    if not scores:
        return []
    gains: list[Gain] = []
    if "parent" in rows.columns and bool((rows["parent"] != "").any()):
        parents = {str(k): str(v) for k, v in zip(rows["smiles"], rows["parent"], strict=True)}
        best: dict[str, str] = {}
        for smiles, root in roots(parents).items():
            if smiles != root and scores[smiles] > scores.get(best.get(root, ""), -math.inf):
                best[root] = smiles
        gains = [(root, scores.get(root, math.nan), smiles, scores[smiles]) for root, smiles in best.items()]
    else:
        first = next(iter(scores))
        gains = [(first, scores[first], fallback, scores[fallback])] if fallback != first else []
    better = [gain for gain in gains if not gain[3] <= gain[1]]
    return sorted(better, key=lambda gain: (math.isnan(gain[1]), gain[1] - gain[3], gain[0]))
