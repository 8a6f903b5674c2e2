"""Read SMILES into flat arrays, in compiled loops; the steps of selfies' own reader, with its order of atoms and bonds.

In: the bytes of N canonical SMILES one after another. Out: their atoms, and what leaves each atom in text order.

Plain functions until `compile_all` has been called. Orders of bonds are doubled, so that an
aromatic bond is 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molvae.chem.encoder_tables import (
    AROMATIC,
    AROMATIC_FROM,
    CHIRAL,
    CLOSES,
    CLOUD,
    DEGREE,
    FIRST,
    GIVEN,
    HYDROGENS,
    KIND,
    LAST,
    MARK,
    MARKED,
    MATE,
    MOST_HYDROGENS,
    MOST_NEAR,
    N_BARE,
    N_CHARGES,
    NEAR,
    NEGATIVE,
    NEXT,
    OPENS,
    ORDER,
    PARENT,
    PARTNER,
    REFUSED,
    SORT,
    STEP_ORDER,
    SUM,
    TO,
    TREE,
)  # fmt: skip

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]
Bytes = NDArray[np.uint8]

DOUBLE, TRIPLE, SINGLE, UP, DOWN = 61, 35, 45, 47, 92  # = # - / \


def _order(bond: int) -> int:
    return 4 if bond == DOUBLE else 6 if bond == TRIPLE else 2


def _letter(text: Bytes, at: int, end: int) -> int:
    """Return 1 to 26 for a small letter at this place, 0 for anything else."""
    return text[at] - 96 if at < end and 97 <= text[at] <= 122 else 0


def _read_bracket(text: Bytes, at: int, end: int, element: int) -> tuple[int, int, int, int]:
    """Return the place behind ``]``, kind, hydrogens and chirality; a place of -1 when it is not covered."""
    chiral, hydrogens, charge = 0, 0, 0
    while at < end and text[at] == 64:  # @
        chiral, at = chiral + 1, at + 1
    if at < end and text[at] == 72:  # H
        hydrogens, at = 1, at + 1
        if at < end and 48 <= text[at] <= 57:
            hydrogens, at = text[at] - 48, at + 1
    if at < end and (text[at] == 43 or text[at] == 45):  # + -
        sign, charge, at = 44 - text[at], 1, at + 1
        if at < end and 48 <= text[at] <= 57:
            charge, at = text[at] - 48, at + 1
        charge *= sign
    if at >= end or text[at] != 93 or chiral > 2 or hydrogens > MOST_HYDROGENS:  # ]
        return -1, 0, 0, 0
    if not NEGATIVE <= charge < NEGATIVE + N_CHARGES:
        return -1, 0, 0, 0
    kind = N_BARE + (element * (MOST_HYDROGENS + 1) + hydrogens) * N_CHARGES + charge - NEGATIVE
    return at + 1, kind, hydrogens, chiral


def _read_atom(text: Bytes, at: int, end: int, elements: Ints) -> tuple[int, int, int, int, int]:
    """Return the place behind an atom, kind, aromatic or not, hydrogens (-1: bare) and chirality; or a place of -1."""
    bracket = text[at] == 91  # [
    at += bracket
    if at >= end or text[at] > 127:
        return -1, 0, 0, 0, 0
    second = _letter(text, at + 1, end)
    element = elements[text[at], second]
    if second and element < 0 and not bracket:
        # Two atoms, such as Cc; inside brackets two letters are one element.
        second, element = 0, elements[text[at], 0]
    at += 2 if second else 1
    if element < 0:
        return -1, 0, 0, 0, 0
    aromatic, element = element // AROMATIC_FROM, element % AROMATIC_FROM
    if not bracket:
        return (at if element < N_BARE else -1), element, aromatic, -1, 0
    at, kind, hydrogens, chiral = _read_bracket(text, at, end, element)
    return at, kind, aromatic, hydrogens, chiral


def _link(atoms: Ints, steps: Ints, atom: int, step: int, sort: int, to: int, mark: int) -> None:
    """Append a step to those of an atom."""
    steps[step, TO], steps[step, SORT], steps[step, PARTNER], steps[step, NEXT] = to, sort, -1, -1
    steps[step, MARK] = mark if mark in (UP, DOWN) else 0
    if atoms[atom, LAST] < 0:
        atoms[atom, FIRST] = step
    else:
        steps[atoms[atom, LAST], NEXT] = step
    atoms[atom, LAST] = step


def _count(atoms: Ints, atom: int, other: int, order: int) -> bool:
    """Note a bond with one of its atoms; False when there is no room for it."""
    atoms[atom, SUM] += order
    atoms[atom, DEGREE] += 1
    if order == 3:
        if atoms[atom, CLOUD] >= MOST_NEAR:
            return False
        atoms[atom, NEAR + atoms[atom, CLOUD]] = other
        atoms[atom, CLOUD] += 1
    return True


def _add_atom(atoms: Ints, steps: Ints, base: int, count: int, made: int, previous: int, bond: int) -> bool:
    """Bond the atom ``count``, of which the kind is known, to the one before it; False when selfies would not."""
    atom, above = base + count, base + previous
    atoms[atom, PARENT], atoms[atom, ORDER], atoms[atom, SUM], atoms[atom, DEGREE] = previous, 0, 0, 0
    atoms[atom, FIRST], atoms[atom, LAST], atoms[atom, CLOUD], atoms[atom, MATE] = -1, -1, 0, -1
    atoms[atom, MARKED] = 0
    if previous < 0:
        return not bond
    order = 3 if not bond and atoms[atom, AROMATIC] and atoms[above, AROMATIC] else _order(bond)
    _link(atoms, steps, above, base + made, TREE, count, bond)
    steps[base + made, STEP_ORDER] = order
    atoms[atom, ORDER] = order
    return bool(_count(atoms, above, count, order) and _count(atoms, atom, previous, order))


def _close_ring(atoms: Ints, steps: Ints, base: int, left: int, step: int, first: int, second: int) -> bool:
    """Join two ends of a ring, written with the bonds ``first`` and ``second``; False when selfies would not."""
    other, previous = steps[left, TO], steps[step, TO]
    ends = (base + other, base + previous)
    if other == previous or atoms[ends[0], PARENT] == previous or atoms[ends[1], PARENT] == other:
        return False
    look = atoms[ends[1], FIRST]
    while look >= 0:
        if look != step and steps[look, SORT] != TREE and steps[look, PARTNER] >= 0 and steps[look, TO] == other:
            return False
        look = steps[look, NEXT]
    if first and second and first != second and (first not in (UP, DOWN) or second not in (UP, DOWN)):
        return False
    order = max(_order(first), _order(second))
    if not first and not second and atoms[ends[0], AROMATIC] and atoms[ends[1], AROMATIC]:
        order = 3
    steps[step, TO], steps[left, TO] = other, previous
    steps[step, PARTNER], steps[left, PARTNER] = left, step
    steps[step, STEP_ORDER] = order
    steps[left, STEP_ORDER] = order
    # `MARKED` says that a ring is closed here, which matters for chirality.
    atoms[ends[0], MARKED] = 1
    atoms[ends[1], MARKED] = 1
    return bool(_count(atoms, ends[0], previous, order) and _count(atoms, ends[1], other, order))


def _read_one(
    text: Bytes, base: int, end: int, elements: Ints, atoms: Ints, steps: Ints, opened: Ints, stack: Ints
) -> tuple[int, int]:
    """Read one molecule; return how many atoms and rings it has, or -1 for the atoms when it is not covered."""
    at, count, made, depth, rings, unclosed, previous, bond, fresh = base, 0, 0, 0, 0, 0, -1, 0, True
    opened[:] = -1
    while at < end:
        char = text[at]
        if char == 46 and not (fresh or bond or depth or unclosed):  # .
            previous, fresh, at = -1, True, at + 1
        elif char in (DOUBLE, TRIPLE, SINGLE, UP, DOWN) and not bond:
            bond, at = char, at + 1
        elif char == 40 and not (fresh or bond):  # (
            stack[depth] = previous
            depth, fresh, at = depth + 1, True, at + 1
        elif char == 41 and depth and not (fresh or bond):  # )
            depth, at = depth - 1, at + 1
            previous = stack[depth]
        elif (char == 37 or 48 <= char <= 57) and not fresh:  # % and a digit
            number, at = char - 48, at + 1
            if char == 37:
                if at + 1 >= end or not (48 <= text[at] <= 57 and 48 <= text[at + 1] <= 57):
                    return -1, 0
                number, at = 10 * (text[at] - 48) + text[at + 1] - 38, at + 2  # from 10 on, so that %01 is not 1
            step, made = base + made, made + 1
            _link(atoms, steps, base + previous, step, CLOSES if opened[number, 0] >= 0 else OPENS, previous, bond)
            if opened[number, 0] < 0:
                opened[number, 0], opened[number, 1], unclosed = step, bond, unclosed + 1
            else:
                if not _close_ring(atoms, steps, base, opened[number, 0], step, opened[number, 1], bond):
                    return -1, 0
                opened[number, 0], rings, unclosed = -1, rings + 1, unclosed - 1
            bond = 0
        else:
            at, kind, aromatic, hydrogens, chiral = _read_atom(text, at, end, elements)
            if at < 0:
                return -1, 0
            atom = base + count
            atoms[atom, KIND], atoms[atom, AROMATIC] = kind, aromatic
            atoms[atom, HYDROGENS], atoms[atom, CHIRAL] = hydrogens, chiral
            if not _add_atom(atoms, steps, base, count, made, previous, bond):
                return -1, 0
            made += previous >= 0
            previous, fresh, bond, count = count, False, 0, count + 1
    return (-1 if fresh or bond or depth or unclosed else count), rings


def read(text: Bytes, starts: Longs, elements: Ints, atoms: Ints, steps: Ints, counts: Longs, states: Bytes) -> None:
    """Fill ``atoms``, ``steps`` and ``counts`` (atoms and rings of each molecule); mark what is not covered."""
    opened = np.empty((110, 2), np.int32)
    stack = np.empty(len(text) + 1, np.int32)
    for row in range(len(states)):
        count, rings = _read_one(text, starts[row], starts[row + 1], elements, atoms, steps, opened, stack)
        counts[row, 0], counts[row, 1] = count, rings
        states[row] = GIVEN if count > 0 and rings < 100 else REFUSED


def compile_all(jit: Callable[[Any], Any]) -> None:
    """Put compiled functions in the place of those of this module, so that they call each other compiled."""
    for name in (
        "_order",
        "_letter",
        "_read_bracket",
        "_read_atom",
        "_link",
        "_count",
        "_add_atom",
        "_close_ring",
        "_read_one",
        "read",
    ):
        globals()[name] = jit(globals()[name])
