"""Put checks of molecules into a table; never imports torch.

In: SMILES. Out: a DataFrame with one row per input, in order.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from molvae.chem.checks import CheckResult, check_many

COLUMNS = (
    "smiles", "state", "detail", "n_atoms", "n_fragments", "n_rings", "largest_ring", "sane", "passes_moses", "sa",
    "np", "scaffold",
)  # fmt: skip

TEXT = ("smiles", "state", "detail", "scaffold")


def check_table(results: Sequence[CheckResult]) -> pd.DataFrame:
    """Return a row per result: input, the fields of `CheckResult`, and alerts joined by "; "."""
    table = pd.DataFrame({"input": pd.Series([result.given for result in results], dtype=object)})
    for name in COLUMNS:
        kind = object if name in TEXT else None
        table[name] = pd.Series([getattr(result, name) for result in results], dtype=kind)
    table["alerts"] = pd.Series(["; ".join(result.alerts) for result in results], dtype=object)
    return table


def check(
    smiles: Sequence[str], *, alerts: bool = True, scores: bool = True, workers: int | None = None
) -> pd.DataFrame:
    """Check molecules: validity, size and ring sanity, scaffold, alerts, SA and NP score.

    Args:
        smiles: N strings.
        alerts: look for PAINS, BRENK, NIH and MOSES alerts (about 3 ms a molecule and core).
        scores: compute the SA and NP score.
        workers: processes; None means every core.

    Returns:
        N rows in the order given, see `check_table`; ``state`` is ``ok`` or why it is no molecule.

    >>> check(["OCC", "C("])[["input", "smiles", "state"]].values.tolist()
    [['OCC', 'CCO', 'ok'], ['C(', None, 'parse']]
    """
    return check_table(check_many(smiles, alerts=alerts, scores=scores, workers=workers))
