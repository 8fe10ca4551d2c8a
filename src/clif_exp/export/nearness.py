"""What an export's README says of a LoRA that stands for whole weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clif_exp.base_models.unet_tuning.exported import Fit

FAR = 0.3  # relative error above which the README and the log warn

_SECTION = """
## How near the LoRA is

Whole weights were trained: `{web_file}`
holds the LoRA of rank {rank} that is nearest to their change. Its relative error,
||dW - BA|| / ||dW|| in the Frobenius norm, is

| over all that changed | in the worst layer | biases and norms, for which a LoRA has no place |
| --- | --- | --- |
| {error:.3f} | {worst} | {left_out:.3f} of the change, lost |
{far}"""
_FAR = """
**It is far from what was trained** (more than {far:.1f}): expect other images than diffusers draws
with this export. A higher `export.lora_rank` comes nearer.
"""


def nearness(fit: Fit, *, web_file: str) -> str:
    """Return the section."""
    worst = f"{fit.worst_error:.3f} in `{fit.worst_layer}`" if fit.worst_layer else "none"
    return _SECTION.format(
        web_file=web_file,
        rank=fit.rank,
        error=fit.error,
        worst=worst,
        left_out=fit.left_out,
        far=_FAR.format(far=FAR) if fit.error > FAR else "",
    )
