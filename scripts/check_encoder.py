"""Compare the compiled encoder with selfies.encoder, and its proofs with RDKit, on whole files of SMILES.

    python scripts/check_encoder.py moses/test.csv.gz zinc250k.smi.gz [--prove 10]

In: tables of SMILES, taken as they stand. Out: counts on standard output; the exit status is 1 when anything differs.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter

import selfies

from molvae.chem.encoder import as_texts, encode_chunk
from molvae.chem.rejected import Rejected
from molvae.chem.selfies import prove
from molvae.chem.standardize import standardize
from molvae.data.table import read_smiles

CHUNK = 400


def check(smiles: list[str], every: int) -> tuple[Counter[str], list[str]]:
    """Return counts, and the SMILES on which the two encoders differ or a proof does not hold."""
    counts: Counter[str] = Counter()
    wrong = []
    for start in range(0, len(smiles), CHUNK):
        chunk = smiles[start : start + CHUNK]
        for place, (text, encoded) in enumerate(zip(chunk, encode_chunk(chunk), strict=True), start):
            counts["left to selfies" if encoded is None else "proven" if encoded.proven else "given"] += 1
            if encoded is None:
                continue
            tokens = as_texts(encoded.codes)
            if "".join(tokens) != selfies.encoder(text):
                wrong.append(text)
            if encoded.proven and place % every == 0:
                standard = standardize(text)
                counts["proofs checked by RDKit"] += 1
                if isinstance(standard, Rejected) or isinstance(prove(standard.smiles, tokens), Rejected):
                    wrong.append(text)
    return counts, wrong


def main() -> int:
    """Check every file and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--prove", type=int, default=10, help="check one in so many proofs")
    options = parser.parse_args()
    failed = False
    for path in options.files:
        counts, wrong = check(read_smiles(path), options.prove)
        failed = failed or bool(wrong)
        sys.stdout.write(f"{path}: {dict(counts)}; different: {len(wrong)} {wrong[:5]}\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
