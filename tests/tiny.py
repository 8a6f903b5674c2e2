"""A dataset of random token strings and a model that never saw it, made without any chemistry library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from molvae.config import Config, ModelConfig
from molvae.data.dataset import Dataset, load_dataset
from molvae.data.vocabulary import Vocabulary
from molvae.files import write_json, write_manifest
from molvae.nn.checkpoint import LoadedModel
from molvae.nn.model import SequenceVAE

TOKENS = ("[C]", "[N]", "[O]", "[=C]", "[F]")


def tiny_dataset(directory: Path, n: int = 200, properties: int = 2, seed: int = 0) -> Dataset:
    """Write and open a dataset of ``n`` molecules; property 0 is the number of the first token, the rest is noise."""
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary.from_tokens(TOKENS)
    lengths = rng.integers(2, 9, n)
    tokens = rng.integers(4, len(vocabulary), lengths.sum()).astype(np.uint8)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = rng.normal(size=(n, properties)).astype(np.float32)
    if properties:
        values[:, 0] = np.add.reduceat(tokens == tokens[0], offsets[:-1])
        values[::5, 0] = np.nan
    split = np.zeros(n, dtype=np.uint8)
    split[-n // 5 :] = 1
    directory.mkdir(parents=True, exist_ok=True)
    arrays = {"tokens": tokens, "offsets": offsets, "split": split, "properties": values}
    for name, array in arrays.items():
        np.save(directory / f"{name}.npy", array)
    vocabulary.save(directory / "vocab.json")
    measures = {"mean": np.nanmean, "std": np.nanstd, "min": np.nanmin, "max": np.nanmax}
    info = [
        {"name": f"p{i}", "kind": "column", "n": n, **{key: float(f(values[:, i])) for key, f in measures.items()}}
        for i in range(properties)
    ]
    write_json(directory / "properties.json", {"version": 1, "properties": info})
    write_manifest(directory, {"kind": "dataset"})
    return load_dataset(directory)


def tiny_values(**train: object) -> dict[str, object]:
    """Return settings of a model that trains in a second."""
    sizes = {
        "embedding": 8,
        "encoder_hidden": 12,
        "decoder_hidden": 16,
        "decoder_layers": 1,
        "latent": 4,
        "head_hidden": 8,
    }
    limits = {"batch_size": 16, "lr": 1e-2, "lr_warmup_steps": 5, "threads": 1, "checkpoint_every": 10,
              "validate_every": 20, "validate_size": 20, "precision": "fp32", **train}  # fmt: skip
    return {"model": sizes, "train": limits, "prior": {"components": 2, "max_steps": 20}}


def untrained(vocabulary: Vocabulary, directory: Path, max_tokens: int) -> LoadedModel:
    """Return a model that was never trained: it writes anything at all that it is let."""
    torch.manual_seed(0)
    config = Config(model=ModelConfig(embedding=8, encoder_hidden=16, decoder_hidden=16, decoder_layers=1, latent=6))
    model = SequenceVAE(config.model, len(vocabulary)).eval()
    return LoadedModel(model, vocabulary, config, {"max_tokens": max_tokens}, directory)
