"""Time the codec against selfies.decoder, and checked writing against RDKit alone, in CPU time of one core.

python scripts/bench/codec.py test.csv.gz zinc250k.smi.gz

In: files of SMILES, from each of which 20,000 molecules are drawn. Out: molecules a second, medians of five rounds in
which everything is timed in turn, so that a busy machine treats all alike.

``decode`` starts from token ids: selfies.decoder must first join the tokens. ``write`` is what generation does, in this
process, from token ids to checked canonical SMILES; ``RDKit alone`` is MolFromSmiles and MolToSmiles
on the SMILES that the same ids decode to.
"""

from __future__ import annotations

import argparse
import gzip
import random
import statistics
import sys
import time
from collections.abc import Callable
from itertools import accumulate, chain
from pathlib import Path

import numpy as np
import selfies
from rdkit import Chem

from molvae.chem import codec as codec_module
from molvae.chem.rejected import Rejected
from molvae.chem.selfies import encode
from molvae.chem.standardize import standardize
from molvae.data.vocabulary import Vocabulary
from molvae.generate.chemistry import Write, codec_of

ROUNDS = 5
CHUNK = 64


def read_tokens(path: Path, n: int, seed: int) -> list[tuple[str, ...]]:
    """Return the tokens of ``n`` molecules drawn from a file; what cannot be encoded is left out."""
    with gzip.open(path, "rt") as handle:
        lines = [line.replace(",", " ").split()[0] for line in handle]
    rows = []
    for text in random.Random(seed).sample(lines[1:], min(n, len(lines) - 1)):
        standard = standardize(text)
        tokens = None if isinstance(standard, Rejected) else encode(standard.smiles)
        if isinstance(tokens, tuple):
            rows.append(tokens)
    return rows


def time_all(jobs: dict[str, Callable[[], object]], n: int) -> dict[str, float]:
    """Return the median rate of each job over ``n`` molecules, in 1/s of CPU time."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            began = time.process_time()
            job()
            seconds[name].append(time.process_time() - began)
    return {name: n / statistics.median(times) for name, times in seconds.items()}


def measure(rows: list[tuple[str, ...]]) -> dict[str, float]:
    """Time every way to decode and to check ``rows``."""
    vocabulary = Vocabulary.from_tokens(chain.from_iterable(rows))
    codec, tokens, write = codec_of(vocabulary), vocabulary.tokens, Write(vocabulary)
    ids = [tuple(vocabulary.encode(row) or ()) for row in rows]
    flat = np.fromiter(chain.from_iterable(ids), dtype=np.uint16)
    offsets = np.array(list(accumulate(map(len, ids), initial=0)))
    items = [(row, True) for row in ids]
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    smiles = codec.decode_many(flat, offsets)

    def decode(compile_after: int) -> None:
        codec_module.COMPILE_AFTER = compile_after
        codec.decode_many(flat, offsets)

    def check(compile_after: int) -> None:
        codec_module.COMPILE_AFTER = compile_after
        for chunk in chunks:
            list(map(write.judge, write.translate(chunk)))

    return time_all(
        {
            "decode, selfies.decoder": lambda: [selfies.decoder("".join([tokens[i] for i in row])) for row in ids],
            "decode, plain tables": lambda: decode(sys.maxsize),
            "decode, compiled": lambda: decode(0),
            "RDKit alone": lambda: [Chem.MolToSmiles(Chem.MolFromSmiles(text)) for text in smiles],
            "write, plain tables": lambda: check(sys.maxsize),
            "write, compiled": lambda: check(0),
        },
        len(rows),
    )


def main() -> None:
    """Measure each file and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("-n", type=int, default=20_000, help="molecules of each file")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for path in arguments.files:
        rows = read_tokens(path, arguments.n, arguments.seed)
        rates = measure(rows)
        sys.stdout.write(f"{path.name}, {len(rows)} molecules\n")
        for name, rate in rates.items():
            base = "decode, selfies.decoder" if name.startswith("decode") else "RDKit alone"
            sys.stdout.write(f"  {name:<26}{rate:>12,.0f}/s  {rate / rates[base]:>8.2f} of {base}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
