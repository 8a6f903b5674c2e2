"""Predict properties from latents: by heads trained with the model, and by heads fitted to a table of measurements.

In: a model and latents (N, D). Out: mean and standard deviation (N,) in the property's unit, and how far from home.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from molvae.chem.domain import Domain
from molvae.data.dataset import PropertyInfo
from molvae.errors import ConfigError, ModelFileError, UnknownNameError
from molvae.files import carry_files, new_directory
from molvae.generate.chemistry import Readable
from molvae.generate.labelled import Labelled
from molvae.generate.latents import read_smiles, summarise_sequences
from molvae.nn.checkpoint import LoadedModel, codes_digest, load_tensors, save_model, save_tensors
from molvae.nn.gaussian_process import GaussianProcess
from molvae.nn.heads import JoinedHeads

FITTED_FILE = "fitted_heads.safetensors"
FITTED = "fitted_heads"
"""Key in a model's facts: for each fitted head what it was fitted to and how it did."""
HEADING = "## Fitted heads"
CARRIED = ("metrics.jsonl", "held_out.smi")
"""Files of the source model that stay true whatever heads it has."""
BITS, LIMITS = "domain_bits", "domain_limits"
"""Keys of a `Domain` beside the tensors of its head."""
AT_ONCE = 4096
STRANGE = 0.8
"""Novelty above which a fitted head is said to guess; so it is of molecules less like its table than usual there."""


@dataclass(frozen=True)
class Prediction:
    """What a head says of N latents.

    Attributes:
        mean: (N,) in the property's unit.
        std: (N,) standard deviation of a new measurement.
        novelty: (N,) 0 where the head has seen the like, 1 where it knows nothing; NaN for a head that cannot tell.
        nearest: (N,) similarity to the nearest molecule that a fitted head learned from; None when it is not known.
        trust: (N,) 1 where the molecule is like those that a fitted head learned from, down to 0, see
            `molvae.chem.domain.Domain`; None when it is not known. The latent does not tell: an encoder puts molecules
            of a size or kind that it has never seen among others.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    novelty: NDArray[np.float64]
    nearest: NDArray[np.float64] | None = None
    trust: NDArray[np.float64] | None = None

    @property
    def strange(self) -> NDArray[np.bool_]:
        """(N,) where the head guesses: by the latent, or because the molecule is unlike those it learned from."""
        strange = np.nan_to_num(self.novelty) > STRANGE
        return strange if self.trust is None else strange | (self.trust < 1.0)


def predictable(loaded: LoadedModel) -> list[str]:
    """Return the names of the properties that the model has a head for, fitted ones first."""
    fitted = list(loaded.facts.get(FITTED, {}))
    return [*fitted, *(name for name in loaded.model.predict_names if name not in fitted)]


def write_heads(
    path: Path, loaded: LoadedModel, heads: Mapping[str, GaussianProcess], domains: Mapping[str, Domain] | None = None
) -> None:
    """Write fitted heads, and what they were fitted to, to a file; the header says whose codes they read."""
    tensors = {f"{name}/{key}": value for name, head in heads.items() for key, value in head.state_dict().items()}
    for name, domain in (domains or {}).items():
        tensors[f"{name}/{BITS}"] = torch.from_numpy(domain.bits)
        tensors[f"{name}/{LIMITS}"] = torch.tensor([domain.usual, domain.largest], dtype=torch.float64)
    save_tensors(path, tensors, {"codes_of": codes_digest(loaded.model)})


def fitted_heads(loaded: LoadedModel) -> dict[str, GaussianProcess]:
    """Load the fitted heads of a model; none for most.

    Raises:
        ModelFileError: when the file is damaged, belongs to another model, or lacks what the model's facts promise.
    """
    names = list(loaded.facts.get(FITTED, {}))
    if not names:
        return {}
    tensors = load_tensors(loaded.directory / FITTED_FILE)
    with safe_open(loaded.directory / FITTED_FILE, "pt") as handle:
        codes = (handle.metadata() or {}).get("codes_of")
    if codes != codes_digest(loaded.model):
        raise ModelFileError(
            f"{loaded.directory / FITTED_FILE} was fitted to the codes of another model.",
            "Fit it anew: molvae fit-head",
        )
    heads = {}
    for name in names:
        own = _own(tensors, name)
        for key in (BITS, LIMITS):
            own.pop(key, None)
        try:
            head = GaussianProcess(*own["points"].shape)
            head.load_state_dict(own)
        except (KeyError, RuntimeError, TypeError) as error:
            raise ModelFileError(
                f"{loaded.directory / FITTED_FILE} does not hold the head of {name}.", "Fit it anew: molvae fit-head"
            ) from error
        heads[name] = head
    return heads


def _own(tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Return the tensors of one head."""
    return {key.rpartition("/")[2]: value for key, value in tensors.items() if key.rpartition("/")[0] == name}


def fitted_domains(loaded: LoadedModel) -> dict[str, Domain]:
    """Load what the fitted heads of a model were fitted to; heads of before this was kept have none."""
    names = list(loaded.facts.get(FITTED, {}))
    tensors = load_tensors(loaded.directory / FITTED_FILE) if names else {}
    found = {}
    for name in names:
        own = _own(tensors, name)
        if {BITS, LIMITS} <= own.keys():
            usual, largest = own[LIMITS].tolist()
            found[name] = Domain(own[BITS].numpy(), usual, int(largest))
    return found


def join_fitted(loaded: LoadedModel) -> LoadedModel:
    """Return ``loaded`` with its fitted heads beside the trained ones, as if it had been trained with them all.

    What is joined already stays as it is.
    """
    if isinstance(loaded.model.heads, JoinedHeads):
        return loaded
    pairs = []
    for name, head in fitted_heads(loaded).items():
        noted = loaded.facts[FITTED][name]
        low, high, count = noted["minimum"], noted["maximum"], noted["n"]
        info = PropertyInfo(name, noted["mean"], noted["std"], low, high, count)
        pairs.append((info, head.to(loaded.model.device)))
    return dataclasses.replace(loaded, model=loaded.model.with_heads(pairs)) if pairs else loaded


def check_free(loaded: LoadedModel, name: str) -> None:
    """Refuse to fit a head for a property that the model was trained with: two answers to one question.

    Raises:
        ConfigError: when it was.
    """
    if name in {info.name for info in loaded.model.property_info}:
        raise ConfigError(
            f"The model {loaded.directory.name} was trained with {name}, and predicts it already.",
            f"Give the measured column another name, such as measured_{name}.",
        )


class Predictor:
    """The heads of one model, trained and fitted, loaded once.

    Args:
        loaded: the model.
        names: properties to predict.

    Raises:
        UnknownNameError: when the model has no head for one of them.
    """

    def __init__(self, loaded: LoadedModel, names: Sequence[str]) -> None:
        self.loaded, self.names = join_fitted(loaded), list(names)
        self._domains = fitted_domains(loaded)
        known = predictable(loaded)
        for name in names:
            if name not in known:
                raise UnknownNameError(
                    f"The model {loaded.directory.name} has no head for {name!r}.",
                    f"It predicts: {', '.join(known) or 'nothing'}; molvae fit-head gives it another one.",
                )

    @torch.no_grad()
    def __call__(self, latents: NDArray[Any]) -> dict[str, Prediction]:
        """Predict every property from ``latents`` (N, D); a row with NaN gives NaN."""
        model = self.loaded.model
        z = torch.from_numpy(np.asarray(latents, dtype=np.float32)).to(model.device)
        parts = [model.heads(z[start : start + AT_ONCE]) for start in range(0, len(z), AT_ONCE)] or [model.heads(z)]
        mean, log_std = (torch.cat(part).double().cpu().numpy() for part in zip(*parts, strict=True))
        found = {}
        for name in self.names:
            column = model.predict_names.index(name)
            info = next(info for info in model.property_info if info.name == name)
            unit = info.std if info.std > 0 else 1.0
            found[name] = Prediction(
                mean[:, column] * unit + info.mean, np.exp(log_std[:, column]) * unit, self._novelty(name, z)
            )
        return found

    def _novelty(self, name: str, z: torch.Tensor) -> NDArray[np.float64]:
        heads = self.loaded.model.heads
        fitted = {info.name: process for info, process in heads.pairs()} if isinstance(heads, JoinedHeads) else {}
        if name not in fitted:
            return np.full(len(z), np.nan)
        parts = [fitted[name].novelty(z[start : start + AT_ONCE]) for start in range(0, len(z), AT_ONCE)]
        return np.concatenate([part.cpu().numpy() for part in parts] or [np.zeros(0)])

    def of_smiles(
        self, smiles: Sequence[str], workers: int | None = None, *, written: bool = False
    ) -> dict[str, Prediction]:
        """Predict every property of N molecules; NaN for one that the model cannot read.

        By the heads at the mean of q(z|x), and where the model has a reader by both: their means weighted by precision,
        with the smaller deviation of the two, for they err alike. On 3,000 molecules of MOSES test the mean absolute
        error of SAS is .101 by the heads, .116 by the reader and .097 by both, that of QED .041, .028 and .030, and
        what lies inside 90 % intervals is 93 to 95 % by both (``moses``; ``druglike`` on ZINC250k: 92 to 94 %).

        Args:
            smiles: N strings.
            workers: processes for chemistry; None means every core.
            written: whether they were made to please a request or an objective. Heads are too sure of such; a reader,
                where there is one, learned from them and is asked alone.
        """
        read = read_smiles(self.loaded, smiles, workers=workers)
        rows = [row for row, one in enumerate(read) if isinstance(one, Readable)]
        ids = [one.token_ids for one in read if isinstance(one, Readable)]
        latents = np.full((len(read), self.loaded.model.latent), np.nan, dtype=np.float32)
        means, summary = summarise_sequences(self.loaded.model, ids)
        latents[rows] = means.cpu().numpy()
        found = self(latents)
        for name in self.names:
            if domain := self._domains.get(name):
                near, trust = (np.full(len(read), np.nan) for _ in range(2))
                near[rows], trust[rows] = domain.judge(
                    [one.smiles for one in read if isinstance(one, Readable)], workers
                )
                found[name] = dataclasses.replace(found[name], nearest=near, trust=trust)
        return found if self.loaded.model.reader is None else found | self._with_reader(found, rows, summary, written)

    @torch.no_grad()
    def _with_reader(
        self, found: Mapping[str, Prediction], rows: Sequence[int], summary: torch.Tensor, alone: bool
    ) -> dict[str, Prediction]:
        """Join what the heads say with what the reader does of ``summary`` (M, S), which is of ``rows`` (M,) of N.

        With ``alone`` the reader's word stands for what it can read.
        """
        model = self.loaded.model
        assert model.reader is not None
        mean, log_std = (part.double().cpu().numpy() for part in model.reader(summary))
        joined = {}
        for name in self.names:
            column = model.predict_names.index(name)
            if column >= model.reader.properties:
                continue
            info = next(info for info in model.property_info if info.name == name)
            unit = info.std if info.std > 0 else 1.0
            heads = found[name]
            means, stds = heads.mean.copy(), heads.std.copy()
            read, doubt = mean[:, column] * unit + info.mean, np.exp(log_std[:, column]) * unit
            trust = 1.0 if alone else 1 / (1 + (doubt / stds[rows]) ** 2)
            means[rows] += trust * (read - means[rows])
            stds[rows] = doubt if alone else np.minimum(stds[rows], doubt)
            joined[name] = Prediction(means, stds, heads.novelty)
        return joined


def head_facts(table: str, labelled: Labelled, seed: int) -> dict[str, Any]:
    """Return what a model remembers of the table that a head was fitted to."""
    values = labelled.values
    return {"table": table, "n": len(values), "minimum": float(values.min()), "maximum": float(values.max()),
            "mean": float(values.mean()), "std": float(values.std()), "seed": seed}  # fmt: skip


def save_with_head(
    loaded: LoadedModel, name: str, head: GaussianProcess, facts: dict[str, Any], output: Path, domain: Domain,
    checked: str = "",
) -> None:  # fmt: skip
    """Write ``loaded`` with one fitted head more; half of a directory is never seen.

    Args:
        loaded: the model; heads that it has stay, one of the same name is replaced.
        name: of the property.
        head: fitted to codes of this model.
        facts: see `head_facts`.
        output: directory to be made.
        domain: what the head was fitted to.
        checked: how good the head is, lines for the card.

    Raises:
        ConfigError: see `check_free`.
    """
    check_free(loaded, name)
    heads, domains = {**fitted_heads(loaded), name: head}, {**fitted_domains(loaded), name: domain}
    card = loaded.directory / "README.md"
    text = card.read_text("utf-8").rstrip() if card.exists() else f"# {output.name}"
    heading = "" if HEADING in text else f"{HEADING}\n\n"
    indented = "".join(f"\n    {line}" for line in checked.splitlines())
    line = f"`{name}`: {facts['n']} molecules of {facts['table']}, {facts['minimum']:g} to {facts['maximum']:g}."
    with new_directory(output) as temporary:
        carry_files(loaded.directory, temporary, CARRIED)
        write_heads(temporary / FITTED_FILE, loaded, heads, domains)
        save_model(
            temporary, loaded.model, loaded.vocabulary, loaded.config,
            {**loaded.facts, FITTED: {**loaded.facts.get(FITTED, {}), name: facts}},
            card=f"{text}\n\n{heading}{line}\n{indented}\n",
        )  # fmt: skip
