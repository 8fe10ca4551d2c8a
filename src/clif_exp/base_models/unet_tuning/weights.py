"""The U-Net's own weights: all of them (DreamBooth), or whole matrices of some layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from clif_exp.base_models.unet_tuning import stock
from clif_exp.base_models.unet_tuning.exported import Exported
from clif_exp.base_models.unet_tuning.low_rank import nearest_lora
from clif_exp.base_models.unet_tuning.targets import check_targets, is_target

if TYPE_CHECKING:
    from torch import Tensor, nn

    from clif_exp.base_models.unet_tuning.exported import WebLora
    from clif_exp.base_models.unet_tuning.kind import ExportFacts, TextLora

FILE = "unet_weights.safetensors"


@dataclass(frozen=True)
class WeightTuning:
    """Trains weights as they are, without an adapter.

    The base's values of what trains are kept in the host's memory, for `switched_off`.

    Attributes:
        target_modules: endings of the layers' names, e.g. "attn2.to_k" (Custom Diffusion's, Kumari
            et al. 2023); None: every weight (DreamBooth, Ruiz et al. 2023).
    """

    merges_text_lora: ClassVar[bool] = False

    target_modules: tuple[str, ...] | None

    def check(self, layers: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse targets that no layer's name ends in.

        Args:
            layers: name of every linear layer and convolution -> its weight's shape.

        Raises:
            ValueError: names the target.
        """
        check_targets(self.target_modules or (), layers)

    def prepare(self, unet: Any, *, seed: int) -> list[nn.Parameter]:  # noqa: ARG002  # none is new
        """Let weights of a frozen U-Net train, in fp32 whatever the base's precision.

        Args:
            unet: UNet2DConditionModel; changes in place.
            seed: unused: every weight starts at the base's.

        Returns:
            What trains.
        """
        chosen = {
            name: parameter
            for name, parameter in unet.named_parameters()
            if self.target_modules is None
            or is_target(name.rpartition(".")[0], self.target_modules)
        }
        assert chosen, "no layer's name ends in a target, which `check` refuses"
        unet.weights_of_base = {
            name: parameter.detach().to("cpu", copy=True) for name, parameter in chosen.items()
        }
        for parameter in chosen.values():
            # Steps of 1e-6 vanish in half precision.
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        return list(chosen.values())

    @contextmanager
    def switched_off(self, unet: Any) -> Iterator[None]:
        """Hold the base's weights inside, in place of the trained ones."""
        parameters = dict(unet.named_parameters())
        trained = {name: parameters[name].data for name in unet.weights_of_base}
        for name, value in unet.weights_of_base.items():
            parameters[name].data = value.to(trained[name].device, trained[name].dtype)
        try:
            yield
        finally:
            for name, value in trained.items():
                parameters[name].data = value

    def save(
        self,
        unet: Any,
        out: Path,
        *,
        pipeline_class: Any,  # noqa: ARG002  # a U-Net's weights are the same in all
        text_lora: TextLora,  # noqa: ARG002  # has a file of its own
    ) -> None:
        """Write the trained weights, float32, under the names that they have in a stock U-Net."""
        from safetensors.torch import save_file

        trained: dict[str, Tensor] = {
            name: parameter.detach().to("cpu").contiguous()
            for name, parameter in unet.named_parameters()
            if parameter.requires_grad
        }
        save_file(trained, str(out / FILE), metadata={"format": "pt"})

    @classmethod
    def published_in(cls, folder: Path) -> bool:
        """Return whether a folder holds weights that go into a U-Net: a stage's, or an export's.

        An export's whole U-Net does not: it stands in the pipeline's own place from the start.
        """
        return any((folder / name).is_file() for name in (FILE, stock.CUSTOM_DIFFUSION_FILE))

    @classmethod
    def load(cls, pipeline: Any, folder: Path, *, fuse: bool = False) -> None:  # noqa: ARG003
        """Put a folder's weights in place of a stock pipeline's.

        Args:
            pipeline: changes in place.
            folder: of a training stage or an export.
            fuse: unused: nothing is beside the weights.

        Raises:
            ValueError: they are another U-Net's.
        """
        from safetensors.torch import load_file

        if (file := folder / FILE).is_file():
            weights = load_file(str(file))
        else:
            file = folder / stock.CUSTOM_DIFFUSION_FILE
            weights = stock.read_custom_diffusion(file)
        known = pipeline.unet.state_dict()
        for name, value in weights.items():
            if name not in known or known[name].shape != value.shape:
                raise ValueError(
                    f"{file}: {name} {tuple(value.shape)} has no place in this U-Net. It was"
                    " trained on another base model."
                )
        pipeline.unet.load_state_dict(weights, strict=False)

    @classmethod
    def export(cls, folder: Path, out: Path, *, facts: ExportFacts) -> Exported:
        """Write what stock diffusers loads, and return the nearest LoRA for ComfyUI and A1111.

        Keys and values of cross-attention become a Custom Diffusion file, all else a whole U-Net,
        in the precision in which the base model is stored.
        """
        files = stock.model_files(facts.unet)
        with stock.open_stored([folder / FILE]) as trained, stock.open_stored(files) as base:
            changes = ((n, trained[n].float() - base[n].float()) for n in sorted(trained.files))
            lora = nearest_lora(changes, rank=facts.lora_rank)
            notes = _precision(*stock.rounding(trained=trained, base=base))
            if stock.is_custom_diffusion(trained.files):
                stock.write_custom_diffusion(out, trained=trained, base=base)
                return _custom_diffusion(lora, notes=notes)
            config = facts.unet / "config.json"
            stock.write_unet(out, trained=trained, base=base, config=config)
        return Exported(
            files={f"{stock.FOLDER}/": "diffusers: the whole U-Net, in place of the base model's"},
            components={stock.FOLDER: "UNet2DConditionModel"},
            lora=lora,
            notes=notes,
        )


def _precision(kind: str, lost: float) -> tuple[str, ...]:
    if kind == "float32":
        return ()
    return (
        f"For diffusers, what was trained is in {kind}, as the base model's weights are: rounding\n"
        f"changes it by {lost:.2%} (||rounding|| / ||dW||).",
    )


def _custom_diffusion(lora: WebLora, *, notes: tuple[str, ...]) -> Exported:
    name = stock.CUSTOM_DIFFUSION_FILE
    return Exported(
        files={name: "diffusers: cross-attention's keys and values (Custom Diffusion)"},
        code=(
            "# Without _pipeline, diffusers 0.42 reads the file and changes nothing.",
            f'pipe.unet.load_attn_procs(".", weight_name="{name}", _pipeline=pipe)',
        ),
        lora=lora,
        notes=notes,
    )
