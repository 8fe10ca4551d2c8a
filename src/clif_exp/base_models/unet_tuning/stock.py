"""A U-Net's own weights in the formats that stock diffusers loads."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.base_models.unet_tuning.low_rank import squared_norm

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "unet"
CUSTOM_DIFFUSION_FILE = "pytorch_custom_diffusion_weights.safetensors"
_MODEL = "diffusion_pytorch_model.safetensors"
_PARTS = ("to_k", "to_v")
_OWN = "_custom_diffusion.weight"


@dataclass(frozen=True)
class Stored:
    """Tensors of safetensors files, read one at a time.

    Attributes:
        files: name of a tensor -> the open file that holds it.
    """

    files: Mapping[str, Any]

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor."""
        tensor: Tensor = self.files[name].get_tensor(name)
        return tensor


@contextmanager
def open_stored(files: Sequence[Path]) -> Iterator[Stored]:
    """Open safetensors files."""
    from safetensors import safe_open

    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(str(file), framework="pt")) for file in files]
        yield Stored({name: file for file in opened for name in file.keys()})  # noqa: SIM118  # no dict


def model_files(folder: Path, *, name: str = _MODEL) -> list[Path]:
    """Return the weight files of a model's folder that libraries would load: one, or its shards.

    Args:
        folder: of a model.
        name: of its file; transformers' is "model.safetensors".
    """
    index = folder / f"{name}.index.json"
    if not index.is_file():
        return [folder / name]
    return [
        folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))
    ]


def is_custom_diffusion(trained: Collection[str]) -> bool:
    """Return whether parameters are keys and values of cross-attention, both of every layer."""
    layers = {name: name.rpartition(".attn2.") for name in trained}
    if {rest for _, _, rest in layers.values()} != {f"{part}.weight" for part in _PARTS}:
        return False
    return all(f"{at}.attn2.{p}.weight" in trained for at, _, _ in layers.values() for p in _PARTS)


def write_custom_diffusion(out: Path, *, trained: Stored, base: Stored) -> None:
    """Write keys and values as `load_attn_procs` reads them (Custom Diffusion, Kumari et al. 2023).

    diffusers wants an entry for every attention layer; an empty tensor stands for one that stays.
    """
    import torch

    from clif_exp.base_models.tensor_files import save_tensors

    tensors: dict[str, Tensor] = {}
    for name in base.files:
        layer, found, _ = name.rpartition(".to_q.weight")
        if not found:
            continue
        own = {
            f"{layer}.processor.{part}{_OWN}": _as_stored(f"{layer}.{part}.weight", trained, base)
            for part in _PARTS
            if f"{layer}.{part}.weight" in trained.files
        }
        tensors |= own or {f"{layer}.processor": torch.zeros(0)}
    save_tensors(tensors, out / CUSTOM_DIFFUSION_FILE)


def read_custom_diffusion(file: Path) -> dict[str, Tensor]:
    """Return the keys and values of a Custom Diffusion file under their names in a stock U-Net."""
    from safetensors.torch import load_file

    return {
        name.replace(".processor.", ".").replace(_OWN, ".weight"): value
        for name, value in load_file(str(file)).items()
        if name.endswith(_OWN)
    }


def write_unet(out: Path, *, trained: Stored, base: Stored, config: Path) -> None:
    """Write a whole U-Net as `UNet2DConditionModel.from_pretrained` reads it.

    Args:
        out: folder of the export; the U-Net goes into its `unet/`.
        trained: what differs from the base.
        base: the base model's U-Net.
        config: file of the base's config.
    """
    from safetensors.torch import save_file

    (out / FOLDER).mkdir(exist_ok=True)
    # Its own path means nothing to others, and may tell more than one wants.
    kept = {k: v for k, v in json.loads(config.read_text()).items() if k != "_name_or_path"}
    (out / FOLDER / "config.json").write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    tensors = {
        name: _as_stored(name, trained, base) if name in trained.files else base[name]
        for name in base.files
    }
    save_file(tensors, str(out / FOLDER / _MODEL), metadata={"format": "pt"})


def rounding(*, trained: Stored, base: Stored) -> tuple[str, float]:
    """Return the base's precision, and what it loses of the change: ||rounding||_F / ||dW||_F."""
    lost = total = 0.0
    kinds: set[str] = set()
    for name in trained.files:
        before, after = base[name], trained[name].float()
        kinds.add(str(before.dtype).removeprefix("torch."))
        total += squared_norm(after - before.float())
        lost += squared_norm(after - _as_stored(name, trained, base).float())
    return "/".join(sorted(kinds)), (lost / total) ** 0.5 if total else 0.0


def _as_stored(name: str, trained: Stored, base: Stored) -> Tensor:
    """Return a trained tensor in the precision in which the base stores it."""
    return trained[name].to(base[name].dtype).contiguous()
