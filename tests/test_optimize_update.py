"""Bending a decoder towards good molecules: it learns them, stays near to itself, and the model is left alone."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from molvae.config import Config, ModelConfig
from molvae.data.batch import collate
from molvae.data.vocabulary import Vocabulary
from molvae.errors import InputError
from molvae.files import sha256_file
from molvae.generate.chemistry import Read, Readable
from molvae.nn.checkpoint import LoadedModel, load_model, save_model
from molvae.nn.model import SequenceVAE
from molvae.optimize import decoder_update
from molvae.optimize.decoder_update import bend_decoder, rank_weights
from molvae.optimize.oracles import FunctionOracle
from molvae.optimize.run import optimize
from molvae.optimize.search import Settings
from molvae.optimize.space import BendableSpace, ModelSpace

TOKENS = ["[C]", "[O]", "[N]", "[F]", "[=C]", "[=O]", "[Ring1]", "[Branch1]", "[=Branch1]"]
GOOD = ["CCO", "NCCO", "CC(=O)NC1CC1"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_tokens(TOKENS)
    sizes = {"embedding": 8, "encoder_hidden": 16, "decoder_hidden": 16, "decoder_layers": 2, "latent": 6}
    config = Config(model=ModelConfig(**sizes, predict=[], dropout=0.2))  # type: ignore[arg-type]
    directory = tmp_path_factory.mktemp("model")
    made = SequenceVAE(config.model, len(vocabulary)).eval()
    with torch.no_grad():
        for name, weight in made.decoder.named_parameters():
            weight.mul_(4.0 if "to_" in name else 2.0)
    save_model(directory, made, vocabulary, config, {"max_tokens": 16, "prior": None})
    return load_model(directory, "cpu")


def nats(loaded: LoadedModel, model: SequenceVAE, smiles: list[str]) -> list[float]:
    """Return what molecules cost a decoder at their codes."""
    read = [one for one in map(Read(loaded.vocabulary), smiles) if isinstance(one, Readable)]
    batch = collate([np.array(one.token_ids, dtype=np.int64) for one in read])
    with torch.no_grad():
        mean = model.encode(batch.tokens, batch.lengths).mean
        cost = model.decoder.token_log_prob(batch.tokens, mean, model.unconditioned(len(read)))
    return (-cost.sum(1)).tolist()


def bend(loaded: LoadedModel, smiles: list[str] = GOOD, steps: int = 20, anchor: float = 0.0, seed: int = 0,
         weights: list[float] | None = None) -> SequenceVAE:  # fmt: skip
    shares = rank_weights(len(smiles)) if weights is None else np.array(weights)
    return bend_decoder(loaded, smiles, shares, steps, anchor, np.random.default_rng(seed))


def test_good_molecules_become_likelier_the_best_one_most(loaded: LoadedModel) -> None:
    before = np.array(nats(loaded, loaded.model, GOOD))
    gained = before - nats(loaded, bend(loaded), GOOD)
    assert (gained > 0).all()
    alone = before - nats(loaded, bend(loaded, weights=[0.0, 1.0, 0.0]), GOOD)
    assert alone[1] > gained[1]


def test_the_model_and_its_files_are_left_alone(loaded: LoadedModel) -> None:
    files = {path.name: sha256_file(path) for path in loaded.directory.iterdir() if path.is_file()}
    state, chance = copy.deepcopy(loaded.model.state_dict()), torch.get_rng_state()
    view = bend(loaded)
    assert view.decoder is not loaded.model.decoder
    assert view.encoder is loaded.model.encoder
    assert not view.decoder.training
    assert all(torch.equal(one, state[name]) for name, one in loaded.model.state_dict().items())
    assert torch.equal(chance, torch.get_rng_state())
    assert files == {path.name: sha256_file(path) for path in loaded.directory.iterdir() if path.is_file()}


def test_the_same_arguments_give_the_same_weights(loaded: LoadedModel) -> None:
    first, again, other = (bend(loaded, anchor=1.0, seed=seed).decoder.to_logits.weight for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_anchor_holds_the_decoder_to_what_it_was(loaded: LoadedModel) -> None:
    anchors = decoder_update._anchors(loaded, torch.Generator().manual_seed(1))
    cond = loaded.model.unconditioned(len(anchors.tokens))
    assert decoder_update.divergence(loaded.model.decoder, anchors, cond).item() == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        strayed = [decoder_update.divergence(bend(loaded, steps=40, anchor=one).decoder, anchors, cond).item()
                   for one in (0.0, 1.0, 30.0)]  # fmt: skip
    assert strayed[0] > strayed[1] > strayed[2] > 0
    assert math.isfinite(strayed[0])


def test_nothing_to_learn_gives_the_model_back(loaded: LoadedModel) -> None:
    assert bend(loaded, ["[SiH4]", "C("]) is loaded.model
    assert bend(loaded, steps=0) is loaded.model
    assert bend(loaded, ["[SiH4]", "CCO"]) is not loaded.model


def test_a_bent_space_keeps_its_codes_and_decodes_otherwise(loaded: LoadedModel) -> None:
    space = ModelSpace(loaded)
    assert isinstance(space, BendableSpace)
    bent = space.bent(["CCO"], np.ones(1), 60, 0.0, np.random.default_rng(0))
    assert np.array_equal(space.encode(GOOD).mean, bent.encode(GOOD).mean)
    points = space.sample(40, np.random.default_rng(1))
    before, after = space.decode(points), bent.decode(points)
    assert after.count("CCO") > before.count("CCO")
    assert space.decode(points) == before


def lengths(smiles: list[str]) -> list[float]:
    return [float(one.count("O")) + len(one) / 100 for one in smiles]


def test_a_search_with_updates_repeats_itself_and_is_resumed(loaded: LoadedModel, tmp_path: Path) -> None:
    options = "batch=8,ranked=3,generations=1,warm=8,moves=noise+prior+graph-mutate,update={}"
    made: list[int] = []

    def run(update: int, budget: int = 70, directory: Path | None = None, resume: bool = False) -> list[str]:
        result = optimize(loaded, FunctionOracle(lengths, "test"), (), "hybrid", budget, 0, directory, resume=resume,
                          options=options.format(update))  # fmt: skip
        return [str(one) for one in result.molecules["smiles"]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("molvae.optimize.space.bend_decoder", lambda *given: made.append(1) or bend_decoder(*given))
        whole = run(24)
    assert len(made) == 2
    assert whole == run(24)
    assert whole != run(0)
    run(24, 40, tmp_path / "run")
    assert run(24, 70, tmp_path / "run", resume=True) == whole


def test_settings_below_zero_are_refused() -> None:
    for name in ("update", "update_steps", "update_anchor"):
        with pytest.raises(InputError, match=f"Give {name}=0"):
            Settings("hybrid", options=f"{name}=-1")
