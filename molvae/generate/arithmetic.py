"""Code symbols into whole numbers and back, exactly: an arithmetic coder that is a stack, and its integer tables.

In: symbols as intervals of integers. Out: bytes, and the symbols again in the opposite order.
"""

from __future__ import annotations

import torch

STATE_BITS = 64
WORD_BITS = 32
_WORD = (1 << WORD_BITS) - 1
_LOWEST = 1 << WORD_BITS
_FULL = (1 << STATE_BITS) - 1


def filler(index: int) -> int:
    """Return word number ``index`` (32 bits) of the fixed random sequence that lies under an empty stack.

    Source: splitmix64, Steele et al. (2014), https://doi.org/10.1145/2714064.2660195

    >>> filler(0) == filler(0), filler(0) == filler(1)
    (True, False)
    """
    mixed = (index + 1) * 0x9E3779B97F4A7C15 & _FULL
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _FULL
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _FULL
    return (mixed ^ mixed >> 31) & _WORD


class Stack:
    """A stack of symbols in one large number: what was pushed last is popped first.

    A symbol is an interval ``[start, start + size)`` of the integers below ``1 << bits``; pushing costs
    ``bits - log2(size)`` bits, and popping with other intervals than were pushed draws symbols from them at random,
    which gives those bits back. An empty stack stands on a fixed random sequence, so that drawing never fails.

    Args:
        content: from `to_bytes`; empty makes an empty stack.

    Raises:
        ValueError: when ``content`` is no stack.

    Source: asymmetric numeral systems, Duda (2013), https://arxiv.org/abs/1311.2540

    >>> stack = Stack()
    >>> stack.push(3, 1, 2)
    >>> stack.peek(2)
    3
    >>> stack.drop(3, 1, 2)
    >>> stack.is_new()
    True
    """

    def __init__(self, content: bytes = b"") -> None:
        self.state, self.words, self.borrowed = _LOWEST, list[int](), 0
        if content:
            head = STATE_BITS // 8
            if len(content) < head or (len(content) - head) % 4:
                raise ValueError("a stack has 8 bytes and then 4 a word")
            self.state = int.from_bytes(content[:head], "little")
            self.words = [int.from_bytes(content[at : at + 4], "little") for at in range(head, len(content), 4)]
            if self.state < _LOWEST:
                raise ValueError("the state of a stack has its highest half in use")

    def to_bytes(self) -> bytes:
        """Return the content, 8 bytes and 4 a word."""
        return self.state.to_bytes(8, "little") + b"".join(word.to_bytes(4, "little") for word in self.words)

    def push(self, start: int, size: int, bits: int) -> None:
        """Put the symbol ``[start, start + size)`` below ``1 << bits`` on top; ``bits`` is at most 32."""
        state, limit = self.state, size << (STATE_BITS - bits)
        while state >= limit:
            self.words.append(state & _WORD)
            state >>= WORD_BITS
        self.state = (state // size << bits) + state % size + start

    def peek(self, bits: int) -> int:
        """Return the integer below ``1 << bits`` whose interval is the symbol on top."""
        return self.state & ((1 << bits) - 1)

    def drop(self, start: int, size: int, bits: int) -> None:
        """Take the symbol that `peek` showed off the top; the opposite of `push`."""
        state = size * (self.state >> bits) + self.peek(bits) - start
        while state < _LOWEST:
            if self.words:
                word = self.words.pop()
            else:
                word = filler(self.borrowed)
                self.borrowed += 1
            state = state << WORD_BITS | word
        self.state = state

    def is_new(self) -> bool:
        """Tell whether everything pushed was popped, up to words of the sequence that an empty stack stands on."""
        return self.state == _LOWEST and self.words == [filler(n) for n in reversed(range(len(self.words)))]


def integer_table(probabilities: torch.Tensor, bits: int) -> torch.Tensor:
    """Return the bounds of one interval per symbol, int64 (..., S + 1) from 0 to ``1 << bits``, each at least 1 wide.

    The same numbers give the same table on every machine; only the probabilities themselves may round otherwise.

    Args:
        probabilities: (..., S) float64, not negative; they need not sum to exactly 1.
        bits: S must be well below ``1 << bits``.

    >>> integer_table(torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64), 4).tolist()
    [0, 7, 15, 16]
    """
    symbols = probabilities.shape[-1]
    heights = probabilities.cumsum(-1)
    heights = heights / heights[..., -1:]
    bounds = (heights * ((1 << bits) - symbols)).floor().long() + torch.arange(1, symbols + 1)
    bounds[..., -1] = 1 << bits
    return torch.cat([torch.zeros_like(bounds[..., :1]), bounds], dim=-1)
