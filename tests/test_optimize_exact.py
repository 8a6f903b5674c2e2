"""Start molecules that their latent alone does not give back are repaired by their exact code, and the run says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_space import ToySpace, fluorines

from molvae.cli.main import main
from molvae.config import Config, ModelConfig
from molvae.data.vocabulary import EOS, Vocabulary
from molvae.generate.exact_noise import Noise
from molvae.nn.checkpoint import load_model, save_model
from molvae.nn.model import SequenceVAE
from molvae.optimize.method import Proposal
from molvae.optimize.oracles import FunctionOracle
from molvae.optimize.registry import METHODS
from molvae.optimize.run import search
from molvae.optimize.search import Settings
from molvae.optimize.space import HoldingSpace, ModelSpace
from molvae.optimize.starts import Start, decode_proposal, given_starts

TOKENS = ["[C]", "[O]", "[N]", "[F]", "[=C]", "[=O]", "[Ring1]", "[Branch1]", "[=Branch1]"]
LEADS = ["CC(=O)NC1CC1", "NCCO", "CCO", "C(", "[SiH4]"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_tokens(TOKENS)
    sizes = {"embedding": 8, "encoder_hidden": 16, "decoder_hidden": 16, "decoder_layers": 1, "latent": 6}
    config = Config(model=ModelConfig(**sizes, predict=[]))
    made = SequenceVAE(config.model, len(vocabulary)).eval()
    with torch.no_grad():
        for name, weight in made.decoder.named_parameters():
            weight.mul_(5.0 if "to_" in name else 2.5)
        made.decoder.to_logits.bias[EOS] += 1.0
    directory = tmp_path_factory.mktemp("model")
    save_model(directory, made, vocabulary, config, {"max_tokens": 20, "prior": None})
    return directory


@pytest.fixture(scope="module")
def space(model) -> ModelSpace:
    return ModelSpace(load_model(model, "cpu"))


def proposal_of(starts: list[Start], **more: object) -> Proposal:
    latents = np.array([start.mean for start in starts])
    return Proposal(latents, np.arange(len(starts)), tuple(start.smiles for start in starts), **more)


def test_every_readable_start_is_exact_or_repaired(space):
    assert isinstance(space, HoldingSpace)
    starts = {start.given: start for start in given_starts(space, LEADS)}
    usable = [start for start in starts.values() if not start.problem]
    assert len(usable) == 3
    assert any(start.repaired for start in usable)
    assert all(start.repaired != start.exact for start in usable)
    assert not starts["C("].repaired
    assert not starts["[SiH4]"].repaired
    held = Noise.join([start.noise or Noise.of_seeds(np.zeros(1, dtype=np.uint64)) for start in usable])
    repaired = decode_proposal(space, proposal_of(usable, noise=held), usable)
    assert all(one == start.smiles for one, start in zip(repaired, usable, strict=True) if start.repaired)
    facts = [start.facts() for start in usable]
    assert [one["repaired"] for one in facts] == [start.repaired for start in usable]


def test_noise_is_held_for_the_start_itself_and_not_for_what_came_of_it(space):
    start = next(one for one in given_starts(space, LEADS) if one.repaired)
    greedy = space.decode(start.mean[None])[0]
    assert greedy != start.smiles
    latents, rows = np.repeat(start.mean[None], 2, axis=0), np.zeros(2, dtype=np.int64)
    changed, other = decode_proposal(space, Proposal(latents, rows, (start.smiles, "CCO")), [start])
    assert other == greedy
    # Where held noise gives the start itself, which is known, one token's noise is drawn anew.
    assert changed not in (start.smiles, "")
    far = np.repeat(start.mean[None] + 0.4 * np.arange(6), 2, axis=0)
    assert start.noise is not None
    moved = space.decode_held(far[:1], start.noise)[0]
    assert moved not in (start.smiles, space.decode(far[:1])[0])
    assert decode_proposal(space, Proposal(far, rows, (start.smiles, "CCO")), [start])[0] == moved
    own = Proposal(latents, rows, ("CCO", "CCO"), noise=Noise.join([start.noise, Noise.of_seeds(np.array([5]))]))
    first, second = decode_proposal(space, own, [start])
    assert first == start.smiles
    assert second != start.smiles


def test_a_space_that_cannot_hold_noise_goes_on_as_before():
    class Lossy(ToySpace):
        def decode(self, latents: np.ndarray) -> list[str]:
            return ["CCCCCC" if one == "CCCCC" else one for one in super().decode(latents)]

    starts = given_starts(Lossy(), ["CCCCC"])
    assert (starts[0].exact, starts[0].repaired) == (False, False)
    assert decode_proposal(Lossy(), proposal_of(starts), starts) == ["CCCCCC"]


@pytest.mark.parametrize("method", [name for name in METHODS if name in ("cmaes", "random")])
def test_a_search_from_repaired_starts_says_which_and_repeats_itself(space, method, tmp_path):
    def go(directory: Path | None = None) -> list[str]:
        settings = Settings(method=method, budget=16, seed=1)
        oracle = FunctionOracle(fluorines, "test")
        return search(space, oracle, LEADS, settings, directory).molecules["smiles"].tolist()

    found = go(tmp_path / "run")
    assert found == go()
    facts = json.loads((tmp_path / "run/run.json").read_text())
    repaired = [one["smiles"] for one in facts["starts"] if one["repaired"]]
    assert len(repaired) == facts["counts"]["starts_repaired"] > 0
    assert facts["counts"]["starts_repaired"] + facts["counts"]["starts_exact"] == 3


def test_the_command_line_says_how_many_were_repaired(model, tmp_path, capsys):
    leads = tmp_path / "leads.smi"
    leads.write_text("\n".join(LEADS) + "\n")
    command = ["optimize", "--oracle", "logp", "--start", str(leads), "--budget", "20", "--method", "cmaes"]
    assert main([*command, "-o", str(tmp_path / "run"), "-m", str(model)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    facts = json.loads((tmp_path / "run/run.json").read_text())["counts"]
    assert f"{facts['starts_repaired']} by their exact code + 2 cannot be used" in out
    assert (f"{facts['starts_exact']} decode to themselves" in out) == bool(facts["starts_exact"])
