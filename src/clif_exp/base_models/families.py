"""The families of base models: one record each, which everything that differs between them reads.

A new family is one record here and one YAML in conf/model. Light: nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class TextEncoder:
    """One text encoder of a family.

    Attributes:
        model_class: of transformers.
        tokenizer: the pipeline's name of its tokenizer.
        reads: the hidden layer that the U-Net reads.
        embedding_key: its key in a textual-inversion file; None: the placeholder, as is usual in
            files of one encoder.
        kohya_prefix: of its layers in kohya's LoRA files.
    """

    model_class: str
    tokenizer: str
    reads: Literal["last", "penultimate"]
    embedding_key: str | None
    kohya_prefix: str

    def hidden(self, output: Any) -> Any:
        """Return the layer that the U-Net reads, [B, L, D], from the encoder's output.

        Args:
            output: of a call with `output_hidden_states=encoder.needs_hidden_states`.
        """
        return output.hidden_states[-2] if self.needs_hidden_states else output.last_hidden_state

    @property
    def needs_hidden_states(self) -> bool:
        """Whether the encoder must be called with `output_hidden_states=True`."""
        return self.reads == "penultimate"


@dataclass(frozen=True)
class ToolNames:
    """What other tools call a family's models of one kind of prediction.

    Attributes:
        kohya: `ss_base_model_version` of kohya's tools.
        modelspec: `modelspec.architecture` (github.com/Stability-AI/ModelSpec).
    """

    kohya: str
    modelspec: str


@dataclass(frozen=True)
class Family:
    """Base models that one pipeline class runs and that other tools treat alike.

    Attributes:
        pipeline: class of diffusers.
        encoders: the pipeline's name of a text encoder -> its record.
        names: what the U-Net predicts -> what other tools call such models; the first stands for
            all others.
        kohya_v2: whether kohya's tools call it a Stable Diffusion 2.
        modelspec_implementation: `modelspec.implementation` of its LoRAs.
        pooled: text encoder whose pooled text conditions the U-Net, together with the image's size;
            None: neither does.
        world: whose words its prompts may use besides "generic" ones, and whose reader can read
            its images.
        packaged: the package ships its weights, which an empty `model.path` names.
        options: of the pipeline's `from_pretrained`.
    """

    pipeline: str
    encoders: Mapping[str, TextEncoder]
    names: Mapping[str, ToolNames]
    kohya_v2: bool = False
    modelspec_implementation: str = "diffusers"
    pooled: str | None = None
    world: str = "generic"
    packaged: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def names_for(self, prediction: str) -> ToolNames:
        """Return what other tools call the models that predict this."""
        return self.names.get(prediction) or next(iter(self.names.values()))

    def layers_read(self, encoder: str, *, layers: int) -> int:
        """Return how many layers of a text encoder reach the U-Net.

        The last one reaches it even where the penultimate is read, if it makes the pooled text.

        Args:
            encoder: its name.
            layers: that the pipeline's encoder has.
        """
        reads_all = self.encoders[encoder].reads == "last" or encoder == self.pooled
        return layers if reads_all else layers - 1


_NO_SAFETY_CHECKER = {
    "safety_checker": None,
    "feature_extractor": None,
    "requires_safety_checker": False,
}
_ONE_CLIP = {"text_encoder": TextEncoder("CLIPTextModel", "tokenizer", "last", None, "lora_te")}

FAMILIES: dict[str, Family] = {
    "toonworld": Family(
        "StableDiffusionPipeline",
        _ONE_CLIP,
        names={"v_prediction": ToolNames("toonworld", "toonworld")},
        world="toonworld",
        packaged=True,
        options=_NO_SAFETY_CHECKER,
    ),
    "sd15": Family(
        "StableDiffusionPipeline",
        _ONE_CLIP,
        names={
            "epsilon": ToolNames("sd_v1", "stable-diffusion-v1"),
            "v_prediction": ToolNames("sd_v1_v", "stable-diffusion-v1"),
        },
        options=_NO_SAFETY_CHECKER,
    ),
    # Its U-Net reads the penultimate layer of ViT-H; its pipeline holds one layer less to that end.
    "sd21": Family(
        "StableDiffusionPipeline",
        _ONE_CLIP,
        names={
            "epsilon": ToolNames("sd_v2", "stable-diffusion-v2-512"),
            "v_prediction": ToolNames("sd_v2_v", "stable-diffusion-v2-768-v"),
        },
        kohya_v2=True,
        options=_NO_SAFETY_CHECKER,
    ),
    "sdxl": Family(
        "StableDiffusionXLPipeline",
        {
            "text_encoder": TextEncoder(
                "CLIPTextModel", "tokenizer", "penultimate", "clip_l", "lora_te1"
            ),
            "text_encoder_2": TextEncoder(
                "CLIPTextModelWithProjection", "tokenizer_2", "penultimate", "clip_g", "lora_te2"
            ),
        },
        names={"epsilon": ToolNames("sdxl_base_v1-0", "stable-diffusion-xl-v1-base")},
        modelspec_implementation="https://github.com/Stability-AI/generative-models",
        pooled="text_encoder_2",
    ),
}


def family_named(name: str) -> Family:
    """Return a family's record.

    Raises:
        ValueError: there is none of that name; says which there are.
    """
    if name not in FAMILIES:
        raise ValueError(f"model.family: found {name!r}; known are {', '.join(FAMILIES)}.")
    return FAMILIES[name]


def family_of_pipeline(pipeline: str) -> Family:
    """Return the first family of a pipeline class: they differ in nothing that loading asks for.

    Raises:
        ValueError: no family has that class.
    """
    for family in FAMILIES.values():
        if family.pipeline == pipeline:
            return family
    known = ", ".join(dict.fromkeys(family.pipeline for family in FAMILIES.values()))
    raise ValueError(f"pipeline: found {pipeline!r}; known are {known}.")
