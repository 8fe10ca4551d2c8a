"""Settings of curation: captioners, general concepts and the three augmentations."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from clif_exp.settings import (
    INDIRECT,
    SPEED,
    Amount,
    Count,
    DenoisingSteps,
    NotNegative,
    Positive,
    Range,
    Share,
    StageSettings,
    Strict,
    Word,
)

Kind = Literal["G", "R", "M"]
Arrangement = Literal["side", "behind", "hugging", "above"]


class ProvidedSettings(Strict):
    """Parts as concepts.yaml lists them.

    Attributes:
        default_parts: tried on concepts that list none.
    """

    default_parts: list[Word]


class OpenAISettings(Strict):
    """Parts from an OpenAI-compatible server.

    Attributes:
        model: the server's name of a model that reads images; in the YAML OPENAI_MODEL's.
        base_url: the server; None: OPENAI_BASE_URL.
        timeout: seconds per attempt, from connecting to the last byte; at most an hour.
        max_retries: on time-outs, rate limits and server errors, with back-off.
        max_parts: how many parts to ask for.
        cache: folder that keeps answers by content; None keeps none.
        prompt: the question, with {class_word} and {max_parts}.
    """

    model: str | None
    base_url: str | None
    timeout: Annotated[float, Field(gt=0, le=3600), SPEED]
    max_retries: Annotated[int, Field(ge=0), SPEED]
    max_parts: Positive
    cache: Annotated[str | None, SPEED]
    prompt: Annotated[str, Field(pattern=r"\{class_word\}")]


class VlmSettings(Strict):
    """Parts from a vision-language model on this machine.

    Attributes:
        model: folder or hub id.
        revision: commit of a hub id.
        max_parts: how many parts to ask for.
        max_new_tokens: length of the answer.
        prompt: the question, with {class_word} and {max_parts}.
    """

    model: Word
    revision: str | None
    max_parts: Positive
    max_new_tokens: Positive
    prompt: Annotated[str, Field(pattern=r"\{class_word\}")]


CAPTIONERS: dict[str, type[Strict]] = {
    "provided": ProvidedSettings,
    "openai": OpenAISettings,
    "vlm": VlmSettings,
}
"""Name of a captioner -> what its `settings` may hold."""


class NamingSettings(Strict):
    """How parts get their names; see `parts.name_parts`, which takes all of this.

    Attributes:
        enabled: False leaves all parts unnamed.
        threshold: smallest probability of a name, over all names and the whole.
        template: caption of a name, with {name}.
        others: what else a region may show: takes regions, never given as a name.
    """

    enabled: bool
    threshold: Share
    template: Annotated[str, Field(pattern=r"\{name\}")]
    others: list[Word]


class CaptionerSettings(Strict):
    """conf/captioner.

    Attributes:
        name: which of CAPTIONERS.
        settings: the captioner's own settings.
        naming: how names are matched to parts.
    """

    name: Literal["provided", "openai", "vlm"]
    settings: Any
    naming: NamingSettings

    def own(self) -> dict[str, Any]:
        """Return the captioner's own settings as keyword arguments, checked."""
        return dict(CAPTIONERS[self.name].model_validate(self.settings))


class ScreenSettings(Strict):
    """What a generated cut-out must fulfil.

    Attributes:
        min_area: smallest share of the image.
        max_area: largest share of the image.
        max_border: share of the image's border it may touch; more means that it is cut off.
        max_rest: largest other thing on a plain background, as a share of the cut-out; more means a
            second object.
        max_rank: its own name must be among this many best ones of all names, by CLIP.
        keep_best: keep the best image of a name even if none passes (for weak models).
    """

    min_area: Share
    max_area: Share
    max_border: Share
    max_rest: Share
    max_rank: Positive
    keep_best: bool


class ContextSettings(StageSettings):
    """General concepts and parts that the base model draws (CLIF, section 4.1).

    Attributes:
        names: general concepts, such as "policeman".
        part_names: general parts, such as "denim jacket".
        images_per_name: cut-outs to keep per name.
        oversampling: images sampled per cut-out to keep; the screen takes the best.
        num_inference_steps: of the diffusion model.
        guidance_scale: of the diffusion model.
        batch_size: images sampled at once.
        seed: of sampling; not the run's, so that a sweep's jobs share their general concepts.
        template: prompt, with {name} (which brings its article).
        backgrounds: places as captions say them ("on the beach"), for background_share.
        background_template: their prompt, with {name}.
        screen: what a cut-out must fulfil.
    """

    VERSION: ClassVar[int] = 5

    names: list[Word]
    part_names: list[Word]
    images_per_name: Annotated[Amount, Field(ge=1)]
    oversampling: Annotated[float, Field(ge=1)]
    num_inference_steps: DenoisingSteps
    guidance_scale: NotNegative
    batch_size: Annotated[int, Field(ge=1), SPEED]
    seed: Count
    template: Annotated[str, Field(pattern=r"\{name\}")]
    backgrounds: list[Word]
    background_template: Annotated[str, Field(pattern=r"\{name\}")]
    screen: ScreenSettings


class PairSettings(StageSettings):
    """One kind of augmentation: how many pairs, and their layout.

    Attributes:
        num_pairs: images to compose; 0 leaves this augmentation out.
        templates: captions with {left} and {right}.
        scale: smallest and largest size, of the largest that fits.
        margin: free border, share of the side.
        vertical: highest and lowest place; 0 is the top, 1 the bottom.
        max_overlap: share of a figure's width that may be covered.
        flip: probability of mirroring a figure.
        background_share: share of images (G and R: of groups) on backgrounds that the base model
            draws; the others are white.
        name_background: say the place in the caption, as contexts.backgrounds words it.
        resolution: side of the images in px.
        group_size: concepts that share a context, its side and all sizes, so that nothing can be
            read off the context.
    """

    VERSION: ClassVar[int] = 4

    num_pairs: Amount
    templates: Annotated[
        list[Annotated[str, Field(pattern=r"\{left\}.*\{right\}|\{right\}.*\{left\}")]],
        Field(min_length=1),
    ]
    scale: Range
    margin: Annotated[float, Field(ge=0, le=0.2)]
    vertical: Range
    max_overlap: Annotated[float, Field(ge=0, le=0.5)]
    flip: Share
    background_share: Share
    name_background: bool
    resolution: Annotated[int, Field(ge=1, le=8192)]
    group_size: Positive

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in ("scale", "vertical"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: found [{low}, {high}]; write the smaller number first")
        if self.scale[0] == 0:
            raise ValueError(f"scale: found {self.scale}; figures need a size above 0")
        return self


class ContrastSettings(PairSettings):
    """G- and R-Aug: what the concepts are contrasted with, besides a pair's layout.

    Attributes:
        strangers: general concepts (R: general parts) per group that stand in the concept's place,
            counted by `num_pairs`. Without them a concept is told apart from the other concepts
            only, and nothing asks for what it shares with none or with all of them.
    """

    strangers: Amount


class MixSettings(PairSettings):
    """M-Aug: how many concepts an image shows and how they are arranged, besides a pair's layout.

    G and R show two things side by side: the contrast of their captions rests on the sides.

    Attributes:
        figures: number of figures -> its share; a pair to which no seen concept can be added stays
            a pair.
        row_template: caption of three and more figures, with {row}.
        arrangements: arrangement of two concepts -> its share; more of them stand in a row.
        arrangement_templates: arrangement but for "side" -> captions with {first} and {second}.
        min_visible: smallest share of a figure that stays visible where another one covers it.
    """

    VERSION: ClassVar[int] = 5

    figures: dict[Annotated[int, Field(ge=2, le=6)], NotNegative]
    row_template: Annotated[str, Field(pattern=r"\{row\}")]
    arrangements: dict[Arrangement, NotNegative]
    arrangement_templates: dict[
        Literal["behind", "hugging", "above"],
        list[Annotated[str, Field(pattern=r"\{first\}.*\{second\}|\{second\}.*\{first\}")]],
    ]
    min_visible: Annotated[float, Field(ge=0, le=0.9)]

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if not sum(self.figures.values()):
            raise ValueError(
                f"figures: found {self.figures}; give a number of figures a share above 0"
            )
        if not sum(self.arrangements.values()):
            raise ValueError(
                f"arrangements: found {self.arrangements}; give an arrangement a share above 0"
            )
        for name, share in self.arrangements.items():
            if share and name != "side" and not self.arrangement_templates.get(name):
                raise ValueError(
                    f"arrangements.{name}: found {share} without a caption; give one in"
                    f" arrangement_templates.{name}"
                )
        return self


class AugmentationSettings(Strict):
    """conf/augmentation.

    Attributes:
        seed: of all random choices here; not the run's, so that a sweep's jobs share their images.
        background_share: what the three kinds' `background_share` refers to.
        contexts: general concepts.
        global_: a concept next to a general concept (G-Aug).
        region: a concept's part next to a general part (R-Aug).
        mix: two or more concepts (M-Aug).
    """

    seed: Count
    background_share: Annotated[Share, INDIRECT]
    contexts: ContextSettings
    global_: ContrastSettings = Field(alias="global")
    region: ContrastSettings
    mix: MixSettings

    def of(self, kind: Kind) -> PairSettings:
        """Return the settings of one kind of augmentation."""
        return {"G": self.global_, "R": self.region, "M": self.mix}[kind]

    @model_validator(mode="after")
    def _backgrounds(self) -> Self:
        for kind, field in FIELDS.items():
            pairs = self.of(kind)
            if pairs.background_share and pairs.num_pairs and not self.contexts.backgrounds:
                raise ValueError(
                    f"{field}.background_share: found {pairs.background_share} without"
                    " augmentation.contexts.backgrounds; give some places there"
                )
        return self


FIELDS: dict[Kind, str] = {"G": "global", "R": "region", "M": "mix"}
"""Kind of augmentation -> its name in conf/augmentation."""
