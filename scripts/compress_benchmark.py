"""Bytes a molecule of `molvae compress` beside xz, zstd and bzip2 on the same lines, checked to come back exactly.

    python scripts/compress_benchmark.py test.csv.gz -n 10000 --seed 0

Also states what other codes under the same model would take, in bytes a molecule, on up to 500 of the lines: no latent
at all (z = 0), and the mean of q(z|x) rounded to a grid and sent under N(0, I), without bits back. The model itself,
which must be there to decompress, is counted nowhere and stated below.
"""

from __future__ import annotations

import argparse
import bz2
import lzma
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch

from molvae.chem.parallel import map_items
from molvae.data.batch import collate
from molvae.errors import MolvaeError
from molvae.generate.chemistry import Read, Readable
from molvae.generate.compress import compress, decompress
from molvae.generate.known import read_smiles
from molvae.nn.checkpoint import LoadedModel, load_model

GRIDS = (0.5, 1.0, 1.5, 2.0, 2.5)
OTHER_CODES = 500


def other_codes(loaded: LoadedModel, smiles: list[str]) -> dict[str, float]:
    """Return bytes a molecule of codes without bits back; a grid of width w costs -log of its cells under N(0, I)."""
    read = map_items(Read(loaded.vocabulary), smiles[:OTHER_CODES])
    batch = collate([np.array(result.token_ids) for result in read if isinstance(result, Readable)])
    model, normal = loaded.model, torch.distributions.Normal(0.0, 1.0)
    bytes_per_nat = 1 / math.log(2) / 8
    with torch.inference_mode():
        mean = model.encode(batch.tokens, batch.lengths).mean
        cond = model.unconditioned(len(mean))
        found = {"no latent": -model.decoder.log_prob(batch.tokens, torch.zeros_like(mean)[None], cond).mean().item()}
        for width in GRIDS:
            z = (mean / width).round() * width
            cells = normal.cdf(z + width / 2) - normal.cdf(z - width / 2)
            log_px = model.decoder.log_prob(batch.tokens, z[None], cond)
            found[f"mean on a grid of {width}"] = -(cells.clamp_min(1e-12).log().sum(1) + log_px).mean().item()
    return {name: nats * bytes_per_nat for name, nats in found.items()}


def zstd(data: bytes) -> int | None:
    """Return the size under zstd -19, None when the package is not there."""
    try:
        import zstandard
    except ImportError:
        return None
    return len(zstandard.ZstdCompressor(level=19).compress(data))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("molecules", type=Path)
    parser.add_argument("-m", "--model")
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--foreign", type=Path, help="lines to mix in, such as molecules outside the vocabulary")
    given = parser.parse_args()
    torch.set_num_threads(1)
    everything = read_smiles(given.molecules)
    rows = np.random.default_rng(given.seed).permutation(len(everything))[: given.n]
    smiles = [everything[row] for row in rows]
    lines = [*smiles, *(read_smiles(given.foreign) if given.foreign else [])]
    data = ("\n".join(lines) + "\n").encode()
    loaded = load_model(given.model, "cpu")
    began = time.process_time()
    result = compress(loaded, data, verify=False)
    between = time.process_time()
    exact = decompress(loaded, result.content) == data
    ended = time.process_time()
    weights = (loaded.directory / "model.safetensors").stat().st_size
    sizes = {"as it is": len(data), "bzip2 -9": len(bz2.compress(data, 9)), "xz -9": len(lzma.compress(data, preset=9)),
             "xz -9e": len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)), "zstd -19": zstd(data),
             "molvae compress": len(result.content)}  # fmt: skip
    say = sys.stdout.write
    say(f"{len(lines):,} lines, {result.by_model:,} by the model, seed {given.seed}; exact: {exact}\n\n")
    say("| code | bytes | bytes a line |\n|---|---|---|\n")
    for name, size in sizes.items():
        say(f"| {name} | {size:,} | {size / len(lines):.2f} |\n" if size else f"| {name} | not installed | |\n")
    for name, each in other_codes(loaded, smiles).items():
        say(f"| (estimate) {name} | | {each:.2f} |\n")
    seconds = f"{between - began:.0f} s to compress, {ended - between:.0f} s to decompress"
    say(f"\nthe model: {weights:,} bytes of weights, not counted; CPU time {seconds}\n")


if __name__ == "__main__":
    try:
        main()
    except MolvaeError as error:
        sys.exit(str(error))
