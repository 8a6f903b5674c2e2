"""Bayesian optimisation on fingerprints: a Gaussian process judges, the model alone proposes.

In: starts. Out: proposals of molecules that the model decodes: from posteriors, between two molecules, from the prior.

Source: the process lives on fingerprints and the model is the prior, as in COWBOYS, Moss et al. 2025,
https://arxiv.org/abs/2503.05459; Tanimoto kernel: Ralaivola et al. 2005, doi 10.1016/j.neunet.2005.07.009
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from molvae.optimize.hybrid import Hybrid
from molvae.optimize.hybrid_options import HybridOptions
from molvae.optimize.surrogate import MORGAN_ONLY


@dataclass(frozen=True)
class TanimotoOptions(HybridOptions):
    """The settings of `TanimotoBo`: those of `HybridOptions`, with other defaults."""

    ranked: int = 10
    generations: int = 1
    moves: str = "noise+step+blend+prior"
    gate: str = "off"
    bandit: bool = False


class TanimotoBo(Hybrid):
    """See the module; `Hybrid` with the model's moves only, one generation, and Morgan bits alone in the kernel."""

    summary: ClassVar[str] = "Gaussian process on Morgan fingerprints, the model proposes"
    options: ClassVar[type[HybridOptions]] = TanimotoOptions
    kernels: ClassVar = MORGAN_ONLY
