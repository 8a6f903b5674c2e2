"""The excess in nats over a language model: paired by molecule, honest about what it is measured over."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from molvae.benchmark.compare_table import language_model, records, to_markdown
from molvae.benchmark.evaluation import Settings, as_language_model, evaluate_model
from molvae.benchmark.excess import LanguageModel, excess_over, same_molecules
from molvae.benchmark.held_out import HeldOut, held_out
from molvae.cli.main import main
from molvae.config import Config, ModelConfig, ObjectiveConfig
from molvae.data.dataset import PropertyInfo
from molvae.data.vocabulary import Vocabulary
from molvae.errors import ConfigError, InputError
from molvae.nn.checkpoint import LoadedModel, save_model
from molvae.nn.model import SequenceVAE
from molvae.report.comparison import comparison_svg
from tests.tiny import TOKENS, tiny_dataset

FEW = Settings(samples=5, encodings=1, decodings=1)
SIZES = {"embedding": 8, "encoder_hidden": 12, "decoder_hidden": 16, "decoder_layers": 1, "latent": 4}


def model_with(
    objective: str = "vae", tokens: tuple[str, ...] = TOKENS, seed: int = 0, properties: tuple[str, ...] = (),
) -> LoadedModel:  # fmt: skip
    torch.manual_seed(seed)
    vocabulary = Vocabulary.from_tokens(tokens)
    config = Config(model=ModelConfig(**SIZES), objective=ObjectiveConfig(name=objective))
    info = [PropertyInfo(name, 0.0, 1.0, -1.0, 1.0, 10) for name in properties]
    model = SequenceVAE(config.model, len(vocabulary), info).eval()
    with torch.no_grad():  # codes that differ from molecule to molecule
        model.encoder.to_mean.weight.mul_(8)
    return LoadedModel(model, vocabulary, config, {"max_tokens": 10, "prior": None}, Path(f"model{seed}"))


def without_codes(loaded: LoadedModel) -> LoadedModel:
    """Make every posterior N(0, I), as it is when it has collapsed."""
    with torch.no_grad():
        for layer in (loaded.model.encoder.to_mean, loaded.model.encoder.to_log_std):
            layer.weight.zero_()
            layer.bias.zero_()
    return loaded


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data") / "tiny", n=100, properties=0).directory


def molecules_of(loaded: LoadedModel, dataset: Path) -> HeldOut:
    return held_out(loaded, str(dataset), None, 20, 0, None)


def test_a_language_model_has_no_excess_over_itself(dataset: Path) -> None:
    plain = without_codes(model_with(seed=1))
    molecules = molecules_of(plain, dataset)
    over = as_language_model(plain, "itself", molecules, FEW)
    assert over.rate == pytest.approx(0, abs=1e-9)
    found = evaluate_model(plain, molecules, FEW, workers=1, over=over)["excess"]
    # The same draws on both sides: molecule by molecule nothing is left.
    assert found["priors"]["normal"]["negative_bound"] == {"5": {"mean": 0.0, "standard_error": 0.0}}
    assert found["priors"]["normal"]["negative_elbo"]["mean"] >= 0
    json.dumps(found, allow_nan=False)


def test_the_excess_is_the_difference_molecule_by_molecule(dataset: Path) -> None:
    model, plain = model_with(), without_codes(model_with(seed=1))
    molecules = molecules_of(model, dataset)
    over = as_language_model(plain, "plain", molecules, FEW)
    found = evaluate_model(model, molecules, FEW, workers=1, over=over)
    own, excess = (found[part]["priors"]["normal"] for part in ("likelihood", "excess"))
    bare = evaluate_model(plain, molecules, FEW, workers=1)
    nats = bare["likelihood"]["priors"]["normal"]["negative_bound"]["5"]["mean"]
    assert found["excess"]["nats"]["mean"] == pytest.approx(nats)
    assert excess["negative_elbo"]["mean"] == pytest.approx(own["negative_elbo"]["mean"] - nats)
    assert excess["negative_bound"]["5"]["mean"] == pytest.approx(own["negative_bound"]["5"]["mean"] - nats)
    # Long molecules cost both more, so the difference is known better than either.
    assert 0 < excess["negative_bound"]["5"]["standard_error"] < own["negative_bound"]["5"]["standard_error"]
    assert "excess" not in bare


def test_errors_are_paired() -> None:
    table = {"distortion": torch.tensor([10.0, 30.0]), "normal.rate": torch.tensor([2.0, 2.0]),
             "normal.3": torch.tensor([11.0, 31.0])}  # fmt: skip
    over = LanguageModel("other", torch.tensor([9.0, 29.0]), 0.1, 3)
    found = excess_over(over, table, ["normal"], 3)["priors"]["normal"]
    assert found["negative_elbo"] == {"mean": 3.0, "standard_error": 0.0}
    assert found["negative_bound"] == {"3": {"mean": 2.0, "standard_error": 0.0}}
    alone = excess_over(LanguageModel("as given", torch.tensor([9.0])), table, ["normal"], 3)
    assert alone["priors"]["normal"]["negative_elbo"]["mean"] == 13.0
    assert alone["priors"]["normal"]["negative_elbo"]["standard_error"] == 10.0


def test_molecules_are_said_in_the_words_of_the_other() -> None:
    model = model_with(properties=("a", "b"))
    other = model_with(tokens=(*reversed(TOKENS), "[S]"), properties=("b", "c"))
    values = np.array([[1.0, 2.0], [3.0, np.nan]], dtype=np.float32)
    ids = [np.array([model.vocabulary.tokens.index(token) for token in row]) for row in (("[C]", "[F]"), ("[N]",))]
    same = same_molecules(HeldOut("two", ids, values, {}, 2), model, other)
    assert [[other.vocabulary.tokens[one] for one in row] for row in same.token_ids] == [["[C]", "[F]"], ["[N]"]]
    np.testing.assert_array_equal(same.properties, np.array([[2, np.nan], [np.nan, np.nan]], dtype=np.float32))
    lacking = model_with(tokens=("[C]", "[N]"))
    with pytest.raises(InputError, match=r"\[F\]"):
        same_molecules(HeldOut("two", ids, values, {}, 2), model, lacking)


def test_a_model_that_uses_its_codes_is_no_language_model(dataset: Path) -> None:
    model = model_with()
    molecules = molecules_of(model, dataset)
    other = as_language_model(model_with(seed=2), "other", molecules, FEW)
    assert other.rate is not None
    assert other.rate > 1
    said = evaluate_model(model, molecules, FEW, workers=1, over=other)["warnings"]
    assert any("other uses its codes" in line and "--objective vae" in line for line in said)
    with pytest.raises(ConfigError, match="without noise"):
        as_language_model(model_with("ae"), "other", molecules, FEW)
    given = LanguageModel("as given", torch.tensor([30.0]))
    plain = model_with("ae")
    found = evaluate_model(plain, molecules_of(plain, dataset), FEW, workers=1, over=given)
    assert found["excess"] is None


def test_the_verb_prints_the_excess(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, loaded in (("model", model_with()), ("plain", without_codes(model_with(seed=1)))):
        save_model(tmp_path / name, loaded.model, loaded.vocabulary, loaded.config, loaded.facts)
    arguments = ["evaluate", str(dataset), "-m", str(tmp_path / "model"), "--samples", "3", "-n", "10",
                 "--encodings", "1", "--decodings", "1", "--device", "cpu", "--workers", "1"]  # fmt: skip
    assert main([*arguments, "--language-model", str(tmp_path / "plain")]) == 0
    said = capsys.readouterr().out
    assert f"excess over a language model ({tmp_path / 'plain'}): it needs" in said
    assert "(K=3, rate 0.00)" in said
    assert main([*arguments, "--language-model", "12.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    nats = found["likelihood"]["priors"]["normal"]["negative_elbo"]["mean"] - 12.5
    assert found["excess"]["priors"]["normal"]["negative_elbo"]["mean"] == pytest.approx(nats)
    for given in ("-3", "nan", str(tmp_path / "absent")):
        assert main([*arguments, "--language-model", given]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 2
    assert main([*arguments, "--language-model", "12", "--conditioning"]) == 2


def row_of(rate: float, elbo: float, bound: float) -> dict[str, Any]:
    """Return the figures of a row of a comparison, as far as the excess needs them."""
    error = {"standard_error": 0.5}
    own = {"rate": {"mean": rate, **error}, "negative_elbo": {"mean": elbo, **error},
           "negative_bound": {"1": {"mean": elbo, **error}, "10": {"mean": bound, **error}}}  # fmt: skip
    keys = ("samples", "beta", "weights", "steps", "molecules_seen", "decoder_passes", "minutes", "n")
    return {**dict.fromkeys(keys, 1), "distortion": {"mean": elbo - rate, **error},
            "likelihood": {"rate": {"mean": rate, **error}, "priors": {"model": own}},
            "reconstruction": dict.fromkeys(("exact", "same_molecule", "token_accuracy"), 0.5),
            "codes": {"active_units": 1, "latent": 4}, "posterior_samples": {"fcd": None}}  # fmt: skip


@pytest.fixture
def summary() -> dict[str, Any]:
    rows = {"vae": row_of(0.2, 31.0, 30.5), "iwae": row_of(0.9, 30.0, 29.0), "beta_vae": row_of(40.0, 52.0, 45.0)}
    prior = {"rate": 33.0, "n": 5, **dict.fromkeys(("validity", "uniqueness", "novelty", "drawn_ok"), 1.0), "fcd": None}
    plain = {**row_of(0.0, 10.0, 10.0), "likelihood": None}
    own = {f"{name}.own": prior for name in (*rows, "ae")} | {"beta_vae.gmm": prior}
    own["ae.own"] = {**prior, "rate": None}
    return {
        "results": {**rows, "ae": plain, **own}, "missing": [], "failures": {}, "reference": None, "seed": 0,
        "hardware": "test", "molecules": 7,
        "request": {"objectives": [*rows, "ae"], "priors": ["gmm"], "budget": 5, "temperature": 1.0},
    }  # fmt: skip


def test_a_comparison_measures_from_its_cheapest_collapsed_row(summary: dict[str, Any]) -> None:
    plain = language_model(summary)
    assert plain == {"row": "iwae", "nats": 29.0, "standard_error": 0.5, "rate": 0.9, "bound_samples": 10}
    excess = {(row["objective"], row["prior"]): row["excess"] for row in records(summary)}
    assert excess == {("vae", "own"): 2.0, ("iwae", "own"): 1.0, ("beta_vae", "own"): 23.0,
                      ("beta_vae", "gmm"): 16.0, ("ae", "own"): None}  # fmt: skip
    text = to_markdown(summary)
    assert "| excess |" in text
    assert "minus the 29.00 +- 0.50 nats that a molecule costs iwae" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_without_a_collapsed_row_there_is_no_excess(summary: dict[str, Any]) -> None:
    with_line = comparison_svg(records(summary))
    for name in ("vae", "iwae"):
        summary["results"][name]["likelihood"]["rate"]["mean"] = 1.5
    assert language_model(summary) is None
    assert {row["excess"] for row in records(summary)} == {None}
    assert "excess is left out" in to_markdown(summary)
    # The figure draws a language model's line only where there is one.
    assert with_line.count("stroke-dasharray") == comparison_svg(records(summary)).count("stroke-dasharray") + 1


def test_an_unfinished_comparison_says_what_it_can(summary: dict[str, Any]) -> None:
    part = copy.deepcopy(summary)
    for item in ("iwae", "iwae.own", "beta_vae.gmm"):
        del part["results"][item]
        part["missing"].append(item)
    plain = language_model(part)
    assert plain is not None
    assert (plain["row"], plain["nats"]) == ("vae", 30.5)
    excess = {(row["objective"], row["prior"]): row["excess"] for row in records(part)}
    assert excess["beta_vae", "gmm"] is None
    assert excess["beta_vae", "own"] == pytest.approx(21.5)
