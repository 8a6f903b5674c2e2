"""The layout of a compressed file: what is needed to read it, and what it must agree with.

In: header, side stream and body. Out: bytes that begin with `MAGIC`, and the parts again.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import rdkit
import selfies
import torch

from molvae import __version__
from molvae.errors import InputError, ModelFileError
from molvae.generate.bitsback import MoleculeCoder
from molvae.nn.checkpoint import LoadedModel

MAGIC = b"molvaez1"


@dataclass(frozen=True)
class Header:
    """What stands in front of a compressed file.

    Attributes:
        versions: of the model (name and digest), molvae, torch, rdkit and selfies; the processor's instructions; and
            a digest of probabilities computed there (``probe``).
        sha256: of the whole input, its first 32 hexadecimal digits.
        size: bytes of the input.
        lines: lines of the input.
        rows: lines that the model carries.
        longest: tokens of the longest of them.
        scale: see `molvae.generate.bitsback.MoleculeCoder`.
    """

    versions: Mapping[str, str]
    sha256: str
    size: int
    lines: int
    rows: int
    longest: int
    scale: float

    def check_model(self, loaded: LoadedModel) -> None:
        """Refuse another model than the one that compressed.

        Raises:
            ModelFileError: names the model needed.
        """
        if self.versions["digest"] != digest(loaded):
            raise ModelFileError(
                f"The file was compressed with the model {self.versions['model']} ({self.versions['digest']}), "
                f"not with {loaded.directory.name} ({digest(loaded)}).",
                "Name that model with -m.",
            )

    def check_arithmetic(self, here: Mapping[str, str]) -> None:
        """Refuse a machine that computes other probabilities than the one that compressed.

        Raises:
            ModelFileError: names what differs.
        """
        if self.rows and self.versions["probe"] != here["probe"]:
            raise ModelFileError(
                f"This machine computes other probabilities than the one that compressed ({self.said_versions()}).",
                f"Decompress with those versions on such a processor; here: {self.here(here)}.",
            )

    def said_versions(self) -> str:
        """Return the versions that compressed, in one line."""
        return self.here(self.versions)

    @staticmethod
    def here(versions: Mapping[str, str]) -> str:
        """Return ``versions`` in one line."""
        return ", ".join(f"{name} {versions[name]}" for name in ("molvae", "torch", "cpu", "rdkit", "selfies"))


def digest(loaded: LoadedModel) -> str:
    """Return 16 hexadecimal digits that tell models apart: weights of encoder and decoder, and the vocabulary."""
    found = hashlib.sha256("\n".join(loaded.vocabulary.tokens).encode())
    for part in (loaded.model.encoder, loaded.model.decoder):
        for name, tensor in sorted(part.state_dict().items()):
            found.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def versions(loaded: LoadedModel, coder: MoleculeCoder) -> dict[str, str]:
    """Return what a compressed file depends on, see `Header`."""
    return {
        "model": loaded.directory.name, "digest": digest(loaded), "molvae": __version__, "torch": torch.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(), "rdkit": rdkit.__version__, "selfies": selfies.__version__,
        "probe": coder.probe(),
    }  # fmt: skip


def numbers(values: Iterable[int]) -> bytes:
    """Write integers of 0 or more, seven bits to a byte.

    >>> numbers([1, 300])
    b'\\x01\\xac\\x02'
    """
    written = bytearray()
    for value in values:
        while value > 127:
            written.append(value & 127 | 128)
            value >>= 7
        written.append(value)
    return bytes(written)


def read_numbers(content: bytes, count: int, at: int = 0) -> tuple[list[int], int]:
    """Read ``count`` integers from position ``at``; return them and the position after them.

    Raises:
        IndexError: when ``content`` ends too soon.

    >>> read_numbers(numbers([1, 300]), 2)
    ([1, 300], 3)
    """
    values = []
    for _ in range(count):
        value = shift = 0
        while content[at] > 127:
            value |= (content[at] & 127) << shift
            shift, at = shift + 7, at + 1
        values.append(value | content[at] << shift)
        at += 1
    return values, at


def pack(header: Header, side: bytes, body: bytes) -> bytes:
    """Return the file: `MAGIC`, three lengths, header (deflated JSON), side stream, body, and the SHA-256 of these."""
    text = zlib.compress(json.dumps(asdict(header), separators=(",", ":")).encode(), 9)
    parts = numbers([len(text), len(side), len(body)]) + text + side + body
    return MAGIC + parts + hashlib.sha256(parts).digest()[:8]


def unpack(content: bytes) -> tuple[Header, bytes, bytes]:
    """Return header, side stream and body of a compressed file.

    Raises:
        InputError: when it is no such file, is cut off, or a byte of it changed.
    """
    if content[: len(MAGIC)] != MAGIC:
        raise InputError("This is no file that molvae compressed.", "Give what molvae compress wrote.")
    parts, check = content[len(MAGIC) : -8], content[-8:]
    try:
        if hashlib.sha256(parts).digest()[:8] != check:
            raise ValueError("its checksum differs")
        (text, side, body), at = read_numbers(parts, 3)
        header = Header(**json.loads(zlib.decompress(parts[at : at + text])))
        if at + text + side + body != len(parts):
            raise ValueError("its length differs")
    except (ValueError, TypeError, IndexError, zlib.error) as error:
        raise InputError(f"The compressed file is damaged: {error}.", "Copy it again from its source.") from error
    return header, parts[at + text : at + text + side], parts[at + text + side :]
