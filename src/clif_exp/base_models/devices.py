"""Which GPUs there are, without importing torch where there can be none."""

from __future__ import annotations

import ctypes
import re

_DRIVERS = ("libcuda.so.1", "libamdhip64.so", "nvcuda.dll")  # NVIDIA's, AMD's, on Windows


def count_gpus() -> int:
    """Count the devices that torch calls CUDA; without a driver that takes milliseconds."""
    if not any(map(_loads, _DRIVERS)):
        return 0
    import torch

    return torch.cuda.device_count()


def check_device(device: str | None) -> None:
    """Refuse a command's `--device` that this machine lacks; None is its own choice."""
    if device is None or device == "cpu":
        return
    match = re.fullmatch(r"(cuda|mps|xpu)(?::(\d+))?", device)
    if match is None:
        raise ValueError(f"device: found {device!r}. Use cpu or cuda.")
    if match[1] == "cuda" and (found := count_gpus()) <= int(match[2] or 0):
        raise ValueError(
            f"device: found {device!r}, but torch finds {found} CUDA devices here. Use"
            f" {'cpu' if found == 0 else f'cuda:0 to cuda:{found - 1}'}."
        )


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
