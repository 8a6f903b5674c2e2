"""The stages that run the network: a training step, sampling to token ids, validity on the device.

In: a `Setting`. Out: for each case a function that does one repeat and returns how many molecules that were.

The model has the sizes of the MOSES VAE: encoder 256 in both directions, decoder 3 x 512, 128 latents. Its weights are
random; where it stops writing is imposed, so that it writes molecules of real lengths.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.peers import BATCH, MosesVae
from bench.setting import Setting, Unavailable
from molvae.config import Config, ModelConfig, ObjectiveConfig, TrainConfig
from molvae.data.batch import Batch, bucketed_rows, collate
from molvae.data.dataset import Dataset
from molvae.data.vocabulary import EOS, UNK, Vocabulary
from molvae.generate import sampling
from molvae.nn.model import SequenceVAE
from molvae.train.loop import Callbacks, Trainer

Repeat = Callable[[], int]
SIZES = ModelConfig(
    embedding=32, encoder_hidden=256, decoder_hidden=512, decoder_layers=3, latent=128, predict=[], condition_on=[]
)
VOCABULARY = 29
"""Tokens of MOSES, specials included."""
TRAINED = {"cpu": (256, 4), "cuda": (4096, 16)}
"""Batch size and batches in one repeat of training."""
SAMPLED = {"cpu": 2048, "cuda": 65536}
PEER_BATCHES = {"cpu": 1, "cuda": 8}


def prepare_torch(setting: Setting) -> torch.device:
    """Set threads and seed; return the device."""
    torch.set_num_threads(setting.threads)
    torch.manual_seed(setting.seed)
    device = torch.device(setting.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise Unavailable("no CUDA device here")
    return device


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def synthetic_batches(setting: Setting, size: int, count: int) -> list[Batch]:
    """Return ``count`` batches as an epoch of the trainer would bucket them: real lengths, random tokens."""
    rng = np.random.default_rng(setting.seed)
    lengths = setting.lengths(64 * size if size < 4096 else 16 * size)
    rows = bucketed_rows(np.arange(len(lengths)), lengths, size, setting.seed, 0)
    rows.sort(key=lambda chosen: float(lengths[chosen].mean()))
    # Evenly from the shortest to the longest, so that few batches cost what an average molecule costs.
    rows = [rows[int((place + 0.5) * len(rows) / count)] for place in range(count)]
    return [collate([rng.integers(UNK + 1, VOCABULARY, lengths[row]) for row in chosen]) for chosen in rows]


def _dataset(folder: Path) -> Dataset:
    """Return a dataset of one molecule: the trainer wants one, the batches are handed to it step by step."""
    empty = np.zeros((1, 0), dtype=np.float32)
    vocabulary = Vocabulary([f"[{n}]" for n in range(VOCABULARY - UNK - 1)])
    one = np.array([UNK + 1], dtype=np.uint8)
    return Dataset(folder, vocabulary, one, np.array([0, 1]), np.zeros(1, dtype=np.uint8), empty, (), {})


def train_ours(setting: Setting, precision: str = "auto") -> Repeat:
    """`Trainer.step`: loss, gradient, clipping, AdamW, averaged weights, and the batch's way to the device."""
    device = prepare_torch(setting)
    size, count = TRAINED[device.type]
    folder = Path(tempfile.mkdtemp(dir=setting.folder))
    config = Config(
        model=SIZES, objective=ObjectiveConfig(name="vae"),
        train=TrainConfig(batch_size=size, max_steps=1_000_000, precision=precision),
    )  # fmt: skip
    model = SequenceVAE(SIZES, VOCABULARY).to(device)
    trainer = Trainer(model, _dataset(folder), config, folder, Callbacks())
    batches = synthetic_batches(setting, size, count)

    def repeat() -> int:
        for batch in batches:
            trainer.step(batch.to(device))
        _wait(device)
        return size * count

    return repeat


def train_fp32(setting: Setting) -> Repeat:
    """The same in float32."""
    return train_ours(setting, "fp32")


def _peer(setting: Setting, device: torch.device) -> MosesVae:
    if setting.wheel is None:
        raise Unavailable("no --wheel given (pip download --no-deps molsets==0.3.1)")
    return MosesVae(Path(setting.wheel), setting.read_smiles(), device)


def train_peer(setting: Setting) -> Repeat:
    """The MOSES VAE's `_train_epoch` with its data loader, one batch of 512 a step."""
    device = prepare_torch(setting)
    peer = _peer(setting, device)

    def repeat() -> int:
        count = peer.train(PEER_BATCHES[device.type])
        _wait(device)
        return count

    return repeat


def sample_peer(setting: Setting) -> Repeat:
    """The MOSES VAE's `sample`, in batches of 512."""
    device = prepare_torch(setting)
    peer = _peer(setting, device)

    def repeat() -> int:
        count = peer.sample(PEER_BATCHES[device.type] * BATCH)
        _wait(device)
        return count

    return repeat


@dataclass(frozen=True)
class _Ending:
    """The state of a decoder that knows how many tokens each row still has to write."""

    inner: Any
    left: torch.Tensor

    def select(self, rows: torch.Tensor) -> _Ending:
        return _Ending(self.inner.select(rows), self.left.index_select(0, rows))


def ending_stepper(lengths: torch.Tensor) -> type:
    """Return `Stepper` with the end of each row imposed: it does all its work, then EOS gets the only finite logit.

    Args:
        lengths: (N,) tokens that rows write, in the order in which they are started.
    """

    class Ending(sampling.Stepper):
        started = 0

        def start(self, z: torch.Tensor, cond: torch.Tensor) -> Any:
            place = Ending.started + torch.arange(len(z), device=z.device)
            Ending.started += len(z)
            return _Ending(super().start(z, cond), lengths[place % len(lengths)])

        def step(self, token_ids: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
            logits, inner = super().step(token_ids, state.inner)
            at_end = state.left == 0
            logits[:, EOS].masked_fill_(~at_end, -torch.inf)
            logits[:, EOS + 1 :].masked_fill_(at_end[:, None], -torch.inf)
            return logits, _Ending(inner, state.left - 1)

    return Ending


def sample_ours(setting: Setting, precision: str = "auto") -> Repeat:
    """`decode_tokens` at temperature 1: latents on the device to token ids in NumPy."""
    device = prepare_torch(setting)
    count = SAMPLED[device.type]
    model = SequenceVAE(SIZES, VOCABULARY).to(device).eval()
    lengths = setting.lengths(count)
    sampling.Stepper = ending_stepper(torch.from_numpy(lengths).to(device))  # type: ignore[misc]
    options = sampling.SamplingOptions(max_length=int(lengths.max()) + 1, precision=precision)
    generator = torch.Generator(device).manual_seed(setting.seed)

    def repeat() -> int:
        z = torch.randn(count, SIZES.latent, device=device)
        written = sampling.decode_tokens(model, z, model.unconditioned(count), options, generator)
        _wait(device)
        if int(written.lengths.sum()) != int(lengths.sum()):
            raise AssertionError("the lengths imposed were not kept")
        return len(written)

    return repeat


def sample_fp32(setting: Setting) -> Repeat:
    """The same in float32."""
    return sample_ours(setting, "fp32")


def validity_ours(setting: Setting) -> Repeat:
    """`molgraph.derive` and `describe`: token ids to graph, valence, rings, formula, weight, validity; 4,096 rows."""
    device = prepare_torch(setting)
    try:
        from bench.chemistry import constraints, token_rows
        from molvae.nn.molgraph import derive
        from molvae.nn.molgraph_tables import GraphTables
        from molvae.nn.molgraph_valence import describe
    except ImportError as error:
        raise Unavailable(f"{error}") from error
    vocabulary, rows = token_rows(setting, 4096)
    tables = GraphTables.build(vocabulary.tokens, constraints(), device)
    tokens = collate(list(map(np.asarray, rows))).tokens[:, 1:].to(device)

    def repeat() -> int:
        valid = describe(derive(tokens, tables)).valid
        _wait(device)
        return len(valid)

    return repeat
