"""What has been written is not written again: places, batches, and scaffolds that leave little to choose."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from molvae.generate.complete import complete_one
from molvae.generate.scaffold import sample_scaffold
from molvae.generate.spent import Spent
from molvae.nn.checkpoint import LoadedModel, load_model

# Nearly as large as the molecules of the training set, so that few substituents are likely.
LARGE = "[*]c1ncccc1-c1noc(CNCc2c[nH]nc2-c2ccccc2)n1"


@pytest.fixture(scope="module")
def moses() -> LoadedModel:
    return load_model(Path(__file__).parents[1] / "molvae" / "pretrained" / "moses")


def test_a_choice_that_is_over_is_not_allowed_again() -> None:
    spent, allowed = Spent(), torch.tensor([[True, True, True, False]] * 2)
    spent.add((5,), 0)
    left = spent.leave(allowed, [(5,), (6,)])
    assert left.tolist() == [[False, True, True, False], [True, True, True, False]]
    assert allowed[0].tolist() == [True, True, True, False]


def test_a_place_without_choices_is_over_itself_and_allows_a_repeat() -> None:
    spent, allowed = Spent(), torch.tensor([[True, True, False]])
    spent.add((7, 3), 0)
    spent.add((7, 3), 1)
    assert spent.over((7,)) == frozenset()
    assert spent.leave(allowed, [(7, 3)]).tolist() == allowed.tolist()
    assert spent.over((7,)) == {3}
    first = Spent()
    first.add((), 0)
    first.add((), 1)
    assert first.leave(allowed, [()]).tolist() == allowed.tolist()


def test_other_numbers_of_atoms_are_other_strings_and_never_over() -> None:
    spent, allowed = Spent(), torch.tensor([[True, False], [True, False]])
    spent.add((-4,), 0)
    assert spent.leave(allowed, [(-4,), (-3,)]).tolist() == allowed.tolist()
    assert spent.over(()) == frozenset()
    assert spent.over((-4,)) == {0}
    assert spent.over((-3,)) == frozenset()


def test_pieces_of_any_length_seldom_repeat(moses: LoadedModel) -> None:
    counts = complete_one(moses, "CCOC(=O){?}", tries=48, seed=0).counts
    assert counts.new > 43
    # Without memory 5 of 48 were there before.
    assert counts.again < 4


def test_a_large_scaffold_with_one_open_position_is_decorated_without_repeats(moses: LoadedModel) -> None:
    table = sample_scaffold(moses, 20, LARGE, properties=(), alerts=False, seed=0, workers=1)
    counts = table.attrs["yield"]
    assert table["smiles"].is_unique
    assert len(table) == 20
    # Without memory this was 6 of 160: methyl and fluorine over and over.
    assert counts["new"] / counts["decoded"] > 0.6
    again = sample_scaffold(moses, 20, LARGE, properties=(), alerts=False, seed=0, workers=1)
    assert again["smiles"].tolist() == table["smiles"].tolist()


def test_what_is_written_still_costs_what_the_model_says(moses: LoadedModel) -> None:
    table = sample_scaffold(moses, 30, LARGE, properties=(), alerts=False, seed=0, workers=1)
    assert (table["nats"] >= 0).all()
    # The likely ones come first, the unlikely ones when those are over.
    assert table["nats"][:5].median() < table["nats"][-10:].median()
