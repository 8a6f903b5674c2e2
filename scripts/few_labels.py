"""How well can a property be predicted when 300, 1,000 or 10,000 of 250,000 molecules have a label?

    python scripts/few_labels.py --train train.csv.gz --test test.csv.gz -m moses -o few_labels

Molecules are drawn from the two files by the seed, labels are computed, and of the labelled rows every method keeps a
tenth aside to stretch its 90 % intervals by. Compared on held-out molecules:

    latents    a Gaussian process on the codes of a model that was trained without these labels (-m)
    forest     a random forest on Morgan fingerprints of the labelled rows
    alone      a small ss_vae trained on the labelled rows alone: its own head, and a process on its codes
    semi       the same network, steps and seed on all molecules, the other labels missing: its own head, and a process

In `semi` labelled rows are repeated until they make up --share of all; else a head would meet one in 833. Properties
are RDKit descriptors or tasks of `molvae optimize --list-oracles`; those that molvae computes itself are refused, since
the shipped models were trained with some of them. Models and figures that are there are kept, so that the same command
goes on; with other settings than before, give another output.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import Descriptors
from sklearn.ensemble import RandomForestRegressor
from stored_rows import add_missing

from molvae.benchmark.head_check import FEATURES
from molvae.chem.fingerprints import morgan
from molvae.chem.properties import PROPERTIES
from molvae.config import Config, build_config
from molvae.data.dataset import SPLITS, Dataset, PropertyInfo, load_dataset
from molvae.data.prepare import PrepareOptions, prepare
from molvae.data.splits import Splitter
from molvae.errors import InputError, MolvaeError
from molvae.generate.known import read_smiles
from molvae.generate.latents import encode_smiles
from molvae.generate.predict import Predictor
from molvae.nn.checkpoint import LoadedModel, load_model
from molvae.nn.gaussian_process import STARTS, fit_process
from molvae.optimize.tasks import TASK_NAMES, score
from molvae.train.run import train_model

Values = NDArray[np.float64]
Rows = NDArray[np.int64]
Prediction = tuple[Values, Values]
"""Means and standard deviations."""
KEYS = ("property", "labels", "draw", "method")
METHODS = ("latents", "forest", "alone: head", "alone: process", "semi: head", "semi: process")
COLORS = ("#0072B2", "#5b6673", "#E69F00", "#D55E00", "#56B4E9", "#009E73")
NETWORK = {"embedding": 32, "encoder_hidden": 96, "decoder_hidden": 192, "decoder_layers": 1, "latent": 64,
           "head_hidden": 64}  # fmt: skip
MANY = 2000
"""Labelled rows from which a process is fitted from one start of its length scale, and a forest has fewer trees."""
TREES, FEWER_TREES = 200, 50
KEPT = 0.1
"""Share of the labelled rows that intervals are stretched by."""


@dataclass(frozen=True)
class Row:
    """One figure of the output; ``seconds`` are of CPU, training of a network counted with its head."""

    property: str
    labels: int
    draw: int
    method: str
    tested: int
    r2: float
    mae: float
    coverage_90: float
    half_width_90: float
    seconds: float


def labels_of(name: str, smiles: Sequence[str]) -> Values:
    """Return the property (N,) of molecules."""
    if name in TASK_NAMES:
        return score(name, smiles)
    function = dict(Descriptors.descList)[name]
    return np.array([function(Chem.MolFromSmiles(one)) for one in smiles], dtype=np.float64)


def check_property(name: str) -> None:
    """Refuse what cannot be computed here, or what the shipped models may have been trained with.

    Raises:
        InputError: says which.
    """
    known = dict(Descriptors.descList)
    if name not in TASK_NAMES and name not in known:
        raise InputError(f"{name} is neither a task nor a descriptor of RDKit.", "Give one such as BertzCT or median2.")
    if name.lower() in PROPERTIES or name in ("MolLogP", "MolWt", "ExactMolWt", "HeavyAtomMolWt", "TPSA"):
        raise InputError(f"The shipped models may have been trained with {name}.", "Give another property.")


def judge(kept: Prediction, kept_values: Values, found: Prediction, values: Values) -> tuple[float, ...]:
    """Return R2, MAE, coverage and mean half width of 90 % intervals that hold 90 % of the rows kept aside.

    >>> ones = np.ones(20)
    >>> judge((0 * ones, ones), ones, (0 * ones, ones), np.array([0.5, -0.5] * 10))
    (0.0, 0.5, 1.0, 1.0)
    """
    misses = np.abs(kept_values - kept[0]) / kept[1]
    # One more than there are, as in conformal prediction: few rows would promise too much.
    factor = np.quantile(misses, min(1.0, 0.9 * (len(misses) + 1) / len(misses)))
    error = np.abs(values - found[0])
    r2 = 1 - np.square(error).sum() / np.square(values - values.mean()).sum()
    width = factor * found[1]
    return float(r2), float(error.mean()), float((error <= width).mean()), float(width.mean())


def process_on(
    z: NDArray[np.float32], values: Values, others: Sequence[NDArray[np.float32]], seed: int
) -> Iterator[Prediction]:
    """Fit a Gaussian process to latents ``z`` (N, D) and yield what it says of each of ``others``."""
    generator = torch.Generator().manual_seed(seed)
    lengths = STARTS if len(z) <= MANY else (1.0,)
    process = fit_process(torch.from_numpy(z), torch.from_numpy(values), generator, lengths=lengths)
    with torch.no_grad():
        for other in others:
            mean, std = process(torch.from_numpy(other))
            yield mean.numpy(), std.numpy()


def forest_on(
    bits: NDArray[np.uint8], values: Values, others: Sequence[NDArray[np.uint8]], seed: int
) -> Iterator[Prediction]:
    """Fit a forest to fingerprints (N, F) and yield what it says of each of ``others``; all intervals are as wide."""
    occur = bits.any(0)
    trees = TREES if len(bits) <= MANY else FEWER_TREES
    forest = RandomForestRegressor(trees, max_features=FEATURES, random_state=seed, n_jobs=1)
    forest.fit(bits[:, occur], values)
    for other in others:
        mean = forest.predict(other[:, occur])
        yield mean, np.ones(len(mean))


def take(dataset: Dataset, rows: Rows, properties: NDArray[np.float32], names: Sequence[str], kept: Rows) -> Dataset:
    """Return the molecules ``rows`` of a dataset, in that order and as often, with other properties.

    Args:
        properties: of the whole dataset, (N, P), NaN where missing.
        kept: rows that go to the validation split; all others are for training.
    """
    chosen = properties[rows]
    seen = properties[np.setdiff1d(np.unique(rows), kept)]
    info = []
    for name, column in zip(names, seen.T, strict=True):
        known = column[~np.isnan(column)].astype(np.float64)
        info.append(PropertyInfo(name, known.mean(), known.std(), known.min(), known.max(), len(known)))
    split = np.where(np.isin(rows, kept), SPLITS["valid"], SPLITS["train"]).astype(np.uint8)
    lengths = dataset.lengths[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    # The place of each token: the start of its molecule, and how far it is from there.
    places = np.repeat(dataset.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
    return dataclasses.replace(
        dataset, tokens=np.asarray(dataset.tokens)[places], offsets=offsets, split=split, properties=chosen,
        property_info=tuple(info),
    )  # fmt: skip


class Study:
    """The molecules of one seed, and everything that is computed of them once.

    Args:
        setting: what the command line gives, see `read_arguments`.
    """

    def __init__(self, setting: argparse.Namespace) -> None:
        self.setting = setting
        directory = setting.output / "dataset"
        if not (directory / "manifest.json").exists():
            smiles = read_smiles(setting.train)
            rows = np.random.default_rng(setting.seed).permutation(len(smiles))[: setting.molecules]
            table = setting.output / "molecules.csv"
            pd.DataFrame({"smiles": [smiles[row] for row in rows]}).to_csv(table, index=False)
            nothing_held_out = Splitter(valid=0, test=0)
            options = PrepareOptions(properties=(), columns=(), splitter=nothing_held_out, workers=setting.workers)
            prepare([str(table)], directory, options)
        self.dataset = load_dataset(directory)
        column = pyarrow.parquet.read_table(directory / "molecules.parquet", columns=["smiles"])["smiles"]
        self.smiles: list[str] = column.to_pylist()
        held_out = read_smiles(setting.test)
        rows = np.random.default_rng(setting.seed + 1).permutation(len(held_out))[: setting.tested]
        self.test = [held_out[row] for row in rows]
        self._values: dict[tuple[str, int], float] = {}

    @cached_property
    def test_values(self) -> NDArray[np.float64]:
        """(N, P) of the held-out molecules."""
        return np.stack([labels_of(name, self.test) for name in self.setting.properties], axis=1)

    @cached_property
    def test_bits(self) -> NDArray[np.uint8]:
        """Fingerprints (N, F) of the held-out molecules."""
        return self.bits(self.test)

    def bits(self, smiles: Sequence[str]) -> NDArray[np.uint8]:
        """Return fingerprints, (N, F) of 0 and 1."""
        return np.unpackbits(morgan(list(smiles), workers=self.setting.workers), axis=1)

    def latents(self, loaded: LoadedModel, smiles: Sequence[str]) -> NDArray[np.float32]:
        """Return codes (N, D); 0 for a molecule that the model cannot read."""
        return np.nan_to_num(encode_smiles(loaded, smiles, workers=self.setting.workers).latents)

    def labelled(self, labels: int, draw: int) -> tuple[Rows, Rows]:
        """Return the labelled rows to fit to, and those kept aside; more labels hold those of fewer."""
        order = np.random.default_rng((self.setting.seed, draw)).permutation(len(self.smiles))[:labels]
        kept = np.arange(labels) % round(1 / KEPT) == 0
        return order[~kept], order[kept]

    def values(self, name: str, rows: Rows) -> Values:
        """Return labels (n,) of rows of the dataset."""
        missing = [row for row in rows.tolist() if (name, row) not in self._values]
        found = labels_of(name, [self.smiles[row] for row in missing])
        self._values |= {(name, row): float(value) for row, value in zip(missing, found, strict=True)}
        return np.array([self._values[name, row] for row in rows.tolist()])

    def network(self, kind: str, labels: int, draw: int) -> tuple[LoadedModel, float]:
        """Return the network trained on the labelled rows ``alone``, or on all (``semi``), and the CPU time it took."""
        setting, directory = self.setting, self.setting.output / "models" / f"{kind}-{labels}-{draw}"
        began = time.process_time()
        if not (directory / "manifest.json").exists():
            fitted, kept = self.labelled(labels, draw)
            both = np.concatenate([fitted, kept])
            properties = np.full((len(self.smiles), len(setting.properties)), np.nan, dtype=np.float32)
            for column, name in enumerate(setting.properties):
                properties[both, column] = self.values(name, both)
            rows = both
            if kind == "semi":
                often = max(1, round(setting.share / (1 - setting.share) * len(self.smiles) / len(fitted)))
                rows = np.concatenate([np.arange(len(self.smiles)), np.tile(fitted, often - 1)])
            data = take(self.dataset, rows, properties, setting.properties, kept)
            train_model(data, self.config(), directory, device="cpu", resume=(directory / "run.json").exists())
            (directory / "cpu_seconds.txt").write_text(f"{time.process_time() - began:.1f}\n")
        return load_model(directory, "cpu"), float((directory / "cpu_seconds.txt").read_text())

    def config(self) -> Config:
        """Return the settings of both networks."""
        steps = self.setting.steps
        train = {"batch_size": 128, "lr": 2e-3, "lr_warmup_steps": 50, "average": 0.99, "max_steps": steps,
                 "validate_every": steps, "checkpoint_every": 500, "validate_size": 500, "threads": 1}  # fmt: skip
        objective = {"name": "ss_vae", "warmup_steps": max(1, steps // 2)}
        return build_config({"seed": self.setting.seed, "model": NETWORK, "objective": objective, "train": train,
                             "prior": {"kind": "normal"}})  # fmt: skip


class Measure:
    """Predict one property with one number of labels by every method.

    Args:
        shipped: the model of the method ``latents``.
    """

    def __init__(self, study: Study, shipped: LoadedModel) -> None:
        self.study, self.shipped = study, shipped
        self._codes: dict[str, NDArray[np.float32]] = {}

    def __call__(self, name: str, labels: int, draw: int, method: str) -> Row:
        """Return the figures of one method."""
        study, seed = self.study, self.study.setting.seed
        fitted, kept = study.labelled(labels, draw)
        values, values_kept = study.values(name, fitted), study.values(name, kept)
        column = study.setting.properties.index(name)
        sets = [[study.smiles[row] for row in rows] for rows in (fitted, kept)]
        truth, training = study.test_values[:, column], 0.0
        if method == "forest":
            bits, bits_test = [study.bits(smiles) for smiles in sets], study.test_bits
            began = time.process_time()
            found = list(forest_on(bits[0], values, [bits[1], bits_test], seed))
        else:
            loaded, key = self.shipped, "latents"
            if method != "latents":
                kind = method.split(":")[0]
                loaded, training = study.network(kind, labels, draw)
                key = f"{kind}-{labels}-{draw}"
            codes = [study.latents(loaded, smiles) for smiles in sets]
            if key not in self._codes:
                self._codes[key] = study.latents(loaded, study.test)
            began = time.process_time()
            others = [codes[1], self._codes[key]]
            if method.endswith("head"):
                predicted = [Predictor(loaded, [name])(z)[name] for z in others]
                found = [(one.mean, one.std) for one in predicted]
            else:
                found = list(process_on(codes[0], values, others, seed))
        seconds = time.process_time() - began + training
        figures = judge(found[0], values_kept, found[1], truth)
        return Row(name, labels, draw, method, len(truth), *(round(one, 5) for one in figures), round(seconds, 1))


def summary(table: pd.DataFrame) -> str:
    """Return Markdown: means over the draws, and the spread of R2 where there are several."""
    lines = ["| property | labels | method | draws | R2 | MAE | in 90 % interval | half width | CPU s |",
             "|---|--:|---|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for (name, labels, method), rows in table.groupby(["property", "labels", "method"], sort=False):
        r2 = f"{rows['r2'].mean():.3f}" + (f" ± {rows['r2'].std():.3f}" if len(rows) > 1 else "")
        lines.append(
            f"| {name} | {labels:,} | {method} | {len(rows)} | {r2} | {rows['mae'].mean():.3g} | "
            f"{rows['coverage_90'].mean():.1%} | {rows['half_width_90'].mean():.3g} | {rows['seconds'].mean():.0f} |"
        )
    return "\n".join(lines) + "\n"


def draw_figure(table: pd.DataFrame, path: Path) -> None:
    """Draw R2 over the number of labels, a panel for each property."""
    names = list(dict.fromkeys(table["property"]))
    figure = Figure(figsize=(5 * len(names), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        for method, color in zip(METHODS, COLORS, strict=True):
            rows = table[(table["property"] == name) & (table["method"] == method)]
            means = rows.groupby("labels")["r2"].agg(["mean", "min", "max"])
            if len(means):
                spread = [means["mean"] - means["min"], means["max"] - means["mean"]]
                axes.errorbar(means.index, means["mean"], yerr=spread, color=color, label=method, marker="o", capsize=3)
        axes.set_xscale("log")
        axes.set_ylim(max(-0.3, axes.get_ylim()[0]), 1)
        axes.set_title(name)
        axes.set_xlabel("labels")
        axes.set_ylabel(f"R² on {table['tested'].max():,} molecules")
        axes.spines[["top", "right"]].set_visible(False)
    np.atleast_1d(figure.axes)[-1].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)


def measure_missing(
    path: Path, wanted: Sequence[tuple[str, int, int, str]], measure: Callable[..., Row]
) -> pd.DataFrame:
    """Add to a CSV the rows of ``wanted`` that it lacks, one by one, and return those wanted."""
    table = add_missing(path, Row, KEYS, ((key, partial(measure, *key)) for key in wanted))
    keys = list(table[list(KEYS)].itertuples(index=False, name=None))
    order = {key: place for place, key in enumerate(wanted)}
    places = [order.get(key, -1) for key in keys]
    return table.assign(place=places).query("place >= 0").sort_values("place").drop(columns="place")


def commas(text: str) -> tuple[str, ...]:
    """Return the parts of ``a,b``."""
    return tuple(text.split(","))


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line gives, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("-m", "--model")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--properties", type=commas, default="BertzCT,median2")
    parser.add_argument("--labels", type=commas, default="300,1000,10000")
    parser.add_argument("--draws", type=commas, default="3,3,1", help="of the labelled rows, for each number of labels")
    parser.add_argument("--methods", type=commas, default=",".join(METHODS))
    parser.add_argument("--molecules", type=int, default=250_000)
    parser.add_argument("--tested", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=800, help="of training a network, 128 molecules each")
    parser.add_argument("--share", type=float, default=0.25, help="of labelled rows in the batches of semi")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int)
    given = parser.parse_args(arguments)
    for name in given.properties:
        check_property(name)
    if set(given.methods) - set(METHODS):
        parser.error(f"methods are {', '.join(METHODS)}")
    return given


def main() -> None:
    """Measure what is not measured yet, print the table and draw the figure."""
    given = read_arguments()
    torch.set_num_threads(1)
    given.output.mkdir(parents=True, exist_ok=True)
    numbers = zip(map(int, given.labels), map(int, given.draws), strict=True)
    sizes = [(labels, draw) for labels, draws in numbers for draw in range(draws)]
    # Networks are trained for one draw: they cost the most.
    wanted = [(name, labels, draw, method) for name in given.properties for labels, draw in sizes
              for method in given.methods if draw == 0 or ":" not in method]  # fmt: skip
    measure = Measure(Study(given), load_model(given.model, "cpu"))
    table = measure_missing(given.output / "few_labels.csv", wanted, measure)
    draw_figure(table, given.output / "few_labels.png")
    sys.stdout.write(summary(table))


if __name__ == "__main__":
    try:
        main()
    except MolvaeError as error:
        sys.exit(str(error))
