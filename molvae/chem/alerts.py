"""Substructures and limits that make a molecule suspect.

In: a sanitised RDKit molecule. Out: the names of every alert it raises, from four catalogues.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from importlib.resources import files
from typing import Any

from rdkit import Chem
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogEntry, FilterCatalogParams, SmartsMatcher

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
def _moses_patterns() -> Any:
    text = (files("molvae.chem") / "moses_filters.csv").read_text("utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    catalogue = FilterCatalog()
    for row in rows:
        name = f"{row['kind']} {row['name']}"
        catalogue.AddEntry(FilterCatalogEntry(name, SmartsMatcher(name, Chem.MolFromSmarts(row["smarts"]))))
    return catalogue


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
    alerts = []
    largest = max(map(len, mol.GetRingInfo().AtomRings()), default=0)
    if largest > MOSES_LARGEST_RING:
        alerts.append(f"MOSES: ring of {largest} atoms")
    if any(atom.GetFormalCharge() for atom in mol.GetAtoms()):
        alerts.append("MOSES: charge")
    odd = sorted({atom.GetSymbol() for atom in mol.GetAtoms()} - MOSES_ATOMS)
    alerts += [f"MOSES: atom {symbol}" for symbol in odd]
    return alerts + [f"MOSES: {match.GetDescription()}" for match in _moses_patterns().GetMatches(Chem.AddHs(mol))]
