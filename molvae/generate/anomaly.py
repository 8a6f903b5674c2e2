"""Say how unusual molecules are under a model, and which of their atoms are.

In: SMILES, and for comparison molecules of the kind the model was trained on. Out: a DataFrame, one row per input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rdkit import Chem

from molvae.chem.fingerprints import morgan, tanimoto
from molvae.chem.parallel import map_items
from molvae.data.batch import collate
from molvae.errors import InputError
from molvae.generate.attribution import atom_surprise
from molvae.generate.chemistry import Read, Readable, check_counts
from molvae.generate.known import read_smiles
from molvae.generate.likelihood import densities, importance_weights, need_likelihood
from molvae.nn.checkpoint import LoadedModel

SAMPLES = 16
BATCH = 128
FINGERPRINTS = 20_000
"""Reference fingerprints compared at a time."""
ODDEST = 3
HELD_OUT = "held_out.smi"
"""File in a model's directory: molecules that it never saw, in random order."""
USUAL = "usual"
"""Key in a model's facts: the reference measured when the model was made, and the K of it."""
MEASURED = 500
"""Molecules of a reference that are scored."""


@dataclass(frozen=True)
class Oddity:
    """How unusual one molecule is.

    Attributes:
        nats: importance-weighted bound on -log p(x).
        latent_cost: nats of z in it, log q(z|x) - log p(z) averaged over the samples; the rest is paid by tokens.
        mean: centre of q(z|x), (D,).
        variance: of q(z|x), (D,).
        tokens: T, with the end.
        atom_nats: nats of the tokens that write each atom, (A,).
    """

    nats: float
    latent_cost: float
    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    tokens: int
    atom_nats: NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """What molecules are compared with, measured with the same model and K.

    Attributes:
        nats: (M,) sorted.
        center: mean of z over the aggregate posterior, (D,).
        spread: standard deviation of z over it, (D,).
    """

    nats: NDArray[np.float64]
    center: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def of(cls, oddities: Sequence[Oddity]) -> Reference:
        """Return the reference that measured molecules make.

        Raises:
            InputError: when there are fewer than 2.
        """
        if len(oddities) < 2:
            raise InputError(
                f"The reference holds {len(oddities)} molecules that the model can read.", "Give at least 2."
            )
        means = np.array([oddity.mean for oddity in oddities], dtype=np.float64)
        variance = means.var(0) + np.mean([oddity.variance for oddity in oddities], axis=0)
        nats = np.sort(np.array([oddity.nats for oddity in oddities]))
        return cls(nats, means.mean(0), np.sqrt(variance))

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Reference:
        """Return the reference that `facts` wrote down."""
        columns = (np.array(facts[key], dtype=np.float64) for key in ("nats", "center", "spread"))
        return cls(*columns)

    def facts(self) -> dict[str, Any]:
        """Return it as JSON can hold it, to travel with a model."""
        named = {"nats": self.nats, "center": self.center, "spread": self.spread}
        return {key: [round(float(value), 4) for value in column] for key, column in named.items()}

    def percentile(self, nats: float) -> float:
        """Return the share of the reference that is less surprising, 0 to 100; ties count half."""
        below, upto = np.searchsorted(self.nats, nats, "left"), np.searchsorted(self.nats, nats, "right")
        return float(100 * (below + upto) / 2 / len(self.nats))

    def distance(self, mean: NDArray[np.float32]) -> float:
        """Return how far a code (D,) lies from the middle, root mean square in the spread of each dimension."""
        return float(np.sqrt(np.square((mean - self.center) / self.spread).mean()))


def measure_oddities(
    loaded: LoadedModel, token_ids: Sequence[Sequence[int]], samples: int = SAMPLES, seed: int = 0
) -> list[Oddity]:
    """Measure molecules given as token ids; every molecule gets the same noise, so none depends on the others.

    Args:
        loaded: a model with a likelihood.
        token_ids: N rows without BOS and EOS.
        samples: K.
        seed: of the noise.

    Raises:
        ConfigError: when the model has no likelihood.
    """
    need_likelihood(loaded, "A score")
    model = loaded.model
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((samples, 1, model.latent), generator=generator).to(model.device)
    found: list[Oddity | None] = [None] * len(token_ids)
    order = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]))
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        for row, oddity in zip(part, _measure(loaded, [token_ids[row] for row in part], noise), strict=True):
            found[row] = oddity
    return cast("list[Oddity]", found)


@torch.inference_mode()
def _measure(loaded: LoadedModel, rows: list[Sequence[int]], noise: torch.Tensor) -> list[Oddity]:
    """Measure one batch."""
    model = loaded.model
    properties = np.full((len(rows), len(model.property_info)), np.nan, dtype=np.float32)
    batch = collate([np.array(row, dtype=np.int64) for row in rows], properties).to(model.device)
    priors = {"model": densities(model)["model"]}
    weights = importance_weights(model, batch, noise, priors, keep_tokens=True)
    posterior = model.encode(batch.tokens, batch.lengths)
    nats = (-weights.bound("model")).tolist()
    cost = (weights.log_qz - weights.log_pz["model"]).mean(0).tolist()
    surprise = weights.surprise("model").numpy()
    means, variances = posterior.mean.cpu().numpy(), (2 * posterior.log_std).exp().cpu().numpy()
    return [
        Oddity(
            nats[place], cost[place], means[place], variances[place], len(row) + 1,
            atom_surprise([loaded.vocabulary.tokens[token] for token in row], surprise[place, : len(row) + 1].tolist()),
        )
        for place, row in enumerate(rows)
    ]  # fmt: skip


def read_reference(
    loaded: LoadedModel, smiles: Sequence[str], samples: int = SAMPLES, seed: int = 0, workers: int | None = None
) -> Reference:
    """Measure reference molecules: SMILES of the kind the model was trained on, best some that it never saw.

    Raises:
        InputError: when the model can read fewer than 2 of them.
        ConfigError: when the model has no likelihood.
    """
    read = map_items(Read(loaded.vocabulary), smiles, workers)
    rows = [result.token_ids for result in read if isinstance(result, Readable)]
    return Reference.of(measure_oddities(loaded, rows, samples, seed))


def own_reference(
    loaded: LoadedModel, samples: int = SAMPLES, seed: int = 0, workers: int | None = None
) -> Reference | None:
    """Measure held-out molecules that travel with the model, as the shipped ones have them; None without any.

    Where the model's facts hold what was measured with as many samples, that is taken, whatever the seed.
    """
    kept = loaded.facts.get(USUAL)
    if kept and kept["samples"] == samples:
        return Reference.from_facts(kept)
    path = loaded.directory / HELD_OUT
    if not path.is_file():
        return None
    return read_reference(loaded, read_smiles(path)[:MEASURED], samples, seed, workers)


def nearest(
    smiles: Sequence[str], known: Sequence[str], workers: int | None = None
) -> tuple[list[str | None], NDArray[np.float64]]:
    """Return the most similar of ``known`` for each of ``smiles``, and how similar it is (Tanimoto, Morgan radius 2).

    Args:
        smiles: N SMILES.
        known: M SMILES; with none there is no neighbour, and the similarity is NaN.
        workers: processes; None means every core.
    """
    best, place = np.full(len(smiles), -1.0), np.zeros(len(smiles), dtype=np.int64)
    marks = morgan(smiles, workers=workers)
    for start in range(0, len(known), FINGERPRINTS):
        similar = tanimoto(marks, morgan(known[start : start + FINGERPRINTS], workers=workers))
        closest = similar.argmax(1)
        value = similar[np.arange(len(smiles)), closest]
        place = np.where(value > best, closest + start, place)
        best = np.maximum(best, value)
    if not len(known):
        return [None] * len(smiles), np.full(len(smiles), np.nan)
    return [known[int(index)] for index in place], best.astype(np.float64)


def score(
    loaded: LoadedModel, smiles: Sequence[str], *,
    reference: Reference | None = None, known: Sequence[str] = (),
    samples: int = SAMPLES, seed: int = 0, workers: int | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Say how unusual each molecule is.

    Args:
        loaded: a model with a likelihood.
        smiles: N strings.
        reference: from `read_reference`, with the same ``samples`` and ``seed``; None leaves percentile empty and
            measures the latent distance from N(0, I).
        known: SMILES among which to look for the nearest neighbour; none leaves it out.
        samples: K; more give a tighter bound.
        seed: of the noise.
        workers: processes for chemistry; None means every core.

    Returns:
        One row per input, in order: input, smiles (canonical), state, detail, nats (bound on -log p(x)),
        nats_per_token, percentile, latent_cost, latent_distance, oddest (up to three atoms: index, element and nats),
        atom_nats (every atom of the canonical SMILES, joined by blanks), nearest, nearest_similarity. A molecule that
        the model cannot read has infinite nats when it is a molecule, NaN when it is none, and its reason.

    Raises:
        InputError: when a number makes no sense.
        ConfigError: when the model has no likelihood.
    """
    check_counts(n=samples - 1, workers=workers)
    need_likelihood(loaded, "A score")
    read = map_items(Read(loaded.vocabulary), smiles, workers)
    rows = [row for row, result in enumerate(read) if isinstance(result, Readable)]
    measured = measure_oddities(loaded, [read[row].token_ids for row in rows], samples, seed)
    size = loaded.model.latent
    base = reference or Reference(np.zeros(0), np.zeros(size), np.ones(size))
    records = [_unreadable(given, result, len(base.nats)) for given, result in zip(smiles, read, strict=True)]
    for row, oddity in zip(rows, measured, strict=True):
        records[row] |= _describe(read[row].smiles, oddity, base)
    table = pd.DataFrame(records, columns=list(COLUMNS)).astype(COLUMNS)
    if known and rows:
        names, similar = nearest([read[row].smiles for row in rows], known, workers)
        table.loc[rows, "nearest"], table.loc[rows, "nearest_similarity"] = names, similar
    return table


COLUMNS: dict[str, Any] = {
    "input": object, "smiles": object, "state": object, "detail": object, "nats": float, "nats_per_token": float,
    "percentile": float, "latent_cost": float, "latent_distance": float, "oddest": object, "atom_nats": object,
    "nearest": object, "nearest_similarity": float,
}  # fmt: skip
"""The columns of `score`, and what they hold."""


def _unreadable(given: str, result: Any, references: int) -> dict[str, Any]:
    """Return the row of a molecule that the model cannot read: impossible under it, if it is a molecule at all."""
    if isinstance(result, Readable):
        return {"input": given, "state": "ok", "detail": ""}
    foreign = result.reason in ("vocabulary", "unsupported-selfies")
    nats = float("inf") if foreign else float("nan")
    percentile = 100.0 if foreign and references else float("nan")
    return {"input": given, "state": result.reason, "detail": result.detail, "nats": nats, "nats_per_token": nats,
            "percentile": percentile, "oddest": "", "atom_nats": ""}  # fmt: skip


def _describe(smiles: str, oddity: Oddity, base: Reference) -> dict[str, Any]:
    """Return the columns of a molecule that was measured."""
    elements = [atom.GetSymbol() for atom in Chem.MolFromSmiles(smiles).GetAtoms()]
    order = np.argsort(-oddity.atom_nats, kind="stable")[:ODDEST]
    return {
        "smiles": smiles,
        "nats": oddity.nats,
        "nats_per_token": oddity.nats / oddity.tokens,
        "percentile": base.percentile(oddity.nats) if len(base.nats) else float("nan"),
        "latent_cost": oddity.latent_cost,
        "latent_distance": base.distance(oddity.mean),
        "oddest": "; ".join(f"{atom} {elements[atom]} {oddity.atom_nats[atom]:.2f}" for atom in order),
        "atom_nats": " ".join(f"{value:.3f}" for value in oddity.atom_nats),
    }
