"""What a user is told when memory runs out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch


@contextlib.contextmanager
def explain_out_of_memory(where: Callable[[], str], *, hint: str) -> Iterator[None]:
    """Turn an out-of-memory error into one that says where it happened and what to lower.

    Args:
        where: names the point.
        hint: the settings to lower.

    Raises:
        ValueError: in place of what the allocators of CUDA and of the CPU raise; other errors pass.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch's CPU allocator has no error class of its own.
        if not isinstance(
            error, MemoryError | torch.OutOfMemoryError
        ) and "can't allocate memory" not in str(error):
            raise
        raise ValueError(
            f"Out of memory at {where()}. Lower {hint}. The last good checkpoint stays."
        ) from error
