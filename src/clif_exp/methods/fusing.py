"""Mix-of-Show's merge: concepts that were customised apart become one model, group by group.

The groups are those of the paper's code: the text encoders' layers, keys and values of the
cross-attention, and the other layers of the U-Net (spatial attention; convolutions, which the paper
leaves alone). Each group reads what the groups before it, already fused, make: what it will read
when images are drawn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clif_exp.base_models.conditioning import TextEncoders
from clif_exp.base_models.customised import insert_embeddings, load_tuning
from clif_exp.base_models.layerwise import cross_attention_layers
from clif_exp.base_models.loading import load_pipeline, text_encoders_of
from clif_exp.base_models.tensor_files import save_tensors
from clif_exp.base_models.text_tuning import save_text_weights, tower
from clif_exp.base_models.tokens import token_names
from clif_exp.base_models.unet_tuning.targets import KEYS_AND_VALUES, is_target
from clif_exp.base_models.unet_tuning.weights import FILE
from clif_exp.methods.gradient_fusion import LayerFusion, affine, solve_all
from clif_exp.methods.parts import Parts, merge_embeddings
from clif_exp.methods.recording import (
    Select,
    add_changes,
    all_rows,
    holding,
    is_layer,
    recorded,
)
from clif_exp.methods.settings import Ridge

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels

TEMPLATES = ("photo of a {}", "{}")
"""Prompts of a concept; spatial layers see images of the first."""

Changes = Mapping[str, Mapping[str, Tensor]]
"""Concept -> parameter of one model -> what its training added to it, on the CPU."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Scene:
    """What all groups need: a base pipeline with all concepts' tokens, and what to call them.

    Attributes:
        pipeline: changes as groups are fused.
        text: its text side.
        prompts: concept -> prompts.
        ridge: per group.
    """

    pipeline: Any
    text: TextEncoders
    prompts: Mapping[str, tuple[str, ...]]
    ridge: Ridge


def fuse_concepts(
    out: Path,
    *,
    spec: BaseModels,
    parts: Parts,
    phrases: Mapping[str, str],
    num_inference_steps: int,
    seed: int,
    ridge: Ridge,
    templates: tuple[str, ...] = TEMPLATES,
    device: str = "cpu",
) -> None:
    """Fuse concepts that were customised apart, by LoRAs or whole matrices, into one model.

    Publishes the concept embeddings, unet_weights.safetensors and text_encoder_weights.safetensors;
    the latter two hold the layers that some concept has changed.

    It holds every concept's changes in the host's memory: one number per changed weight and
    concept.

    Args:
        out: existing folder.
        spec: resolved base models.
        parts: concept -> folder with its embeddings and weights; it may hold several concepts.
        phrases: concept -> what prompts call it, such as "<rick>".
        num_inference_steps: denoising steps, without guidance, whose inputs spatial layers are
            fused on (the paper: 20).
        seed: of the noise.
        ridge: keeps weights near the base's; the paper's descent ends about where 1e-4 for text,
            1e-4 for keys and values and 1e-2 for spatial layers do (experiments/merging).
        templates: with "{}" for a phrase.
        device: torch device.

    Raises:
        ValueError: a part has changed something else than linear layers and convolutions, or
            belongs to another base model.
    """
    merge_embeddings(out, parts)
    pipeline = load_pipeline(spec, device=device)
    folders = dict.fromkeys(parts.values())
    changes = {folder: changed_weights(spec, folder, base=pipeline) for folder in folders}
    found = {concept: changes[folder] for concept, folder in parts.items()}
    num_tokens = insert_embeddings(pipeline, out)
    encoders = text_encoders_of(pipeline)
    scene = _Scene(
        pipeline,
        TextEncoders(encoders, num_tokens, spec.record, spec.resolution),
        {concept: tuple(t.format(phrases[concept]) for t in templates) for concept in parts},
        ridge,
    )
    fused_text = {
        encoder: _fuse_text(scene, encoder, {c: own[encoder] for c, own in found.items()})
        for encoder in encoders
    }
    of_unet = {concept: own["unet"] for concept, own in found.items()}
    fused_unet = _fuse_keys_and_values(scene, _only(of_unet, keys_and_values=True))
    fused_unet |= _fuse_spatial(
        scene,
        _only(of_unet, keys_and_values=False),
        num_inference_steps=num_inference_steps,
        seed=seed,
        resolution=spec.resolution,
    )
    save_text_weights(out, fused_text)
    if fused_unet:
        save_tensors(fused_unet, out / FILE)


def changed_weights(spec: BaseModels, folder: Path, *, base: Any) -> dict[str, dict[str, Tensor]]:
    """Return what a part's training added to the base's weights.

    Args:
        spec: resolved base models.
        folder: of a training stage.
        base: untouched pipeline of the same models.

    Returns:
        "unet" or text encoder -> parameter -> change, fp32 on the CPU; only what has changed.

    Raises:
        ValueError: it is of another kind of layer than a linear one or a convolution.
    """
    own = load_pipeline(spec)
    load_tuning(own, folder, fuse=True)
    changes: dict[str, dict[str, Tensor]] = {}
    for model, before in _models(base).items():
        after = dict(_models(own)[model].named_parameters())
        layers = {n for n, m in before.named_modules() if is_layer(m)}
        changes[model] = {}
        for name, value in before.named_parameters():
            change = after[name].detach() - value.detach().cpu()
            if not change.any():
                continue
            if name.rpartition(".")[0] not in layers:
                raise ValueError(
                    f"{folder}: has changed {name} of {model}, but gradient fusion merges linear"
                    " layers and convolutions only. Train with diffusion.target_modules of those."
                )
            changes[model][name] = change
    return changes


def _models(pipeline: Any) -> dict[str, Any]:
    """Return what a training may have changed; names within text encoders are their towers'."""
    encoders = {name: tower(encoder) for name, (_, encoder) in text_encoders_of(pipeline).items()}
    return {"unet": pipeline.unet, **encoders}


def _only(changes: Changes, *, keys_and_values: bool) -> dict[str, dict[str, Tensor]]:
    """Return the changes of keys and values of the cross-attention, or all others."""
    return {
        concept: {
            name: change
            for name, change in own.items()
            if is_target(name.rpartition(".")[0], KEYS_AND_VALUES) == keys_and_values
        }
        for concept, own in changes.items()
    }


@torch.no_grad()
def _fuse_layers(
    model: Any,
    changes: Changes,
    *,
    run: Callable[[str], None],
    select: Callable[[str], Select],
    ridge: float,
) -> dict[str, Tensor]:
    """Fuse layers of a model on what they read in runs with each concept's own weights.

    Args:
        model: gets the fused weights in the end.
        changes: of these layers.
        run: makes the layers read what counts for a concept.
        select: concept -> which rows of that count.
        ridge: of this group.

    Returns:
        Parameter -> fused value, on the CPU.
    """
    names = {name for own in changes.values() for name in own}
    modules = dict(model.named_modules())
    layers = {n: modules[n] for n in sorted({name.rpartition(".")[0] for name in names})}
    biased = [layer for layer in layers if f"{layer}.bias" in names]
    problems = {
        name: LayerFusion.empty(
            inputs=layer.weight[0].numel() + (name in biased), outputs=len(layer.weight)
        )
        for name, layer in layers.items()
    }
    for concept, own in changes.items():
        with holding(model, own), recorded(layers, biased=biased, select=select(concept)) as grams:
            run(concept)
        for name, problem in problems.items():
            change = own.get(f"{name}.weight", torch.zeros(()))
            change_OI = change.expand(layers[name].weight.shape).flatten(1)
            if name in biased:
                change_O = own.get(f"{name}.bias", change_OI.new_zeros(len(change_OI)))
                change_OI = affine(change_OI, change_O)
            problem.add(grams[name].cpu(), change_OI=change_OI)
    solved: dict[str, Tensor] = {}
    for name, change_OI in solve_all(problems, ridge=ridge).items():
        shape = layers[name].weight.shape
        width = shape[1:].numel()
        solved[f"{name}.weight"] = change_OI[:, :width].unflatten(1, shape[1:])
        if name in biased:
            solved[f"{name}.bias"] = change_OI[:, width]
    add_changes(model, solved)
    parameters = dict(model.named_parameters())
    return {name: parameters[name].detach().cpu().contiguous() for name in solved}


def _fuse_text(scene: _Scene, encoder: str, changes: Changes) -> dict[str, Tensor]:
    tokenizer, model = scene.text.encoders[encoder]
    ids = {c: scene.text.tokenize(prompts)[encoder] for c, prompts in scene.prompts.items()}

    def select(concept: str) -> Select:
        here_BL = _concept_and_end(
            ids[concept], concept=concept, text=scene.text, tokenizer=tokenizer
        )
        # Layer-wise embeddings: a prompt is read once per layer of the U-Net.
        return lambda inputs: inputs[
            here_BL.repeat_interleave(len(inputs) // len(here_BL), 0).to(inputs.device)
        ]

    return _fuse_layers(
        tower(model),
        changes,
        run=lambda concept: model(ids[concept].to(model.device)) and None,
        select=select,
        ridge=scene.ridge.text,
    )


def _fuse_keys_and_values(scene: _Scene, changes: Changes) -> dict[str, Tensor]:
    unet, text = scene.pipeline.unet, scene.text
    tokenizer = next(iter(text.encoders.values()))[0]
    names = sorted({name.rpartition(".")[0] for own in changes.values() for name in own})
    order = cross_attention_layers(unet)

    def run(concept: str) -> None:
        ids = text.tokenize(scene.prompts[concept])
        first_BL = next(iter(ids.values()))
        here_BL = _concept_and_end(first_BL, concept=concept, text=text, tokenizer=tokenizer)
        # [B, 1, 77, I], or [B, layers, 77, I] where embeddings are layer-wise
        hidden = text.encode(ids)["hidden"].unflatten(1, (-1, first_BL.shape[1]))
        for name in names:
            index = order.index(name.rpartition(".")[0]) if hidden.shape[1] > 1 else 0
            unet.get_submodule(name)(hidden[:, index][here_BL.to(hidden.device)])

    return _fuse_layers(
        unet, changes, run=run, select=lambda _: all_rows, ridge=scene.ridge.keys_and_values
    )


def _fuse_spatial(
    scene: _Scene, changes: Changes, *, num_inference_steps: int, seed: int, resolution: int
) -> dict[str, Tensor]:
    def run(concept: str) -> None:
        _LOG.info("Fusion: %d denoising steps of '%s'.", num_inference_steps, concept)
        scene.pipeline(
            prompt=scene.prompts[concept][0],
            height=resolution,
            width=resolution,
            guidance_scale=1.0,  # off
            num_inference_steps=num_inference_steps,
            generator=torch.Generator().manual_seed(seed),
            output_type="latent",
        )

    if not any(changes.values()):
        return {}
    return _fuse_layers(
        scene.pipeline.unet, changes, run=run, select=lambda _: all_rows, ridge=scene.ridge.spatial
    )


def _concept_and_end(ids_BL: Tensor, *, concept: str, text: TextEncoders, tokenizer: Any) -> Tensor:
    """Return where a concept's tokens and the end of text stand, bool [B, L]."""
    own = tokenizer.convert_tokens_to_ids(token_names(concept, text.num_tokens[concept]))
    here_BL = torch.isin(ids_BL, torch.tensor(own))
    end_B = (ids_BL == tokenizer.eos_token_id).int().argmax(dim=1)
    here_BL[torch.arange(len(ids_BL)), end_B] = True
    return here_BL
