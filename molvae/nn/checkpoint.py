"""Save a model as a directory and load it back, checked against its manifest.

In: a `SequenceVAE` with vocabulary and config. Out: config.json, vocab.json, properties.json, model.safetensors,
prior.safetensors and reader.safetensors where there are such, README.md, manifest.json (written last); and the same
read again. No pickle anywhere.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from molvae import __version__
from molvae.config import Config, build_config
from molvae.data.dataset import PropertyInfo
from molvae.data.vocabulary import Vocabulary
from molvae.errors import ModelFileError, MolvaeError, UnknownNameError
from molvae.files import verify_manifest, write_json, write_manifest, write_text, write_with
from molvae.nn.device import choose_device
from molvae.nn.heads import PropertyReader
from molvae.nn.model import SequenceVAE
from molvae.nn.priors import build_prior

PRETRAINED = Path(__file__).resolve().parent.parent / "pretrained"
DEFAULT_MODEL = "druglike"
FORMAT = 1
READER_FILE = "reader.safetensors"
_FITTED_BY = {READER_FILE: "fit-reader"}
GROWING = frozenset({"metrics.jsonl", "reconstruction.csv"})
"""Files of a run that a resumed run writes anew after, or before, the model: a model is whole whatever they hold."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready for use: in evaluation mode, on its device, with what it needs to read and write molecules.

    Attributes:
        facts: what is known about its making: ``max_tokens``, ``trained_on``, ``prior``, ``steps``, ``molvae``.
    """

    model: SequenceVAE
    vocabulary: Vocabulary
    config: Config
    facts: dict[str, Any]
    directory: Path


def shipped_models() -> list[str]:
    """Return the names of the models inside the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob("*/manifest.json"))


def find_model(name_or_directory: str | Path | None = None) -> Path:
    """Return the directory of a model.

    Args:
        name_or_directory: a directory, the name of a shipped model, or None for the default shipped model.

    Raises:
        UnknownNameError: when it is neither a directory nor a shipped name.
    """
    if name_or_directory is None:
        name_or_directory = DEFAULT_MODEL
    shipped = shipped_models()
    if str(name_or_directory) in shipped:
        return PRETRAINED / str(name_or_directory)
    path = Path(name_or_directory)
    if path.is_dir():
        return path
    names = ", ".join(shipped) or "none"
    raise UnknownNameError(
        f"There is no model {str(name_or_directory)!r}.", f"Give a model directory or a shipped name ({names})."
    )


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], notes: dict[str, str] | None = None) -> None:
    """Write ``tensors``, of any shape (...), to a safetensors file in one step, with ``notes`` in its header.

    An empty dict is allowed.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_with(path, lambda temporary: save_file(plain, temporary, notes))


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file.

    Raises:
        ModelFileError: when it is missing or malformed.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"{path} cannot be read: {error}.", "Copy the model again from its source.") from error


def codes_digest(model: SequenceVAE) -> str:
    """Return the SHA-256 of the encoder's weights, rounded to half precision: two models with it give the same codes.

    Rounded, so that a model keeps its digest when it is stored in half precision.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.encoder.state_dict().items()):
        digest.update(name.encode() + str(tuple(value.shape)).encode())
        digest.update(value.detach().cpu().half().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _load_reader(path: Path, model: SequenceVAE) -> PropertyReader:
    tensors = load_tensors(path)
    first = tensors.get("network.0.weight")
    hidden = len(first) if first is not None else 1
    reader = PropertyReader(model.encoder.summary_size, hidden, len(model.predict_names))
    _fill(reader, tensors, path)
    _check_codes(path, model)
    return reader


def _check_codes(path: Path, model: SequenceVAE) -> None:
    """Refuse what was fitted to codes of another model; priors of older versions do not say and are taken."""
    with safe_open(path, "pt") as handle:
        fitted_to = (handle.metadata() or {}).get("codes_of")
    if fitted_to is not None and fitted_to != codes_digest(model):
        raise ModelFileError(
            f"{path} was fitted to the codes of another model.",
            f"Fit one to this model: molvae {_FITTED_BY.get(path.name, 'fit-prior')} DATASET -m MODEL -o MODEL2",
        )


def _state(module: torch.nn.Module, half: bool) -> dict[str, torch.Tensor]:
    return {
        name: value.half() if half and value.is_floating_point() else value
        for name, value in module.state_dict().items()
    }


def save_model(
    directory: Path, model: SequenceVAE, vocabulary: Vocabulary, config: Config, facts: dict[str, Any],
    *, half: bool = False, card: str | None = None,
) -> None:  # fmt: skip
    """Write ``model`` into ``directory``; other files there stay, and the manifest names them all.

    Args:
        directory: made when missing.
        half: store weights in half precision (half the size; they are computed in float32 after loading).
        facts: see `LoadedModel`; ``facts["prior"]`` is a dict of `PriorConfig` when the model has a fitted prior.
        card: Markdown text of ``README.md``.

    Raises:
        OutputError: when a file cannot be written.
    """
    facts = {"format": FORMAT, "molvae": __version__, **facts}
    write_json(directory / "config.json", {"config": config.model_dump(mode="json"), "facts": facts})
    vocabulary.save(directory / "vocab.json")
    properties = [info.to_json() for info in model.property_info]
    write_json(directory / "properties.json", {"version": 1, "properties": properties})
    apart = ("prior.", "reader.")
    weights = {name: value for name, value in _state(model, half).items() if not name.startswith(apart)}
    save_tensors(directory / "model.safetensors", weights)
    if model.reader is not None:
        save_tensors(directory / READER_FILE, _state(model.reader, half), {"codes_of": codes_digest(model)})
    if facts.get("prior"):
        # In the file itself, so that a prior copied from another model is seen even where its config was copied too.
        notes = {"codes_of": codes_digest(model)}
        save_tensors(directory / "prior.safetensors", _state(model.prior, half), notes)
    if card is not None:
        write_text(directory / "README.md", card)
    write_manifest(directory, {"kind": "model", "molvae": __version__})


def _fill(module: torch.nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    expected = module.state_dict()
    wrong = [
        n
        for n in expected.keys() | tensors.keys()
        if n not in expected or n not in tensors or expected[n].shape != tensors[n].shape
    ]
    if wrong:
        raise ModelFileError(
            f"{path} does not fit its config: {sorted(wrong)[0]} is missing, extra or of another shape.",
            "Copy the model again from its source.",
        )
    module.load_state_dict({name: tensor.to(expected[name].dtype) for name, tensor in tensors.items()})


def load_model(name_or_directory: str | Path | None = None, device: str = "auto") -> LoadedModel:
    """Load a model from a directory or by its shipped name, after checking its manifest.

    Args:
        name_or_directory: see `find_model`.
        device: see `choose_device`.

    Raises:
        UnknownNameError: when there is no such model.
        ModelFileError: when a file is missing, changed, malformed, or written by a newer format.
        DeviceError: when the device is not there.
    """
    directory, target = find_model(name_or_directory), choose_device(device)
    verify_manifest(directory, skip=GROWING)
    remedy = "Copy the model again from its source."
    if not (directory / "config.json").exists() and (directory / "tokens.npy").exists():
        raise ModelFileError(
            f"{directory} is a dataset, not a model.", f"Train a model on it: molvae train {directory} -o MODEL"
        )
    try:
        content = json.loads((directory / "config.json").read_text("utf-8"))
        properties = json.loads((directory / "properties.json").read_text("utf-8"))["properties"]
        facts: dict[str, Any] = content["facts"]
        if facts["format"] > FORMAT:
            raise ModelFileError(
                f"{directory} was written by molvae {facts['molvae']}, in a newer format.",
                "Update: pip install -U molvae.",
            )
        config = build_config(content["config"], str(directory / "config.json"))
        info = [PropertyInfo(**entry) for entry in properties]
    except MolvaeError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{directory} holds a config that cannot be read: {error}.", remedy) from error
    vocabulary = Vocabulary.load(directory / "vocab.json")
    model = SequenceVAE(config.model, len(vocabulary), info)
    weights = load_tensors(directory / "model.safetensors")
    _fill(model, weights, directory / "model.safetensors")
    if facts.get("prior"):
        model.prior = build_prior(facts["prior"], config.model.latent, 2 * len(model.condition_names))
        _fill(model.prior, load_tensors(directory / "prior.safetensors"), directory / "prior.safetensors")
        _check_codes(directory / "prior.safetensors", model)
    if (directory / READER_FILE).exists():
        model.reader = _load_reader(directory / READER_FILE, model)
    return LoadedModel(model.to(target).eval(), vocabulary, config, facts, directory)
