"""Graphs derived on the device against selfies and RDKit: atoms, bonds, validity, what follows from them, hashes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import selfies
import torch
from rdkit import Chem
from rdkit.Chem.Descriptors import MolWt
from rdkit.Chem.rdMolDescriptors import CalcMolFormula

from molvae.chem.selfies import constraint_table, encode, split
from molvae.data.vocabulary import EOS, PAD, UNK, Vocabulary
from molvae.errors import ConfigError
from molvae.generate.known import read_smiles
from molvae.nn.molgraph import MolGraphs, derive
from molvae.nn.molgraph_elements import ELEMENTS, ISOTOPES, max_valence
from molvae.nn.molgraph_hash import graph_hash, ring_bonds, token_hash
from molvae.nn.molgraph_rings import close_rings
from molvae.nn.molgraph_tables import GraphTables
from molvae.nn.molgraph_valence import Description, describe

PLAIN = ["[C]", "[N]", "[O]", "[F]", "[=C]", "[=O]", "[#C]", "[#N]", "[S]", "[P]", "[NH1]", "[Cl]"]
STRUCTURE = [f"[{bond}{kind}{n}]" for bond in ("", "=", "#") for kind in ("Branch", "Ring") for n in (1, 2, 3)]
ODD = [
    ".", "[O-1]", "[N+1]", "[NH1+1]", "[C@H1]", "[C@@]", "[/C]", "[\\C]", "[13C]", "[2H]", "[epsilon]", "[-/Ring1]",
    "[I]", "[Si]", "[Na+1]", "[=S+1]", "[OH1-1]", "[nop]", "[CH2]", "[H]", "[BH4-1]", "[Fe+2]", "[NH4+1]",
]  # fmt: skip
# [/Ring1] is a word selfies does not have, [CH9] an atom with too many hydrogens, [Xx] no element.
UNREADABLE = ["[/Ring1]", "[CH9]", "[Xx]", "[Branch4]"]
RICH = Vocabulary([*PLAIN, *STRUCTURE, *ODD])
EXAMPLES = Path(__file__).resolve().parent.parent / "data" / "moses_sample.csv.gz"


LIMITS = constraint_table()


@pytest.fixture(autouse=True)
def limits() -> Iterator[dict[str, int]]:
    torch.set_num_threads(1)
    yield LIMITS
    selfies.set_semantic_constraints(LIMITS)


def padded(rows: list[list[int]]) -> torch.Tensor:
    longest = max(map(len, rows), default=0)
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows], dtype=torch.int64).reshape(-1, longest)


def graphs_of(texts: list[str], limits: dict[str, int]) -> MolGraphs:
    rows = [split(text) for text in texts]
    vocabulary = Vocabulary.from_tokens(token for row in rows for token in row)
    return derive(padded([vocabulary.encode(row) for row in rows]), GraphTables.build(vocabulary.tokens, limits))


def of_smiles(smiles: list[str], limits: dict[str, int]) -> Description:
    return describe(graphs_of([selfies.encoder(text) for text in smiles], limits))


def listed(graphs: MolGraphs) -> list[tuple[list, list]]:
    """Return atoms (element, charge, isotope) and bonds (atom, atom, order) of every molecule."""
    tables, starts = graphs.tables, graphs.offsets.tolist()
    columns = (graphs.per_atom(column).tolist() for column in (tables.number, tables.charge, tables.isotope))
    atoms = list(zip(*columns, strict=True))
    bonds: list[list] = [[] for _ in range(len(graphs))]
    for left, right, order in zip(*graphs.bonds.tolist(), graphs.orders.tolist(), strict=True):
        molecule = int(graphs.molecule[left])
        bonds[molecule].append((left - starts[molecule], right - starts[molecule], order))
    return [(atoms[starts[i] : starts[i + 1]], sorted(bonds[i])) for i in range(len(graphs))]


def by_rdkit(smiles: str) -> tuple[list, list]:
    mol = Chem.MolFromSmiles(smiles, sanitize=False)
    atoms = [(atom.GetAtomicNum(), atom.GetFormalCharge(), atom.GetIsotope()) for atom in mol.GetAtoms()]
    ends = [(*sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())), int(b.GetBondTypeAsDouble())) for b in mol.GetBonds()]
    return atoms, sorted(ends)


def random_rows(vocabulary: Vocabulary, n: int, seed: int, longest: int = 60) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(UNK + 1, len(vocabulary), generator.integers(1, longest + 1)).tolist() for _ in range(n)]


def decoded(rows: list[list[int]], vocabulary: Vocabulary) -> list[str]:
    return [selfies.decoder("".join(vocabulary.decode(row))) for row in rows]


@pytest.mark.parametrize("seed", range(3))
def test_random_strings_give_the_graph_of_selfies_bond_for_bond(limits, seed):
    # Structure four times as likely: deep branches that reach beyond each other, double rings, cut off index symbols.
    vocabulary = RICH if seed else Vocabulary([*PLAIN, *ODD[:4], *STRUCTURE])
    rows = random_rows(vocabulary, 700, seed)
    found = listed(derive(padded(rows), GraphTables.build(vocabulary.tokens, limits)))
    assert found == [by_rdkit(smiles) for smiles in decoded(rows, vocabulary)]
    assert sum(len(bonds) >= len(atoms) > 2 for atoms, bonds in found) > 10


@pytest.mark.parametrize("preset", ["default", "octet_rule", "hypervalent"])
def test_every_preset_of_selfies(preset):
    selfies.set_semantic_constraints(preset)
    rows = random_rows(RICH, 500, 7)
    tables = GraphTables.build(RICH.tokens, selfies.get_semantic_constraints())
    assert listed(derive(padded(rows), tables)) == [by_rdkit(smiles) for smiles in decoded(rows, RICH)]


def test_real_molecules_with_everything_that_follows(limits):
    smiles = read_smiles(EXAMPLES)[:300]
    smiles += ["C[N+](C)(C)C.[Cl-]", "[13CH4]", "[2H]OC", "O=C([O-])C[NH3+].[Na+]", "[O-][N+](=O)c1ccccc1", "[Fe+2]"]
    smiles += ["CS(=O)(=O)C", "CP(=O)(O)O", "B(O)(O)c1ccccc1", "C12C3C4C1C5C2C3C45", "[H][H]", "ClC(Cl)=C"]
    about = of_smiles(smiles, limits)
    decoded = [Chem.MolFromSmiles(selfies.decoder(selfies.encoder(text))) for text in smiles]
    assert about.valid.all()
    assert about.formulas() == [CalcMolFormula(mol).split("+")[0].split("-")[0] for mol in decoded]
    np.testing.assert_allclose(about.weight, [MolWt(mol) for mol in decoded], atol=1e-6)
    assert about.n_rings.tolist() == [len(Chem.GetSSSR(mol)) for mol in decoded]
    assert about.n_fragments.tolist() == [len(Chem.GetMolFrags(mol)) for mol in decoded]
    assert listed(about.graphs)[0][1] == by_rdkit(selfies.decoder(selfies.encoder(smiles[0])))[1]


@pytest.mark.parametrize(
    ("text", "smiles"),
    [
        ("[C][Ring1][C]", "C"),  # a ring from an atom to itself
        ("[C][C][Ring1][C]", "C=C"),  # a ring that doubles a bond
        ("[C][#C][Ring1][C]", "C#C"),  # and one that finds no room
        ("[C][C][C][=Ring1][Ring1]", "C=1CC=1"),
        ("[C][Branch1][#Branch2][C][Branch1][C][O][N][F]", "CC(O)NF"),
        ("[C][Branch1][C][C][Branch1][P][O][N][F]", "C(C)ONF"),
        ("[C][C][C][Ring2]", "CC=C"),  # index symbols cut off by the end
        ("[C][C][Ring2].[Ring1][C]", "C=C.C"),
        ("[C][C].[C][C][C][Ring1][=Branch1]", "C1C.CCC1"),  # a ring between fragments
        ("[F][Branch1][C][C][O]", "FCCO"),
        ("[C][epsilon][O].[O]", "C.O"),
    ],
)
def test_corner_cases(limits, text, smiles):
    assert selfies.decoder(text) == smiles
    assert listed(graphs_of([text], limits))[0] == by_rdkit(smiles)


def test_fragments_that_rings_join_count_once(limits):
    about = describe(graphs_of(["[C][C].[C][C][C][Ring1][=Branch1]", "[C].[C].[C]", "[C].[O][Ring1][C].[N]"], limits))
    assert about.graphs.sum_atoms(about.graphs.root.long()).tolist() == [2, 3, 3]
    assert about.n_fragments.tolist() == [1, 3, 2]
    assert about.n_rings.tolist() == [0, 0, 0]


def test_what_does_not_count_is_passed_over_wherever_it_stands(limits):
    vocabulary = Vocabulary([*PLAIN, *STRUCTURE, "[nop]"])
    tables = GraphTables.build(vocabulary.tokens, limits)
    plain = vocabulary.encode(split("[C][=C][Branch1][C][O][C][Ring1][Ring2]"))
    nop = vocabulary.encode(["[nop]"])
    gaps = [1] + [token for pair in zip(plain, [PAD, UNK, *nop * 6], strict=True) for token in pair]
    graphs = derive(padded([plain, gaps, [*plain, EOS, 5, 6], [EOS, *plain], nop * 3]), tables)
    found = listed(graphs)
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4] == ([], [])
    assert graphs.n_atoms.tolist() == [4, 4, 4, 0, 0]


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (3, 0), (2, 4)])
def test_nothing_gives_nothing(limits, shape):
    about = describe(derive(torch.zeros(shape, dtype=torch.int64), GraphTables.build(RICH.tokens, limits)))
    assert len(about.graphs) == shape[0]
    assert not about.valid.any()
    assert about.formulas() == [""] * shape[0]
    assert graph_hash(about).shape == (shape[0],)


@pytest.mark.parametrize("token", UNREADABLE)
def test_a_word_selfies_does_not_know_breaks_the_molecule_only_when_it_is_read(limits, token):
    texts = [f"[C]{token}[C]", f"[F][C]{token}", f"[C][C][Ring1]{token}", f"[C][=O]{token}", f"[C].{token}", "[C]"]
    graphs = graphs_of(texts, limits)
    refused = []
    for text in texts:
        try:
            selfies.decoder(text)
            refused.append(False)
        except selfies.DecoderError:
            refused.append(True)
    assert graphs.broken.tolist() == refused
    assert True in refused
    assert False in refused[:-1]
    assert (graphs.n_atoms == 0).tolist() == refused


def test_any_integer_type_and_batch_give_the_same(limits):
    rows = random_rows(RICH, 20, 3)
    tables = GraphTables.build(RICH.tokens, limits)
    whole = describe(derive(padded(rows), tables))
    narrow = describe(derive(padded(rows).to(torch.uint8), tables.to("cpu")))
    parts = [describe(derive(padded([row]), tables)) for row in rows]
    assert torch.equal(graph_hash(whole), graph_hash(narrow))
    assert graph_hash(whole).tolist() == [int(graph_hash(part)) for part in parts]
    assert torch.equal(whole.formula, torch.cat([part.formula for part in parts]))


def test_tables_refuse_limits_they_cannot_hold():
    with pytest.raises(ConfigError, match=r"\?"):
        GraphTables.build(RICH.tokens, {"C": 4})
    with pytest.raises(ConfigError, match="15 bonds"):
        GraphTables.build(RICH.tokens, {"C": 15, "?": 8})


def test_the_elements_are_those_of_rdkit():
    table = Chem.GetPeriodicTable()
    for element in ELEMENTS:
        assert element.symbol == table.GetElementSymbol(element.number)
        assert element.valences == tuple(table.GetValenceList(element.number))
        assert element.weight == pytest.approx(table.GetAtomicWeight(element.number))
    for (number, isotope), mass in ISOTOPES.items():
        assert mass == pytest.approx(table.GetMassForIsotope(number, isotope), abs=1e-4)


def test_the_largest_valence_is_rdkits_for_every_element_and_charge():
    for element in ELEMENTS:
        for charge in range(-4, 5):
            most = max_valence(element.number, charge)
            for bonds in {0, most, most + 1} & set(range(10)):
                mol = Chem.RWMol()
                atom = Chem.Atom(element.number)
                atom.SetFormalCharge(charge)
                atom.SetNoImplicit(True)
                mol.AddAtom(atom)
                for _ in range(bonds):
                    mol.AddBond(0, mol.AddAtom(Chem.Atom(6)), Chem.BondType.SINGLE)
                accepted = Chem.SanitizeMol(mol, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE
                assert accepted == (bonds <= most), (element.symbol, charge, bonds)


def test_verdicts_are_rdkits_where_it_refuses_half():
    selfies.set_semantic_constraints("hypervalent")
    vocabulary = Vocabulary([*PLAIN, "[=N]", "[Br]", "[I]", "[O-1]", "[Branch1]", "[=Branch1]", "[Ring1]"])
    rows = random_rows(vocabulary, 2500, 11)
    tables = GraphTables.build(vocabulary.tokens, selfies.get_semantic_constraints())
    assert tables.cleans
    found = describe(derive(padded(rows), tables)).valid.tolist()
    smiles = decoded(rows, vocabulary)
    true = [bool(text) and Chem.MolFromSmiles(text) is not None for text in smiles]
    assert 0.3 < sum(true) / len(true) < 0.8
    wrong = [text for text, ours, theirs in zip(smiles, found, true, strict=True) if ours != theirs]
    assert len(wrong) <= 0.002 * len(rows), wrong


@pytest.mark.parametrize(
    ("smiles", "valid"),
    [
        ("CN(=O)=O", True),
        ("CN(=O)(C)C", True),
        ("CN=N#N", True),
        ("CN(C)(C)C", False),
        ("CN(C)(C)(C)C", False),
        ("N(=C)(=C)C", False),
        ("OCl(=O)(=O)=O", True),
        ("CCl(=O)=O", False),
        ("OBr=O", True),
        ("CI(C)C", True),
        ("ClCl(Cl)Cl", False),
        ("O=N(=O)O", True),
    ],
)
def test_clean_up_of_groups_that_rdkit_rewrites(smiles, valid):
    assert (Chem.MolFromSmiles(smiles) is not None) == valid
    limits = {**selfies.get_preset_constraints("hypervalent")}
    selfies.set_semantic_constraints(limits)
    assert bool(of_smiles([smiles], limits).valid[0]) == valid


def test_molvaes_own_limits_let_nothing_through_that_rdkit_refuses(limits):
    rows = random_rows(RICH, 1500, 5)
    about = describe(derive(padded(rows), GraphTables.build(RICH.tokens, limits)))
    assert not about.graphs.tables.cleans
    smiles = decoded(rows, RICH)
    assert about.valid.tolist() == [bool(text) and Chem.MolFromSmiles(text) is not None for text in smiles]


def test_a_full_atom_takes_no_ring():
    capacity, parent, order = torch.tensor([1, 2, 2, 1]), torch.tensor([-1, 0, 1, 2]), torch.tensor([0, 1, 1, 1])
    ends, wanted = torch.tensor([[0, 1], [3, 3]]), torch.tensor([1, 1])
    bonds, orders, closed = close_rings(capacity, parent, order, torch.zeros(2, dtype=torch.int64), ends, wanted)
    assert bonds.tolist() == [[0, 1, 2], [1, 2, 3]]
    assert orders.tolist() == [1, 1, 1]
    assert not closed.any()


SAME = [
    ("OCC", "CCO"),
    ("C1=CC=CC=C1C", "C1C=CC=CC=1C"),  # Kekule forms
    ("CC1=CC=CC2=CC=CC=C12", "CC1=C2C=CC=CC2=CC=C1"),
    ("CC1=C(F)C=CC=C1", "CC1=CC=CC=C1F"),
    ("C[N+](=O)[O-]", "O=[N+](C)[O-]"),
    ("CCO.[Na+]", "[Na+].OCC"),
    ("N[C@@H](C)C(=O)O", "N[C@H](C)C(=O)O"),  # stereo is left out
]
DIFFERENT = [
    ("CCCCO", "CCC(C)O"),
    ("C1CCCCC1", "C1CCCC1C"),
    ("C1CCC2CCCCC2C1", "C1CCC(C1)C1CCCC1"),  # alike from every atom but for their rings
    ("CC=CC", "C=CCC"),
    ("CC(=O)C=C", "CC(O)=C=C"),
    ("C[NH3+]", "CN"),
    ("[13CH3]C", "CC"),
    ("[CH2]C", "CC"),
    ("CCO.C", "CC.CO"),
    ("C#N", "[C-]#[NH+]"),
    ("CCCCCCCCCCO", "CCCCCCCCCCCO"),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_one_molecule_has_one_hash(limits, first, second):
    hashes = graph_hash(of_smiles([first, second], limits)).tolist()
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_different_molecules_have_different_hashes(limits, first, second):
    hashes = graph_hash(of_smiles([first, second], limits)).tolist()
    assert hashes[0] != hashes[1]


def test_hashes_do_not_depend_on_the_order_of_atoms_and_tell_molecules_apart(limits):
    smiles = read_smiles(EXAMPLES)[300:450]
    random.seed(1)
    other = []
    for text in smiles:
        mol = Chem.MolFromSmiles(text)
        order = list(range(mol.GetNumAtoms()))
        random.shuffle(order)
        other.append(Chem.MolToSmiles(Chem.RenumberAtoms(mol, order), canonical=False, kekuleSmiles=False))
    assert graph_hash(of_smiles(smiles, limits)).tolist() == graph_hash(of_smiles(other, limits)).tolist()
    assert len(set(graph_hash(of_smiles(smiles, limits)).tolist())) == len(set(smiles))


def test_stereo_is_flagged_where_it_is_written(limits):
    about = of_smiles(["C[C@H](N)O", "F/C=C/F", "CCO"], limits)
    assert about.graphs.stereo.tolist() == [True, True, False]
    # Skipped as an index symbol, a token with stereo says nothing.
    assert graphs_of(["[C][C][C][Ring1][C@H1]"], limits).stereo.tolist() == [False]


def test_ring_bonds_are_those_of_rdkit(limits):
    # Mostly carbon, so that strings and rings are long.
    vocabulary = Vocabulary([*PLAIN[:2], "[=C]", "[Branch1]", "[=Branch2]", "[Ring1]", "[Ring2]"])
    rows = random_rows(vocabulary, 600, 2)
    graphs = derive(padded(rows), GraphTables.build(vocabulary.tokens, limits))
    flags, starts = ring_bonds(graphs).tolist(), graphs.offsets.tolist()
    found: list[set] = [set() for _ in rows]
    for left, right, inside in zip(*graphs.bonds.tolist(), flags, strict=True):
        molecule = int(graphs.molecule[left])
        if inside:
            found[molecule].add((left - starts[molecule], right - starts[molecule]))
    for text, bonds in zip(decoded(rows, vocabulary), found, strict=True):
        mol = Chem.MolFromSmiles(text, sanitize=False)
        Chem.FastFindRings(mol)
        inside = [bond for bond in mol.GetBonds() if bond.IsInRing()]
        assert bonds == {tuple(sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))) for bond in inside}
    assert sum(map(len, found)) > 500


def test_token_hashes_are_equal_for_equal_strings_only(limits):
    tables = GraphTables.build(RICH.tokens, limits)
    rows = random_rows(RICH, 400, 4, longest=3)
    hashes = token_hash(padded(rows), tables).tolist()
    # [nop] counts for nothing.
    texts = [tuple(token for token in RICH.decode(row) if token != "[nop]") for row in rows]
    assert len(set(hashes)) == len(set(texts)) < len(rows)
    by_text = dict(zip(texts, hashes, strict=True))
    assert [by_text[text] for text in texts] == hashes


@pytest.mark.slow
def test_20_000_strings_of_two_alphabets(limits):
    tokens = {token for smiles in read_smiles(EXAMPLES)[:500] for token in encode(smiles)}
    for vocabulary in (Vocabulary.from_tokens(tokens), RICH):
        rows = random_rows(vocabulary, 10_000, 9, longest=80)
        found = listed(derive(padded(rows), GraphTables.build(vocabulary.tokens, limits)))
        assert found == [by_rdkit(smiles) for smiles in decoded(rows, vocabulary)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_cpu_gives(limits):
    rows = padded(random_rows(RICH, 3000, 6))
    tables = GraphTables.build(RICH.tokens, limits)
    here, there = describe(derive(rows, tables)), describe(derive(rows.cuda(), tables.to("cuda")))
    assert listed(here.graphs) == listed(there.graphs)
    assert here.valid.tolist() == there.valid.tolist()
    assert here.formula.tolist() == there.formula.tolist()
    assert graph_hash(here).tolist() == graph_hash(there).tolist()
