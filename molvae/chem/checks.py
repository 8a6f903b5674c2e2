"""Judge molecules: every check for a list in one call, one result per input.

In: SMILES, from people or from a model. Out: a `CheckResult` each, and counts over all of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from rdkit import Chem

from molvae.chem.alerts import catalogue_alerts, moses_alerts
from molvae.chem.parallel import map_items
from molvae.chem.properties import np_score, sa_score
from molvae.chem.rejected import Rejected
from molvae.chem.scaffolds import murcko_mol
from molvae.chem.standardize import standardize_mol

LARGEST_MOLECULE = 100
"""Heavy atoms above which a molecule counts as not sane."""
LARGEST_RING = 8
"""Ring size above which a molecule counts as not sane."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What is known about one string.

    Args:
        given: the string as it was given.
        smiles: canonical SMILES; None when it is no molecule.
        state: ``ok``, or a key of `molvae.chem.rejected.REASONS`.
        detail: more about the reason, for people.
        alerts: names of alerts, each starting with PAINS, BRENK, NIH or MOSES; empty when not asked for.
        n_atoms: heavy atoms.
        n_fragments: parts joined by ``.``.
        n_rings: rings in the smallest set.
        largest_ring: atoms in the largest of them, 0 without rings.
        sane: one fragment of 1 to 100 heavy atoms, no ring above 8 atoms, no radical.
        passes_moses: whether the MOSES benchmark would keep it; False when alerts were not asked for.
        sa: synthetic accessibility, 1 easy to 10; NaN when unknown.
        np: natural product likeness, -5 to 5; NaN when unknown.
        scaffold: Murcko scaffold; "" without rings.
    """

    given: str
    smiles: str | None
    state: str
    detail: str = ""
    alerts: tuple[str, ...] = ()
    n_atoms: int = 0
    n_fragments: int = 0
    n_rings: int = 0
    largest_ring: int = 0
    sane: bool = False
    passes_moses: bool = False
    sa: float = math.nan
    np: float = math.nan
    scaffold: str = ""


def _score(function: Any, mol: Chem.Mol) -> float:
    try:
        return float(function(mol))
    except (ValueError, ZeroDivisionError, RuntimeError):
        return math.nan  # for instance an ion without any fingerprint bit


def check(smiles: str, *, alerts: bool = True, scores: bool = True) -> CheckResult:
    """Check one SMILES: validity, size, rings, scaffold, and if asked for alerts and scores.

    Args:
        smiles: any string; "" is never a molecule.
        alerts: look for PAINS, BRENK, NIH and MOSES alerts (a few milliseconds a molecule, most of the time).
        scores: compute the SA and NP score (about half a millisecond).

    >>> result = check("OCC")
    >>> result.smiles, result.state, result.n_atoms
    ('CCO', 'ok', 3)
    >>> check("").state
    'empty'
    """
    result = standardize_mol(smiles)
    if isinstance(result, Rejected):
        return CheckResult(smiles, None, result.reason, result.detail)
    standard, mol = result
    heavy = mol.GetNumHeavyAtoms()
    fragments = standard.smiles.count(".") + 1
    rings = mol.GetRingInfo().AtomRings()
    largest = max(map(len, rings), default=0)
    radical = any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
    moses = moses_alerts(mol) if alerts else []
    return CheckResult(
        given=smiles,
        smiles=standard.smiles,
        state="ok",
        alerts=(*catalogue_alerts(mol), *moses) if alerts else (),
        n_atoms=heavy,
        n_fragments=fragments,
        n_rings=len(rings),
        largest_ring=largest,
        sane=fragments == 1 and 1 <= heavy <= LARGEST_MOLECULE and largest <= LARGEST_RING and not radical,
        passes_moses=alerts and not moses,
        sa=_score(sa_score, mol) if scores else math.nan,
        np=_score(np_score, mol) if scores else math.nan,
        scaffold=murcko_mol(mol),
    )


@dataclass(frozen=True, slots=True)
class _Check:
    alerts: bool
    scores: bool

    def __call__(self, smiles: str) -> CheckResult:
        return check(smiles, alerts=self.alerts, scores=self.scores)


def check_many(
    smiles: Sequence[str], *, alerts: bool = True, scores: bool = True, workers: int | None = None
) -> list[CheckResult]:
    """Check a list on all cores: one `CheckResult` per input, in order (see `check`).

    >>> [result.state for result in check_many(["C", "C(", ""])]
    ['ok', 'parse', 'empty']
    """
    results = map_items(_Check(alerts, scores), smiles, workers)
    return [
        CheckResult(result.smiles, None, result.reason, result.detail) if isinstance(result, Rejected) else result
        for result in results
    ]


def _share(count: int, total: int) -> float:
    return count / total if total else math.nan


def summarize(results: Sequence[CheckResult], training: Container[str] | None = None) -> dict[str, Any]:
    """Count over checked molecules.

    Args:
        results: of `check_many`.
        training: canonical SMILES that count as known; None leaves novelty unknown.

    Returns:
        A dict with ``n``; ``states`` (count by state); ``validity`` (ok / all), ``uniqueness`` (different / ok),
        ``novelty`` (different and not in training / different, NaN without training), ``sanity`` and
        ``passes_moses`` (shares of ok), ``scaffolds`` (different ring scaffolds), ``alerts`` (ok molecules by
        catalogue). A share of nothing is NaN.

    >>> counts = summarize(check_many(["C", "C", "CC", "C("], alerts=False), training={"C"})
    >>> counts["validity"], round(counts["uniqueness"], 3), counts["novelty"]
    (0.75, 0.667, 0.5)
    """
    valid = [result for result in results if result.smiles is not None]
    unique = {result.smiles for result in valid}
    novel = math.nan if training is None else _share(sum(smiles not in training for smiles in unique), len(unique))
    by_catalogue = Counter(name for result in valid for name in {alert.split(":")[0] for alert in result.alerts})
    return {
        "n": len(results),
        "states": dict(Counter(result.state for result in results).most_common()),
        "validity": _share(len(valid), len(results)),
        "uniqueness": _share(len(unique), len(valid)),
        "novelty": novel,
        "sanity": _share(sum(result.sane for result in valid), len(valid)),
        "passes_moses": _share(sum(result.passes_moses for result in valid), len(valid)),
        "scaffolds": len({result.scaffold for result in valid} - {""}),
        "alerts": dict(by_catalogue.most_common()),
    }
