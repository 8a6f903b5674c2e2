"""The optimiser, its learning rate, and the averaged weights.

In: parameters and the share of training done. Out: updated parameters.
"""

from __future__ import annotations

import math

import torch

from molvae.config import TrainConfig


def learning_rate(config: TrainConfig, step: int, done: float) -> float:
    """Return the learning rate: linear warm-up in steps, then a cosine over the share ``done`` (0 to 1) of training.

    >>> config = TrainConfig(lr=1.0, lr_warmup_steps=10, lr_final=0.1)
    >>> learning_rate(config, 5, 0.0), round(learning_rate(config, 100, 1.0), 6)
    (0.5, 0.1)
    """
    warm = min(1.0, step / config.lr_warmup_steps) if config.lr_warmup_steps else 1.0
    cosine = config.lr_final + (1 - config.lr_final) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))
    return config.lr * warm * cosine


def build_optimizer(model: torch.nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW over all parameters; its update is fused where the device offers that."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        parameters, lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.99), foreach=True
    )


class AveragedWeights:
    """An exponential average of the parameters, kept beside them.

    The decay rises with the step, min(decay, (1 + step) / (10 + step)), so that early weights are forgotten quickly.
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: torch.nn.Module, step: int) -> None:
        """Move the average towards the parameters as they are after ``step``."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.values()), [value for _, value in model.named_parameters()], weight)

    @torch.no_grad()
    def swap(self, model: torch.nn.Module) -> None:
        """Exchange the model's parameters with the average; call it again to undo."""
        for name, value in model.named_parameters():
            held = value.detach().clone()
            value.copy_(self.average[name])
            self.average[name].copy_(held)
