"""The page: complete where the sources are, honest about what is missing, safe with hostile text."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from molvae.cli.main import main
from molvae.errors import InputError, OutputError
from molvae.report.html import build_report
from molvae.report.reference import count_known, reference_properties
from molvae.report.tables import read_sources, read_table

SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O", "Cn1c(=O)c2c(ncn2C)n(C)c1=O", "CC(C)Cc1ccc(cc1)C(C)C(=O)O", "CCOc1ccccc1",
    "O=C(O)c1ccccc1",    "CC(=O)Nc1ccc(O)cc1", "c1ccc2ccccc2c1", "CCN(CC)CC", "O=c1[nH]cnc2[nH]cnc12", "Clc1ccccc1",
    "CNC1CCCCC1", "OCC1CCCO1",
]  # fmt: skip
HOSTILE = "<script>alert(1)</script>"
COLUMN = '"><img src=x onerror=alert(2)>'


class Page(HTMLParser):
    """The elements, links and texts of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.source = path.read_text("utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def titles(self) -> list[str]:
        return re.findall(r"<h2>(.*?)</h2>", self.source)

    def assert_safe(self) -> None:
        """Nothing runs, nothing is fetched."""
        for tag, attributes in self.elements:
            assert tag not in {"script", "iframe", "object", "embed", "link", "base", "form"}
            assert not [name for name in attributes if name.startswith("on")]
            assert attributes.get("src", "data:").startswith("data:image/svg+xml;base64,") or "src" not in attributes
            assert attributes.get("href", "#").startswith("#")
        outside = set(re.findall(r"https?://[^\s\"'<]+", self.source)) - {"http://www.w3.org/2000/svg"}
        assert not outside
        assert "url(" not in self.source
        for encoded in re.findall(r"base64,([^\"]+)", self.source):
            names = {element.tag for element in ElementTree.fromstring(base64.b64decode(encoded)).iter()}
            assert not [name for name in names if name.endswith("script")]


def make_dataset(path: Path) -> Path:
    path.mkdir(parents=True)
    split = ["train"] * 8 + ["valid"] * 2 + ["test"] * 2
    table = pd.DataFrame({"row": range(12), "smiles": SMILES, "split": split, "qed": [0.1] * 8 + [9.0] * 4})
    table.to_parquet(path / "molecules.parquet")
    rejected = [(3, "C1CC", "parse", ""), (4, HOSTILE, "charset", ""), (9, "C1CCC", "parse", "")]
    pd.DataFrame(rejected, columns=["row", "input", "reason", "detail"]).to_csv(path / "rejected.csv", index=False)
    counts = {
        "read": 17,
        "accepted": 12,
        "duplicates": 2,
        "rejected": 3,
        "rejected_by_reason": {"parse": 2, "charset": 1},
    }
    manifest = {
        "kind": "dataset",
        "seed": 5,
        "counts": counts,
        "versions": {"selfies": "2.2.0"},
        "options": {"stereo": True},
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def make_model(path: Path) -> Path:
    (path / "samples").mkdir(parents=True)
    (path / "config.json").write_text(
        json.dumps({"seed": 7, "objective": {"name": "beta_vae"}, "model": {"latent": 64}})
    )
    rows = [
        {"kind": "train", "step": s, "loss": 50 / s, "distortion": 9, "rate": 30, "beta": 0.1} for s in range(1, 90)
    ]
    rows += [{"kind": "valid", "step": 89, "loss": 1.0, "rate": 31.25, "distortion": 8.0, "exact": 0.625}]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "tr')
    for epoch in (1, 2):
        (path / "samples" / f"epoch_{epoch:03d}.json").write_text(json.dumps(SMILES[epoch:][:4]))
    return path


def make_samples(path: Path, extra: str = "custom") -> Path:
    rows = [(text, "ok", 20.0, 0.5, 1.0, "") for text in [*SMILES, SMILES[0]]]
    rows += [
        ("", "empty", 3.0, None, None, ""),
        (HOSTILE, "charset", 4.0, None, None, ""),
        ("NA", HOSTILE, 1, None, None, ""),
    ]
    rows[1] = (*rows[1][:5], f"brenk:{HOSTILE}")
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=["smiles", "state", "nats", "qed", extra, "alerts"]).to_csv(path, index=False)
    return path


def make_reconstruction(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(text, text, text, True, "ok", 1.0) for text in SMILES[:3]]
    rows += [(SMILES[4], SMILES[4], "Nc1ccccc1", False, "ok", 0.4), (SMILES[5], SMILES[5], "", False, "empty", None)]
    rows += [(HOSTILE, "", "", False, "charset", None)]
    columns = ["input", "canonical", "output", "match", "state", "similarity"]
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


def make_search(path: Path, oracle: str = "qed", *, minimize: bool = False) -> Path:
    path.mkdir(parents=True)
    sign = -1 if minimize else 1
    calls = [
        (i, text, "" if i < 3 else SMILES[0], None if i == 5 else sign * i / 10) for i, text in enumerate(SMILES, 1)
    ]
    pd.DataFrame(calls, columns=["step", "smiles", "parent", "score"]).to_csv(path / "molecules.csv", index=False)
    best = [(SMILES[11], sign * 1.2, SMILES[0], sign * 0.1, 0.3, True), (SMILES[1], sign * 0.2, "", None, None, False)]
    columns = ["smiles", "score", "parent", "parent_score", "similarity", "best_of_parent"]
    pd.DataFrame(best, columns=columns).to_csv(path / "best.csv", index=False)
    settings = {"oracle": oracle, "seed": 9, "minimize": minimize, "starts": SMILES[:2]}
    counts = {"calls": 12, "failed": 1, "no_molecule": 4}
    (path / "run.json").write_text(json.dumps({"settings": settings, "counts": counts, "starts": [{"smiles": "C"}]}))
    return path


def make_all(root: Path) -> Path:
    make_dataset(root / "dataset")
    make_model(root / "model")
    make_reconstruction(root / "model" / "reconstruction.csv")
    make_samples(root / "samples.csv")
    make_search(root / "search")
    return root


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Page:
    root = tmp_path_factory.mktemp("full")
    return Page(build_report([make_all(root / "out")], root / "report.html"))


def test_a_directory_of_results_gives_every_section(full: Page) -> None:
    assert full.titles() == [
        "Generated molecules", "Properties", "Optimisation", "Reconstruction", "Training", "Data", "Settings",
        "Files and versions", "Not in this report",
    ]  # fmt: skip
    assert full.source.count('class="tile"') > 20
    assert "metrics.jsonl could not be read" in full.text


def test_a_head_is_named_without_the_digest_of_its_model(tmp_path: Path) -> None:
    page = Page(build_report([make_search(tmp_path / "run", "head:pIC50:sure@0123456789abcdef")], tmp_path / "r.html"))
    assert "Oracle head:pIC50:sure, higher is better" in page.text


def test_the_page_is_one_safe_file_of_modest_size(full: Page) -> None:
    full.assert_safe()
    assert len(full.source) < 3_000_000


def test_every_link_of_the_navigation_leads_somewhere(full: Page) -> None:
    anchors = [attributes["id"] for _, attributes in full.elements if "id" in attributes]
    links = [attributes["href"][1:] for tag, attributes in full.elements if tag == "a"]
    assert sorted(links) == sorted(anchors)
    assert len(set(anchors)) == len(anchors)


def test_the_key_figures_are_right(full: Page) -> None:
    cards = dict(re.findall(r'class="label">(.*?)</div><div class="value">(.*?)</div>', full.source))
    assert cards == {
        "Rate": "31.2 nats", "Distortion": "8.0 nats", "Generated": "16", "Novel": "33.3 %", "Best qed": "1.2",
        "Reconstructed exactly": "60.0 %", "In the dataset": "12",
    }  # fmt: skip


def test_seed_versions_and_settings_are_named(full: Page) -> None:
    assert "Seed 7, 9, 5" in full.text
    for text in ("selfies (dataset)", "objective.name", "beta_vae", "model.latent", "stereo"):
        assert text in full.text


def test_everything_rejected_is_counted_with_words(full: Page) -> None:
    assert "17 rows read" in full.text
    counts = dict(re.findall(r'class="label mono">(.*?)</td><td class="number">(.*?)</td>', full.source))
    assert counts["parse"] == "2"
    assert counts["accepted"] == "12"
    assert counts["a latent decoded to nothing"] == "4"
    assert "chemically" not in full.text
    assert "not SMILES; first: C1CC" in full.text


def test_reconstructions_of_both_kinds_are_shown(full: Page) -> None:
    assert full.source.count("mark right") == 3
    assert full.source.count("mark wrong") == 2
    assert "3 of 5 molecules came back exactly" in full.text


def test_an_optimisation_shows_each_gain(full: Page) -> None:
    assert re.search(r"<dt>gain</dt><dd>\+1.1</dd>", full.source)
    assert full.text.count("before") == 1


def test_low_scores_can_be_the_good_ones(tmp_path: Path) -> None:
    page = Page(build_report([make_search(tmp_path / "run", minimize=True)], tmp_path / "r.html"))
    assert "lower is better" in page.text
    assert re.search(r"<dt>gain</dt><dd>-1.1</dd>", page.source)
    assert re.search(r"<dt>score</dt><dd>-1.2</dd>", page.source)


def test_hostile_text_is_shown_and_never_run(tmp_path: Path) -> None:
    samples = make_samples(tmp_path / "<b>bold<b>.csv", COLUMN)
    search = make_search(tmp_path / 'x" onload="y', HOSTILE)
    dataset = make_dataset(tmp_path / "data")
    page = Page(build_report([samples, search, dataset], tmp_path / "r.html", title=HOSTILE))
    page.assert_safe()
    assert HOSTILE in page.texts
    assert COLUMN in page.texts
    assert HOSTILE not in page.source.replace("&lt;", "[")


@pytest.mark.parametrize(
    ("make", "missing"),
    [
        (make_dataset, ["molvae train", "molvae sample", "molvae reconstruct", "molvae optimize"]),
        (make_model, ["molvae sample -m", "--reference DATASET", "molvae optimize -m", "molvae prepare"]),
        (make_search, ["molvae train", "molvae sample", "molvae prepare"]),
    ],
)
def test_one_source_is_enough_and_the_rest_is_named(make, missing: list[str], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    page = Page(build_report([make(tmp_path / "one")], tmp_path / "r.html"))
    page.assert_safe()
    assert all(command in page.text for command in missing)


@pytest.mark.parametrize("make", [make_samples, make_reconstruction])
def test_one_table_is_enough(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    page = Page(build_report([make(tmp_path / "table.csv")], tmp_path / "r.html"))
    page.assert_safe()
    assert page.source.count('class="tile"') >= 5


def test_a_table_without_failures_makes_no_claim_about_validity(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("smiles,state\nCCO,ok\nCCO,ok\n")
    page = Page(build_report([tmp_path / "s.csv"], tmp_path / "r.html"))
    assert "50.0 % unique" in page.text
    assert "% valid" not in page.text


def test_two_of_a_kind_are_told_apart(tmp_path: Path) -> None:
    models = [make_model(tmp_path / "first"), make_model(tmp_path / "second")]
    page = Page(build_report(models, tmp_path / "r.html"))
    assert {"Training: first", "Training: second"} <= set(page.titles())
    assert "Rate (second)" in page.text


def test_damaged_parts_are_noted_and_left_out(tmp_path: Path) -> None:
    root = make_all(tmp_path / "out")
    (root / "model" / "config.json").write_text("{")
    (root / "model" / "samples" / "epoch_001.json").write_text("[1,")
    (root / "model" / "reconstruction.csv").write_bytes(b"\xff\xfe\x00\x01")
    (root / "dataset" / "manifest.json").write_text("[]")
    (root / "dataset" / "molecules.parquet").write_bytes(b"PAR1")
    (root / "search" / "run.json").write_text("nonsense")
    (root / "notes.csv").write_text("a,b\n1,2\n")
    page = Page(build_report([root], tmp_path / "r.html"))
    for name in ("config.json", "epoch_001.json", "reconstruction.csv", "run.json", "notes.csv"):
        assert name in page.text.partition("Not in this report")[2]
    assert "Best score" in page.text
    assert "2 rows" not in page.text


def test_empty_tables_are_no_crash(tmp_path: Path) -> None:
    (tmp_path / "samples.csv").write_text("smiles,state,nats\n")
    (tmp_path / "molecules.csv").write_text("step,smiles,parent,score\n")
    (tmp_path / "pairs.csv").write_text("input,output,match\n")
    page = Page(
        build_report([tmp_path / name for name in ("samples.csv", "molecules.csv", "pairs.csv")], tmp_path / "r.html")
    )
    assert "The table has no rows." in page.text


def test_words_that_look_missing_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("smiles,state,qed\nNA,ok,0.5\nNone,ok,\nnull,ok,nan\n")
    rows = read_table(path)
    assert rows["smiles"].tolist() == ["NA", "None", "null"]
    assert rows["qed"].isna().tolist() == [False, True, True]


def test_the_later_row_of_a_step_counts(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        '{"kind":"train","step":2,"loss":1}\n{"kind":"train","step":2,"loss":5}\n[]\n'
    )
    sources = read_sources([tmp_path])
    assert [row["loss"] for row in sources.models[0].metrics] == [5]
    assert len(sources.notes) == 1


def test_only_the_train_split_is_the_reference(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d")
    assert set(reference_properties(dataset, ["qed", "absent"])["qed"].tolist()) == {0.1}
    assert count_known(dataset, {SMILES[0], SMILES[11], "C"}) == 1
    assert reference_properties(tmp_path, ["qed"]) == {}
    assert count_known(tmp_path, {"C"}) is None


def test_the_reference_is_thinned_evenly(tmp_path: Path) -> None:
    rows = pd.DataFrame({"smiles": "C", "split": "train", "x": [float(i) for i in range(1000)]})
    rows.to_parquet(tmp_path / "molecules.parquet", row_group_size=7)
    assert reference_properties(tmp_path, ["x"], limit=100)["x"].tolist() == [float(i) for i in range(0, 1000, 10)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "does not exist"),
        (b"", "not a table"),
        (b"\x00\xff\x93binary", "not a table"),
        (b"a,b\n1,2\n", "no column smiles"),
    ],
)
def test_a_bad_source_is_two_lines(content: bytes | None, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=problem) as caught:
        build_report([path], tmp_path / "r.html")
    assert caught.value.remedy
    assert not (tmp_path / "r.html").exists()


def test_a_directory_with_nothing_to_show_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing that a report can show"):
        build_report([tmp_path], tmp_path / "r.html")


def test_the_output_must_be_a_page_and_cannot_replace_a_table(tmp_path: Path) -> None:
    samples = make_samples(tmp_path / "samples.csv")
    before = samples.read_bytes()
    with pytest.raises(InputError, match="no HTML file name"):
        build_report([samples], samples)
    assert samples.read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        build_report([samples], tmp_path / "file" / "r.html")


def test_a_wrong_reference_is_refused(tmp_path: Path) -> None:
    samples = make_samples(tmp_path / "samples.csv")
    with pytest.raises(InputError, match=r"molecules\.parquet"):
        build_report([samples], tmp_path / "r.html", reference=tmp_path)


def test_the_verb_names_the_file_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples, dataset = make_samples(tmp_path / "samples.csv"), make_dataset(tmp_path / "data")
    output = tmp_path / "page.html"
    assert main(["report", str(samples), "--reference", str(dataset), "--title", "My run", "-o", str(output)]) == 0
    assert f"wrote {output}" in capsys.readouterr().out
    page = Page(output)
    assert "<h1>My run</h1>" in page.source
    assert "training set 0.1" in page.text


def test_the_verb_fails_in_two_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere"), "-o", str(tmp_path / "r.html")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_help_loads_no_heavy_library() -> None:
    code = "import molvae.cli.report, sys; print(sys.modules.keys() & {'matplotlib', 'rdkit', 'pandas', 'torch'})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
