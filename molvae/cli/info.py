"""Verb ``molvae info``: what a bug report should say about the machine, the versions and the model.

In: optionally a model. Out: lines or JSON. Whatever is missing is named, and nothing that is missing ends it.
"""

from __future__ import annotations

import json
import math
import os
import platform
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from molvae import __version__
from molvae.cli.options import Model

PACKAGES = (
    "torch", "rdkit", "selfies", "numpy", "pandas", "pyarrow", "numba", "safetensors", "pydantic", "typer", "zuko",
    "scikit-learn", "joblib", "cma", "fcd", "tensorboard",
)  # fmt: skip
OPTIONAL = frozenset({"numba", "fcd", "tensorboard"})
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

Json = Annotated[bool, typer.Option("--json", help="JSON instead of lines.")]


def command(model: Model = None, as_json: Json = False) -> None:
    """Show versions, platform, processor, devices, shipped models and the facts of a model.

    Made to be pasted into a bug report: it holds no user name, and your home directory is written as ~.
    """
    found = collect(model)
    typer.echo(json.dumps(found, indent=2) if as_json else "\n".join(_lines(found)))
    if model is not None and "problem" in found["model"]:
        raise typer.Exit(3)


def collect(model: str | None = None) -> dict[str, Any]:
    """Return everything as nested values that JSON can hold."""
    return {
        "versions": _versions(),
        "platform": {"system": platform.platform(), "machine": platform.machine()},
        "processor": _processor(),
        "devices": _devices(),
        "model": _model(model),
    }


def _versions() -> dict[str, str]:
    found = {"molvae": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            if name not in OPTIONAL:
                found[name] = "not installed"
    return found


def _processor() -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found: dict[str, Any] = {"name": _processor_name(), "cores": os.cpu_count(), "usable_cores": usable}
    found.update({name: os.environ[name] for name in THREADS if name in os.environ})
    return found


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _devices() -> dict[str, Any]:
    """Return what torch can compute on; one line instead when torch cannot be imported."""
    try:
        import torch

        from molvae.nn.device import bfloat16_pays
    except (ImportError, OSError) as error:
        return {"problem": f"torch cannot be imported: {error}"}
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "torch_threads": torch.get_num_threads(),
        "bf16_on_cpu": bfloat16_pays(torch.device("cpu")),
        "bf16_on_gpu": [bfloat16_pays(torch.device("cuda", number)) for number in range(count)],
        "cuda_in_torch": torch.version.cuda or "none",
        "gpus": [torch.cuda.get_device_name(number) for number in range(count)],
    }


def _model(name: str | None) -> dict[str, Any]:
    """Return the shipped models and the facts of one; a problem instead of facts when it cannot be read."""
    from molvae.errors import MolvaeError

    try:
        from molvae.files import verify_manifest
        from molvae.nn.checkpoint import DEFAULT_MODEL, GROWING, find_model, shipped_models
    except (ImportError, OSError) as error:
        return {"problem": f"its code cannot be imported: {error}"}
    found: dict[str, Any] = {"shipped": shipped_models(), "default": DEFAULT_MODEL}
    try:
        directory = find_model(name)
        found.update(name=directory.name, directory=hide_home(str(directory)))
        verify_manifest(directory, skip=GROWING)
        found.update(files="as written (SHA-256)", **_facts(directory))
    except MolvaeError as error:
        found["problem"] = hide_home(error.problem)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        found["problem"] = hide_home(f"its files cannot be read: {error!r}")
    return found


def _facts(directory: Path) -> dict[str, Any]:
    content = json.loads((directory / "config.json").read_text("utf-8"))
    facts, config = content["facts"], content["config"]
    weights = [_weights(directory / name) for name in ("model.safetensors", "prior.safetensors")]
    prior = facts.get("prior") or {"kind": "normal"}
    found = {
        "written_by": facts.get("molvae"),
        "weights": weights[0],
        "prior_weights": weights[1],
        "vocabulary": len(json.loads((directory / "vocab.json").read_text("utf-8"))["tokens"]),
        "latent": config["model"]["latent"],
        "condition_on": config["model"].get("condition_on", []),
        "categories": _categories(directory),
        "prior": prior["kind"],
        **{name: facts.get(name) for name in ("objective", "seed", "steps", "trained_on", "max_tokens", "finished")},
        "figures": facts.get("figures") or facts.get("validation"),
    }
    return {name: value for name, value in found.items() if value not in (None, [], {})}


def _categories(directory: Path) -> dict[str, str]:
    """Return the levels of each category of a model, in one text; nothing for most."""
    from molvae.data.categories import categories_of
    from molvae.data.dataset import PropertyInfo

    entries = json.loads((directory / "properties.json").read_text("utf-8"))["properties"]
    found = categories_of(PropertyInfo(**entry) for entry in entries)
    return {name: " | ".join(levels) for name, levels in found.items()}


def _weights(path: Path) -> int | None:
    """Count the numbers in a safetensors file from its header alone, None when there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as handle:
        size = int.from_bytes(handle.read(8), "little")
        header: dict[str, Any] = json.loads(handle.read(size))
    return sum(math.prod(map(int, entry["shape"])) for name, entry in header.items() if name != "__metadata__")


def hide_home(text: str) -> str:
    """Return ``text`` with the user's home directory as ``~``."""
    home = os.path.expanduser("~")
    return text.replace(home, "~") if len(home) > 1 and home != "~" else text


def _lines(found: dict[str, Any]) -> list[str]:
    """Return a block of lines per section, names in one column."""
    lines: list[str] = []
    for section, values in found.items():
        lines += [*([""] if lines else []), section]
        for name, value in values.items():
            first = f"  {name.replace('_', ' '):16} "
            # Paths must stay whole, to be copied.
            whole = textwrap.TextWrapper(118, first, " " * len(first), break_long_words=False, break_on_hyphens=False)
            lines += whole.wrap(_text(value))
    return lines


def _text(value: Any) -> str:
    """Return a value as people write it.

    >>> _text(2851325), _text(True), _text([]), _text({"n": 5, "exact": 0.5})
    ('2,851,325', 'yes', 'none', 'n 5, exact 0.5')
    """
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case list():
            return ", ".join(map(_text, value)) or "none"
        case dict():
            return ", ".join(f"{name.replace('_', ' ')} {_text(one)}" for name, one in value.items())
    return str(value)
