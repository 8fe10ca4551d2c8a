"""Settings of stage 1, conf/contrastive."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from clif_exp.settings import (
    AboveZero,
    BatchSize,
    Count,
    NotNegative,
    Positive,
    StageSettings,
    Strict,
    Word,
)
from clif_exp.training.schedule import Schedule


class TextLoraSettings(Strict):
    """A LoRA on the text encoder.

    Attributes:
        rank: of the update.
        alpha: the update is scaled by alpha / rank.
        target_modules: endings of the layers that get it.
    """

    rank: Positive
    alpha: AboveZero
    target_modules: Annotated[
        list[Literal["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]], Field(min_length=1)
    ]


class ReconstructionSettings(Strict):
    """The released code's second step: the concept embeddings of all encoders learn by denoising.

    Attributes:
        steps: optimiser steps.
        batch_size: images per step over all ranks, at most 16,384.
        learning_rate: AdamW's, its peak.
        weight_decay: AdamW's.
        accumulate: parts that a batch is computed in, one after the other.
    """

    steps: Positive
    batch_size: BatchSize
    learning_rate: AboveZero
    weight_decay: NotNegative
    accumulate: Positive


class BasisSettings(Strict):
    """Concept embeddings within the span of words that stand for whole looks, as in Celeb Basis.

    Attributes:
        words: single tokens, such as names; None: the names that the base models know.
        rank: principal components that are kept.
    """

    words: Annotated[list[Word], Field(min_length=2)] | None
    rank: Positive


class ContrastiveSettings(StageSettings):
    """Contrastive fine-tuning of the concept tokens (CLIF, section 4.2, Eq. 5).

    Attributes:
        num_tokens: tokens per concept, each initialised from its class word or the basis.
        encoders: text encoders that are trained, None: all; the others' embeddings stay at their
            class words.
        steps: optimiser steps; 0 leaves the embeddings where their class words put them.
        batch_size: pairs per step over all ranks; whole groups of one context, side and scale.
        basis: keeps the embeddings within the span of some words, starting from these words' mean;
            None: embeddings are free and start from their class words.
        learning_rate: AdamW's, for the embeddings, its peak; with a basis in standard deviations of
            its words.
        weight_decay: AdamW's, on what trains only.
        warmup_steps: linear warm-up.
        schedule: after the warm-up.
        gradient_clip: gradient norm; None: not clipped.
        pooling: kind of pair -> "eos" (at the true end of text) or "concept" (Eq. 1: at the concept
            token, for R at the part's word).
        identical_part_threshold: image cosine from which parts of different concepts are not
            contrasted; 1: all are.
        logit_scale: inverse temperature: "frozen" (CLIP's own) or "learned".
        max_logit_scale: a learned one's cap.
        norm_loss_weight: weight of the term that keeps embeddings near the vocabulary's mean norm.
        text_encoder: what trains besides the embeddings: nothing, a LoRA, or everything but the
            words' embeddings.
        text_encoder_learning_rate: AdamW's, for that.
        lora: with text_encoder=lora.
        reconstruction: afterwards train the embeddings of all encoders by denoising; None: do not.
        control: "random_rows" replaces what was learnt by random displacements of equal length.
    """

    VERSION: ClassVar[int] = 5

    num_tokens: Annotated[int, Field(ge=1, le=16)]
    encoders: Annotated[list[Word], Field(min_length=1)] | None
    steps: Count
    batch_size: Annotated[int, Field(ge=2)]
    basis: BasisSettings | None
    learning_rate: AboveZero
    weight_decay: NotNegative
    warmup_steps: Count
    schedule: Schedule
    gradient_clip: AboveZero | None
    pooling: dict[Literal["G", "R"], Literal["eos", "concept"]]
    identical_part_threshold: Annotated[float, Field(ge=-1, le=1)]
    logit_scale: Literal["frozen", "learned"]
    max_logit_scale: AboveZero
    norm_loss_weight: NotNegative
    text_encoder: Literal["frozen", "lora", "full"]
    text_encoder_learning_rate: AboveZero
    lora: TextLoraSettings
    reconstruction: ReconstructionSettings | None
    control: Literal["random_rows"] | None

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        if self.control is not None and self.text_encoder != "frozen":
            raise ValueError(
                f"control: found {self.control!r} with contrastive.text_encoder="
                f"{self.text_encoder}, which it could not take back; use"
                " contrastive.text_encoder=frozen"
            )
        if len(set(self.encoders or [])) != len(self.encoders or []):
            raise ValueError(f"encoders: found {self.encoders}, with repetitions; name each once")
        return self


class ImageFeatureSettings(StageSettings):
    """What the cached image features of the pairs depend on.

    Attributes:
        encoders: whose CLIP encodes them; None: all.
        parts: also encode the parts alone, to find those that look the same.
        device: numbers are promised per hardware class.
    """

    VERSION: ClassVar[int] = 2

    encoders: list[str] | None
    parts: bool
    device: str
