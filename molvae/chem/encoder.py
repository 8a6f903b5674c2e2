"""Encode canonical SMILES as SELFIES tokens a chunk at a time, most of them proven without RDKit.

In: RDKit-canonical SMILES. Out: for each, the codes of the tokens that `selfies.encoder` gives, and whether decoding
them is proven to give the molecule back; None for a molecule that is left to `molvae.chem.selfies.encode`.

Why a proof may stand in for reading the decoded string with RDKit: the atoms and bonds that the decoder derives from
the tokens (by the functions that `molvae.chem.codec_kernel` decodes with) are compared one by one with those of the
canonical SMILES. They must be the same atoms in the same order, with the same charge and hydrogens, and the same bonds
with the same orders, where the order of an aromatic bond is that in one Kekulé structure. So what is decoded is a
Kekulé structure of the molecule. It may be another one than RDKit would choose; but RDKit judges aromaticity by the
rings and by what each atom gives to them, and that depends on whether an atom has a double bond within rings, not on
which one. Every aromatic atom must therefore be one whose valence settles whether it has such a bond (`_is_normal`);
then both structures get the same aromatic bonds, and the molecule is the same. What lies beyond this argument is never
marked as proven, and RDKit reads and compares it: stereochemistry, isotopes, unusual elements, charges and valences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from molvae.chem import encoder_read, encoder_write
from molvae.chem.codec_kernel import Kernel, load
from molvae.chem.codec_tables import LONGEST, Tables, make_tables, read_meaning
from molvae.chem.encoder_tables import ATOM_WIDTH, PROVEN, REFUSED, STEP_WIDTH, EncoderTables, make_encoder_tables
from molvae.chem.rejected import Rejected
from molvae.chem.selfies import encode, is_allowed, prove

COMPILE_AFTER = 2_000
"""Molecules that a process leaves to `molvae.chem.selfies.encode` before it loads compiled code: by then it has spent
as long on them as loading takes. Both ways give the same tokens."""

Tokens = bytes | tuple[str, ...]
"""SELFIES tokens: codes, which are places in `token_texts`, as bytes of uint16; or texts where one has no code."""


class Encoded(NamedTuple):
    """The SELFIES of one molecule.

    Attributes:
        codes: its tokens (see `Tokens`).
        proven: whether decoding them is proven to give the molecule back.
    """

    codes: bytes
    proven: bool


@dataclass(frozen=True)
class _Machine:
    tables: EncoderTables
    decoder: Tables
    read: Callable[..., None]
    write: Callable[..., None]
    compare: Callable[..., None]
    decoding: Kernel


@lru_cache(maxsize=1)
def _tables() -> EncoderTables:
    return make_encoder_tables(is_allowed)


def token_texts() -> tuple[str, ...]:
    """Return the token of every code, "" for a code that does not occur."""
    return _tables().texts


def as_texts(tokens: Tokens) -> tuple[str, ...]:
    """Return tokens as text.

    >>> as_texts(("[C]", "[Xe]"))
    ('[C]', '[Xe]')
    """
    if not isinstance(tokens, bytes):
        return tokens
    texts = token_texts()
    return tuple(texts[code] for code in np.frombuffer(tokens, dtype=np.uint16).tolist())


@lru_cache(maxsize=1)
def _machine() -> _Machine | None:
    """Return the compiled passes; None where numba is missing or cannot compile them."""
    decoding = load()
    if decoding is None:
        return None
    import numba

    for module in (encoder_read, encoder_write):
        module.compile_all(numba.njit(cache=True))
    decoder = make_tables([read_meaning(text) for text in token_texts()])
    machine = _Machine(_tables(), decoder, encoder_read.read, encoder_write.write, encoder_write.compare, decoding)
    try:
        _run(machine, *_lay_out(["C"]))
    except (RuntimeError, OSError, EOFError, ValueError):
        # The cache of compiled code cannot be used: what selfies does is slower and the same.
        return None
    return machine


def encode_chunk(smiles: Sequence[str]) -> list[Encoded | None]:
    """Return one result per canonical SMILES, in order; None where `molvae.chem.selfies.encode` must do the work.

    The first call in a process loads compiled code (.6 s), and the very first on a machine compiles it (8 s).

    >>> [one.proven for one in encode_chunk(["CC=O", "C[C@H](O)F"])]
    [True, False]
    >>> encode_chunk(["*C", ""])
    [None, None]
    """
    machine = _machine()
    if machine is None or not smiles:
        return [None] * len(smiles)
    text, starts, lines = _lay_out(smiles)
    line, ends, states = _run(machine, text, starts, lines)
    codes = line.astype(np.uint16)
    results: list[Encoded | None] = []
    for begin, end, state in zip(lines.tolist(), ends.tolist(), states.tolist(), strict=False):
        results.append(Encoded(codes[begin:end].tobytes(), state == PROVEN) if state != REFUSED else None)
    return results


class _Patience:
    """How many molecules this process has been given."""

    def __init__(self) -> None:
        self.given = 0


_patience = _Patience()


def encode_when_it_pays(smiles: Sequence[str]) -> list[Encoded | None]:
    """Do `encode_chunk` once this process has been given `COMPILE_AFTER` molecules; until then return None for each."""
    _patience.given += len(smiles)
    return encode_chunk(smiles) if _patience.given > COMPILE_AFTER else [None] * len(smiles)


def settle(canonical: str, encoded: Encoded | None) -> Tokens | Rejected:
    """Return the tokens of a molecule after all proof that is still missing, or why there are none.

    >>> settle("C", Encoded(b"", False)).reason, settle("C", None)
    ('roundtrip', ('[C]',))
    """
    if encoded is None:
        return encode(canonical)
    if encoded.proven:
        return encoded.codes
    proof = prove(canonical, as_texts(encoded.codes))
    return proof if isinstance(proof, Rejected) else encoded.codes


def _lay_out(smiles: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return all characters in a row, where each molecule begins, and where its place for tokens begins."""
    # What is not ASCII becomes "?", which no molecule holds.
    texts = [text.encode("ascii", "replace") for text in smiles]
    starts = np.zeros(len(texts) + 1, dtype=np.int64)
    lines = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in texts], out=starts[1:])
    # Two tokens a character are more than any molecule takes; the decoder stops at `LONGEST`.
    lines[1:] = np.cumsum(np.minimum(2 * np.diff(starts) + 8, LONGEST))
    return np.frombuffer(b"".join(texts), dtype=np.uint8).copy(), starts, lines


def _run(
    machine: _Machine, text: NDArray[np.uint8], starts: NDArray[np.int64], lines: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.uint8]]:
    """Run all passes; return the line of codes, where each molecule ends on it, and what became of each."""
    size, room, known = len(starts) - 1, int(lines[-1]), machine.tables
    atoms, steps = np.empty((len(text) + 1, ATOM_WIDTH), np.int32), np.empty((len(text) + 1, STEP_WIDTH), np.int32)
    counts, found = np.zeros((size, 2), np.int64), np.zeros((size, 2), np.int64)
    states, refused = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    line, ends = np.empty(room, np.int32), np.empty(size, np.int64)
    again, rings = np.empty((room, 4), np.int32), np.empty((room, 4), np.int32)
    machine.read(text, starts, known.elements, atoms, steps, counts, states)
    machine.write(starts, atoms, steps, counts, known.kinds, known.index, known.allowed, line, lines, ends, states)
    machine.decoding.derive(line, lines, ends, machine.decoder.facts, again, rings, found, refused)
    machine.decoding.close_rings(lines, again, rings, found)
    machine.compare(starts, atoms, steps, counts, known.kinds, lines, again, rings, found, states)
    return line, ends, states
