"""How well does a model's score tell MOSES test molecules from four kinds of outsiders?

    python scripts/anomaly_benchmark.py --train train.csv.gz --test test.csv.gz -n 500 --features features.csv

Prints the AUROC of several scores of the model, of the nearest neighbour's Tanimoto similarity and of an isolation
forest on fingerprints, each against the same molecules. A molecule with a token that the model lacks cannot be scored;
its score is infinite, so that such molecules are found without doubt and without merit.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from outsiders import outsiders
from sklearn.ensemble import IsolationForest

from molvae.chem.fingerprints import morgan
from molvae.data.vocabulary import SPECIALS
from molvae.errors import MolvaeError
from molvae.generate.anomaly import nearest, score
from molvae.generate.known import read_smiles
from molvae.nn.checkpoint import load_model

ORDINARY = "MOSES test"
FOREST = {"n_estimators": 200, "random_state": 0}


def auroc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """Return the chance that one of ``outside`` has a higher score than one of ``inside``; ties count half.

    >>> auroc(np.array([0.0, 1.0]), np.array([1.0, np.inf]))
    0.875
    """
    ranks = pd.Series(np.concatenate([inside, outside])).rank().to_numpy()
    pairs = len(inside) * len(outside)
    return float((ranks[len(inside) :].sum() - len(outside) * (len(outside) + 1) / 2) / pairs)


def features(smiles: list[str], model: str | None, samples: int) -> pd.DataFrame:
    """Return what the model says of each molecule, infinite where it cannot read it."""
    table = score(load_model(model, "cpu"), smiles, samples=samples)
    atoms = [[float(value) for value in str(text).split()] for text in table["atom_nats"]]
    table["token_nats"] = [sum(values) if values else np.inf for values in atoms]
    table["worst_atom"] = [max(values) if values else np.inf for values in atoms]
    table["tokens"] = (table["nats"] / table["nats_per_token"]).fillna(0)
    columns = ["smiles", "state", "nats", "nats_per_token", "latent_cost", "latent_distance", "token_nats",
               "worst_atom", "tokens"]  # fmt: skip
    return table[columns].fillna({"latent_cost": np.inf, "latent_distance": np.inf})


def model_scores(table: pd.DataFrame, train: pd.DataFrame) -> pd.DataFrame:
    """Return one column per way of turning the model's numbers into a score; higher is odder.

    ``train`` gives the means, spreads and the line of nats over tokens that some of them need.
    """
    slope, middle = np.polyfit(train["tokens"], train["nats"], 1)
    scores = pd.DataFrame(
        {
            "nats": table["nats"],
            "nats per token": table["nats_per_token"],
            "|nats - mean|": (table["nats"] - train["nats"].mean()).abs(),
            "nats above the line over tokens": table["nats"] - slope * table["tokens"] - middle,
            "nats of tokens given z": table["token_nats"],
            "worst atom": table["worst_atom"],
            "latent cost": table["latent_cost"],
            "latent distance": table["latent_distance"],
        }
    )
    spread = {name: (table[name] - train[name].mean()) / train[name].std() for name in ("nats", "worst_atom")}
    scores["nats + worst atom, standardised"] = spread["nats"] + spread["worst_atom"]
    return scores


def baselines(smiles: list[str], train: list[str], forest_size: int) -> pd.DataFrame:
    """Return the scores of the two baselines."""
    bits = {name: np.unpackbits(morgan(some), axis=1) for name, some in (("all", smiles), ("fit", train[:forest_size]))}
    forest = IsolationForest(**FOREST).fit(bits["fit"])
    return pd.DataFrame(
        {
            f"nearest of {len(train):,}: 1 - Tanimoto": 1 - nearest(smiles, train)[1],
            f"isolation forest on {forest_size:,}": -forest.score_samples(bits["all"]),
        }
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("-m", "--model")
    parser.add_argument("-n", type=int, default=500)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--neighbors", type=int, default=20_000)
    parser.add_argument("--forest", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", type=Path, help="write every molecule and its scores here")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(given.seed)
    test, train = read_smiles(given.test), read_smiles(given.train)
    picked = [test[row] for row in rng.choice(len(test), 2 * given.n, replace=False)]
    inside, source = picked[: given.n], picked[given.n :]
    tokens = load_model(given.model, "cpu").vocabulary.tokens[len(SPECIALS) :]
    known = frozenset(train) | frozenset(test)
    groups = {ORDINARY: inside, **outsiders(source, tokens, known, given.n, given.seed)}
    some = [train[row] for row in rng.choice(len(train), given.neighbors, replace=False)]
    everything = [smiles for group in groups.values() for smiles in group]
    table = features([*everything, *some[: given.n]], given.model, given.samples)
    reference = table.iloc[len(everything) :]
    scores = model_scores(table.iloc[: len(everything)], reference)
    scores = pd.concat([scores, baselines(everything, some, given.forest)], axis=1)
    kinds = np.repeat(list(groups), given.n)
    if given.features:
        columns = [pd.Series(kinds, name="kind"), table.iloc[: len(everything)], scores.add_prefix("score: ")]
        pd.concat(columns, axis=1).to_csv(given.features, index=False)
    sys.stdout.write(report(scores, kinds, table["state"][: len(everything)].to_numpy(), given.n))


def report(scores: pd.DataFrame, kinds: NDArray[np.str_], states: NDArray[np.str_], n: int) -> str:
    """Return the table of AUROCs as Markdown."""
    outside = [kind for kind in dict.fromkeys(kinds.tolist()) if kind != ORDINARY]
    lines = [f"AUROC, {n} molecules of {ORDINARY} against {n} of each kind", ""]
    lines += [f"| score | {' | '.join(outside)} | mean |", "|---|" + "---|" * (len(outside) + 1)]
    for name in scores.columns:
        values = scores[name].to_numpy(dtype=np.float64)
        found = [auroc(values[kinds == ORDINARY], values[kinds == kind]) for kind in outside]
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in found)} | {np.mean(found):.3f} |")
    unread = [f"{(states[kinds == kind] != 'ok').sum()} of {kind}" for kind in (ORDINARY, *outside)]
    return "\n".join([*lines, "", f"cannot be read by the model: {', '.join(unread)}", ""])


if __name__ == "__main__":
    try:
        main()
    except MolvaeError as error:
        sys.exit(str(error))
