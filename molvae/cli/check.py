"""Verb ``molvae check``: judge molecules.

In: a file of SMILES. Out: a table of checks, one row per input, and counts over all.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from molvae.cli.options import Alerts, Molecules, Output, SmilesColumn, Spreadsheet, Workers

Reference = Annotated[
    Path | None,
    typer.Option(
        "--reference", help="DATASET (its train split) or file of molecules that are not new.", show_default=False
    ),
]


def command(
    source: Molecules,
    output: Output = None,
    smiles_column: SmilesColumn = None,
    reference: Reference = None,
    alerts: Alerts = True,
    workers: Workers = None,
    spreadsheet: Spreadsheet = False,
) -> None:
    """Check molecules: validity, size and ring sanity, alerts, SA and NP score, scaffolds, uniqueness, novelty.

    The table has one row per input, in order; a string that is no molecule has a blank smiles (in an .sdf file a record
    without atoms) and says why in state.
    """
    from molvae.chem.checks import check_many, summarize
    from molvae.cli.molecules import read_smiles
    from molvae.cli.output import Destination
    from molvae.generate.checking import check_table
    from molvae.generate.chemistry import check_counts
    from molvae.generate.known import load_known

    check_counts(workers=workers)
    destination = Destination(output)
    smiles = read_smiles(source, smiles_column)
    known = load_known(reference) if reference is not None else None
    results = check_many(smiles, alerts=alerts, workers=workers)
    destination.table(check_table(results), spreadsheet=spreadsheet)
    for line in _summary(summarize(results, known), alerts):
        destination.say(line)
    destination.finish(len(smiles))


def _summary(counts: dict[str, Any], alerts: bool) -> list[str]:
    """Return a line per figure; one that is not known is left out.

    >>> _summary({"validity": 0.5, "novelty": math.nan, "states": {"ok": 1, "parse": 1}, "scaffolds": 1}, False)
    ['validity: 50.0%', 'scaffolds: 1', 'states: 1 ok, 1 parse']
    """
    shares = ["validity", "uniqueness", "novelty", "sanity", *(["passes_moses"] if alerts else [])]
    known = [name for name in shares if not math.isnan(counts.get(name, math.nan))]
    lines = [f"{name.replace('_', ' ')}: {counts[name]:.1%}" for name in known]
    lines.append(f"scaffolds: {counts['scaffolds']:,}")
    lines.append(f"states: {', '.join(f'{count:,} {state}' for state, count in counts['states'].items())}")
    if counts.get("alerts"):
        lines.append(f"with alerts: {', '.join(f'{count:,} {name}' for name, count in counts['alerts'].items())}")
    return lines
