"""Measure what a model's card states, on molecules it never saw.

In: a model, its training molecules, held-out SMILES. Out: figures with n and seed, and the card's table as Markdown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from molvae.benchmark.fcd import Gaussian, chemnet_statistics, frechet_distance
from molvae.errors import InputError
from molvae.generate.latents import decode_latents, encode_smiles
from molvae.generate.molecules import sample
from molvae.generate.reconstruction import reconstruct
from molvae.generate.sampling import DEFAULT, PLAIN, SamplingOptions
from molvae.generate.wanted import Wanted
from molvae.generate.writing import resolve_rounds
from molvae.nn.checkpoint import LoadedModel
from molvae.train.evaluate import ACTIVE_VARIANCE
from molvae.train.run import ROUNDS

BARE = Wanted(properties=(), alerts=False)
TEMPERATURES = (1.0, 0.6, 0.3, 0.0)
Say = Callable[[str], None]


@dataclass(frozen=True)
class HeldOut:
    """Molecules the model never saw: SMILES as given, and the words for them.

    Attributes:
        asked: to be reconstructed.
        reference: to compare samples with; disjoint from the training molecules, canonical.
    """

    asked: Sequence[str]
    asked_name: str
    reference: Sequence[str]
    reference_name: str


def choose_temperature(
    loaded: LoadedModel, training: Sequence[str], n: int, seed: int, rounds: int = ROUNDS
) -> tuple[float, dict[str, float]]:
    """Return the token temperature with the least FCD of ``n`` prior samples to training molecules, and each one's FCD.

    Training molecules serve, so that the held-out ones of the card choose nothing. Every sample is written after
    ``rounds`` of reading back.
    """
    picked = np.random.default_rng(seed + 2).permutation(len(training))[:n]
    target = chemnet_statistics([training[index] for index in picked])
    found = {}
    for temperature in TEMPERATURES:
        table = sample(loaded, n, replace(PLAIN, temperature=temperature), BARE, seed=seed + 1, rounds=rounds)
        found[f"{temperature:g}"] = frechet_distance(chemnet_statistics([str(one) for one in table["smiles"]]), target)
    return float(min(found, key=found.__getitem__)), found


def measure_card(
    loaded: LoadedModel, training: Sequence[str], held_out: HeldOut, n: int, seed: int, say: Say
) -> dict[str, Any]:
    """Return the figures of the card.

    The floor is FCD of ``n`` real training molecules against the same reference.

    Args:
        training: canonical SMILES the model was trained on (novelty, floor).
        n: molecules sampled, and the least number of reference and training molecules.
        seed: of every draw.
        say: told what is being done.

    Raises:
        InputError: when there are fewer than ``n`` reference or training molecules, or none to be reconstructed.
    """
    if len(held_out.reference) < n or len(training) < n or not held_out.asked:
        raise InputError(
            f"The card needs {n} reference and {n} training molecules, and some to be reconstructed.",
            "Measure with a smaller n.",
        )
    say("reconstruction")
    found = reconstruct(loaded, held_out.asked)
    figures: dict[str, Any] = {
        "n": n, "seed": seed, "asked": len(held_out.asked), "exact": float(found["match"].mean()),
        "accepted": float(found["canonical"].notna().mean() if len(found) else 0.0),
    }  # fmt: skip
    good = [str(smiles) for smiles in found["canonical"] if smiles is not None]
    figures |= posterior_figures(loaded, good)
    say("statistics of the reference and of real molecules")
    order = np.random.default_rng(seed)
    target = chemnet_statistics([held_out.reference[index] for index in order.permutation(len(held_out.reference))[:n]])
    real = np.random.default_rng(seed + 1).permutation(len(training))[:n]
    figures["fcd_floor"] = frechet_distance(chemnet_statistics([training[index] for index in real]), target)
    say("decoded posterior samples")
    figures["fcd_posterior"] = frechet_distance(_posterior_statistics(loaded, held_out.reference[:n], seed), target)
    say("prior samples")
    return figures | prior_figures(loaded, frozenset(training), target, n, seed)


def posterior_figures(loaded: LoadedModel, smiles: Sequence[str]) -> dict[str, float]:
    """Return the active units over ``smiles``, and the spread of drawn latents in the extreme dimensions."""
    means = encode_smiles(loaded, smiles).latents
    draws = encode_smiles(loaded, smiles, sampled=True, seed=1).latents
    variance = np.nanvar(means, axis=0)
    return {"active_units": int((variance > ACTIVE_VARIANCE).sum()), "latent": means.shape[1],
            "aggregate_std_low": float(np.nanstd(draws, axis=0).min()),
            "aggregate_std_high": float(np.nanstd(draws, axis=0).max())}  # fmt: skip


def _posterior_statistics(loaded: LoadedModel, smiles: Sequence[str], seed: int) -> Gaussian:
    """Return the ChemNet statistics of what the model's default sampling writes from draws of q(z|x)."""
    latents = encode_smiles(loaded, smiles, sampled=True, seed=seed).latents
    written = decode_latents(loaded, latents[~np.isnan(latents[:, 0])], options=DEFAULT, seed=seed)
    return chemnet_statistics([one.smiles for one in written if one.smiles])


def prior_figures(loaded: LoadedModel, known: frozenset[str], target: Gaussian, n: int, seed: int) -> dict[str, float]:
    """Return validity, uniqueness, novelty, FCD of ``n`` prior samples: as the model suggests, without rounds of
    reading back, and without them at token temperature 1.
    """

    def draw(options: SamplingOptions, rounds: int | None) -> tuple[list[str], float]:
        table = sample(loaded, n, options, BARE, seed=seed, rounds=rounds)
        counts = table.attrs["counts"]
        return [str(one) for one in table["smiles"]], counts["ok"] / max(1, counts["drawn"])

    smiles, validity = draw(DEFAULT, None)
    distinct = set(smiles)
    figures = {
        "temperature": float(loaded.facts.get("temperature", 1.0)),
        "rounds": resolve_rounds(loaded, None),
        "validity": validity,
        "uniqueness": len(distinct) / max(1, len(smiles)),
        "novelty": len(distinct - known) / max(1, len(distinct)),
        "fcd_prior": frechet_distance(chemnet_statistics(smiles), target),
    }
    once, _ = draw(DEFAULT, 0)
    plain, _ = draw(PLAIN, 0)
    return figures | {"fcd_prior_once": frechet_distance(chemnet_statistics(once), target),
                      "uniqueness_plain": len(set(plain)) / max(1, len(plain)),
                      "fcd_prior_plain": frechet_distance(chemnet_statistics(plain), target)}  # fmt: skip


def card_table(figures: dict[str, Any], facts: dict[str, Any], held_out: HeldOut) -> str:
    """Return the figures as a Markdown table, each with what it was measured on."""
    n, found, asked = figures["n"], facts["validation"], f"{figures['asked']:,} {held_out.asked_name} molecules"
    reference = f"{n:,} {held_out.reference_name} molecules"
    rows = [
        (f"accepted of {asked}", f"{figures['accepted']:.2%}"),
        (f"exact reconstruction of {asked} (greedy, z = mean)", f"{figures['exact']:.2%}"),
        (f"rate, distortion of the validation split (sampled z, n = {found['n']:,.0f}) [nats per molecule]",
         f"{found['rate']:.1f}, {found['distortion']:.2f}"),
        ("cost of a code under the shipped prior / N(0, I) [nats]", _prior_rate(facts)),
        ("active latent units", f"{figures['active_units']} of {figures['latent']}"),
        ("validity, uniqueness, novelty of prior samples", ", ".join(
            f"{figures[name]:.4f}" for name in ("validity", "uniqueness", "novelty"))),
        (f"FCD of prior samples (token temperature {figures['temperature']:g}, {figures['rounds']} rounds of reading "
         f"back, the default) against {reference}", f"{figures['fcd_prior']:.2f}"),
        ("the same without reading back", f"{figures['fcd_prior_once']:.2f}"),
        ("without reading back, at token temperature 1 (FCD, uniqueness)",
         f"{figures['fcd_prior_plain']:.2f}, {figures['uniqueness_plain']:.4f}"),
        ("FCD of decoded posterior samples, without reading back", f"{figures['fcd_posterior']:.2f}"),
        (f"FCD of {n:,} real training molecules (the floor)", f"{figures['fcd_floor']:.2f}"),
    ]  # fmt: skip
    head = f"| figure (seed {figures['seed']}) | value |\n|---|---|\n"
    return head + "\n".join(f"| {name} | {value} |" for name, value in rows) + "\n"


def _prior_rate(facts: dict[str, Any]) -> str:
    rate = facts.get("prior_rate")
    if not rate:
        return "N(0, I) only"
    fitted = "no density" if rate["fitted"] is None else f"{rate['fitted']:.1f}"
    return f"{fitted} ({facts['prior']['kind']}) / {rate['normal']:.1f}"
