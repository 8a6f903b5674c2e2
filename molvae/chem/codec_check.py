"""Read SMILES that the codec wrote with RDKit: once, and a second time only where that can change the answer.

In: SMILES as `TokenCodec` writes it. Out: canonical SMILES and molecule as `standardize_mol` gives them, or `Rejected`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rdkit import Chem
from rdkit.Chem import rdqueries

from molvae.chem.rejected import Rejected
from molvae.chem.standardize import MAX_LENGTH, standardize_mol

_DOUBTFUL = re.compile(r"[:>~$]|%\(|\[\d*H")
"""Bonds SELFIES has no word for, ring numbers above 99, hydrogen as an atom."""
_MARKS = 2
"""``/`` and ``\\`` that one double bond needs; with more of them several double bonds may share one."""


@lru_cache(maxsize=1)
def _relative_centre() -> Chem.QueryAtom:
    """Return the query for stereo centres without R or S: those that have a meaning only beside another one."""
    query = rdqueries.HasChiralTagQueryAtom()
    query.ExpandQuery(rdqueries.HasPropQueryAtom("_CIPCode", negate=True))
    return query


def _may_change(canonical: str, mol: Chem.Mol) -> bool:
    """Say whether a canonical SMILES belongs to a kind that RDKit may write differently when it reads it again.

    All that are known to change hold stereo centres that lean on each other (1,4-disubstituted rings, cages) or several
    marked double bonds with hydrogen as an atom; the other kinds are here because SELFIES does not write them.
    """
    marks = canonical.count("/") + canonical.count("\\")
    if marks > _MARKS or _DOUBTFUL.search(canonical):
        return True
    centres = canonical.count("@") - canonical.count("@@")
    # A lone centre has nothing to lean on: RDKit drops it unless it is R or S.
    return centres + marks > 1 and centres > 0 and len(mol.GetAtomsMatchingQuery(_relative_centre())) > 0


def check_decoded(smiles: str) -> tuple[str, Chem.Mol] | Rejected:
    """Return the canonical SMILES and the molecule that a decoded string stands for, or why it stands for none.

    RDKit has read and sanitised every string that is returned. `standardize_mol` also reads every canonical SMILES
    again, to see that it does not change; here that is done where it may. Of 696,000 decoded strings (real, corrupted
    and random ones, with cages and stereo) 24 changed, all of kinds that are read again here too;
    ``scripts/check_codec.py --reread`` counts them.

    Args:
        smiles: what a codec wrote; other strings belong to `standardize_mol`.

    >>> check_decoded("OCC")[0], check_decoded("").reason, check_decoded("F(C)C").reason
    ('CCO', 'empty', 'sanitize')
    """
    if 0 < len(smiles) <= MAX_LENGTH:
        mol = Chem.MolFromSmiles(smiles)
        if mol is not None:
            canonical = Chem.MolToSmiles(mol)
            if canonical == smiles or (canonical and not _may_change(canonical, mol)):
                return canonical, mol
    result = standardize_mol(smiles)
    return result if isinstance(result, Rejected) else (result[0].smiles, result[1])
