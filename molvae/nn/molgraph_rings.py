"""Close rings as selfies does: one after the other in each molecule, as far as the atoms have bonds left.

In: atoms with their chain bonds, and rings wanted. Out: every bond of the graph.

Rings of one molecule depend on each other, rings of different molecules do not: round k closes the k-th ring of all.

Source: ``_form_rings_bilocally`` in decoder.py of selfies 2.2.0.
"""

from __future__ import annotations

import torch

from molvae.nn.molgraph_walk import look_up

MOST = 3
"""Bond order no ring may raise a bond above."""


def close_rings(
    capacity: torch.Tensor,
    parent: torch.Tensor,
    order: torch.Tensor,
    molecule: torch.Tensor,
    ends: torch.Tensor,
    wanted: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Close rings and list all bonds.

    Args:
        capacity: (N,) int64, bonds each atom may have.
        parent: (N,) int64, atom each atom is bonded to in its chain, -1 for the first of a fragment.
        order: (N,) int64 of that bond, 0 without one.
        molecule: (R,) int64, molecule of each ring, rising.
        ends: (2, R) int64 atoms, the earlier one first; the same atom twice is no ring.
        wanted: (R,) int64 bond orders.

    Returns:
        Bonds (2, M) with the earlier atom first, their orders (M,), and which rings were closed (R,) bool.

    Three atoms in a row, and a ring between the ends that asks for a double bond where one bond is left:

    >>> atoms = torch.tensor([2, 2, 3]), torch.tensor([-1, 0, 1]), torch.tensor([0, 1, 1])
    >>> close_rings(*atoms, torch.tensor([0]), torch.tensor([[0], [2]]), torch.tensor([2]))[:2]
    (tensor([[0, 1, 0], [1, 2, 2]]), tensor([1, 1, 1]))
    """
    chained = (order > 0).nonzero().squeeze(1)
    up = parent.index_select(0, chained)
    first = order.index_select(0, chained)
    free = capacity - order
    free.index_add_(0, up, first, alpha=-1)
    slot, pairs = _slots(parent, ends)
    orders = torch.cat([order, order.new_zeros(pairs.shape[1])])
    closed = torch.zeros_like(wanted, dtype=torch.bool)
    for round_ in in_turn(molecule):
        left, right = ends[0].index_select(0, round_), ends[1].index_select(0, round_)
        place = slot.index_select(0, round_)
        old = orders.index_select(0, place)
        room = torch.minimum(free.index_select(0, left), free.index_select(0, right))
        room = torch.minimum(room, wanted.index_select(0, round_)).masked_fill_(left == right, 0)
        added = torch.minimum(room, MOST - old).clamp_(min=0)
        orders.scatter_(0, place, old + added)
        free.scatter_add_(0, left, -added)
        free.scatter_add_(0, right, -added)
        closed[round_] = room > 0
    made = (orders[len(order) :] > 0).nonzero().squeeze(1)
    bonds = torch.cat([torch.stack([up, chained]), pairs.index_select(1, made)], 1)
    return bonds, torch.cat([orders.index_select(0, chained), orders.index_select(0, made + len(order))]), closed


def _slots(parent: torch.Tensor, ends: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give each ring the place where its bond order is kept: that of the chain bond or earlier ring between its ends.

    Returns:
        Places (R,), below N for the chain bond of an atom and from there on for a pair of ends; the pairs (2, P).
    """
    left, right = ends
    if left.numel() == 0:
        return left, ends
    # Two numbers below 2^31 fit into one.
    pairs, which = torch.unique(right << 31 | left, return_inverse=True)
    slot = torch.where(look_up(parent, right) == left, right, which + len(parent))
    return slot, torch.stack([pairs & (1 << 31) - 1, pairs >> 31])


def in_turn(molecule: torch.Tensor) -> list[torch.Tensor]:
    """Return the first item of every molecule, the second of every one that has two, and so on, as indices.

    >>> [turn.tolist() for turn in in_turn(torch.tensor([0, 0, 3, 5, 5, 5]))]
    [[0, 2, 3], [1, 4], [5]]
    """
    if molecule.numel() == 0:
        return []
    index = torch.arange(len(molecule), device=molecule.device)
    starts = torch.ones_like(molecule, dtype=torch.bool)
    starts[1:] = molecule[1:] != molecule[:-1]
    turn = index - torch.where(starts, index, 0).cummax(0).values
    ordered = torch.argsort(turn, stable=True)
    return list(torch.split(ordered, torch.bincount(turn).tolist()))
