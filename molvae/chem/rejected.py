"""Say why a molecule was not taken, as a value in its place.

In: the string as given and a reason. Out: `Rejected`, one of a closed list of reasons.
"""

from __future__ import annotations

from dataclasses import dataclass

REASONS: dict[str, str] = {
    "missing": "a row with too few or too many cells, or a record that cannot be read: its molecule is unknown",
    "empty": "nothing but white space",
    "whitespace": "white space inside: more than one word in the cell",
    "charset": "a character outside printable ASCII",
    "too-large": "more characters than RDKit can be trusted with",
    "parse": "not SMILES",
    "sanitize": "SMILES, but chemically impossible for RDKit (valence, aromaticity)",
    "unsupported-selfies": "SELFIES has no word for it",
    "roundtrip": "changes when written and read again",
    "vocabulary": "uses a token outside the vocabulary",
    "too-long": "more tokens than allowed",
    "crashed": "ended or hung the process that worked on it",
}
"""Every reason, with what it means in words a user can act on."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A molecule that was not taken.

    Args:
        smiles: the string as it was given.
        reason: a key of `REASONS`.
        detail: what exactly, for people; may be empty.

    >>> Rejected("C(", "parse").reason
    'parse'
    """

    smiles: str
    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"unknown reason {self.reason!r}; known: {', '.join(REASONS)}")
