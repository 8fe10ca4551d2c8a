"""Custom Diffusion's merge: keys and values that meet every concept's own, nearest to the base's.

Kumari et al. 2023, "Multi-Concept Customization of Text-to-Image Diffusion", section 3.2, Eq. 4 and
5. Per layer, with the base's weight W, features K of captions for regularisation, and features K_t
of the concepts' prompts with what the concepts' own weights make of them, V_t = W_i K_t^T:

    minimise ||(W* - W) K^T||_F   subject to   W* K_t^T = V_t

with the closed form W* = W + (V_t - W K_t^T) (d K_t^T)^-1 d, d = ((K^T K)^-1 K_t^T)^T.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clif_exp.base_models.conditioning import TextEncoders
from clif_exp.base_models.customised import insert_embeddings
from clif_exp.base_models.layerwise import LAYERWISE_FILE
from clif_exp.base_models.loading import load_pipeline, text_encoders_of
from clif_exp.base_models.tensor_files import save_tensors
from clif_exp.base_models.unet_tuning.lora import LoraTuning
from clif_exp.base_models.unet_tuning.targets import KEYS_AND_VALUES, is_target
from clif_exp.base_models.unet_tuning.weights import FILE, WeightTuning
from clif_exp.methods.parts import Parts, merge_embeddings, refuse_text_tuning

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels

TEMPLATES = ("{}", "photo of a {}")
"""Prompts of a concept whose features the merge keeps, as the paper's code has them."""

# Features are computed in fp32: what is smaller than its rounding, relative to the largest, is 0.
_ROUNDING = 1e-6
_OUTSIDE = 1e-3  # share of the targets that may lie outside of the captions' span


def correction(regularisation_NI: Tensor, targets_TI: Tensor) -> Tensor:
    """Return what turns the targets' errors into the change of a weight.

    It is the closed form's (d K_t^T)^-1 d: W* = W + (V_t - W K_t^T) correction. All layers that
    read the same features share it. With K = Q S V, it is the pseudo-inverse of B = S^-1 V K_t^T
    times S^-1 V: no matrix is squared or inverted. The features of a text encoder may lie in less
    than its width (a final layer norm without a bias leaves out one direction): the problem is as
    well-posed as long as the concepts' prompts lie in there, too.

    Args:
        regularisation_NI: K, float [N, I].
        targets_TI: K_t, float [T, I], without duplicates.

    Returns:
        float64 [T, I].

    Raises:
        ValueError: the targets leave the span of `regularisation_NI`, so that the problem has no
            one solution; or there are more targets than I.
    """
    width = regularisation_NI.shape[1]
    count = len(targets_TI)
    if count > width:
        raise ValueError(
            f"method.merging: found {count} features of the concepts' prompts, but the text is"
            f" {width} wide, so no weight meets them all. Merge fewer concepts, or concepts of"
            " fewer tokens."
        )
    targets_TI = targets_TI.double()
    span_RI, sizes_R = _span(regularisation_NI.double())
    outside_TI = targets_TI - targets_TI @ span_RI.T @ span_RI
    if outside_TI.norm() > _OUTSIDE * targets_TI.norm():
        raise ValueError(
            f"method.merging.captions: found {len(span_RI)} independent token features in"
            f" {len(regularisation_NI)} tokens of captions, but the text is {width} wide and"
            f" needs at least {width}, or as many as span the concepts' prompts. Give more"
            " captions, and of more different words."
        )
    white_IR = span_RI.T / sizes_R  # in these coordinates the captions' features are white
    return torch.linalg.pinv((targets_TI @ white_IR).T, rtol=_ROUNDING) @ white_IR.T


def _span(features_NI: Tensor) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis [R, I] of what features span, and their sizes along it [R]."""
    if not len(features_NI):
        return features_NI, features_NI.new_zeros(0)
    upper = torch.linalg.qr(features_NI, mode="r").R
    _, sizes, basis = torch.linalg.svd(upper, full_matrices=False)
    found = int((sizes > _ROUNDING * sizes[0]).sum())
    return basis[:found], sizes[:found]


def constrained_merge(
    base_OI: Tensor, *, regularisation_NI: Tensor, targets_TI: Tensor, outputs_TO: Tensor
) -> Tensor:
    """Return the weight that meets the targets and is nearest to the base on captions (Eq. 4, 5).

    Targets that are there more than once (words before a concept's, in a causal text encoder) are
    one target: the mean of their outputs, so that the concepts' order does not matter.

    Args:
        base_OI: W, float [O, I].
        regularisation_NI: K, float [N, I]: features of captions' tokens.
        targets_TI: K_t, float [T, I]: features of the concepts' prompts.
        outputs_TO: V_t, float [T, O]: what each concept's own weight makes of them.

    Returns:
        W*, in the base's dtype; computed in float64.

    Raises:
        ValueError: see `correction`.
    """
    first, mean_UT = distinct(targets_TI)
    targets_UI = targets_TI[first].double()
    return _moved(
        base_OI,
        targets_UI=targets_UI,
        outputs_UO=mean_UT @ outputs_TO.double(),
        correction_UI=correction(regularisation_NI, targets_UI),
    )


def _moved(
    base_OI: Tensor, *, targets_UI: Tensor, outputs_UO: Tensor, correction_UI: Tensor
) -> Tensor:
    errors_UO = outputs_UO - targets_UI @ base_OI.double().T
    return (base_OI.double() + errors_UO.T @ correction_UI).to(base_OI.dtype)


def distinct(features_TI: Tensor, *, tolerance: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Find the features that are equal up to the rounding of fp32.

    Args:
        features_TI: float [T, I].
        tolerance: of a distance, relative to the features' norm.

    Returns:
        Index of the first feature of each group, int64 [U], in their order; and float64 [U, T],
        which takes the mean over each group.
    """
    features_TI = features_TI.double()
    norm_T = features_TI.norm(dim=1)
    # not by the expansion into squares, which cancels where features are nearly equal
    distance_TT = torch.cdist(features_TI, features_TI, compute_mode="donot_use_mm_for_euclid_dist")
    equal_TT = distance_TT <= tolerance * torch.maximum(norm_T[:, None], norm_T)
    group_T = equal_TT.int().argmax(dim=1)  # the first feature that each is equal to
    first_U = group_T.unique()
    member_UT = (group_T == first_U[:, None]).double()
    return first_U, member_UT / member_UT.sum(dim=1, keepdim=True)


def real_tokens(ids_BL: Tensor, *, end: int) -> Tensor:
    """Return where a caption's own words and its end of text stand, bool [B, L].

    Beginning of text, which is the same in every caption, and padding are left out.

    Args:
        ids_BL: token ids, int64 [B, L].
        end: id of the end of text; the padding may have it too.
    """
    position_L = torch.arange(ids_BL.shape[1])
    end_B = (ids_BL == end).int().argmax(dim=1)
    return (position_L > 0) & (position_L <= end_B[:, None])


def count_features(tokenizer: Any, captions: Sequence[str]) -> int:
    """Count the different token features of captions, at most as many as are independent.

    A causal text encoder gives a token the same feature wherever the same words precede it.

    Args:
        tokenizer: a CLIP tokenizer; the pipeline's others cut words alike.
        captions: see `merge_keys_and_values`.
    """
    ids = tokenizer(list(captions), truncation=True).input_ids
    return len({tuple(own[:end]) for own in ids for end in range(2, len(own) + 1)})


def merge_keys_and_values(
    out: Path,
    *,
    spec: BaseModels,
    parts: Parts,
    phrases: Mapping[str, str],
    captions: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
    batch_size: int = 32,
    device: str = "cpu",
) -> None:
    """Merge concepts that were customised apart by Custom Diffusion into one U-Net's weights.

    Publishes concept_embeddings.safetensors and unet_weights.safetensors, which holds every
    `attn2.to_k` and `attn2.to_v` that some concept has changed.

    The features are what the U-Net reads (SDXL: of both encoders, side by side) at the words and
    the end of text of the captions and of the concepts' prompts.

    Args:
        out: existing folder.
        spec: resolved base models.
        parts: concept -> folder with its embeddings and U-Net weights (keys and values only); it
            may hold several concepts.
        phrases: concept -> what prompts call it: "<rick>" or, as the paper does, "<rick> man".
        captions: of images of any kind, without concepts; their tokens' features must span the
            text's width (SD 1.5: 768, SD 2.1: 1,024, SDXL: 2,048).
        templates: with "{}" for a phrase.
        batch_size: captions encoded at once.
        device: torch device.

    Raises:
        ValueError: a part holds something else; or see `correction`.
    """
    trained = {concept: _keys_and_values(folder) for concept, folder in parts.items()}
    refuse_text_tuning(parts, method="method.merging.kind=constrained")
    merge_embeddings(out, parts)
    pipeline = load_pipeline(spec, device=device)
    num_tokens = insert_embeddings(pipeline, out)
    encoders = text_encoders_of(pipeline)
    text = TextEncoders(encoders, num_tokens, spec.record, spec.resolution)
    regularisation_NI = _features(text, captions, batch_size=batch_size)
    targets = {
        concept: _features(text, [t.format(phrases[concept]) for t in templates])
        for concept in parts
    }
    targets_TI = torch.cat(list(targets.values()))
    first, mean_UT = distinct(targets_TI)
    targets_UI = targets_TI[first]
    correction_UI = correction(regularisation_NI, targets_UI)
    base = pipeline.unet.state_dict()
    merged = {}
    for name in sorted({name for weights in trained.values() for name in weights}):
        base_OI = base[name].cpu()
        outputs_TO = torch.cat(
            [features @ _own(trained[c], name, base_OI).T for c, features in targets.items()]
        )
        merged[name] = _moved(
            base_OI,
            targets_UI=targets_UI,
            outputs_UO=mean_UT @ outputs_TO,
            correction_UI=correction_UI,
        )
    save_tensors(merged, out / FILE)


def _own(trained: Mapping[str, Tensor], name: str, base_OI: Tensor) -> Tensor:
    weight = trained.get(name, base_OI)
    if weight.shape != base_OI.shape:
        raise ValueError(
            f"{name}: found {tuple(weight.shape)} in a part, the U-Net has"
            f" {tuple(base_OI.shape)}. It was trained on another base model."
        )
    return weight.double()


def _features(text: TextEncoders, captions: Sequence[str], *, batch_size: int = 32) -> Tensor:
    """Return what the U-Net reads at the captions' own tokens, float64 [N, I], on the CPU."""
    return torch.cat(list(_batches(text, captions, batch_size=batch_size)))


def _batches(text: TextEncoders, captions: Sequence[str], *, batch_size: int) -> Iterator[Tensor]:
    first: Any = next(iter(text.encoders.values()))[0]
    for start in range(0, len(captions), batch_size):
        ids = text.tokenize(captions[start : start + batch_size])
        with torch.no_grad():
            hidden_BLI = text.encode(ids)["hidden"].cpu().double()
        # The tokenizers of a pipeline agree on where words stand; only their padding differs.
        here = next(iter(ids.values()))
        yield hidden_BLI[real_tokens(here, end=first.eos_token_id)]


def _keys_and_values(folder: Path) -> dict[str, Tensor]:
    """Read a part's weights.

    Raises:
        ValueError: they are missing, or others than keys and values of the cross-attention; or the
            concept's embeddings are layer-wise.
    """
    from safetensors.torch import load_file

    if (folder / LAYERWISE_FILE).is_file():
        raise ValueError(
            f"{folder / LAYERWISE_FILE}: method.merging.kind=constrained merges concepts whose"
            " embeddings are the same in all layers."
        )

    if LoraTuning.published_in(folder) or not WeightTuning.published_in(folder):
        raise ValueError(
            f"{folder}: method.merging.kind=constrained merges {FILE} alone. Train with"
            f" diffusion.unet=weights and diffusion.target_modules=[{','.join(KEYS_AND_VALUES)}]."
        )
    weights = load_file(str(folder / FILE))
    for name in weights:
        layer, _, kind = name.rpartition(".")
        if kind != "weight" or not is_target(layer, KEYS_AND_VALUES):
            raise ValueError(
                f"{folder / FILE}: holds {name}, but method.merging.kind=constrained merges keys"
                " and values of the cross-attention only. Train with"
                f" diffusion.target_modules=[{','.join(KEYS_AND_VALUES)}]."
            )
    return weights
