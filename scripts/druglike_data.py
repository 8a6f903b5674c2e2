"""Mix MOSES and ZINC250k into one training file, and hold out molecules that it must never see.

    python scripts/druglike_data.py MOSES_TRAIN.csv.gz MOSES_TEST.csv.gz ZINC.smi.gz OUT

Writes OUT/train.smi.gz; OUT/zinc_test.smi.gz, 5,000 molecules of ZINC250k; and OUT/held_out.smi.gz, 10,000 molecules
in the training file's own proportions (of the 5,000 and of the MOSES test split). A molecule held out is taken out of
the training file wherever it stands, compared by RDKit's canonical SMILES.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
from rdkit import Chem, RDLogger

ZINC_TEST, HELD_OUT = 5_000, 10_000


def read_smiles(path: Path) -> list[str]:
    """Return the first column of a gzipped file, without its header when there is one."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [line.replace(",", " ").split()[0] for line in stream if line.strip()]
    return rows[1:] if rows and rows[0].lower() == "smiles" else rows


def canonical(smiles: str) -> str:
    """Return RDKit's canonical SMILES, or the text itself when it cannot be read."""
    mol = Chem.MolFromSmiles(smiles)
    return smiles if mol is None else str(Chem.MolToSmiles(mol))


def write_smiles(path: Path, smiles: list[str]) -> None:
    """Write one SMILES a line, gzipped with no time stamp, so that equal content is an equal file."""
    path.write_bytes(gzip.compress(("\n".join(smiles) + "\n").encode(), mtime=0))
    print(f"wrote {path}: {len(smiles):,} molecules")


def main() -> None:
    """Read, hold out, mix, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("moses", "moses_test", "zinc", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--share", type=float, default=2.0, help="MOSES molecules for each one of ZINC250k; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    rng = np.random.default_rng(given.seed)
    zinc = read_smiles(given.zinc)
    zinc = [zinc[i] for i in rng.permutation(len(zinc))]
    zinc_test, zinc = zinc[:ZINC_TEST], zinc[ZINC_TEST:]
    moses = read_smiles(given.moses)
    wanted = min(len(moses), round(given.share * len(zinc))) if given.share else len(moses)
    moses = [moses[i] for i in np.sort(rng.permutation(len(moses))[:wanted])]
    from_zinc = min(len(zinc_test), round(HELD_OUT * len(zinc) / (len(zinc) + len(moses))))
    moses_test = read_smiles(given.moses_test)
    picked = rng.permutation(len(moses_test))[: HELD_OUT - from_zinc]
    held_out = zinc_test[:from_zinc] + [moses_test[i] for i in picked]
    forbidden = set(map(canonical, zinc_test + held_out)) | set(zinc_test) | set(held_out)
    # MOSES is written canonically; ZINC250k is not quite, so each of its rows is canonicalised before the comparison.
    kept = [s for s in moses if s not in forbidden] + [s for s in zinc if canonical(s) not in forbidden]
    print(f"{len(moses) + len(zinc) - len(kept):,} training rows are held out elsewhere and left out")
    given.output.mkdir(parents=True, exist_ok=True)
    write_smiles(given.output / "train.smi.gz", [kept[i] for i in rng.permutation(len(kept))])
    write_smiles(given.output / "zinc_test.smi.gz", zinc_test)
    write_smiles(given.output / "held_out.smi.gz", held_out)


if __name__ == "__main__":
    main()
