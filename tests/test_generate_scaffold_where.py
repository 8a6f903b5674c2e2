"""A scaffold and property values asked for together: every molecule holds the one and comes nearer to the others."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from rdkit import Chem

from molvae.api import MolVAE
from molvae.chem.attachment import read_scaffold, substituents
from molvae.chem.open_ends import lay_out
from molvae.cli.main import main
from molvae.errors import ConfigError, InputError, UnknownNameError
from molvae.generate.asking import Asking
from molvae.generate.requests import parse_where
from molvae.generate.sampling import DEFAULT, SamplingOptions
from molvae.generate.scaffold import sample_scaffold
from molvae.generate.scaffold_where import NOTHING, Composer, sample_asked, sample_scaffold_where
from molvae.generate.scaffold_write import write_rows
from molvae.generate.wanted import Wanted
from molvae.nn.checkpoint import LoadedModel, load_model

ONE = "O=C(Nc1ccccc1)[*]"
LINK = "[*]c1ccccc1.[*]N1CCOCC1"
BARE = {"properties": (), "alerts": False, "workers": 1}


@pytest.fixture(scope="module")
def moses() -> LoadedModel:
    torch.set_num_threads(1)
    return load_model("moses", "cpu")


@pytest.mark.parametrize("smiles", [ONE, LINK, "[*]c1ccc([*])cc1"])
def test_every_molecule_holds_the_scaffold_and_says_what_was_asked(moses: LoadedModel, smiles: str) -> None:
    scaffold = read_scaffold(smiles)
    table = sample_scaffold_where(moses, 8, smiles, parse_where("logp=3, tpsa<=70"), Asking(rounds=1), **BARE)
    assert len(table) == 8
    assert table["smiles"].is_unique
    for text, *parts in table[["smiles", *scaffold.names]].itertuples(index=False):
        assert substituents(scaffold, Chem.MolFromSmiles(text)) == tuple(parts)
    assert (table["logp_requested"] == 3).all()
    assert {"tpsa_error", "best_of", "nats", "logp"} <= set(table.columns)
    assert table.attrs["scaffold"] == smiles
    counts = table.attrs["yield"]
    assert counts["lost"] == 0
    assert counts["decoded"] == sum(counts[name] for name in ("new", "again", "partial", "failed"))
    assert "decoder told" in table.attrs["route"]
    assert table.attrs["where"] == "logp=3, tpsa<=70"


def test_asking_brings_decorations_nearer_than_not_asking(moses: LoadedModel) -> None:
    plain = sample_scaffold(moses, 48, ONE, properties=("tpsa",), alerts=False, workers=1)
    asked = sample_scaffold_where(moses, 48, ONE, parse_where("tpsa=90"), Asking(rounds=2), **BARE)
    best = sample_scaffold_where(moses, 24, ONE, parse_where("tpsa=90"), Asking(rounds=0, best_of=4), **BARE)
    errors = [float(error.abs().mean()) for error in (plain["tpsa"] - 90, asked["tpsa_error"], best["tpsa_error"])]
    assert errors[1] < 0.75 * errors[0]
    assert errors[2] < 0.6 * errors[0]
    assert (best["best_of"] == 4).all()
    assert "k = 4" in best.attrs["route"]


def test_the_same_seed_gives_the_same_molecules_and_known_ones_stay_out(moses: LoadedModel) -> None:
    asked = parse_where("logp=2")
    first, again = (sample_scaffold_where(moses, 5, ONE, asked, Asking(rounds=0), seed=4, **BARE) for _ in range(2))
    pd.testing.assert_frame_equal(first, again)
    known = frozenset(first["smiles"][:3])
    other = sample_scaffold_where(moses, 5, ONE, asked, Asking(rounds=0), seed=4, known=known, **BARE)
    assert known.isdisjoint(other["smiles"])


def test_the_decoder_is_told_the_condition_and_held_to_it_by_guidance() -> None:
    druglike = load_model("druglike", "cpu")
    model, layout = druglike.model, lay_out(read_scaffold(ONE).mol, 0)[0]
    z = model.prior.sample(6, torch.Generator().manual_seed(0))
    assert model.condition_names
    greedy = SamplingOptions(greedy=True, max_length=60, precision="fp32")

    def nats(cond: torch.Tensor | None, guidance: float = 0.0) -> list[float]:
        rows = write_rows(
            model, druglike.vocabulary, [layout] * 6, z, greedy, torch.Generator().manual_seed(1), cond, guidance
        )
        return [row.nats for row in rows]

    nothing, asked = model.unconditioned(6), torch.ones_like(model.unconditioned(6))
    assert nats(None) == nats(nothing) == pytest.approx(nats(nothing, 2.0), rel=1e-3)
    assert nats(asked) != pytest.approx(nats(nothing), rel=1e-3)
    assert nats(asked, 2.0) != pytest.approx(nats(asked), rel=1e-3)


def test_what_does_not_hold_the_scaffold_becomes_nothing(moses: LoadedModel) -> None:
    composer = Composer(moses, read_scaffold(ONE), DEFAULT, 0)
    assert composer._holds("CC(=O)Nc1ccccc1")
    assert composer._holds("CC(=O)Nc1ccccc1")
    assert not composer._holds("CC(=O)Nc1ccccc1C")
    assert not composer._holds("")
    assert not composer._holds("[CH2]C(=O)Nc1ccccc1")
    assert vars(composer.counts) == {"decoded": 0, "new": 1, "again": 1, "partial": 0, "failed": 2, "lost": 1}
    z = moses.model.prior.sample(5, torch.Generator().manual_seed(0))
    items, nats = composer(z, moses.model.unconditioned(5), 0.0)
    assert len(items) == len(nats) == 5
    assert all(item == NOTHING or len(item[0]) > 8 for item in items)


def test_bad_requests_and_scaffolds_are_refused_and_far_ones_warned_of(moses: LoadedModel) -> None:
    with pytest.raises(UnknownNameError, match="pIC50"):
        sample_scaffold_where(moses, 1, ONE, parse_where("pIC50>=7"), **BARE)
    with pytest.raises(InputError, match="0 open positions"):
        sample_scaffold_where(moses, 1, "CCO", parse_where("logp=2"), **BARE)
    far = sample_scaffold_where(moses, 0, ONE, parse_where("logp=30"), **BARE)
    assert "above the training set" in far.attrs["warnings"][0]
    assert list(far.columns)[:2] == ["smiles", "R1"]


def test_one_door_for_whatever_is_asked(moses: LoadedModel) -> None:
    bare = Wanted(properties=(), alerts=False)
    both = sample_asked(moses, 2, wanted=bare, conditions="logp=2", scaffold=ONE, asking=Asking(rounds=0), workers=1)
    held = sample_asked(moses, 2, wanted=bare, scaffold=ONE, workers=1)
    asked = sample_asked(moses, 2, wanted=bare, conditions="logp=2", asking=Asking(rounds=0), workers=1)
    free = sample_asked(moses, 2, wanted=bare, workers=1)
    assert [("R1" in table, "logp_error" in table) for table in (both, held, asked, free)] == [
        (True, True), (True, False), (False, True), (False, False),
    ]  # fmt: skip
    for wanted in (Wanted(keep_failed=True), Wanted(prior_temperature=0.5)):
        with pytest.raises(ConfigError, match="A scaffold goes with neither"):
            sample_asked(moses, 1, wanted=wanted, scaffold=ONE)


def test_the_python_interface_takes_both(moses: LoadedModel) -> None:
    table = MolVAE(moses).sample(
        3, conditions={"logp": 3.0}, scaffold=ONE, asking=Asking(rounds=0), alerts=False, properties=(), workers=1
    )
    same = sample_scaffold_where(moses, 3, ONE, parse_where("logp=3"), Asking(rounds=0), **BARE)
    assert table["smiles"].tolist() == same["smiles"].tolist()


def test_the_command_line_takes_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, picture = tmp_path / "out.csv", tmp_path / "out.svg"
    given = ["sample", "-m", "moses", "-n", "4", "--scaffold", ONE, "--where", "logp=3", "--rounds", "0"]
    rest = ["--properties", "qed", "--device", "cpu", "--workers", "1"]
    assert main([*given, "-o", str(out), "--svg", str(picture), *rest]) == 0
    said = capsys.readouterr().out
    assert "different molecules with the scaffold of" in said
    assert "asked for: logp=3" in said
    assert "logp: mean |error|" in said
    assert said.count("MOSES alerts:") == 1
    table = pd.read_csv(out)
    assert list(table.columns)[:2] == ["smiles", "R1"]
    assert {"qed", "logp", "logp_requested", "logp_error", "alerts"} <= set(table.columns)
    assert picture.read_text("utf-8").count("<g transform=") == 4
