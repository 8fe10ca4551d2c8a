"""Which GPUs there are, without importing torch where there can be none."""

from __future__ import annotations

import ctypes

_DRIVERS = ("libcuda.so.1", "libamdhip64.so", "nvcuda.dll")  # NVIDIA's, AMD's, on Windows


def count_gpus() -> int:
    """Count the devices that torch calls CUDA; without a driver that takes milliseconds."""
    if not any(map(_loads, _DRIVERS)):
        return 0
    import torch

    return torch.cuda.device_count()


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
