"""One LoRA on the U-Net, shared by all concepts, in the file that stock pipelines load."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from clif_exp.base_models.unet_tuning.exported import Exported, WebLora
from clif_exp.base_models.unet_tuning.kind import ExportFacts, TextLora
from clif_exp.base_models.unet_tuning.orthogonal import check_room, disjoint_rows
from clif_exp.base_models.unet_tuning.targets import check_targets

if TYPE_CHECKING:
    from torch import Tensor, nn

FILE = "pytorch_lora_weights.safetensors"


@dataclass(frozen=True)
class LoraTuning:
    """A LoRA on some of the U-Net's linear layers (Hu et al. 2022) and convolutions.

    A convolution's is one of its kernel, then one of 1 x 1 (LoCon; Yeh et al. 2023, section 3.2).

    Attributes:
        rank: of the update.
        alpha: the update is scaled by alpha / rank.
        target_modules: endings of the layers' names, e.g. "to_k".
        basis: index of the concept that trains alone; its lower matrices are frozen at directions
            that no other concept's has (`orthogonal`). None: they train.
    """

    merges_text_lora: ClassVar[bool] = True

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    basis: int | None = None

    def check(self, layers: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse targets that no layer's name ends in, and a rank beyond the narrowest of them.

        With the last concept's `basis`, it also refuses convolutions, and more concepts than have
        room.

        Args:
            layers: name of every linear layer and convolution -> its weight's shape.

        Raises:
            ValueError: names the target or the layer.
        """
        found = check_targets(self.target_modules, layers)
        width, name = min((min(shape[:2]), name) for name, shape in found.items())
        if self.rank > width:
            raise ValueError(
                f"diffusion.rank: found {self.rank}, but {name} is {width} wide. Choose a rank"
                f" of at most {width}."
            )
        if self.basis is not None:
            for name, shape in found.items():
                if len(shape) > 2:
                    raise ValueError(
                        f"diffusion.target_modules: {name} is a convolution, which has no basis of"
                        " its own with diffusion.orthogonal_lora=true. Choose linear layers."
                    )
            inputs, name = min((shape[1], name) for name, shape in found.items())
            check_room(name, width=inputs, rank=self.rank, concepts=self.basis + 1)

    def prepare(self, unet: Any, *, seed: int) -> list[nn.Parameter]:
        """Add a trainable LoRA to a frozen U-Net, in fp32 whatever the base's precision.

        Args:
            unet: UNet2DConditionModel; changes in place.
            seed: of the initial weights, and of the basis that concepts share.

        Returns:
            The LoRA's weights that train.

        Raises:
            ValueError: no layer's name ends in a target, or the rank is beyond a layer's width.
        """
        import torch
        from diffusers.training_utils import cast_training_params
        from peft import LoraConfig

        self.check(
            {
                name: tuple(module.weight.shape)
                for name, module in unet.named_modules()
                if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
            }
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = LoraConfig(
                r=self.rank,
                lora_alpha=self.alpha,  # type: ignore[arg-type]  # peft takes floats
                init_lora_weights="gaussian",
                target_modules=list(self.target_modules),
            )
            unet.add_adapter(config)
        cast_training_params(unet, dtype=torch.float32)
        if self.basis is not None:
            unet.frozen_lora = self._freeze_lower(unet, seed=seed)
        return [parameter for parameter in unet.parameters() if parameter.requires_grad]

    def _freeze_lower(self, unet: Any, *, seed: int) -> dict[str, Tensor]:
        """Freeze the lower matrices; return them by their names in the file, on the CPU."""
        frozen: dict[str, Tensor] = {}
        for name, module in unet.named_modules():
            if not hasattr(module, "lora_A"):
                continue
            weight = module.lora_A["default"].weight
            assert self.basis is not None
            frozen[f"{name}.lora_A.weight"] = disjoint_rows(
                name, width=weight.shape[1], rank=self.rank, concept=self.basis, seed=seed
            )
            weight.data.copy_(frozen[f"{name}.lora_A.weight"])
            weight.requires_grad_(False)
        return frozen

    @contextmanager
    def switched_off(self, unet: Any) -> Iterator[None]:
        """Leave the LoRA out inside, whose weights do not train there."""
        training = {name for name, weight in unet.named_parameters() if weight.requires_grad}
        unet.disable_adapters()
        try:
            yield
        finally:
            unet.enable_adapters()  # lets all of the adapter's weights train, frozen ones too
            for name, weight in unet.named_parameters():
                weight.requires_grad_(name in training)

    def save(self, unet: Any, out: Path, *, pipeline_class: Any, text_lora: TextLora) -> None:
        """Write the LoRA, and that of the text encoders into the same file (`save_lora`)."""
        save_lora(unet, out, pipeline_class=pipeline_class, text_lora=text_lora)

    @classmethod
    def published_in(cls, folder: Path) -> bool:
        """Return whether a folder holds a LoRA, of the U-Net or of text encoders only."""
        return (folder / FILE).is_file()

    @classmethod
    def load(cls, pipeline: Any, folder: Path, *, fuse: bool = False) -> None:
        """Load a folder's LoRA into a stock pipeline.

        Args:
            pipeline: changes in place.
            folder: of a training stage or an export.
            fuse: add the update to the weights: one matrix product per layer instead of three.
        """
        from diffusers.utils import logging

        previous = logging.get_verbosity()
        # It warns of every part that the LoRA leaves alone.
        logging.set_verbosity_error()
        try:
            pipeline.load_lora_weights(folder, weight_name=FILE)
        finally:
            logging.set_verbosity(previous)
        if fuse:
            pipeline.fuse_lora()
            pipeline.unload_lora_weights()

    @classmethod
    def export(cls, folder: Path, out: Path, *, facts: ExportFacts) -> Exported:  # noqa: ARG003
        """Write the LoRA for diffusers, and return it for ComfyUI, A1111, Forge and kohya's tools.

        diffusers before 0.35 does not know the alpha of its own file and takes the rank for it; so
        alpha / rank is multiplied into the weights there. kohya's naming has a place for it.
        """
        from clif_exp.base_models.tensor_files import save_tensors

        tensors, metadata = read_lora(folder / FILE)
        models = sorted({key.split(".")[0] for key in tensors})
        ranks = {model: int(metadata[f"{model}.r"]) for model in models}
        alphas = {model: float(metadata[f"{model}.lora_alpha"]) for model in models}
        own = {
            f"{model}.{key}": value
            for model in models
            for key, value in {
                "lora_alpha": ranks[model],
                "peft_type": "LORA",
                "r": ranks[model],
                "target_modules": metadata[f"{model}.target_modules"],
            }.items()
        }
        save_tensors(
            _with_alpha_of_rank(tensors, ranks=ranks, alphas=alphas),
            out / FILE,
            metadata={"lora_adapter_metadata": json.dumps(own, sort_keys=True)},
        )
        return Exported(
            files={FILE: "diffusers only; ComfyUI would load a part of it, Forge refuses it"},
            code=(f'pipe.load_lora_weights(".", weight_name="{FILE}")',),
            lora=WebLora(tensors, ranks=ranks, alphas=alphas),
        )


def _with_alpha_of_rank(
    lora: Mapping[str, Tensor], *, ranks: Mapping[str, int], alphas: Mapping[str, float]
) -> dict[str, Tensor]:
    """Return an equal LoRA whose alpha is its rank: its upper matrices take alpha / rank in."""
    scales = {model: alphas[model] / rank for model, rank in ranks.items()}
    return {
        key: value * scales[key.split(".")[0]] if key.endswith(".lora_B.weight") else value
        for key, value in lora.items()
    }


def save_lora(unet: Any, out: Path, *, pipeline_class: Any, text_lora: TextLora) -> None:
    """Write LoRAs as stock pipelines load them, with their alpha in the metadata.

    Args:
        unet: with an adapter, or None for the text encoders' alone.
        out: folder.
        pipeline_class: the stock pipeline that will load it.
        text_lora: of stage 1; empty for none.
    """
    from peft.utils import get_peft_model_state_dict

    layers: dict[str, Any] = {}
    if unet is not None:
        metadata = unet.peft_config["default"].to_dict()
        # The order of a set differs between processes; equal weights shall be equal files.
        metadata = {
            key: sorted(value) if isinstance(value, set) else value
            for key, value in metadata.items()
        }
        # What does not train may be held in half precision meanwhile.
        frozen: dict[str, Tensor] = getattr(unet, "frozen_lora", {})
        layers |= {
            "unet_lora_layers": get_peft_model_state_dict(unet) | frozen,
            "unet_lora_adapter_metadata": metadata,
        }
    for encoder, (state, settings) in text_lora.items():
        layers |= {
            f"{encoder}_lora_layers": dict(state),
            f"{encoder}_lora_adapter_metadata": dict(settings),
        }
    pipeline_class.save_lora_weights(out, **layers)


def read_lora(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a diffusers LoRA file: its tensors, and its metadata (``unet.r``, ``unet.lora_alpha``).

    Raises:
        ValueError: the metadata lack an alpha.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(str(file), framework="pt") as opened:
        metadata = json.loads((opened.metadata() or {}).get("lora_adapter_metadata", "{}"))
    tensors = load_file(str(file))
    for model in dict.fromkeys(key.split(".")[0] for key in tensors):
        if f"{model}.lora_alpha" not in metadata:
            raise ValueError(
                f"{file}: has no adapter metadata of {model}, so its alpha is not known. Train it"
                " again or add the metadata."
            )
    return tensors, metadata
