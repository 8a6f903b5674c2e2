"""Bring properties to mean 0 and standard deviation 1, and back.

In: (B, P) values in their own units, NaN where missing. Out: the same, standardised.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from molvae.data.dataset import PropertyInfo


class Scaler:
    """Affine scaling of P properties by statistics of the training split.

    A constant property (standard deviation 0) is only centred.
    """

    def __init__(self, info: Sequence[PropertyInfo]) -> None:
        self.mean = torch.tensor([entry.mean for entry in info], dtype=torch.float32)
        self.std = torch.tensor([entry.std if entry.std > 0 else 1.0 for entry in info], dtype=torch.float32)

    def scale(self, values: torch.Tensor) -> torch.Tensor:
        """Return standardised ``values`` (B, P); NaN stays NaN."""
        return (values - self.mean.to(values.device)) / self.std.to(values.device)

    def unscale(self, values: torch.Tensor) -> torch.Tensor:
        """Return ``values`` (B, P) in the properties' own units."""
        return values * self.std.to(values.device) + self.mean.to(values.device)
