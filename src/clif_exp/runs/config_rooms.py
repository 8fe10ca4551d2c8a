"""What each room's settings may be; see `clif_exp.runs.config`.

A key without a default is one that every choice of its group states; the others belong to some
choices only, and the room's own defaults hold where they are left out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """No unknown keys, no silent conversions (1 for 1.0 is none)."""

    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0)]
AboveZero = Annotated[float, Field(gt=0)]
Range = Annotated[list[Share], Field(min_length=2, max_length=2)]
Name = Annotated[str, Field(min_length=1)]


class Model(Strict):
    family: Literal["toonworld", "sd15", "sd21", "sdxl"]
    path: str | None
    revision: str | None
    contrastive: dict[Literal["text_encoder", "text_encoder_2"], str]
    resolution: Annotated[int, Field(ge=32, multiple_of=8)]
    segmenter_checkpoint: str | None
    domain: Name | None


# --- curation ---


class SamSettings(Strict):
    checkpoint: str | None = None
    model_type: Literal["vit_b", "vit_l", "vit_h"] | None = None
    sha256: str | None = None
    points_per_side: Positive = 16
    points_per_batch: Positive | None = None
    images_per_batch: Positive = 8
    iou_threshold: Share = 0.8
    stability_threshold: Share = 0.9
    stability_offset: AboveZero = 1.0
    nms_threshold: Share = 0.7
    mixed_precision: bool = False


class RegionSettings(Strict):
    scales: Annotated[list[AboveZero], Field(min_length=1)] = [60, 150, 400]
    sigma: NotNegative = 0.6
    min_size: Share = 0.002
    rounds: Count = 4
    smoothness: NotNegative = 3.0
    centrality: NotNegative = 4.0


class Choose(Strict):
    weights: dict[str, float] = {}
    min_area: Share = 0.01
    max_area: Share = 0.9
    max_border: Share = 0.5


class OverSegmentation(Strict):
    inside: Share = 0.85
    min_area: Share = 0.02
    max_area: Share = 0.8
    nms: Share = 0.7
    max_parts: Count = 16


class Segmenter(Strict):
    name: Literal["sam", "provided", "felzenszwalb"]
    target: str | None
    settings: dict[str, Any]
    choose: Choose
    over_segmentation: OverSegmentation
    fallback: bool


class ProvidedSettings(Strict):
    default_parts: list[Name] = []


class OpenAISettings(Strict):
    model: str | None = None
    base_url: str | None = None
    timeout: AboveZero = 60.0
    max_retries: Count = 3
    max_parts: Positive = 6
    cache: str | None = None
    prompt: Name = "?"


class VlmSettings(Strict):
    model: Name
    revision: str | None = None
    max_parts: Positive = 6
    max_new_tokens: Positive = 120
    prompt: Name = "?"


class Naming(Strict):
    enabled: bool = True
    threshold: Share
    template: Name
    others: list[Name] = []


class Captioner(Strict):
    name: Literal["provided", "openai", "vlm"]
    settings: dict[str, Any]
    naming: Naming


def settings_model(group: str, choice: str) -> type[Strict]:
    """What the `settings` of a segmenter or captioner may hold, by its name."""
    if group == "segmenter":
        return SamSettings if choice == "sam" else RegionSettings
    captioners: dict[str, type[Strict]] = {
        "provided": ProvidedSettings,
        "openai": OpenAISettings,
        "vlm": VlmSettings,
    }
    return captioners[choice]


class Screen(Strict):
    min_area: Share = 0.04
    max_area: Share = 0.85
    max_border: Share = 0.1
    max_rest: Share = 0.15
    max_rank: Positive = 3
    keep_best: bool = False


class Contexts(Strict):
    names: list[Name]
    part_names: list[Name]
    images_per_name: Positive
    oversampling: Annotated[float, Field(ge=1)]
    num_inference_steps: Positive
    guidance_scale: NotNegative
    batch_size: Positive
    seed: Count
    template: Annotated[str, Field(pattern=r"\{name\}")]
    backgrounds: list[Name]
    background_template: Annotated[str, Field(pattern=r"\{name\}")]
    screen: Screen


class Pairs(Strict):
    num_pairs: Count
    templates: Annotated[
        list[Annotated[str, Field(pattern=r"\{left\}.*\{right\}|\{right\}.*\{left\}")]],
        Field(min_length=1),
    ]
    row_template: Annotated[str, Field(pattern=r"\{row\}")] = "{row}"
    scale: Range
    margin: Annotated[float, Field(ge=0, le=0.2)]
    vertical: Range
    max_overlap: Annotated[float, Field(ge=0, le=0.5)]
    flip: Share
    canvas: Literal["white", "generated"]
    name_background: bool = False
    resolution: Positive
    figures: dict[Annotated[int, Field(ge=2, le=6)], NotNegative] = {2: 1.0}
    group_size: Positive = 4


class Augmentation(Strict):
    seed: Count
    canvas: Literal["white", "generated"]
    contexts: Contexts
    global_: Pairs = Field(alias="global")
    region: Pairs
    mix: Pairs


# --- training ---


class TextLora(Strict):
    rank: Positive
    alpha: AboveZero
    target_modules: Annotated[
        list[Literal["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]], Field(min_length=1)
    ]


class Reconstruction(Strict):
    steps: Positive
    batch_size: Positive
    learning_rate: AboveZero
    weight_decay: NotNegative
    accumulate: Positive = 1


class Contrastive(Strict):
    num_tokens: Annotated[int, Field(ge=1, le=16)]
    encoders: Annotated[list[Literal["text_encoder", "text_encoder_2"]], Field(min_length=1)] | None
    steps: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: AboveZero
    weight_decay: NotNegative
    warmup_steps: Count
    schedule: Literal["constant", "cosine"]
    gradient_clip: AboveZero | None
    pooling: dict[Literal["G", "R"], Literal["eos", "concept"]]
    identical_parts: Annotated[float, Field(ge=-1, le=1)]
    scale: Literal["frozen", "learned"]
    max_scale: AboveZero
    norm_weight: NotNegative
    text_encoder: Literal["frozen", "lora", "full"]
    text_encoder_learning_rate: AboveZero
    lora: TextLora
    reconstruction: Reconstruction | None
    control: Literal["random_rows"] | None


class Samples(Strict):
    every: Count
    num_inference_steps: Positive
    guidance_scale: NotNegative
    batch_size: Positive = 8


class Validation(Strict):
    every: Positive
    images: Positive
    timesteps: Positive


class Diffusion(Strict):
    num_tokens: Annotated[int, Field(ge=1, le=16)]
    rank: Count
    alpha: AboveZero
    target_modules: Annotated[list[Name], Field(min_length=1)]
    train_embeddings: bool
    steps: Positive
    batch_size: Positive
    learning_rate: AboveZero
    embedding_learning_rate: AboveZero
    weight_decay: NotNegative
    warmup_steps: Count
    schedule: Literal["constant", "cosine"]
    gradient_clip: AboveZero | None
    pair_weight: Share
    caption_dropout: Annotated[float, Field(ge=0, lt=1)]
    flip: bool
    masked_loss: bool
    background_weight: Share
    min_snr_gamma: AboveZero | None
    offset_noise: NotNegative
    noise_bias: Annotated[float, Field(ge=1, le=4)]
    prior_weight: Annotated[float, Field(ge=0, lt=1)]
    prior_images: Positive
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    gradient_checkpointing: bool
    accumulate: Positive
    optimizer: Literal["adamw", "adamw8bit"]
    attention: Literal["auto", "sdpa", "plain"]
    compile: bool
    validation: Validation | None
    samples: Samples | None


class Method(Strict):
    name: Name
    contrastive: bool


# --- judging ---


class Prompts(Strict):
    world: Literal["toonworld", "generic"]
    split: Literal["tuning", "reporting"]
    single_per_concept: Count
    pairs: Count | None
    per_pair: dict[Literal["side", "free", "interaction", "context"], Count]
    prior: Count
    seed: Count


class Generation(Strict):
    prompts: Prompts
    seeds: Annotated[list[Count], Field(min_length=1)]
    num_inference_steps: Positive
    guidance_scale: Annotated[float, Field(ge=1)]
    batch_size: Positive
    mixed_precision: bool


class Judge(Strict):
    path: str | None
    revision: str | None = None
    image_path: str | None = None
    image_revision: str | None = None


class Reader(Strict):
    kind: Literal["oracle", "open_vocabulary", "none"]
    path: str | None = None
    min_score: Share = 0.0
    queries: Annotated[list[Name], Field(min_length=1)] = ["?"]
    detector: Name = "?"
    features: Name = "?"
    leak_margin: Share = 0.05


class Evaluation(Strict):
    judge: Judge
    reader: Reader
    presence_threshold: Share
    identity_threshold: Share
    batch_size: Positive
