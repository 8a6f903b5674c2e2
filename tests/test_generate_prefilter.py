"""The prefilter on the device: the same table as without it, fewer rows for RDKit, every row accounted for."""

from __future__ import annotations

import pytest
import torch
from test_generate_molecules import untrained

from molvae.chem.selfies import split
from molvae.generate import molecules
from molvae.generate.chemistry import Molecule, Write
from molvae.generate.molecules import sample
from molvae.generate.prefilter import EMPTY, TOO_LONG, Prefilter
from molvae.generate.sampling import GREEDY, PASS, SamplingOptions, decode_tokens
from molvae.generate.wanted import Wanted
from molvae.nn.checkpoint import LoadedModel

RINGS = ["[C]", "[=C]", "[N]", "[O]", "[Ring1]", "[Ring2]", "[=Branch1]", "[Branch1]", "[C@H1]", "[C@@H1]", "."]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    torch.set_num_threads(1)
    return untrained()


def ids_of(texts: list[str], prefilter_of: LoadedModel) -> torch.Tensor:
    rows = [prefilter_of.vocabulary.encode(split(text)) for text in texts]
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


def judge(prefilter: Prefilter, texts: list[str], loaded: LoadedModel, finished: list[bool] | None = None) -> list[int]:
    return prefilter(ids_of(texts, loaded), torch.tensor(finished or [True] * len(texts))).tolist()


@pytest.mark.parametrize("tokens", [None, RINGS], ids=["plain", "rings"])
@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(properties=("qed",), alerts=False),
        Wanted(unique=True, properties=(), alerts=False),
        Wanted(unique=True, novel_to=frozenset({"C", "CC", "CO", "O"}), properties=("logp",), alerts=False),
        Wanted(keep_failed=True, properties=(), alerts=False),
    ],
    ids=["all", "unique", "novel", "keep-failed"],
)
def test_the_table_is_the_same_with_and_without(tokens, wanted):
    loaded = untrained(tokens, seed=1) if tokens else untrained(seed=1)
    options = SamplingOptions(temperature=1.0, max_length=12, precision="fp32")
    plain = sample(loaded, 80, options, wanted, seed=4, workers=1, prefilter=False)
    ahead = sample(loaded, 80, options, wanted, seed=4, workers=1, prefilter=True)
    other = sample(loaded, 80, options, wanted, seed=4, workers=1, batch_size=70, prefilter=True)
    assert ahead.equals(plain)
    assert other.drop(columns="nats").equals(plain.drop(columns="nats"))
    assert plain.attrs["counts"] == ahead.attrs["counts"] == other.attrs["counts"]
    assert plain.attrs["prefiltered"] == {}
    assert ahead.attrs["prefiltered"]["repeat"] > 0
    assert ahead.attrs["prefiltered"]["empty"] > 0


def test_rdkit_sees_only_what_passes(loaded, monkeypatch):
    seen = []
    own = Write.translate
    monkeypatch.setattr(Write, "translate", lambda self, items: seen.append(items) or own(self, items))
    wanted = Wanted(unique=True, properties=(), alerts=False, keep_failed=True)
    table = sample(loaded, 40, SamplingOptions(max_length=8), wanted, seed=2, workers=1, prefilter=True)
    items = [item for chunk in seen for item in chunk]
    left_out = sum(table.attrs["prefiltered"].values())
    assert len(items) + left_out == -(-(len(items) + left_out) // molecules.BLOCK) * molecules.BLOCK
    assert set(table.attrs["prefiltered"]) == {"too-long", "empty", "repeat"}
    assert all(finished and token_ids for token_ids, finished in items)
    assert len(set(items)) == len(items)


def test_verdicts(loaded):
    prefilter = Prefilter(loaded.vocabulary, torch.device("cpu"), unique=True)
    texts = ["[C][O]", "[Ring1][Branch1]", "[O][C]", "[C][N]", "[C][O]", "[C][C][C]"]
    finished = [True, True, True, False, True, True]
    assert judge(prefilter, texts, loaded, finished) == [PASS, EMPTY, 0, TOO_LONG, 0, PASS]
    # Numbers go on from call to call; an unfinished row is nobody's first.
    assert judge(prefilter, ["[C][N]", "[C][C][C]", "[N][C]"], loaded) == [PASS, 5, 6]
    restored = prefilter.restore([Molecule("CO", "ok"), Molecule("CCC", "ok")], [PASS, EMPTY, 0, TOO_LONG, 0, PASS])
    assert [molecule.smiles for molecule in restored] == ["CO", None, "CO", None, "CO", "CCC"]
    assert [molecule.state for molecule in restored] == ["ok", "empty", "ok", "too-long", "ok", "ok"]
    restored = prefilter.restore([Molecule("CN", "ok")], [PASS, 5, 6])
    assert [molecule.smiles for molecule in restored] == ["CN", "CCC", "CN"]
    assert prefilter.counts == {"empty": 1, "too-long": 1, "repeat": 4}


def test_without_unique_only_equal_strings_repeat(loaded):
    prefilter = Prefilter(loaded.vocabulary, torch.device("cpu"), unique=False)
    assert judge(prefilter, ["[C][O]", "[O][C]", "[C][O]"], loaded) == [PASS, PASS, 0]


def test_molecules_with_stereo_repeat_only_as_equal_strings(loaded):
    prefilter = Prefilter(loaded.vocabulary, torch.device("cpu"), unique=True)
    one, other = "[C][C@H1][Branch1][C][O][N]", "[C][C@H1][Branch1][C][N][O]"
    assert judge(prefilter, [one, other, one], loaded) == [PASS, PASS, 0]


def test_an_invalid_row_is_named_as_rdkit_names_it(loaded):
    prefilter = Prefilter(loaded.vocabulary, torch.device("cpu"), unique=False)
    # Under molvae's limits nothing is invalid: let fluorine have two bonds.
    prefilter.tables = type(prefilter.tables).build(loaded.vocabulary.tokens, {"F": 2, "C": 4, "?": 8})
    verdicts = judge(prefilter, ["[C][F][C]", "[C][F]"], loaded)
    assert [m.state for m in prefilter.restore([Molecule("CF", "ok")], verdicts)] == ["sanitize", "ok"]
    assert prefilter.counts == {"sanitize": 1}


def test_sequences_leave_out_what_did_not_pass(loaded):
    latents = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    cond = loaded.model.unconditioned(50)
    plain = decode_tokens(loaded.model, latents, cond, GREEDY)
    none, everything = (
        decode_tokens(
            loaded.model, latents, cond, GREEDY, prefilter=lambda tokens, done, v=verdict: torch.full((len(done),), v)
        )
        for verdict in (EMPTY, PASS)
    )
    assert plain.verdicts is None
    assert (none.lengths == 0).all()
    assert (none.verdicts == EMPTY).all()
    assert (everything.tokens == plain.tokens).all()
    assert (none.nats == plain.nats).all()


def test_it_is_off_on_a_cpu_unless_asked_for(loaded):
    assert sample(loaded, 20, wanted=Wanted(properties=(), alerts=False)).attrs["prefiltered"] == {}
