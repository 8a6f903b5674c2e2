"""Scaffolds: how they are read and refused, written with gaps, filled, and found again in every molecule."""

from __future__ import annotations

import random
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rdkit import Chem
from tiny import untrained

from molvae.api import MolVAE
from molvae.chem.attachment import find_scaffold, read_scaffold, substituents
from molvae.chem.open_ends import Layout, Places, lay_out, lay_out_link, render
from molvae.chem.selfies import decode
from molvae.cli import neighbors as neighbors_verb
from molvae.cli import sample as sample_verb
from molvae.data.vocabulary import EOS
from molvae.errors import ConfigError, InputError
from molvae.generate.constrained import Filling, Grammar, Kind, grammar_of, is_bare
from molvae.generate.scaffold import sample_scaffold
from molvae.generate.scaffold_keep import neighbors_keep, scaffold_of
from molvae.generate.scaffold_latents import JUDGES, draw_latents, likeliest, scaffold_nats
from molvae.generate.scaffold_write import LINKS
from molvae.nn.checkpoint import LoadedModel, load_model

ONE = "O=C(Nc1ccccc1)[*]"
LINK = "[*]c1ccccc1.[*]N1CCOCC1"
SCAFFOLDS = [
    ONE, "[*]c1ccc([*])cc1", "[*]c1ccc2nc([*])ccc2c1[*]", "[*]n1cccc1", "[*]C1([*])CCC1", "[*]N1CCN([*])CC1",
    "[*]c1nc2ccccc2[nH]1", "c1ccc(cc1)-c1cc([*])cc(c1)-c1cccc([*])c1", "C[*]", LINK,
]  # fmt: skip
BARE = {"properties": (), "alerts": False}


@pytest.fixture(scope="module")
def moses() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model("moses", "cpu")


@pytest.fixture(scope="module")
def wild(moses: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return untrained(moses.vocabulary, tmp_path_factory.mktemp("m"), 40)


def layouts_of(smiles: str, most: int = 16) -> list[Layout]:
    scaffold = read_scaffold(smiles)
    return lay_out_link(scaffold, 0, most) if scaffold.linking else lay_out(scaffold.mol, 0, most)


@pytest.mark.parametrize(
    ("smiles", "said"),
    [
        ("c1cc[*]", "not SMILES"), ("", "nothing but white space"), ("CCO", "0 open positions; 1 to 3"),
        ("[*]C([*])([*])[*]", "4 open positions"), ("CC(C)(C)(C)[*]", "Explicit valence for atom # 1"),
        ("CC=[*]", "one single bond"), ("C1C[*]C1", "one single bond"), ("[*]", "one single bond"),
        ("[*][*]", "sits on no atom"), ("C[*].C[*].C[*]", "3 fragments with 1, 1, 1"), ("C[*].CC", "2 fragments"),
        ("[*]C[*].C[*]", "2 fragments with 2, 1"),
    ],
)  # fmt: skip
def test_scaffolds_that_make_no_sense_are_refused_with_the_reason(smiles: str, said: str) -> None:
    with pytest.raises(InputError, match=said.replace("*", r"\*")):
        read_scaffold(smiles)


def test_an_atom_without_a_free_valence_is_told_from_a_spelling_mistake() -> None:
    with pytest.raises(InputError) as full:
        read_scaffold("CC(C)(C)(C)[*]")
    assert "free valence" in full.value.remedy
    with pytest.raises(InputError) as wrong:
        read_scaffold("c1cc[*]")
    assert "free valence" not in wrong.value.remedy


@pytest.mark.parametrize(
    ("scaffold", "molecule", "expected"),
    [
        ("[*]c1ccc([*])cc1", "CCc1ccc(C(=O)NC)cc1", ("[*]CC", "[*]C(=O)NC")),
        ("[*]c1ccc([*])cc1", "Cc1ccc(C)c(C)c1", None),
        ("[*]c1ccc([*])cc1", "Cc1cccc(C)c1", None),
        ("[*]C1CCC1[*]", "C1CCC2CCCC12", None),
        ("[*]C1([*])CCC1", "C1CCC1(C)O", ("[*]C", "[*]O")),
        ("[*]n1cccc1", "CC(=O)n1cccc1", ("[*]C(C)=O",)),
        ("[*]n1cccc1", "Cc1ccc[nH]1", None),
        ("C[C@H](O)[*]", "C[C@H](O)CC", ("[*]CC",)),
        ("C[C@H](O)[*]", "C[C@@H](O)CC", None),
        (LINK, "c1ccccc1CN1CCOCC1", ("[1*]C[2*]",)),
        (LINK, "c1ccccc1CC(C)N1CCOCC1", ("[1*]CC([2*])C",)),
        (LINK, "c1ccccc1C.CN1CCOCC1", None),
    ],
)  # fmt: skip
def test_a_scaffold_is_found_with_substituents_at_the_open_positions_only(scaffold, molecule, expected):
    found = substituents(read_scaffold(scaffold), Chem.MolFromSmiles(molecule))
    assert (found if found is None else set(found)) == (expected if expected is None else set(expected))


def test_the_atoms_of_the_scaffold_are_those_that_are_not_substituent() -> None:
    mol = Chem.MolFromSmiles("CCc1ccc(C(=O)NC)cc1")
    atoms = find_scaffold(read_scaffold("[*]c1ccc([*])cc1"), mol)
    assert atoms == tuple(atom.GetIdx() for atom in mol.GetAromaticAtoms())
    assert find_scaffold(read_scaffold("[*]c1ccncc1"), mol) == ()


@pytest.mark.parametrize("smiles", SCAFFOLDS)
@pytest.mark.parametrize("filling", ["[C]", "[O]"])
def test_every_layout_gives_back_the_scaffold(smiles: str, filling: str) -> None:
    scaffold, layouts = read_scaffold(smiles), layouts_of(smiles)
    assert layouts
    for layout in layouts:
        parts = substituents(scaffold, Chem.MolFromSmiles(decode(layout.tokens(filling))))
        letter = filling[1]
        assert parts == (f"[1*]{letter}[2*]",) if scaffold.linking else (f"[*]{letter}",) * scaffold.size
        assert sorted(layout.labels) == list(range(1, scaffold.size + 1)) or scaffold.linking
        assert not layout.left


def test_layouts_are_different_orders_that_end_at_an_open_position() -> None:
    layouts = layouts_of("[*]c1ccc2nc([*])ccc2c1[*]")
    assert len({(tuple(layout.tokens()), layout.labels) for layout in layouts}) == len(layouts) > 4
    assert {layout.labels[-1] for layout in layouts} == {1, 2, 3}
    assert all(layout.parts[-1] == () for layout in layouts)
    assert layouts == layouts_of("[*]c1ccc2nc([*])ccc2c1[*]")


def test_a_ring_over_a_gap_counts_what_was_put_in() -> None:
    layout = next(each for each in layouts_of("[*]c1ccc([*])cc1") if len(each.labels) == 2)
    places = Places()
    tokens = render(layout.parts[0], places)
    # Forty atoms: more than one digit can say.
    tokens += ["[Branch2]", "[Ring2]", "[Branch2]", *["[C]"] * 39]
    places.following += 39
    tokens += [*render(layout.parts[1], places), "[F]"]
    found = substituents(read_scaffold("[*]c1ccc([*])cc1"), Chem.MolFromSmiles(decode(tokens)))
    assert found is not None
    assert set(found) == {"[*]" + "C" * 39, "[*]F"}


def test_an_open_position_beside_the_main_chain_is_left_for_later() -> None:
    # Three arms of one atom: a main chain has two ends.
    scaffold = read_scaffold("C(CC[*])(CC[*])CC[*]")
    layouts = lay_out(scaffold.mol, 0)
    assert layouts
    for layout in layouts:
        assert len(layout.labels) + len(layout.left) == 3
        assert len(layout.left) == 1
        places = Places()
        tokens = [*render(layout.parts[0], places), "[Branch1]", "[C]", "[F]"]
        places.following += 1
        tokens += [*render(layout.parts[1], places), "[F]"]
        mol = Chem.RWMol(Chem.MolFromSmiles(decode(tokens)))
        for _, atom in layout.left:
            mol.AddBond(places.of[atom], mol.AddAtom(Chem.Atom("F")), Chem.BondType.SINGLE)
        assert Chem.CanonSmiles(Chem.MolToSmiles(mol)) == Chem.CanonSmiles("C(CCF)(CCF)CCF")


def random_filling(grammar: Grammar, kind: Kind, room: int, rng: random.Random, ending: bool) -> list[int]:
    """Fill a gap with tokens drawn evenly from those allowed."""
    filling, written = Filling(grammar, kind, room), []
    while not filling.done:
        number = filling.mask()
        allowed = grammar.allowed(number)
        token = EOS if ending and EOS in allowed and len(written) > 3 else rng.choice(allowed)
        filling.take(token)
        written.append(token)
    return [token for token in written if token != EOS]


def test_random_tokens_fill_a_gap_without_touching_the_scaffold(moses: LoadedModel) -> None:
    grammar, rng, seen = grammar_of(moses.vocabulary), random.Random(0), set()
    scaffold = read_scaffold("[*]c1ccc([*])cc1")
    layouts = lay_out(scaffold.mol, 0)
    for _ in range(100):
        layout, places = rng.choice(layouts), Places()
        tokens = render(layout.parts[0], places)
        first = random_filling(grammar, "branch", 20, rng, True)
        tokens += moses.vocabulary.decode(first)
        # What was put in tells how many atoms it has; the ring over it must fit.
        filling = Filling(grammar, "branch", 20)
        for token in first:
            filling.take(token)
        assert filling.done
        places.following += filling.atoms
        tokens += render(layout.parts[1], places)
        tokens += moses.vocabulary.decode(random_filling(grammar, "tail", 40, rng, rng.random() < 0.7))
        mol = Chem.MolFromSmiles(decode(tokens))
        assert mol is not None
        parts = substituents(scaffold, mol)
        assert parts is not None, "".join(tokens)
        seen.add(parts)
    assert len(seen) > 90


@pytest.mark.parametrize("room", [1, 2, 5, 9])
def test_a_branch_stays_within_its_room_and_a_link_has_just_its_length(moses: LoadedModel, room: int) -> None:
    grammar, rng = grammar_of(moses.vocabulary), random.Random(room)
    for _ in range(60):
        branch = random_filling(grammar, "branch", room, rng, False)
        digits = grammar.meanings[branch[0]].length
        assert 1 <= len(branch) - 1 - digits <= room
        assert len(random_filling(grammar, "link", room, rng, False)) == room


def test_the_end_of_a_link_has_a_bond_to_spare_and_no_tail_is_empty(moses: LoadedModel) -> None:
    grammar, rng = grammar_of(moses.vocabulary), random.Random(1)
    for _ in range(200):
        link = random_filling(grammar, "link", rng.randint(*LINKS), rng, False)
        text = decode([*["[C]"], *moses.vocabulary.decode(link), "[Br]"])
        mol = Chem.MolFromSmiles(text)
        assert "Br" in {atom.GetSymbol() for atom in mol.GetAtoms()}
        assert len(Chem.GetMolFrags(mol)) == 1
    names = {moses.vocabulary.tokens[token] for token in grammar.allowed(Filling(grammar, "tail").mask())}
    assert "[C]" in names
    assert names.isdisjoint({"<eos>", "[=C]", "[Branch1]", "[Ring1]", "."})


def test_an_atom_that_states_its_hydrogens_does_not_end_as_a_radical(moses: LoadedModel) -> None:
    grammar = grammar_of(moses.vocabulary)
    own = moses.vocabulary.tokens.index("[NH1]")
    assert is_bare(grammar.meanings[own])
    filling = Filling(grammar, "tail", 30)
    filling.take(own)
    assert EOS not in grammar.allowed(filling.mask())
    filling.take(moses.vocabulary.tokens.index("[C]"))
    assert EOS in grammar.allowed(filling.mask())
    branch = Filling(grammar, "link", 1)
    assert own in grammar.allowed(branch.mask())


@pytest.mark.parametrize("smiles", SCAFFOLDS)
def test_whatever_a_model_writes_holds_the_scaffold(wild: LoadedModel, smiles: str) -> None:
    table = sample_scaffold(wild, 12, smiles, seed=3, **BARE)
    counts, scaffold = table.attrs["yield"], read_scaffold(smiles)
    assert table.attrs["complete"]
    assert counts["lost"] == 0
    assert counts["decoded"] == sum(counts[name] for name in ("new", "again", "partial", "failed"))
    assert table["smiles"].is_unique
    for text, *parts in table[["smiles", *scaffold.names]].itertuples(index=False):
        assert substituents(scaffold, Chem.MolFromSmiles(text)) == tuple(parts)
        assert all(part.count("*") == (2 if scaffold.linking else 1) and len(part) > 3 for part in parts)


def test_positions_beside_the_main_chain_are_filled_from_another_atom(wild: LoadedModel) -> None:
    smiles = "C(CC[*])(CC[*])CC[*]"
    table = sample_scaffold(wild, 6, smiles, seed=1, **BARE)
    counts = table.attrs["yield"]
    assert len(table) == 6
    assert counts["lost"] == 0
    assert counts["partial"] >= counts["new"] + counts["again"]
    assert counts["decoded"] == sum(counts[name] for name in ("new", "again", "partial", "failed"))


@pytest.mark.parametrize("smiles", ["O[C@H]1CC[C@@H]([*])CC1", "C[C@H]([*])Nc1ncccc1", "C[C@]1([*])CCCO1"])
def test_stereo_of_the_scaffold_is_kept(smiles: str) -> None:
    scaffold = read_scaffold(smiles)
    layouts = lay_out(scaffold.mol, 0)
    assert layouts
    for layout in layouts:
        assert substituents(scaffold, Chem.MolFromSmiles(decode(layout.tokens("[F]")))) == ("[*]F",)


def test_the_trained_model_reaches_the_yield_and_is_the_same_every_time(moses: LoadedModel) -> None:
    tables = [sample_scaffold(moses, 10, ONE, seed=5, **BARE) for _ in range(2)]
    pd.testing.assert_frame_equal(*tables)
    counts = tables[0].attrs["yield"]
    assert counts["new"] / counts["decoded"] > 0.6
    assert tables[0].attrs["yield_line"].startswith(f"yield {counts['new'] / counts['decoded']:.2f}: 10 different")
    other = sample_scaffold(moses, 10, ONE, seed=6, **BARE)
    assert set(other["smiles"]) != set(tables[0]["smiles"])
    known = frozenset(tables[0]["smiles"][:5])
    assert known.isdisjoint(sample_scaffold(moses, 10, ONE, seed=5, known=known, **BARE)["smiles"])


def test_nats_are_those_of_the_tokens_that_were_chosen(moses: LoadedModel) -> None:
    layout = layouts_of("[*]c1ccccc1")[0]
    z = moses.model.prior.sample(5, torch.Generator().manual_seed(0))
    whole = scaffold_nats(moses, layout, z)
    tokens = torch.tensor([[1, *(moses.vocabulary.encode(layout.tokens()) or []), EOS]])
    each = -moses.model.decoder.token_log_prob(tokens.expand(5, -1), z, moses.model.unconditioned(5))
    torch.testing.assert_close(whole, each[:, :-2].sum(1))


def test_likelier_orders_and_latents_are_taken(moses: LoadedModel) -> None:
    layouts = layouts_of(ONE)
    z = moses.model.prior.sample(JUDGES, torch.Generator().manual_seed(0))
    ordered = likeliest(moses, layouts, z)
    assert len(ordered) == len(layouts)
    evidence = [float(torch.logsumexp(-scaffold_nats(moses, layout, z), 0)) for layout in ordered]
    assert all(first >= second - 1e-4 for first, second in pairwise(evidence))
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    costs = [
        float(scaffold_nats(moses, ordered[0], draw_latents(moses, ordered[0], 32, source, generator)).mean())
        for source, generator in zip(("prior", "resampled"), generators, strict=True)
    ]
    assert costs[1] < costs[0]
    around = draw_latents(moses, ordered[0], 7, "posterior", generators[0])
    assert around.shape == (7, moses.model.latent)


def test_scaffolds_that_the_model_cannot_write_are_refused(moses: LoadedModel) -> None:
    with pytest.raises(InputError, match=r"not trained with \[Si\]"):
        sample_scaffold(moses, 1, "C[Si](C)(C)C[*]", **BARE)
    with pytest.raises(InputError, match=r"80 tokens; the longest molecule .* has 55") as refused:
        sample_scaffold(moses, 1, "C" * 79 + "[*]", **BARE)
    assert "at most 51 tokens" in refused.value.remedy
    with pytest.raises(InputError, match="-1 molecules"):
        sample_scaffold(moses, -1, ONE, **BARE)
    assert len(sample_scaffold(moses, 0, ONE, **BARE)) == 0


@pytest.mark.parametrize(
    ("lead", "keep", "scaffold"),
    [
        ("CCc1ccc(C(=O)NC)cc1", "c1ccccc1", "[1*]c1ccc([2*])cc1"),
        # A double bond and a ring cannot be cut, so more is kept than was named.
        ("CCC(=O)c1ccncc1", "CCC", "CCC([1*])=O"),
        ("CCC1CCCN1", "CN", "[1*]C1CCCN1"),
    ],
)
def test_what_is_kept_is_open_where_single_bonds_leave_it(lead: str, keep: str, scaffold: str) -> None:
    found = scaffold_of(lead, keep)
    plain = [Chem.CanonSmiles(text) for text in (found.smiles, scaffold)]
    assert plain[0] == plain[1]
    assert substituents(found, Chem.MolFromSmiles(lead)) is not None


@pytest.mark.parametrize(
    ("keep", "said"),
    [("c1(", "not SMARTS"), ("n", "does not contain"), ("CCc1ccccc1C", "Nothing hangs")],
)
def test_what_cannot_be_kept_is_refused(keep: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        scaffold_of("CCc1ccccc1C", keep)
    with pytest.raises(InputError, match="4 groups hang"):
        scaffold_of("Cc1c(C)c(C)c(C)cc1", "c1ccccc1")


def test_neighbors_keep_the_part_and_are_near_the_molecule_for_small_radii(moses: LoadedModel) -> None:
    # As large as the molecules that the model knows: far from them it does not tell one latent from another.
    lead = "COc1ccccc1CNC(=O)c1ccc(C)cc1"
    table = neighbors_keep(moses, lead, "c1ccccc1", 20, radii=[0.2, 4.0], properties=())
    scaffold = scaffold_of(lead, "c1ccccc1")
    assert len(table) == 20
    assert lead not in set(table["smiles"])
    assert all(substituents(scaffold, Chem.MolFromSmiles(text)) for text in table["smiles"])
    assert (np.diff(table["similarity"]) <= 0).all()
    assert [ring["radius"] for ring in table.attrs["rings"]] == [0.2, 4.0]
    means = table.groupby("radius")["similarity"].mean()
    assert means[0.2] > means[4.0] + 0.02
    with pytest.raises(InputError, match="radius of -1"):
        neighbors_keep(moses, lead, "c1ccccc1", radii=[-1])


def test_the_command_line_writes_table_picture_and_yield(run_molvae, tmp_path: Path) -> None:
    path, picture = tmp_path / "out.csv", tmp_path / "out.svg"
    done: subprocess.CompletedProcess[str] = run_molvae(
        "sample", "-m", "moses", "-n", "5", "--scaffold", ONE, "-o", path, "--svg", picture, "--properties", "qed",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(path)
    assert list(table.columns) == ["smiles", "R1", "state", "nats", "qed", "alerts"]
    assert len(table) == 5
    assert "different molecules with the scaffold of" in done.stdout
    assert "MOSES alerts:" in done.stdout
    assert picture.read_text("utf-8").count("<g transform=") == 5


def test_plain_samples_are_drawn_too(run_molvae, tmp_path: Path) -> None:
    path, picture = tmp_path / "out.smi", tmp_path / "out.svg"
    done = run_molvae("sample", "-m", "moses", "-n", "22", "--rounds", "1", "-o", path, "--svg", picture)
    assert done.returncode == 0, done.stderr
    assert "rounds of reading back: 1" in done.stdout
    # The first twenty.
    assert picture.read_text("utf-8").count("<g transform=") == 20


def test_options_that_do_not_go_together_are_refused(run_molvae) -> None:
    refused = run_molvae("sample", "-m", "moses", "--scaffold", "CCO")
    assert refused.returncode == 2
    assert "0 open positions; 1 to 3" in refused.stderr
    with pytest.raises(ConfigError, match="--rounds does not go with --scaffold alone"):
        sample_verb._scaffold(ONE, [], None, 2)
    with pytest.raises(ConfigError, match="no noise can be held"):
        neighbors_verb._keep(True)


@pytest.mark.slow
def test_neighbors_keep_on_the_command_line(run_molvae, tmp_path: Path) -> None:
    path = tmp_path / "near.csv"
    done = run_molvae(
        "neighbors", "CCOc1ccc(NC(=O)C2CC2)cc1", "-m", "moses", "-n", "4", "--keep", "c1ccccc1", "--radius", "1",
        "-o", path, "--properties", "none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(pd.read_csv(path).columns)[:5] == ["smiles", "similarity", "radius", "R1", "R2"]
    assert "radius 1: yield" in done.stdout


def test_the_python_interface_gives_the_same_table() -> None:
    model = MolVAE.from_pretrained("moses", "cpu")
    table = model.sample_scaffold(4, "c1ccccc1[*]", seed=3)
    again = sample_scaffold(model.loaded, 4, "c1ccccc1[*]", seed=3, workers=1)
    assert table["smiles"].tolist() == again["smiles"].tolist()
    assert table["smiles"].nunique() == 4
