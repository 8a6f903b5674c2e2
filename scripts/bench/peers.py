"""Run other people's code beside ours: the MOSES VAE out of its wheel, imported at run time and nothing of it kept.

In: the path of ``molsets-0.3.1-py3-none-any.whl``, SMILES. Out: functions that do one repeat of the peer's own work.

The wheel cannot be installed beside current libraries, so it is imported from the zip with two shims: an empty
``moses`` package in place of its ``__init__`` (which loads all its metrics), and bool for the uint8 masks of
``sample``, which current PyTorch refuses. Its model, loop, collate function and defaults are untouched.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

BATCH = 512
"""Molecules in a batch of the MOSES VAE, its default."""
UNUSED = ("rdkit", "pandas", "matplotlib", "matplotlib.pyplot", "tqdm", "tqdm.auto")
"""Imported by the peer's modules and not used by its model; an empty module stands in for one that is missing."""


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


class _Empty(ModuleType):
    """A module in which every name exists."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *given, **named: None


class _BoolMasks(ModuleType):
    """The torch module with ``uint8`` meaning bool, as PyTorch read masks when the peer was written."""

    uint8 = torch.bool

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


class _Quiet:
    """What the peer's loop takes for a progress bar."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)

    def set_postfix_str(self, text: str) -> None:
        """Show nothing."""


def import_moses(wheel: Path) -> tuple[ModuleType, ModuleType, ModuleType]:
    """Import ``moses.vae`` from the wheel; return its modules config, model and trainer."""
    missing = [name for name in UNUSED if not _importable(name)]
    for name in missing:
        sys.modules[name] = _Empty(name)
    package = ModuleType("moses")
    package.__path__ = [str(wheel / "moses")]
    sys.modules["moses"] = package
    names = ("moses.vae.config", "moses.vae.model", "moses.vae.trainer")
    config, model, trainer = (importlib.import_module(name) for name in names)
    for name in missing:
        # Left behind, an empty module would mislead whoever asks later whether the library is there.
        del sys.modules[name]
    model.torch = _BoolMasks("torch")  # type: ignore[attr-defined]
    return config, model, trainer


class MosesVae:
    """The MOSES VAE with its default sizes and both directions of the encoder, as in the paper.

    Args:
        wheel: the wheel of molsets 0.3.1.
        smiles: molecules to train on; its vocabulary is made of them.
        device: where its weights live.
    """

    def __init__(self, wheel: Path, smiles: Sequence[str], device: torch.device) -> None:
        config, model, trainer = import_moses(wheel)
        self.settings = config.get_parser().parse_args(["--q_bidir"])
        self.trainer = trainer.VAETrainer(self.settings)
        self.smiles = list(smiles)
        self.model = model.VAE(self.trainer.get_vocabulary(self.smiles), self.settings).to(device)
        parameters = self.trainer.get_optim_params(self.model)
        self.optimizer = torch.optim.Adam(parameters, lr=self.settings.lr_start)
        self.place = 0

    def train(self, batches: int) -> int:
        """Take ``batches`` steps of its own ``_train_epoch`` with its own data loader; return the molecules seen."""
        count = batches * BATCH
        rows = [self.smiles[(self.place + i) % len(self.smiles)] for i in range(count)]
        self.place += count
        loader = self.trainer.get_dataloader(self.model, rows, shuffle=True)
        self.trainer._train_epoch(self.model, 0, _Quiet(loader), self.settings.kl_w_end, self.optimizer)
        return count

    def sample(self, count: int) -> int:
        """Call its ``sample``, which always takes 99 steps; return the molecules written."""
        self.model.eval()
        return sum(len(self.model.sample(min(BATCH, count - start))) for start in range(0, count, BATCH))
