"""Say how far drafts are from what is asked for: as the model reads them, or as RDKit does.

In: drafts as read back, what is wanted (N, P). Out: a `Reading`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from molvae.chem.properties import PROPERTIES, compute
from molvae.generate.read_back import ReadBack
from molvae.nn.model import SequenceVAE

By = Literal["model", "rdkit"]
"""model: its reader if it has one (`molvae.nn.heads.PropertyReader`), else its heads at the code of the draft. rdkit:
its value where it can compute one, which makes every draft one of the k molecules that the best is taken of."""


@dataclass(frozen=True)
class Reading:
    """How far N drafts are from their requests, in the training set's standard deviations.

    Attributes:
        off: (N,) the largest difference between what is read and what is asked; infinite for what cannot be read.
        missed: (N,) the difference to be expected: ``off`` and how unsure the reading is, in quadrature.
        aims: (N, P) what the heads should say where the draft stands right, NaN where nothing is asked.
    """

    off: torch.Tensor
    missed: torch.Tensor
    aims: torch.Tensor

    def without(self, lost: torch.Tensor) -> Reading:
        """Return the same with the rows of ``lost`` (N,) infinitely far away."""
        return replace(self, off=self.off.masked_fill(lost, math.inf), missed=self.missed.masked_fill(lost, math.inf))


@torch.no_grad()
def read_drafts(
    model: SequenceVAE, read: ReadBack, wanted: torch.Tensor, by: By = "model", workers: int | None = None,
    ends: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> Reading:  # fmt: skip
    """Read drafts.

    Of two drafts that read the same, the surer one is more often what it is read as: taken by the error to be expected
    instead of by the difference alone, MAD of SAS on ``moses`` was .27 instead of .29, others within chance (n = 192).

    Args:
        model: with heads, and perhaps a reader, which then stands in for them (not for heads fitted afterwards).
        read: N drafts.
        wanted: (N, P) as `SequenceVAE.targets` gives them, NaN where nothing is asked for.
        by: who reads.
        workers: processes for chemistry; None means every core.
        ends: lower and upper ends (N, P) of what is asked for, scaled as ``wanted``, which lies between them; a draft
            that is read as lying inside by a deviation or more misses nothing. None where points are asked for.
    """
    said, log_std = model.heads(read.latents)
    mean, log_std = said.clone(), log_std.clone()
    if model.reader is not None:
        trained = slice(model.reader.properties)
        mean[:, trained], log_std[:, trained] = model.reader(read.summary)
    variance = (2 * log_std).exp()
    if by == "rdkit":
        known = _computed(model, read.smiles, wanted, workers)
        mean, variance = torch.where(known.isnan(), mean, known), variance * known.isnan()
    asked = ~wanted.isnan()
    away = (mean - wanted).abs()
    if ends is not None:
        low, high = ends
        outside = torch.maximum(low - mean, mean - high) + variance.sqrt()
        away = torch.minimum(away, outside.clamp(min=0.0))
    off: torch.Tensor = away.nan_to_num(0.0).amax(1)
    doubt = (variance * asked).sum(1) / asked.sum(1).clamp(min=1)
    # What the heads misread of this draft they will misread of the next one too: it counts as an offset.
    return Reading(off, (off.square() + doubt).sqrt(), wanted + said - mean)


def _computed(model: SequenceVAE, smiles: Sequence[str], wanted: torch.Tensor, workers: int | None) -> torch.Tensor:
    """Return RDKit's values, standardised, (N, P); NaN where nothing is asked for or RDKit cannot say."""
    asked = (~wanted.isnan()).any(0).tolist()
    names = [name for name, one in zip(model.predict_names, asked, strict=True) if one and name in PROPERTIES]
    columns = [entry.name for entry in model.property_info]
    values = torch.full((len(smiles), len(columns)), math.nan)
    if names:
        found = torch.from_numpy(compute(smiles, names, workers)).float()
        values[:, [columns.index(name) for name in names]] = found
    return model.targets(values.to(wanted.device))
