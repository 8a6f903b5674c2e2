"""Requests: how they are read and refused; how molecules are made under them and how that is told."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_dataset, tiny_values

from molvae import MolVAE
from molvae.config import build_config
from molvae.data.dataset import PropertyInfo
from molvae.errors import ConfigError, InputError, UnknownNameError
from molvae.generate.asking import Asking, make_plan
from molvae.generate.conditional import sample_where
from molvae.generate.guidance import GuidedStepper, sample_guided
from molvae.generate.refine import move, request_nats, resample
from molvae.generate.request_report import Reader, errors_of
from molvae.generate.request_values import draw_values, property_rows, truncated_normal
from molvae.generate.requests import Request, check_requests, parse_where, read_conditions
from molvae.generate.sampling import GREEDY, decode_tokens
from molvae.generate.stepper import Stepper
from molvae.generate.wanted import Wanted
from molvae.nn.checkpoint import LoadedModel, load_model
from molvae.nn.flow_matching import FlowMatchingPrior
from molvae.nn.model import SequenceVAE

LOGP = PropertyInfo("logp", 2.4, 0.9, -4.7, 5.5, 1000)
QED = PropertyInfo("qed", 0.8, 0.1, 0.2, 0.95, 1000)
PIC50 = PropertyInfo("pIC50", 6.0, 1.0, 3.0, 9.0, 300)
PLAIN = Wanted(alerts=False, properties=())


@pytest.fixture(scope="module")
def druglike() -> LoadedModel:
    return load_model("druglike", "cpu")


@pytest.fixture
def tiny(tmp_path: Path) -> SequenceVAE:
    dataset = tiny_dataset(tmp_path / "tiny")
    values = {**tiny_values(), "model": {**tiny_values()["model"], "condition_on": ["p0"]}}  # type: ignore[dict-item]
    torch.manual_seed(0)
    return SequenceVAE(build_config(values).model, len(dataset.vocabulary), dataset.property_info).eval()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("logp=2.5", [("logp", 2.5, 2.5)]),
        ("qed >= .8", [("qed", 0.8, math.inf)]),
        ("tpsa=60..90, logp<3", [("tpsa", 60, 90), ("logp", -math.inf, 3)]),
        ("logp=-2..-1", [("logp", -2, -1)]),
        ("qed>0.6, qed<=0.8", [("qed", 0.6, 0.8)]),
        ("logp==1e0,", [("logp", 1, 1)]),
    ],
)
def test_requests_are_read(text: str, expected: list[tuple[str, float, float]]) -> None:
    requests = parse_where(text)
    assert [(one.name, one.low, one.high) for one in requests] == expected
    assert parse_where(", ".join(one.text for one in requests)) == requests


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "asks for nothing"), ("logp", "no request"), ("logp=high", "no number"), ("logp=nan", "no number"),
        ("tpsa=90..60", "larger bound first"), ("logp=1, logp=2", "contradict"), ("qed>=.9, qed<=.5", "contradict"),
        ("logp>=1..2", "no number"),
    ],
)  # fmt: skip
def test_bad_requests_are_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        parse_where(text)
    assert caught.value.remedy


def test_conditions_may_be_a_mapping() -> None:
    assert read_conditions({"logp": 2, "qed": (0.8, None), "tpsa": (60, 90)}) == parse_where(
        "logp=2,qed>=.8,tpsa=60..90"
    )
    for bad in ({}, {"logp": "much"}, {"logp": (3, 2)}, {"logp": math.inf}):
        with pytest.raises(InputError):
            read_conditions(bad)


def test_names_are_found_in_any_case_and_unknown_ones_get_a_suggestion() -> None:
    found, warnings = check_requests(parse_where("LogP=2, pic50>=7"), [LOGP, PIC50])
    assert [one.name for one in found] == ["logp", "pIC50"]
    assert warnings == ()
    with pytest.raises(UnknownNameError, match="Did you mean logp"):
        check_requests(parse_where("lopg=2"), [LOGP])
    with pytest.raises(UnknownNameError, match="trained without hbd"):
        check_requests(parse_where("hbd=2"), [LOGP])
    with pytest.raises(UnknownNameError, match="It knows: logp"):
        check_requests(parse_where("pIC50>=7"), [LOGP])
    with pytest.raises(InputError, match="contradict"):
        check_requests(parse_where("logp=2, LOGP=3"), [LOGP])


@pytest.mark.parametrize("text", ["qed=3", "qed>=1.2", "qed<=-1", "sa=0", "tpsa=-5"])
def test_what_no_molecule_has_is_refused_with_the_valid_range(text: str) -> None:
    info = [QED, PropertyInfo("sa", 2.4, 0.5, 1.3, 7.5, 9), PropertyInfo("tpsa", 65, 18, 0, 190, 9)]
    with pytest.raises(InputError, match="no molecule has it") as caught:
        check_requests(parse_where(text), info)
    assert "between" in caught.value.remedy


def test_a_request_outside_the_training_set_is_warned_of_with_its_distance() -> None:
    _, warnings = check_requests(parse_where("logp=6.5, qed<=.1"), [LOGP, QED])
    assert "1 above the training set (-4.7 to 5.5" in warnings[0]
    assert "4.6 standard deviations" in warnings[0]
    assert "0.1 below" in warnings[1]
    assert "13.3% of its range" in warnings[1]
    assert check_requests(parse_where("logp>=5, qed=.3..2"), [LOGP, QED])[1] == ()


def test_values_of_ranges_belong_together_and_points_stay(druglike: LoadedModel) -> None:
    model, generator = druglike.model, torch.Generator().manual_seed(0)
    rows = property_rows(model, generator)
    names = [info.name for info in model.property_info]
    for column, info in enumerate(model.property_info):
        assert abs(float(rows[:, column].mean()) - info.mean) < 0.5 * info.std
        assert info.minimum <= float(rows[:, column].min())
        assert float(rows[:, column].max()) <= info.maximum + 1e-3
    requests = parse_where("logp=4.5, mol_weight>=200, tpsa<=150")
    values = draw_values(model, requests, rows, 400, generator)
    assert (values[:, names.index("logp")] == 4.5).all()
    assert values[:, names.index("qed")].isnan().all()
    tpsa = values[:, names.index("tpsa")]
    assert float(tpsa.max()) <= 150
    # A greasy molecule has less polar surface than the average one: the values come from a joint distribution.
    assert float(tpsa.mean()) < model.property_info[names.index("tpsa")].mean - 2


@pytest.mark.parametrize("request_", [Request("logp", 9.0), Request("logp", high=-40.0), Request("logp", 50.0, 60.0)])
def test_truncated_normals_stay_inside_however_far_out(request_: Request) -> None:
    values = truncated_normal(LOGP, request_, 50, torch.Generator().manual_seed(0))
    assert values.isfinite().all()
    assert (values >= request_.low).all()
    assert (values <= request_.high).all()


def test_resampling_draws_latents_that_the_heads_hold_for_the_request(druglike: LoadedModel) -> None:
    model = druglike.model
    wanted = model.targets(torch.tensor([[4.0, math.nan, math.nan, math.nan, math.nan]]).repeat(64, 1))
    logp = model.predict_names.index("logp")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        z = resample(model, wanted, generator)
        found, before = (model.heads(part)[0][:, logp] for part in (z, model.prior.sample(64, generator)))
        assert len(z.unique(dim=0)) == 64
        assert (found - wanted[:, logp]).abs().mean() < 0.5 * (before - wanted[:, logp]).abs().mean()
        strict = model.heads(resample(model, wanted, generator, 5.0))[0][:, logp]
        assert (strict - wanted[:, logp]).abs().mean() < (found - wanted[:, logp]).abs().mean()
        nothing = torch.full_like(wanted[:1], math.nan)
        assert request_nats(model, z, nothing).abs().max() == 0


def test_a_move_brings_the_heads_nearer_and_leaves_met_requests_alone(druglike: LoadedModel) -> None:
    model = druglike.model
    with torch.no_grad():
        z = model.prior.sample(32, torch.Generator().manual_seed(2))
        wanted = torch.full((32, len(model.predict_names)), math.nan)
        wanted[:, 0], wanted[:, 3] = 1.0, -1.0
        moved = move(model, z, wanted)

        def off(latents: torch.Tensor) -> torch.Tensor:
            return (model.heads(latents)[0] - wanted).abs().nan_to_num(0.0).amax(1)

        assert off(moved).mean() < 0.4 * off(z).mean()
        own = model.heads(z)[0].clone()
        assert (move(model, z, own) - z).abs().max() < 1e-4


def test_guidance_mixes_the_logits_with_and_without_the_condition(tiny: SequenceVAE) -> None:
    z, cond = torch.randn(6, tiny.latent), tiny.condition(torch.randn(6, 2))
    plain, token = Stepper(tiny.decoder), torch.ones(6, dtype=torch.int64)
    given = plain.step(token, plain.start(z, cond))[0].log_softmax(1)
    free = plain.step(token, plain.start(z, torch.zeros_like(cond)))[0].log_softmax(1)
    guided = GuidedStepper(plain, 2.0)
    found, state = guided.step(token, guided.start(z, cond))
    allowed = given.isfinite()
    torch.testing.assert_close(found[allowed], (3 * given - 2 * free)[allowed])
    assert found[~allowed].isinf().all()
    assert not found.isnan().any()
    assert state.select(torch.tensor([1, 4])).free.context.shape[0] == 2
    same = [decode_tokens(tiny, z, torch.zeros_like(cond), GREEDY, guidance=w).tokens.tolist() for w in (0.0, 3.0)]
    assert same[0] == same[1]  # nothing is asked, so that there is nothing to guide


def test_guided_flow_matching_goes_further_and_without_strength_is_the_prior_itself() -> None:
    torch.manual_seed(0)
    prior, cond = FlowMatchingPrior(2, 1, 16, 4, condition_size=2), torch.ones(50, 2)
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    draws = [sample_guided(prior, torch.Generator().manual_seed(0), cond, w) for w in (0.0, 1.0, 2.0)]
    torch.testing.assert_close(draws[0], prior.sample(50, torch.Generator().manual_seed(0), cond))
    free = prior.sample(50, torch.Generator().manual_seed(0), torch.zeros_like(cond))
    distances = [float((draw - free).norm(dim=1).mean()) for draw in draws]
    assert distances[0] < distances[1] < distances[2]


def test_routes_are_chosen_by_what_the_model_has(druglike: LoadedModel) -> None:
    asked = parse_where("logp=2")
    assert make_plan(druglike, asked).asking.prior == "heads"
    assert "heads" in make_plan(druglike, asked).route
    assert make_plan(druglike, asked, Asking(prior="off")).rounds == 0
    with pytest.raises(ConfigError, match="conditional prior"):
        make_plan(druglike, asked, Asking(prior="conditional"))
    for bad in ({"guidance": -1.0}, {"best_of": 0}, {"rounds": -1}, {"prior": "magic"}):
        with pytest.raises(ConfigError):
            Asking(**bad)  # type: ignore[arg-type]


def test_asking_brings_molecules_nearer_than_not_asking(druglike: LoadedModel) -> None:
    errors = {}
    for name, asking in {"off": Asking(prior="off"), "both": Asking(rounds=3)}.items():
        table = sample_where(druglike, 64, parse_where("logp=4, tpsa<=60"), asking, wanted=PLAIN, workers=1)
        assert len(table) == 64
        assert (table["logp_requested"] == 4).all()
        assert (table["tpsa_requested"] <= 60).all()
        np.testing.assert_allclose(table["logp_error"], table["logp"] - 4)
        assert (table["tpsa_error"] >= 0).all()
        errors[name] = table["logp_error"].abs().mean()
    assert errors["both"] < 0.7 * errors["off"]


def test_a_longer_run_starts_with_a_shorter_one_and_values_can_be_given(druglike: LoadedModel) -> None:
    short, long = (
        sample_where(druglike, n, parse_where("qed>=.8"), Asking(rounds=1), wanted=PLAIN, workers=1) for n in (5, 70)
    )
    assert short["smiles"].tolist() == long["smiles"].tolist()[:5]
    assert short["qed_requested"].tolist() == long["qed_requested"].tolist()[:5]
    aims = torch.full((3, 5), math.nan)
    aims[:, 0] = torch.tensor([1.0, 2.0, 3.0])
    table = sample_where(druglike, 6, parse_where("logp=0"), Asking(rounds=0), wanted=PLAIN, workers=1, aims=aims)
    assert set(table["logp_requested"]) <= {1.0, 2.0, 3.0}
    assert table["logp_requested"].nunique() == 3


def test_requests_that_are_stopped_give_what_they_have_come_to(druglike: LoadedModel) -> None:
    request, seen = [Request("logp", 2, 2)], list[int]()
    part = sample_where(
        druglike, 128, request, Asking(rounds=4), wanted=PLAIN, seed=3, workers=1, progress=seen.append,
        stop=lambda: len(seen) >= 2,
    )  # fmt: skip
    assert 0 < len(part) <= 128
    assert part.attrs["written"] < 3
    assert "logp_error" in part
    assert seen == sorted(seen)
    whole = sample_where(druglike, 128, request, Asking(rounds=4), wanted=PLAIN, seed=3, workers=1)
    assert whole["logp_error"].abs().mean() < part["logp_error"].abs().mean()


def test_best_of_keeps_the_nearest_and_says_k(druglike: LoadedModel) -> None:
    one, four = (
        sample_where(druglike, 48, parse_where("tpsa=90"), Asking(rounds=0, best_of=k), wanted=PLAIN, workers=1)
        for k in (1, 4)
    )
    assert (one["best_of"] == 1).all()
    assert (four["best_of"] == 4).all()
    assert "k = 4" in four.attrs["route"]
    assert (one.attrs["written"], four.attrs["written"]) == (1.0, 4.0)
    assert four["tpsa_error"].abs().mean() < 0.6 * one["tpsa_error"].abs().mean()


def test_a_measured_property_is_predicted_by_the_head_with_its_spread(druglike: LoadedModel) -> None:
    reader = Reader(druglike, parse_where("logp=2"), ())
    mean, std = reader.predict(["CCOC(=O)c1ccccc1", None, "c1ccc2ccccc2c1CCCC"], "logp")
    assert np.isnan(mean[1])
    assert np.isnan(std[1])
    assert (std[[0, 2]] > 0).all()
    assert mean[2] > mean[0]
    assert np.isnan(errors_of(Request("logp", 2.0, 2.0), mean, np.full(3, 2.0))[1])


def test_the_api_takes_conditions() -> None:
    model = MolVAE.from_pretrained("druglike", device="cpu")
    table = model.sample(4, conditions={"logp": 3.0}, asking=Asking(rounds=0), alerts=False, workers=1)
    assert list(table.columns[-3:]) == ["logp_requested", "logp_error", "best_of"]
    assert table.attrs["where"] == "logp=3"
    assert table.attrs["warnings"] == ()
    far = model.sample(0, conditions="logp=30", asking=Asking(rounds=0), workers=1)
    assert "above the training set" in far.attrs["warnings"][0]
    assert len(far) == 0
