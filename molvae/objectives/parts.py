"""Check that a row, its settings and a model fit together, and build what the row trains beside the model.

In: a config, a row, a model. Out: `Parts`, or a `ConfigError` that says what to change.
"""

from __future__ import annotations

import torch

from molvae.config import ObjectiveConfig, PriorConfig
from molvae.errors import ConfigError
from molvae.nn.critic import Critic
from molvae.nn.model import SequenceVAE
from molvae.nn.priors import FlowPrior, StandardNormal
from molvae.objectives.adversarial import CriticStep
from molvae.objectives.bounds import importance_bound
from molvae.objectives.presets import Row, as_point


def check_config(config: ObjectiveConfig, row: Row) -> None:
    """Refuse settings that contradict ``row``.

    Raises:
        ConfigError: for a critic or a distance without a weight, a weight without either, and free bits where the
            rate is not measured against N(0, I); noise on the codes where it would contradict the bound or the prior.
    """
    piece = "a critic" if row.adversary else "the distance of all codes from the prior" if row.aggregate else None
    weight = row.match_weight if config.match_weight is None else config.match_weight
    if piece and weight == 0:
        raise ConfigError(
            f"objective.match_weight is 0, and {config.name} learns by {piece}.",
            "Set objective.match_weight above 0, or choose the objective ae.",
        )
    if not piece and config.match_weight:
        raise ConfigError(
            f"objective.match_weight = {config.match_weight} has no effect in the objective {config.name}.",
            "Leave it out, or choose wae or aae.",
        )
    if config.free_bits and row.prior != "normal":
        raise ConfigError(
            f"objective.free_bits is measured against N(0, I), and {config.name} learns its prior.",
            "Set objective.free_bits = 0, or choose the objective beta_vae.",
        )
    if config.code_noise and (row.prior != "normal" or row.bound is importance_bound):
        why = "learns its prior" if row.prior != "normal" else "weighs latents by how well they explain a molecule"
        raise ConfigError(
            f"objective.code_noise moves latents towards N(0, I), and {config.name} {why}.",
            "Set objective.code_noise = 0, or choose the objective beta_vae.",
        )


_NEEDS = {
    "condition_on": ("gives the decoder properties, and model.condition_on names none", "beta_vae"),
    "predict": ("learns from properties, and the model predicts none", "beta_vae"),
}


def check_model(config: ObjectiveConfig, row: Row, model: SequenceVAE) -> None:
    """Refuse a model that lacks what ``row`` needs.

    Raises:
        ConfigError: when the row needs conditions or heads and the model has none.
    """
    present = {"condition_on": model.condition_names, "predict": model.predict_names}
    for need in row.needs:
        if not present[need]:
            why, instead = _NEEDS[need]
            known = ", ".join(info.name for info in model.property_info)
            there = f"the dataset has {known}" if known else "prepare the dataset with --properties or --columns"
            raise ConfigError(
                f"The objective {config.name} {why}.",
                f'Set model.{need} = ["NAME"] ({there}), or choose the objective {instead}.',
            )


class Parts:
    """What a row brings along: a learned prior and a silent encoder inside the model, a critic outside of it.

    Attributes:
        normal: N(0, I), where codes are drawn to and what the divergence of most rows is measured against.
        critic: None in a row without one.
    """

    def __init__(self, config: ObjectiveConfig, row: Row, model: SequenceVAE, prior: PriorConfig) -> None:
        self.row, self.normal = row, StandardNormal(model.latent).to(model.device)
        self.critic: CriticStep | None = None
        if row.prior == "flow":
            learn_prior(model, prior)
        if row.posterior is as_point:
            silence(model)
        if row.adversary is not None:
            critic = Critic(model.latent, config.critic_hidden).to(model.device)
            self.critic = CriticStep(row.adversary, critic, config.critic_lr)

    def match(self, z: torch.Tensor, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return how far the codes ``z`` (B, D) are from N(0, I) all together, (), and the critic's own loss, ()."""
        if self.row.aggregate is None and self.critic is None:
            return torch.zeros((), device=z.device), None
        z_prior = self.normal.sample(len(z), generator)
        if self.critic is not None:
            return self.critic.losses(z, z_prior, generator)
        assert self.row.aggregate is not None
        return self.row.aggregate(z, z_prior), None


def learn_prior(model: SequenceVAE, prior: PriorConfig) -> None:
    """Make a flow the prior of ``model``, to be trained with it; a flow that is there already goes on."""
    flow = FlowPrior(model.latent, prior.layers, prior.hidden).to(model.device)
    there = {name: value.shape for name, value in model.prior.state_dict().items()}
    if there != {name: value.shape for name, value in flow.state_dict().items()}:
        model.prior = flow


def silence(model: SequenceVAE) -> None:
    """Fix the noise of the posterior at its floor, because a point mass has none to learn.

    So a code drawn from q(z|x) is the code, to within the floor, for everyone who uses the model later.
    """
    layer = model.encoder.to_log_std
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(model.encoder.log_std_min)
    layer.requires_grad_(False)
