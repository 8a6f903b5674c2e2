"""Draw where molecules lie in a model's latent space: a plane through it, coloured by properties, the prior on top.

In: a model's directory and SMILES. Out: a `Section` with charts and structures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from molvae.chem.properties import check_names, compute
from molvae.generate.posterior import read_posteriors
from molvae.nn.checkpoint import LoadedModel, load_model
from molvae.report.blocks import Block, Section, Tile, named, percent, single
from molvae.report.figures import INK, ORANGE, TITLES, Chart, draw_svg, short
from molvae.report.molecules import CAPTION
from molvae.report.planes import Plane, along_axis, component_plane, property_plane

COLORS = ("logp", "qed", "mol_weight")
MOLECULES, DRAWS = 1000, 300
FEWEST = 10

PlaneKind = Literal["components", "properties"]


@dataclass(frozen=True)
class _Map:
    """All that is drawn: N molecules with their values and places, draws from the prior, and the rows with a number."""

    smiles: list[str]
    names: tuple[str, ...]
    values: NDArray[np.float64]
    plane: Plane
    places: NDArray[np.float64]
    drawn: NDArray[np.float64]
    marked: dict[int, str]


def latent_map_section(
    directory: Path, smiles: Sequence[str], origin: str, several: bool, colors: Sequence[str] = COLORS,
    kind: PlaneKind = "components",
) -> Section | None:  # fmt: skip
    """Return the map of ``smiles`` in the latent space of the model in ``directory``.

    Args:
        directory: a model.
        smiles: molecules, of which at most `MOLECULES`, evenly spread, are shown.
        origin: where they come from, in words.
        several: whether the report has other models.
        colors: properties that colour the charts, the first one in the large chart.
        kind: ``components`` for the principal components, ``properties`` for the directions in which the first two of
            ``colors`` rise (see `molvae.report.planes`).

    Returns:
        None when the model can read fewer than `FEWEST` of them.

    Raises:
        MolvaeError: when the model cannot be loaded.
        UnknownNameError: when a property does not exist.
    """
    names = check_names(colors)
    loaded = load_model(directory)
    rows = np.unique(np.linspace(0, len(smiles) - 1, min(MOLECULES, len(smiles))).round().astype(int))
    read = read_posteriors(loaded, [smiles[row] for row in rows], workers=1)
    kept = [row for row, one in enumerate(read.smiles) if one is not None]
    if len(kept) < FEWEST:
        return None
    found = _locate(loaded, [str(read.smiles[row]) for row in kept], read.mean[kept], read.std[kept], names, kind)
    section = Section(f"latent-map-{directory.name}", named("Latent map", directory, several))
    section.lead = _lead(found, origin, len(rows) - len(kept), loaded)
    key = (("a draw from the prior", ORANGE), ("a molecule drawn below", INK))
    first, *rest = [_chart(found, column, large=column == 0) for column in range(len(names))]
    section.blocks.append(Block("", "Every dot is a molecule; numbers stand at those drawn below.", key, [first]))
    if rest:
        section.blocks.append(Block("The same molecules by other properties", charts=rest))
    for axis, words in enumerate(("horizontal axis, left to right", "vertical axis, bottom to top")):
        tiles = [_tile(found, row) for row in dict.fromkeys(along_axis(found.places, axis))]
        section.blocks.append(Block(f"Along the {words}", tiles=tiles))
    return section


@torch.inference_mode()
def _locate(
    loaded: LoadedModel, smiles: list[str], mean: NDArray[np.float64], std: NDArray[np.float64],
    names: tuple[str, ...], kind: PlaneKind,
) -> _Map:  # fmt: skip
    """Place one draw from q(z|x) for each molecule: means alone fill less of the space than the prior should."""
    values = compute(smiles, names, workers=1)
    codes = mean + std * np.random.default_rng(0).standard_normal(mean.shape)
    plane = component_plane(mean, values[:, 0]) if kind == "components" else property_plane(codes, values, names)
    places = plane.project(codes)
    generator = torch.Generator(loaded.model.device).manual_seed(0)
    drawn = plane.project(loaded.model.prior.sample(DRAWS, generator).cpu().numpy())
    rows = dict.fromkeys([*along_axis(places, 0), *along_axis(places, 1)])
    marked = {row: str(number) for number, row in enumerate(rows, start=1)}
    return _Map(smiles, names, values, plane, places, drawn, marked)


def _lead(found: _Map, origin: str, unread: int, loaded: LoadedModel) -> str:
    plane, shares = found.plane, [percent(share, 1.0) for share in found.plane.share]
    prior = (loaded.facts.get("prior") or {"kind": "normal"})["kind"]
    left_out = f" {unread:,} more cannot be read by the model." if unread else ""
    what, whose = "the two directions in which the means of q(z|x) vary most", "their"
    if np.isfinite(plane.fit).any():
        said = [
            f"{TITLES.get(name, name)} rises (cross-validated R² {fit:.2f})"
            for name, fit in zip(plane.names, plane.fit, strict=True)
            if np.isfinite(fit)
        ]
        what, whose = f"the directions in which {' and '.join(said)}", "the codes'"
    return (
        f"Codes of {len(found.smiles):,} molecules, one draw from q(z|x) each, {origin}.{left_out} The plane holds "
        f"{what}: {shares[0]} and {shares[1]} of {whose} variance in all {len(plane.center)} dimensions, so what is "
        f"near here may be far in the others. {DRAWS} draws from the prior ({prior}) lie over it; where the prior "
        "fits, they cover the molecules and nothing else."
    )


def _tile(found: _Map, row: int) -> Tile:
    values = zip(found.names, found.values[row], strict=True)
    facts = [(CAPTION.get(name, name), short(value)) for name, value in values]
    return single(found.smiles[row], [("point", found.marked[row]), *facts])


def _chart(found: _Map, column: int, *, large: bool) -> Chart:
    values, name = found.values[:, column], found.names[column]
    title, known = TITLES.get(name, name), np.isfinite(values)
    low, high = np.percentile(values[known], [1, 99]) if known.any() else (0.0, 1.0)
    places = found.places[known]

    def draw(axes: Axes) -> None:
        dots = axes.scatter(
            places[:, 0], places[:, 1], c=values[known], s=9 if large else 5, vmin=low, vmax=high, cmap="viridis",
            linewidths=0,
        )  # fmt: skip
        if large:
            axes.scatter(found.drawn[:, 0], found.drawn[:, 1], marker="x", s=11, linewidths=0.8, color=ORANGE)
            _number(axes, found)
        figure = axes.get_figure()
        if figure is not None:
            bar = figure.colorbar(dots, ax=axes, label=title, pad=0.02, aspect=30)
            bar.outline.set_visible(False)
            bar.locator = MaxNLocator(4)
        across, up = _axis_labels(found.plane)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.grid(False)

    caption = f"colour: {short(float(low))} to {short(float(high))}, the middle 98 %" if known.any() else "no values"
    alt = f"Map of {len(found.smiles)} molecules on two directions of their latent space, coloured by {title}."
    return Chart(title, caption, alt, draw_svg(draw, (4.7, 3.6) if large else (3.7, 2.7)))


def _axis_labels(plane: Plane) -> list[str]:
    """Return what stands at the axes: which direction each one is, and its share of the variance."""
    labels = []
    for name, share, fit in zip(plane.names, plane.share, plane.fit, strict=True):
        label = f"along {TITLES.get(name, name).partition(' [')[0]}" if np.isfinite(fit) else name
        labels.append(f"{label} ({percent(share, 1.0)})")
    return labels


def _number(axes: Axes, found: _Map) -> None:
    """Circle and number the molecules that are drawn as structures."""
    rows = list(found.marked)
    axes.scatter(found.places[rows, 0], found.places[rows, 1], s=30, facecolors="none", edgecolors=INK, linewidths=1.1)
    for row in rows:
        axes.annotate(
            found.marked[row], found.places[row], xytext=(4, 4), textcoords="offset points", color=INK,
            fontweight="bold", bbox={"boxstyle": "round,pad=0.08", "fc": "white", "ec": "none", "alpha": 0.75},
        )  # fmt: skip
