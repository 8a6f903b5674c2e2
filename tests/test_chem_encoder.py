"""The compiled encoder gives what selfies gives, and what it calls proven is what RDKit reads."""

from __future__ import annotations

import dataclasses
import gzip
import random

import pytest
import selfies
from rdkit import Chem

from molvae.chem import encoder
from molvae.chem.encoder import Encoded, as_texts, encode_chunk, encode_when_it_pays, settle
from molvae.chem.rejected import Rejected
from molvae.chem.selfies import encode, prove
from molvae.chem.standardize import Standardized, standardize
from tests.nasty import PATH, load_nasty

SAMPLE = PATH.parent.parent.parent / "data" / "moses_sample.csv.gz"
HARD = [
    "O=C(CCCCCCCCCCCCCCCCCCCCCC)Nc1ccccc1",
    "C(" + "C" * 300 + ")(F)Cl",
    "C1" + "C" * 40 + "1",
    "c1ccc2c(c1)ccc1c2ccc2c3ccccc3ccc21",
    "c1ccc2cccc-2cc1",
    "O=c1[nH]cnc2[nH]cnc12",
    "C[n+]1ccccc1.[Cl-]",
    "CC(=O)[O-].[Na+]",
    "O=[N+]([O-])c1ccc(-c2ccco2)s1",
    "F/C=C/C=C\\F",
    "C/C1=C/CCCCCC1",
    "C[C@H]1CC[C@@H](O)C2(CC1)OCCO2",
    "O[C@@]12CCC[C@H]1CCC2",
    "C[C@]1(F)CN[C@@]2(C)OC12",
    "N#Cc1nnc[nH]1",
    "C1CC2CC1C1C3CCC(C3)C21",
    "CS(=O)(=O)N=S(C)(C)=O",
    "OP(=O)(O)Oc1ccccc1",
    "[NH3+][C@@H](Cc1c[nH]c2ccccc12)C(=O)[O-]",
    "c1cc2ccc3cccc4ccc(c1)c2c34",
]
LEFT_OUT = ["*C", "[13CH4]", "[Xe]", "c1cc[se]c1", "C%(100)CC%(100)", "[H]N=C", "p1ccccc1", "C:C", "", "C(", "C)",
            "C1C", "C11", "C=1CC#1", "C..C", ".C", "C.", "=C", "C==C", "C(=)C", "é"]  # fmt: skip


def sample(n: int) -> list[str]:
    with gzip.open(SAMPLE, "rt") as handle:
        return handle.read().split()[1 : n + 1]


def canonical() -> list[str]:
    nasty = [standardize(smiles) for smiles, expected, _ in load_nasty() if expected.startswith("accept")]
    return sample(300) + HARD + [one.smiles for one in nasty if isinstance(one, Standardized)]


def shuffled(smiles: list[str], seed: int) -> list[str]:
    """Write each molecule from another atom on, so that rings and aromatic bonds come in unusual orders."""
    chance = random.Random(seed)
    return [
        Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(text), 1, randomSeed=chance.randrange(1 << 30))[0]
        for text in smiles
    ]


def test_real_nasty_and_hard_molecules_get_the_tokens_that_selfies_gives():
    smiles = canonical()
    given = [one for one in zip(smiles, encode_chunk(smiles), strict=True) if one[1] is not None]
    assert len(given) > 500
    for text, encoded in given:
        assert "".join(as_texts(encoded.codes)) == selfies.encoder(text), text


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_unusual_orders_get_the_tokens_that_selfies_gives(seed: int):
    smiles = shuffled(sample(150) + HARD, seed)
    given = [one for one in zip(smiles, encode_chunk(smiles), strict=True) if one[1] is not None]
    assert len(given) > 120
    for text, encoded in given:
        assert "".join(as_texts(encoded.codes)) == selfies.encoder(text), text


def test_what_is_proven_is_what_rdkit_reads():
    smiles = canonical()
    proven = [one for one in zip(smiles, encode_chunk(smiles), strict=True) if one[1] is not None and one[1].proven]
    assert len(proven) > 400
    for text, encoded in proven:
        assert not isinstance(prove(Chem.CanonSmiles(text), as_texts(encoded.codes)), Rejected), text


def test_the_usual_molecule_is_proven_and_stereo_or_an_open_valence_is_not():
    assert sum(one is not None and one.proven for one in encode_chunk(sample(300))) >= 299
    doubtful = ["C[C@H](N)O", "F/C=C/F", "c1cc[cH-]c1", "c1ccc[cH+]cc1", "[c]1ccccc1"]
    assert [one.proven for one in encode_chunk(doubtful)] == [False] * len(doubtful)


def test_what_is_not_covered_is_left_to_selfies():
    assert encode_chunk(LEFT_OUT) == [None] * len(LEFT_OUT)


def test_a_chunk_with_odd_strings_in_it_keeps_its_order():
    smiles = ["CCO", "", "*", "c1ccccc1", "C(", "CCN"]
    encoded = encode_chunk(smiles)
    assert [one is None for one in encoded] == [False, True, True, False, True, False]
    assert [as_texts(one.codes) for one in encoded if one] == [encode(text) for text in ("CCO", "c1ccccc1", "CCN")]


def test_nothing_is_proven_when_the_decoder_derives_another_molecule(monkeypatch: pytest.MonkeyPatch):
    machine = encoder._machine()
    facts = machine.decoder.facts.copy()
    # Under a limit of two bonds the decoder drops every branch on carbon.
    facts[encoder.token_texts().index("[C]"), 2] = 2
    other = dataclasses.replace(machine, decoder=dataclasses.replace(machine.decoder, facts=facts))
    monkeypatch.setattr(encoder, "_machine", lambda: other)
    assert [one.proven for one in encode_chunk(["CC(C)C", "CCO"])] == [False, True]


def test_tokens_that_decode_to_another_molecule_are_refused():
    [ethanol] = encode_chunk(["CCO"])
    refused = settle("CCN", Encoded(ethanol.codes, proven=False))
    assert isinstance(refused, Rejected)
    assert refused.detail == "decodes to CCO"
    assert settle("CCO", Encoded(ethanol.codes, proven=False)) == ethanol.codes


def test_compiled_code_is_loaded_only_after_many_molecules(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encoder, "COMPILE_AFTER", 3)
    monkeypatch.setattr(encoder, "_patience", encoder._Patience())
    assert encode_when_it_pays(["C", "C"]) == [None, None]
    assert encode_when_it_pays(["C", "C"]) == encode_chunk(["C", "C"]) != [None, None]


def test_without_compiled_code_selfies_does_the_work(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encoder, "_machine", lambda: None)
    assert encode_chunk(["CCO"]) == [None]
    assert settle("CCO", None) == ("[C]", "[C]", "[O]")


def test_every_code_has_a_token_of_its_own_that_may_enter_a_vocabulary():
    tables = encoder._tables()
    texts = [text for text in tables.texts if text]
    assert len(set(texts)) == len(texts) < 1 << 16
    assert {"[C]", "[=O]", ".", "[NH1]", "[C@@H1]", "[/C]", "[#Branch2]", "[-/Ring1]", "[Na+1]"} <= set(texts)
    assert not tables.allowed[tables.texts.index("[#F]")] or selfies.decoder("[C][#F]")
