"""Everything that stays the same over the steps of stage 2, encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from clif_exp.base_models.conditioning import TextEncoders
from clif_exp.base_models.layerwise import LayerwiseEmbeddings, TrainedEmbeddings
from clif_exp.base_models.loading import text_encoders_of
from clif_exp.base_models.trained_tokens import ConceptEmbeddings
from clif_exp.diffusion.concept_tokens import TokenIds
from clif_exp.diffusion.images import (
    TrainingImage,
    concept_masks,
    encode_training_images,
    loss_weights,
)
from clif_exp.training.oom import explain_out_of_memory

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels


@dataclass(frozen=True)
class EncodedInputs:
    """What the steps read.

    Attributes:
        captions: all distinct captions; index 0 is the empty one.
        caption_ids: text encoder -> their token ids, int64 [K, 77].
        text: the text encoders.
        latents_NCHW: of all images, float32; twice as many with mirrored ones.
        weights_N1HW: loss weights, or None.
        masks_N1HW: where the concepts are, or None.
        embeddings: text encoder -> trainable concept embeddings; empty if they are frozen.
        captions_encoded: conditioning of all captions; None if embeddings train.
    """

    captions: list[str]
    caption_ids: dict[str, Tensor]
    text: TextEncoders
    latents_NCHW: Tensor
    weights_N1HW: Tensor | None
    masks_N1HW: Tensor | None
    embeddings: dict[str, TrainedEmbeddings]
    captions_encoded: dict[str, Tensor] | None


def encode_inputs(
    pipeline: Any,
    images: Sequence[TrainingImage],
    *,
    spec: BaseModels,
    token_ids: TokenIds,
    learnt: int | None,
    layers: int | None,
    flip: bool,
    background: float | None,
    masks: bool = False,
) -> EncodedInputs:
    """Encode images and captions.

    Args:
        pipeline: with the concepts' tokens.
        images: all training images.
        spec: resolved base models.
        token_ids: text encoder -> concept -> ids of its tokens.
        learnt: how many embeddings of a concept train, so that captions are encoded in every step;
            0: none, None: all.
        layers: of the U-Net, each of which gets embeddings of its own; None: they share them.
        flip: encode mirrored images too.
        masks: return where the concepts are, too.
        background: loss weight outside of the concepts' masks; None: they weigh nothing.

    Raises:
        ValueError: a caption is too long, or memory ran out.
    """
    captions = list(dict.fromkeys(["", *(text for image in images for text in image.captions)]))
    text = TextEncoders(
        text_encoders_of(pipeline),
        num_tokens={name: len(ids) for name, ids in token_ids["text_encoder"].items()},
        family=spec.record,
        resolution=spec.resolution,
    )
    # Refuses a caption that is too long before anything is encoded.
    caption_ids = text.tokenize(captions)
    embeddings: dict[str, TrainedEmbeddings] = {}
    encoded = None
    with explain_out_of_memory(
        lambda: "the encoding of the training images", hint="model.resolution"
    ):
        latents = encode_training_images(
            pipeline.vae, images, resolution=spec.resolution, flip=flip
        )
        grid = (latents.shape[2], latents.shape[3])
        weights = loss_weights(
            images, resolution=spec.resolution, latent_size=grid, background=background
        )
        where = (
            concept_masks(images, resolution=spec.resolution, latent_size=grid) if masks else None
        )
        if learnt != 0:
            embeddings = {
                name: ConceptEmbeddings(encoder, token_ids=token_ids[name], learnt=learnt)
                if layers is None
                else LayerwiseEmbeddings(encoder, token_ids=token_ids[name], layers=layers)
                for name, (_, encoder) in text.encoders.items()
            }
        else:
            encoded = text.encode_captions(captions)
    return EncodedInputs(captions, caption_ids, text, latents, weights, where, embeddings, encoded)
