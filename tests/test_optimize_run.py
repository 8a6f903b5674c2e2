"""A search writes its tables, survives being killed anywhere, and takes the same course again."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from toy_space import QUICK, ToySpace, fluorines

from molvae.cli.main import main
from molvae.config import Config, ModelConfig
from molvae.data.vocabulary import BOS, EOS, Vocabulary
from molvae.errors import BusyError, ConfigError, InputError, MolvaeError, OracleError, OutputError, UnknownNameError
from molvae.files import directory_lock
from molvae.nn.checkpoint import load_model, save_model
from molvae.nn.model import SequenceVAE
from molvae.optimize.exploration import directions
from molvae.optimize.oracles import FunctionOracle
from molvae.optimize.registry import METHODS
from molvae.optimize.result import Result, top_mean
from molvae.optimize.run import optimize, search
from molvae.optimize.search import Progress, Settings
from molvae.optimize.space import ModelSpace

STARTS = ("CCCCC", "OCCCC", "CCCCCl", "C(", "CCCCC")
SPACE = ToySpace()
Function = Callable[[list[str]], list[float]]


def go(
    function: Function = fluorines, directory: Path | None = None, starts: tuple[str, ...] = STARTS,
    resume: bool = False, **settings: Any,
) -> Result:  # fmt: skip
    chosen = Settings(**{"budget": 60, "seed": 3, "options": QUICK.get(settings.get("method", ""), ""), **settings})
    return search(SPACE, FunctionOracle(function, "test"), starts, chosen, directory, resume=resume)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("starts", [STARTS, ()])
def test_the_tables_agree_with_each_other_and_the_budget(method: str, starts: tuple[str, ...], tmp_path: Path) -> None:
    asked: list[str] = []

    def counted(smiles: list[str]) -> list[float]:
        asked.extend(smiles)
        return fluorines(smiles)

    result = go(counted, tmp_path / "run", starts, method=method)
    assert result.n_calls == len(asked) == len(set(asked)) == 60
    assert result.stopped == "budget"
    molecules = pd.read_csv(tmp_path / "run/molecules.csv", keep_default_na=False)
    assert list(molecules.columns) == ["step", "smiles", "parent", "score"]
    assert molecules["smiles"].tolist() == asked
    assert molecules["step"].tolist() == list(range(1, 61))
    assert set(molecules["parent"]) - {""} <= set(asked)
    best = pd.read_csv(tmp_path / "run/best.csv")
    assert list(best.columns) == ["smiles", "score", "parent", "parent_score", "similarity", "best_of_parent"]
    assert best["score"].is_monotonic_decreasing
    assert best["score"].iloc[0] == pytest.approx(max(fluorines(asked)))
    with_parent = best.dropna(subset="parent")
    assert with_parent["parent_score"].tolist() == pytest.approx(fluorines(with_parent["parent"].tolist()))
    assert with_parent["similarity"].between(0, 1).all()
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert facts["state"] == "budget"
    assert facts["counts"]["calls"] == 60
    assert facts["settings"]["method"] == method
    assert {path.name for path in result.files} == {"molecules.csv", "best.csv", "run.json", "journal.jsonl"}


def test_the_round_trip_of_every_start_is_told() -> None:
    result = go()
    told = result.starts.set_index("input")
    assert told.loc["CCCCC", "exact"]
    assert told.loc["C(", "problem"].startswith("parse")
    assert told.loc["CCCCCl", "problem"].startswith("vocabulary")
    assert math.isnan(told.loc["C(", "score"])
    assert told.loc["CCCCC", "score"] == fluorines(["CCCCC"])[0]


def test_a_start_that_does_not_decode_to_itself_keeps_its_own_score() -> None:
    class Lossy(ToySpace):
        def decode(self, latents: np.ndarray) -> list[str]:
            return ["CCCCCC" if one == "CCCCC" else one for one in super().decode(latents)]

    result = search(Lossy(), FunctionOracle(fluorines, "test"), ["CCCCC"], Settings("cmaes", budget=20))
    start = result.starts.iloc[0]
    assert (start["exact"], start["decoded"], start["score"]) == (False, "CCCCCC", fluorines(["CCCCC"])[0])
    heads = result.best[result.best["best_of_parent"]]
    assert heads["parent"].tolist() == ["CCCCC"]
    assert heads["parent_score"].tolist() == [start["score"]]


def test_minimising_finds_low_scores_and_keeps_their_sign() -> None:
    up, down = go(budget=80), go(budget=80, minimize=True)
    assert down.best["score"].iloc[0] < 0 < up.best["score"].iloc[0]
    assert down.best["score"].is_monotonic_increasing
    assert down.best["score"].iloc[0] == down.molecules["score"].min()


def test_similarity_is_kept() -> None:
    result = go(min_similarity=0.4, starts=("CCCCC",), budget=12)
    assert (result.best["similarity"].dropna() >= 0.4).all()
    assert result.n_calls > 1


def test_molecules_without_a_score_are_told_with_the_reason() -> None:
    def sometimes(smiles: list[str]) -> list[float]:
        return [math.inf if "F" in one else float(len(one)) for one in smiles]

    result = go(sometimes, budget=40)
    failed = int(result.molecules["score"].isna().sum())
    assert 0 < failed < 20
    assert f"{failed} of 40 molecules have no score: returned inf, which is no finite number" in result.notes
    assert go().notes == []


def test_starts_that_the_budget_did_not_reach_are_told_of() -> None:
    starts = ("CCCCC", "OCCCC", "CCCCN", "CCCNC", "CCCCCC")
    result = go(budget=6, starts=starts, method="random")
    usable = int((result.starts["problem"] == "").sum())
    told = set(result.best.loc[result.best["best_of_parent"], "parent"])
    assert 0 < len(told) < usable
    assert f"{usable - len(told)} of {usable} start molecules have no descendant after 6 calls" in result.notes


def test_a_run_that_strays_from_its_journal_ends_and_loses_nothing(tmp_path: Path) -> None:
    run, whole = tmp_path / "run", go(directory=tmp_path / "whole", budget=30)
    go(directory=run, budget=20)
    stray = {"call": 21, "smiles": "CCCCOCCCC", "oracle": "python:test", "score": 99.0}
    with (run / "journal.jsonl").open("a") as handle:
        handle.write(json.dumps(stray) + "\n")
    result = go(directory=run, budget=30, resume=True)
    assert (result.n_calls, result.stopped) == (30, "budget")
    assert result.best["smiles"].iloc[0] == "CCCCOCCCC"
    assert result.molecules["smiles"].tolist()[:29] == whole.molecules["smiles"].tolist()[:29]
    assert any("1 molecules scored before were not met again" in note for note in result.notes)
    assert json.loads((run / "run.json").read_text())["notes"] == result.notes
    assert len((run / "journal.jsonl").read_text().splitlines()) == 30


def test_progress_never_goes_back_or_past_the_budget() -> None:
    seen: list[Progress] = []
    search(SPACE, FunctionOracle(fluorines, "test"), STARTS, Settings("cmaes", budget=33), progress=seen.append)
    calls = [one.n_calls for one in seen]
    assert calls == sorted(calls)
    assert calls[-1] == 33
    assert [one.best for one in seen] == sorted(one.best for one in seen)
    assert seen[0].leaders == ()
    made = [score for _, score in seen[-1].leaders]
    assert len(made) == 5
    assert made == sorted(made, reverse=True)
    assert all(smiles not in STARTS for smiles, _ in seen[-1].leaders)


def test_a_part_that_is_to_be_kept_is_in_every_molecule(tmp_path: Path) -> None:
    starts = ("CCCCCO", "CCCCC")
    result = go(directory=tmp_path / "run", keep="O", starts=starts, budget=12)
    assert result.n_calls > 1
    assert result.molecules["smiles"].str.contains("O").all()
    assert result.starts.set_index("input")["problem"].to_dict() == {"CCCCCO": "", "CCCCC": "lacks O"}
    with pytest.raises(ConfigError, match="keep = O"):
        go(directory=tmp_path / "run", keep="C", starts=starts, budget=12, resume=True)


@pytest.mark.parametrize("minimize", [False, True])
def test_a_search_ends_when_its_ten_best_are_good_enough(minimize: bool) -> None:
    whole = go(budget=120, minimize=minimize).molecules
    bar = top_mean(whole["score"].head(60).tolist(), 10, minimize)
    early = go(budget=120, minimize=minimize, enough=bar)
    assert early.stopped == "enough"
    assert 10 <= early.n_calls < 120
    assert top_mean(early.molecules["score"].tolist(), 10, minimize) == pytest.approx(bar, rel=0.5)
    assert list(early.molecules["smiles"]) == list(whole["smiles"].head(early.n_calls))
    beyond = math.copysign(1e9, -1 if minimize else 1)
    assert go(budget=40, minimize=minimize, enough=beyond).stopped == "budget"


def test_a_space_with_nothing_new_ends_the_search() -> None:
    class Dull(ToySpace):
        def decode(self, latents: np.ndarray) -> list[str]:
            return ["CCCCC"] * len(latents)

    result = search(Dull(), FunctionOracle(fluorines, "test"), ["CCCCC"], Settings("cmaes", budget=50))
    assert (result.stopped, result.n_calls) == ("nothing new", 1)


def survive(work: Callable[[], object]) -> int:
    """Run ``work`` in a child process and return how that ended, as `os.waitstatus_to_exitcode` says it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("method", METHODS)
def test_killed_anywhere_it_resumes_to_the_same_course_without_a_repeated_call(method: str, tmp_path: Path) -> None:
    whole = go(method=method)
    for number, fatal in enumerate([1, 2, 4, 7]):
        run, log = tmp_path / f"run{number}", tmp_path / f"log{number}"
        batches = 0

        def logged(smiles: list[str], log: Path = log, fatal: int = fatal) -> list[float]:
            nonlocal batches
            batches += 1
            if batches == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            with log.open("a") as handle:
                handle.writelines(f"{one}\n" for one in smiles)
            return fluorines(smiles)

        assert survive(lambda run=run, logged=logged: go(logged, run, method=method)) in (0, -signal.SIGKILL)
        fatal, batches = 0, 1000
        resumed = go(logged, run, resume=True, method=method)
        pd.testing.assert_frame_equal(resumed.molecules, whole.molecules)
        pd.testing.assert_frame_equal(resumed.best, whole.best)
        assert log.read_text().split() == whole.molecules["smiles"].tolist()


@pytest.mark.parametrize("method", METHODS)
def test_a_finished_run_goes_on_with_a_larger_budget(method: str, tmp_path: Path) -> None:
    go(directory=tmp_path / "run", method=method, budget=25)
    longer = go(directory=tmp_path / "run", method=method, budget=60, resume=True)
    pd.testing.assert_frame_equal(longer.molecules, go(method=method).molecules)


def test_a_run_from_before_there_were_options_goes_on_and_other_options_are_refused(tmp_path: Path) -> None:
    go(directory=tmp_path / "run", budget=25)
    path = tmp_path / "run/run.json"
    facts = json.loads(path.read_text())
    assert facts["settings"].pop("options") == ""
    path.write_text(json.dumps(facts))
    assert go(directory=tmp_path / "run", budget=30, resume=True).n_calls == 30
    go(directory=tmp_path / "hybrid", budget=25, method="hybrid")
    with pytest.raises(ConfigError, match="options"):
        go(directory=tmp_path / "hybrid", budget=25, method="hybrid", options="batch=9", resume=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["in the oracle", "between"])
def test_a_signal_ends_it_with_what_it_has(number: signal.Signals, where: str, tmp_path: Path) -> None:
    batches = 0

    def interrupted(smiles: list[str]) -> list[float]:
        nonlocal batches
        batches += 1
        if batches == 3 and where == "in the oracle":
            os.kill(os.getpid(), number)
            time.sleep(30)
        return fluorines(smiles)

    class Telling(ToySpace):
        def decode(self, latents: np.ndarray) -> list[str]:
            if batches == 2 and where == "between":
                os.kill(os.getpid(), number)
            return super().decode(latents)

    before = signal.getsignal(number)
    oracle = FunctionOracle(interrupted, "test")
    result = search(Telling(), oracle, STARTS, Settings("cmaes", budget=60, seed=3), tmp_path / "run")
    assert result.stopped == number.name
    assert 0 < result.n_calls < 60
    assert signal.getsignal(number) is before
    assert json.loads((tmp_path / "run/run.json").read_text())["state"] == number.name
    resumed = go(directory=tmp_path / "run", resume=True, method="cmaes")
    pd.testing.assert_frame_equal(resumed.molecules, go(method="cmaes").molecules)


def test_a_failing_oracle_stops_the_run_and_keeps_what_was_paid(tmp_path: Path) -> None:
    batches = 0

    def failing(smiles: list[str]) -> list[float]:
        nonlocal batches
        batches += 1
        return fluorines(smiles) if batches < 3 else [math.nan] * len(smiles)

    with pytest.raises(OracleError, match="gave no score"):
        go(failing, tmp_path / "run")
    molecules = pd.read_csv(tmp_path / "run/molecules.csv")
    assert 0 < molecules["score"].notna().sum() < len(molecules) < 60
    assert json.loads((tmp_path / "run/run.json").read_text())["state"] == "error"


def unlucky(smiles: str) -> bool:
    return sum(map(ord, smiles)) % 5 == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_failed_molecule_is_never_among_the_best(method: str) -> None:
    def partly(smiles: list[str]) -> list[float]:
        return [math.nan if unlucky(one) else value for one, value in zip(smiles, fluorines(smiles), strict=True)]

    result = go(partly, method=method)
    assert result.molecules["score"].isna().sum() == result.molecules["smiles"].map(unlucky).sum() > 0
    assert not result.best["smiles"].map(unlucky).any()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"budget": 0}, InputError),
        ({"budget": -5}, InputError),
        ({"method": "cmaess"}, UnknownNameError),
        ({"min_similarity": 1.5}, InputError),
        ({"seed": -1}, InputError),
        ({"starts": ("C(", "CCCCCl")}, InputError),
        ({"starts": ("CCCCC", "CCCCN"), "budget": 1}, InputError),
        ({"keep": "c1ccccc1"}, InputError),
        ({"keep": "c1cc"}, InputError),
    ],
)
def test_misuse_is_explained_and_leaves_nothing(
    changes: dict[str, Any], kind: type[MolvaeError], tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        go(directory=tmp_path / "run", **changes)
    assert len(str(caught.value).splitlines()) == 2
    assert not (tmp_path / "run").exists()


def test_another_run_is_neither_overwritten_nor_mixed_with(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(OutputError, match="no run to resume"):
        go(directory=run, resume=True)
    go(directory=run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(OutputError, match="--resume"):
        go(directory=run)
    for changes in ({"seed": 4}, {"method": "random"}, {"budget": 59}, {"minimize": True}, {"starts": ("CCCCN",)}):
        with pytest.raises(ConfigError):
            go(directory=run, resume=True, **changes)
    with directory_lock(run), pytest.raises(BusyError):
        go(directory=run, resume=True)
    (run / ".lock").unlink()
    assert before.items() >= {path.name: path.read_bytes() for path in run.iterdir()}.items()
    with pytest.raises(OutputError, match="is a file"):
        go(directory=run / "run.json")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_tokens(["[C]", "[O]", "[N]", "[F]", "[=C]", "[=O]", "[Ring1]", "[Branch1]"])
    sizes = {"embedding": 8, "encoder_hidden": 16, "decoder_hidden": 16, "decoder_layers": 1, "latent": 4}
    config = Config(model=ModelConfig(**sizes))
    network = SequenceVAE(config.model, len(vocabulary))
    for parameter in network.decoder.parameters():
        # Larger weights than at first, and an earlier end, so that latents decode to different molecules.
        parameter.data *= 3
    network.decoder.to_logits.bias.data[EOS] += 1
    directory = tmp_path_factory.mktemp("model")
    save_model(directory, network, vocabulary, config, {"max_tokens": 12, "prior": None})
    return directory


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("starts", [["CCO", "CC(N)=O"], []])
def test_a_real_model_is_searched_and_the_search_repeats(
    method: str, starts: list[str], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An untrained model writes few molecules.
    monkeypatch.setattr("molvae.optimize.search.PATIENCE", 5)
    loaded = load_model(model, "cpu")
    first, second = (optimize(loaded, "logp", starts, method, 30, 1) for _ in range(2))
    assert 5 < first.n_calls <= 30
    pd.testing.assert_frame_equal(first.molecules, second.molecules)
    assert first.molecules["score"].notna().all()
    assert first.best["score"].max() == first.molecules["score"].max()


def test_the_codes_of_a_model_are_its_posterior(model: Path) -> None:
    space = ModelSpace(load_model(model, "cpu"))
    codes = space.encode(["CCO", "C(", "CC[Si]", "CCN"])
    assert codes.mean.shape == codes.std.shape == (4, space.dimension)
    assert np.isnan(codes.mean[[1, 2]]).all()
    assert (codes.std[[0, 3]] > 0).all()
    assert [bool(problem) for problem in codes.problems] == [False, True, True, False]
    many = space.encode(["CCO", *["CCCCCCCC"] * 300])
    assert np.allclose(many.mean[0], codes.mean[0], atol=1e-5)
    assert len(space.decode(np.zeros((300, 4)))) == 300


def test_nats_are_the_decoders_own(model: Path) -> None:
    loaded = load_model(model, "cpu")
    smiles = ["CCO", "C(", "", "CCCCCCCN"]
    cost = ModelSpace(loaded).nats(smiles)
    assert np.isnan(cost).tolist() == [False, True, True, False]
    assert (cost[[0, 3]] > 0).all()
    assert cost[0] == pytest.approx(ModelSpace(loaded).nats(["CCO"])[0], abs=1e-5)
    tokens = torch.tensor([[BOS, *(loaded.vocabulary.encode(["[C]", "[C]", "[O]"]) or ()), EOS]])
    z = loaded.model.encode(tokens, torch.tensor([5])).mean
    total = -loaded.model.decoder.token_log_prob(tokens, z, loaded.model.unconditioned(1)).sum().item()
    assert cost[0] == pytest.approx(total / 4, abs=1e-5)


def test_the_exploration_score_is_the_volume_of_the_decoders_slopes(model: Path) -> None:
    loaded = load_model(model, "cpu")
    space = ModelSpace(loaded)
    smiles = ["CCO", "C(", "", "CCCCCCCN"]
    score = space.exploration(smiles, n=space.dimension)
    assert np.isnan(score).tolist() == [False, True, True, False]
    tokens = torch.tensor([[BOS, *(loaded.vocabulary.encode(["[C]", "[C]", "[O]"]) or ()), EOS]])
    decoder, blank = copy.deepcopy(loaded.model.decoder).double(), loaded.model.unconditioned(1).double()

    def probabilities(z: torch.Tensor) -> torch.Tensor:
        return torch.softmax(decoder(tokens[:, :-1], decoder.start(z[None], blank)), -1).flatten()

    mean = loaded.model.encode(tokens, torch.tensor([5])).mean[0].detach().double()
    slopes = torch.autograd.functional.jacobian(probabilities, mean)
    assert score[0] == pytest.approx(-0.5 * torch.logdet(slopes.T @ slopes).item(), rel=1e-3)
    # Fewer directions see less of the volume, always the same of it.
    few = space.exploration(smiles, n=2)
    assert few[0] == pytest.approx(space.exploration(["CCO"], n=2)[0], rel=1e-6)
    across = directions(space.dimension, 2)
    assert few[0] == pytest.approx(-0.5 * torch.logdet(across @ slopes.T @ slopes @ across.T).item(), rel=1e-3)
    assert len(directions(3, 8)) == 3


def cli(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in ("optimize", *arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_verb_writes_a_run_and_goes_on_with_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("leads.smi").write_text("CCO\nCC(N)=O\nC(\n[SiH4]\n")
    Path("mine.py").write_text("def longest(smiles):\n    print('noise')\n    return [len(s) for s in smiles]\n")
    common = ("--oracle", "mine:longest", "--start", "leads.smi", "-o", "run", "-m", model, "--device", "cpu")
    code, out, _ = cli(capsys, *common, "--budget", 12)
    assert code == 0
    for word in ("run/best.csv", "run/molecules.csv", "run/run.json", "2 cannot be used", "[SiH4]"):
        assert word in out
    assert len(pd.read_csv("run/molecules.csv")) == 12
    code, out, _ = cli(capsys, *common, "--budget", 15, "--resume")
    assert code == 0
    assert len(pd.read_csv("run/molecules.csv")) == 15
    assert json.loads(Path("run/run.json").read_text())["counts"]["replayed"] == 12


def test_a_function_edited_before_a_run_goes_on_is_told_of(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def f(smiles):\n    return [len(s) for s in smiles]\n")
    common = ("--oracle", "mine:f", "-o", "run", "-m", model, "--device", "cpu")
    assert cli(capsys, *common, "--budget", 6)[0] == 0
    same = cli(capsys, *common, "--budget", 7, "--resume")
    assert (same[0], "was edited" in same[1]) == (0, False)
    Path("mine.py").write_text("def f(smiles):\n    return [2 * len(s) for s in smiles]\n")
    for budget, replayed in ((9, 7), (10, 9)):  # and it is not forgotten
        code, out, _ = cli(capsys, *common, "--budget", budget, "--resume")
        assert code == 0
        assert f"mine:f was edited since: {replayed} scores are of before" in out


def test_every_given_start_is_counted_once(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leads = tmp_path / "leads.smi"
    leads.write_text("CC(N)=O\nNC(C)=O\nCCO\nC(\n[SiH4]\nCCC\n")
    common = ("--oracle", "logp", "--start", leads, "--keep", "N", "-m", model, "--device", "cpu", "--budget", 4)
    code, out, err = cli(capsys, *common, "-o", tmp_path / "run")
    assert code == 0, err
    line = next(line for line in out.splitlines() if line.startswith("starts: 6 = "))
    assert "4 cannot be used + 1 were given before" in line
    assert sum(int(part.split()[0]) for part in line.partition("= ")[2].split(" + ")) == 6
    assert "CCO: lacks N" in out
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert facts["counts"]["starts_repeated"] == 1


def test_of_a_salt_the_largest_part_is_the_lead(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--oracle", "logp", "-m", model, "--device", "cpu", "--budget", 4)
    code, out, err = cli(capsys, *common, "--analogues-of", "Cl.NCCCO", "-o", tmp_path / "salt")
    assert code == 0, err
    assert "Cl.NCCCO: read as NCCCO, without Cl" in out
    told = json.loads((tmp_path / "salt/run.json").read_text())["starts"]
    assert [(one["input"], one["smiles"], one["left_out"]) for one in told] == [("Cl.NCCCO", "NCCCO", "Cl")]
    # A lead and its salt are one; where no part can be read, nothing is left out.
    leads = tmp_path / "leads.smi"
    leads.write_text("NCCCO\nNCCCO.Cl\n[Na+].[Cl-]\n")
    code, out, err = cli(capsys, *common, "--start", leads, "-o", tmp_path / "both")
    assert code == 0, err
    assert "1 cannot be used + 1 were given before" in out
    told = json.loads((tmp_path / "both/run.json").read_text())["starts"]
    assert {one["input"]: one["left_out"] for one in told} == {"NCCCO": "", "[Na+].[Cl-]": ""}


def test_one_lead_that_the_model_cannot_read_is_explained(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--analogues-of", "[SiH4]", "-o", tmp_path / "run", "-m", model, "--device", "cpu")
    code, _, err = cli(capsys, *asked)
    assert code == InputError.exit_code
    assert "The start molecule cannot be encoded; most often" not in err
    assert "[SiH4]" in err
    assert "molvae finetune" in err


def test_analogues_of_one_lead_and_their_page(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    common = ("-m", model, "--device", "cpu", "--budget", 12, "--min-similarity", 0.1)
    code, out, err = cli(capsys, "--analogues-of", "CC(N)=O", "--keep", "N", "-o", run, *common)
    assert code == 0, err
    assert "maximises qed" in err
    assert str(run / "report.html") in out
    molecules = pd.read_csv(run / "molecules.csv")
    assert molecules["smiles"].str.contains("N").all()
    page = (run / "report.html").read_text()
    assert "Best molecules" in page
    assert "CC(N)=O" in page
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert (settings["keep"], settings["min_similarity"]) == ("N", 0.1)


@pytest.mark.parametrize("name", ["--options", "--method-settings"])
def test_a_method_takes_its_settings_by_the_name_that_benchmarks_use(
    name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--oracle", "logp", "-m", model, "--device", "cpu", "--budget", 4, name)
    code, _, err = cli(capsys, *asked, "gate=moses,surrogate=off", "-o", tmp_path / "run")
    assert code == 0, err
    assert json.loads((tmp_path / "run/run.json").read_text())["settings"]["options"] == "gate=moses,surrogate=off"
    code, _, err = cli(capsys, *asked, "moves=graph", "-o", tmp_path / "other")
    assert code == InputError.exit_code
    assert "graph-swap" in err


def test_an_analogue_is_half_like_its_lead_unless_told_otherwise(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--analogues-of", "CC(N)=O", "--oracle", "logp", "-o", tmp_path / "run", "-m", model, "--budget", 4)
    code, _, err = cli(capsys, *asked, "--device", "cpu")
    assert code == 0, err
    assert json.loads((tmp_path / "run/run.json").read_text())["settings"]["min_similarity"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("--oracle", "qedd"), 2, "qed"),
        (("--analogues-of", "C("), 2, "no molecule"),
        (("--analogues-of", "foreign.smi"), 2, "--start foreign.smi"),
        (("--analogues-of", "CCO", "--start", "foreign.smi"), 2, "both"),
        (("--analogues-of", "CCO", "--keep", "N"), 2, "contains N"),
        (("--keep", "c1cc"), 2, "parse"),
        (("--method", "cmaess"), 2, "cmaes"),
        (("--budget", "-1"), 2, "--budget"),
        (("--start", "empty.smi"), 2, "empty.smi"),
        (("--start", "missing.smi"), 2, "missing.smi"),
        (("--start", "foreign.smi"), 2, "None of the 2"),
        (("--oracle", "absent:f"), 2, "absent"),
        (("--oracle", "mine:g"), 2, "mine"),
        (("--oracle", "mine:never"), 6, "finite"),
        (("--timeout", "0", "--oracle", "mine:never"), 2, "positive"),
        (("--resume",), 5, "no run"),
        (("-m", "no-such-model"), 2, "no-such-model"),
    ],
)
def test_mistakes_on_the_command_line_are_two_lines(
    arguments: tuple[str, ...], code: int, word: str, model: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("empty.smi").write_text("")
    Path("foreign.smi").write_text("[SiH4]\nC(\n")
    Path("mine.py").write_text("def never(smiles):\n    return [float('nan')] * len(smiles)\n")
    defaults = {"--oracle": "qed", "-o": "run", "-m": str(model), "--device": "cpu", "--budget": "20"}
    given = [part for name, value in defaults.items() if name not in arguments for part in (name, value)]
    got, _, err = cli(capsys, *given, *arguments)
    assert got == code, err
    assert word in err.lower() or word in err
    assert err.count("\n") == 2
