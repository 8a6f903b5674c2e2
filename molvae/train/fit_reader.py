"""Teach a model to read the properties of what it wrote, from all that its encoder knows before it is squeezed into z.

In: a frozen model, rows of a dataset, drafts with values. Out: a `PropertyReader`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from molvae.data.dataset import Dataset
from molvae.nn.heads import PropertyReader
from molvae.nn.model import SequenceVAE
from molvae.train.fit_head import FEWEST, LEAST, MOST, NORMAL_90
from molvae.train.prior_codes import batches_by_length

HIDDEN = 256
STEPS = 8000
PASSES = 20
"""Times that each molecule is seen at most: after more a reader knows its lesson by heart and is far too sure."""
BATCH = 512
LR = 2e-3
ABSOLUTE = 0.5
"""Weight of the absolute error beside the nats: what a reading is worth is judged by that."""


@dataclass(frozen=True)
class Lesson:
    """N molecules to read: ``summary`` (N, S) half precision, ``targets`` (N, P) standardised, NaN where unknown."""

    summary: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.summary)

    def split(self, share: float, generator: torch.Generator) -> tuple[Lesson, Lesson]:
        """Return all but a ``share`` of the molecules, and that share."""
        order = torch.randperm(len(self), generator=generator)
        cut = round(share * len(self))
        return tuple(Lesson(self.summary[part], self.targets[part]) for part in (order[cut:], order[:cut]))  # type: ignore[return-value]


@torch.no_grad()
def dataset_lesson(model: SequenceVAE, dataset: Dataset, rows: NDArray[np.int64]) -> Lesson:
    """Return what the encoder of ``model`` knows of ``rows`` (N,) of a dataset that has its properties."""
    summary = torch.zeros(len(rows), model.encoder.summary_size, dtype=torch.float16)
    for picked, batch in batches_by_length(model, dataset, rows):
        summary[picked] = model.encoder.summarise(batch.tokens, batch.lengths).half().cpu()
    values = torch.from_numpy(np.array(dataset.properties[rows], dtype=np.float32)).to(model.device)
    return Lesson(summary, model.targets(values).cpu())


def steps_for(real: Lesson, drafts: Lesson) -> int:
    """Return how many steps of Adam a reader takes; its rate falls to 0 in them."""
    return min(STEPS, math.ceil(PASSES * 2 * min(len(real), len(drafts)) / BATCH))


def fit_reader(
    model: SequenceVAE, real: Lesson, drafts: Lesson, seed: int, say: Callable[[int], None] | None = None
) -> PropertyReader:
    """Fit a reader to real molecules and drafts, half of each batch from either, with a Gaussian likelihood.

    Args:
        model: whose encoder wrote the summaries; it stays as it is.
        real, drafts: at least one molecule each.
        seed: of weights and batches.
        say: told the steps taken, of `steps_for`.
    """
    steps = steps_for(real, drafts)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = PropertyReader(model.encoder.summary_size, HIDDEN, len(model.predict_names))
    reader.to(model.device)
    optimizer = torch.optim.Adam(reader.parameters(), LR)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * (1 - step / steps)
        parts = [(part, torch.randint(len(part), (BATCH // 2,), generator=generator)) for part in (real, drafts)]
        summary, targets = (
            torch.cat([getattr(part, name)[rows] for part, rows in parts]).float().to(model.device)
            for name in ("summary", "targets")
        )
        optimizer.zero_grad(set_to_none=True)
        _loss(reader, summary, targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if say:
            say(step + 1)
    return reader.eval()


def _loss(reader: PropertyReader, summary: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    mean, log_std = reader(summary)
    known = ~targets.isnan()
    error = (mean - targets.nan_to_num(0.0)) * known
    nats = (0.5 * (error / log_std.exp()).square() + log_std) * known
    loss: torch.Tensor = (nats.sum() + ABSOLUTE * error.abs().sum()) / known.sum().clamp(min=1)
    return loss


@torch.no_grad()
def calibrate(reader: PropertyReader, lesson: Lesson) -> list[float]:
    """Stretch the deviations of ``reader``, in place, until its 90 % intervals hold 90 % of molecules new to it.

    Returns the factor of each of P properties; 1 where fewer than `FEWEST` values are known.

    Args:
        lesson: molecules that it did not learn from, of the kind that it will read.
    """
    device = next(reader.parameters()).device
    mean, log_std = reader(lesson.summary.float().to(device))
    misses = (mean - lesson.targets.to(device)).abs() / log_std.exp()
    last, factors = cast("torch.nn.Linear", reader.network[-1]), []
    for column in range(reader.properties):
        known = misses[:, column][~misses[:, column].isnan()]
        factor = float(torch.quantile(known, 0.9)) / NORMAL_90 if len(known) >= FEWEST else 1.0
        factor = min(max(factor, LEAST), MOST)
        last.bias[reader.properties + column] += math.log(factor)
        factors.append(factor)
    return factors


@dataclass(frozen=True)
class Judged:
    """How well ``who`` reads ``n`` molecules: for each of P properties ``mad`` in its own unit, ``inside`` its 90 %."""

    what: str
    who: str
    n: int
    mad: list[float]
    inside: list[float]


@torch.no_grad()
def judge(model: SequenceVAE, what: str, lesson: Lesson) -> list[Judged]:
    """Say how well the heads, on the code that follows from a summary, and the reader of ``model`` read molecules.

    Args:
        model: with heads; without a reader only they are judged.
        what: the molecules, in words.
        lesson: molecules that neither learned from.
    """
    summary, targets = lesson.summary.float().to(model.device), lesson.targets.to(model.device)
    said = {"heads": model.heads(model.encoder.to_mean(summary))}
    if model.reader is not None:
        said["reader"] = model.reader(summary)
    unit = model.scaler.std[[[info.name for info in model.property_info].index(one) for one in model.predict_names]]
    found = []
    for who, (mean, log_std) in said.items():
        error = (mean[:, : targets.shape[1]] - targets).abs()
        inside = (error <= NORMAL_90 * log_std.exp()).float().masked_fill(targets.isnan(), float("nan"))
        mad = error.nanmean(0) * unit.to(error)
        found.append(Judged(what, who, len(lesson), mad.tolist(), inside.nanmean(0).tolist()))
    return found
