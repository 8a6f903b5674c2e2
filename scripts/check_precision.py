"""Show what half precision changes: figures in bfloat16 and float32, beside their spread over seeds.

    python scripts/check_precision.py sample -m druglike --reference held_out.smi.gz -n 3000
    python scripts/check_precision.py train DATASET --steps 1500

`sample` gives FCD of prior samples and exact reconstruction with the decoder in either precision; `train` trains a
small model in either precision from the same seeds and gives validation figures.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from molvae.benchmark.fcd import chemnet_statistics, frechet_distance
from molvae.config import build_config
from molvae.data.dataset import load_dataset
from molvae.data.table import read_smiles
from molvae.errors import MolvaeError
from molvae.generate.molecules import sample
from molvae.generate.reconstruction import reconstruct
from molvae.generate.sampling import DEFAULT, GREEDY
from molvae.generate.wanted import Wanted
from molvae.nn.checkpoint import load_model
from molvae.train.run import train_model

SMALL = {"embedding": 32, "encoder_hidden": 128, "decoder_hidden": 192, "decoder_layers": 1, "latent": 32}
Figures = dict[str, float]


def sampled(given: argparse.Namespace, precision: str) -> Iterator[Figures]:
    """Yield the figures of every sampling seed."""
    loaded = load_model(given.model, "cpu")
    smiles = read_smiles(given.reference)
    target = chemnet_statistics(smiles)
    asked = smiles[: given.n]
    for seed in range(given.seeds):
        bare = Wanted(properties=(), alerts=False)
        table = sample(loaded, given.n, replace(DEFAULT, precision=precision), bare, seed=seed)
        written = [str(one) for one in table["smiles"]]
        back = reconstruct(loaded, asked, options=replace(GREEDY, precision=precision), sampled=True, seed=seed)
        yield {"FCD": frechet_distance(chemnet_statistics(written), target), "unique": len(set(written)) / given.n,
               "exact (z drawn)": float(back["match"].mean())}  # fmt: skip


def trained(given: argparse.Namespace, precision: str) -> Iterator[Figures]:
    """Yield the validation figures of every training seed."""
    dataset = load_dataset(given.dataset)
    for seed in range(given.seeds):
        train = {"precision": precision, "max_steps": given.steps, "batch_size": 128, "lr": 2e-3, "threads": 1,
                 "validate_size": 1000}  # fmt: skip
        values = {"seed": seed, "model": SMALL, "train": train, "prior": {"kind": "normal"}}
        with tempfile.TemporaryDirectory() as folder:
            found = train_model(dataset, build_config(values), Path(folder), device="cpu").result.validation
        yield {"distortion": found.distortion, "rate": found.rate, "tokens right": found.token_accuracy}


def main() -> None:
    """Measure in both precisions and print one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("sample")
    one.add_argument("-m", "--model", default=None)
    one.add_argument("--reference", type=Path, required=True)
    one.add_argument("-n", type=int, default=3000)
    one.set_defaults(measure=sampled)
    two = verbs.add_parser("train")
    two.add_argument("dataset", type=Path)
    two.add_argument("--steps", type=int, default=1500)
    two.set_defaults(measure=trained)
    for verb in (one, two):
        verb.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[str, list[Figures]] = {}
    for precision in ("fp32", "bf16"):
        rows[precision] = []
        for figures in given.measure(given, precision):
            rows[precision].append(figures)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            sys.stderr.write(f"{precision} seed {len(rows[precision]) - 1}: {shown}\n")
    for name in rows["fp32"][0]:
        means = {precision: statistics.fmean(row[name] for row in found) for precision, found in rows.items()}
        spread = statistics.stdev(row[name] for row in rows["fp32"])
        sys.stdout.write(
            f"{name}: fp32 {means['fp32']:.4f}, bf16 {means['bf16']:.4f}, "
            f"difference {means['bf16'] - means['fp32']:+.4f}, spread over {given.seeds} seeds {spread:.4f}\n"
        )


if __name__ == "__main__":
    try:
        main()
    except MolvaeError as error:
        sys.exit(str(error))
