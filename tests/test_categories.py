"""Categories: read from tables, shown and hidden whole, asked for by their levels, filled in."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import tiny_dataset, tiny_values

from molvae import MolVAE
from molvae.cli.main import main
from molvae.cli.requests import asked_lines
from molvae.config import build_config
from molvae.data.categories import categories_of, expand
from molvae.data.dataset import Dataset, PropertyInfo, load_dataset
from molvae.data.levels import MOST_LEVELS, Levels
from molvae.data.prepare import PrepareOptions, prepare
from molvae.data.remap import with_properties
from molvae.data.splits import Splitter
from molvae.errors import InputError, UnknownNameError
from molvae.generate.asking import Asking, make_plan
from molvae.generate.levels import categories, held_for, level_nats, settle
from molvae.generate.refine import request_nats
from molvae.generate.request_values import draw_values, property_rows, row_weights
from molvae.generate.requests import Request, check_requests, parse_where, read_conditions
from molvae.generate.wanted import Wanted
from molvae.nn.checkpoint import LoadedModel, load_model, save_model
from molvae.nn.model import SequenceVAE
from molvae.objectives.objective import mask_properties

NOTHING_HELD_OUT = Splitter(valid=0, test=0)
LOGP = PropertyInfo("logp", 2.0, 1.0, -3.0, 6.0, 300)


def target(*shares: float) -> list[PropertyInfo]:
    """Return the levels of a category with these shares of 100 molecules."""
    texts = ("EGFR", "HER2", "none")
    return [
        PropertyInfo(f"target={text}", share, math.sqrt(share * (1 - share)), 0.0, 1.0, 100, "target")
        for text, share in zip(texts, shares, strict=True)
    ]


INFO = [LOGP, *target(0.5, 0.3, 0.2)]


def write_table(path: Path, cells: list[str], header: str = "target") -> Path:
    rows = [f"{'C' * (number + 1)},{number},{cell}" for number, cell in enumerate(cells)]
    path.write_text("\n".join([f"smiles,x,{header}", *rows]) + "\n")
    return path


def prepared(directory: Path, cells: list[str], **options: object) -> Dataset:
    path = write_table(directory / "in.csv", cells)
    plain = {"properties": (), "splitter": NOTHING_HELD_OUT, "workers": 1, "columns": ("x", "target")}
    prepare([str(path)], directory / "set", PrepareOptions(**{**plain, **options}))  # type: ignore[arg-type]
    return load_dataset(directory / "set")


def make_model(*, condition: bool = True, seed: int = 0) -> SequenceVAE:
    """Return an untrained model of logp and target."""
    values = {**tiny_values()["model"], "condition_on": ["target"] if condition else [], "predict": "all"}  # type: ignore[dict-item]
    torch.manual_seed(seed)
    return SequenceVAE(build_config({"model": values}).model, 9, INFO).eval()


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedModel:
    """A model on disk, untrained."""
    data = tiny_dataset(tmp_path / "tiny")
    torch.manual_seed(0)
    config = build_config({"model": {**tiny_values()["model"], "condition_on": ["target"]}})  # type: ignore[dict-item]
    model = SequenceVAE(config.model, len(data.vocabulary), INFO)
    save_model(tmp_path / "model", model, data.vocabulary, config, {"max_tokens": 9})
    return load_model(tmp_path / "model", "cpu")


def test_a_column_of_texts_becomes_a_column_of_0_and_1_for_each_level(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, ["HER2", "EGFR", "", "none", "NA", " EGFR "])
    assert dataset.property_names == ["x", "target=EGFR", "target=HER2", "target=none"]
    nan = math.nan
    expected = [[0, 1, 0], [1, 0, 0], [nan, nan, nan], [0, 0, 1], [nan, nan, nan], [1, 0, 0]]
    np.testing.assert_array_equal(dataset.properties[:, 1:], np.array(expected, dtype=np.float32))
    np.testing.assert_array_equal(dataset.properties[:, 0], np.arange(6))
    assert categories_of(dataset.property_info) == {"target": ("EGFR", "HER2", "none")}
    assert (dataset.property_info[1].mean, dataset.property_info[1].n) == (0.5, 4)
    entries = json.loads((tmp_path / "set" / "properties.json").read_text())["properties"]
    assert [entry.get("category") for entry in entries] == [None, "target", "target", "target"]
    assert [entry["kind"] for entry in entries] == ["column", "category", "category", "category"]
    table = pd.read_parquet(tmp_path / "set" / "molecules.parquet")
    assert table["target"].fillna("").tolist() == ["HER2", "EGFR", "", "none", "", "EGFR"]


def test_levels_of_rows_that_are_not_taken_get_no_column_and_long_tables_keep_their_rows(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("molvae.data.writer.BLOCK", 5)
    monkeypatch.setattr("molvae.data.writer.FLUSH", 4)
    path = write_table(tmp_path / "in.csv", [("b", "a", "")[number % 3] for number in range(17)])
    path.write_text(path.read_text() + "C,1,only a duplicate\nC(,1,only a broken one\n")
    options = PrepareOptions(
        properties=("hba",), splitter=NOTHING_HELD_OUT, columns=("target", "x"), max_rejected=1, workers=1
    )
    summary = prepare([str(path)], tmp_path / "set", options)
    assert summary.categories == {"target": {"a": 6, "b": 6}}
    dataset = load_dataset(tmp_path / "set")
    assert dataset.property_names == ["hba", "target=a", "target=b", "x"]
    np.testing.assert_array_equal(dataset.properties[:, 3], np.arange(17))
    np.testing.assert_array_equal(dataset.properties[:3, 1:3], [[0, 1], [1, 0], [np.nan, np.nan]])


def test_numbers_become_a_category_only_when_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert prepared(tmp_path / "a", ["1", "2", "1"]).property_names == ["x", "target"]
    told = prepared(tmp_path / "b", ["1", "2", "1"], columns=None, categories=("target",))
    assert told.property_names == ["x", "target=1", "target=2"]
    found, _ = check_requests(parse_where("target=2"), told.property_info)
    assert found[0].levels == ("2",)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([f"name{number}" for number in range(MOST_LEVELS + 1)], "over 50 different texts"),
        (["EGFR", "EGFR", ""], "only the text 'EGFR'"),
    ],
)
def test_what_is_no_category_is_refused_with_the_reason_and_leaves_nothing(
    cells: list[str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        prepared(tmp_path, cells)
    assert caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
    with pytest.raises(InputError, match="cannot be called"):
        Levels("a|b")


def test_the_command_says_how_many_molecules_have_each_level(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_table(tmp_path / "in.csv", ["EGFR", "none", "", "none", "none"])
    call = ["prepare", str(path), "-o", str(tmp_path / "set"), "--columns", "target", "--properties", "none",
            "--valid", "0", "--test", "0", "--workers", "1"]  # fmt: skip
    assert main(call) == 0
    assert "category target: EGFR 1, none 3; unknown 1" in capsys.readouterr().out


def test_a_category_stands_for_all_its_levels_in_conditions_and_heads() -> None:
    model = make_model()
    assert model.condition_names == ["target=EGFR", "target=HER2", "target=none"]
    assert model.predict_names == ["logp", *model.condition_names]
    assert model.property_groups == [0, 1, 1, 1]
    assert expand(["target=HER2", "logp", "target"], INFO) == [*model.condition_names, "logp"]
    with pytest.raises(UnknownNameError, match="no property 'tarjet'"):
        SequenceVAE(build_config({"model": {"condition_on": ["tarjet"]}}).model, 9, INFO)


def test_levels_of_a_category_are_hidden_together_and_other_columns_as_before() -> None:
    properties = torch.zeros(4000, 4)
    groups = [0, 1, 1, 1]
    masked = mask_properties(properties, 0.3, torch.Generator().manual_seed(0), groups).isnan()
    assert (masked[:, 1] == masked[:, 2]).all()
    assert (masked[:, 1] == masked[:, 3]).all()
    assert abs(float(masked[:, 1].float().mean()) - 0.51) < 0.03
    assert (masked[:, 0] != masked[:, 1]).any()
    plain, alone = (
        mask_properties(properties, 0.3, torch.Generator().manual_seed(0), one) for one in (None, [0, 1, 2, 3])
    )
    assert torch.equal(plain.isnan(), alone.isnan())


def test_a_dataset_without_a_level_of_the_model_says_0_where_the_category_is_known(tmp_path: Path) -> None:
    dataset = prepared(tmp_path, ["EGFR", "BRAF", ""], columns=("target",))
    wide = with_properties(dataset, INFO)
    assert wide.property_names == ["target=BRAF", "target=EGFR", "logp", "target=HER2", "target=none"]
    np.testing.assert_array_equal(wide.properties[:, 3], [0, 0, np.nan])
    assert np.isnan(wide.properties[:, 2]).all()


def test_models_keep_their_levels_on_disk_and_info_shows_them(
    loaded: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert loaded.model.property_info == tuple(INFO)
    entries = json.loads((loaded.directory / "properties.json").read_text())["properties"]
    assert "category" not in entries[0]
    assert entries[1]["category"] == "target"
    assert main(["info", "-m", str(loaded.directory)]) == 0
    assert "target EGFR | HER2 | none" in capsys.readouterr().out


def test_levels_are_read_from_text_and_from_mappings() -> None:
    (request,) = parse_where("target = EGFR | none")
    assert (request.levels, request.text) == (("EGFR", "none"), "target=EGFR|none")
    assert read_conditions({"target": "EGFR"}) == parse_where("target=EGFR")
    assert read_conditions({"target": ("EGFR", "none"), "logp": (1, None)}) == parse_where("target=EGFR|none,logp>=1")
    found, warnings = check_requests(parse_where("TARGET=her2, logp=2"), INFO)
    assert found == (Request("target", levels=("HER2",)), Request("logp", 2, 2))
    assert warnings == ()
    _, warnings = check_requests(parse_where("target=none"), [LOGP, *target(0.5, 0.46, 0.04)])
    assert "only 4 molecules of the training set" in warnings[0]


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("target=EGRF", UnknownNameError, "no level 'EGRF'"), ("target=3", UnknownNameError, "no level '3'"),
        ("target>=2", InputError, "no bounds"), ("target=1..2", InputError, "no bounds"),
        ("target=EGFR, target=HER2", InputError, "contradict"), ("logp=EGFR", InputError, "no number"),
        ("x=EGFR", InputError, "'EGFR' is no number"), ("target>=EGFR", InputError, "no number"),
        ("target=", InputError, "no number"), ("source=zinc", UnknownNameError, "no property 'source'"),
    ],
)  # fmt: skip
def test_bad_requests_for_levels_are_refused(text: str, error: type[InputError], said: str) -> None:
    with pytest.raises(error, match=said) as caught:
        check_requests(parse_where(text), [*INFO, PropertyInfo("x", 0, 1, -1, 1, 9)])
    if error is UnknownNameError:
        assert "EGFR, HER2, none" in caught.value.remedy or "logp, x, target" in caught.value.remedy


def test_a_request_is_1_for_its_level_and_0_for_the_others() -> None:
    model, generator = make_model(), torch.Generator().manual_seed(0)
    rows = property_rows(model, generator)
    assert torch.equal(rows[:, 1:].sum(1), torch.ones(len(rows)))
    assert set(rows[:, 1:].unique().tolist()) == {0.0, 1.0}
    one = draw_values(model, parse_where("target=HER2"), rows, 50, generator)
    assert torch.equal(one[:, 1:], torch.tensor([[0.0, 1.0, 0.0]]).repeat(50, 1))
    assert one[:, 0].isnan().all()
    several = draw_values(model, parse_where("target=EGFR|none, logp<=9"), rows, 200, generator)
    assert (several[:, 2] == 0).all()
    assert 0 < float(several[:, 1].sum()) < 200
    assert torch.equal(several[:, 1] + several[:, 3], torch.ones(200))
    weights = row_weights(model, parse_where("target=EGFR"), rows)
    assert torch.equal(weights, rows[:, 1])
    unknown = torch.full_like(rows, math.nan)
    shares = draw_values(model, parse_where("target=EGFR|none"), unknown, 2000, generator)[:, 1:].mean(0)
    torch.testing.assert_close(shares, torch.tensor([5 / 7, 0, 2 / 7]), atol=0.05, rtol=0)


def test_probabilities_rank_latents_and_a_sure_level_asks_for_nothing_more() -> None:
    model = make_model()
    z = torch.randn(40, model.latent, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        category, mean = categories(model)["target"], model.heads(z)[0]
        held = held_for(model, category, mean)
        torch.testing.assert_close(held.sum(1), torch.ones(40))
        nan = math.nan
        wanted = model.targets(torch.tensor([[nan, 0, 1.0, 0], [nan, nan, nan, nan]]))
        torch.testing.assert_close(level_nats(model, mean, wanted)[0], -held[:, 1].log())
        assert request_nats(model, z, wanted)[1].abs().max() == 0
        torch.testing.assert_close(request_nats(model, z, wanted)[0], -held[:, 1].log())
        model.heads.network[2].weight.mul_(0)
        model.heads.network[2].bias[1:4] = torch.tensor([-9.0, 9.0, -9.0])
        asked = model.targets(torch.tensor([[1.0, 0, 1.0, 0], [1.0, 1.0, 0, 0]]))
        settled = settle(model, z[:2], asked)
    assert settled[0, 1:].isnan().all()
    torch.testing.assert_close(settled[1], asked[1])
    assert settled[0, 0] == asked[0, 0]


def test_routes_know_the_levels() -> None:
    for condition in (True, False):
        model = make_model(condition=condition)
        shell = LoadedModel(model, None, build_config({}), {}, Path())  # type: ignore[arg-type]
        plan = make_plan(shell, parse_where("target=EGFR"))
        assert plan.asking.prior == "heads"
        assert plan.asking.decoder is condition


def test_samples_say_which_level_was_asked_and_which_is_predicted(loaded: LoadedModel) -> None:
    model = MolVAE(loaded)
    plain = Wanted(alerts=False, properties=())
    table = model.sample(
        12, conditions={"target": ("EGFR", "HER2")}, asking=Asking(rounds=1), alerts=plain.alerts,
        properties=plain.properties, keep_failed=True, workers=1,
    )  # fmt: skip
    assert list(table.columns[-4:]) == ["target_requested", "target_predicted", "target_probability", "best_of"]
    assert set(table["target_requested"]) <= {"EGFR", "HER2"}
    read = table[table["target_predicted"].notna()]
    assert len(read)
    assert set(read["target_predicted"]) <= {"EGFR", "HER2", "none"}
    assert read["target_probability"].between(0, 1).all()
    assert table["target_probability"].isna().sum() == len(table) - len(read)
    assert table.attrs["where"] == "target=EGFR|HER2"
    share = (read["target_predicted"] == read["target_requested"]).mean()
    assert asked_lines(table)[-1] == (
        f"target: {share:.1%} as asked (by the model's own prediction; k = 1, n = {len(read)})"
    )


def test_best_of_keeps_what_the_head_holds_for_the_level(loaded: LoadedModel) -> None:
    model = MolVAE(loaded)
    one, many = (
        model.sample(
            16, conditions="target=none", asking=Asking("off", best_of=k), alerts=False, properties=(), workers=1
        )
        for k in (1, 8)
    )
    assert many["target_probability"].mean() > one["target_probability"].mean()


def test_impute_fills_a_category_with_its_likeliest_level(loaded: LoadedModel, tmp_path: Path) -> None:
    smiles = ["CCO", "CN", "not a molecule", "CCC"]
    table = MolVAE(loaded).impute(smiles, "target")
    assert table.columns.tolist() == ["target", "target_probability", "target_origin"]
    assert table["target_origin"].tolist() == ["predicted", "predicted", "missing", "predicted"]
    assert table["target"].isna().tolist() == [False, False, True, False]
    assert table["target_probability"].dropna().between(1 / 3, 1).all()
    path = tmp_path / "in.csv"
    path.write_text("smiles,target\nCCO,HER2\nCN,\nCCC,none\n")
    call = ["impute", str(path), "-m", str(loaded.directory), "-o", str(tmp_path / "out.csv"), "--workers", "1"]
    assert main(call) == 0
    filled = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert filled["target_origin"].tolist() == ["given", "predicted", "given"]
    assert (filled["target"][0], filled["target"][2]) == ("HER2", "none")
    assert filled["target"][1] == table["target"][1]
