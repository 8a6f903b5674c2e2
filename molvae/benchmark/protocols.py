"""Reconstruct molecules by the two protocols of the literature and count what came back.

In: a model, molecules and their codes. Out: shares of molecules and tokens; greedy from the mean, and sampled.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from molvae.benchmark.held_out import HeldOut
from molvae.chem.parallel import map_items
from molvae.data.vocabulary import EOS
from molvae.generate.chemistry import Molecule, Write
from molvae.generate.sampling import LONGEST, SamplingOptions, Sequences, decode_tokens, suggested_length
from molvae.nn.checkpoint import LoadedModel
from molvae.nn.distributions import DiagonalNormal


@torch.inference_mode()
def reconstruct_greedily(
    loaded: LoadedModel, molecules: HeldOut, mean: torch.Tensor, workers: int | None = None
) -> dict[str, float]:
    """Decode the posterior means (N, D), taking the likeliest token each time.

    Returns:
        ``exact`` (every token), ``same_molecule`` (another string of the same molecule counts too) and
        ``token_accuracy`` (position by position, the end included), each a share.
    """
    cond = _conditions(loaded, molecules)
    options = SamplingOptions(greedy=True, precision="fp32", max_length=_longest(loaded, molecules))
    written = decode_tokens(loaded.model, mean.to(loaded.model.device), cond, options)
    return _count(loaded, molecules, [written], workers)


@torch.inference_mode()
def reconstruct_sampled(
    loaded: LoadedModel, molecules: HeldOut, posterior: DiagonalNormal, repeats: tuple[int, int], seed: int,
    workers: int | None = None,
) -> dict[str, float]:  # fmt: skip
    """Draw z from q(z|x) ``repeats[0]`` times, and decode each ``repeats[1]`` times with drawn tokens.

    The shares are means over all of these, as in the papers that use 10 times 10; fewer give the same expectation.

    Returns:
        As `reconstruct_greedily`.

    Source: Kusner et al. (2017), section 5, https://arxiv.org/abs/1703.01925; Jin et al. (2018), section 3.1,
    https://arxiv.org/abs/1802.04364
    """
    device = loaded.model.device
    generator = torch.Generator(device).manual_seed(seed)
    options = SamplingOptions(temperature=1.0, precision="fp32", max_length=_longest(loaded, molecules))
    cond = _conditions(loaded, molecules)
    rounds = []
    for _ in range(repeats[0]):
        noise = torch.randn(posterior.mean.shape, generator=generator, device=device)
        z = posterior.mean.to(device) + posterior.log_std.to(device).exp() * noise
        rounds += [decode_tokens(loaded.model, z, cond, options, generator) for _ in range(repeats[1])]
    return _count(loaded, molecules, rounds, workers)


def _longest(loaded: LoadedModel, molecules: HeldOut) -> int:
    """Return a length limit that no molecule asked for exceeds, short of the most that sampling allows."""
    seen = loaded.facts.get("max_tokens")
    longest = max(suggested_length(None if seen is None else int(seen)), *map(len, molecules.token_ids))
    return min(longest, LONGEST)


def _conditions(loaded: LoadedModel, molecules: HeldOut) -> torch.Tensor:
    return loaded.model.usual_condition(torch.from_numpy(molecules.properties).to(loaded.model.device))


def _count(
    loaded: LoadedModel, molecules: HeldOut, rounds: Sequence[Sequences], workers: int | None
) -> dict[str, float]:
    """Compare every round of N sequences with the N molecules."""
    targets = [tuple(int(token) for token in row) for row in molecules.token_ids]
    exact = right = total = 0
    doubtful: list[tuple[int, tuple[tuple[int, ...], bool]]] = []
    for sequences in rounds:
        for place, target in enumerate(targets):
            row, finished = sequences.row(place), bool(sequences.finished[place])
            given, wanted = (*row, EOS) if finished else row, (*target, EOS)
            right += sum(a == b for a, b in zip(given, wanted, strict=False))
            total += len(wanted)
            if given == wanted:
                exact += 1
            else:
                doubtful.append((place, (row, finished)))
    same = exact + _same_molecules(loaded, targets, doubtful, workers)
    count = len(targets) * len(rounds)
    return {"exact": exact / count, "same_molecule": same / count, "token_accuracy": right / total}


def _same_molecules(
    loaded: LoadedModel, targets: Sequence[tuple[int, ...]],
    doubtful: Sequence[tuple[int, tuple[tuple[int, ...], bool]]], workers: int | None,
) -> int:  # fmt: skip
    """Count other strings that stand for the molecule they should be."""
    write = Write(loaded.vocabulary)
    places = sorted({place for place, _ in doubtful})
    wanted = dict(zip(places, map_items(write, [(targets[place], True) for place in places], workers), strict=True))
    written = map_items(write, [item for _, item in doubtful], workers)
    return sum(
        isinstance(one, Molecule) and one.smiles is not None and one.smiles == getattr(wanted[place], "smiles", None)
        for (place, _), one in zip(doubtful, written, strict=True)
    )
