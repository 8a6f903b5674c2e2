"""Compress lines of SMILES under a model, so that every byte comes back.

In: bytes of a file, one SMILES a line, with or without more behind it. Out: fewer bytes, and the same file again.
"""

from __future__ import annotations

import hashlib
import lzma
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, cast

from rdkit import Chem

from molvae.chem.parallel import map_items
from molvae.chem.selfies import decode
from molvae.chem.standardize import parse
from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError, ModelFileError
from molvae.generate.archive import Header, numbers, pack, read_numbers, unpack, versions
from molvae.generate.arithmetic import Stack
from molvae.generate.bitsback import MoleculeCoder, block_sizes, fitting_scale, one_arithmetic
from molvae.generate.chemistry import Read, Readable
from molvae.nn.checkpoint import LoadedModel

Progress = Callable[[int], None]

_FIELD = re.compile(rb"[^ \t,;\r]*")
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
_REMEDY = "Copy the file again from its source."


@dataclass(frozen=True)
class Compressed:
    """A compressed file and how it came about.

    Attributes:
        content: the bytes to keep.
        lines: N, lines of the input.
        by_model: lines whose SMILES the model carries; the others are kept as they are, by LZMA.
        model_bytes: bytes of ``content`` that carry those.
    """

    content: bytes
    lines: int
    by_model: int
    model_bytes: int


@dataclass(frozen=True)
class _Lines:
    """A file taken apart: ``rows`` of the model with what follows each SMILES, and whole lines for the rest."""

    rows: list[tuple[int, ...]]
    tails: list[bytes]
    kept: dict[int, bytes] = field(default_factory=dict)
    ended: bool = True

    def __len__(self) -> int:
        return len(self.rows) + len(self.kept)

    def side(self) -> bytes:
        """Return all but the rows, by LZMA: which lines are kept, the tails and the kept lines."""
        places = sorted(self.kept)
        gaps = [place - before for before, place in zip([0, *places], places, strict=False)]
        text = b"\n".join([*self.tails, *(self.kept[place] for place in places)])
        plain = numbers([int(self.ended), len(gaps), *gaps]) + text
        return lzma.compress(plain, format=lzma.FORMAT_RAW, filters=_FILTERS)

    @classmethod
    def from_side(cls, packed: bytes, lines: int) -> _Lines:
        """Read `side` back, without rows."""
        plain = lzma.decompress(packed, format=lzma.FORMAT_RAW, filters=_FILTERS)
        (ended, count), at = read_numbers(plain, 2)
        gaps, at = read_numbers(plain, count, at)
        places = list(accumulate(gaps))
        texts = plain[at:].split(b"\n") if lines else []
        if len(texts) != lines or count > lines:
            raise ValueError("its side stream has another number of lines")
        tails = texts[: lines - count]
        return cls([], tails, dict(zip(places, texts[lines - count :], strict=True)), bool(ended))


@dataclass(frozen=True)
class _Spell:
    """Write token ids as the canonical SMILES they were read from, as `molvae.chem.selfies.encode` proved it."""

    vocabulary: Vocabulary

    def __call__(self, row: Sequence[int]) -> str:
        mol = parse(decode(self.vocabulary.decode(row)))
        return "" if mol is None else str(Chem.MolToSmiles(mol))


def _take_apart(loaded: LoadedModel, data: bytes, workers: int | None) -> _Lines:
    """Split ``data`` at newlines and have the model's vocabulary read the first cell of every line."""
    texts = data.split(b"\n") if data else []
    ended = bool(texts) and not texts[-1]
    if ended:
        texts.pop()
    heads = [cast("re.Match[bytes]", _FIELD.match(text)).group() for text in texts]
    smiles = [head.decode("ascii", "replace") for head in heads]
    read = map_items(Read(loaded.vocabulary), smiles, workers)
    lines = _Lines([], [], {}, ended)
    for place, (text, head, given, result) in enumerate(zip(texts, heads, smiles, read, strict=True)):
        if isinstance(result, Readable) and result.smiles == given:
            lines.rows.append(result.token_ids)
            lines.tails.append(text[len(head) :])
        else:
            lines.kept[place] = text
    return lines


def compress(
    loaded: LoadedModel,
    data: bytes,
    *,
    verify: bool = True,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Compressed:
    """Compress a file of SMILES.

    A line counts up to its first blank, tab, comma or semicolon: a SMILES that is canonical, as RDKit writes it, and
    within the model's vocabulary goes through the model with bits back; whatever follows it, and every other line as a
    whole, is kept by LZMA. The result holds no model: the same one must be there to read it.

    Args:
        loaded: the model, on the CPU.
        data: any bytes at all.
        verify: decompress again and compare, which takes as long again.
        workers: processes for chemistry; None means every core.
        progress: called with the number of lines that passed the model.

    Raises:
        InputError: when the model is on another device.
        ModelFileError: when verifying fails; nothing should be kept then.
    """
    lines = _take_apart(loaded, data, workers)
    scale = fitting_scale(loaded.model, lines.rows) if lines.rows else 1.0
    coder, stack = MoleculeCoder(loaded.model, scale), Stack()
    done = 0
    with one_arithmetic():
        for size in block_sizes(len(lines.rows)):
            coder.push(stack, lines.rows[done : done + size])
            done += size
            if progress:
                progress(done)
    body = stack.to_bytes() if lines.rows else b""
    header = Header(
        versions=versions(loaded, coder), sha256=hashlib.sha256(data).hexdigest()[:32], size=len(data),
        lines=len(lines), rows=len(lines.rows), longest=max(map(len, lines.rows), default=0), scale=scale,
    )  # fmt: skip
    content = pack(header, lines.side(), body)
    if verify and decompress(loaded, content, workers=workers) != data:
        raise ModelFileError("The compressed file does not give the input back.", "Please report this as a fault.")
    return Compressed(content, len(lines), len(lines.rows), len(body))


def decompress(
    loaded: LoadedModel, content: bytes, *, workers: int | None = None, progress: Progress | None = None
) -> bytes:
    """Return the file that `compress` was given, or raise: never anything else.

    Args:
        loaded: the model it was compressed with, on the CPU.
        content: what `compress` returned.
        workers: processes for chemistry; None means every core.
        progress: called with the number of lines that passed the model.

    Raises:
        InputError: when ``content`` is no such file, or is damaged.
        ModelFileError: when the model is another one, or this machine or these libraries compute otherwise.
    """
    header, side, body = unpack(content)
    header.check_model(loaded)
    coder = MoleculeCoder(loaded.model, header.scale)
    header.check_arithmetic(versions(loaded, coder))
    try:
        lines = _Lines.from_side(side, header.lines)
        lines.rows.extend(_rows(coder, Stack(body), header, progress) if header.rows else [])
    except (ValueError, lzma.LZMAError, IndexError) as error:
        raise InputError(f"The compressed file is damaged: {error}.", _REMEDY) from error
    smiles = map_items(_Spell(loaded.vocabulary), lines.rows, workers)
    data = _put_together(lines, smiles)
    if len(data) != header.size or hashlib.sha256(data).hexdigest()[:32] != header.sha256:
        raise ModelFileError(
            f"The lines that came back are not those that were compressed ({header.said_versions()}).",
            f"Use these versions; here: {header.here(versions(loaded, coder))}. If they agree, the file is damaged.",
        )
    return data


def _rows(coder: MoleculeCoder, stack: Stack, header: Header, progress: Progress | None) -> list[tuple[int, ...]]:
    """Take every row off ``stack``: the last block comes first."""
    blocks: list[list[tuple[int, ...]]] = []
    done = 0
    with one_arithmetic():
        for size in reversed(block_sizes(header.rows)):
            blocks.append(coder.pop(stack, size, header.longest))
            done += size
            if progress:
                progress(done)
    if not stack.is_new():
        raise ValueError("something is left over")
    return [row for block in reversed(blocks) for row in block]


def _put_together(lines: _Lines, smiles: Sequence[Any]) -> bytes:
    """Return the file from its parts; the opposite of `_take_apart`."""
    written = iter([str(text).encode() + tail for text, tail in zip(smiles, lines.tails, strict=True)])
    count = len(lines.tails) + len(lines.kept)
    texts = [lines.kept[place] if place in lines.kept else next(written, b"") for place in range(count)]
    return b"\n".join(texts) + (b"\n" if lines.ended else b"")
