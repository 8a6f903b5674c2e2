"""Save everything a run needs to go on, and find the newest state that is whole.

In: the trainer's tensors and counters. Out: ``checkpoints/step_NNNNNNNNN/`` with safetensors, JSON and a manifest.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from molvae.errors import ModelFileError
from molvae.files import new_directory, verify_manifest, write_json, write_manifest
from molvae.nn.checkpoint import load_tensors, save_tensors
from molvae.train.optim import AveragedWeights

KEEP = 2


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{index}/{name}": value for index, entry in state.items() for name, value in entry.items()}


def save_state(
    directory: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer,
    average: AveragedWeights | None, counters: dict[str, Any],
) -> Path:  # fmt: skip
    """Write a checkpoint for ``counters["step"]`` and remove all but the newest two.

    Raises:
        OutputError: when it cannot be written; earlier checkpoints stay.
    """
    target = directory / f"step_{counters['step']:09d}"
    with new_directory(target, replace=True) as temporary:
        save_tensors(temporary / "model.safetensors", model.state_dict())
        save_tensors(temporary / "optimizer.safetensors", _optimizer_tensors(optimizer))
        save_tensors(temporary / "average.safetensors", average.average if average else {})
        write_json(temporary / "counters.json", counters)
        write_manifest(temporary, {"kind": "checkpoint"})
    for old in sorted(directory.glob("step_*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def newest_state(directory: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint whose files match its manifest, and why newer ones were passed over."""
    passed: list[str] = []
    for candidate in sorted(directory.glob("step_*"), reverse=True):
        try:
            verify_manifest(candidate)
            return candidate, passed
        except ModelFileError as error:
            passed.append(error.problem)
    return None, passed


def restore_state(
    checkpoint: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: AveragedWeights | None
) -> dict[str, Any]:
    """Load a checkpoint into ``model``, ``optimizer`` and ``average``, and return its counters.

    Raises:
        ModelFileError: when its tensors do not fit, for instance because the config changed.
    """
    try:
        model.load_state_dict(load_tensors(checkpoint / "model.safetensors"))
        entries: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in load_tensors(checkpoint / "optimizer.safetensors").items():
            index, _, key = name.partition("/")
            entries.setdefault(int(index), {})[key] = value
        optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
        if average is not None:
            for name, value in load_tensors(checkpoint / "average.safetensors").items():
                average.average[name].copy_(value)
    except (RuntimeError, KeyError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ModelFileError(
            f"{checkpoint} does not fit this config: {first}", "Resume with the sizes and dataset it was trained with."
        ) from error
    counters: dict[str, Any] = json.loads((checkpoint / "counters.json").read_text("utf-8"))
    return counters
