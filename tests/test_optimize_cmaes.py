"""CMA-ES: what it is told, how drawn and given starts share the calls, and its settings."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence

import numpy as np
import pytest
from toy_space import SIZE, ToySpace, fluorines

from molvae.api import MolVAE
from molvae.cli.optimize import command
from molvae.errors import InputError
from molvae.optimize import evolution
from molvae.optimize.evolution import CmaEs, CmaOptions, population
from molvae.optimize.method import Proposal, Starts
from molvae.optimize.oracles import FunctionOracle
from molvae.optimize.run import optimize, search
from molvae.optimize.search import Settings
from molvae.optimize.space import Codes

SPACE = ToySpace()
SMILES = ("CCCCCF", "CCCCC", "CCCCN")


def make(options: CmaOptions | None = None, drawn: bool = True, space: ToySpace = SPACE) -> CmaEs:
    codes = SPACE.encode(SMILES)
    starts = Starts(SMILES, codes.mean, codes.std, np.array(fluorines(list(SMILES))), drawn)
    return CmaEs(space, starts, np.random.default_rng(0), options)


@pytest.mark.parametrize("patience", [0, 40])
def test_a_strategy_that_finds_nothing_better_begins_anew_at_one_of_its_best(patience: int) -> None:
    method = make(CmaOptions(patience=patience))
    arm = method._arm(0)
    for number in range(400):
        _, points = arm.draw(1)
        latent = np.full(SPACE.dimension, float(number % 30))
        arm.learn(points[0], latent, "C" * (number % 30 + 1), -float(number % 30))
        arm.adapt()
    assert arm.best_smiles in {"C" * count for count in range(1, 11)} | {method.starts.smiles[0]}
    wandered = arm.best_smiles != max(arm._elites, key=lambda one: arm._elites[one][0])
    assert wandered == bool(patience)
    with pytest.raises(InputError, match="patience"):
        CmaOptions(patience=-1)


def turn(method: CmaEs, n: int | None = None) -> tuple[Proposal, list[str], list[list[np.ndarray]]]:
    """Ask and tell once; return the proposal, its molecules, and what each strategy was told."""
    told: list[list[np.ndarray]] = []
    proposal = method.ask(method.batch if n is None else n)
    for arm in method._arms.values():

        def tell(points: list[np.ndarray], losses: list[float], inner: object = arm.strategy.tell) -> None:
            told.append(points)
            inner(points, losses)  # type: ignore[operator]

        arm.strategy.tell = tell
    smiles = SPACE.decode(proposal.latents)
    method.tell(proposal, smiles, np.array(fluorines(smiles)))
    for arm in method._arms.values():
        arm.strategy.__dict__.pop("tell", None)
    return proposal, smiles, told


@pytest.mark.parametrize("reencode", [True, False])
def test_a_strategy_is_told_codes_or_points(reencode: bool) -> None:
    method = make(CmaOptions(reencode=reencode, elite=False))
    proposal, smiles, (points,) = turn(method)
    arm = method._arms[0]
    places = arm.center + arm.scale * np.array(points)
    codes = SPACE.encode(smiles).mean
    readable = ~np.isnan(codes).any(axis=1)
    assert readable.any()
    assert np.allclose(places[readable], codes[readable]) == reencode
    assert np.allclose(places, proposal.latents) == (not reencode)


def test_a_molecule_that_cannot_be_read_is_told_at_its_point() -> None:
    class Blind(ToySpace):
        def encode(self, smiles: Sequence[str]) -> Codes:
            codes = super().encode(smiles)
            return Codes(codes.mean * np.nan, codes.std * np.nan, ("vocabulary",) * len(smiles))

    method = make(CmaOptions(elite=False), space=Blind())
    proposal, _, (points,) = turn(method)
    arm = method._arms[0]
    assert np.allclose(arm.center + arm.scale * np.array(points), proposal.latents)


@pytest.mark.parametrize("elite", [True, False])
def test_the_best_molecule_is_told_again_unless_it_is_there(elite: bool) -> None:
    method = make(CmaOptions(elite=elite, step=0.01))
    arm = method._arm(0)
    arm.best, arm.best_point, arm.best_smiles = 99.0, np.full(SIZE, 7.0), "CF"
    center = arm.center
    _, _, (points,) = turn(method)
    again = [np.allclose(center + arm.scale * point, 7.0) for point in points]
    assert again == [False] * population(SIZE) + [True] * elite
    inside = make(CmaOptions(step=0.01))
    # So narrow that every point decodes to the start, which is the best: it is there already.
    assert len(turn(inside)[2][0]) == population(SIZE)


@pytest.mark.parametrize(("drawn", "arms", "expected"), [(True, 1, {0}), (True, 2, {0, 1}), (True, 9, {0, 1, 2}),
                                                         (False, 1, {0, 1, 2})])  # fmt: skip
def test_drawn_starts_share_a_strategy_and_given_ones_do_not(drawn: bool, arms: int, expected: set[int]) -> None:
    method = make(CmaOptions(arms=arms), drawn)
    rows = {row for _ in range(3) for row in turn(method)[0].starts.tolist()}
    assert rows == expected
    assert method.batch == population(SIZE) * len(expected)


def test_parents_are_the_best_molecules_known() -> None:
    method = make()
    assert set(turn(method)[0].parents) == {SMILES[0]}
    best = [method._arms[0].best_smiles]
    for _ in range(40):
        proposal, smiles, _ = turn(method)
        assert set(proposal.parents) == {best[-1]}
        best.append(method._arms[0].best_smiles)
        assert best[-1] in (best[-2], *smiles)
    assert fluorines(best[-1:]) > fluorines(best[:1])


def test_a_generation_without_scores_narrows_it_and_one_without_news_widens_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = make()
    proposal = method.ask(method.batch)
    before = method._arms[0].strategy.sigma
    method.tell(proposal, [""] * len(proposal), np.full(len(proposal), math.nan))
    assert method._arms[0].strategy.sigma < before
    sigmas = {}
    for widen in (1.5, 1.0):
        monkeypatch.setattr(evolution, "WIDEN", widen)
        method = make(CmaOptions(step=0.01, patience=0))
        # One that has converged would begin anew instead.
        method._arm(0).strategy.stop = dict
        for _ in range(60):
            turn(method)
        sigmas[widen] = method._arms[0].strategy.sigma
    assert 0.05 < sigmas[1.5] <= method._arms[0].widest
    assert sigmas[1.0] < 0.01


def test_the_settings_change_the_course_and_are_checked() -> None:
    def course(options: str) -> list[str]:
        settings = Settings("cmaes", 60, 1, options=options)
        return [str(one) for one in search(SPACE, FunctionOracle(fluorines, "f"), [], settings).molecules["smiles"]]

    courses = [course(one) for one in ("", "step=2", "arms=3", "reencode=off", "elite=off")]
    assert len({tuple(one) for one in courses}) == 5
    for wrong in ("step=0", "step=inf", "arms=0"):
        with pytest.raises(InputError, match=r"Give (step|arms)=1"):
            Settings("cmaes", options=wrong)


def test_there_is_one_default_method() -> None:
    given = {inspect.signature(one).parameters["method"].default for one in (optimize, MolVAE.optimize, command)}
    assert given == {Settings().method} == {"hybrid"}
