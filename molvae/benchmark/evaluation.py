"""Measure a model on molecules it never saw: likelihood, reconstruction by two protocols, and its codes.

In: a model and `HeldOut` molecules. Out: figures that JSON can hold, with n, K and seed; warnings in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from molvae.benchmark.aggregate import mean_discrepancy, moment_kl, mutual_information
from molvae.benchmark.excess import LanguageModel, excess_over, figure
from molvae.benchmark.held_out import HeldOut
from molvae.benchmark.protocols import reconstruct_greedily, reconstruct_sampled
from molvae.data.batch import Batch, collate
from molvae.errors import ConfigError
from molvae.generate.likelihood import densities, importance_weights, is_point_mass
from molvae.nn.checkpoint import LoadedModel
from molvae.nn.distributions import DiagonalNormal
from molvae.objectives.divergences import kl_per_dimension
from molvae.train.evaluate import ACTIVE_VARIANCE

BATCH = 100
COLLAPSED_SHARE = 0.1
"""Share of active units below which a posterior counts as collapsed."""
COLLAPSED_RATE = 1.0
"""Nats per molecule below which it counts as collapsed too."""

Say = Callable[[int], None]


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Args:
        samples: K of the importance-weighted bound.
        encodings: draws of z for each molecule, sampled protocol.
        decodings: molecules written from each draw.
        seed: of all chance.
    """

    samples: int = 100
    encodings: int = 3
    decodings: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Codes:
    """q(z|x) of N molecules and one draw from each, (N, D), on the CPU."""

    posterior: DiagonalNormal
    z: torch.Tensor


def evaluate_model(
    loaded: LoadedModel, molecules: HeldOut, settings: Settings, workers: int | None = None, say: Say | None = None,
    over: LanguageModel | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return everything, one section each: ``data``, ``likelihood``, ``reconstruction``, ``codes``, ``warnings``.

    The decoder is given no property where it was trained to do without, else those of ``molecules``. ``likelihood`` is
    None for a plain autoencoder, and lacks the prior ``model`` where the model's own prior has no density. ``excess``
    is there only when ``over`` is, and None where there is no likelihood.

    Args:
        loaded: the model.
        molecules: at least one.
        settings: how much is measured.
        workers: processes for chemistry; None means every core.
        say: told how many molecules passed the likelihood, which takes longest.
        over: what the same molecules cost a language model.
    """
    tokens = [len(row) + 1 for row in molecules.token_ids]
    data = {
        "source": molecules.source, "asked": molecules.asked, "n": len(molecules), "left_out": molecules.left_out,
        "tokens_per_molecule": float(np.mean(tokens)), "settings": asdict(settings),
    }  # fmt: skip
    point = is_point_mass(loaded)
    table, codes = _measure(loaded, molecules, settings, say)
    likelihood = None if point else _summarize(loaded, table, settings, molecules)
    greedy = reconstruct_greedily(loaded, molecules, codes.posterior.mean, workers)
    draws = DiagonalNormal(codes.posterior.mean, torch.full_like(codes.z, -math.inf)) if point else codes.posterior
    sampled = reconstruct_sampled(
        loaded, molecules, draws, (settings.encodings, settings.decodings), settings.seed, workers
    )
    said = warnings(loaded, molecules, likelihood, codes)
    found = {
        "data": data,
        "likelihood": likelihood,
        "reconstruction": {"greedy": greedy, "sampled": sampled},
        "codes": measure_codes(loaded, codes, likelihood, settings.seed),
        "warnings": said,
    }
    if over is not None:
        found["excess"] = None if point else excess_over(over, table, list(densities(loaded.model)), settings.samples)
        said += over.warnings(COLLAPSED_RATE)
    return found


def as_language_model(
    other: LoadedModel, name: str, molecules: HeldOut, settings: Settings, say: Say | None = None
) -> LanguageModel:
    """Return what ``molecules`` cost ``other``, a model that ignores its codes: its bound under its best prior.

    Raises:
        ConfigError: when its codes have no noise, so that it has no bound.
    """
    if is_point_mass(other):
        raise ConfigError(
            f"{name} gives codes without noise, so it cannot say what a molecule costs.",
            "Give a model trained with the objective vae, or a number of nats.",
        )
    table, _ = _measure(other, molecules, settings, say)
    bounds = [table[f"{prior}.{settings.samples}"] for prior in densities(other.model)]
    nats = min(bounds, key=lambda values: float(values.mean()))
    return LanguageModel(name, nats, float(table["rate"].mean()), settings.samples)


def _batches(loaded: LoadedModel, molecules: HeldOut) -> list[tuple[list[int], Batch]]:
    """Return batches of similar length, each with the places of its molecules."""
    order = sorted(range(len(molecules)), key=lambda row: len(molecules.token_ids[row]))
    parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    return [
        (part, collate([molecules.token_ids[row] for row in part], molecules.properties[part]).to(loaded.model.device))
        for part in parts
    ]


def measure_likelihood(
    loaded: LoadedModel, molecules: HeldOut, settings: Settings, say: Say | None = None
) -> tuple[dict[str, Any], Codes]:
    """Return distortion, rate, ELBO and bounds, means over molecules with standard errors, and the codes.

    Bounds stand for every prior with a density: the model's own and N(0, I), and for K = 1, 10, 100, ... up to
    ``settings.samples``. They are estimates from below of log p(x) on average, whatever K.
    """
    table, codes = _measure(loaded, molecules, settings, say)
    return _summarize(loaded, table, settings, molecules), codes


def _draws(settings: Settings) -> list[int]:
    """Return the numbers K for which there is a bound."""
    return sorted({10**power for power in range(6) if 10**power < settings.samples} | {settings.samples})


@torch.inference_mode()
def _measure(
    loaded: LoadedModel, molecules: HeldOut, settings: Settings, say: Say | None
) -> tuple[dict[str, torch.Tensor], Codes]:
    """Return columns (N,) of nats, one for each figure of the section ``likelihood``, and the codes."""
    model, priors = loaded.model, densities(loaded.model)
    generator = torch.Generator(model.device).manual_seed(settings.seed)
    columns: dict[str, list[torch.Tensor]] = {}
    places: list[int] = []
    stats: list[tuple[torch.Tensor, ...]] = []
    for part, batch in _batches(loaded, molecules):
        noise = torch.randn((settings.samples, len(part), model.latent), generator=generator, device=model.device)
        weights = importance_weights(model, batch, noise, priors)
        posterior = model.encode(batch.tokens, batch.lengths)
        found = {"distortion": -weights.log_px.mean(0), "rate": kl_per_dimension(posterior).sum(1).double().cpu()}
        for name in priors:
            found[f"{name}.rate"] = (weights.log_qz - weights.log_pz[name]).mean(0)
            found |= {f"{name}.{k}": -weights.bound(name, k) for k in _draws(settings)}
        for name, values in found.items():
            columns.setdefault(name, []).append(values)
        z = posterior.mean + posterior.log_std.exp() * noise[0]
        stats.append((posterior.mean.cpu(), posterior.log_std.cpu(), z.cpu()))
        places += part
        if say:
            say(len(places))
    back = torch.tensor(places).argsort()
    mean, log_std, z = (torch.cat(column)[back] for column in zip(*stats, strict=True))
    table = {name: torch.cat(values)[back] for name, values in columns.items()}
    return table, Codes(DiagonalNormal(mean, log_std), z)


def _summarize(
    loaded: LoadedModel, table: dict[str, torch.Tensor], settings: Settings, molecules: HeldOut
) -> dict[str, Any]:
    """Return the section ``likelihood`` from columns (N,) of nats."""
    per_token = len(molecules) / sum(len(row) + 1 for row in molecules.token_ids)
    section: dict[str, Any] = {"unit": "nats per molecule", "distortion": figure(table["distortion"]),
                               "rate": figure(table["rate"]), "priors": {}}  # fmt: skip
    for name in densities(loaded.model):
        bounds = {str(k): figure(table[f"{name}.{k}"]) for k in _draws(settings)}
        nats = bounds[str(settings.samples)]["mean"]
        section["priors"][name] = {
            "rate": figure(table[f"{name}.rate"]),
            "negative_elbo": figure(table["distortion"] + table[f"{name}.rate"]),
            "negative_bound": bounds,
            "nats_per_molecule": nats, "bits_per_molecule": nats / math.log(2),
            "nats_per_token": nats * per_token, "bits_per_token": nats * per_token / math.log(2),
        }  # fmt: skip
    return section


def measure_codes(loaded: LoadedModel, codes: Codes, likelihood: dict[str, Any] | None, seed: int) -> dict[str, Any]:
    """Return the section ``codes``: active units, mutual information, and distances of the aggregate posterior.

    The mutual information of molecule and code lies between ``mutual_information_at_least``, an estimate that cannot
    exceed log N, and ``mutual_information_at_most``, the lowest rate under any prior at hand. Distances from priors
    stand beside ``floor``, what two samples of N(0, I) of that size give.
    """
    mean, z = codes.posterior.mean, codes.z
    n, latent = mean.shape
    variance = mean.var(0) if n > 1 else torch.zeros(latent)
    found: dict[str, Any] = {"latent": latent, "active_units": int((variance > ACTIVE_VARIANCE).sum())}
    if likelihood is not None:
        low = mutual_information(codes.posterior, z)
        high = min(prior["rate"]["mean"] for prior in likelihood["priors"].values())
        rate = likelihood["rate"]["mean"]
        found |= {
            "mutual_information_at_least": low, "mutual_information_ceiling": math.log(n),
            "mutual_information_at_most": high,
            "kl_to_normal_at_least": max(0.0, rate - high), "kl_to_normal_at_most": rate - low,
        }  # fmt: skip
    draws = z if likelihood is not None else mean
    center, spread = draws.mean(0), draws.std(0) if n > 1 else torch.ones(latent)
    found["moments"] = {"mean_largest": float(center.abs().max()), "std_lowest": float(spread.min()),
                        "std_highest": float(spread.max())}  # fmt: skip
    found["moment_kl_to_normal"] = moment_kl(draws) if n > latent + 1 else None
    return found | {"mean_discrepancy": _discrepancies(loaded, draws, seed)}


@torch.inference_mode()
def _discrepancies(loaded: LoadedModel, z: torch.Tensor, seed: int) -> dict[str, float | None]:
    """Return the squared MMD of codes from N(0, I) and from the model's prior, and of N(0, I) from itself."""
    if len(z) < 2:
        return {"normal": None, "model": None, "floor": None}
    chance = torch.Generator().manual_seed(seed + 1)
    one, two = (torch.randn(z.shape, generator=chance) for _ in range(2))
    own = loaded.model.prior.sample(len(z), torch.Generator(loaded.model.device).manual_seed(seed)).cpu()
    return {"normal": mean_discrepancy(z, one), "model": mean_discrepancy(z, own), "floor": mean_discrepancy(one, two)}


def warnings(loaded: LoadedModel, molecules: HeldOut, likelihood: dict[str, Any] | None, codes: Codes) -> list[str]:
    """Return what a reader of the figures must know: collapse of the posterior, with its remedy, first."""
    said = []
    latent = codes.posterior.mean.shape[1]
    active = int((codes.posterior.mean.var(0) > ACTIVE_VARIANCE).sum()) if len(molecules) > 1 else latent
    rate = math.inf if likelihood is None else likelihood["rate"]["mean"]
    if active < COLLAPSED_SHARE * latent or rate < COLLAPSED_RATE:
        said.append(
            f"The posterior has collapsed: {active} of {latent} units are active"
            + (f" and the rate is {rate:.2f} nats. " if math.isfinite(rate) else ". ")
            + "Train with a lower objective.beta, with objective.schedule = cyclical or a rate held at "
            "objective.target_rate, with objective.free_bits, or with objective.token_dropout."
        )
    if likelihood is None:
        said.append(
            f"Objective {loaded.config.objective.name} gives codes without noise: there is no rate and no bound."
        )
    elif "model" not in likelihood["priors"]:
        said.append(f"The prior {type(loaded.model.prior).__name__} has no density: bounds are under N(0, I) only.")
    conditions = loaded.model.condition_names
    if conditions and not loaded.config.model.condition_dropout:
        known = ~np.isnan(molecules.properties[:, [info.name in conditions for info in loaded.model.property_info]])
        if not known.all():
            said.append("The decoder always had its properties in training, and some are unknown here.")
    return said
