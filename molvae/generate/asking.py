"""Say how a request is put to a model, and choose the route by which this model answers it.

In: a `LoadedModel`, `Request`s, an `Asking`. Out: a `Plan`; an error when the model lacks what is called for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from molvae.data.categories import expand
from molvae.errors import ConfigError
from molvae.generate.reading import By
from molvae.generate.requests import Request, check_requests
from molvae.generate.writing import MOST_ROUNDS
from molvae.nn.checkpoint import LoadedModel

Source = Literal["auto", "conditional", "heads", "off"]
"""Where latents come from: a conditional prior p(z|c), the prior resampled by the heads, the prior as it is. auto takes
the heads, else a conditional prior: on ``moses`` a conditional flow was no better (error of logP .68, heads .69)."""

ROUNDS, MORE_ROUNDS = 16, 24
"""Rounds of reading and moving after the first writing, for one property and for each further one that is asked for
with it: three at once need many. Most molecules are there sooner."""

MOST_BEST = 1000


@dataclass(frozen=True)
class Asking:
    """How a request is put to a model.

    Args:
        prior: see `Source`.
        decoder: whether the decoder is told; off shows what the latents alone do.
        guidance: 0 takes the model at its word; w above 0 weighs the request with the power 1 + w in the latents, and
            the decoder's logits with (1 + w) logits(c) - w logits(no c).
        rounds: of reading what was written and moving the latent, at most `MOST_ROUNDS`; None takes as many as the
            request calls for (`ROUNDS`) where heads can read, else 0.
        best_of: k molecules are written for each one wanted, and the nearest to the request is kept.
        reader: who reads drafts, see `molvae.generate.reading.By`.

    Raises:
        ConfigError: when a setting is out of range.
    """

    prior: Source = "auto"
    decoder: bool = True
    guidance: float = 0.0
    rounds: int | None = None
    best_of: int = 1
    reader: By = "model"

    def __post_init__(self) -> None:
        limits = {
            "prior": (self.prior in get_args(Source), " or ".join(get_args(Source))),
            "reader": (self.reader in get_args(By), " or ".join(get_args(By))),
            "guidance": (0 <= self.guidance <= 100, "0 (none) to 100"),
            "rounds": (self.rounds is None or 0 <= self.rounds <= MOST_ROUNDS, f"0 to {MOST_ROUNDS}"),
            "best_of": (1 <= self.best_of <= MOST_BEST, f"1 to {MOST_BEST}"),
        }
        for name, (fine, allowed) in limits.items():
            if not fine:
                raise ConfigError(f"{name} = {getattr(self, name)} is not allowed.", f"Choose {allowed}.")


PLAINLY = Asking()


@dataclass(frozen=True)
class Plan:
    """A request as one model will answer it: names checked, the route chosen.

    Attributes:
        warnings: requests outside the training set, and by how much.
    """

    requests: tuple[Request, ...]
    warnings: tuple[str, ...]
    asking: Asking
    rounds: int

    @property
    def k(self) -> int:
        """Molecules of which RDKit, or the head where RDKit cannot compute, takes the nearest."""
        return self.asking.best_of * (self.rounds + 1 if self.asking.reader == "rdkit" else 1)

    @property
    def route(self) -> str:
        """What was done, in one line."""
        latents = {"conditional": "conditional prior p(z|c)", "heads": "prior resampled by the property heads",
                   "off": "prior without the request"}[self.asking.prior]  # fmt: skip
        told = "told" if self.asking.decoder else "not told"
        by = "the model's own reading" if self.asking.reader == "model" else "what RDKit reads in the drafts"
        rounds = f", moved in at most {self.rounds} rounds by {by}" if self.rounds else ""
        asked = f"guidance {self.asking.guidance:g}; k = {self.k}"
        return f"latents: {latents}{rounds}; decoder {told}; {asked}"


def make_plan(loaded: LoadedModel, requests: Sequence[Request], asking: Asking = PLAINLY) -> Plan:
    """Check ``requests`` and choose the route.

    Raises:
        UnknownNameError: when the model does not know a property.
        InputError: when no molecule can have a value, or requests contradict each other.
        ConfigError: when the model lacks what ``asking`` calls for.
    """
    model = loaded.model
    found, warnings = check_requests(requests, model.property_info)
    names = set(expand((request.name for request in found), model.property_info))
    conditional = getattr(model.prior, "condition_size", 0) > 0 and names <= set(model.condition_names)
    heads = names <= set(model.predict_names)
    source = asking.prior
    if source == "auto":
        source = "heads" if heads else "conditional" if conditional else "off"
    lacking = (source == "conditional" and not conditional) or (source == "heads" and not heads)
    decoder = asking.decoder and bool(names & set(model.condition_names))
    if lacking or (asking.rounds and not heads) or (source == "off" and not decoder and asking.prior == "auto"):
        asked = ", ".join(request.name for request in found)
        raise ConfigError(
            f"The model has no {'conditional prior' if source == 'conditional' else 'head'} for {asked}.",
            "Fit one (molvae fit-prior --set prior.conditional=true), or leave the choice of the prior to auto.",
        )
    rounds = asking.rounds
    if rounds is None:
        rounds = min(MOST_ROUNDS, ROUNDS + MORE_ROUNDS * (len(found) - 1)) if heads and source != "off" else 0
    return Plan(found, warnings, replace(asking, prior=source, decoder=decoder), rounds)
