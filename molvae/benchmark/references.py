"""Keep what is known of a reference set, so that it is computed once on a machine.

In: a file of SMILES. Out: `Reference`, from the user's cache when the same file was measured with the same libraries.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from molvae.benchmark.fcd import MIN_MOLECULES, Gaussian, chemnet_statistics
from molvae.benchmark.metrics_molecules import Described, describe
from molvae.data.sources import SOURCES, cache_directory
from molvae.errors import InputError, ModelFileError, OutputError
from molvae.files import new_directory, sha256_file, verify_manifest, write_json, write_manifest
from molvae.generate.known import read_smiles

FORMAT = 1
"""Raised when the same molecules would give other numbers by this code."""

Stage = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Reference:
    """What a benchmark asks about a set of real molecules.

    Attributes:
        name: for people, such as ``Test``.
        source: the file as it was named.
        sha256: of the file.
        given, n: rows taken, and those that are molecules.
        drawn: seed with which they were drawn from the file, None when the whole file was taken.
        fingerprints: (n, 128) uint8, packed.
        fragments, scaffolds: counts.
        values: (n, 4) float64, `molvae.benchmark.metrics_molecules.PROPERTIES`.
        gaussian: ChemNet statistics, None where FCD cannot be had.
    """

    name: str
    source: str
    sha256: str
    given: int
    n: int
    drawn: int | None
    fingerprints: NDArray[np.uint8]
    fragments: Counter[str]
    scaffolds: Counter[str]
    values: NDArray[np.float64]
    gaussian: Gaussian | None

    def facts(self) -> dict[str, Any]:
        """Return what a reader of a figure must know about its reference."""
        named = {"name": self.name, "source": self.source, "sha256": self.sha256}
        return {**named, "rows": self.given, "n": self.n, "drawn_with_seed": self.drawn}


@dataclass(frozen=True)
class Choice:
    """Which molecules of a file: all, or ``limit`` drawn at random with ``seed``."""

    path: Path
    limit: int | None = None
    seed: int = 0

    def read(self) -> list[str]:
        """Return the SMILES as they stand; "" for a row that cannot be read.

        Raises:
            InputError: when the file cannot be read.
        """
        smiles = read_smiles(self.path)
        if self.limit is None or self.limit >= len(smiles):
            return smiles
        rows = np.sort(np.random.default_rng(self.seed).permutation(len(smiles))[: self.limit])
        return [smiles[row] for row in rows]


def cache_root() -> Path:
    """Return where statistics are kept: beside the named datasets, in the user's cache."""
    return cache_directory("references").parent.parent / "references"


def has_fcd() -> bool:
    """Tell whether the package fcd is installed."""
    return importlib.util.find_spec("fcd") is not None


def key_of(kind: str, facts: dict[str, Any], packages: tuple[str, ...]) -> str:
    """Return the name of a cache entry: its kind and a hash of all that its content depends on."""
    versions = {name: metadata.version(name) for name in packages}
    text = json.dumps({"format": FORMAT, "kind": kind, "versions": versions, **facts}, sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def store(key: str, arrays: dict[str, NDArray[Any]], facts: dict[str, Any]) -> None:
    """Write an entry, arrays as .npy; a cache that cannot be written is no reason to fail."""
    with suppress(OutputError), new_directory(cache_root() / key, replace=True) as place:
        for name, array in arrays.items():
            np.save(place / f"{name}.npy", array)
        write_json(place / "facts.json", facts)
        write_manifest(place, {"kind": "statistics"})


def recall(key: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
    """Return an entry, its arrays mapped from disk; None when there is none, and a damaged one is removed."""
    place = cache_root() / key
    if not place.is_dir():
        return None
    try:
        verify_manifest(place)
        facts = json.loads((place / "facts.json").read_text("utf-8"))
        return {path.stem: np.load(path, mmap_mode="r") for path in place.glob("*.npy")}, facts
    except (ModelFileError, OSError, ValueError):
        shutil.rmtree(place, ignore_errors=True)
        return None


def load_reference(name: str, choice: Choice, *, workers: int | None, say: Stage, fcd: bool = True) -> Reference:
    """Return the statistics of a reference set, computed when the cache lacks them.

    Args:
        name: for people.
        choice: the file and how much of it.
        workers: processes; None means every core.
        say: told how far it is.
        fcd: whether ChemNet statistics are wanted; they are left out where the package fcd is missing.

    Raises:
        InputError: when the file cannot be read or holds no molecule.
    """
    whole = {"sha256": sha256_file(choice.path), "limit": choice.limit, "seed": choice.seed if choice.limit else 0}
    key = key_of("molecules", whole, ("rdkit",))
    found = recall(key)
    if found is None:
        described = _describe(name, choice, workers, say)
        store(key, *_as_entry(described))
        arrays, facts = _as_entry(described)
    else:
        arrays, facts = found
    gaussian = _gaussian(name, whole, arrays, say) if fcd and has_fcd() else None
    return Reference(
        name, str(choice.path.name), str(whole["sha256"]), facts["given"], len(arrays["values"]),
        None if choice.limit is None else choice.seed,
        np.asarray(arrays["fingerprints"]), Counter(facts["fragments"]), Counter(facts["scaffolds"]),
        np.asarray(arrays["values"]), gaussian,
    )  # fmt: skip


def _describe(name: str, choice: Choice, workers: int | None, say: Stage) -> Described:
    smiles = choice.read()
    described = describe(
        smiles, filters=False, workers=workers, say=lambda done: say(f"{name}: chemistry, once", done, len(smiles))
    )
    if not described.smiles:
        raise InputError(f"{choice.path} holds no molecule.", "Give a file of SMILES as the reference.")
    return described


def _as_entry(described: Described) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    text = np.frombuffer("\n".join(described.smiles).encode("ascii"), dtype=np.uint8)
    arrays: dict[str, NDArray[Any]] = {
        "fingerprints": described.fingerprints,
        "values": described.values,
        "smiles": text,
    }
    facts: dict[str, Any] = {
        "given": described.given,
        "fragments": described.fragments,
        "scaffolds": described.scaffolds,
    }
    return arrays, facts


def _gaussian(name: str, whole: dict[str, Any], arrays: dict[str, NDArray[Any]], say: Stage) -> Gaussian | None:
    """Return the ChemNet statistics of a reference, None for a single molecule."""
    key = key_of("chemnet", whole, ("rdkit", "fcd"))
    found = recall(key)
    if found is not None:
        return Gaussian(np.asarray(found[0]["mean"]), np.asarray(found[0]["covariance"]), found[1]["n"])
    smiles = arrays["smiles"].tobytes().decode("ascii").split("\n")
    if len(smiles) < MIN_MOLECULES:
        return None
    gaussian = chemnet_statistics(smiles, say=lambda done: say(f"{name}: ChemNet, once", done, len(smiles)))
    store(key, {"mean": gaussian.mean, "covariance": gaussian.covariance}, {"n": gaussian.n})
    return gaussian


def named_split(sha256: str) -> str | None:
    """Return the name, such as ``moses:train``, of the known split whose file has this checksum; None for others."""
    return next(
        (f"{source.name}:{name}" for source in SOURCES.values() for name, split in source.splits.items()
         if split.sha256 == sha256), None,
    )  # fmt: skip
