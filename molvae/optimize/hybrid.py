"""Search with everything: many moves propose, a bandit mixes them, a surrogate ranks, and only the best are paid for.

In: starts. Out: proposals of molecules. The population lives as molecules; each part is a setting that can be off.

One step: parents are drawn by rank from the best molecules told; moves in latent space, on graphs and on SELFIES make
some fifteen times as many children as will be paid for, in a few generations, the most promising children being parents
in turn (a genetic algorithm on the acquisition, as in the Tanimoto GP BO of Tripp et al. 2021, and Graph GA, Jensen
2019); a Gaussian process ranks them; the batch takes the best by upper confidence bounds of different boldness.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from molvae.optimize.bandit import Bandit
from molvae.optimize.decoder_update import rank_weights
from molvae.optimize.families import Turns
from molvae.optimize.features import featurize
from molvae.optimize.gate import make_gate
from molvae.optimize.hybrid_options import HybridOptions
from molvae.optimize.method import Proposal, Screen, Starts
from molvae.optimize.nehvi import POOL, choose_batch
from molvae.optimize.operators import Operators
from molvae.optimize.pareto import random_scalar
from molvae.optimize.population import Member, Population, draw_parents, flat, read_molecule
from molvae.optimize.space import BendableSpace, LatentSpace
from molvae.optimize.stuck import Stuck
from molvae.optimize.surrogate import MIXED, GaussianProcess

TIMID = 0.03
"""Each molecule of a batch is chosen by mean + beta * deviation, beta drawn log-uniformly from this share of the
settings' ``boldness`` up to all of it."""

IMPROVES = 50
"""A molecule counts as a success of its move when it comes to be among so many best of its family."""

TRIES = 8


@dataclass
class _Children:
    """N molecules made in a step, with the moves that made them and what they promise by each of M objectives."""

    members: list[Member]
    moves: list[str]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def bounds(self, beta: float) -> NDArray[np.float64]:
        """Return the upper confidence bounds (N, M)."""
        return self.mean + beta * self.deviation


class Hybrid:
    """See the module. Given starts are improved each from its own descendants, with mates from all of them."""

    summary: ClassVar[str] = "population of molecules, many moves mixed by a bandit, ranked by a surrogate"
    options: ClassVar[type[HybridOptions]] = HybridOptions
    kernels: ClassVar = MIXED
    drawn_kept: ClassVar[int] = 1000
    # A round makes some fifteen children for each molecule it may pay for: many without a new one say much.
    patience: ClassVar[int] = 50
    several: ClassVar[bool] = True

    def __init__(
        self, space: LatentSpace, starts: Starts, generator: np.random.Generator, options: HybridOptions | None = None
    ) -> None:
        self.settings = self.options() if options is None else options
        self.batch = self.settings.batch
        self.screen: Screen | None = None
        self.starts, self.generator, self._space = starts, generator, space
        self.operators = Operators(space, generator)
        self.population = Population(self.settings.population, self.settings.per_scaffold)
        self.bandit = Bandit(self.settings.chosen_moves(starts.drawn), self.settings.bandit)
        self.objectives: Callable[[Sequence[str]], NDArray[np.float64]] | None = None
        self.processes: list[GaussianProcess] = []
        self._values = np.zeros((0, 0))
        self._gate = make_gate(self.settings.gate, space, generator)
        self._seen: set[str] = set()
        self._tried: Counter[str] = Counter()
        self._pending: list[tuple[str, str]] = []
        self._turns = Turns(starts)
        for row, one in enumerate(starts.smiles):
            self.operators.remember(one, starts.mean[row], starts.std[row])
        self._begun = False
        self._stuck = Stuck(self.settings.patience if starts.drawn else self.settings.patience_each)
        self._renewed_at = self._bent_at = 0

    def _begin(self) -> None:
        """Take in the starts; not earlier, because the search says after making a method what the objectives are."""
        if not self._begun:
            self._begun = True
            self._learn(self.starts.smiles, range(len(self.starts)), self.starts.scores)

    def ask(self, n: int) -> Proposal:
        """Return ``n`` molecules; fewer different ones, filled up with "", when the moves find no more."""
        self._begin()
        self._tried = Counter()
        chosen: list[tuple[Member, str]] = []
        for start, quota in self._turns.deal(n):
            found = self._cold(quota) if self._is_cold() else self._choose(self._breed(start, quota), quota)
            home = 0 if start is None else start
            blank = Member("", None, self.starts.smiles[home], home)
            chosen += [*found, *[(blank, "")] * (quota - len(found))]
        self._pending = [(one.smiles, move) for one, move in chosen]
        members = [one for one, _ in chosen]
        return Proposal.of_molecules(
            [one.smiles for one in members], [one.start for one in members], [one.origin for one in members]
        )

    def tell(self, proposal: Proposal, smiles: Sequence[str], scores: NDArray[np.float64]) -> None:
        """Take in what the molecules are worth (n,), NaN for none, and which moves have paid."""
        self._learn(smiles, proposal.starts.tolist(), scores)
        families = {None} if self.starts.drawn else set(proposal.starts.tolist())
        good = {one.smiles for family in families for one in self.population.best(family)[:IMPROVES]}
        pending = zip(self._pending, scores, strict=True)
        won = Counter(move for (one, move), score in pending if one in good and not math.isnan(score))
        self.bandit.learn({move: (self._tried[move], won[move]) for move in self.bandit.arms})
        self._renew_if_stuck()
        self._bend_decoder()

    def _is_cold(self) -> bool:
        return self.starts.drawn and len(self.population) - self._renewed_at < self.settings.warm

    def _renew_if_stuck(self) -> None:
        """Begin anew with other parents when the top 10 have not become better for long: given starts each by itself.

        Drawn starts give way to new draws; a given one is the only parent again, with nothing tried twice.
        """
        scores: dict[int | None, list[float]] = {}
        for one in self.population.members:
            scores.setdefault(None if self.starts.drawn else one.start, []).append(one.score)
        for family, found in scores.items():
            if not self._stuck.is_stuck(family, found):
                continue
            home = [
                one
                for one in self.population.members
                if family is not None and one.smiles == self.starts.smiles[family]
            ]
            self.population.renew(family, home)
            if len(self.starts) == 1:
                # Mates come from all families, and here that is this one: it would else go on with the old ones.
                self.population.renew(None, home)
            self._renewed_at = len(self.population)

    def _bend_decoder(self) -> None:
        """Bend the decoder that the moves write with, always from the model's own, once enough calls have come."""
        settings, space = self.settings, self._space
        if not settings.update or len(self.population) - self._bent_at < settings.update:
            return
        best = [one.smiles for one in self.population.best() if not math.isnan(one.score)]
        if best and isinstance(space, BendableSpace):
            self._bent_at = len(self.population)
            steps, anchor = settings.update_steps, settings.update_anchor
            self.operators.space = space.bent(best, rank_weights(len(best)), steps, anchor, self.generator)

    def _cold(self, n: int) -> list[tuple[Member, str]]:
        """Draw ``n`` molecules from the prior."""
        found: list[tuple[Member, str]] = []
        home = self.population.members[:1]
        for _ in range(TRIES):
            missing = n - len(found)
            smiles = self.operators.make({"prior": missing}, home * missing, home * missing)
            found += [(one, "") for _, one in self._admit(smiles, home * len(smiles))]
            if len(found) == n:
                break
        return found

    def _admit(self, smiles: Sequence[str], parents: Sequence[Member]) -> list[tuple[int, Member]]:
        """Return the rows that are new molecules and may be paid for, in order, as members of their parents' family."""
        fresh: list[tuple[int, Member]] = []
        for row, (one, parent) in enumerate(zip(smiles, parents, strict=True)):
            known = read_molecule(one) if one else None
            if known is None:
                continue
            canonical, mol = known
            key = canonical if self.settings.stereo else flat(canonical, mol)
            if key not in self._seen:
                self._seen.add(key)
                fresh.append((row, Member(canonical, mol, parent.origin, parent.start)))
        members = [one for _, one in fresh]
        fine = self._gate(members)
        if self.screen is not None:
            allowed = self.screen([one.smiles for one in members], [one.start for one in members])
            fine = [passed and bool(free) for passed, free in zip(fine, allowed, strict=True)]
        return [one for one, passed in zip(fresh, fine, strict=True) if passed]

    def _breed(self, start: int | None, quota: int) -> _Children:
        """Make generations of children; what is not paid for now may be made again later."""
        before = set(self._seen)
        ranked = self.population.best(start)
        mates = ranked if start is None else self.population.best()
        size = max(1, math.ceil(quota * self.settings.ranked / self.settings.generations))
        width = max(1, len(self.processes))
        children = _Children([], [], np.zeros((0, width)), np.zeros((0, width)))
        for _ in range(self.settings.generations):
            parents = draw_parents(ranked, size, self.generator)
            if children.members and self._ready:
                order = np.argsort(-self._promise(children), kind="stable")[: self.settings.population]
                rising = draw_parents([children.members[row] for row in order], size, self.generator)
                parents = [*parents[::2], *rising[1::2]]
            others = draw_parents(mates, size, self.generator)
            self._litter(children, parents, others)
        self._seen = before
        return children

    @property
    def _ready(self) -> bool:
        return bool(self.processes) and all(process.ready for process in self.processes)

    def _promise(self, children: _Children) -> NDArray[np.float64]:
        """Return what to sort children by (N,): with a boldness, and a direction among objectives, drawn anew."""
        bounds = children.bounds(self.settings.boldness * TIMID ** self.generator.random())
        if bounds.shape[1] == 1:
            return np.asarray(bounds[:, 0])
        low, high = self._values.min(0), self._values.max(0)
        return random_scalar((bounds - low) / np.maximum(high - low, 1e-12), np.zeros(len(low)), self.generator)

    def _litter(self, children: _Children, parents: Sequence[Member], mates: Sequence[Member]) -> None:
        """Add a generation to ``children``."""
        shares = self.bandit.deal(len(parents), self.generator)
        self._tried.update(shares)
        moves = [move for move, count in shares.items() for _ in range(count)]
        # Parents come alternately from two sources, and every move should see both.
        order = self.generator.permutation(len(parents))
        parents = [parents[row] for row in order]
        smiles = self.operators.make(shares, parents, mates)
        admitted = self._admit(smiles, parents)
        if not admitted:
            return
        children.members += [one for _, one in admitted]
        children.moves += [moves[row] for row, _ in admitted]
        shape = (len(admitted), children.mean.shape[1])
        mean, deviation = self.generator.random(shape), np.zeros(shape)
        if self._ready:
            features = featurize([one.mol for _, one in admitted])
            guesses = [process.predict(features) for process in self.processes]
            mean, deviation = (np.stack(column, axis=1) for column in zip(*guesses, strict=True))
        children.mean = np.concatenate([children.mean, mean])
        children.deviation = np.concatenate([children.deviation, deviation])

    def _choose(self, children: _Children, n: int) -> list[tuple[Member, str]]:
        """Take the ``n`` most promising children: each by a boldness of its own, or by what they add to a front."""
        if self.settings.front == "scalar" or len(self.processes) < 2 or not self._ready:
            return self._promising(children, n)
        pool = self._promising(children, POOL * n)
        features = featurize([one.mol for one, _ in pool])
        return [pool[row] for row in choose_batch(self.processes, self._values, features, n, self.generator)]

    def _promising(self, children: _Children, n: int) -> list[tuple[Member, str]]:
        """Take ``n`` children, each the most promising one by a boldness, and a direction, of its own."""
        left = np.ones(len(children.members), dtype=bool)
        chosen = []
        for _ in range(min(n, len(left))):
            row = int(np.argmax(np.where(left, self._promise(children), -np.inf)))
            left[row] = False
            chosen.append((children.members[row], children.moves[row]))
        return chosen

    def _learn(self, smiles: Sequence[str], starts: Sequence[int], scores: NDArray[np.float64]) -> None:
        """Take new molecules into the population, and fit the surrogate."""
        new: list[Member] = []
        worths = [()] * len(smiles) if self.objectives is None else list(map(tuple, self.objectives(smiles).tolist()))
        for one, start, score, worth in zip(smiles, starts, scores.tolist(), worths, strict=True):
            if not one or one in self.population:
                continue
            known = read_molecule(one)
            if known is None:
                continue
            member = Member(one, known[1], one, start, score, worth)
            self._seen.add(one if self.settings.stereo else flat(one, member.mol))
            if self.population.add(member) and not np.isnan((score, *worth)).any():
                new.append(member)
        if self.settings.surrogate:
            self._refit(new)

    def _refit(self, new: Sequence[Member]) -> None:
        """Fit one process for each objective, or one for the score, to the best and the latest of what is known."""
        if not new:
            return
        values = np.array([one.objectives or (one.score,) for one in new])
        if not self.processes:
            self.processes = [GaussianProcess(self.kernels) for _ in range(values.shape[1])]
            self._values = np.zeros((0, values.shape[1]))
        features = featurize([one.mol for one in new])
        self._values = np.concatenate([self._values, values])
        rows = None
        if len(self._values) > 1.2 * self.settings.known:
            order = np.argsort(-self._values.sum(1), kind="stable")
            best = order[: self.settings.known // 2]
            latest = np.setdiff1d(np.arange(len(order)), best)[-(self.settings.known - len(best)) :]
            rows = np.sort(np.concatenate([best, latest]))
            self._values = self._values[rows]
        for column, process in enumerate(self.processes):
            process.add(features)
            if rows is not None:
                process.keep(rows)
            process.fit(self._values[:, column])
