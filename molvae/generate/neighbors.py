"""Find molecules around one molecule in latent space.

In: one SMILES. Out: a DataFrame of different valid molecules, the likest first, and what became of every draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from molvae.chem.fingerprints import morgan, tanimoto
from molvae.chem.properties import check_names, compute
from molvae.errors import InputError
from molvae.generate.chemistry import check_counts
from molvae.generate.exact_moves import Writer, held_writer
from molvae.generate.latents import Decoded, decode_latents
from molvae.generate.posterior import noise_distance, read_all
from molvae.generate.wanted import PROPERTIES
from molvae.nn.checkpoint import LoadedModel

RADII = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
"""Radii tried one after the other when none is given, until there are enough molecules."""
BLOCK = 64
"""Points drawn at a time: how many molecules are wanted changes none of those that come first."""
PATIENCE = 4
"""Points drawn at each radius of `RADII`, as a multiple of the molecules wanted."""
GIVE_UP = 20
"""The same for a radius that was asked for."""


@dataclass
class Ring:
    """What became of the points drawn at one radius; ``drawn`` is the sum of the four after it."""

    radius: float
    drawn: int = 0
    itself: int = 0
    again: int = 0
    failed: int = 0
    new: int = 0


@dataclass
class _Found:
    """The different molecules so far, in the order drawn."""

    start: str
    smiles: list[str] = field(default_factory=list)
    radius: list[float] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def add(self, ring: Ring, result: Decoded, distance: float) -> None:
        """Count one point, and keep its molecule when it is another one than all before."""
        ring.drawn += 1
        if result.smiles is None:
            ring.failed += 1
        elif result.smiles == self.start:
            ring.itself += 1
        elif result.smiles in self.seen:
            ring.again += 1
        else:
            ring.new += 1
            self.seen.add(result.smiles)
            self.smiles.append(result.smiles)
            self.radius.append(ring.radius)
            self.distance.append(distance)
            self.nats.append(result.nats)


def neighbors(
    loaded: LoadedModel, smiles: str, n: int = 20, *,
    radii: Sequence[float] = (), properties: Sequence[str] = PROPERTIES, seed: int = 0,
    exact: bool = False, redraw: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Decode points around a molecule, z = mean + radius * std * noise, greedily, and keep the different molecules.

    A radius of 1 is the noise of q(z|x) itself, so the same number means the same for a model with sharp codes and for
    one with blurred codes. Without ``radii`` the search begins close by and widens (`RADII`) until there are ``n``.
    With radii, each gives an equal share of the ``n`` molecules; what one cannot give is left to those after it.

    Greedy decoding of z alone need not give the molecule itself. With ``exact`` the decoder's noise is found under
    which it does, and held while z moves, so that the points around it are neighbours of this very molecule.

    Args:
        loaded: the model.
        smiles: the molecule; it is not among the results.
        n: molecules wanted, 0 or more.
        radii: in units of the posterior's own noise.
        properties: columns to compute.
        seed: of all chance; a longer list starts with the same draws.
        exact: hold the noise of the molecule's exact code, see `molvae.generate.exact_moves`.
        redraw: tokens whose noise is drawn anew at every point, 0 for none; without ``radii`` z stays.

    Returns:
        Up to ``n`` rows, the likest first: smiles, similarity (Tanimoto to the molecule, Morgan radius 2, 2048 bits,
        stereo ignored), radius, distance (of its point, see `molvae.generate.posterior.noise_distance`), nats, the
        properties. ``attrs``: ``start`` (canonical SMILES), ``rings`` (a dict of `Ring` per radius), ``complete``.

    Raises:
        InputError: when the model cannot read the molecule, or a number makes no sense.
        UnknownNameError: when a property does not exist.
    """
    check_counts(n=n)
    if redraw < 0:
        raise InputError(f"The noise of {redraw} tokens cannot be drawn.", "Choose 0 or more.")
    names = check_names(properties)
    for radius in radii:
        if not 0 < radius < math.inf:
            raise InputError(f"A radius of {radius} is not possible.", "Choose a number above 0, such as 1.")
    read = read_all(loaded, [smiles])
    found, rings = _Found(str(read.smiles[0])), []
    generator, chance = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    write = (lambda z: decode_latents(loaded, z)) if not (exact or redraw) else held_writer(
        loaded, found.start, redraw, chance)  # fmt: skip
    for place, radius in enumerate(radii or ((0.0,) if redraw else RADII)):
        # What one radius could not give is left to those after it.
        quota = (-(-n * (place + 1) // len(radii)) if radii else n) - len(found.smiles)
        most = max((GIVE_UP if radii or redraw else PATIENCE) * quota, BLOCK)
        rings.append(_search(write, read.mean[0], read.std[0], radius, quota, most, found, generator))
    table = _table(found, names)
    table.attrs.update(
        start=found.start, rings=[asdict(ring) for ring in rings if ring.drawn], complete=len(table) == n
    )
    return table


def _search(
    write: Writer, mean: NDArray[np.float64], std: NDArray[np.float64], radius: float, quota: int, most: int,
    found: _Found, generator: np.random.Generator,
) -> Ring:  # fmt: skip
    """Draw points at one radius until ``quota`` new molecules were found or ``most`` points were drawn."""
    ring = Ring(radius)
    while ring.new < quota and ring.drawn < most:
        z = mean + radius * std * generator.standard_normal((BLOCK, len(mean)))
        for result, distance in zip(write(z), noise_distance(z, mean, std), strict=True):
            if ring.new < quota:
                found.add(ring, result, float(distance))
    return ring


def _table(found: _Found, names: tuple[str, ...]) -> pd.DataFrame:
    marks = morgan([found.start, *found.smiles])
    values = compute(found.smiles, names)
    table = pd.DataFrame(
        {
            "smiles": pd.Series(found.smiles, dtype=object),
            "similarity": tanimoto(marks[:1], marks[1:])[0].astype(np.float64),
            "radius": pd.Series(found.radius, dtype="float64"),
            "distance": pd.Series(found.distance, dtype="float64"),
            "nats": pd.Series(found.nats, dtype="float64"),
            **{name: values[:, column] for column, name in enumerate(names)},
        }
    )
    return table.sort_values("similarity", ascending=False, kind="stable", ignore_index=True)
