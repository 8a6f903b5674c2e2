"""What all verbs that write molecules share: options that a model suggests, items for chemistry, cores left to it.

In: a `LoadedModel`, options, token ids. Out: the same, ready for use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from molvae.chem.parallel import cpu_count
from molvae.errors import InputError
from molvae.generate.sampling import SamplingOptions, Sequences, suggested_length
from molvae.nn.checkpoint import LoadedModel

BLOCK = 64
"""Latents drawn at a time. Chance is drawn block by block, so that neither the batch size, nor the workers, nor how
many molecules are wanted change the molecules that come first."""

MOST_ROUNDS = 100
"""More rounds of reading back than any molecule needs."""

GIVE_UP = 20
"""Times the wanted number that are drawn at most, before saying that no more can be had."""


@contextmanager
def spare_threads(device: torch.device) -> Iterator[None]:
    """Leave cores to the worker processes: torch's threads spin while they wait, and stall when a core is missing."""
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(max(1, min(before, cpu_count() // 4)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def never() -> bool:
    """Ask nothing to stop."""
    return False


def resolve_options(loaded: LoadedModel, options: SamplingOptions) -> SamplingOptions:
    """Return ``options`` with what the model suggests: a length limit from its longest molecule, a temperature."""
    longest, temperature = loaded.facts.get("max_tokens"), options.temperature
    if temperature is None:
        temperature = float(loaded.facts.get("temperature", 1.0))
    length = options.max_length or suggested_length(None if longest is None else int(longest))
    return replace(options, max_length=length, temperature=temperature)


def resolve_rounds(loaded: LoadedModel, rounds: int | None) -> int:
    """Return how often what was written is read back before it counts; None takes what the model suggests, else 0.

    Raises:
        InputError: when ``rounds`` is below 0 or above `MOST_ROUNDS`.
    """
    turns = int(loaded.facts.get("rounds", 0)) if rounds is None else rounds
    if not 0 <= turns <= MOST_ROUNDS:
        raise InputError(f"{turns} rounds of reading back are not possible.", f"Choose 0 to {MOST_ROUNDS}.")
    return turns


def as_items(sequences: Sequences) -> list[tuple[tuple[int, ...], bool]]:
    """Return one item for `molvae.generate.chemistry.Write` per row."""
    return [(sequences.row(index), bool(sequences.finished[index])) for index in range(len(sequences))]
