"""Find the ring skeleton of a molecule.

In: SMILES or molecules. Out: Murcko scaffolds as canonical SMILES.
"""

from __future__ import annotations

from rdkit import Chem
from rdkit.Chem.Scaffolds import MurckoScaffold

from molvae.chem.rejected import Rejected
from molvae.chem.standardize import read


def murcko_mol(mol: Chem.Mol) -> str:
    """Return the Murcko scaffold (rings and the chains between them, no stereo) of a sanitised molecule."""
    return str(Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(mol), isomericSmiles=False))


def murcko(smiles: str) -> str:
    """Return the Murcko scaffold of a SMILES; "" for a molecule without rings or a string that is none.

    Stereo is dropped; charges inside the scaffold stay; of a salt every fragment's rings are kept.

    >>> murcko("CCc1ccccc1O")
    'c1ccccc1'
    >>> murcko("CCO")
    ''
    """
    mol = read(smiles)
    return "" if isinstance(mol, Rejected) else murcko_mol(mol)
