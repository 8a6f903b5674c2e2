"""Measure what a model's card states, on molecules it never saw.

In: a model, its training dataset, held-out SMILES. Out: figures with n and seed, and the card as Markdown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from molvae.benchmark.fcd import Gaussian, chemnet_statistics, frechet_distance
from molvae.errors import InputError
from molvae.generate.latents import decode_latents, encode_smiles
from molvae.generate.molecules import sample
from molvae.generate.reconstruction import reconstruct
from molvae.generate.sampling import GREEDY, SamplingOptions
from molvae.generate.wanted import Wanted
from molvae.nn.checkpoint import LoadedModel
from molvae.train.evaluate import ACTIVE_VARIANCE

PLAIN = Wanted(properties=(), alerts=False)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Protocol:
    """What is measured: ``n`` molecules each time, sampling seeds ``seed``, the word for the held-out set."""

    n: int = 10_000
    seed: int = 0
    held_out: str = "MOSES test"


def measure_card(
    loaded: LoadedModel, training: Sequence[str], held_out: Sequence[str], protocol: Protocol, say: Say
) -> dict[str, Any]:
    """Return the figures of the card.

    Two disjoint random parts of ``held_out`` are used: ``n`` molecules as the reference of FCD, ``n`` others to be
    reconstructed. The floor is FCD of ``n`` real training molecules against the same reference.

    Args:
        training: canonical SMILES the model was trained on (novelty, floor).
        held_out: canonical SMILES it never saw, at least 2 n.
        say: told what is being done.

    Raises:
        InputError: when there are fewer than 2 n held-out or n training molecules.
    """
    n, seed = protocol.n, protocol.seed
    if len(held_out) < 2 * n or len(training) < n:
        raise InputError(f"The card needs {2 * n} held-out and {n} training molecules.", "Measure with a smaller n.")
    order = np.random.default_rng(seed).permutation(len(held_out))
    reference, asked = ([held_out[index] for index in part] for part in (order[:n], order[n : 2 * n]))
    say("reconstruction")
    found = reconstruct(loaded, asked)
    figures: dict[str, Any] = {"n": n, "seed": seed, "exact": float(found["match"].mean())}
    figures |= posterior_figures(loaded, asked)
    say("statistics of the reference and of real molecules")
    target = chemnet_statistics(reference)
    real = np.random.default_rng(seed + 1).permutation(len(training))[:n]
    figures["fcd_floor"] = frechet_distance(chemnet_statistics([training[index] for index in real]), target)
    say("decoded posterior samples")
    figures["fcd_posterior"] = frechet_distance(_posterior_statistics(loaded, asked, seed), target)
    say("prior samples")
    figures |= prior_figures(loaded, frozenset(training), target, n, seed)
    return figures


def posterior_figures(loaded: LoadedModel, smiles: Sequence[str]) -> dict[str, float]:
    """Return the active units over ``smiles``, and the spread of drawn latents in the extreme dimensions."""
    means = encode_smiles(loaded, smiles).latents
    draws = encode_smiles(loaded, smiles, sampled=True, seed=1).latents
    variance = np.nanvar(means, axis=0)
    return {"active_units": int((variance > ACTIVE_VARIANCE).sum()), "latent": means.shape[1],
            "aggregate_std_low": float(np.nanstd(draws, axis=0).min()),
            "aggregate_std_high": float(np.nanstd(draws, axis=0).max())}  # fmt: skip


def _posterior_statistics(loaded: LoadedModel, smiles: Sequence[str], seed: int) -> Gaussian:
    """Return the ChemNet statistics of what sampling at temperature 1 writes from draws of q(z|x)."""
    latents = encode_smiles(loaded, smiles, sampled=True, seed=seed).latents
    written = decode_latents(loaded, latents[~np.isnan(latents[:, 0])], options=SamplingOptions(), seed=seed)
    return chemnet_statistics([one.smiles for one in written if one.smiles])


def prior_figures(loaded: LoadedModel, known: frozenset[str], target: Gaussian, n: int, seed: int) -> dict[str, float]:
    """Return validity, uniqueness, novelty and FCD of ``n`` molecules drawn from the prior, tokens drawn and greedy."""
    table = sample(loaded, n, wanted=PLAIN, seed=seed)
    counts = table.attrs["counts"]
    smiles = [str(one) for one in table["smiles"]]
    distinct = set(smiles)
    bold = [str(one) for one in sample(loaded, n, GREEDY, PLAIN, seed=seed)["smiles"]]
    return {
        "validity": counts["ok"] / max(1, counts["drawn"]),
        "uniqueness": len(distinct) / max(1, len(smiles)),
        "novelty": len(distinct - known) / max(1, len(distinct)),
        "fcd_prior": frechet_distance(chemnet_statistics(smiles), target),
        "uniqueness_greedy": len(set(bold)) / max(1, len(bold)),
        "fcd_prior_greedy": frechet_distance(chemnet_statistics(bold), target),
    }


def card_table(figures: dict[str, Any], facts: dict[str, Any], held_out: str) -> str:
    """Return the figures as a Markdown table, each with what it was measured on."""
    n, found = figures["n"], facts["validation"]
    rows = [
        (f"exact reconstruction, {held_out} (greedy, z = mean)", f"{figures['exact']:.2%}"),
        (f"rate, distortion (sampled z, n = {found['n']:,.0f}) [nats per molecule]",
         f"{found['rate']:.1f}, {found['distortion']:.2f}"),
        ("cost of a code under the shipped prior / N(0, I) [nats]", _prior_rate(facts)),
        ("active latent units", f"{figures['active_units']} of {figures['latent']}"),
        ("validity, uniqueness, novelty of prior samples", ", ".join(
            f"{figures[name]:.4f}" for name in ("validity", "uniqueness", "novelty"))),
        (f"FCD of prior samples against {n:,} {held_out} molecules", f"{figures['fcd_prior']:.2f}"),
        ("the same, tokens greedy (FCD, uniqueness)",
         f"{figures['fcd_prior_greedy']:.2f}, {figures['uniqueness_greedy']:.4f}"),
        ("FCD of decoded posterior samples (the ceiling of any prior)", f"{figures['fcd_posterior']:.2f}"),
        ("FCD of real training molecules (the floor)", f"{figures['fcd_floor']:.2f}"),
    ]  # fmt: skip
    head = f"| figure (n = {n:,}, seed {figures['seed']}) | value |\n|---|---|\n"
    return head + "\n".join(f"| {name} | {value} |" for name, value in rows) + "\n"


def _prior_rate(facts: dict[str, Any]) -> str:
    rate = facts.get("prior_rate")
    return f"{rate['fitted']:.1f} ({facts['prior']['kind']}) / {rate['normal']:.1f}" if rate else "N(0, I) only"
