"""Drafts: the nearest is kept, a row that is stuck moves further, and requests are met better for it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from molvae.chem.properties import compute
from molvae.generate.asking import Asking
from molvae.generate.chemistry import Item
from molvae.generate.conditional import sample_where
from molvae.generate.drafts import BOLDER, BOLDEST, KICK, Drafts
from molvae.generate.read_back import ReadBack
from molvae.generate.reading import read_drafts
from molvae.generate.requests import parse_where
from molvae.generate.wanted import Wanted
from molvae.nn.checkpoint import LoadedModel, load_model

PLAIN = Wanted(alerts=False, properties=())
CPU = torch.device("cpu")


def back(z: torch.Tensor, smiles: list[str]) -> ReadBack:
    """Return drafts as if they had been read."""
    return ReadBack(z, torch.ones(len(z), dtype=torch.bool), smiles, torch.zeros(len(z), 1024))


def item(number: int) -> Item:
    """Return a draft that can be told from others."""
    return (number,), True


def test_the_draft_that_misses_least_is_kept_and_an_unread_one_only_when_there_is_no_other() -> None:
    drafts, rows = Drafts(2, CPU), torch.tensor([0, 1])
    drafts.take(rows, [item(1), item(2)], [1.0, 2.0], ["", "C"], torch.tensor([math.inf, 0.5]))
    assert drafts.items == [item(1), item(2)]
    drafts.take(rows, [item(3), item(4)], [3.0, 4.0], ["CC", "CCC"], torch.tensor([9.0, 0.7]))
    assert drafts.items == [item(3), item(2)]
    assert drafts.nats == [3.0, 2.0]
    drafts.take(torch.tensor([1]), [item(5)], [5.0], ["CCCC"], torch.tensor([0.1]))
    assert drafts.items == [item(3), item(5)]
    assert drafts.missed == pytest.approx([9.0, 0.1])


def test_a_row_whose_move_changed_nothing_goes_further_until_it_does() -> None:
    drafts, row = Drafts(1, CPU), torch.tensor([0])
    read, moved, kicks = torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([[1.0, -1.0]])

    def go(text: str) -> torch.Tensor:
        drafts.take(row, [item(0)], [0.0], [text], torch.tensor([1.0]))
        return drafts.push(row, read, moved, kicks)

    torch.testing.assert_close(go("C"), moved)
    torch.testing.assert_close(go("C"), BOLDER * (moved + KICK * kicks))
    torch.testing.assert_close(go("C"), BOLDER**2 * (moved + KICK * kicks))
    torch.testing.assert_close(go("CC"), moved)
    for _ in range(20):
        far = go("CC")
    torch.testing.assert_close(far, BOLDEST * (moved + KICK * kicks))


def test_drafts_are_put_as_they_are() -> None:
    drafts = Drafts(2, CPU)
    drafts.put(torch.tensor([1]), [item(7)], [0.5])
    assert drafts.items == [((), False), item(7)]
    assert math.isnan(drafts.nats[0])


@pytest.fixture(scope="module")
def moses() -> LoadedModel:
    return load_model("moses", "cpu")


@pytest.fixture
def heads_only(moses: LoadedModel) -> Iterator[LoadedModel]:
    reader, moses.model.reader = moses.model.reader, None
    yield moses
    moses.model.reader = reader


def test_heads_doubt_only_what_is_asked_for(heads_only: LoadedModel) -> None:
    moses = heads_only
    z, texts = torch.zeros(2, moses.model.latent), ["CCO", "CCO"]
    wanted = torch.full((2, len(moses.model.predict_names)), math.nan)
    wanted[0, 1] = 0.5
    mean, log_std = moses.model.heads(z)
    found = read_drafts(moses.model, back(z, texts), wanted)
    torch.testing.assert_close(found.off, torch.tensor([abs(float(mean[0, 1].detach()) - 0.5), 0.0]))
    expected = (found.off[0].square() + (2 * log_std[0, 1]).exp()).sqrt()
    torch.testing.assert_close(found.missed, torch.stack([expected, torch.tensor(0.0)]))
    assert found.without(torch.tensor([True, False])).missed.isfinite().tolist() == [False, True]


def test_rdkit_reads_what_it_can_and_moves_the_aim_by_what_the_heads_misread(moses: LoadedModel) -> None:
    model, z = moses.model, torch.zeros(1, moses.model.latent)
    wanted = torch.full((1, len(model.predict_names)), math.nan)
    column = model.predict_names.index("logp")
    info = model.property_info[column]
    wanted[0, column] = 1.0
    smiles = "CCOC(=O)c1ccccc1"
    found = read_drafts(model, back(z, [smiles]), wanted, "rdkit", workers=1)
    true = (float(compute([smiles], ["logp"])[0, 0]) - info.mean) / info.std
    assert float(found.off) == pytest.approx(abs(true - 1.0), abs=1e-4)
    assert float(found.missed) == pytest.approx(float(found.off))
    said = float(model.heads(z)[0][0, column])
    assert float(found.aims[0, column]) == pytest.approx(1.0 + said - true, abs=1e-4)
    assert found.aims.isnan().sum() == len(model.predict_names) - 1


def test_inside_a_range_by_a_deviation_nothing_is_missed(heads_only: LoadedModel) -> None:
    model, z = heads_only.model, torch.zeros(1, heads_only.model.latent)
    column = model.predict_names.index("qed")
    mean, log_std = model.heads(z)
    said, std = float(mean[0, column]), float(log_std[0, column].exp())
    wanted = torch.full((1, len(model.predict_names)), math.nan)
    wanted[0, column] = said + 3.0

    def off(low: float, high: float) -> float:
        ends = (wanted.clone(), wanted.clone())
        ends[0][0, column], ends[1][0, column] = low, high
        return float(read_drafts(model, back(z, ["C"]), wanted, ends=ends).off)

    assert off(said - 1.01 * std, math.inf) == 0.0
    assert off(said - 0.5 * std, math.inf) == pytest.approx(0.5 * std, rel=1e-4)
    assert off(said + 1.0, math.inf) == pytest.approx(1.0 + std, rel=1e-4)
    assert off(said + 3.0, said + 3.0) == pytest.approx(3.0, rel=1e-4)


def test_ranges_take_fewer_drafts_than_points(moses: LoadedModel) -> None:
    written = [
        sample_where(moses, 32, parse_where(asked), wanted=PLAIN, workers=1).attrs["written"]
        for asked in ("tpsa=60..90", "tpsa=75")
    ]
    # Measured: 1.6 and 9.8.
    assert written[0] < 0.6 * written[1]


def test_drafts_read_by_rdkit_come_nearer_and_count_as_k(moses: LoadedModel) -> None:
    asked = parse_where("sa=3.5")
    heads, rdkit = (
        sample_where(moses, 48, asked, Asking(rounds=4, reader=by), wanted=PLAIN, workers=1)
        for by in ("model", "rdkit")
    )
    assert rdkit["sa_error"].abs().mean() < 0.7 * heads["sa_error"].abs().mean()
    assert set(heads["best_of"]) == {1}
    assert set(rdkit["best_of"]) == {5}
    assert "RDKit" in rdkit.attrs["route"]
    assert "k = 5" in rdkit.attrs["route"]


def test_a_row_does_not_settle_for_what_a_row_before_it_holds() -> None:
    drafts, rows = Drafts(3, torch.device("cpu")), torch.arange(3)
    items = [((number,), True) for number in range(3)]
    repeats = drafts.take(rows, items, [1.0] * 3, ["CO", "CO", "CN"], torch.tensor([0.5, 0.1, 0.2]))
    assert repeats.tolist() == [False, True, False]
    assert drafts.held == ["CO", "CO", "CN"]
    # What is no repeat is taken even when it is farther; a row before another one takes its molecule from it.
    repeats = drafts.take(rows, items, [1.0] * 3, ["CN", "CCO", "CN"], torch.tensor([0.1, 0.9, 0.1]))
    assert repeats.tolist() == [False, False, True]
    assert drafts.held == ["CN", "CCO", "CN"]
    drafts.take(rows[2:], items[2:], [1.0], ["CCN"], torch.tensor([0.8]))
    assert drafts.held == ["CN", "CCO", "CCN"]
    # What the first row let go of is free again.
    assert not drafts.take(rows[1:2], items[1:2], [1.0], ["CO"], torch.tensor([0.3])).any()
    assert drafts.held[1] == "CO"
    later = Drafts(1, torch.device("cpu"), known={"CN"})
    assert later.take(rows[:1], items[:1], [1.0], ["CN"], torch.tensor([0.1])).all()


def test_rounds_bring_molecules_much_nearer_than_the_first_draft(moses: LoadedModel) -> None:
    errors = [
        sample_where(moses, 64, parse_where("logp=1"), Asking(rounds=rounds), wanted=PLAIN, workers=1)["logp_error"]
        for rounds in (0, 8)
    ]
    # Measured: .56 and .22; .38 when a row that is stuck made the same move again, before there was a reader.
    assert errors[1].abs().mean() < 0.5 * errors[0].abs().mean()
