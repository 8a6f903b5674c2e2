"""Save everything a run needs to go on, and find the newest state that is whole.

In: the trainer's tensors and counters. Out: ``checkpoints/step_NNNNNNNNN/`` with safetensors, JSON and a manifest.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from molvae.errors import ModelFileError
from molvae.files import new_directory, verify_manifest, write_json, write_manifest
from molvae.nn.checkpoint import load_tensors, save_tensors
from molvae.nn.optimizer_state import optimizer_tensors, restore_optimizer
from molvae.train.optim import AveragedWeights

KEEP = 2
OBJECTIVE = "objective.safetensors"


def save_state(
    directory: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer,
    average: AveragedWeights | None, counters: dict[str, Any], objective: dict[str, torch.Tensor] | None = None,
) -> Path:  # fmt: skip
    """Write a checkpoint for ``counters["step"]`` and remove all but the newest two.

    Args:
        objective: what the objective trains besides the model (`Objective.tensors`), of any shape (...).

    Raises:
        OutputError: when it cannot be written; earlier checkpoints stay.
    """
    target = directory / f"step_{counters['step']:09d}"
    with new_directory(target, replace=True) as temporary:
        save_tensors(temporary / "model.safetensors", model.state_dict())
        save_tensors(temporary / "optimizer.safetensors", optimizer_tensors(optimizer))
        save_tensors(temporary / "average.safetensors", average.average if average else {})
        if objective:
            save_tensors(temporary / OBJECTIVE, objective)
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
    checkpoint: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: AveragedWeights | None,
    restore_objective: Callable[[dict[str, torch.Tensor]], None] = lambda tensors: None,
) -> dict[str, Any]:  # fmt: skip
    """Load a checkpoint into ``model``, ``optimizer`` and ``average``, and return its counters.

    Args:
        restore_objective: told what `save_state` got as ``objective``; nothing by a checkpoint of an older version.

    Raises:
        ModelFileError: when its tensors do not fit, for instance because the config changed.
    """
    try:
        model.load_state_dict(load_tensors(checkpoint / "model.safetensors"))
        restore_optimizer(optimizer, load_tensors(checkpoint / "optimizer.safetensors"))
        if average is not None:
            for name, value in load_tensors(checkpoint / "average.safetensors").items():
                average.average[name].copy_(value)
        restore_objective(load_tensors(checkpoint / OBJECTIVE) if (checkpoint / OBJECTIVE).exists() else {})
    except (RuntimeError, KeyError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ModelFileError(
            f"{checkpoint} does not fit this config: {first}", "Resume with the sizes and dataset it was trained with."
        ) from error
    counters: dict[str, Any] = json.loads((checkpoint / "counters.json").read_text("utf-8"))
    return counters
