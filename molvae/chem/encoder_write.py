"""Kekulise flat molecules as selfies does, write them as token codes, and prove that the codes decode to them again.

In: what `molvae.chem.encoder_read` found. Out: token codes of N molecules, and which of them are proven.

Plain functions until `compile_all` has been called. Orders of bonds are doubled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from molvae.chem.encoder_read import UP, Bytes, Ints, Longs
from molvae.chem.encoder_tables import (
    AROMATIC,
    ATOMS,
    BONDS,
    BRANCHES,
    CHIRAL,
    CHIRALITIES,
    CLOSES,
    CLOUD,
    DEGREE,
    DOT,
    FIRST,
    FREE,
    HYDROGENS,
    INDEX_BASE,
    KIND,
    MARK,
    MARKED,
    MATE,
    NEAR,
    NEXT,
    OPENS,
    ORDER,
    PARENT,
    PARTNER,
    PROVEN,
    REFUSED,
    RINGS,
    SORT,
    STEP_ORDER,
    STEREO_RINGS,
    SUM,
    TO,
    TREE,
)  # fmt: skip

# Columns of `EncoderTables.kinds`.
LIMIT, CHARGE, ELECTRONS, NORMAL = range(4)


def _needs_double(atoms: Ints, atom: int, kinds: Ints) -> bool:
    """Say whether selfies gives an aromatic atom a double bond to another one (its ``_prune_from_ds``)."""
    if not atoms[atom, CLOUD]:
        return False
    kind, hydrogens = atoms[atom, KIND], atoms[atom, HYDROGENS]
    electrons, charge = kinds[kind, ELECTRONS], kinds[kind, CHARGE]
    # Valences of selfies: C 4; N 3, 5; O and S 2, 4.
    low, high = (4, 4) if electrons == 4 else (3, 5) if electrons == 5 else (2, 4)
    used = (atoms[atom, SUM] - atoms[atom, CLOUD]) // 2
    if hydrogens < 0:
        return bool(used not in (low, high))
    used += hydrogens
    # selfies counts an odd half bond as two, which the doubled sum does in one step.
    bound = max(0, charge) + hydrogens + atoms[atom, SUM] // 2 + atoms[atom, SUM] % 2
    free = high - charge - used - max(0, electrons - bound) % 2
    if used == low - charge or used == high - charge:
        return False
    return bool(free >= 0 and free % 2 != 0)


def _match(atoms: Ints, base: int, count: int) -> bool:
    """Pair the atoms marked by ``FREE`` >= 0 greedily, fewest free neighbours first, as selfies begins to.

    False when some stay alone; the way on from there depends on the order of Python's sets, and is left to selfies.
    """
    alone = 0
    for atom in range(base, base + count):
        if atoms[atom, FREE] >= 0:
            alone += 1
            degree = 0
            for place in range(atoms[atom, CLOUD]):
                degree += atoms[base + atoms[atom, NEAR + place], FREE] >= 0
            atoms[atom, FREE] = degree
    while alone:
        best = -1
        for atom in range(base, base + count):
            if atoms[atom, FREE] > 0 and atoms[atom, MATE] < 0 and (best < 0 or atoms[atom, FREE] < atoms[best, FREE]):
                best = atom
        if best < 0:
            return False
        mate = -1
        for place in range(atoms[best, CLOUD]):
            other = base + atoms[best, NEAR + place]
            if mate < 0 and atoms[other, FREE] >= 0 and atoms[other, MATE] < 0:
                mate = other
        atoms[best, MATE], atoms[mate, MATE] = mate - base, best - base
        for one in (best, mate):
            for place in range(atoms[one, CLOUD]):
                other = base + atoms[one, NEAR + place]
                if atoms[other, FREE] > 0:
                    atoms[other, FREE] -= 1
        alone -= 2
    return True


def _set_orders(atoms: Ints, steps: Ints, base: int, count: int) -> None:
    """Turn aromatic bonds into double ones between mates and single ones elsewhere."""
    for atom in range(base, base + count):
        if not atoms[atom, CLOUD]:
            continue
        step = atoms[atom, FIRST]
        while step >= 0:
            if steps[step, STEP_ORDER] == 3:
                steps[step, STEP_ORDER] = 4 if atoms[atom, MATE] == steps[step, TO] else 2
            step = steps[step, NEXT]
        if atoms[atom, ORDER] == 3:
            atoms[atom, ORDER] = 4 if atoms[atom, MATE] == atoms[atom, PARENT] else 2
        atoms[atom, SUM] -= atoms[atom, CLOUD]
        if atoms[atom, MATE] >= 0:
            atoms[atom, SUM] += 2


def _inverted(atoms: Ints, steps: Ints, atom: int) -> bool:
    """Say whether selfies turns the chirality of an atom round, because it writes rings in another order."""
    odd = 0
    one = atoms[atom, FIRST]
    while one >= 0:
        two = steps[one, NEXT]
        while two >= 0:
            first, second = steps[one, SORT], steps[two, SORT]
            # Written first: rings that end here, then those that begin here by where they end, then the rest.
            first = 0 if first == CLOSES else 1 if first == OPENS else 2
            second = 0 if second == CLOSES else 1 if second == OPENS else 2
            odd += second < first or (first == second == 1 and steps[two, TO] < steps[one, TO])
            two = steps[two, NEXT]
        one = steps[one, NEXT]
    return odd % 2 == 1


def _fits(atoms: Ints, steps: Ints, base: int, count: int, kinds: Ints) -> bool:
    """Finish the atoms: no atom may have more bonds than its limit, and chirality is turned where it must be."""
    for atom in range(base, base + count):
        if atoms[atom, SUM] > 2 * kinds[atoms[atom, KIND], LIMIT]:
            return False
        if atoms[atom, CHIRAL] and atoms[atom, MARKED] and _inverted(atoms, steps, atom):
            atoms[atom, CHIRAL] = 3 - atoms[atom, CHIRAL]
    return True


def _bond(order: int, mark: int) -> int:
    return order // 2 - 1 if order > 2 else 0 if not mark else 3 if mark == UP else 4


def _atom_code(atoms: Ints, atom: int, bond: int) -> int:
    return int(ATOMS + (atoms[atom, KIND] * CHIRALITIES + atoms[atom, CHIRAL]) * BONDS + bond)


def _put_number(number: int, index: Ints, line: Ints, at: int, shift_to: int, room: int) -> int:
    """Write ``number`` as tokens from ``shift_to`` on, moving what stands there until ``at``; return how many, or 0."""
    digits = 1 if number < INDEX_BASE else 2 if number < INDEX_BASE**2 else 3
    if number >= INDEX_BASE**3 or at + digits + 1 >= room:
        return 0
    for place in range(at - 1, shift_to - 1, -1):
        line[place + digits + 1] = line[place]
    for digit in range(digits):
        line[shift_to + digits - digit] = index[number % INDEX_BASE]
        number //= INDEX_BASE
    return digits


def _ring_code(steps: Ints, step: int) -> int:
    """Return the code of a ring's token of length 0; ``step`` is its second end."""
    order, left, right = steps[step, STEP_ORDER], steps[steps[step, PARTNER], MARK], steps[step, MARK]
    if order > 2 or not (left or right):
        return int(RINGS + (order // 2 - 1) * 3)
    first = 0 if not left else 1 if left == UP else 2
    second = 0 if not right else 1 if right == UP else 2
    return STEREO_RINGS + (first * 3 + second) * 3


def _write_one(
    atoms: Ints, steps: Ints, base: int, count: int, index: Ints, line: Ints, start: int, room: int, stack: Ints
) -> int:
    """Write one molecule to ``line`` from ``start`` on; return the place behind it, or -1 when there is no room."""
    at = start
    for root in range(base, base + count):
        if atoms[root, PARENT] >= 0:
            continue
        if at > start:
            line[at] = DOT
            at += 1
        line[at] = _atom_code(atoms, root, 0)
        at, depth, step = at + 1, 0, atoms[root, FIRST]
        while True:
            if step < 0:
                if not depth:
                    break
                # A branch ends: its length is known only now, and goes in front of it.
                depth -= 1
                step, begin = stack[depth, 0], stack[depth, 1]
                digits = _put_number(at - begin - 1, index, line, at, begin, room)
                line[begin] = BRANCHES + (steps[step, STEP_ORDER] // 2 - 1) * 3 + digits - 1
                at, step = at + digits + 1, steps[step, NEXT]
                if not digits:
                    return -1
            elif steps[step, SORT] == TREE:
                if at + 2 >= room:
                    return -1
                if steps[step, NEXT] >= 0:
                    stack[depth, 0], stack[depth, 1], depth = step, at, depth + 1
                line[at] = _atom_code(atoms, base + steps[step, TO], _bond(steps[step, STEP_ORDER], steps[step, MARK]))
                at, step = at + 1, atoms[base + steps[step, TO], FIRST]
            elif steps[step, SORT] == CLOSES:
                span = steps[steps[step, PARTNER], TO] - steps[step, TO]
                digits = _put_number(span - 1, index, line, at, at, room)
                line[at] = _ring_code(steps, step) + digits - 1
                at, step = at + digits + 1, steps[step, NEXT]
                if not digits:
                    return -1
            else:
                step = steps[step, NEXT]
    return at


def write(
    starts: Longs, atoms: Ints, steps: Ints, counts: Longs, kinds: Ints, index: Ints, allowed: Bytes, line: Ints,
    lines: Longs, ends: Longs, states: Bytes,
) -> None:  # fmt: skip
    """Write the tokens of each molecule to ``line`` from ``lines[row]`` to ``ends[row]``; mark what is not covered."""
    stack = np.empty((len(line) + 1, 2), np.int32)
    for row in range(len(states)):
        base, count, ends[row] = starts[row], counts[row, 0], lines[row]
        if states[row] == REFUSED:
            continue
        for atom in range(base, base + count):
            atoms[atom, FREE] = 0 if atoms[atom, AROMATIC] and _needs_double(atoms, atom, kinds) else -1
        end = -1
        if _match(atoms, base, count):
            _set_orders(atoms, steps, base, count)
            if _fits(atoms, steps, base, count, kinds):
                end = _write_one(atoms, steps, base, count, index, line, lines[row], lines[row + 1], stack)
        for place in range(lines[row], end):
            if not allowed[line[place]]:
                end = -1
        if end < 0:
            states[row] = REFUSED
        else:
            ends[row] = end


def _is_normal(atoms: Ints, atom: int, kinds: Ints) -> bool:
    """Say whether the bonds and hydrogens of an aromatic atom leave no choice of which atoms have a double bond."""
    total, hydrogens = atoms[atom, SUM] // 2, atoms[atom, HYDROGENS]
    normal = kinds[atoms[atom, KIND], NORMAL]
    if hydrogens >= 0:
        return bool(normal > 0 and total + hydrogens == normal)
    # A bare aromatic carbon with two neighbours has a hydrogen; every other bare atom has all its bonds.
    return bool(total == normal or (normal == 4 and total == 3 and atoms[atom, DEGREE] == 2))


def _same(atoms: Ints, steps: Ints, base: int, count: int, kinds: Ints, again: Ints, rings: Ints, place: int) -> bool:
    """Compare one molecule with what the decoder made of its tokens, atom by atom and bond by bond."""
    ring = place
    for number in range(count):
        atom, other = base + number, again[place + number]
        code = other[0] - ATOMS
        if atoms[atom, CHIRAL] or code // (CHIRALITIES * BONDS) != atoms[atom, KIND] or code // BONDS % CHIRALITIES:
            return False
        if other[1] != atoms[atom, PARENT] or 2 * other[2] != atoms[atom, ORDER] or code % BONDS > 2:
            return False
        if atoms[atom, AROMATIC] and not _is_normal(atoms, atom, kinds):
            return False
        step = atoms[atom, FIRST]
        while step >= 0:
            if steps[step, MARK]:
                return False
            if steps[step, SORT] == CLOSES:
                if rings[ring, 0] != steps[step, TO] or rings[ring, 1] != number:
                    return False
                if 2 * rings[ring, 2] != steps[step, STEP_ORDER]:
                    return False
                ring += 1
            step = steps[step, NEXT]
    return True


def compare(
    starts: Longs, atoms: Ints, steps: Ints, counts: Longs, kinds: Ints, lines: Longs, again: Ints, rings: Ints,
    found: Longs, states: Bytes,
) -> None:  # fmt: skip
    """Mark as `PROVEN` each molecule of which the decoder made the same atoms, bonds and rings; stereo never is."""
    for row in range(len(states)):
        if states[row] == REFUSED or found[row, 0] != counts[row, 0] or found[row, 1] != counts[row, 1]:
            continue
        if _same(atoms, steps, starts[row], counts[row, 0], kinds, again, rings, lines[row]):
            states[row] = PROVEN


def compile_all(jit: Callable[[Any], Any]) -> None:
    """Put compiled functions in the place of those of this module, so that they call each other compiled."""
    for name in (
        "_needs_double",
        "_match",
        "_set_orders",
        "_inverted",
        "_fits",
        "_bond",
        "_atom_code",
        "_put_number",
        "_ring_code",
        "_write_one",
        "write",
        "_is_normal",
        "_same",
        "compare",
    ):
        globals()[name] = jit(globals()[name])
