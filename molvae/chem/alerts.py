"""Substructures and limits that make a molecule suspect.

In: a sanitised RDKit molecule. Out: the names of every alert it raises, from four catalogues.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.resources import files
from typing import Any

from rdkit import Chem
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

from molvae.chem.patterns import Patterns

CATALOGUES = ("PAINS", "BRENK", "NIH")
"""Sets of structural alerts inside RDKit."""

MOSES_ATOMS = frozenset({"C", "N", "S", "O", "F", "Cl", "Br", "H"})
MOSES_LARGEST_RING = 7
"""The MOSES code refuses rings of 8 atoms and more (its paper says: longer than 8)."""


@lru_cache(maxsize=1)
def _catalogues() -> tuple[tuple[str, Any], ...]:
    loaded = []
    for name in CATALOGUES:
        params = FilterCatalogParams()
        params.AddCatalog(getattr(FilterCatalogParams.FilterCatalogs, name))
        loaded.append((name, FilterCatalog(params)))
    return tuple(loaded)


@lru_cache(maxsize=1)
def _moses_patterns() -> Patterns:
    text = (files("molvae.chem") / "moses_filters.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return Patterns([(f"{row['kind']} {row['name']}", row["smarts"]) for row in rows])


def catalogue_alerts(mol: Chem.Mol) -> list[str]:
    """Return the PAINS, BRENK and NIH alerts of a molecule as ``"BRENK: name"``, each once."""
    return [
        f"{name}: {match.GetDescription()}" for name, catalogue in _catalogues() for match in catalogue.GetMatches(mol)
    ]


def moses_alerts(mol: Chem.Mol) -> list[str]:
    """Return why the MOSES benchmark would refuse a molecule, as ``"MOSES: reason"``; none means that it passes.

    The rules of ``moses.metrics.utils.mol_passes_filters``: no ring of 8 atoms or more, no charge, only the atoms of
    `MOSES_ATOMS`, no hit of its medicinal chemistry and PAINS patterns on the molecule with explicit hydrogens.
    Source: Polykovskiy 2020, doi 10.3389/fphar.2020.565644.
    """
    return [f"MOSES: {reason}" for reason in (*_moses_rules(mol), *_moses_patterns().matches(Chem.AddHs(mol)))]


def passes_moses(mol: Chem.Mol) -> bool:
    """Say whether `moses_alerts` finds nothing, sooner where it would.

    >>> [passes_moses(Chem.MolFromSmiles(smiles)) for smiles in ("CCOc1ccccc1", "CC[O-]", "C1CCCCCCC1", "C=CC#N")]
    [True, False, False, False]
    """
    return not _moses_rules(mol) and not _moses_patterns().any_match(Chem.AddHs(mol))


def _moses_rules(mol: Chem.Mol) -> list[str]:
    alerts = []
    largest = max(map(len, mol.GetRingInfo().AtomRings()), default=0)
    if largest > MOSES_LARGEST_RING:
        alerts.append(f"ring of {largest} atoms")
    if any(atom.GetFormalCharge() for atom in mol.GetAtoms()):
        alerts.append("charge")
    odd = sorted({atom.GetSymbol() for atom in mol.GetAtoms()} - MOSES_ATOMS)
    return alerts + [f"atom {symbol}" for symbol in odd]
