"""Exact codes as files: .npz or .parquet, without pickle.

In: `ExactCodes`. Out: a file, and the codes again.

An .npz holds these arrays, of N codes with D latent dimensions, C conditions and M edits in all:

    latents float32 (N, D)          NaN where there is no code
    seeds uint64 (N,)               from which the noise follows by counting, see `molvae.generate.exact_noise`
    offsets int64 (N + 1,)          code i has the edits from offsets[i] to offsets[i + 1]
    positions, tokens uint16 (M,)   of which token, and whose number: a token id of the model
    values float32 (M,)             what is added to the logit instead
    conditions float32 (N, C)       only when some were asked for
    facts uint8                     JSON as UTF-8: format, model (digest), temperature, rejected (row, input, reason,
                                    detail of every molecule without a code)

A .parquet holds the same, a row per code: z0, z1, ..., seed, lists in positions, tokens and values, c0, c1, ... with
conditions, input, state and detail (of rows without a code); facts less rejected stand in its metadata as ``molvae``.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from molvae.chem.rejected import Rejected
from molvae.errors import InputError
from molvae.files import write_with
from molvae.generate.exact import ExactCodes
from molvae.generate.exact_noise import Noise
from molvae.generate.sampling import LONGEST

FORMAT = 1
SUFFIXES = (".npz", ".parquet")
_KEY = b"molvae"


def write_codes(path: Path, codes: ExactCodes) -> None:
    """Write codes to a .npz or .parquet file, in one step.

    Raises:
        InputError: when the file ends otherwise.
        OutputError: when it cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} has no ending for exact codes.", f"End it in {' or '.join(SUFFIXES)}.")
    writers = {".npz": _write_npz, ".parquet": _write_parquet}
    write_with(path, lambda temporary: writers[path.suffix.lower()](temporary, codes))


def holds_codes(path: Path) -> bool:
    """Say whether a file is one of `write_codes`: every .npz, and a .parquet that says so."""
    if path.suffix.lower() != ".parquet":
        return path.suffix.lower() == ".npz"
    try:
        return _KEY in (pq.read_schema(path).metadata or {})
    except (OSError, ValueError):
        return False


def read_codes(path: Path) -> ExactCodes:
    """Read a file of `write_codes`.

    Raises:
        InputError: when it cannot be read, or is none.
    """
    remedy = "Give a .npz or .parquet file of molvae encode --exact."
    try:
        codes = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_npz(path)
        _check(codes)
        return codes
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.", "Check the path.") from error
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} holds no exact codes: {reason}.", remedy) from error


def _facts(codes: ExactCodes) -> dict[str, Any]:
    return {"format": FORMAT, "model": codes.model, "temperature": codes.noise.temperature}


def _write_npz(path: Path, codes: ExactCodes) -> None:
    rejected = [[row, r.smiles, r.reason, r.detail] for row, r in enumerate(codes.rejected) if r is not None]
    text = json.dumps({**_facts(codes), "rejected": rejected}, ensure_ascii=True)
    noise = codes.noise
    arrays: dict[str, NDArray[Any]] = {
        "latents": codes.latents, "seeds": noise.seeds, "offsets": noise.offsets, "positions": noise.positions,
        "tokens": noise.tokens, "values": noise.values, "facts": np.frombuffer(text.encode("utf-8"), dtype=np.uint8),
    }  # fmt: skip
    if codes.conditions is not None:
        arrays["conditions"] = codes.conditions
    with path.open("wb") as handle:
        np.savez(handle, allow_pickle=False, **arrays)


def _read_npz(path: Path) -> ExactCodes:
    with np.load(path, allow_pickle=False) as file:
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("not an .npz")
        facts = _known(file["facts"].tobytes())
        latents = file["latents"]
        rejected: list[Rejected | None] = [None] * len(latents)
        for row, smiles, reason, detail in facts["rejected"]:
            rejected[row] = Rejected(smiles, reason, detail)
        noise = Noise(
            file["seeds"], file["offsets"], file["positions"], file["tokens"], file["values"], facts["temperature"]
        )
        conditions = file.get("conditions")
    return ExactCodes(latents, noise, tuple(rejected), facts["model"], conditions)


def _known(text: bytes) -> dict[str, Any]:
    """Return the facts of a file of this format."""
    facts: dict[str, Any] = json.loads(text)
    if facts["format"] != FORMAT:
        raise ValueError(f"format {facts['format']}, and this version reads {FORMAT}")
    return facts


def _write_parquet(path: Path, codes: ExactCodes) -> None:
    noise, why = codes.noise, codes.rejected
    offsets = pa.array(noise.offsets.astype(np.int32))
    columns: dict[str, Any] = {f"z{place}": codes.latents[:, place] for place in range(codes.latents.shape[1])}
    columns["seed"] = noise.seeds
    for name in ("positions", "tokens", "values"):
        columns[name] = pa.ListArray.from_arrays(offsets, pa.array(getattr(noise, name)))
    if codes.conditions is not None:
        columns |= {f"c{place}": codes.conditions[:, place] for place in range(codes.conditions.shape[1])}
    columns["input"] = pa.array([None if r is None else r.smiles for r in why], pa.string())
    columns["state"] = pa.array(["ok" if r is None else r.reason for r in why], pa.string())
    columns["detail"] = pa.array([None if r is None else r.detail for r in why], pa.string())
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata({_KEY: json.dumps(_facts(codes)).encode("utf-8")}), path)


def _read_parquet(path: Path) -> ExactCodes:
    table = pq.read_table(path)
    facts = _known((table.schema.metadata or {})[_KEY])

    def block(letter: str) -> NDArray[np.float32]:
        count = sum(name[:1] == letter and name[1:].isdigit() for name in table.column_names)
        columns = [table[f"{letter}{place}"].to_numpy() for place in range(count)]
        return np.column_stack(columns).astype(np.float32) if count else np.zeros((len(table), 0), dtype=np.float32)

    lists = {name: table[name].combine_chunks() for name in ("positions", "tokens", "values")}
    sizes = lists["positions"].value_lengths().to_numpy()
    positions, tokens, values = (lists[name].flatten().to_numpy() for name in ("positions", "tokens", "values"))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    noise = Noise(table["seed"].to_numpy(), offsets, positions, tokens, values, facts["temperature"])
    columns = zip(table["input"].to_pylist(), table["state"].to_pylist(), table["detail"].to_pylist(), strict=True)
    rejected = tuple(None if state == "ok" else Rejected(given, state, detail) for given, state, detail in columns)
    return ExactCodes(block("z"), noise, rejected, facts["model"], block("c") if "c0" in table.column_names else None)


def _check(codes: ExactCodes) -> None:
    """Refuse arrays that do not belong together.

    Raises:
        ValueError: says what is wrong.
    """
    noise, count = codes.noise, len(codes.latents)
    edits = len(noise.values)
    kinds = (noise.seeds.dtype.name, noise.offsets.dtype.name, noise.positions.dtype.name, noise.tokens.dtype.name)
    if codes.latents.ndim != 2 or kinds != ("uint64", "int64", "uint16", "uint16"):
        raise ValueError("arrays of other kinds")
    if codes.latents.dtype != np.float32 or noise.values.dtype != np.float32:
        raise ValueError("numbers of other kinds")
    shapes = (noise.seeds.shape, noise.offsets.shape, noise.positions.shape, noise.tokens.shape, noise.values.shape)
    if shapes != ((count,), (count + 1,), (edits,), (edits,), (edits,)):
        raise ValueError("arrays of other lengths")
    rising = noise.offsets[0] == 0 and noise.offsets[-1] == edits and (np.diff(noise.offsets) >= 0).all()
    if not rising or (noise.positions > LONGEST).any() or np.isnan(noise.values).any():
        raise ValueError("edits that make no sense")
    if not 0 < noise.temperature <= 100:
        raise ValueError(f"a temperature of {noise.temperature}")
