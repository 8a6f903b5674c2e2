"""Run the SELFIES state machine over a whole batch, one token position at a time.

In: token ids (B, T). Out: `Walk`, what every token did and to which atom, (T, B).

All rows stand at the same position, so no row ever waits for another and nothing here depends on the data but the
number of positions. A branch is a frame with an end; when it is over, the frame below goes on. A branch may reach
beyond the end of the branch it stands in (random strings do): then the outer one is over too, and is dropped when the
inner one starts, so that the frames on the stack always end one after the other, and at most one of them at a position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from molvae.nn.molgraph_tables import ATOM, BRANCH, OUTER_SHIFT, STATES, GraphTables

_STATE = 15
_SKIPS = STATES - 1 - _STATE
_PREVIOUS_SHIFT, _END_SHIFT = 4, 36
_PREVIOUS_MASK = (1 << (_END_SHIFT - _PREVIOUS_SHIFT)) - 1


@dataclass(frozen=True)
class Walk:
    """What happened at each of T positions of B rows.

    Attributes:
        tokens: (T, B) int64 token ids, packed: nothing to skip between them.
        actions: (T, B) int64, transitions taken, see `molgraph_tables`.
        previous: (T, B) int64, ``position * B + row`` of the atom that a bond, branch or ring starts from.
        reach: (T, B) int64, the number written in the index symbols after a branch or ring.
    """

    tokens: torch.Tensor
    actions: torch.Tensor
    previous: torch.Tensor
    reach: torch.Tensor


def look_up(table: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Return ``table[indices]``, several times sooner on a CPU; any shape, int64 indices."""
    return table.index_select(0, indices.reshape(-1)).view(indices.shape)


def pack(tokens: torch.Tensor, tables: GraphTables) -> torch.Tensor:
    """Return token ids (B, T) as (T', B) int64: cut at EOS, nothing to skip in between, T' no longer than needed."""
    tokens = tokens.to(tables.device, torch.int64)
    keep = ~look_up(tables.skip, tokens)
    ended = tokens == tables.end
    if tokens.numel() and bool(ended.any()):
        keep &= ended.cumsum(1) == 0
    lengths = keep.sum(1)
    longest = int(lengths.max()) if len(lengths) else 0
    target = keep.cumsum(1) - 1
    if bool((keep & (target != torch.arange(tokens.shape[1], device=tokens.device))).any()):
        spare = tokens.new_full((len(tokens), tokens.shape[1] + 1), 0)
        tokens = spare.scatter_(1, torch.where(keep, target, tokens.shape[1]), tokens)
        keep = torch.arange(longest, device=tokens.device) < lengths[:, None]
    return torch.where(keep[:, :longest], tokens[:, :longest], 0).T.contiguous()


def _reach(tokens: torch.Tensor, tables: GraphTables) -> tuple[torch.Tensor, torch.Tensor]:
    """Return per position the number in the index symbols that follow, and where a branch there would end.

    A symbol beyond the end of its fragment counts as 0. Both are (T, B) int64; ends are at most T.
    """
    steps, rows = tokens.shape
    ahead = tokens.new_zeros((steps + 3, rows))
    ahead[:steps] = look_up(tables.code, tokens)
    dots = torch.zeros((steps + 3, rows), dtype=torch.bool, device=tokens.device)
    dots[:steps] = look_up(tables.dot, tokens)
    first = ahead[1 : steps + 1]
    second = ahead[2 : steps + 2].masked_fill(dots[1 : steps + 1], 0)
    third = ahead[3 : steps + 3].masked_fill(dots[1 : steps + 1] | dots[2 : steps + 2], 0)
    length = look_up(tables.length, tokens)
    reach = torch.where(length > 1, first * 16 + second, first)
    reach = torch.where(length > 2, reach * 16 + third, reach)
    place = torch.arange(2, steps + 2, device=tokens.device)[:, None]
    ends = (place + length + reach).clamp_(max=steps)
    return reach, ends.masked_fill_(dots[:steps], steps)


def _deepest(tokens: torch.Tensor, tables: GraphTables) -> int:
    """Return an upper bound of the number of frames that can wait at once: the branch tokens of the fullest row."""
    branch = (tables.length > 0) & ((tables.transitions[tables.base + 2] & BRANCH) > 0)
    return int(look_up(branch, tokens).sum(0).max()) if tokens.numel() else 0


def walk(tokens: torch.Tensor, tables: GraphTables) -> Walk:
    """Derive what every token does.

    Args:
        tokens: (T, B) int64 of `pack`.
        tables: on the same device.
    """
    steps, count = tokens.shape
    reach, ends = _reach(tokens, tables)
    base = look_up(tables.base, tokens)
    actions, previous = torch.empty_like(tokens), torch.empty_like(tokens)
    rows = torch.arange(count, device=tokens.device)
    depth, state, last = torch.zeros_like(rows), torch.zeros_like(rows), rows.clone()
    end = torch.full_like(rows, steps)
    # Level 0 is a frame that never ends; the one above the highest level in use may hold rubbish.
    levels = torch.arange(1, _deepest(tokens, tables) + 1, device=tokens.device)[:, None]
    frames = tokens.new_zeros((len(levels) + 2) * count)
    frame_ends = torch.full_like(frames, steps)
    inner_ends = frame_ends[count : (len(levels) + 1) * count].view(len(levels), count)
    for step in range(steps):
        over = end == step
        frame = frames.index_select(0, torch.add(rows, depth, alpha=count))
        state = torch.where(over, (frame & _STATE) | (state & _SKIPS), state)
        last = torch.where(over, (frame >> _PREVIOUS_SHIFT) & _PREVIOUS_MASK, last)
        end = torch.where(over, frame >> _END_SHIFT, end)
        depth = torch.add(depth, over, alpha=-1)

        action = torch.index_select(tables.transitions, 0, base[step] + state, out=actions[step])
        previous[step] = last
        starts, ending = (action & BRANCH) > 0, ends[step]
        # Frames that end no later than the new one will never go on.
        alive = ((inner_ends > ending) & (levels <= depth)).sum(0)
        depth = torch.where(starts, alive, depth)
        above = torch.add(rows + count, depth, alpha=count)
        outer = (action >> OUTER_SHIFT) | last << _PREVIOUS_SHIFT | end << _END_SHIFT
        frames.scatter_(0, above, outer)
        frame_ends.scatter_(0, above, end)
        depth = torch.add(depth, starts & (ending < end))
        end = torch.where(starts, ending, end)
        last = torch.where((action & ATOM) > 0, rows + step * count, last)
        state = action & (STATES - 1)
    return Walk(tokens, actions, previous, reach)
