"""Take a piece out of test molecules and see whether the model puts it back first, or among its ten likeliest.

    python scripts/mask_benchmark.py test.csv.gz --reference train.csv.gz -m moses -n 100 -o masks.csv

Kinds: ``atom``, one heavy atom anywhere, the bonds to it left as they were; ``substituent`` and ``linker``, 2 to 8
heavy atoms behind one single bond that is in no ring, or between two, with their number given; ``substituent?`` and
``linker?`` with it unknown. Molecules are drawn from the file, one case each; one without such a piece is passed over.

Beside it stand guesses that know nothing of the molecule. Of an atom: the elements that are possible at that place, by
how often they occur in 1,000 other molecules; and all possible atoms in random order. Of a piece: the pieces cut most
often from other molecules, of the size asked for where it is known; and what the model wrote in random order.

Each case is a row of the output; rows that are there are kept, so that the same command goes on.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rdkit import Chem
from stored_rows import add_missing

from molvae.errors import InputError, MolvaeError
from molvae.generate.complete import SAMPLES, TRIES, complete_one
from molvae.generate.known import read_smiles
from molvae.nn.checkpoint import LoadedModel, load_model

KINDS = ("atom", "substituent", "linker", "substituent?", "linker?")
SIZES = range(2, 9)
"""Heavy atoms of a piece."""
LEAST_END = 3
"""Heavy atoms that stay on each side of a linker."""
REFERENCE = 1000
BEST = 10


@dataclass(frozen=True)
class Case:
    """A molecule less a piece: the ``masked`` text, what it was (canonical), the ``piece`` and its heavy ``atoms``."""

    masked: str
    truth: str
    piece: str
    atoms: int


@dataclass(frozen=True)
class Row:
    """One case of the output; ``rank`` and ``guess`` are 0 where the truth is not among the ten best.

    ``random_1`` and ``random_10`` are the chance of it when what was found is put in random order.
    """

    kind: str
    seed: int
    number: int
    masked: str
    truth: str
    piece: str
    best: str
    rank: int
    guess: int
    found: int
    candidates: int
    random_1: float
    random_10: float
    seconds: float


def take_atom(mol: Chem.Mol, rng: random.Random) -> Case:
    """Replace one heavy atom by {1}; bonds to it stay as they were, and say what they say."""
    place = rng.randrange(mol.GetNumAtoms())
    cut = Chem.RWMol(mol)
    atom = cut.GetAtomWithIdx(place)
    piece = str(atom.GetSymbol())
    atom.SetAtomicNum(0)
    atom.SetFormalCharge(0)
    atom.SetNoImplicit(False)
    atom.SetNumExplicitHs(0)
    return Case(_text(cut, "{1}"), Chem.MolToSmiles(mol), piece, 1)


def _text(mol: Chem.Mol, mask: str) -> str:
    return str(Chem.MolToSmiles(mol)).replace("[*]", "*").replace("*", mask)


def _single(mol: Chem.Mol) -> list[int]:
    return [b.GetIdx() for b in mol.GetBonds() if not b.IsInRing() and b.GetBondType() == Chem.BondType.SINGLE]


def take_substituent(mol: Chem.Mol, rng: random.Random) -> Case | None:
    """Cut off the smaller side of a bond; None where no side has a size of `SIZES`."""
    count, found = mol.GetNumAtoms(), []
    for bond in _single(mol):
        cut = Chem.FragmentOnBonds(mol, [bond], dummyLabels=[(0, 0)])
        for atoms in Chem.GetMolFrags(cut):
            size = sum(atom < count for atom in atoms)
            if size in SIZES and count - size >= size:
                rest = [atom for atom in range(cut.GetNumAtoms()) if atom not in atoms]
                found.append((bond, size, list(atoms), rest))
    if not found:
        return None
    bond, size, atoms, rest = rng.choice(found)
    cut = Chem.FragmentOnBonds(mol, [bond], dummyLabels=[(0, 0)])
    masked = Chem.MolFragmentToSmiles(cut, rest).replace("[*]", "*").replace("*", f"{{{size}}}")
    return Case(masked, Chem.MolToSmiles(mol), Chem.MolFragmentToSmiles(cut, atoms), size)


def take_linker(mol: Chem.Mol, rng: random.Random) -> Case | None:
    """Cut out what is between two bonds; None where nothing of a size of `SIZES` is."""
    count, found, bonds = mol.GetNumAtoms(), [], _single(mol)
    for place, one in enumerate(bonds):
        for other in bonds[:place]:
            cut = Chem.FragmentOnBonds(mol, [one, other], dummyLabels=[(0, 0), (0, 0)])
            parts = Chem.GetMolFrags(cut)
            for atoms in parts:
                inside = [atom for atom in atoms if atom < count]
                ends = [sum(atom < count for atom in part) for part in parts if part != atoms]
                if len(atoms) == len(inside) + 2 and len(inside) in SIZES and min(ends) >= LEAST_END:
                    found.append(((one, other), inside, Chem.MolFragmentToSmiles(cut, list(atoms))))
    if not found:
        return None
    cuts, inside, piece = rng.choice(found)
    rest = Chem.RWMol(mol)
    middle = rest.AddAtom(Chem.Atom(0))
    for bond in map(mol.GetBondWithIdx, cuts):
        outer = next(end for end in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) if end not in inside)
        rest.AddBond(outer, middle, Chem.BondType.SINGLE)
    for atom in sorted(inside, reverse=True):
        rest.RemoveAtom(atom)
    Chem.SanitizeMol(rest)
    return Case(_text(rest, f"{{{len(inside)}}}"), Chem.MolToSmiles(mol), piece, len(inside))


TAKE = {"atom": take_atom, "substituent": take_substituent, "linker": take_linker}


def cases(smiles: list[str], kind: str, n: int, seed: int) -> list[Case]:
    """Return up to ``n`` cases from molecules in an order drawn by ``seed``; a case does not depend on ``n``."""
    found = []
    for place in np.random.default_rng(seed).permutation(len(smiles)):
        mol = Chem.MolFromSmiles(smiles[place])
        case = TAKE[kind.rstrip("?")](mol, random.Random(f"{seed} {place}")) if mol else None
        if case is not None and case.masked.count("{") == 1:
            unknown = re.sub(r"\{\d+\}", "{?}", case.masked)
            found.append(Case(unknown, case.truth, case.piece, case.atoms) if kind.endswith("?") else case)
            if len(found) == n:
                break
    return found


def usual_pieces(smiles: list[str], kind: str, seed: int) -> Counter[tuple[int, str]]:
    """Return how often a piece, as heavy atoms and text, occurs in or is cut from other molecules."""
    if kind == "atom":
        mols = (Chem.MolFromSmiles(one) for one in smiles[:REFERENCE])
        return Counter((1, str(atom.GetSymbol())) for mol in mols if mol for atom in mol.GetAtoms())
    return Counter((case.atoms, case.piece) for case in cases(smiles, kind, REFERENCE, seed))


def guess(case: Case, usual: Counter[tuple[int, str]], possible: list[str] | None) -> int:
    """Return the place of the truth among the most usual pieces, 0 beyond `BEST`.

    Args:
        possible: elements that can stand there, or None for pieces of any kind, of the size if it is given.
    """
    size = None if "?" in case.masked else case.atoms
    fitting = {piece: count for (atoms, piece), count in usual.items() if size in (None, atoms)}
    if possible is not None:
        fitting = {piece: fitting.get(piece, 0) for piece in possible}
    order = sorted(fitting, key=lambda piece: (-fitting[piece], piece))[:BEST]
    return order.index(case.piece) + 1 if case.piece in order else 0


def element(piece: str) -> str:
    """Return the element of an atom written as SMILES.

    >>> [element(piece) for piece in ("c", "[nH]", "Cl", "[NH1]")]
    ['C', 'N', 'Cl', 'N']
    """
    found = re.match(r"\[?\d*(Br|Cl|[A-Z][a-z]?(?![a-z])|[a-z])", piece)
    return found[1].capitalize() if found else piece


def measure(loaded: LoadedModel, case: Case, usual: Counter[tuple[int, str]], kind: str, number: int, seed: int) -> Row:
    """Complete one case and say where the truth came."""
    began = time.process_time()
    try:
        found = complete_one(loaded, case.masked, tries=TRIES, seed=seed)
        best = [each.smiles for each in found.best(BEST, SAMPLES)]
        everything = found.found
    except InputError:
        # What a model cannot read, such as an atom that it does not know, it cannot complete.
        best, everything = [], {}
    hit, count = case.truth in everything, max(1, len(everything))
    possible = [element(each.pieces[0]) for each in everything.values()] if kind == "atom" else None
    return Row(
        kind, seed, number, case.masked, case.truth, case.piece, best[0] if best else "",
        best.index(case.truth) + 1 if case.truth in best else 0, guess(case, usual, possible), int(hit),
        len(everything), hit / count, hit * min(1.0, BEST / count), round(time.process_time() - began, 3),
    )  # fmt: skip


def summary(table: pd.DataFrame) -> str:
    """Return one line of Markdown for each kind."""
    pairs = " | ".join(f"{name}top-1 | top-10" for name in ("", "usual piece ", "random order "))
    lines = [f"| deleted | n | {pairs} | found | s a case |", "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
    for kind, rows in table.groupby("kind", sort=False):
        figures = [(rows["rank"] == 1).mean(), (rows["rank"] > 0).mean(), (rows["guess"] == 1).mean(),
                   (rows["guess"] > 0).mean(), rows["random_1"].mean(), rows["random_10"].mean(),
                   rows["found"].mean()]  # fmt: skip
        shown = " | ".join(f"{figure:.2f}" for figure in figures)
        lines.append(f"| {kind} | {len(rows)} | {shown} | {rows['seconds'].mean():.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what is not measured yet, and print the summary of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("molecules", type=Path)
    parser.add_argument("--reference", type=Path, required=True, help="other molecules, for the usual pieces")
    parser.add_argument("-m", "--model")
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    kinds = given.kinds.split(",")
    if set(kinds) - set(KINDS):
        parser.error(f"kinds are {', '.join(KINDS)}")
    torch.set_num_threads(1)
    loaded, smiles = load_model(given.model, "cpu"), read_smiles(given.molecules)
    everything = read_smiles(given.reference)
    drawn = np.random.default_rng(given.seed).permutation(len(everything))[: 2 * REFERENCE]
    others = [everything[place] for place in drawn]

    def missing() -> Iterator[tuple[tuple[str, int, int], Callable[[], Row]]]:
        for kind in kinds:
            usual = usual_pieces(others, kind, given.seed)
            for number, case in enumerate(cases(smiles, kind, given.n, given.seed)):
                yield (kind, given.seed, number), partial(measure, loaded, case, usual, kind, number, given.seed)

    table = add_missing(given.output, Row, ("kind", "seed", "number"), missing())
    wanted = table[table["kind"].isin(kinds) & (table["seed"] == given.seed) & (table["number"] < given.n)]
    sys.stdout.write(summary(wanted))


if __name__ == "__main__":
    try:
        main()
    except MolvaeError as error:
        sys.exit(str(error))
