"""Number the SELFIES tokens of usual organic molecules, so that encoding works on numbers and needs no strings.

In: nothing but the bond limits that selfies works under. Out: `EncoderTables`.

An atom's code is ``ATOMS + (kind * CHIRALITIES + chirality) * BONDS + bond``: its kind is one of the elements that
SMILES writes without brackets, or an element with hydrogens and charge in brackets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from selfies.bond_constraints import get_bonding_capacity
from selfies.constants import INDEX_ALPHABET, VALENCE_ELECTRONS

ELEMENTS = ("B", "C", "N", "O", "F", "P", "S", "Cl", "Br", "I", "Si", "Se", "Na", "K", "Li")
N_BARE = 10
"""Elements at the front of `ELEMENTS` that SMILES writes without brackets."""
_AROMATIC = ("C", "N", "O", "S")
AROMATIC_FROM = 100
"""Added to the place of an element written in small letters."""
MOST_HYDROGENS = 4
NEGATIVE, N_CHARGES = -1, 4
"""The lowest charge in the tables, and how many there are from it on."""

BONDS, CHIRALITIES, INDEX_BASE = 5, 3, 16
DOT, BRANCHES, RINGS, STEREO_RINGS, ATOMS = 0, 1, 10, 19, 46
"""First codes: ``.``, 3 orders x 3 lengths of branches, of rings, 9 pairs of marks x 3 lengths of rings, atoms."""
N_KINDS = N_BARE + len(ELEMENTS) * (MOST_HYDROGENS + 1) * N_CHARGES
N_CODES = ATOMS + N_KINDS * CHIRALITIES * BONDS

# Columns of `atoms`, a row per atom from the molecule's first character on; NEAR is the first of `MOST_NEAR` columns,
# the neighbours over aromatic bonds in the order in which selfies sees them.
KIND, AROMATIC, HYDROGENS, CHIRAL, PARENT, ORDER, SUM, DEGREE, FIRST, LAST, CLOUD, MATE, FREE, MARKED, NEAR = range(15)
MOST_NEAR = 4
ATOM_WIDTH = NEAR + MOST_NEAR
# Columns of `steps`: what leaves an atom (a bond, or one end of a ring), linked in the order of the text.
TO, STEP_ORDER, SORT, MARK, PARTNER, NEXT = range(6)
STEP_WIDTH = 6
TREE, OPENS, CLOSES = range(3)
# What became of a molecule.
GIVEN, REFUSED, PROVEN = range(3)

_ORDERS = ("", "=", "#")
_MARKS = ("-", "/", "\\")
_NORMAL = {("C", 0): 4, ("N", 0): 3, ("N", 1): 4, ("N", -1): 2, ("O", 0): 2, ("O", 1): 3, ("S", 0): 2, ("S", 1): 3}


@dataclass(frozen=True)
class EncoderTables:
    """What the encoder must know about characters, kinds of atoms and codes.

    Attributes:
        texts: the token of each code, "" for a code that must not occur.
        allowed: (codes,) uint8, 1 where the token may enter a vocabulary.
        elements: (128, 27) int32, place of the element by its first character and second letter (1 to 26, 0 for none),
            `AROMATIC_FROM` more for small letters, -1 for none.
        kinds: (kinds, 4) int32: most bonds, charge, valence electrons, and the sum of bonds and hydrogens that an
            aromatic atom of the kind has in every Kekulé structure (0 where that is left open).
        index: (16,) int32, codes of the tokens that stand for the digits 0 to 15.
    """

    texts: tuple[str, ...]
    allowed: NDArray[np.uint8]
    elements: NDArray[np.int32]
    kinds: NDArray[np.int32]
    index: NDArray[np.int32]


def _atoms() -> list[tuple[str, int, int, str]]:
    """Return element, hydrogens (-1 for a bare atom), charge and what follows the chirality, by kind."""
    kinds = [(element, -1, 0, "") for element in ELEMENTS[:N_BARE]]
    for element in ELEMENTS:
        for hydrogens in range(MOST_HYDROGENS + 1):
            for charge in range(NEGATIVE, NEGATIVE + N_CHARGES):
                tail = (f"H{hydrogens}" if hydrogens else "") + (f"{charge:+d}" if charge else "")
                kinds.append((element, hydrogens, charge, tail))
    return kinds


def _token(element: str, hydrogens: int, charge: int, tail: str, chirality: str, bond: str) -> str:
    """Write an atom as `selfies.encoder` does; "" for a bare atom with chirality, which SMILES cannot say."""
    if hydrogens < 0:
        return "" if chirality else f"[{bond}{element}]"
    if not (hydrogens or charge or chirality) and element in ELEMENTS[:N_BARE]:
        tail = "H0"
    return f"[{bond}{element}{chirality}{tail}]"


def _texts() -> list[str]:
    texts = ["."]
    texts += [f"[{order}Branch{length}]" for order in _ORDERS for length in (1, 2, 3)]
    texts += [f"[{order}Ring{length}]" for order in _ORDERS for length in (1, 2, 3)]
    pairs = [left + right if left + right != "--" else "" for left in _MARKS for right in _MARKS]
    texts += [f"[{pair}Ring{length}]" if pair else "" for pair in pairs for length in (1, 2, 3)]
    for kind in _atoms():
        texts += [_token(*kind, chirality, bond) for chirality in ("", "@", "@@") for bond in ("", "=", "#", "/", "\\")]
    return texts


def _elements() -> NDArray[np.int32]:
    places = np.full((128, 27), -1, dtype=np.int32)
    for place, element in enumerate(ELEMENTS):
        places[ord(element[0]), ord(element[1]) - 96 if element[1:] else 0] = place
    for element in _AROMATIC:
        places[ord(element.lower()), 0] = ELEMENTS.index(element) + AROMATIC_FROM
    return places


def make_encoder_tables(is_allowed: Callable[[str], bool]) -> EncoderTables:
    """Return the tables under the bond limits in force; ``is_allowed`` says which tokens may enter a vocabulary."""
    texts = _texts()
    allowed = np.array([bool(text) and is_allowed(text) for text in texts], dtype=np.uint8)
    kinds = [
        (
            get_bonding_capacity(element, charge) - max(hydrogens, 0),
            charge,
            VALENCE_ELECTRONS.get(element, 0),
            _NORMAL.get((element, charge), 0),
        )
        for element, hydrogens, charge, _ in _atoms()
    ]
    index = np.array([texts.index(token) for token in INDEX_ALPHABET], dtype=np.int32)
    return EncoderTables(tuple(texts), allowed, _elements(), np.array(kinds, dtype=np.int32), index)
