"""Measure a trained model and write it as a shipped model: half precision, with its card and held-out molecules.

    python scripts/ship_model.py RUN DATASET --asked FILE --reference FILE --text scripts/moses_card.md -o OUT

RUN is a directory that `molvae train` or `molvae finetune` wrote, DATASET what it was trained on. FILEs hold molecules
it never saw: those to be reconstructed and the reference of FCD; where both are one file, two disjoint parts are used.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from molvae.benchmark.card import HeldOut, card_table, choose_temperature, measure_card
from molvae.data.table import read_smiles
from molvae.errors import MolvaeError
from molvae.files import write_text
from molvae.generate.anomaly import MEASURED, SAMPLES, USUAL, read_reference
from molvae.generate.known import load_known
from molvae.nn.checkpoint import LoadedModel, load_model, save_model
from molvae.train.run import ROUNDS

PRIORS = {"gmm": "Gaussian mixture", "flow": "normalizing flow", "normal": "standard normal, not"}
KEPT = 1000
"""Held-out molecules that travel with the model; fine-tuning measures on them what is forgotten."""
CHOICE_N = 2500


def hardware(threads: int | None) -> str:
    """Return the processor, and how many threads of it were used to train."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{threads} of {os.cpu_count()} cores of an {name}" if threads else name


def held_out(given: argparse.Namespace) -> HeldOut:
    """Return the molecules to be reconstructed and the reference, disjoint when both come from one file."""
    asked = read_smiles(given.asked)
    asked = [asked[place] for place in np.random.default_rng(given.seed).permutation(len(asked))]
    reference = sorted(load_known(given.reference))
    if given.asked == given.reference:
        asked = asked[: given.asked_n]
        reference = sorted(set(reference) - load_known_list(asked))
    return HeldOut(asked[: given.asked_n], given.asked_name, reference, given.reference_name)


def load_known_list(smiles: list[str]) -> set[str]:
    """Return canonical forms of ``smiles`` where they have one."""
    from molvae.chem.rejected import Rejected
    from molvae.chem.standardize import standardize_many

    return {one.smiles for one in standardize_many(smiles) if not isinstance(one, Rejected)}


def rounded(source: LoadedModel, temperature: float | None) -> LoadedModel:
    """Return ``source`` as it will be shipped: its weights rounded to half precision, and how it is to be sampled."""
    chosen = {} if temperature is None else {"temperature": temperature, "rounds": ROUNDS}
    facts = {**source.facts, **chosen}
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), source.model, source.vocabulary, source.config, facts, half=True)
        return load_model(folder, "cpu")


def write(source: LoadedModel, facts: dict[str, Any], found: HeldOut, card: str, given: argparse.Namespace) -> None:
    """Write the shipped model's directory."""
    given.output.mkdir(parents=True, exist_ok=True)
    write_text(given.output / "metrics.jsonl", (given.run / "metrics.jsonl").read_text("utf-8"))
    write_text(given.output / "held_out.smi", "\n".join(found.asked[:KEPT]) + "\n")
    save_model(given.output, source.model, source.vocabulary, source.config, facts, half=True, card=card)


def main() -> None:
    """Choose the temperature, measure, write, and print the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--asked", type=Path, required=True)
    parser.add_argument("--asked-name", default="held-out")
    parser.add_argument("--asked-n", type=int, default=10_000)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--reference-name", default="held-out")
    parser.add_argument("--text", type=Path, required=True, help="the card, with {places} for the facts")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--temperature", type=float, help="of tokens; left out, the one with the least FCD")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    source, training, found = load_model(given.run, "cpu"), sorted(load_known(given.dataset)), held_out(given)

    def say(text: str) -> None:
        sys.stderr.write(f"{text} ...\n")

    say("token temperature")
    temperature, choices = choose_temperature(rounded(source, None), training, min(CHOICE_N, given.n), given.seed)
    temperature = temperature if given.temperature is None else given.temperature
    # Measured after rounding to half precision: the card describes the files that are shipped.
    loaded = rounded(source, temperature)
    figures = measure_card(loaded, training, found, given.n, given.seed, say) | {"fcd_by_temperature": choices}
    figures = {k: {t: round(f, 3) for t, f in v.items()} if isinstance(v, dict) else round(v, 5)
               for k, v in figures.items()}  # fmt: skip
    usual = read_reference(loaded, found.asked[:MEASURED]).facts()
    facts = {**loaded.facts, "figures": figures, USUAL: {"samples": SAMPLES, **usual}}
    card = given.text.read_text("utf-8").format(
        name=given.output.name, latent=source.model.latent, layers=source.config.model.decoder_layers,
        parameters=sum(parameter.numel() for parameter in source.model.parameters()),
        table=card_table(figures, facts, found), molecules=len(training), minutes=facts["minutes"],
        steps=facts["steps"], seen=facts["molecules_seen"], epochs=facts["molecules_seen"] / len(training),
        seed=facts["seed"], hardware=hardware(source.config.train.threads or given.threads),
        prior=PRIORS[(facts["prior"] or {"kind": "normal"})["kind"]], temperature=temperature,
        choices=", ".join(f"{value:.2f} at {name}" for name, value in choices.items()), choice_n=CHOICE_N,
        rounds=ROUNDS,
    )  # fmt: skip
    write(source, facts, found, card, given)
    sys.stdout.write(f"{card}\nwrote {given.output}\n{json.dumps(figures)}\n")


if __name__ == "__main__":
    try:
        main()
    except MolvaeError as error:
        sys.exit(str(error))
