"""molvae: train on SMILES, generate molecules, optimise their properties in latent space.

SMILES file -> standardize -> SELFIES -> token ids -> Batch -> GRU encoder q(z|x) -> z
  -> conditional GRU decoder p(x|z,c) -> token ids -> SELFIES -> SMILES -> RDKit checks -> table / report
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molvae.api import MolVAE as MolVAE
    from molvae.data.dataset import load_dataset as load_dataset

__version__ = "0.1.0"
__all__ = ["MolVAE", "__version__", "load_dataset"]

# Looked up on first use, so that `import molvae` and `molvae --help` load neither torch nor rdkit.
_HOMES = {"MolVAE": "molvae.api", "load_dataset": "molvae.data.dataset"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'molvae' has no attribute {name!r}")
