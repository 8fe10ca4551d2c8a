"""Settings of stage 2, conf/diffusion."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from clif_exp.base_models.text_tuning import TextTuning
from clif_exp.base_models.tokens import InitialWords, NewTokens
from clif_exp.base_models.unet_tuning.kind import UNetTuning
from clif_exp.base_models.unet_tuning.lora import LoraTuning
from clif_exp.base_models.unet_tuning.weights import WeightTuning
from clif_exp.diffusion.nested_settings import (
    PriorSettings,
    SampleSettings,
    ScaleSettings,
    TextLoraSettings,
    ValidationSettings,
)
from clif_exp.settings import (
    INDIRECT,
    SPEED,
    AboveZero,
    BatchSize,
    Count,
    NotNegative,
    Positive,
    Share,
    StageSettings,
    Word,
)
from clif_exp.training.schedule import Schedule


class DiffusionSettings(StageSettings):
    """All concepts together, from single images and M pairs (CLIF, section 4.3, Eq. 4).

    Attributes:
        num_tokens: tokens per concept that may train, where no stage 1 has added them.
        initial_words: what these start from: the class word; a rare word of the vocabulary, another
            one for each concept (DreamBooth, Custom Diffusion); or noise, and the last one from the
            class word (Mix-of-Show).
        class_word: the class word's own tokens follow them and stay as they are: "<new1> cat".
        layerwise: each cross-attention layer of the U-Net has embeddings of its own (P+).
        unet: what trains in the U-Net: a LoRA, its own weights, or nothing (textual inversion, with
            `train_embeddings`).
        rank: of the LoRA.
        alpha: the LoRA's update is scaled by alpha / rank.
        target_modules: endings of the layers that train or get a LoRA; None, with unet=weights: all
            weights.
        orthogonal_lora: a concept that is customised apart gets a LoRA that reads directions of its
            own, which no other concept's reads and which do not train (Orthogonal Adaptation).
        orthogonal_start: index of the first concept's directions, the others' follow; concepts of
            several runs with one seed and rank share none if none of them has another's index.
        detach_start_of_text: no gradient through keys and values of the beginning of text (Custom
            Diffusion's released code), where every prompt looks.
        train_embeddings: train the concept embeddings too; the text encoder stays frozen either
            way.
        embedding_norm_limit: they stop where their mean norm is this many times that at the start
            (Mix-of-Show's released code: at 0.55, 1.5 times that of SD 1.5); None: they go on.
        text_lora: trains in the text encoders, together with the concept embeddings; None: nothing.
        attention_regularisation: weight of what a concept's tokens attend to outside of its mask
            (Mix-of-Show); 0: none.
        stated_steps: "steps" in the YAML, optimiser steps; None: as many as `images_per_concept`
            makes.
        images_per_concept: images of all batches together, for each of the concepts that train
            together; None: `steps` says how long training is.
        batch_size: images per step over all ranks, at most 16,384.
        learning_rate: of the LoRA, its peak.
        embedding_learning_rate: of the concept embeddings, its peak.
        weight_decay: AdamW's.
        warmup_steps: linear warm-up.
        schedule: after the warm-up.
        gradient_clip: gradient norm; None: not clipped.
        pair_share: share of M pairs in a batch.
        caption_dropout: share of empty captions.
        flip: mirror single images; wrong for concepts with a left and a right.
        scale_augmentation: single images at other scales, with captions that say so; None: as they
            are.
        masked_loss: weigh the loss by the concepts' masks.
        background_weight: weight outside of the masks.
        min_snr_gamma: min-SNR weighting (Hang et al. 2023); None: none.
        offset_noise: strength of a per-channel noise offset.
        timestep_bias: above 1, noisy timesteps are drawn more often; 1 draws all alike.
        prior_share: share of images on which the U-Net is to stay the base's (prior preservation),
            general and class images in proportion to their numbers; 0: none, and none are drawn.
        prior_target: what the U-Net learns on them: "images", to denoise them; "teacher", to
            predict what the base's U-Net predicts of them, which reads the same encoded captions;
            or "counterparts", the same, where every other one is a concept's image or an M pair,
            captioned by class words (`counterparts`).
        prior_loss_weight: of a prior image's error, beside 1 for the others (DreamBooth's lambda).
        prior: how they are drawn; enters by the images.
        ema_decay: averages the trained weights; 0 switches it off.
        gradient_checkpointing: trades time for memory; the same result bit for bit.
        accumulate: parts that a batch is computed in, one after the other: less memory, the same
            result up to rounding.
        optimizer: "adamw", or "adamw8bit" of the package bitsandbytes.
        attention: "sdpa" (torch's fused kernels), "plain", or "auto": plain on CPUs, where it is
            faster for small models.
        compile: run the U-Net through torch.compile.
        validation: the loss at fixed noise; None computes none.
        samples: grids of images; None draws none.
    """

    VERSION: ClassVar[int] = 5

    num_tokens: Annotated[int, Field(ge=1, le=16)]
    initial_words: InitialWords
    class_word: bool
    layerwise: bool
    unet: Literal["lora", "weights", "frozen"]
    rank: Positive
    alpha: AboveZero
    target_modules: Annotated[list[Word], Field(min_length=1)] | None
    orthogonal_lora: bool
    orthogonal_start: Annotated[Count, INDIRECT]
    detach_start_of_text: bool
    train_embeddings: bool
    embedding_norm_limit: AboveZero | None
    text_lora: TextLoraSettings | None
    attention_regularisation: NotNegative
    stated_steps: Annotated[Positive | None, Field(alias="steps")]
    images_per_concept: Annotated[Positive | None, INDIRECT]
    batch_size: BatchSize
    learning_rate: AboveZero
    embedding_learning_rate: AboveZero
    weight_decay: NotNegative
    warmup_steps: Count
    schedule: Schedule
    gradient_clip: AboveZero | None
    pair_share: Share
    caption_dropout: Annotated[float, Field(ge=0, lt=1)]
    flip: bool
    scale_augmentation: ScaleSettings | None
    masked_loss: bool
    background_weight: Share
    min_snr_gamma: AboveZero | None
    offset_noise: NotNegative
    timestep_bias: Annotated[float, Field(ge=1, le=4)]
    prior_share: Annotated[float, Field(ge=0, lt=1)]
    prior_target: Literal["images", "teacher", "counterparts"]
    prior_loss_weight: AboveZero
    prior: Annotated[PriorSettings, INDIRECT]
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    gradient_checkpointing: Annotated[bool, SPEED]
    accumulate: Positive
    optimizer: Literal["adamw", "adamw8bit"]
    attention: Literal["auto", "sdpa", "plain"]
    compile: bool
    validation: ValidationSettings | None
    samples: SampleSettings | None

    @property
    def needs_masks(self) -> bool:
        """Whether training reads where the concepts are."""
        return self.masked_loss or self.attention_regularisation > 0

    @property
    def has_teacher(self) -> bool:
        """Whether the base's U-Net predicts what prior images teach."""
        return self.prior_share > 0 and self.prior_target != "images"

    @property
    def steps(self) -> int:
        """Optimiser steps; where they follow from `images_per_concept`, after `for_concepts`."""
        assert self.stated_steps is not None
        return self.stated_steps

    def for_concepts(self, count: int) -> Self:
        """Return the same settings with the number of steps that they make for some concepts.

        Args:
            count: concepts that train together: all of a run, or one that is customised apart.
        """
        if self.images_per_concept is None:
            return self
        steps = max(1, round(self.images_per_concept * count / self.batch_size))
        return self.model_copy(update={"stated_steps": steps, "images_per_concept": None})

    def text_tuning(self) -> TextTuning | None:
        """Return what trains in the text encoders; None: nothing."""
        if (lora := self.text_lora) is None:
            return None
        return TextTuning(
            "lora", lora.learning_rate, lora.rank, lora.alpha, tuple(lora.target_modules)
        )

    def new_tokens(self) -> NewTokens:
        """Return what a concept consists of where no stage 1 has said it."""
        return NewTokens(self.num_tokens, self.initial_words, self.class_word)

    def unet_tuning(self, *, position: int = 0) -> UNetTuning | None:
        """Return what trains in the U-Net; None: nothing.

        Args:
            position: of the concept among those that are customised apart, of all runs.
        """
        match self.unet:
            case "frozen":
                return None
            case "weights":
                return WeightTuning(tuple(self.target_modules) if self.target_modules else None)
            case "lora":
                assert self.target_modules is not None
                basis = position if self.orthogonal_lora else None
                return LoraTuning(self.rank, self.alpha, tuple(self.target_modules), basis)

    @model_validator(mode="after")
    def _something_trains(self) -> Self:
        if self.unet == "frozen" and not self.train_embeddings:
            raise ValueError(
                "unet: found 'frozen' with diffusion.train_embeddings=false: nothing would train;"
                " change one of them"
            )
        if self.unet == "lora" and self.target_modules is None:
            raise ValueError(
                "target_modules: found null with diffusion.unet=lora, which needs layers, such as"
                " [to_q,to_k,to_v,to_out.0]"
            )
        return self

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.stated_steps is None) == (self.images_per_concept is None):
            steps, images = (
                "null" if value is None else value
                for value in (self.stated_steps, self.images_per_concept)
            )
            raise ValueError(
                f"steps: found {steps} with diffusion.images_per_concept={images}; one of them says"
                " how long training is, the other one is null"
            )
        return self

    @model_validator(mode="after")
    def _something_to_detach(self) -> Self:
        if self.detach_start_of_text and self.unet == "frozen":
            raise ValueError(
                "detach_start_of_text: found true with diffusion.unet=frozen, whose keys and values"
                " do not train; set it to false"
            )
        return self

    @model_validator(mode="after")
    def _something_to_teach(self) -> Self:
        if self.unet == "frozen" and self.has_teacher:
            raise ValueError(
                f"prior_target: found {self.prior_target!r} with diffusion.unet=frozen, where the"
                " U-Net stays the base's anyway; set diffusion.prior_share=0, or use"
                " prior_target=images or unet=lora"
            )
        return self

    @model_validator(mode="after")
    def _text_trains_with_embeddings(self) -> Self:
        for field in ("text_lora", "embedding_norm_limit", "layerwise"):
            if getattr(self, field) and not self.train_embeddings:
                raise ValueError(
                    f"{field}: found a value with diffusion.train_embeddings=false, where captions"
                    " are encoded once; set train_embeddings=true, or this to null"
                )
        return self

    @model_validator(mode="after")
    def _noise_and_a_word(self) -> Self:
        if self.initial_words == "noise_and_class_word" and self.num_tokens < 2:
            raise ValueError(
                f"num_tokens: found {self.num_tokens} with diffusion.initial_words="
                "noise_and_class_word, which needs one token for each; set it to 2"
            )
        return self

    @model_validator(mode="after")
    def _maps_of_one_pass(self) -> Self:
        if self.attention_regularisation and (self.compile or self.has_teacher):
            other = "compile=true" if self.compile else f"prior_target={self.prior_target}"
            raise ValueError(
                f"attention_regularisation: found {self.attention_regularisation} with"
                f" diffusion.{other}, which it cannot watch; set one of them back"
            )
        return self

    @model_validator(mode="after")
    def _layers_train_as_a_whole(self) -> Self:
        if self.layerwise and self.class_word:
            raise ValueError(
                "class_word: found true with diffusion.layerwise=true, where all tokens of a"
                " concept train; set one of them to false"
            )
        if self.orthogonal_lora and self.unet != "lora":
            raise ValueError(
                f"orthogonal_lora: found true with diffusion.unet={self.unet}; set it to false, or"
                " unet=lora"
            )
        if self.orthogonal_start and not self.orthogonal_lora:
            raise ValueError(
                f"orthogonal_start: found {self.orthogonal_start} with"
                " diffusion.orthogonal_lora=false, where it does nothing; set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _prior_images(self) -> Self:
        drawn = self.prior.images or self.prior.class_images
        if self.prior_share and not drawn and self.prior_target != "counterparts":
            raise ValueError(
                f"prior: found no images with diffusion.prior_share={self.prior_share}; set"
                " diffusion.prior.images or diffusion.prior.class_images"
            )
        return self

    @model_validator(mode="after")
    def _shares_of_a_batch(self) -> Self:
        if self.pair_share + self.prior_share > 1:
            raise ValueError(
                f"pair_share: found {self.pair_share}, with diffusion.prior_share="
                f"{self.prior_share}; they are shares of a batch, together at most 1"
            )
        return self
