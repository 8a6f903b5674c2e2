"""The latent map: planes that say what they claim, charts of every molecule, and a page that says why there is none."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch

from molvae.chem.standardize import standardize_many
from molvae.cli.main import main
from molvae.config import Config, ModelConfig
from molvae.data.vocabulary import Vocabulary
from molvae.errors import UnknownNameError
from molvae.nn.checkpoint import save_model
from molvae.nn.model import SequenceVAE
from molvae.report import latent_map
from molvae.report.blocks import Section
from molvae.report.latent_map import latent_map_section
from molvae.report.planes import FOLDS, along_axis, component_plane, property_plane

ROOT = Path(__file__).resolve().parent.parent
TOKENS = ["[C]", "[O]", "[N]", "[F]", "[=C]", "[=O]", "[#N]", "[Ring1]", "[Branch1]", "[=Branch1]"]
CHAINS = [f"{'C' * n}{end}" for n in range(1, 12) for end in ("O", "N", "F", "C=O", "C#N", "OC")]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_tokens(TOKENS)
    config = Config(model=ModelConfig(embedding=8, encoder_hidden=16, decoder_hidden=16, decoder_layers=1, latent=5))
    directory = tmp_path_factory.mktemp("models") / "tiny"
    network = SequenceVAE(config.model, len(vocabulary))
    save_model(directory, network, vocabulary, config, {"max_tokens": 20, "prior": None})
    return directory


def make_dataset(path: Path) -> Path:
    """Write a dataset of which two thirds are the train split."""
    path.mkdir(parents=True)
    split = [("train", "train", "test")[row % 3] for row in range(len(CHAINS))]
    pd.DataFrame({"row": range(len(CHAINS)), "smiles": CHAINS, "split": split}).to_parquet(path / "molecules.parquet")
    (path / "manifest.json").write_text('{"kind": "dataset"}')
    return path


def cloud(n: int = 400) -> np.ndarray:
    """Return codes (N, 4) with standard deviations 4, 2, 1 and 0.5 along four turned directions."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    return rng.normal(size=(n, 4)) * [4, 2, 1, 0.5] @ turn + 7


def test_principal_components_hold_the_most_variance():
    codes = cloud()
    plane = component_plane(codes)
    places = plane.project(codes)
    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-9)
    np.testing.assert_allclose(places.mean(axis=0), 0, atol=1e-9)
    variances = np.sort(np.linalg.eigvalsh(np.cov(codes.T)))[::-1]
    np.testing.assert_allclose(places.var(axis=0, ddof=1), variances[:2])
    np.testing.assert_allclose(plane.share, variances[:2] / variances.sum())
    assert plane.share[0] > plane.share[1]


def test_the_sign_of_a_component_follows_the_property():
    codes = cloud()
    first = component_plane(codes).project(codes)[:, 0]
    for values in (first, -first):
        values = values.copy()
        values[::7] = np.nan
        places = component_plane(codes, values).project(codes)[:, 0]
        known = np.isfinite(values)
        assert np.corrcoef(places[known], values[known])[0, 1] > 0.99
    assert np.isfinite(component_plane(codes, np.full(len(codes), np.nan)).axes).all()


@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (20, 1)])
def test_planes_of_degenerate_clouds_are_finite(shape):
    codes = np.random.default_rng(0).normal(size=shape)
    plane = component_plane(codes)
    assert plane.project(codes).shape == (shape[0], 2)
    assert np.isfinite(plane.project(codes)).all()
    assert 0 <= sum(plane.share) <= 1 + 1e-9
    same = component_plane(np.ones((6, 3)))
    assert same.share == (0.0, 0.0)


def test_property_axes_follow_the_properties():
    codes = cloud()
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(2, len(codes)))
    values = np.stack([codes @ [1, -1, 0, 0] + 0.1 * noise[0], noise[1]], axis=1)
    values[:5, 0] = np.nan
    plane = property_plane(codes, values, ("logp", "qed"))
    assert plane.names == ("logp", "qed")
    assert plane.fit[0] > 0.95
    assert plane.fit[1] < 0.1
    np.testing.assert_allclose(plane.axes[0], np.array([1, -1, 0, 0]) / np.sqrt(2), atol=0.05)
    assert plane.axes[0] @ plane.axes[1] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(np.linalg.norm(plane.axes, axis=1), 1)


def test_a_single_property_leaves_the_second_axis_to_the_rest():
    codes = cloud()
    plane = property_plane(codes, codes[:, :1], ("logp",))
    assert plane.names == ("logp", "component 1 of the rest")
    assert np.isnan(plane.fit[1])
    np.testing.assert_allclose(plane.axes @ plane.axes.T, np.eye(2), atol=1e-9)
    rest = codes - codes.mean(axis=0)
    rest -= np.outer(rest @ plane.axes[0], plane.axes[0])
    assert np.var(rest @ plane.axes[1]) == pytest.approx(np.linalg.eigvalsh(np.cov(rest.T, ddof=0)).max())


def test_a_property_without_variation_has_no_axis():
    codes = cloud(2 * FOLDS)
    plane = property_plane(codes, np.ones((len(codes), 2)), ("logp", "qed"))
    assert np.isnan(plane.fit).all()
    assert (plane.axes == 0).all()


def test_molecules_along_an_axis_rise_along_it_and_stay_in_the_middle_of_the_other():
    places = np.random.default_rng(0).normal(size=(2000, 2)) * [10, 1]
    for axis in (0, 1):
        picked = places[along_axis(places, axis)]
        assert (np.diff(picked[:, axis]) > 0).all()
        assert (np.abs(picked[:, 1 - axis]) < 0.4 * places[:, 1 - axis].std()).all()


def charts(section: Section) -> list[str]:
    return [chart.svg for block in section.blocks for chart in block.charts]


def marks(svg: str) -> int:
    """Count the marks of a scatter plot and the ticks."""
    return sum(element.tag.endswith("}use") for element in ElementTree.fromstring(svg).iter())


def test_the_section_shows_every_molecule_and_the_prior(model):
    section = latent_map_section(model, [*CHAINS, "[Si]", "C("], "chosen by hand", False)
    assert section is not None
    assert f"Codes of {len(CHAINS)} molecules" in section.lead
    assert "2 more cannot be read" in section.lead
    assert "chosen by hand" in section.lead
    large, *small = charts(section)
    assert len(small) == 2
    below = [tile for block in section.blocks for tile in block.tiles]
    numbers = {dict(tile.facts)["point"] for tile in below}
    ticks = marks(small[0]) - len(CHAINS)
    assert 0 < ticks < 30
    assert abs(marks(large) - len(CHAINS) - latent_map.DRAWS - len(numbers) - ticks) < 6
    texts = {element.text for element in ElementTree.fromstring(large).iter() if element.text}
    assert numbers <= texts
    assert "logP" in texts
    assert [label for label in texts if label.startswith("component 1 (")]
    for tile in below:
        assert tile.smiles[0] in {one.smiles for one in standardize_many(CHAINS)}
        assert {"logP", "QED", "MW"} <= set(dict(tile.facts))


def test_the_same_molecules_give_the_same_map(model):
    first, second = (latent_map_section(model, CHAINS, "", False, ("qed",)) for _ in range(2))
    assert charts(first) == charts(second)


def test_the_map_by_properties_says_how_well_they_fit(model):
    section = latent_map_section(model, CHAINS, "", False, ("mol_weight", "logp"), "properties")
    assert section is not None
    assert re.search(r"Molecular weight \[g/mol\] rises \(cross-validated R² -?\d\.\d\d\)", section.lead)
    assert "along Molecular weight (" in charts(section)[0]
    assert "along logP (" in charts(section)[0]


def test_at_most_a_thousand_molecules_are_read(model, monkeypatch):
    monkeypatch.setattr(latent_map, "MOLECULES", 20)
    section = latent_map_section(model, CHAINS, "", False, ("qed",))
    assert section is not None
    assert "Codes of 20 molecules" in section.lead
    assert len(charts(section)) == 1


def test_too_few_readable_molecules_make_no_map(model):
    assert latent_map_section(model, ["[Si]"] * 50 + CHAINS[:9], "", False) is None
    with pytest.raises(UnknownNameError, match="beauty"):
        latent_map_section(model, CHAINS, "", False, ("beauty",))


def report(*arguments: object) -> str:
    output = next(one for one in arguments if str(one).endswith(".html"))
    assert main(["report", *map(str, arguments)]) == 0
    return Path(str(output)).read_text("utf-8")


def test_the_page_maps_held_out_molecules(model, tmp_path):
    page = report(model, make_dataset(tmp_path / "data"), "-o", tmp_path / "r.html")
    assert '<section id="latent-map-tiny">' in page
    assert f"Codes of {len(CHAINS) // 3} molecules" in page
    assert "the valid and test splits of data" in page
    for encoded in re.findall(r"base64,([^\"]+)", page):
        text = base64.b64decode(encoded).decode()
        ElementTree.fromstring(text)
        assert "<script" not in text
        # The colour scale is a picture inside the picture; everything else is drawn.
        assert set(re.findall(r"href=\"(#|[^\"]{0,22})", text)) <= {"#", "data:image/png;base64,"}


def test_the_page_maps_given_molecules_when_none_are_held_out(model, tmp_path):
    (tmp_path / "mine.smi").write_text("\n".join(CHAINS))
    page = report(model, tmp_path / "mine.smi", "--map", "logp,tpsa", "-o", tmp_path / "r.html")
    assert "from the column smiles of mine.smi" in page
    assert page.index("Latent map") > page.index("Generated molecules")
    assert "Polar surface" in page


def test_no_map_when_none_is_wanted_or_possible(model, tmp_path):
    (tmp_path / "mine.smi").write_text("\n".join(CHAINS))
    (tmp_path / "odd.smi").write_text("[Si]\n" * 20)
    title = "<h2>Latent map</h2>"
    assert title not in report(model, tmp_path / "mine.smi", "--map", "none", "-o", tmp_path / "a.html")
    alone = report(model, "-o", tmp_path / "b.html")
    assert title not in alone
    assert f"molvae report {model} --reference DATASET" in alone
    odd = report(model, tmp_path / "odd.smi", "--map", "qed", "-o", tmp_path / "c.html")
    assert "No latent map of tiny: the model can read too few of the molecules." in odd


def test_a_damaged_model_is_named_and_the_page_written(model, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in model.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "model.safetensors").write_bytes(b"nothing")
    (tmp_path / "mine.smi").write_text("\n".join(CHAINS))
    page = report(broken, tmp_path / "mine.smi", "-o", tmp_path / "r.html")
    assert "No latent map of broken:" in page
    assert "changed since it was written" in page


def test_an_unknown_colour_is_an_error(model, tmp_path, capsys):
    assert main(["report", str(model), "--map", "beauty", "-o", str(tmp_path / "r.html")]) == 2
    assert "There is no property 'beauty'." in capsys.readouterr().err


def test_a_page_without_a_model_needs_no_torch(tmp_path):
    (tmp_path / "mine.smi").write_text("\n".join(CHAINS))
    code = f"""
import sys
from molvae.cli.main import main
code = main(["report", {str(tmp_path / "mine.smi")!r}, "-o", {str(tmp_path / "r.html")!r}])
sys.exit(str(sys.modules.keys() & {{"torch"}}) if code == 0 else code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stderr.strip() == "set()"
