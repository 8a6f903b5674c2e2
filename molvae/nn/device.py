"""Choose where tensors live and in which precision.

In: the user's word (auto, cpu, cuda, cuda:1, mps). Out: a `torch.device` that exists; whether bfloat16 pays there.
"""

from __future__ import annotations

from pathlib import Path

import torch

from molvae.errors import DeviceError


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called ``name``; auto takes a GPU when there is one.

    Raises:
        DeviceError: when the name is unknown or the device is not there.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"There is no kind of device {name!r}.", "Choose auto, cpu, cuda or cuda:0.") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise DeviceError(f"{name} was asked for, and this machine has {count} CUDA devices.", "Use --device auto.")
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("mps was asked for, and this machine has none.", "Use --device auto.")
    elif device.type != "cpu":
        raise DeviceError(f"molvae does not run on {name!r}.", "Choose auto, cpu, cuda or cuda:0.")
    return device


def bfloat16_pays(device: torch.device) -> bool:
    """Tell whether ``device`` multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(errors="replace") if device.type == "cpu" and cpuinfo.exists() else ""
    return "avx512_bf16" in text or "amx_bf16" in text
