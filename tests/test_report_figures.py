"""Figures of a report: drawings that keep their place, charts that say what they show, nothing that can run."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from molvae.report.blocks import percent
from molvae.report.figures import Chart, property_histograms, search_curve, short, training_curves
from molvae.report.structures import grid_png, grid_svg, molecule_svg, pair_svg, parse, shared_atoms

HOSTILE = "<script>alert(1)</script>"


def tags(svg: str) -> list[str]:
    """Return the element names of an SVG, which must be well-formed XML."""
    return [element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()]


def row(kind: str, step: int, **values: float | None) -> dict[str, object]:
    return {"kind": kind, "step": step, **values}


@pytest.mark.parametrize("smiles", ["", "C1CC", HOSTILE, "C" * 1001, "NA"])
def test_what_is_no_molecule_gives_a_cell_of_the_same_size_that_says_so(smiles: str) -> None:
    svg = molecule_svg(smiles, 100, 80)
    root = ElementTree.fromstring(svg)
    assert (root.get("width"), root.get("height")) == ("100", "80")
    assert "cannot be drawn" in svg
    assert "script" not in tags(svg)


def test_a_molecule_is_drawn_without_ids_or_references() -> None:
    svg = molecule_svg("CC(=O)Oc1ccccc1C(=O)O")
    assert tags(svg).count("path") > 10
    assert " id=" not in svg
    assert "href" not in svg


def test_a_grid_has_a_cell_for_each_molecule_and_escapes_legends() -> None:
    svg = grid_svg(["CCO", "not a molecule", "c1ccccc1"], ["ethanol", HOSTILE, 'a "b" & c'], columns=2, cell=(100, 90))
    root = ElementTree.fromstring(svg)
    assert (root.get("width"), root.get("height")) == ("200", "180")
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert texts == ["ethanol", "cannot be drawn", HOSTILE, 'a "b" & c']
    assert "script" not in tags(svg)


def test_an_empty_grid_is_still_a_picture() -> None:
    assert tags(grid_svg([])) == ["svg", "rect"]
    assert grid_png([]).startswith(b"\x89PNG")


def test_a_png_grid_keeps_the_place_of_what_cannot_be_drawn() -> None:
    png = grid_png(["CCO", "x", "CCN"], ["one"], columns=3, cell=(50, 40))
    assert png.startswith(b"\x89PNG")
    assert (int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) == (150, 40)


def test_shared_atoms_match_atom_for_atom() -> None:
    first, second = parse("Cc1ccccc1"), parse("Nc1ccccc1")
    assert first is not None
    assert second is not None
    here, there = shared_atoms(first, second)
    assert len(here) == len(there) == 6
    assert all(first.GetAtomWithIdx(i).GetIsAromatic() for i in here)


def test_a_pair_highlights_the_common_part_or_the_difference() -> None:
    green, orange = "#AFE0CC", "#FCCCA8"
    before, after = pair_svg("Cc1ccccc1", "Nc1ccccc1")
    assert before.count(green) > 6
    assert after.count(green) > 6
    before, after = pair_svg("Cc1ccccc1", "Nc1ccccc1", shared=False)
    assert green not in before
    assert 1 <= before.count(orange) < 6
    assert orange in after


def test_a_ring_that_grew_is_another_ring_unless_told_otherwise() -> None:
    orange = "#FCCCA8"
    _, grown = pair_svg("c1ccccc1C1CCCC1", "c1ccccc1C1CCCCC1", shared=False)
    _, loosely = pair_svg("c1ccccc1C1CCCC1", "c1ccccc1C1CCCCC1", shared=False, whole_rings=False)
    assert grown.count(orange) > loosely.count(orange) > 0


def test_a_pair_with_nothing_on_one_side_is_drawn() -> None:
    before, after = pair_svg("CCO", "")
    assert "cannot be drawn" not in before
    assert "cannot be drawn" in after


def test_curves_are_drawn_for_the_quantities_there_are() -> None:
    rows = [row("train", step, loss=100.0 / step, beta=0.1, rate=None) for step in range(1, 200)]
    rows += [row("valid", step, loss=120.0 / step, exact=0.5) for step in (100, 199)]
    charts = training_curves(rows)
    assert [chart.title for chart in charts] == ["Loss [nats/molecule]", "Beta", "Reconstruction [%]"]
    assert charts[0].caption == "last: training 0.503, validation 0.603"
    assert charts[2].caption == "last: exact 50"
    assert all(tags(chart.svg)[0] == "svg" for chart in charts)


@pytest.mark.parametrize(
    "rows", [[], [row("train", 1)], [row("train", 1, loss=float("nan"))], [row("other", 1, loss=1.0)]]
)
def test_without_numbers_there_are_no_curves(rows: list[dict[str, object]]) -> None:
    assert training_curves(rows) == []


def test_one_row_is_a_curve_too() -> None:
    assert len(training_curves([row("valid", 10, loss=3.0)])) == 1


def test_histograms_name_both_medians_and_skip_what_has_no_values() -> None:
    generated = {"qed": np.array([0.5, 0.7, np.nan]), "sa": np.array([np.nan]), "rings": np.array([1.0, 2.0, 2.0])}
    charts = property_histograms(generated, {"qed": np.array([0.1, 0.2, 0.3])})
    assert [chart.title for chart in charts] == ["QED", "Rings"]
    assert charts[0].caption == "median 0.6, training set 0.2"
    assert charts[1].caption == "median 2"


@pytest.mark.parametrize("name", ["cost ($) or $x_$", HOSTILE, "a & b"])
def test_a_column_may_have_any_name(name: str) -> None:
    chart = property_histograms({name: np.array([1.0, 1.0, 1.0])})[0]
    assert chart.title == name
    assert "script" not in tags(chart.svg)


def test_the_same_numbers_give_the_same_bytes() -> None:
    def draw() -> list[Chart]:
        return property_histograms({"qed": np.linspace(0, 1, 50)}) + training_curves([row("train", 1, loss=1.0)])

    assert draw() == draw()


@pytest.mark.parametrize(("minimize", "best"), [(False, "3"), (True, "0.5")])
def test_the_search_curve_knows_which_way_is_better(minimize: bool, best: str) -> None:
    chart = search_curve(np.array([np.nan, 1.0, 3.0, 0.5, np.nan]), minimize=minimize)
    assert chart is not None
    assert chart.caption == f"5 calls, best {best}"


@pytest.mark.parametrize("scores", [[], [float("nan")], [float("inf")]])
def test_without_a_finite_score_there_is_no_search_curve(scores: list[float]) -> None:
    assert search_curve(np.array(scores)) is None


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 5, "0 %"), (5, 5, "100 %"), (1, 3, "33.3 %"), (99_999_999, 100_000_000, "> 99.99 %"),
     (1, 100_000_000, "< 0.01 %"), (1, 2000, "0.05 %"), (0, 0, "-")],
)  # fmt: skip
def test_a_share_is_never_rounded_to_all_or_nothing(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


def test_numbers_are_short() -> None:
    assert [short(value) for value in (0.0, 1234567.0, -0.5, float("inf"))] == ["0", "1,234,567", "-0.5", "-"]
