"""Molecules that do not belong to MOSES, made by RDKit from molecules that do.

In: SMILES of ordinary molecules and a random generator. Out: SMILES of four kinds of outsiders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from rdkit import Chem, RDLogger

from molvae.chem.rejected import Rejected
from molvae.chem.selfies import decode
from molvae.chem.standardize import standardize

RDLogger.DisableLog("rdApp.*")

SIDE_CHAINS = (
    "", "(C)", "(C(C)C)", "(CC(C)C)", "(CO)", "(C(C)O)", "(CS)", "(CCSC)", "(CC(N)=O)", "(CCC(N)=O)", "(CC(=O)O)",
    "(CCC(=O)O)", "(CCCCN)", "(Cc9ccccc9)", "(Cc9ccc(O)cc9)", "(Cc9c[nH]c8ccccc89)", "(Cc9cnc[nH]9)",
)  # fmt: skip
LINKS = ("C", "C", "CC", "O", "N", "CCO", "C(C)", "C=C", "C(=O)N", "OC(=O)", "c9cccc(c9)")
SMALLEST = 8


def canonical(smiles: str) -> str | None:
    """Return the canonical SMILES, or None when it is no molecule."""
    result = standardize(smiles)
    return None if isinstance(result, Rejected) else result.smiles


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return str(choices[int(rng.integers(len(choices)))])


def foreign(ordinary: Sequence[str], rng: np.random.Generator) -> str | None:
    """Change one atom of an ordinary molecule into an element or a charge that MOSES lacks."""
    mol = Chem.RWMol(Chem.MolFromSmiles(_pick(rng, ordinary)))
    edits = (
        ("[CX4;H2]", 14, 0), ("[F,Cl,Br]", 53, 0), ("[SX2]", 34, 0), ("[OX2H]", 8, -1), ("[nX2]", 7, 1),
        ("[CX4;H1]", 5, 0), ("[NX3;H0;!$(N-C=O);!$(N-S)]", 15, 0),
    )  # fmt: skip
    for place in rng.permutation(len(edits)):
        pattern, element, charge = edits[place]
        found = mol.GetSubstructMatches(Chem.MolFromSmarts(pattern))
        if found:
            atom = mol.GetAtomWithIdx(int(found[int(rng.integers(len(found)))][0]))
            atom.SetAtomicNum(element)
            atom.SetFormalCharge(charge)
            if charge > 0:
                atom.SetNumExplicitHs(1)
            return canonical(Chem.MolToSmiles(mol))
    return None


def random_tokens(tokens: Sequence[str], rng: np.random.Generator) -> str | None:
    """Decode 20 to 60 tokens drawn evenly."""
    length = int(rng.integers(20, 61))
    smiles = canonical(decode([_pick(rng, tokens) for _ in range(length)]))
    return smiles if smiles and Chem.MolFromSmiles(smiles).GetNumAtoms() >= SMALLEST else None


def chain_or_macrocycle(rng: np.random.Generator) -> str | None:
    """Make a peptide of 3 to 6 residues, such a peptide closed to a ring, or another ring of 12 and more atoms."""
    kind = int(rng.integers(4))
    if kind == 3:
        links = "".join(_pick(rng, LINKS) for _ in range(int(rng.integers(7, 13))))
        smiles = canonical(f"C1{links}CC1")
        if smiles is None:
            return None
        mol = Chem.MolFromSmiles(smiles)  # a name of its own: ring information dies with its molecule
        return smiles if max(map(len, mol.GetRingInfo().AtomRings()), default=0) >= 12 else None
    residues = [f"NC{_pick(rng, SIDE_CHAINS)}C(=O)" for _ in range(int(rng.integers(3, 7)) + (kind == 2))]
    chain = "".join(residues)
    return canonical(f"N1{chain[1:-5]}C1=O") if kind == 2 else canonical(f"{chain}O")


def _cut(smiles: str, rng: np.random.Generator) -> tuple[Chem.Mol, Chem.Mol] | None:
    """Cut one single bond between a ring and what is not in it; return the larger and the smaller part."""
    mol = Chem.MolFromSmiles(smiles)
    bonds = mol.GetSubstructMatches(Chem.MolFromSmarts("[R]-!@[!#1]"))
    for place in rng.permutation(len(bonds)):
        bond = mol.GetBondBetweenAtoms(*bonds[place]).GetIdx()
        parts = Chem.GetMolFrags(Chem.FragmentOnBonds(mol, [bond], dummyLabels=[(0, 0)]), asMols=True)
        if len(parts) == 2:
            small, large = sorted(parts, key=lambda part: part.GetNumAtoms())
            if small.GetNumAtoms() >= 5 and large.GetNumAtoms() >= SMALLEST:
                return large, small
    return None


def swapped(ordinary: Sequence[str], rng: np.random.Generator) -> str | None:
    """Put a fragment of one ordinary molecule onto the scaffold of another, at a bond to a ring."""
    one, two = _cut(_pick(rng, ordinary), rng), _cut(_pick(rng, ordinary), rng)
    if one is None or two is None:
        return None
    for part in (one[0], two[1]):
        for atom in part.GetAtoms():
            if atom.GetAtomicNum() == 0:
                atom.SetAtomMapNum(1)
    return canonical(Chem.MolToSmiles(Chem.molzip(one[0], two[1])))


def collect(make: Callable[[], str | None], n: int, known: frozenset[str]) -> list[str]:
    """Call ``make`` until it gave ``n`` different molecules outside ``known``."""
    found: dict[str, None] = {}
    while len(found) < n:
        smiles = make()
        if smiles and smiles not in known:
            found[smiles] = None
    return list(found)


def outsiders(
    ordinary: Sequence[str], tokens: Sequence[str], known: frozenset[str], n: int, seed: int
) -> dict[str, list[str]]:
    """Return ``n`` molecules of each kind, none of them in ``known``; the same seed gives the same ones."""
    makers: dict[str, Callable[[np.random.Generator], str | None]] = {
        "unseen elements and charges": lambda rng: foreign(ordinary, rng),
        "random token strings": lambda rng: random_tokens(tokens, rng),
        "macrocycles and peptides": chain_or_macrocycle,
        "fragments swapped": lambda rng: swapped(ordinary, rng),
    }
    found = {}
    for number, (kind, make) in enumerate(makers.items()):
        rng = np.random.default_rng((seed, number))
        found[kind] = collect(lambda make=make, rng=rng: make(rng), n, known)  # type: ignore[misc]
    return found
