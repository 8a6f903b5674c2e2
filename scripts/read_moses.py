"""Read the three MOSES splits out of the wheel of molsets 0.3.1, after checking its SHA-256; import nothing from it.

python scripts/read_moses.py molsets-0.3.1-py3-none-any.whl FOLDER
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

SHA256 = "7f4450e3ebecebe79c3a2a55950c93daddee071120daf64a163d03481e811d34"
SPLITS = ("train", "test", "test_scaffolds")


def main() -> None:
    """Write train.csv.gz, test.csv.gz and test_scaffolds.csv.gz into FOLDER."""
    wheel, folder = Path(sys.argv[1]), Path(sys.argv[2])
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{wheel} is not the expected file: SHA-256 {found}.\nDownload it again: pip download molsets==0.3.1")
    with zipfile.ZipFile(wheel) as archive:
        for split in SPLITS:
            target = folder / f"{split}.csv.gz"
            target.write_bytes(archive.read(f"moses/dataset/data/{split}.csv.gz"))
            sys.stdout.write(f"wrote {target}\n")


if __name__ == "__main__":
    main()
