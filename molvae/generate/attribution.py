"""Say which atom each SELFIES token is about.

In: SELFIES tokens as `molvae.chem.selfies.encode` writes them. Out: one atom index per token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_COUNTED = re.compile(r"(?:Branch|Ring)([123])\]$")


def token_atoms(tokens: Sequence[str]) -> list[int]:
    """Return for each token the atom it writes, numbered as RDKit numbers the atoms of the SMILES it came from.

    A branch or ring token, and the tokens that count for it, belong to the atom they hang on: the one before. So does
    a dot. Tokens before any atom give -1.

    >>> token_atoms(["[C]", "[=Branch1]", "[C]", "[=O]", "[O]"])
    [0, 0, 0, 1, 2]
    """
    atoms: list[int] = []
    atom, counting = -1, 0
    for token in tokens:
        counted = _COUNTED.search(token)
        if counting:
            counting -= 1
        elif counted:
            counting = int(counted.group(1))
        elif token != ".":
            atom += 1
        atoms.append(atom)
    return atoms


def atom_surprise(tokens: Sequence[str], nats: Sequence[float]) -> NDArray[np.float64]:
    """Return the nats of each atom: the sum over its tokens, (A,), A being the atoms that the tokens write.

    Args:
        tokens: T SELFIES tokens.
        nats: one a token, and possibly one more for the end, which goes to the last atom.

    >>> atom_surprise(["[C]", "[=O]"], [1.0, 0.5, 0.25]).tolist()
    [1.0, 0.75]
    """
    atoms = token_atoms(tokens)
    atoms += atoms[-1:] * (len(nats) - len(atoms))
    total = np.zeros(max(atoms, default=-1) + 1)
    np.add.at(total, np.maximum(np.array(atoms, dtype=np.int64), 0), np.array(nats, dtype=np.float64))
    return total
