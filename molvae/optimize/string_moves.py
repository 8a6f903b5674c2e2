"""Make a molecule from one or two others by editing SELFIES: change, insert and drop tokens, splice two strings.

In: SELFIES tokens and a generator. Out: SMILES as SELFIES decodes, any string of tokens being a molecule.

Source: mutations of SELFIES as in STONED, Nigam et al. 2021, https://arxiv.org/abs/2012.03475; this is our own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from molvae.chem.rejected import Rejected
from molvae.chem.selfies import decode, encode

TOKENS = (
    "[C]", "[=C]", "[N]", "[=N]", "[O]", "[=O]", "[S]", "[F]", "[Cl]", "[Branch1]", "[=Branch1]", "[Ring1]", "[Ring2]",
)  # fmt: skip
MOST_EDITS = 3


def tokens_of(canonical: str) -> tuple[str, ...]:
    """Return the SELFIES tokens of a canonical SMILES, none when SELFIES cannot say it.

    >>> tokens_of("CC=O")
    ('[C]', '[C]', '[=O]')
    """
    tokens = encode(canonical)
    return () if isinstance(tokens, Rejected) else tokens


def mutate(tokens: Sequence[str], alphabet: Sequence[str], chance: np.random.Generator) -> str:
    """Return the SMILES of ``tokens`` after one to `MOST_EDITS` changes, "" of no tokens.

    Args:
        tokens: of one molecule.
        alphabet: tokens to choose from.
        chance: where chance comes from.
    """
    edited = list(tokens)
    for _ in range(1 + int(chance.integers(MOST_EDITS)) if edited else 0):
        place, kind = int(chance.integers(len(edited))), chance.random()
        new = alphabet[int(chance.integers(len(alphabet)))]
        if kind < 0.5:
            edited[place] = new
        elif kind < 0.75 or len(edited) == 1:
            edited.insert(place, new)
        else:
            del edited[place]
    return decode(edited)


def splice(first: Sequence[str], second: Sequence[str], chance: np.random.Generator) -> str:
    """Return the SMILES of the front of one string and the back of the other, cut at about the same share of each."""
    if not first or not second:
        return ""
    share = chance.random()
    jitter = chance.normal(0.0, 0.1)
    front, back = round(share * len(first)), round(float(np.clip(share + jitter, 0, 1)) * len(second))
    return decode([*first[:front], *second[back:]])
