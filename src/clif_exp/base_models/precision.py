"""Which floating-point format is fastest on a device.

Where bf16 is only emulated it is up to 70 times slower than fp32.
"""

from __future__ import annotations

import contextlib

import torch


def cpu_multiplies_bf16() -> bool:
    """Return whether this CPU multiplies bf16 in hardware (AVX-512 BF16 or AMX)."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def best_precision(device: str) -> str:
    """Return Lightning's name of the fastest format that trains on a device.

    Args:
        device: "cuda" or "cpu".

    Returns:
        "bf16-mixed", "16-mixed" or "32-true".
    """
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    return "bf16-mixed" if cpu_multiplies_bf16() else "32-true"


def cpu_autocast(*, enabled: bool = True) -> contextlib.AbstractContextManager:
    """Return bf16 autocast on CPUs that multiply bf16 in hardware, else a null context."""
    return (
        torch.autocast("cpu", dtype=torch.bfloat16)
        if enabled and cpu_multiplies_bf16()
        else contextlib.nullcontext()
    )
