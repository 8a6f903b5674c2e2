"""Which measure tells real molecules, and those that pass the MOSES filters, from what a search makes up?

    python scripts/gate_benchmark.py RUN... --real molecules.smi -o gates.csv [-m druglike] [-n 80] [--best 300]

RUN are directories of `molvae optimize` or of `molvae benchmark pmo`; of the best molecules of each, as many that alert
and that pass are drawn, about n in all of either. Measures: nats of the decoder per token, the latent exploration score
along 8 directions and along all, the density of the code under N(0, I), the length. Writes every molecule with its
measures and prints areas under the ROC curve, .5 for chance.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from rdkit import Chem, RDLogger
from sklearn.metrics import roc_auc_score

from molvae.chem.alerts import moses_alerts
from molvae.generate.known import read_smiles
from molvae.nn.checkpoint import load_model
from molvae.optimize.gate import DIRECTIONS
from molvae.optimize.space import ModelSpace

REAL, PASSES, ALERTS = "real", "passes", "alerts"
MEASURES = ("nats", f"les{DIRECTIONS}", "les", "density", "length")
"""All the higher, the more familiar."""


def draw(runs: list[Path], real: Path, n: int, best: int, seed: int) -> pd.DataFrame:
    """Return about ``n`` molecules of each kind: kind, run, smiles."""
    chance = np.random.default_rng(seed)
    known = [one for one in read_smiles(str(real)) if one]
    rows = [(REAL, "", known[row]) for row in chance.choice(len(known), min(n, len(known)), replace=False)]
    share = -(-n // len(runs))
    for run in runs:
        table = pd.read_csv(run / "molecules.csv").dropna(subset="score").nlargest(best, "score")
        kinds: dict[str, list[str]] = {PASSES: [], ALERTS: []}
        for one in table["smiles"]:
            kinds[ALERTS if moses_alerts(Chem.MolFromSmiles(one)) else PASSES].append(one)
        for kind, found in kinds.items():
            rows += [(kind, run.name, one) for one in chance.permutation(found)[:share].tolist()]
    return pd.DataFrame(rows, columns=["kind", "run", "smiles"])


def measure(space: ModelSpace, smiles: list[str]) -> dict[str, np.ndarray]:
    """Return each of `MEASURES` of N molecules, (N,), and say what it cost."""
    how = {
        "nats": lambda: -space.nats(smiles),
        f"les{DIRECTIONS}": lambda: space.exploration(smiles, DIRECTIONS),
        "les": lambda: space.exploration(smiles, space.dimension),
        "density": lambda: -(space.encode(smiles).mean ** 2).sum(1) / 2,
        "length": lambda: -np.array([float(Chem.MolFromSmiles(one).GetNumHeavyAtoms()) for one in smiles]),
    }
    values = {}
    for name in MEASURES:
        began = time.process_time()
        values[name] = how[name]()
        print(f"{name}: {1e3 * (time.process_time() - began) / len(smiles):.3g} ms of CPU a molecule", flush=True)
    return values


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-m", "--model", default="druglike")
    parser.add_argument("-n", type=int, default=80)
    parser.add_argument("--best", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    table = draw(asked.runs, asked.real, asked.n, asked.best, asked.seed)
    for name, values in measure(ModelSpace(load_model(asked.model, "cpu")), table["smiles"].tolist()).items():
        table[name] = values
    table.to_csv(asked.output, index=False)
    read = table.dropna()
    print(f"{len(table) - len(read)} of {len(table)} cannot be read; left are {dict(read['kind'].value_counts())}")
    for name in MEASURES:
        areas = [
            roc_auc_score(pair["kind"] == good, pair[name])
            for good in (REAL, PASSES)
            for pair in [read[read["kind"].isin([good, ALERTS])]]
        ]
        print(f"{name:8} real against alerting {areas[0]:.3f}, passing against alerting {areas[1]:.3f}")
    print(f"wrote {asked.output}")


if __name__ == "__main__":
    main()
