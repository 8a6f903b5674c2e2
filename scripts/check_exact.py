"""Encode a file of molecules exactly, decode the codes in another order and other batches, and count what comes back.

python scripts/check_exact.py moses:test -m moses [-n 0] [--seed 0] [--batch-size 512] [--workers 1] [--minutes 0]

``-n`` molecules are drawn from the file, 0 takes all of them, in order. With ``--minutes`` it stops after so many, and
says how far it came. Codes go through a file between the two directions. Exit code 1 when a molecule that the model can
read does not come back.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from molvae.chem.standardize import standardize
from molvae.cli.molecules import read_smiles
from molvae.generate.exact import decode_exact, encode_exact
from molvae.generate.exact_files import read_codes, write_codes
from molvae.nn.checkpoint import LoadedModel, load_model

CHUNK = 4000
OTHER_BATCH = 177


def round_trip(loaded: LoadedModel, smiles: list[str], options: argparse.Namespace, counts: Counter[str]) -> None:
    """Send molecules there and back and count what became of them, edits and seconds of this process included."""
    began = time.process_time()
    codes = encode_exact(loaded, smiles, batch_size=options.batch_size, workers=options.workers)
    counts["encode ms"] += round(1000 * (time.process_time() - began))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "codes.npz"
        write_codes(path, codes)
        counts["bytes"] += path.stat().st_size
        codes = read_codes(path)
    counts["edits"] += len(codes.noise.values)
    order = np.random.default_rng(options.seed).permutation(len(smiles))
    began = time.process_time()
    decoded = decode_exact(loaded, codes.take(order), batch_size=OTHER_BATCH, workers=options.workers)
    counts["decode ms"] += round(1000 * (time.process_time() - began))
    back = dict(zip(order.tolist(), decoded, strict=True))
    for row, given in enumerate(smiles):
        why = codes.rejected[row]
        canonical = getattr(standardize(given), "smiles", None)
        if why is not None:
            counts[f"refused: {why.reason}"] += 1
            counts["changed reason"] += back[row].state != why.reason
        else:
            counts["back" if back[row].smiles == canonical else "LOST"] += 1


def main() -> None:
    """Count, print, and say by the exit code whether all came back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("molecules", help="a file of SMILES, or a named split such as moses:test")
    parser.add_argument("-m", "--model", help="model directory or name")
    parser.add_argument("-n", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded, smiles = load_model(options.model), read_smiles(options.molecules, None)
    if options.n:
        rows = np.random.default_rng(options.seed).choice(len(smiles), options.n, replace=False)
        smiles = [smiles[row] for row in rows]
    counts: Counter[str] = Counter()
    began, done = time.monotonic(), 0
    for start in range(0, len(smiles), CHUNK):
        part = smiles[start : start + CHUNK]
        round_trip(loaded, part, options, counts)
        done += len(part)
        print(f"{done:,} of {len(smiles):,}: {dict(counts)}", flush=True)
        if options.minutes and time.monotonic() - began > 60 * options.minutes:
            break
    good = counts["back"] + counts["LOST"]
    for verb in ("encode", "decode"):
        print(f"{verb}: {1000 * done / max(counts[f'{verb} ms'], 1):,.0f} molecules a second of CPU time")
    print(f"{counts['bytes'] / done:.0f} bytes and {counts['edits'] / max(good, 1):.2f} edits a molecule")
    print(f"{counts['back']:,} of {good:,} readable molecules came back ({100 * counts['back'] / max(good, 1):.4f} %)")
    sys.exit(bool(counts["LOST"] or counts["changed reason"]))


if __name__ == "__main__":
    main()
