"""Describe a molecule by its pairs and triples of pharmacophore points, as Gobbi and Poppinger do, about 10 times as
fast as RDKit's own Python code.

In: a sanitised RDKit molecule. Out: sorted numbers of the pairs and triples it has.

A point is an atom with one of eight features (acid, aromatic attachment, base, acceptor, donor, hydrophobe, aliphatic
attachment, unusual atom). A pair or triple counts when all topological distances in it are 2 bonds or more; distances
are binned 2, 3, ..., 7, 8 and more. Numbers stand for the same pairs and triples as RDKit's bits do, so similarities
are the same; the numbers themselves are not.

Source: Gobbi and Poppinger 1998, doi 10.1002/(SICI)1097-0290(199824)61:1<47::AID-BIT9>3.0.CO;2-Z; features and bins
from ``rdkit.Chem.Pharm2D.Gobbi_Pharm2D``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem.Pharm2D import Gobbi_Pharm2D

NEAREST, FARTHEST, LONGEST = 2, 8, 100
"""Bonds: the shortest distance that counts, the first of the last bin, and where that ends."""

_FAMILIES = 8
_PAIRS = _FAMILIES**3 * 512
"""Numbers from here on are pairs, below are triples."""

Integers = NDArray[np.int64]


@lru_cache(maxsize=1)
def _patterns() -> tuple[Any, ...]:
    """Return one SMARTS pattern of a single atom for each family, in the order of their names."""
    definitions = Gobbi_Pharm2D.factory.featFactory.GetFeatureDefs()
    by_family = {name.partition(".")[0]: smarts for name, smarts in definitions.items()}
    return tuple(Chem.MolFromSmarts(by_family[name]) for name in sorted(by_family))


@lru_cache(maxsize=256)
def _triples(points: int) -> tuple[Integers, Integers, Integers]:
    """Return i < j < k of all triples of ``points`` points."""
    i, j, k = np.ogrid[:points, :points, :points]
    rows = np.nonzero((i < j) & (j < k))
    return rows[0], rows[1], rows[2]


def pharmacophore(mol: Chem.Mol) -> Integers:
    """Return the numbers of all pairs and triples of points, int64 (n,), sorted, each once; n may be 0.

    >>> len(pharmacophore(Chem.MolFromSmiles("OCCN")))
    5
    """
    points = [(family, match[0]) for family, pattern in enumerate(_patterns())
              for match in mol.GetSubstructMatches(pattern)]  # fmt: skip
    if len(points) < 2:
        return np.zeros(0, dtype=np.int64)
    families, atoms = np.array(points, dtype=np.int64).T
    distances = Chem.GetDistanceMatrix(mol)[np.ix_(atoms, atoms)]
    counts = (distances >= NEAREST) & (distances < LONGEST)
    bins = np.where(counts, np.minimum(distances, FARTHEST) - NEAREST + 1, 0).astype(np.int64)
    return np.unique(np.concatenate([_pair_numbers(families, bins), _triple_numbers(families, bins)]))


def _pair_numbers(families: Integers, bins: Integers) -> Integers:
    i, j = np.nonzero(np.triu(bins, 1))
    numbers: Integers = _PAIRS + (families[i] * _FAMILIES + families[j]) * 8 + bins[i, j]
    return numbers


def _triple_numbers(families: Integers, bins: Integers) -> Integers:
    i, j, k = _triples(len(families))
    near, middle, far = bins[i, j], bins[i, k], bins[j, k]
    kept = (near > 0) & (middle > 0) & (far > 0)
    i, j, k, near, middle, far = i[kept], j[kept], k[kept], near[kept], middle[kept], far[kept]
    first, second, third = families[i], families[j], families[k]
    # Points of one family may change places; the larger distances come first then.
    for _ in range(2):
        swapped = np.where(first == second, np.minimum(middle, far), far)
        middle, far = np.where(first == second, np.maximum(middle, far), middle), swapped
        swapped = np.where(second == third, np.minimum(near, middle), middle)
        near, middle = np.where(second == third, np.maximum(near, middle), near), swapped
    family = (first * _FAMILIES + second) * _FAMILIES + third
    numbers: Integers = family * 512 + near * 64 + middle * 8 + far
    return numbers


def overlap(a: Integers, b: Integers) -> float:
    """Return the Tanimoto similarity of two sorted lists of distinct numbers; 0 when both are empty, as RDKit has it.

    >>> overlap(np.array([1, 2, 3]), np.array([2, 3, 4]))
    0.5
    """
    common = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - common
    return common / union if union else 0.0
