"""What is said when memory runs out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch


@contextlib.contextmanager
def explain_out_of_memory(where: Callable[[], str], *, lower: str) -> Iterator[None]:
    """Say at which point memory ran out, and what to lower.

    Args:
        where: names the point.
        lower: the settings that need less when they are lower.

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
            f"Out of memory at {where()}. Lower {lower}. The last good checkpoint stays."
        ) from error
