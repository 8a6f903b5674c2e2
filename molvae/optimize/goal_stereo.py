"""Say whether a molecule keeps the stereochemistry of the one it was made from.

In: two sanitised RDKit molecules. Out: the first stereocentre or double bond that was lost or turned round, "" for
none.

Both are laid over each other by their largest common substructure. A centre is compared when it and all its neighbours
but one have a counterpart; where more has changed there is nothing left to keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rdkit import Chem
from rdkit.Chem import rdFMCS

SECONDS = 2
"""The common substructure is looked for this long; when time runs out the largest found so far serves."""
OVERLAYS = 64

_TAGS = (Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW)
_CIS = (Chem.BondStereo.STEREOZ, Chem.BondStereo.STEREOCIS)
_TRANS = (Chem.BondStereo.STEREOE, Chem.BondStereo.STEREOTRANS)


def lost_stereo(start: Chem.Mol, mol: Chem.Mol) -> str:
    """Return what was lost, "" when all stereochemistry of ``start`` that ``mol`` can have is there.

    >>> alanine, other = Chem.MolFromSmiles("C[C@H](N)C(=O)O"), Chem.MolFromSmiles("C[C@@H](N)C(=O)OC")
    >>> lost_stereo(alanine, other)
    'stereocentre 2 (C) of the start is turned round'
    >>> lost_stereo(alanine, Chem.MolFromSmiles("C[C@H](N)C(=O)OC"))
    ''
    """
    centres = [atom.GetIdx() for atom in start.GetAtoms() if atom.GetChiralTag() in _TAGS]
    bonds = [bond.GetIdx() for bond in start.GetBonds() if bond.GetStereo() in (*_CIS, *_TRANS)]
    if not centres and not bonds:
        return ""
    common = rdFMCS.FindMCS([start, mol], timeout=SECONDS, ringMatchesRingOnly=True)
    if not common.numBonds:
        return ""
    ours = start.GetSubstructMatch(common.queryMol)
    full_start, full = Chem.AddHs(start), Chem.AddHs(mol)
    possible = {(info.type, info.centeredOn) for info in Chem.FindPotentialStereo(full)}
    problem = ""
    for theirs in mol.GetSubstructMatches(common.queryMol, uniquify=False, maxMatches=OVERLAYS):
        places = dict(zip(ours, theirs, strict=True))
        problem = _lost_centre(full_start, full, centres, places, possible)
        problem = problem or _lost_bond(full_start, full, bonds, places, possible)
        if not problem:
            return ""
    return problem


def _lost_centre(
    start: Chem.Mol, mol: Chem.Mol, centres: Sequence[int], places: Mapping[int, int], possible: set[tuple[object, int]]
) -> str:
    for centre in centres:
        if centre not in places:
            continue
        before, after = start.GetAtomWithIdx(centre), mol.GetAtomWithIdx(places[centre])
        order = _same_order(before, after, places)
        if order is None:
            continue
        name = f"stereocentre {centre + 1} ({before.GetSymbol()}) of the start"
        if after.GetChiralTag() not in _TAGS:
            if (Chem.StereoType.Atom_Tetrahedral, after.GetIdx()) in possible:
                return f"{name} is no longer specified"
            continue
        if (before.GetChiralTag() == after.GetChiralTag()) != _is_even(order):
            return f"{name} is turned round"
    return ""


def _same_order(before: Chem.Atom, after: Chem.Atom, places: Mapping[int, int]) -> list[int] | None:
    """Return where each neighbour of ``before`` stands among those of ``after``; None when they do not correspond."""
    theirs = [atom.GetIdx() for atom in after.GetNeighbors()]
    mapped = [places.get(atom.GetIdx(), -1) for atom in before.GetNeighbors()]
    mapped = [place if place in theirs else -1 for place in mapped]
    left = [place for place in theirs if place not in mapped]
    if len(mapped) != len(theirs) or mapped.count(-1) > 1:
        return None
    return [theirs.index(place if place >= 0 else left[0]) for place in mapped]


def _is_even(order: Sequence[int]) -> bool:
    swaps = sum(order[i] > order[j] for i in range(len(order)) for j in range(i + 1, len(order)))
    return swaps % 2 == 0


def _lost_bond(
    start: Chem.Mol, mol: Chem.Mol, bonds: Sequence[int], places: Mapping[int, int], possible: set[tuple[object, int]]
) -> str:
    for number in bonds:
        before = start.GetBondWithIdx(number)
        ends, sides = (before.GetBeginAtomIdx(), before.GetEndAtomIdx()), tuple(before.GetStereoAtoms())
        if not all(atom in places for atom in (*ends, *sides)):
            continue
        after = mol.GetBondBetweenAtoms(*(places[atom] for atom in ends))
        if after is None or after.GetBondType() != Chem.BondType.DOUBLE:
            continue
        name = f"double bond {ends[0] + 1}-{ends[1] + 1} of the start"
        if after.GetStereo() not in (*_CIS, *_TRANS):
            if (Chem.StereoType.Bond_Double, after.GetIdx()) in possible:
                return f"{name} is no longer specified"
            continue
        # Each end where the other neighbour is the one named turns cis into trans.
        other = sum(places[atom] not in tuple(after.GetStereoAtoms()) for atom in sides)
        if ((before.GetStereo() in _CIS) == (after.GetStereo() in _CIS)) != (other % 2 == 0):
            return f"{name} is turned round"
    return ""
