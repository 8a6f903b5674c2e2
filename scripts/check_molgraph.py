"""Check the graphs derived on the device against selfies and RDKit, molecule by molecule, and count every difference.

python scripts/check_molgraph.py MOSES_TEST.csv.gz ZINC250K.smi.gz [--real 50000] [--random 1000000]
    [--hypervalent 100000] [--seed 0] [-o counts.json]

real: that many molecules of each file. random: that many strings in all, tokens of each file's vocabulary in turn, 1 to
80 tokens long. Both under molvae's bond limits; atoms and bonds are compared with what RDKit reads (not sanitised) from
the SMILES of selfies.decoder, the rest with the sanitised molecule. hypervalent: random strings under the preset of
that name, where RDKit refuses many: false verdicts by cause. hash: different molecules of a file with one hash, and
molecules whose hash changes when they are written from another atom on. At 0 a section is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import selfies
import torch
from rdkit import Chem, rdBase
from rdkit.Chem.Descriptors import MolWt
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

from molvae.chem.rejected import Rejected
from molvae.chem.selfies import constraint_table, encode, split
from molvae.chem.standardize import standardize
from molvae.data.vocabulary import PAD, UNK, Vocabulary
from molvae.generate.known import read_smiles
from molvae.nn.molgraph import derive
from molvae.nn.molgraph_hash import graph_hash
from molvae.nn.molgraph_tables import GraphTables
from molvae.nn.molgraph_valence import Description, describe

BATCH, LONGEST = 4096, 80
Row = tuple[list[tuple[int, int, int]], list[tuple[int, int, int]], bool, str, float, int, int]


def main() -> None:
    """Run every section and write the counts."""
    given = arguments()
    torch.set_num_threads(1)
    rdBase.DisableLog("rdApp.*")
    rng = np.random.default_rng(given.seed)
    counts: dict[str, Any] = {}
    limits = constraint_table()
    sources = []
    for path in given.files:
        molecules = read_molecules(path, given.real, rng)
        vocabulary = Vocabulary.from_tokens(token for tokens in molecules for token in tokens)
        sources.append((Path(path).name, vocabulary))
        rows = [vocabulary.encode(tokens) or [] for tokens in molecules]
        tables = GraphTables.build(vocabulary.tokens, limits)
        if given.real:
            counts[f"real {Path(path).name}"] = compare_all(rows, vocabulary, tables, "real")
        if given.hash:
            counts[f"hash {Path(path).name}"] = hashes(molecules, vocabulary, tables, rng)
        save(counts, given.output)
    for name, vocabulary in sources:
        if share := given.random // len(sources):
            tables = GraphTables.build(vocabulary.tokens, limits)
            counts[f"random {name}"] = compare_all(strings(share, vocabulary, rng), vocabulary, tables, "random")
            save(counts, given.output)
    for name, vocabulary in sources:
        if share := given.hypervalent // len(sources):
            selfies.set_semantic_constraints("hypervalent")
            tables = GraphTables.build(vocabulary.tokens, selfies.get_semantic_constraints())
            rows = strings(share, vocabulary, rng)
            counts[f"hypervalent {name}"] = compare_all(rows, vocabulary, tables, "hypervalent")
            save(counts, given.output)
    sys.stdout.write(json.dumps(counts, indent=1) + "\n")


def save(counts: dict[str, Any], output: str | None) -> None:
    """Write the counts so far, so that a run that is stopped leaves what it has found."""
    if output:
        Path(output).write_text(json.dumps(counts, indent=1) + "\n", "utf-8")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="SMILES tables: .csv, .tsv, .smi, also .gz")
    for name, number in (("real", 50_000), ("random", 1_000_000), ("hypervalent", 100_000)):
        parser.add_argument(f"--{name}", type=int, default=number)
    parser.add_argument("--hash", type=int, default=1, help="0 leaves the section out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", help="where to write the counts as JSON too")
    return parser.parse_args()


def read_molecules(path: str, number: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Return the tokens of ``number`` random molecules of a file, 50,000 when none are asked for."""
    smiles = read_smiles(path)
    found: list[tuple[str, ...]] = []
    for index in rng.permutation(len(smiles)):
        standard = standardize(smiles[index])
        tokens = standard if isinstance(standard, Rejected) else encode(standard.smiles)
        if not isinstance(tokens, Rejected):
            found.append(tokens)
        if len(found) % 5000 == 0:
            progress(f"read {Path(path).name}", len(found), number or 50_000)
        if len(found) == (number or 50_000):
            break
    return found


def strings(number: int, vocabulary: Vocabulary, rng: np.random.Generator) -> list[list[int]]:
    """Return random token ids, 1 to 80 a row."""
    return [rng.integers(UNK + 1, len(vocabulary), rng.integers(1, LONGEST + 1)).tolist() for _ in range(number)]


def padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return rows as one tensor (B, T)."""
    array = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
    for index, row in enumerate(rows):
        array[index, : len(row)] = row
    return torch.from_numpy(array)


def derived(about: Description) -> Iterator[Row]:
    """Yield what the device found, a molecule at a time: atoms, bonds, verdict, formula, weight, rings, fragments."""
    graphs, tables = about.graphs, about.graphs.tables
    columns = [graphs.per_atom(column).tolist() for column in (tables.number, tables.charge, tables.isotope)]
    atoms = list(zip(*columns, strict=True))
    order = torch.argsort(graphs.molecule[graphs.bonds[0]], stable=True)
    bonds = list(zip(*graphs.bonds[:, order].tolist(), graphs.orders[order].tolist(), strict=True))
    offsets, ends = graphs.offsets.tolist(), about.n_bonds.cumsum(0).tolist()
    rest = zip(
        about.valid.tolist(), about.formulas(), about.weight.tolist(), about.n_rings.tolist(),
        about.n_fragments.tolist(), strict=True,
    )  # fmt: skip
    for row, values in enumerate(rest):
        first, start = offsets[row], ends[row - 1] if row else 0
        own = sorted((left - first, right - first, order) for left, right, order in bonds[start : ends[row]])
        yield atoms[first : offsets[row + 1]], own, *values


def expected(smiles: str) -> tuple[Row, Any]:
    """Return the same for a SMILES by RDKit, and the molecule as read."""
    raw = Chem.MolFromSmiles(smiles, sanitize=False)
    atoms = [(atom.GetAtomicNum(), atom.GetFormalCharge(), atom.GetIsotope()) for atom in raw.GetAtoms()]
    bonds = sorted(
        (*sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())), int(bond.GetBondTypeAsDouble()))
        for bond in raw.GetBonds()
    )
    mol = Chem.MolFromSmiles(smiles)
    if mol is None or not atoms:
        return (atoms, bonds, False, "", 0.0, 0, 0), raw
    formula = CalcMolFormula(mol).split("+")[0].split("-")[0]
    rings, fragments = len(Chem.GetSSSR(mol)), len(Chem.GetMolFrags(mol))
    return (atoms, bonds, True, formula, MolWt(mol), rings, fragments), raw


def compare_all(rows: list[list[int]], vocabulary: Vocabulary, tables: GraphTables, name: str) -> dict[str, Any]:
    """Compare molecule by molecule and count differences by what differs."""
    counts: Counter[str] = Counter(n=len(rows))
    causes: dict[str, Counter[str]] = {"false valid": Counter(), "false invalid": Counter()}
    examples: dict[str, str] = {}
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        for found, token_ids in zip(derived(describe(derive(padded(part), tables))), part, strict=True):
            smiles = selfies.decoder("".join(vocabulary.decode(token_ids)))
            true, raw = expected(smiles)
            counts["valid"] += true[2]
            for kind in differences(found, true):
                counts[kind] += 1
                examples.setdefault(kind, smiles)
                if kind in causes:
                    causes[kind][cause(raw, kind)] += 1
        progress(name, min(start + BATCH, len(rows)), len(rows))
    return {**counts, "causes": {kind: dict(c.most_common()) for kind, c in causes.items() if c}, "examples": examples}


def differences(found: Row, true: Row) -> list[str]:
    """Name what differs; properties are compared only where both sides accept the molecule."""
    kinds = ["atoms"] * (found[0] != true[0]) + ["bonds"] * (found[1] != true[1])
    if found[2] != true[2]:
        return [*kinds, "false valid" if found[2] else "false invalid"]
    if not true[2]:
        return kinds
    kinds += ["formula"] * (found[3] != true[3]) + ["weight"] * (abs(found[4] - true[4]) > 1e-6)
    return kinds + ["rings"] * (found[5] != true[5]) + ["fragments"] * (found[6] != true[6])


def cause(raw: Any, kind: str) -> str:
    """Say what RDKit objects to, or which atoms it rewrote."""
    if kind == "false valid":
        problems = Chem.DetectChemistryProblems(raw)
        return " ".join(word for word in problems[0].Message().split() if word != "#") if problems else "unknown"
    after = Chem.Mol(raw)
    Chem.Cleanup(after)
    changed = {a.GetSymbol() for a, b in zip(raw.GetAtoms(), after.GetAtoms(), strict=True)
               if a.GetFormalCharge() != b.GetFormalCharge()}  # fmt: skip
    return "rewritten: " + " ".join(sorted(changed)) if changed else "accepted as it is"


def hashes(
    molecules: list[tuple[str, ...]], vocabulary: Vocabulary, tables: GraphTables, rng: np.random.Generator
) -> dict[str, Any]:
    """Count different molecules with one hash, and molecules whose hash depends on how they are written."""
    by_hash: dict[int, set[str]] = {}
    changed = counted = stereo = 0
    examples: list[list[str]] = []
    for start in range(0, len(molecules), BATCH):
        part = molecules[start : start + BATCH]
        mols = [Chem.MolFromSmiles(selfies.decoder("".join(tokens))) for tokens in part]
        again = [split(selfies.encoder(Chem.MolToSmiles(mol, doRandom=True))) for mol in mols]
        ours = [vocabulary.encode(tokens) for tokens in again]
        own, marked = hash_of([vocabulary.encode(tokens) or [] for tokens in part], tables)
        other, _ = hash_of([ids or [] for ids in ours], tables)
        stereo += sum(marked)
        for mol, first, second, ids in zip(mols, own, other, ours, strict=True):
            by_hash.setdefault(first, set()).add(Chem.MolToSmiles(mol, isomericSmiles=False))
            counted += ids is not None
            changed += ids is not None and first != second
            if ids is not None and first != second:
                examples.append([Chem.MolToSmiles(mol)])
        progress("hash", min(start + BATCH, len(molecules)), len(molecules))
    shared = [sorted(group) for group in by_hash.values() if len(group) > 1]
    return {
        "n": len(molecules), "with stereo": stereo, "different without stereo": sum(map(len, by_hash.values())),
        "one hash": sum(len(group) - 1 for group in shared), "rewritten": counted, "hash changed": changed,
        "examples": shared[:5] + examples[:5],
    }  # fmt: skip


def hash_of(rows: list[list[int]], tables: GraphTables) -> tuple[list[int], list[bool]]:
    """Return hashes and whether there is stereo."""
    about = describe(derive(padded(rows), tables))
    return graph_hash(about).tolist(), about.graphs.stereo.tolist()


_started = time.monotonic()


def progress(what: str, done: int, total: int) -> None:
    """Write one line to stderr."""
    sys.stderr.write(f"\r{time.monotonic() - _started:6.0f} s  {what}: {done:,} of {total:,}   ")
    sys.stderr.write("\n" * (done >= total))
    sys.stderr.flush()


if __name__ == "__main__":
    main()
