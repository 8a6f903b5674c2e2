"""Decide which molecules train, which validate and which test.

In: the canonical SMILES, its scaffold, or the table's own word. Out: the id of a split, always the same for a molecule.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from molvae.data.dataset import SPLITS
from molvae.errors import InputError

KINDS = ("random", "scaffold")
COLUMN = "column:"
_WORDS = (("train", 0), ("val", 1), ("dev", 1), ("test", 2))


@dataclass(frozen=True, slots=True)
class Splitter:
    """How molecules are divided.

    Args:
        kind: ``random`` (by molecule), ``scaffold`` (molecules with one Murcko scaffold stay together; those without
            rings go by molecule), or ``column:NAME`` (by the table's own column).
        valid: share of the validation split, 0 to 1; met on average, since each molecule is decided by itself.
        test: share of the test split.
        seed: another seed gives another division.

    Raises:
        InputError: when the kind is unknown, or the shares are negative or leave nothing to train on.
    """

    kind: str = "random"
    valid: float = 0.05
    test: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS and not (self.kind.startswith(COLUMN) and self.column):
            raise InputError(f"There is no split {self.kind!r}.", f"Choose {', '.join(KINDS)} or column:NAME.")
        if not (self.valid >= 0 and self.test >= 0 and self.valid + self.test < 1):
            raise InputError(
                f"Shares of {self.valid:g} (valid) and {self.test:g} (test) do not work.",
                "Give two shares of 0 or more that add up to less than 1.",
            )

    @property
    def column(self) -> str | None:
        """Name of the column that decides, None when none does."""
        return self.kind.removeprefix(COLUMN) if self.kind.startswith(COLUMN) else None

    def by_key(self, key: str) -> int:
        """Return the split of a molecule from a hash of ``key``: its SMILES, or its scaffold.

        >>> Splitter(valid=0, test=0).by_key("CCO")
        0
        """
        digest = hashlib.blake2b(key.encode(), digest_size=8, key=b"split %d" % self.seed).digest()
        place = int.from_bytes(digest, "big") / 2**64
        if place < self.test:
            return SPLITS["test"]
        return SPLITS["valid"] if place < self.test + self.valid else SPLITS["train"]

    def by_word(self, word: str, row: int) -> int:
        """Return the split that a table's cell names: train..., val... or dev..., test..., in any case.

        Raises:
            InputError: on any other word, naming the row.

        >>> Splitter("column:SPLIT").by_word("test_scaffolds", 1)
        2
        """
        text = word.strip().lower()
        for start, split in _WORDS:
            if text.startswith(start):
                return split
        raise InputError(
            f"Row {row} has {word!r} in the column {self.column}, which names no split.", "Use train, valid and test."
        )
