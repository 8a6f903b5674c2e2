"""Measure a trained model and write it as a shipped model: half precision, with its card.

    python scripts/ship_model.py RUN DATASET TEST.csv.gz -o molvae/pretrained/moses

RUN is a directory that `molvae train` wrote, DATASET what it was trained on, TEST a file of molecules it never saw.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

import torch

from molvae.benchmark.card import Protocol, card_table, measure_card
from molvae.errors import MolvaeError
from molvae.files import write_text
from molvae.generate.known import load_known
from molvae.nn.checkpoint import load_model, save_model

PRIORS = {"gmm": "Gaussian mixture", "flow": "normalizing flow", "normal": "standard normal, not"}
CARD = """# {name}

The default model of molvae: a beta-VAE on SELFIES (bidirectional GRU encoder, {latent} latents, {layers}-layer GRU
decoder, {parameters:,} weights in half precision), trained on the {molecules:,} molecules of the MOSES training
split that `scripts/train_moses.sh` prepares. It writes neutral drug-like molecules of C, N, O, S, F, Cl and Br
without stereo centres, and rejects anything else by name.

{table}
Trained {minutes:.0f} minutes, {steps:,} steps, {seen:,} molecules ({epochs:.2f} epochs), seed {seed}, on {hardware}.
The prior is a {prior} fitted to codes of the training split. FCD is biased upwards by the number of molecules:
read it beside the floor. Settings are in `config.json`, the course of training in `metrics.jsonl`.

Known limits: samples of the prior are worse than decoded posteriors by the difference of the two FCD figures above;
no stereo, no charges, no elements beyond the seven, no salts. MOSES holds molecules of 250 to 350 g/mol; two smaller
drugs that were tried, paracetamol and aspirin, do not come back exactly.

Data: MOSES (MIT licence), https://doi.org/10.3389/fphar.2020.565644, from the PyPI package molsets 0.3.1.
"""


def hardware(threads: int | None) -> str:
    """Return the processor, and how many threads of it were used to train."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{threads} of {len(os.sched_getaffinity(0))} cores of an {name}" if threads else name


def main() -> None:
    """Measure, write, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    source = load_model(given.run, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        # Measured after rounding to half precision: the card describes the files that are shipped.
        save_model(Path(folder), source.model, source.vocabulary, source.config, source.facts, half=True)
        loaded = load_model(folder, "cpu")
    training, held_out = sorted(load_known(given.dataset)), sorted(load_known(given.test))
    protocol = Protocol(given.n, given.seed)
    figures = measure_card(loaded, training, held_out, protocol, lambda text: sys.stderr.write(f"{text} ...\n"))
    facts = {**source.facts, "figures": {key: round(value, 5) for key, value in figures.items()}}
    table = card_table(figures, facts, protocol.held_out)
    card = CARD.format(
        name=given.output.name, latent=source.model.latent, layers=source.config.model.decoder_layers,
        parameters=sum(parameter.numel() for parameter in source.model.parameters()), table=table,
        molecules=len(training), minutes=facts["minutes"], steps=facts["steps"], seen=facts["molecules_seen"],
        epochs=facts["molecules_seen"] / len(training), seed=facts["seed"],
        hardware=hardware(source.config.train.threads),
        prior=PRIORS[(facts["prior"] or {"kind": "normal"})["kind"]],
    )  # fmt: skip
    given.output.mkdir(parents=True, exist_ok=True)
    write_text(given.output / "metrics.jsonl", (given.run / "metrics.jsonl").read_text("utf-8"))
    save_model(given.output, source.model, source.vocabulary, source.config, facts, half=True, card=card)
    sys.stdout.write(f"{card}\nwrote {given.output}\n{json.dumps(facts['figures'])}\n")


if __name__ == "__main__":
    try:
        main()
    except MolvaeError as error:
        sys.exit(str(error))
