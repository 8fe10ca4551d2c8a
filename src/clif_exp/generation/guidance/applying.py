"""Puts a guidance around a stock pipeline's call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from clif_exp.base_models.conditioning import TextEncoders
from clif_exp.base_models.families import family_of_pipeline
from clif_exp.base_models.loading import text_encoders_of
from clif_exp.base_models.tokens import token_names
from clif_exp.generation.guidance.composable import composed, parts_of
from clif_exp.generation.guidance.latents import LatentGuidance
from clif_exp.generation.guidance.regional import regional, strips_of

if TYPE_CHECKING:
    from clif_exp.generation.settings import GenerationSettings


@dataclass(frozen=True)
class Guided:
    """A guidance for one batch of prompts.

    Attributes:
        settings: which guidance, and how.
        num_tokens: concept -> number of its tokens.
        concepts: per prompt the concepts that it names; without any it is drawn as ever.
        contexts: per prompt the place that it names, or None; "composable" alone reads it.
    """

    settings: GenerationSettings
    num_tokens: Mapping[str, int]
    concepts: Sequence[Sequence[str]]
    contexts: Sequence[str | None]


@contextmanager
def guidance(
    pipeline: Any, prompts: Sequence[str], *, guided: Guided, generators: list[torch.Generator]
) -> Iterator[dict[str, Any]]:
    """Guide the pipeline's call inside; yields what to hand to it besides.

    Args:
        pipeline: a stock pipeline that holds the concepts.
        prompts: of the batch.
        guided: how.
        generators: of the initial noise, one per prompt.
    """
    if guided.settings.guidance == "composable":
        with _composable(pipeline, guided):
            yield {}
        return
    if guided.settings.guidance == "regional":
        weight = guided.settings.regional.weight
        with side_by_side(pipeline, prompts, num_tokens=guided.num_tokens, weight=weight):
            yield {}
        return
    yield _latent_guidance(pipeline, prompts, guided=guided, generators=generators)


@contextmanager
def _composable(pipeline: Any, guided: Guided) -> Iterator[None]:
    parts, rows = [], []
    for row, (concepts, context) in enumerate(zip(guided.concepts, guided.contexts, strict=True)):
        if len(concepts) > 1:  # one concept is ordinary guidance
            parts += parts_of(concepts, context=context)
            rows += [row] * len(concepts)
    if not parts:
        yield
        return
    text = _text(pipeline, guided.num_tokens)
    with composed(
        pipeline.unet,
        arguments=_arguments(pipeline, text, parts),
        rows=rows,
        weight=guided.settings.composable.weight,
    ):
        yield


@contextmanager
def side_by_side(
    pipeline: Any, prompts: Sequence[str], *, num_tokens: Mapping[str, int], weight: float
) -> Iterator[None]:
    """Let each concept keep to its part of the image in a call of the pipeline inside.

    Args:
        pipeline: a stock pipeline that holds the concepts.
        prompts: of the call; those that do not put concepts side by side are drawn as ever.
        num_tokens: concept -> number of its tokens.
        weight: of a part's own text, in (0, 1].
    """
    strips = strips_of(prompts)
    if not strips.texts:
        yield
        return
    arguments = _arguments(pipeline, _text(pipeline, num_tokens), strips.texts)
    text_SLD = arguments["encoder_hidden_states"]
    with regional(pipeline.unet, text_SLD=text_SLD, strips=strips, weight=weight):
        yield


def _latent_guidance(
    pipeline: Any,
    prompts: Sequence[str],
    *,
    guided: Guided,
    generators: list[torch.Generator],
) -> dict[str, Any]:
    from diffusers.utils.torch_utils import randn_tensor

    settings = guided.settings
    assert settings.guidance is not None
    text = _text(pipeline, guided.num_tokens)
    steering = LatentGuidance(
        pipeline,
        name=settings.guidance,
        arguments=_arguments(pipeline, text, prompts),
        positions=token_positions(text, prompts, concepts=guided.concepts),
        num_steps=settings.num_inference_steps,
        settings=settings.latent_guidance(),
    )
    scheduler, unet = pipeline.scheduler, pipeline.unet
    # The very noise that the pipeline would draw from these generators.
    side = unet.config.sample_size
    noise_BCHW = randn_tensor(
        (len(prompts), unet.config.in_channels, side, side),
        generator=generators,
        device=unet.device,
        dtype=unet.dtype,
    )
    scheduler.set_timesteps(settings.num_inference_steps, device=unet.device)
    scaled = noise_BCHW * scheduler.init_noise_sigma
    refined = steering.refined(scaled, step=0)
    if refined is not scaled:
        noise_BCHW = refined / scheduler.init_noise_sigma  # the pipeline scales it again
    return {"latents": noise_BCHW, "callback_on_step_end": steering.after_step}


def token_positions(
    text: TextEncoders, prompts: Sequence[str], *, concepts: Sequence[Sequence[str]]
) -> list[list[list[int]]]:
    """Return, per prompt, the positions of the tokens of each of its concepts.

    Args:
        text: the encoders, which all read the same positions.
        prompts: with placeholders.
        concepts: per prompt the names to look for; those that it does not hold are left out.
    """
    name, ids_BL = next(iter(text.tokenize(prompts).items()))
    tokenizer, _ = text.encoders[name]
    found = []
    for ids_L, names in zip(ids_BL.tolist(), concepts, strict=True):
        own = [
            set(tokenizer.convert_tokens_to_ids(token_names(concept, text.num_tokens[concept])))
            for concept in names
        ]
        places = [[place for place, number in enumerate(ids_L) if number in ids] for ids in own]
        found.append([place for place in places if place])
    return found


def _text(pipeline: Any, num_tokens: Mapping[str, int]) -> TextEncoders:
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    return TextEncoders(
        text_encoders_of(pipeline), num_tokens, family_of_pipeline(type(pipeline).__name__), side
    )


@torch.no_grad()
def _arguments(pipeline: Any, text: TextEncoders, prompts: Sequence[str]) -> dict[str, Any]:
    """Return the U-Net's keyword arguments for prompts, on its device and in its precision."""
    encoded = text.encode(text.tokenize(prompts))
    unet = pipeline.unet
    return text.unet_arguments(
        {key: value.to(unet.device, unet.dtype) for key, value in encoded.items()}
    )
