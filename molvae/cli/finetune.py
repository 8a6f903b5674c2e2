"""Verb ``molvae finetune``: teach a trained model new molecules, keeping what it knows.

In: a dataset directory and a model. Out: a new model directory, and reconstruction of old and new molecules before and
after.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molvae.cli.options import Device, Model
from molvae.cli.train import (
    ConfigFile,
    DatasetDirectory,
    ModelDirectory,
    Resume,
    SeedOption,
    Settings,
    report_end,
    screen,
)  # fmt: skip

if TYPE_CHECKING:
    from molvae.data.dataset import Dataset
    from molvae.nn.checkpoint import LoadedModel

Rehearse = Annotated[
    str,
    typer.Option(
        help="Old molecules to train on beside the new ones: samples (the model's own), a file of SMILES, or none."
    ),
]
RehearseN = Annotated[int, typer.Option("--rehearse-n", min=1, help="How many old molecules.")]
Old = Annotated[
    Path | None,
    typer.Option(
        "--old",
        help="File of old molecules on which forgetting is measured; left out, those that came with the model.",
        show_default=False,
    ),
]

JUDGED = 1000
"""Molecules, old and new, on which reconstruction is measured."""


def command(
    dataset: DatasetDirectory,
    output: ModelDirectory,
    model: Model = None,
    rehearse: Rehearse = "samples",
    rehearse_n: RehearseN = 5000,
    old: Old = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Resume = False,
    seed: SeedOption = None,
    device: Device = "auto",
) -> None:
    """Teach a trained model new molecules, keeping what it knows.

    The model keeps its vocabulary and gets the tokens it lacks. Old molecules are rehearsed in the same batches as the
    new ones, so that a few hundred new ones do not erase the rest. Reconstruction of old and new molecules is printed
    before and after. 600 steps at a gentle rate unless --set says otherwise (train.epochs, train.max_minutes, ...).
    The prior is fitted to the new molecules where that explains held-out ones better than N(0, I); otherwise, and below
    200 molecules, it stays as it is.
    """
    from molvae.config import build_config, merge_values, read_values
    from molvae.data.dataset import load_dataset
    from molvae.nn.checkpoint import load_model
    from molvae.nn.extend import check_sizes
    from molvae.train.finetune import finetune_values, prepare_finetune
    from molvae.train.run import refuse_used, resume_values, train_model

    if not resume:
        refuse_used(output)
    values = read_values(config, [*(settings or []), *([f"seed={seed}"] if seed is not None else [])])
    source, data = load_model(model, device), load_dataset(dataset)
    chosen = build_config(merge_values(resume_values(output), values) if resume else finetune_values(source, values))
    # Refused here, before anything is drawn or measured.
    check_sizes(source.config.model, chosen.model)
    _say_tokens(source, data)
    judged = _judged(source, data, old)
    before = judged.measure(source)
    rehearsed = _rehearsed(source, rehearse, rehearse_n, chosen.seed)
    mixed, start = prepare_finetune(source, data, chosen, rehearsed)
    typer.echo(f"trains on {len(mixed.rows('train')):,} molecules: {len(data.rows('train')):,} new ones"
               f"{f' (repeated) and {len(rehearsed):,} rehearsed' if rehearsed else ''}")  # fmt: skip
    with ExitStack() as stack:
        callbacks, on_prior = screen(stack, output, mixed)
        trained = train_model(
            mixed, chosen, output, device=device, resume=resume, callbacks=callbacks, on_prior=on_prior, start=start
        )
    report_end(trained, output, start.codes, "finetune", f" -m {source.directory}")
    _compare(judged, before, judged.measure(trained.loaded))


@dataclass(frozen=True)
class _Judged:
    """Old and new held-out molecules, and the words for where they come from."""

    old: list[str]
    new: list[str]
    old_name: str
    new_name: str

    def measure(self, loaded: LoadedModel) -> tuple[float, float]:
        """Return the share of old and of new molecules that come back exactly (greedy, z = mean)."""
        from molvae.generate.reconstruction import reconstruct

        def share(smiles: list[str]) -> float:
            return float(reconstruct(loaded, smiles)["match"].mean()) if smiles else float("nan")

        return share(self.old), share(self.new)


def _say_tokens(source: LoadedModel, data: Dataset) -> None:
    from molvae.train.finetune import new_tokens

    added = new_tokens(source, data)
    if added:
        typer.echo(f"{len(added)} new tokens: {' '.join(added)}")
    else:
        typer.echo("no new tokens")


def _judged(source: LoadedModel, data: Dataset, old: Path | None) -> _Judged:
    """Choose the molecules on which the model is judged before and after."""
    from molvae.chem.selfies import decode

    split = next((name for name in ("test", "valid") if len(data.rows(name))), "train")
    rows = data.rows(split)[:JUDGED]
    new = [decode(data.vocabulary.decode(data.token_ids(int(row)))) for row in rows]
    kept = source.directory / "held_out.smi"
    if old is not None:
        return _Judged(_read(old)[:JUDGED], new, old.name, f"the {split} split")
    if kept.exists():
        return _Judged(_read(kept)[:JUDGED], new, "held out, never trained on", f"the {split} split")
    return _Judged(_samples(source, JUDGED, 2**31), new, "samples of the old model", f"the {split} split")


def _read(path: Path) -> list[str]:
    from molvae.generate.known import load_known

    return sorted(load_known(path))


def _samples(source: LoadedModel, n: int, seed: int) -> list[str]:
    """Return canonical SMILES that ``source`` draws, each latent decoded greedily."""
    from molvae.generate.molecules import sample
    from molvae.generate.sampling import GREEDY
    from molvae.generate.wanted import Wanted

    table = sample(source, n, GREEDY, Wanted(properties=(), alerts=False), seed=seed)
    return [str(one) for one in table["smiles"]]


def _rehearsed(source: LoadedModel, rehearse: str, n: int, seed: int) -> list[list[int]]:
    """Return the old molecules to rehearse as token ids of ``source``; what it cannot read is counted and said."""
    import numpy as np

    from molvae.chem.parallel import map_items
    from molvae.generate.chemistry import Read, Readable

    if rehearse == "none":
        return []
    if rehearse == "samples":
        typer.echo(f"drawing {n:,} molecules from the old model to rehearse", err=True)
        smiles = _samples(source, n, seed)
    else:
        known = _read(Path(rehearse))
        picked = np.random.default_rng(seed).permutation(len(known))[:n]
        smiles = [known[place] for place in sorted(picked)]
    results: list[Any] = map_items(Read(source.vocabulary), smiles)
    good = [list(result.token_ids) for result in results if isinstance(result, Readable)]
    if len(good) < len(smiles):
        typer.echo(f"note: {len(smiles) - len(good):,} of {len(smiles):,} old molecules cannot be read", err=True)
    return good


def _compare(judged: _Judged, before: tuple[float, float], after: tuple[float, float]) -> None:
    rows = (("old", judged.old, judged.old_name), ("new", judged.new, judged.new_name))
    for place, (word, smiles, name) in enumerate(rows):
        typer.echo(
            f"reconstruction of {len(smiles):,} {word} molecules ({name}): {before[place]:.1%} before, "
            f"{after[place]:.1%} after"
        )
