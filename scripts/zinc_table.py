"""Say how a model does on molecules of one file: both protocols of reconstruction, and FCD of its samples against them.

    python scripts/zinc_table.py zinc_test.smi.gz --real zinc250k.smi.gz -m druglike [-n 5000] [--seed 0] [-o OUT.json]

FCD is between n samples of the model, as it suggests sampling, and the molecules of the file. The floor beside it is
that of n molecules of --real that are not in the file. The file should hold molecules that the model never saw, such as
the 5,000 of ZINC250k that scripts/druglike_data.py puts aside.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molvae.benchmark.fcd import chemnet_statistics, frechet_distance
from molvae.benchmark.held_out import held_out
from molvae.benchmark.protocols import reconstruct_greedily, reconstruct_sampled
from molvae.chem.standardize import standardize
from molvae.cli.molecules import read_smiles
from molvae.data.batch import collate
from molvae.generate.molecules import sample
from molvae.generate.wanted import Wanted
from molvae.nn.checkpoint import LoadedModel, load_model
from molvae.nn.distributions import DiagonalNormal


def reconstruction(loaded: LoadedModel, file: str, n: int, seed: int, workers: int | None) -> dict[str, Any]:
    """Return the shares that come back, of molecules the model can read and of all, by both protocols."""
    molecules = held_out(loaded, file, None, n, seed, workers)
    posterior = _encode(loaded, molecules.token_ids)
    greedy = reconstruct_greedily(loaded, molecules, posterior.mean, workers)
    sampled = reconstruct_sampled(loaded, molecules, posterior, (3, 3), seed, workers)
    readable = len(molecules) / molecules.asked
    shares = {"greedy": greedy, "sampled, 3 encodings x 3 decodings": sampled}
    of_all = {what: {name: share * readable for name, share in found.items()} for what, found in shares.items()}
    return {"asked": molecules.asked, "readable": readable, **of_all}


@torch.inference_mode()
def _encode(loaded: LoadedModel, token_ids: Any) -> DiagonalNormal:
    parts = []
    for start in range(0, len(token_ids), 250):
        batch = collate([np.array(row, dtype=np.int64) for row in token_ids[start : start + 250]])
        parts.append(loaded.model.encode(batch.tokens.to(loaded.model.device), batch.lengths.to(loaded.model.device)))
    return DiagonalNormal(torch.cat([one.mean for one in parts]), torch.cat([one.log_std for one in parts]))


def canonical(smiles: str) -> str | None:
    """Return the form in which the model writes a molecule, None where it is none."""
    return getattr(standardize(smiles), "smiles", None)


def samples(loaded: LoadedModel, file: str, real: str, n: int, seed: int, workers: int | None) -> dict[str, Any]:
    """Return FCD and validity of ``n`` samples, and the floor of ``n`` real molecules."""
    asked = [one for one in map(canonical, read_smiles(file)) if one]
    known = frozenset(asked)
    others = [one for one in map(canonical, read_smiles(real)) if one and one not in known]
    picked = np.random.default_rng(seed).permutation(len(others))[:n]
    table = sample(loaded, n, wanted=Wanted(properties=(), alerts=False), seed=seed, workers=workers)
    target = chemnet_statistics(asked)
    counts = table.attrs["counts"]
    return {
        "n": len(table), "reference": len(asked), "validity": len(table) / counts["drawn"] if counts["drawn"] else None,
        "unique": table["smiles"].nunique() / len(table),
        "fcd": frechet_distance(chemnet_statistics(table["smiles"].tolist()), target),
        "fcd_floor": frechet_distance(chemnet_statistics([others[row] for row in picked]), target),
    }  # fmt: skip


def main() -> None:
    """Measure, print, and write where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--real", required=True)
    parser.add_argument("-m", "--model", default="druglike")
    parser.add_argument("-n", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    loaded = load_model(given.model)
    began = time.process_time()
    found: dict[str, Any] = {"model": loaded.directory.name, "seed": given.seed}
    found["reconstruction"] = reconstruction(loaded, given.file, given.n, given.seed, given.workers)
    print(json.dumps(found["reconstruction"], indent=1), file=sys.stderr, flush=True)
    found["samples"] = samples(loaded, given.file, given.real, given.n, given.seed, given.workers)
    found["cpu_seconds"] = round(time.process_time() - began)
    print(json.dumps(found, indent=1))
    if given.output:
        given.output.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        print(f"wrote {given.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
