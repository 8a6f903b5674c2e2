"""Run ChemNet without the work that is the same for every molecule; its numbers are the package's, up to rounding.

In: canonical SMILES, the network of the package fcd. Out: activations (N, 512) of its last layer but one.

ChemNet reads 350 columns whatever the molecule; the convolutions have no bias, so that behind the end of a SMILES their
output is zero, and the first recurrent layer, which reads backwards, comes to that end in a state that depends only on
how many zeros it saw. These states are computed once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

COLUMNS = 350
"""Characters ChemNet is given; a longer SMILES is given as many as it has."""
STRIDE = 4
BATCH = 256


@dataclass(frozen=True)
class ChemNet:
    """The parts of the network.

    Attributes:
        tokens: position of each symbol in a one-hot column; "X" stands for every other.
        symbols: regular expression that cuts a SMILES into symbols.
        scale: value of a one in a column.
        convolutions: two, stride 2 each.
        backward: LSTM that reads the convolutions' output from the end.
        forward: LSTM whose last state is the activation.
        pads: hidden and cell state of ``backward`` after 0, 1, 2, ... zero columns, (S + 1, H) each.
    """

    tokens: dict[str, int]
    symbols: re.Pattern[str]
    scale: float
    convolutions: tuple[torch.Tensor, torch.Tensor]
    backward: nn.LSTM
    forward: nn.LSTM
    pads: tuple[torch.Tensor, torch.Tensor]


def known_layers(network: nn.Module) -> bool:
    """Tell whether ``network`` is made of the layers that this module can take apart."""
    kinds = [type(layer).__name__ for layer in network.children()]
    convolution = ["SamePadding1d", "Conv1d", "SELU"]
    recurrent = ["Transpose", "Reverse", "LSTM", "IndexTuple", "Reverse", "LSTM", "IndexTuple", "IndexTensor"]
    layers: list[Any] = list(network.children())
    return kinds == 2 * convolution + recurrent and layers[1].bias is None and layers[4].bias is None


@torch.inference_mode()
def take_apart(network: nn.Module, symbols: Sequence[str]) -> ChemNet:
    """Return the parts of ``network``.

    Args:
        network: one for which `known_layers` holds.
        symbols: of its one-hot columns, in order.
    """
    layers: list[Any] = list(network.children())
    backward: nn.LSTM = layers[8]
    state = (torch.zeros(1, 1, backward.hidden_size), torch.zeros(1, 1, backward.hidden_size))
    hidden, cell = [state[0]], [state[1]]
    for _ in range(COLUMNS // STRIDE + 1):
        _, state = backward(torch.zeros(1, 1, backward.input_size), state)
        hidden.append(state[0])
        cell.append(state[1])
    ordered = sorted(symbols, key=lambda symbol: (-len(symbol), symbol))
    return ChemNet(
        {symbol: place for place, symbol in enumerate(symbols)},
        re.compile("|".join([*map(re.escape, ordered), "."]), re.DOTALL),
        1 / len(symbols), (layers[1].weight, layers[4].weight), backward, layers[11],
        (torch.cat(hidden)[:, 0], torch.cat(cell)[:, 0]),
    )  # fmt: skip


def _columns(net: ChemNet, smiles: Sequence[str]) -> torch.Tensor:
    """Return one-hot columns (B, V, 4 T), T being enough for the longest and what the convolutions see behind it."""
    unknown = net.tokens["X"]
    rows = [[net.tokens.get(symbol, unknown) for symbol in net.symbols.findall(f"{one}.")] for one in smiles]
    width = STRIDE * ((max(map(len, rows)) + STRIDE - 1) // STRIDE + 1)
    table = torch.zeros(len(rows), len(net.tokens), width)
    for place, row in enumerate(rows):
        table[place, row, torch.arange(len(row))] = net.scale
    return table


@torch.inference_mode()
def _activations(net: ChemNet, smiles: Sequence[str]) -> NDArray[np.float32]:
    """Return the activations of SMILES that need the same number of columns, (B, 512)."""
    x = _columns(net, smiles)
    columns = max(COLUMNS, max(map(len, smiles)) + 1)
    for weight in net.convolutions:
        columns = (columns + 1) // 2
        # One zero to the left, as "same" padding gives; to the right there are only zeros.
        x = nn.functional.selu(nn.functional.conv1d(nn.functional.pad(x, (1, 3)), weight, stride=2))[:, :, :columns]
    x = x.transpose(1, 2)
    count, after = len(smiles), columns - x.shape[1]
    hidden, cell = (states[after].expand(1, count, -1).contiguous() for states in net.pads)
    read, _ = net.backward(x.flip(1), (hidden, cell))
    behind = net.pads[0][1 : after + 1].flip(0).expand(count, -1, -1)
    _, (last, _) = net.forward(torch.cat([read.flip(1), behind], 1))
    activations: NDArray[np.float32] = last[0].numpy()
    return activations


def activations(
    net: ChemNet, smiles: Sequence[str], batch_size: int = BATCH, say: Callable[[int], None] | None = None
) -> NDArray[np.float32]:
    """Return the activations of ``smiles`` in order, (N, 512) float32.

    A SMILES above 349 characters is given its own number of columns; the others' activations do not depend on it.

    Args:
        net: of `take_apart`.
        smiles: canonical.
        batch_size: molecules at once, of similar length.
        say: told how many are done.
    """
    order = sorted(range(len(smiles)), key=lambda row: len(smiles[row]))
    found = np.zeros((len(smiles), net.forward.hidden_size), dtype=np.float32)
    usual = [row for row in order if len(smiles[row]) < COLUMNS]
    parts = [usual[start : start + batch_size] for start in range(0, len(usual), batch_size)]
    parts += [[row] for row in order[len(usual) :]]
    done = 0
    for part in parts:
        found[part] = _activations(net, [smiles[row] for row in part])
        done += len(part)
        if say:
            say(done)
    return found
