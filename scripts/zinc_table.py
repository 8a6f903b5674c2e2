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

from molvae.benchmark.evaluation import Settings, evaluate_model
from molvae.benchmark.fcd import chemnet_statistics, frechet_distance
from molvae.benchmark.held_out import held_out
from molvae.generate.known import load_known
from molvae.generate.molecules import sample
from molvae.generate.wanted import Wanted
from molvae.nn.checkpoint import LoadedModel, load_model


def reconstruction(loaded: LoadedModel, file: str, n: int, seed: int, workers: int | None) -> dict[str, Any]:
    """Return the shares of all molecules that come back, by both protocols."""
    molecules = held_out(loaded, file, None, n, seed, workers)
    found = evaluate_model(loaded, molecules, Settings(samples=1, seed=seed), workers)["reconstruction"]
    readable = len(molecules) / molecules.asked
    shares = {what: {name: share * readable for name, share in one.items()} for what, one in found.items()}
    return {"asked": molecules.asked, "readable": readable, **shares}


def samples(loaded: LoadedModel, file: Path, real: Path, n: int, seed: int, workers: int | None) -> dict[str, Any]:
    """Return FCD and validity of ``n`` samples, and the floor of ``n`` real molecules."""
    asked = load_known(file)
    others = sorted(load_known(real) - asked)
    picked = np.random.default_rng(seed).permutation(len(others))[:n]
    table = sample(loaded, n, wanted=Wanted(properties=(), alerts=False), seed=seed, workers=workers)
    target = chemnet_statistics(sorted(asked))
    counts = table.attrs["counts"]
    return {
        "n": len(table), "reference": len(asked), "validity": counts["ok"] / max(1, counts["drawn"]),
        "unique": table["smiles"].nunique() / len(table),
        "fcd": frechet_distance(chemnet_statistics(table["smiles"].tolist()), target),
        "fcd_floor": frechet_distance(chemnet_statistics([others[row] for row in picked]), target),
    }  # fmt: skip


def main() -> None:
    """Measure, print, and write where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--real", type=Path, required=True)
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
    found["samples"] = samples(loaded, Path(given.file), given.real, given.n, given.seed, given.workers)
    found["cpu_seconds"] = round(time.process_time() - began)
    print(json.dumps(found, indent=1))
    if given.output:
        given.output.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        print(f"wrote {given.output}", file=sys.stderr)


if __name__ == "__main__":
    main()
