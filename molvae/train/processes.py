"""Let the processes of one training find each other and agree.

In: what torchrun says in the environment, or a `Share` made by `molvae.train.launch`. Out: sums over all processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from torch import distributed

from molvae.errors import ConfigError, DeviceError, TrainingError
from molvae.nn.device import choose_device

WAIT = timedelta(hours=1)
"""For the first process while it validates and writes; one that has died is noticed at once."""
STEP_WAIT = timedelta(minutes=2)
"""For the others within a step, on GPUs."""


class LostProcess(TrainingError):
    """Another process of the same training has ended, or cannot be reached."""


@dataclass
class Share:
    """The place of this process among those of one training.

    Attributes:
        rank: from 0; the first one writes, validates and reports.
        count: of processes.
        local_rank, local_count: the same among the processes of this machine.
        address: where they meet, as `torch.distributed.init_process_group` takes it.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    address: str = "env://"
    _group: distributed.ProcessGroup | None = field(default=None, repr=False)

    @staticmethod
    def from_environment() -> Share:
        """Return what torchrun says in RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; without it, the only one.

        Raises:
            ConfigError: when these are not numbers that fit each other.
        """
        count, rank = os.environ.get("WORLD_SIZE", "1"), os.environ.get("RANK", "0")
        local_rank, local_count = os.environ.get("LOCAL_RANK", rank), os.environ.get("LOCAL_WORLD_SIZE", count)
        numbers = (rank, count, local_rank, local_count)
        if not all(value.isdecimal() for value in numbers) or int(rank) >= int(count):
            raise ConfigError(
                f"RANK = {rank} and WORLD_SIZE = {count} are no place among processes.",
                "Start with torchrun, which sets them, or unset both.",
            )
        return Share(int(rank), int(count), int(local_rank), int(local_count))

    @property
    def first(self) -> bool:
        """Whether this process writes, validates and reports."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.count == 1

    def device(self, name: str) -> torch.device:
        """Return the device of this process: that called ``name`` when alone, else a GPU each, or the CPU for all.

        Raises:
            ConfigError: when ``name`` is one device that processes cannot share.
            DeviceError: when the name is unknown, or there are more processes than GPUs.
        """
        if self.alone:
            return choose_device(name)
        check_shareable(name, self.local_count)
        device = choose_device(name)
        return torch.device("cuda", self.local_rank) if device.type == "cuda" else device

    @contextmanager
    def connected(self, device: torch.device) -> Iterator[None]:
        """Reach the other processes, and let go of them at the end of the block; they must enter and leave it too.

        Raises:
            LostProcess: when they cannot be reached.
            ConfigError: when this PyTorch cannot do it.
        """
        if self.alone:
            yield
            return
        if not distributed.is_available():
            raise ConfigError("This PyTorch is built without torch.distributed.", "Use --processes 1.")
        try:
            distributed.init_process_group(
                "gloo", init_method=self.address, rank=self.rank, world_size=self.count, timeout=WAIT
            )
        except (RuntimeError, ValueError) as error:
            raise LostProcess(
                f"The processes of this training cannot reach each other: {str(error).splitlines()[0]}",
                "Check that all of them run, and torchrun's --rdzv-endpoint; then start again with --resume.",
            ) from error
        try:
            if device.type == "cuda":
                torch.cuda.set_device(device)
                self._group = distributed.new_group(backend="nccl", timeout=STEP_WAIT)
            yield
        finally:
            self._group = None
            distributed.destroy_process_group()

    def _reduce(self, values: torch.Tensor, how: distributed.ReduceOp.RedOpType) -> None:
        group = self._group if values.device.type == "cuda" else None
        try:
            distributed.all_reduce(values, op=how, group=group)
        except RuntimeError as error:
            raise LostProcess(
                f"Another process of this training has ended ({str(error).splitlines()[0][:200]}).",
                "What it said tells why; go on from the last checkpoint with --resume.",
            ) from error

    def add_up(self, values: torch.Tensor) -> None:
        """Replace ``values`` of any shape (...) by their sum over all processes; they must all come here."""
        self._reduce(values, distributed.ReduceOp.SUM)

    def agree(self, step: int, signal: int | None, seconds: float) -> tuple[int | None, float]:
        """Return a signal that reached any process, None if none did, and the seconds of the first process.

        Raises:
            LostProcess: when the processes are not at the same step.
        """
        if self.alone:
            return signal, seconds
        said = torch.tensor([step, -step, signal or 0, seconds if self.first else 0.0], dtype=torch.float64)
        self._reduce(said, distributed.ReduceOp.MAX)
        last, first, heard, clock = said.tolist()
        if last != -first:
            raise LostProcess(
                f"The processes of this training are at different steps, {-first:.0f} to {last:.0f}.",
                "Give all of them the same output directory, on a disk that they share.",
            )
        return int(heard) or None, clock

    def rows(self, n: int) -> slice:
        """Return which of ``n`` rows are this process's own; none where there are fewer rows than processes.

        >>> [Share(rank, 3).rows(7) for rank in range(3)]
        [slice(0, 2, None), slice(2, 4, None), slice(4, 7, None)]
        """
        return slice(self.rank * n // self.count, (self.rank + 1) * n // self.count)

    def gather(self, own: torch.Tensor, n: int, dim: int) -> torch.Tensor:
        """Return the rows of all processes along ``dim``, which has size ``n`` = B; gradients reach the ``own`` only.

        Args:
            own: (..., b, ...), the rows `rows` of B.

        Returns:
            (..., B, ...)
        """
        rows = self.rows(n)
        size = [*own.shape]
        size[dim] = n
        with torch.no_grad():
            every = own.new_zeros(size)
            every.narrow(dim, rows.start, own.shape[dim]).copy_(own)
            self.add_up(every)
        before, after = every.narrow(dim, 0, rows.start), every.narrow(dim, rows.stop, n - rows.stop)
        return torch.cat([before, own, after], dim=dim)


ALONE = Share()


def check_shareable(name: str, count: int) -> None:
    """Refuse a device that ``count`` processes of one machine cannot share.

    Raises:
        ConfigError: for a single GPU, and for mps.
        DeviceError: when there are fewer GPUs than processes.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"--device {name} is one device, and {count} processes need one each.",
            "Use --device auto, cuda or cpu; CUDA_VISIBLE_DEVICES chooses among GPUs.",
        )
    found = torch.cuda.device_count() if name != "cpu" and torch.cuda.is_available() else 0
    if found and found < count:
        raise DeviceError(
            f"{count} processes were asked for, and this machine has {found} CUDA devices.",
            f"Use --processes {found} or auto, or --device cpu.",
        )
