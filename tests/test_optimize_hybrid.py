"""The searches that rank what they propose: better than chance, true to their settings, one objective or several."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toy_space import QUICK, ToySpace, fluorines

from molvae.chem.fingerprints import morgan, tanimoto
from molvae.errors import ConfigError, InputError, MolvaeError, UnknownNameError
from molvae.optimize.genetic import SIZE, LatentGenetic
from molvae.optimize.goal import PARETO, Component, GoalOracle
from molvae.optimize.gradient import CLIMB, STEPS, climb, fit, make_net
from molvae.optimize.hybrid import Hybrid
from molvae.optimize.hybrid_options import HybridOptions
from molvae.optimize.method import Proposal, Starts
from molvae.optimize.operators import MOVES, Operators
from molvae.optimize.oracles import FunctionOracle
from molvae.optimize.pareto import hypervolume
from molvae.optimize.population import Member
from molvae.optimize.registry import METHODS, drawn_kept, make_method, parse_options
from molvae.optimize.result import Result
from molvae.optimize.run import search
from molvae.optimize.search import Settings
from molvae.optimize.transforms import Linear
from molvae.optimize.turbo import FIRST, Region, Turbo

SPACE = ToySpace()
Function = Callable[[list[str]], list[float]]


def smooth(smiles: list[str]) -> list[float]:
    """Score by three F, one O, one N and twenty characters, each step nearer being worth something."""
    return [
        -abs(one.count("F") - 3) - abs(one.count("O") - 1) / 2 - abs(one.count("N") - 1) / 2 - abs(len(one) / 10 - 2)
        for one in smiles
    ]  # fmt: skip


def hydroxyls(smiles: list[str]) -> list[float]:
    """Score by OH groups, which lie far out in the toy space."""
    return [one.count("O") - 2 * one.count("=O") - len(one) / 1000 for one in smiles]


def go(
    method: str, starts: tuple[str, ...] = (), budget: int = 120, seed: int = 0, function: Function = smooth,
    **settings: Any,
) -> Result:  # fmt: skip
    options = settings.pop("options", QUICK.get(method, ""))
    chosen = Settings(method, budget, seed, options=options, **settings)
    return search(SPACE, FunctionOracle(function, function.__name__), list(starts), chosen)


def top(result: Result) -> float:
    return float(result.molecules["score"].nlargest(10).mean())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_beats_blind_draws(method: str) -> None:
    blind = []
    for seed in range(3):
        drawn = SPACE.decode(SPACE.sample(400, np.random.default_rng(seed)))
        unique = list(dict.fromkeys(filter(None, drawn)))[:120]
        blind.append(np.sort(hydroxyls(unique))[-10:].mean())
    assert np.mean([top(go(method, seed=seed, function=hydroxyls)) for seed in range(3)]) > np.mean(blind) + 0.3


def test_hybrid_beats_random_neighbours() -> None:
    hybrid, random = (np.mean([top(go(name, seed=seed)) for seed in range(3)]) for name in ("hybrid", "random"))
    assert hybrid > random + 0.3


def make(name: str, options: str = "", n_starts: int = 3, drawn: bool = False) -> Any:
    smiles = ("CCCCC", "CCCCN", "CCCNC")[:n_starts]
    codes = SPACE.encode(smiles)
    starts = Starts(smiles, codes.mean, codes.std, np.array(smooth(list(smiles))), drawn)
    return make_method(name, SPACE, starts, np.random.default_rng(0), options)


def run(method: Any, rounds: int, n: int = 8) -> list[str]:
    """Ask and tell, and return the molecules proposed."""
    made: list[str] = []
    for _ in range(rounds):
        proposal = method.ask(n)
        smiles = list(proposal.smiles)
        scores = np.array([value if one else math.nan for one, value in zip(smiles, smooth(smiles), strict=True)])
        method.tell(proposal, smiles, scores)
        made += smiles
    return made


def test_nothing_is_proposed_twice() -> None:
    made = [one for one in run(make("hybrid", "ranked=3"), 12) if one]
    assert len(made) == len(set(made)) > 60
    assert not set(made) & {"CCCCC", "CCCCN", "CCCNC"}


def test_stereoisomers_are_proposed_only_when_they_count() -> None:
    lead = "C[C@H](N)C(=O)O"
    for option, expected in (("stereo=off", 0), ("stereo=on", 1)):
        method = make("hybrid", option, n_starts=1)
        method.ask(2)
        parent = [method.population.best()[0]]
        first = method._admit([lead], parent)
        assert len(first) == 1
        assert len(method._admit(["C[C@@H](N)C(=O)O"], parent)) == expected


def test_what_may_not_be_paid_for_is_not_proposed() -> None:
    result = go("hybrid", ("CCCCC", "CCC(F)CN"), budget=40, min_similarity=0.3)
    starts = morgan(["CCCCC", "CCC(F)CN"])
    near = tanimoto(morgan(result.molecules["smiles"].tolist()), starts).max(axis=1)
    assert (near >= 0.3).all()
    method = make("hybrid", "ranked=4", n_starts=1)
    method.screen = lambda smiles, starts: np.array(["F" not in one for one in smiles], dtype=bool)
    made = run(method, 6)
    assert any(made)
    assert not any("F" in one for one in made)


def test_drawn_starts_are_one_family_and_are_warmed_up_first() -> None:
    method = make("hybrid", "warm=20", drawn=True)
    made = run(method, 2)
    assert {one.smiles for one in method.population.members} >= set(made) - {""}
    assert all(SPACE.encode([one]).problems == ("",) for one in made if one)
    assert drawn_kept("hybrid") > drawn_kept("ga") == 8


def test_a_search_that_is_stuck_begins_anew_from_the_prior() -> None:
    for patience, expected in ((20, True), (0, False)):
        method = make("hybrid", f"warm=8,ranked=2,patience={patience}", drawn=True)
        renewed = False
        for _ in range(6):
            proposal = method.ask(8)
            smiles = list(proposal.smiles)
            method.tell(proposal, smiles, np.array([1.0 if one else math.nan for one in smiles]))
            if not method.population.best():
                renewed = True
                assert method._is_cold()
                known = len(method.population)
                fresh = method.ask(8)
                assert not {one.smiles for one in method.population.members} & (set(fresh.smiles) - {""})
                method.tell(fresh, list(fresh.smiles), np.full(8, 1.0))
                assert len(method.population) > known
                assert {one.smiles for one in method.population.best()} <= set(fresh.smiles)
        assert renewed == expected


def test_a_given_start_that_is_stuck_is_the_only_parent_again_and_others_go_on() -> None:
    method = make("hybrid", "ranked=2,patience_each=12", n_starts=2)
    first, other = method.starts.smiles
    renewed = False
    for step in range(12):
        proposal = method.ask(8)
        # The first family stays where it is, the other becomes better with every step.
        scores = [1.0 if start == 0 else 2.0 + step for start in proposal.starts.tolist()]
        method.tell(proposal, list(proposal.smiles), np.where([bool(one) for one in proposal.smiles], scores, math.nan))
        parents = [one.smiles for one in method.population.best(0)]
        renewed |= parents == [first] and len(method.population) > 20
        assert [one.smiles for one in method.population.best(1)] != [other]
        assert len(method.population.best()) > len(parents)
    assert renewed
    never = make("hybrid", "ranked=2,patience_each=0", n_starts=1)
    run(never, 10)
    assert len(never.population.best(0)) > 1


def test_given_starts_are_moved_in_every_way_and_drawn_ones_as_the_figures_of_pmo_were_measured() -> None:
    given, drawn = HybridOptions().chosen_moves(False), HybridOptions().chosen_moves(True)
    assert given == MOVES
    assert set(given) - set(drawn) == {"graph-swap"}
    assert HybridOptions(moves="noise+prior").chosen_moves(False) == ("noise", "prior")
    assert make("hybrid", "", n_starts=2).bandit.arms == given
    assert make("hybrid", "", drawn=True).bandit.arms == drawn


def test_the_bandit_learns_which_moves_pay() -> None:
    method = make("hybrid", "moves=noise+graph-mutate,ranked=3", drawn=True, n_starts=3)
    run(method, 10)
    learned = method.bandit.shares()
    assert learned["noise"] != pytest.approx(learned["graph-mutate"])
    fixed = make("hybrid", "moves=noise+graph-mutate,ranked=3,bandit=off", drawn=True)
    run(fixed, 4)
    assert set(fixed.bandit.shares().values()) == {0.5}


def test_without_a_surrogate_nothing_is_fitted_and_with_one_it_forgets() -> None:
    plain = make("hybrid", "surrogate=off,ranked=1,generations=1")
    run(plain, 3)
    assert plain.processes == []
    method = make("hybrid", "known=20,ranked=2")
    run(method, 6)
    assert len(method.processes) == 1
    assert len(method.processes[0]) == len(method._values) <= 24
    best = max(one.score for one in method.population.members)
    assert method._values.max() == best


@pytest.mark.parametrize("move", MOVES)
def test_every_move_makes_molecules_alone(move: str) -> None:
    made = run(make("hybrid", f"moves={move},ranked=2,gate=off"), 4)
    assert any(made)


def test_a_step_goes_from_the_mate_past_the_parent() -> None:
    from rdkit import Chem

    operators = Operators(SPACE, np.random.default_rng(0))
    one, other = (Member(smiles, Chem.MolFromSmiles(smiles), smiles, 0) for smiles in ("CCCCC", "CCCNC"))
    codes = operators.codes([one, other, Member("C1CC1", Chem.MolFromSmiles("C1CC1"), "C1CC1", 0)])
    assert codes[2] is None
    points = operators.step([one] * 50, [other] * 50)
    assert codes[0] is not None
    assert codes[1] is not None
    along = [float((point - codes[0][0]) @ (codes[0][0] - codes[1][0])) for point in points if point is not None]
    assert min(along) < 0 < max(along)
    assert operators.step([one], [Member("C1CC1", None, "C1CC1", 0)]) == [None]


def objectives(smiles: list[str]) -> NDArray[np.float64]:
    return np.array([[one.count("F"), one.count("O")] for one in smiles], dtype=np.float64)


def test_several_objectives_spread_over_the_front() -> None:
    method = make("hybrid", "ranked=6", drawn=True)
    method.objectives = objectives
    for _ in range(10):
        proposal = method.ask(8)
        smiles = list(proposal.smiles or ())
        told = np.array([row.mean() if one else math.nan for one, row in zip(smiles, objectives(smiles), strict=True)])
        method.tell(proposal, smiles, told)
    assert len(method.processes) == 2
    found = objectives([one.smiles for one in method.population.members])
    assert found[:, 0].max() >= 3
    assert found[:, 1].max() >= 3
    first = objectives([one.smiles for one in method.population.best()[:1]])[0]
    assert not ((found >= first).all(axis=1) & (found > first).any(axis=1)).any()


def count(letter: str) -> FunctionOracle:
    return FunctionOracle(lambda smiles: [float(one.count(letter)) for one in smiles], letter)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_goal_with_a_front_is_searched_by_its_objectives(resumed: bool, tmp_path: Path) -> None:
    goal = GoalOracle([Component(one, count(one), Linear()) for one in "FO"], mean=PARETO)
    options = "batch=8,ranked=5,generations=2,warm=8"
    settings = Settings("hybrid", 100, 1, options=options)
    directory = tmp_path / "run" if resumed else None
    if directory is not None:
        search(SPACE, goal, [], Settings("hybrid", 60, 1, options=options), directory)
    result = search(SPACE, goal, [], settings, directory, resume=resumed)
    again = search(SPACE, goal, [], settings)
    assert result.molecules["smiles"].tolist() == again.molecules["smiles"].tolist()
    found = result.molecules[["raw_F", "raw_O"]].to_numpy()
    blind = SPACE.decode(SPACE.sample(400, np.random.default_rng(0)))
    drawn = objectives(list(dict.fromkeys(filter(None, blind)))[:100])
    assert hypervolume(found, np.zeros(2)) > 1.5 * hypervolume(drawn, np.zeros(2))
    with pytest.raises(ConfigError, match="front"):
        search(SPACE, goal, [], Settings("ga", 60, 1))


@pytest.mark.parametrize(
    ("options", "kind", "word"),
    [
        ("pol=3", UnknownNameError, "population"),
        ("population", InputError, "population=100"),
        ("population=many", InputError, "whole number"),
        ("surrogate=maybe", InputError, "on or off"),
        ("ranked=0", InputError, "ranked"),
        ("gate=wooden", InputError, "sane"),
        ("boldness=-1", InputError, "boldness"),
        ("moves=noise+jump", InputError, "jump"),
    ],
)
def test_wrong_settings_are_explained(options: str, kind: type[MolvaeError], word: str) -> None:
    with pytest.raises(kind, match=word) as caught:
        Settings("hybrid", options=options)
    assert len(str(caught.value).splitlines()) == 2


def test_settings_are_read() -> None:
    wanted = HybridOptions(batch=5, surrogate=False, gate="off")
    assert parse_options("hybrid", "batch=5, surrogate=off,gate=off") == wanted
    assert parse_options("random", "") is None
    with pytest.raises(InputError, match="no settings"):
        parse_options("random", "batch=3")
    assert isinstance(make("tanimoto-bo"), Hybrid)


def test_a_network_learns_a_slope_and_is_climbed() -> None:
    import torch

    state = torch.get_rng_state()
    points = torch.randn(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = make_net(4, torch.Generator().manual_seed(1))
    for _ in range(5):
        fit(net, points, points[:, 0])
    widths = torch.full((20, 4), 0.5, dtype=torch.float64)
    moved = climb(net, points[:20], widths)
    assert (moved[:, 0] - points[:20, 0] > 0.2).all()
    assert ((moved - points[:20]).abs() <= 0.5 * STEPS * CLIMB + 0.1).all()
    assert (net(moved) > net(points[:20])).all()
    assert torch.equal(state, torch.get_rng_state())


def test_a_region_grows_on_success_and_shrinks_on_failure() -> None:
    method = make("turbo", n_starts=1)
    assert isinstance(method, Turbo)
    region: Region = method.regions[0]
    points = np.zeros((12, SPACE.dimension))
    names = [str(number) for number in range(400)]
    better = [method.families.members[0][0]]
    region.learn(points, names[:12], np.full(12, 5.0), better[0])
    assert region.length == 2 * FIRST
    for start in range(12, 72, 12):
        region.learn(points, names[start : start + 12], np.full(12, -99.0), better[0])
    assert region.length < 2 * FIRST
    small = region.length
    region.learn(points, ["0"] * 12, np.full(12, -99.0), better[0])
    assert region.length == 2 * small


def test_candidates_stay_in_the_region() -> None:
    region = make("turbo", n_starts=1).regions[0]
    for length in (0.1, 1.0):
        region.length = length
        away = np.abs(region.candidates(200, np.random.default_rng(0)) - region.center.mean) / region.unit
        assert 1.5 * length < away.max() <= 2 * length
        assert (away > 0).any(axis=1).all()


def test_a_family_keeps_the_best_once_each_at_their_codes() -> None:
    method = make("ga", drawn=True)
    assert isinstance(method, LatentGenetic)
    smiles = [*SPACE.decode(SPACE.sample(300, np.random.default_rng(0))), "C1CC1"]
    scores = np.arange(301.0)
    points = np.full((301, SPACE.dimension), 7.0)
    method.tell(Proposal(points, np.zeros(301, dtype=np.int64), ("CCCCC",) * 301), smiles, scores)
    family = method.families.members[None]
    assert len(family) == SIZE
    assert len({one.smiles for one in family}) == SIZE
    assert [one.score for one in family] == sorted((one.score for one in family), reverse=True)
    assert (family[0].smiles, family[0].mean.tolist()) == ("C1CC1", [7.0] * 4)
    assert np.allclose(family[1].mean, SPACE.encode([family[1].smiles]).mean[0])
    assert fluorines([family[1].smiles])
