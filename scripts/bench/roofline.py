"""What the machine can do, measured in the same run: multiply matrices, and move memory; and what a molecule costs.

In: a device and a number format. Out: operations and bytes per second; floating-point operations per molecule.
"""

from __future__ import annotations

import time

import torch
from torch.nn import functional

from molvae.config import ModelConfig

ROWS = {"cpu": (256, 512, 1024), "cuda": (8192, 32768)}
"""Rows of the matrices tried; the best counts, because the loops are free to choose theirs."""
WIDTH, GATES = 512, 1536


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def matrix_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.3) -> float:
    """Return the best rate of [M, 512] x [512, 1536] in operations per second (of CPU time on the CPU)."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    best = 0.0
    for rows in ROWS[device.type]:
        left = torch.randn(rows, WIDTH, device=device).to(dtype)
        right = torch.randn(GATES, WIDTH, device=device).to(dtype)
        for _ in range(3):
            functional.linear(left, right)
        _wait(device)
        count, started = 0, clock()
        while clock() - started < seconds:
            for _ in range(10):
                functional.linear(left, right)
            _wait(device)
            count += 10
        best = max(best, 2.0 * rows * WIDTH * GATES * count / (clock() - started))
    return best


def memory_rate(device: torch.device, seconds: float = 0.3) -> float:
    """Return the rate at which a large array is copied, bytes read and written per second."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    source = torch.ones(2**28 if device.type == "cuda" else 2**25, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    _wait(device)
    count, started = 0, clock()
    while clock() - started < seconds:
        target.copy_(source)
        _wait(device)
        count += 1
    return 2.0 * source.nbytes * count / (clock() - started)


def operations(config: ModelConfig, vocab_size: int, tokens: float) -> tuple[float, float]:
    """Count the operations of the matrix products of a molecule: (one training step, one sampling).

    Two per weight and token, for the model as it is written: every token multiplied with its embedding and z at every
    step, though both can be looked up or kept. Training is three forward passes; the encoder reads BOS and EOS too, the
    decoder reads BOS.

    Args:
        config: sizes.
        vocab_size: V.
        tokens: mean number of tokens per molecule, without BOS and EOS.
    """
    size, hidden = config.encoder_hidden, config.decoder_hidden
    encoder = 2 * 3 * size * (config.embedding + size)
    first = 3 * hidden * (config.embedding + config.latent + hidden)
    decoder = first + (config.decoder_layers - 1) * 3 * hidden * 2 * hidden + hidden * vocab_size
    forward = 2.0 * decoder * (tokens + 1)
    return 3 * (forward + 2.0 * encoder * (tokens + 2)), forward
