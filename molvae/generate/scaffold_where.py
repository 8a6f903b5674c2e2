"""Generate molecules that hold a scaffold and have what is asked for: `conditional` decides, `scaffold` writes.

In: a `LoadedModel`, a scaffold with [*], `Request`s. Out: the table of `sample_where` with what sits at each [*].

Latents are drawn and moved as for any request, and the decoder is told it; only the writing differs: the scaffold's
tokens are given, and masks keep what is new at its open positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import pandas as pd
import torch
from rdkit import Chem

from molvae.chem.attachment import Scaffold, read_scaffold, substituents
from molvae.chem.codec_check import check_decoded
from molvae.chem.parallel import map_items
from molvae.chem.rejected import Rejected
from molvae.errors import ConfigError
from molvae.generate.asking import PLAINLY, Asking
from molvae.generate.chemistry import Item
from molvae.generate.conditional import sample_where
from molvae.generate.molecules import sample
from molvae.generate.requests import Condition, Request, read_conditions
from molvae.generate.sampling import DEFAULT, SamplingOptions
from molvae.generate.scaffold import Writer, Yield, name_alerts, sample_scaffold
from molvae.generate.wanted import ANY, PROPERTIES, Wanted
from molvae.nn.checkpoint import LoadedModel

NOTHING: Item = ((), True)
"""What stands for a string that does not hold the scaffold: it becomes no molecule, and is written anew."""


class Composer:
    """Write around a scaffold, see `conditional.Compose`.

    Args:
        loaded: the model.
        scaffold: what every molecule holds.
        options: how tokens are chosen.
        seed: of all chance.

    Raises:
        InputError: when the model cannot write the scaffold.
    """

    def __init__(self, loaded: LoadedModel, scaffold: Scaffold, options: SamplingOptions, seed: int) -> None:
        self.scaffold, self.counts, self.seen = scaffold, Yield(), set[str]()
        self.writer = Writer(
            loaded, scaffold, options, lambda _, count, generator: loaded.model.prior.sample(count, generator), seed
        )

    def __call__(self, z: torch.Tensor, cond: torch.Tensor, guidance: float) -> tuple[list[Item], list[float]]:
        """Write one item for each latent ``z`` (N, D) under the condition ``cond`` (N, C)."""
        rows = self.writer.compose(z, self.counts, cond, guidance)
        items: list[Item] = [(row.token_ids, True) if self._holds(self.writer.text(row)) else NOTHING for row in rows]
        return items, [row.nats for row in rows]

    def _holds(self, text: str) -> bool:
        """Tell whether a string is a molecule with the scaffold, and count it."""
        checked = check_decoded(text)
        if isinstance(checked, Rejected) or any(atom.GetNumRadicalElectrons() for atom in checked[1].GetAtoms()):
            self.counts.failed += 1
            return False
        if substituents(self.scaffold, Chem.MolFromSmiles(checked[0])) is None:
            self.counts.lost += 1
            return False
        self.counts.again += checked[0] in self.seen
        self.counts.new += checked[0] not in self.seen
        self.seen.add(checked[0])
        return True


def sample_scaffold_where(
    loaded: LoadedModel, n: int, scaffold: str, requests: Sequence[Request], asking: Asking = PLAINLY, *,
    options: SamplingOptions = DEFAULT, properties: Sequence[str] = PROPERTIES, alerts: bool = True,
    known: frozenset[str] = frozenset(), seed: int = 0, workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Generate ``n`` different molecules that hold a scaffold and have what ``requests`` ask for, as nearly as can be.

    Args:
        loaded: the model.
        n: molecules wanted, 0 or more.
        scaffold: see `molvae.generate.scaffold.sample_scaffold`.
        requests, asking: see `molvae.generate.conditional.sample_where`.
        options, properties, alerts, known, seed, workers, progress: see `sample_scaffold`.

    Returns:
        The table of `sample_where` with R1 to R3 or linker beside the SMILES; ``attrs`` of both. The yield counts every
        string, also those that were written again because they missed the request.

    Raises:
        InputError, UnknownNameError, ConfigError: see `sample_scaffold` and `sample_where`.
    """
    read = read_scaffold(scaffold)
    composer = Composer(loaded, read, options, seed)
    wanted = Wanted(unique=True, novel_to=known, properties=properties, alerts=False)
    table = sample_where(
        loaded, n, requests, asking, options, wanted, seed=seed, workers=workers, progress=progress, compose=composer
    )
    parts = [substituents(read, Chem.MolFromSmiles(text)) or () for text in table["smiles"]]
    for place, name in enumerate(read.names, start=1):
        table.insert(place, name, pd.Series([each[place - 1] for each in parts], dtype=object))
    if alerts:
        named = map_items(name_alerts, list(table["smiles"]), workers)
        table["alerts"] = pd.Series(["" if isinstance(each, Rejected) else each for each in named], dtype=object)
    table.attrs |= {"yield": asdict(composer.counts), "yield_line": composer.counts.line(), "scaffold": read.smiles}
    return table


def sample_asked(
    loaded: LoadedModel, n: int, options: SamplingOptions = DEFAULT, wanted: Wanted = ANY, *,
    conditions: str | Mapping[str, Condition] | None = None, asking: Asking = PLAINLY, scaffold: str | None = None,
    seed: int = 0, batch_size: int | None = None, workers: int | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Generate ``n`` molecules with whatever is asked for: nothing, property values, a scaffold, or both.

    Raises:
        ConfigError: when a scaffold goes with ``keep_failed`` or a prior temperature: every string holds it, and its
            latents are not scaled.
        InputError, UnknownNameError: see `sample`, `sample_where`, `sample_scaffold`.
    """
    requests = None if conditions is None else read_conditions(conditions)
    if scaffold is not None:
        if wanted.keep_failed or wanted.prior_temperature != 1:
            raise ConfigError("A scaffold goes with neither keep_failed nor prior_temperature.", "Leave that out.")
        common = {"properties": wanted.properties, "alerts": wanted.alerts, "known": frozenset(wanted.novel_to)}
        rest = {**common, "options": options, "seed": seed, "workers": workers}
        if requests is None:
            return sample_scaffold(loaded, n, scaffold, **rest)  # type: ignore[arg-type]
        return sample_scaffold_where(loaded, n, scaffold, requests, asking, **rest)  # type: ignore[arg-type]
    given = {"seed": seed, "batch_size": batch_size, "workers": workers}
    if requests is None:
        return sample(loaded, n, options, wanted, **given)  # type: ignore[arg-type]
    return sample_where(loaded, n, requests, asking, options, wanted, **given)  # type: ignore[arg-type]
