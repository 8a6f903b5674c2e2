"""MOSES: figures whose answer is known, runs that go on, the verbs."""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from molvae.benchmark import moses, moses_model, moses_run, references
from molvae.benchmark.held_out import held_out
from molvae.benchmark.moses import Yardstick, floor, measure, metric_names
from molvae.benchmark.moses_model import draw, likelihood, near_copies, nearest_in_noise, own_noise, reconstruction
from molvae.benchmark.moses_run import Extent, Plan, Run
from molvae.benchmark.moses_table import PUBLISHED, describe_model, describe_table, records, to_csv
from molvae.benchmark.references import Choice, load_reference
from molvae.benchmark.references_training import load_training
from molvae.cli.benchmark_moses import stages
from molvae.cli.main import main
from molvae.config import Config, ModelConfig
from molvae.data.vocabulary import Vocabulary
from molvae.errors import ConfigError, OutputError
from molvae.nn.checkpoint import LoadedModel, load_model, save_model
from molvae.nn.model import SequenceVAE
from molvae.report.benchmark import moses_png, moses_svg

SAMPLE = Path(__file__).resolve().parent.parent / "data" / "moses_sample.csv.gz"
TOKENS = ["[C]", "[O]", "[N]", "[F]", "[=C]", "[=O]", "[#N]", "[Ring1]", "[Branch1]", "[=Branch1]"]
PNG = b"\x89PNG\r\n\x1a\n"

SUBJECT = {"model": "tiny", "sha256": "0", "temperature": 0.5, "rounds": 0}


def quiet(what: str, done: int, of: int) -> None:
    """Say nothing."""


def write(path: Path, smiles: list[str]) -> Path:
    path.write_text("smiles,state\n" + "".join(f"{one},x\n" for one in smiles))
    return path


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's cache out of it, and ChemNet, whose numbers are tested elsewhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in (references, moses):
        monkeypatch.setattr(module, "has_fcd", lambda: False)


@pytest.fixture(scope="module")
def real() -> list[str]:
    with gzip.open(SAMPLE, "rt") as handle:
        return handle.read().split()[1:151]


@pytest.fixture
def splits(tmp_path: Path, real: list[str]) -> dict[str, Path]:
    return {
        "train": write(tmp_path / "train.csv", real[:80]),
        "Test": write(tmp_path / "test.csv", real[80:120]),
        "TestSF": write(tmp_path / "scaffolds.csv", real[120:]),
    }


@pytest.fixture
def yard(splits: dict[str, Path]) -> Yardstick:
    names = ("Test", "TestSF")
    found = {name: load_reference(name, Choice(splits[name]), workers=1, say=quiet) for name in names}
    return Yardstick(found, load_training(splits["train"], workers=1, say=quiet), 1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_tokens(TOKENS)
    config = Config(model=ModelConfig(embedding=8, encoder_hidden=16, decoder_hidden=16, decoder_layers=1, latent=4))
    network = SequenceVAE(config.model, len(vocabulary))
    with torch.no_grad():
        for weight in network.decoder.parameters():
            weight.mul_(4.0)
    directory = tmp_path_factory.mktemp("models") / "tiny"
    save_model(directory, network, vocabulary, config, {"max_tokens": 20, "prior": None, "temperature": 0.5})
    return directory


@pytest.fixture
def loaded(model: Path) -> LoadedModel:
    return load_model(str(model), "cpu")


def test_the_reference_itself_is_as_near_as_can_be(real: list[str], yard: Yardstick) -> None:
    found = measure(real[80:120], yard, quiet)
    assert list(found) == metric_names(["Test", "TestSF"])
    assert (found["valid"], found["SNN/Test"], found["Frag/Test"], found["Scaf/Test"]) == (1, 1, 1, 1)
    assert [found[name] for name in ("logP", "SA", "QED", "weight")] == [0, 0, 0, 0]
    assert found["SNN/TestSF"] < 0.7
    assert found["Novelty"] == 1
    assert found["unique@1000"] is None
    assert found["FCD/Test"] is None
    assert "molvae[metrics]" in yard.notes[0]


def test_what_is_no_molecule_counts_in_validity_only(real: list[str], yard: Yardstick) -> None:
    good = [*real[:10], *real[80:90]]
    with_bad = measure([*good[:7], "C(", "", *good[7:], "c1cc"], yard, quiet)
    alone = measure(good, yard, quiet)
    assert with_bad.pop("valid") == 20 / 23
    assert alone.pop("valid") == 1
    assert with_bad == alone
    assert alone["Novelty"] == 0.5


def test_nothing_valid_gives_no_figures(yard: Yardstick) -> None:
    found = measure(["C(", ""], yard, quiet)
    assert found.pop("valid") == 0
    assert set(found.values()) == {None}


def test_fcd_is_of_the_valid_molecules_against_each_reference(
    real: list[str], yard: Yardstick, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fcd", reason="needs the extra metrics")
    from molvae.benchmark.fcd import chemnet_statistics, frechet_distance

    targets = {name: chemnet_statistics(part) for name, part in (("Test", real[80:100]), ("TestSF", real[100:120]))}
    monkeypatch.setattr(moses, "has_fcd", lambda: True)
    measured = replace(yard, references={n: replace(yard.references[n], gaussian=g) for n, g in targets.items()})
    found = measure([*real[:20], "C("], measured, quiet)
    mine = chemnet_statistics(real[:20])
    for name, target in targets.items():
        assert found[f"FCD/{name}"] == pytest.approx(frechet_distance(mine, target), abs=1e-3)
    assert found["FCD/Test"] != pytest.approx(found["FCD/TestSF"], abs=1e-2)


def test_the_floor_is_real_molecules_at_that_n_and_is_kept(yard: Yardstick, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = floor(yard, 30, 0, quiet), floor(yard, 30, 1, quiet)
    assert (one["valid"], one["Novelty"]) == (1, 0)
    assert one["SNN/Test"] != other["SNN/Test"]
    assert one == measure(yard.training.pick(30, 0), yard, quiet)
    monkeypatch.setattr(moses, "measure", lambda *arguments: pytest.fail("measured again"))
    assert floor(yard, 30, 0, quiet) == one


def test_a_floor_belongs_to_its_references(yard: Yardstick, splits: dict[str, Path]) -> None:
    found = []
    for seed in (0, 1):
        part = load_reference("Test", Choice(splits["Test"], 10, seed), workers=1, say=quiet)
        found.append(floor(replace(yard, references={"Test": part}), 20, 0, quiet))
    assert found[0]["SNN/Test"] != found[1]["SNN/Test"]


def test_distances_in_noise_are_the_nearest_codes() -> None:
    rng = np.random.default_rng(0)
    z, mean = rng.normal(size=(30, 5)), rng.normal(size=(70, 5))
    std = rng.uniform(0.01, 1.0, size=(70, 5))
    expected = [
        min(float(np.sqrt(np.square((row - m) / s).mean())) for m, s in zip(mean, std, strict=True)) for row in z
    ]
    np.testing.assert_allclose(nearest_in_noise(z, mean, std, rows=7, block=16), expected, rtol=1e-9)


@pytest.mark.parametrize("latent", [4, 32, 128])
def test_own_noise_holds_99_of_100_draws(latent: int) -> None:
    draws = np.sqrt(np.square(np.random.default_rng(0).standard_normal((40_000, latent))).mean(axis=1))
    assert (draws <= own_noise(latent)).mean() == pytest.approx(0.99, abs=0.002)


class Fixed(torch.nn.Module):
    """A prior that gives the same latents whatever it is asked."""

    def __init__(self, z: torch.Tensor) -> None:
        super().__init__()
        self.z = z

    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        return self.z.expand(n, -1)


def test_a_prior_that_copies_is_seen(loaded: LoadedModel, tmp_path: Path) -> None:
    chains = ["C" * length for length in range(2, 9)]
    training = load_training(write(tmp_path / "chains.csv", [*chains, "[Si]"]), workers=1, say=quiet)
    code = moses_model.read_posteriors(loaded, ["CCCC"], 1).mean
    shares = []
    for z in (torch.tensor(code, dtype=torch.float32), torch.full((1, 4), 50.0)):
        loaded.model.prior = Fixed(z)
        found = near_copies(loaded, training, ["CCO", "[Si]"], 11, 100, 0, 1, quiet2)
        assert found is not None
        assert (found["codes"], found["prior"]["n"], found["held_out"]["n"]) == (7, 11, 1)
        shares.append(found["prior"]["share"])
    assert shares == [1.0, 0.0]
    foreign = load_training(write(tmp_path / "foreign.csv", ["[Si]"]), workers=1, say=quiet)
    found = near_copies(loaded, foreign, ["CCO"], 11, 100, 0, 1, quiet2)
    assert found is not None
    assert (found["codes"], found["prior"]["share"]) == (0, None)


def quiet2(done: int, of: int) -> None:
    """Say nothing."""


def test_reconstruction_counts_what_the_model_cannot_read_as_lost(loaded: LoadedModel, tmp_path: Path) -> None:
    path = write(tmp_path / "asked.csv", ["CCO", "CC", "C[Si]", "CN", "C("])
    molecules = held_out(loaded, str(path), None, 99, 0, 1)
    found = reconstruction(loaded, molecules, 1, quiet2)
    whole = moses_model.reconstruct_greedily(
        loaded, molecules, torch.tensor(moses_model.read_posteriors(loaded, ["CCO", "CC", "CN"], 1).mean).float(), 1
    )
    assert found["n"] == 5
    assert found["exact"] == pytest.approx(whole["exact"] * 3 / 5)
    assert found["token_accuracy"] == pytest.approx(whole["token_accuracy"])
    assert found["left_out"] == {"vocabulary": 1, "parse": 1}


def test_likelihood_names_its_sample(loaded: LoadedModel, tmp_path: Path) -> None:
    path = write(tmp_path / "asked.csv", ["CCO", "CC", "CN", "CCC"])
    found = likelihood(loaded, held_out(loaded, str(path), None, 99, 0, 1), 4, 3, quiet2)
    assert (found["n"], found["seed"], found["k"], found["latent"]) == (4, 3, 4, 4)
    bounds = found["nats"]["priors"]["normal"]["negative_bound"]
    assert bounds["4"]["mean"] <= bounds["1"]["mean"] + 1e-6
    assert found["nats"]["rate"]["mean"] > 0


def test_draw_rejects_nothing(loaded: LoadedModel) -> None:
    rows = draw(loaded, 40, None, 0, 1, quiet2)
    assert rows == draw(loaded, 40, 0.5, 0, 1, quiet2)
    assert rows != draw(loaded, 40, 1.5, 0, 1, quiet2)
    states = [state for _, state in rows]
    assert len(rows) - states.count("empty") == 40
    assert all((smiles == "") == (state != "ok") for smiles, state in rows)


@pytest.fixture
def run(tmp_path: Path, yard: Yardstick) -> Callable[..., Run]:
    def make(n: int = 20, where: str = "run") -> Run:
        return Run(tmp_path / where, Plan(SUBJECT, n, [0, 1]), yard, quiet)

    return make


def test_a_run_goes_on_where_it_stopped(
    run: Callable[..., Run], loaded: LoadedModel, splits: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    extent = Extent(reconstruct=3, likelihood=3, samples=2, codes=20, draws=5, held=3)
    easy = write(splits["Test"].with_name("easy.csv"), ["CCO", "CC", "CN", "CCC"])

    def everything(one: Run) -> dict[str, Any]:
        return one.summary(one.measure_model(loaded), one.floors(), one.about_model(loaded, easy, extent))

    first = run()
    first.begin(resume=False)
    drawn: list[int] = []
    genuine = moses_run.measure

    def interrupted(smiles: list[str], *rest: Any) -> Any:
        drawn.append(len(smiles))
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return genuine(smiles, *rest)

    monkeypatch.setattr(moses_run, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        everything(first)
    monkeypatch.setattr(moses_run, "draw", lambda *arguments: pytest.fail("drawn again"))
    second = run()
    second.begin(resume=True)
    resumed = everything(second)
    assert len(drawn) == 3
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(first.directory.parent / "cache"))
    whole = run(where="whole")
    for module in (references, moses):
        monkeypatch.setattr(module, "has_fcd", lambda: False)
    whole.begin(resume=False)
    assert everything(whole) == resumed


def test_another_run_is_not_gone_on_with(run: Callable[..., Run]) -> None:
    run().begin(resume=False)
    with pytest.raises(OutputError, match="not empty"):
        run().begin(resume=False)
    with pytest.raises(ConfigError, match="another n"):
        run(21).begin(resume=True)
    with pytest.raises(ConfigError, match="no run"):
        run(where="nowhere").begin(resume=True)


def summary(fcd: float | None = 0.5) -> dict[str, Any]:
    names = metric_names(["Test"])
    figures = {**dict.fromkeys(names, 0.25), "FCD/Test": fcd}
    reference = {"name": "Test", "source": "test.csv", "sha256": "f" * 64, "rows": 9, "n": 9, "drawn_with_seed": None}
    training = {"source": "train.csv", "sha256": "e" * 64, "n": 99, "strings": "made canonical"}
    return {
        "subject": SUBJECT, "n": 30, "seeds": [0, 1], "notes": [],
        "references": [reference], "training": training, "metrics": names, "model": None,
        "runs": {"0": figures, "1": {**figures, "FCD/Test": fcd and fcd + 0.2}},
        "floors": {"0": {**figures, "FCD/Test": 0.1}, "1": {**figures, "FCD/Test": 0.3}},
    }  # fmt: skip


def test_the_table_has_mean_spread_floor_and_excess() -> None:
    rows = records(summary())
    fcd = next(row for row in rows if row["metric"] == "FCD")
    assert (fcd["result"], fcd["floor"], fcd["excess"]) == pytest.approx((0.6, 0.2, 0.4))
    assert fcd["spread"] == pytest.approx(0.2 / math.sqrt(2))
    assert (fcd["reference"], fcd["n"], fcd["better"]) == ("Test", 30, "lower")
    assert [row["excess"] for row in rows if row["metric"] != "FCD"] == [None] * (len(rows) - 1)
    table = list(csv.DictReader(to_csv(rows).splitlines()))
    assert float(table[3]["run_1"]) == pytest.approx(0.7)
    text = "\n".join(describe_table(summary()))
    assert "n = 30, sampling seeds 0, 1" in text
    assert "Test: 9 molecules of test.csv (SHA-256 ffffffffffff)" in text
    part = summary()
    part["references"][0]["drawn_with_seed"] = 3
    assert "(SHA-256 ffffffffffff, drawn with seed 3)" in "\n".join(describe_table(part))
    assert "0.6000 ± 0.1414  0.2000 ± 0.1414  +0.4000" in text


def test_a_figure_that_is_missing_is_blank() -> None:
    rows = records(summary(None))
    fcd = next(row for row in rows if row["metric"] == "FCD")
    assert (fcd["result"], fcd["excess"]) == (None, None)
    assert next(row for row in csv.DictReader(to_csv(rows).splitlines()) if row["metric"] == "FCD")["result"] == ""
    assert moses_svg(rows).startswith("<svg")


def test_the_picture_names_every_published_model() -> None:
    rows = records(summary())
    svg = moses_svg(rows)
    assert all(name in svg for name in (*PUBLISHED, "this run", "FCD/Test"))
    assert "mathdefault" not in svg
    assert moses_png(rows).startswith(PNG)


def runs(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def test_the_verb_measures_a_file(
    tmp_path: Path, splits: dict[str, Path], real: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--train", splits["train"], "--test", splits["Test"], "--test-scaffolds", splits["TestSF"], "--workers", 1)
    samples = write(tmp_path / "mine.csv", [*real[:9], "C("])
    runs("benchmark", "moses", "--samples", samples, "-o", tmp_path / "out", "--seeds", 2, *given)
    said = capsys.readouterr().out
    assert "samples mine.csv; n = 10, one file" in said
    assert "FCD is left out" in said
    for name in ("moses.json", "moses.csv", "moses.svg", "moses.png"):
        assert f"wrote {tmp_path / 'out' / name}" in said
        assert (tmp_path / "out" / name).stat().st_size > 0
    found = json.loads((tmp_path / "out" / "moses.json").read_text())
    assert found["runs"]["file"]["valid"] == 0.9
    assert list(found["floors"]) == ["0", "1"]
    assert main(["benchmark", "moses", "--samples", str(samples), "-n", "11", "-o", str(tmp_path / "no")]) == 2
    assert "has 10 rows" in capsys.readouterr().err
    assert main(["benchmark", "moses", "--samples", str(samples), "-m", "moses", "-o", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()


def test_the_verb_measures_a_model_and_resumes(
    tmp_path: Path, model: Path, splits: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    easy = write(tmp_path / "easy.csv", ["CCO", "CC", "CN", "CCC"])
    chains = write(tmp_path / "chains.csv", ["C" * length for length in range(2, 15)])
    given = ("benchmark", "moses", "-m", model, "-n", 12, "--seeds", 2, "-o", tmp_path / "out", "--train",
             chains, "--test", easy, "--test-scaffolds", splits["TestSF"], "--likelihood", 4, "--bound", 3,
             "--codes", 10, "--workers", 1)  # fmt: skip
    runs(*given)
    said = capsys.readouterr().out
    assert "model tiny, token temperature 0.5, 0 rounds of reading back; n = 12, sampling seeds 0, 1" in said
    for part in (
        "exact reconstruction (greedy, z = mean)",
        "importance-weighted -log p",
        "active units",
        "near copies",
    ):
        assert part in said
    assert f"wrote {tmp_path / 'out' / 'samples_1.csv'}" in said
    before = (tmp_path / "out" / "moses.json").read_bytes()
    runs(*given, "--resume")
    assert (tmp_path / "out" / "moses.json").read_bytes() == before
    assert main([str(word) for word in given]) == 5


def test_a_file_and_a_model_are_not_measured_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, more in (("moses", ["-o", str(tmp_path / "no")]), ("guacamol-distribution", ["--train", "x.csv"])):
        assert main(["benchmark", verb, "--samples", "a.csv", "-m", "moses", *more]) == 2
        assert "two things to measure" in capsys.readouterr().err


def test_the_group_names_its_protocols_and_explains_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "-h"]) == 0
    said = capsys.readouterr().out
    assert "guacamol-distribution" in said
    for verb in ("moses", "guacamol-distribution"):
        assert main(["benchmark", verb, "-h"]) == 0
        said = capsys.readouterr().out
        assert f"molvae benchmark {verb} " in said
        assert "--samples FILE" in said
    assert main(["benchmark", "nothing"]) == 2


def test_every_stage_has_a_bar_of_its_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[str, int]] = []
    shown: list[int] = []

    @contextmanager
    def fake(label: str, total: int) -> Iterator[Callable[[int], None]]:
        opened.append((label, total))
        yield shown.append
        opened.append((label, -1))

    monkeypatch.setattr("molvae.cli.progress.progress_bar", fake)
    with stages() as say:
        say("one", 1, 2)
        say("one", 2, 2)
        say("two", 1, 5)
    assert opened == [("one", 2), ("one", -1), ("two", 5), ("two", -1)]
    assert shown == [1, 2, 1]


def test_samples_with_blanks_mean_the_same_in_a_file(
    run: Callable[..., Run], loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [("CCO", "ok"), ("", "invalid"), ("CC", "ok"), ("", "empty")]
    monkeypatch.setattr(moses_run, "draw", lambda *arguments: rows)
    one = run(n=3)
    one.begin(resume=False)
    assert one.samples(loaded, 0) == ["CCO", "", "CC", ""]
    monkeypatch.setattr(moses_run, "draw", lambda *arguments: pytest.fail("drawn again"))
    assert one.samples(loaded, 0) == ["CCO", "", "CC", ""]
    assert measure(one.samples(loaded, 0), one.yard, quiet)["valid"] == 0.5


def test_an_autoencoder_without_noise_has_no_near_copies(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moses_model, "is_point_mass", lambda loaded: True)
    training = load_training(write(tmp_path / "chains.csv", ["CC"]), workers=1, say=quiet)
    assert near_copies(loaded, training, ["CC"], 5, 5, 0, 1, quiet2) is None
    path = write(tmp_path / "asked.csv", ["CCO", "CC"])
    assert likelihood(loaded, held_out(loaded, str(path), None, 99, 0, 1), 2, 0, quiet2)["nats"] is None


def test_parts_that_are_not_asked_for_are_left_out(run: Callable[..., Run], loaded: LoadedModel) -> None:
    one = run()
    nothing = Extent(reconstruct=0, likelihood=0, codes=0)
    found = one.about_model(loaded, Path("not read"), nothing)
    assert found == {"reconstruction": None, "likelihood": None, "near_copies": None}
    assert describe_model(found) == []
    assert not (one.directory / "parts").exists()


def test_a_model_s_own_figures_are_told_with_n_and_seed() -> None:
    figure = {"mean": 30.0, "standard_error": 0.5}
    prior = {"rate": figure, "negative_elbo": figure, "nats_per_molecule": 31.0}
    lines = describe_model({
        "reconstruction": {"protocol": "greedy, z = mean", "exact": 0.7, "same_molecule": 0.75, "n": 100,
                           "source": "test.csv"},
        "likelihood": {"n": 50, "source": "test.csv", "seed": 4, "k": 10, "active_units": 5, "latent": 8,
                       "nats": {"rate": figure, "distortion": figure, "priors": {"normal": prior, "model": prior}}},
        "near_copies": {"seed": 4, "codes": 9, "limit": 1.2, "prior": {"n": 7, "share": 0.01},
                        "held_out": {"n": 6, "share": 0.5}},
    })  # fmt: skip
    text = "\n".join(lines)
    assert "70.0000% of 100 molecules of test.csv (same molecule 75.0000%)" in text
    assert "rate 30.00 ± 0.50 nats" in text
    assert "(50 molecules of test.csv, seed 4)" in text
    assert "under the model's prior: rate 30.00, -ELBO 30.00, importance-weighted -log p 31.00 nats (K = 10)" in text
    assert "active units 5 of 8" in text
    assert "1.000% of 7 prior draws lie in the noise of one of 9 training codes (distance up to 1.200)" in text
    assert "of 6 held-out codes 50.000%; seed 4" in text
