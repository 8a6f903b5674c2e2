"""Every method keeps the contract, whatever the scores are; a method added to the table is tested by that alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_space import QUICK, SIZE, ToySpace, fluorines

from molvae.chem.rejected import Rejected
from molvae.chem.standardize import standardize
from molvae.errors import UnknownNameError
from molvae.optimize.method import Proposal, Starts
from molvae.optimize.registry import METHODS, find_method, make_method

SPACE = ToySpace()
SMILES = ("CCCCC", "CCCCN", "CCCNC")
pytestmark = pytest.mark.parametrize("name", METHODS)


def starts(scores: list[float]) -> Starts:
    codes = SPACE.encode(SMILES[: len(scores)])
    return Starts(SMILES[: len(scores)], codes.mean, codes.std, np.array(scores))


def molecules(proposal: Proposal) -> list[str]:
    """Return what a proposal stands for, as a search does."""
    if proposal.smiles is None:
        return SPACE.decode(proposal.latents)
    return ["" if isinstance(one, Rejected) else one.smiles for one in map(standardize, proposal.smiles)]


def course(
    name: str, scorer: Callable[[list[str]], list[float]], rounds: int, n: int | None = None, seed: int = 0,
    n_starts: int = 3,
) -> tuple[list[Proposal], list[NDArray[np.float64]]]:  # fmt: skip
    """Return the proposals and scores of a search."""
    begin = starts(scorer(list(SMILES[:n_starts])))
    method = make_method(name, SPACE, begin, np.random.default_rng(seed), QUICK.get(name, ""))
    proposals, told = [], []
    known = set(begin.smiles)
    for _ in range(rounds):
        wanted = method.batch if n is None else n
        proposal = method.ask(wanted)
        assert len(proposal) == len(proposal.parents) == wanted
        assert proposal.starts.shape == (wanted,)
        assert np.isfinite(proposal.latents).all()
        assert proposal.latents.shape == (wanted, SIZE if proposal.smiles is None else 0)
        assert proposal.smiles is None or len(proposal.smiles) == wanted
        assert set(proposal.starts.tolist()) <= set(range(n_starts))
        assert set(proposal.parents) <= known
        smiles = molecules(proposal)
        scores = np.array([value if one else math.nan for one, value in zip(smiles, scorer(smiles), strict=True)])
        known |= set(smiles)
        method.tell(proposal, smiles, scores)
        proposals.append(proposal)
        told.append(scores)
    return proposals, told


@pytest.mark.parametrize("n", [None, 1, 3, 50])
@pytest.mark.parametrize("n_starts", [1, 3])
def test_ask_gives_what_is_asked_for(name: str, n: int | None, n_starts: int) -> None:
    course(name, fluorines, 12, n, n_starts=n_starts)


def test_the_same_seed_gives_the_same_course_and_leaves_global_chance_alone(name: str) -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr]
    first, second, other = (course(name, fluorines, 10, seed=seed)[0] for seed in (5, 5, 6))
    assert [molecules(one) for one in first] == [molecules(one) for one in second]
    assert all(np.array_equal(a.latents, b.latents) for a, b in zip(first, second, strict=True))
    assert [molecules(one) for one in first] != [molecules(one) for one in other]
    assert np.array_equal(before, np.random.get_state()[1])


def test_it_climbs(name: str) -> None:
    _, told = course(name, fluorines, 25)
    assert np.nanmax(told[-1]) > max(fluorines(list(SMILES)))
    assert np.nanmean(np.concatenate(told[-5:])) > np.nanmean(np.concatenate(told[:2]))


def test_every_start_gets_its_share(name: str) -> None:
    proposals, _ = course(name, fluorines, 24, n=8)
    counts = np.bincount(np.concatenate([proposal.starts for proposal in proposals]), minlength=3)
    assert counts.min() >= 0.7 * counts.max()


SCORERS: dict[str, Callable[[list[str]], list[float]]] = {
    "all fail": lambda smiles: [math.nan] * len(smiles),
    "half fail": lambda smiles: [math.nan if len(one) % 2 else float(len(one)) for one in smiles],
    "all equal": lambda smiles: [1.0] * len(smiles),
    "huge": lambda smiles: [1e29 * len(one) for one in smiles],
    "tiny": lambda smiles: [1e-300 * len(one) for one in smiles],
    "negative": lambda smiles: [-1e6 - len(one) for one in smiles],
}


@pytest.mark.parametrize("scorer", SCORERS)
def test_odd_scores_do_not_break_it(name: str, scorer: str) -> None:
    course(name, SCORERS[scorer], 40, n_starts=2)


def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownNameError, match=name):
        find_method("no such method")
