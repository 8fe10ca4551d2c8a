"""How far apart the concepts are for the model: embeddings, contextual tokens, keys and values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.base_models.families import TextEncoder
from clif_exp.base_models.tokens import (
    EMBEDDINGS_FILE,
    add_concept_tokens,
    apply_concept_embeddings,
    expand_prompt,
    load_concept_embeddings,
)
from clif_exp.base_models.unet_tuning.targets import KEYS_AND_VALUES, is_target

if TYPE_CHECKING:
    from torch import Tensor

    from clif_exp.base_models.spec import BaseModels

PROMPT = "a photo of <{}>"
AFTER_STAGE_1, AFTER_TRAINING = "after stage 1", "after stage 2"
"""Labels of `distances.json`; before both comes "before"."""


def pairwise_cosine_distance(vectors_ND: Tensor) -> Tensor:
    """Return 1 - cosine for every pair of rows, float [N, N] in [0, 2], zero on the diagonal."""
    import torch

    unit_ND = torch.nn.functional.normalize(vectors_ND.float(), dim=-1)
    distances_NN = 1 - unit_ND @ unit_ND.T
    return distances_NN.fill_diagonal_(0).clamp(min=0)


def summarise(distances_NN: Tensor) -> dict[str, Any]:
    """Return the `mean` and `min` over pairs (None for fewer than two), and the `matrix`."""
    import torch

    count = len(distances_NN)
    off_diagonal = distances_NN[~torch.eye(count, dtype=torch.bool)]
    known = (
        {"mean": float(off_diagonal.mean()), "min": float(off_diagonal.min())}
        if count > 1
        else {"mean": None, "min": None}
    )
    return known | {"matrix": [[round(value, 5) for value in row] for row in distances_NN.tolist()]}


def mean_embeddings(embeddings: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Return each concept's embedding, the mean over its tokens: float [N, D]."""
    import torch

    return torch.stack([embeddings[name].float().mean(0) for name in names])


def contextual_tokens(
    tokenizer: Any, text_encoder: Any, *, ids: Mapping[str, Sequence[int]], record: TextEncoder
) -> Tensor:
    """Return what the U-Net reads of "a photo of <name>" at the concept's last token: float [N, D].

    Attention is causal, so the last token is the only one that has seen all of the concept.

    Args:
        tokenizer: with the concepts added.
        text_encoder: with the concepts added.
        ids: concept -> token ids.
        record: says which layer the U-Net reads.
    """
    import torch

    prompts = [
        expand_prompt(PROMPT.format(name), {name: len(tokens)}) for name, tokens in ids.items()
    ]
    tokens_NL = tokenizer(
        prompts, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt"
    ).input_ids
    with torch.inference_mode():
        output = text_encoder(
            tokens_NL.to(text_encoder.device), output_hidden_states=record.needs_hidden_states
        )
    hidden_NLD = record.hidden(output)
    last_N = torch.stack(
        [
            (row == tokens[-1]).nonzero()[-1, 0]
            for row, tokens in zip(tokens_NL, ids.values(), strict=True)
        ]
    )
    return hidden_NLD[torch.arange(len(last_N)), last_N.to(hidden_NLD.device)].float().cpu()


def keys_and_values_distance(unet: Any, tokens_ND: Tensor) -> Tensor:
    """Return the mean distance of the concepts' cross-attention keys and values: float [N, N].

    Args:
        unet: UNet2DConditionModel; the mean is over all its cross-attention layers.
        tokens_ND: from `contextual_tokens`.
    """
    import torch

    layers = [module for name, module in unet.named_modules() if is_target(name, KEYS_AND_VALUES)]
    weight = next(unet.parameters())
    tokens_ND = tokens_ND.to(weight.device, weight.dtype)
    with torch.inference_mode():
        return torch.stack(
            [pairwise_cosine_distance(layer(tokens_ND).cpu()) for layer in layers]
        ).mean(0)


def measure_distances(
    spec: BaseModels,
    *,
    concepts: Mapping[str, str],
    stages: Mapping[str, Path | None],
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure the distances between concepts before training and after each stage.

    Args:
        spec: base models.
        concepts: name -> class word.
        stages: label -> what a training stage published, in order.
        device: torch device.

    Returns:
        `names`, and `stages`: label -> {"rows", "contextual", "keys_values"} -> mean, min and
        matrix. "before" comes first: every concept still is its class word, so concepts of one
        class have distance 0. Encoders beyond the first are not measured, and keys and values only
        where the U-Net reads one encoder.
    """
    from clif_exp.base_models.loading import load_pipeline, load_text_encoders
    from clif_exp.base_models.text_tuning import apply_text_tuning
    from clif_exp.base_models.unet_tuning.registry import load_unet_tuning

    names = list(concepts)
    pipeline: Any = load_pipeline(spec, device=device)
    report: dict[str, Any] = {"names": names, "stages": {}}
    for label, folder in {"before": None, **stages}.items():
        tokenizer, encoder = load_text_encoders(spec, device=device)["text_encoder"]
        if folder is None:
            ids = add_concept_tokens(tokenizer, encoder, concepts=concepts, num_tokens=2)
        elif (folder / EMBEDDINGS_FILE).exists():
            trained = load_concept_embeddings(folder / EMBEDDINGS_FILE)["text_encoder"]
            ids = apply_concept_embeddings(tokenizer, encoder, {n: trained[n] for n in names})
            apply_text_tuning(folder, {"text_encoder": encoder}, only_these=True)
        else:
            continue
        if folder is not None:
            load_unet_tuning(pipeline, folder)
        report["stages"][label] = _distances(spec, pipeline.unet, tokenizer, encoder, ids=ids)
    return report


def measure_words(spec: BaseModels, words: Sequence[str], *, device: str = "cpu") -> dict[str, Any]:
    """Measure the distances between words of the base model's vocabulary, as between concepts.

    Returns:
        As one of the `stages` of `measure_distances`, in the order of the words.
    """
    from clif_exp.base_models.loading import load_pipeline, load_text_encoders

    pipeline: Any = load_pipeline(spec, device=device)
    tokenizer, encoder = load_text_encoders(spec, device=device)["text_encoder"]
    same = {word: word for word in words}
    ids = add_concept_tokens(tokenizer, encoder, concepts=same, num_tokens=1)
    return _distances(spec, pipeline.unet, tokenizer, encoder, ids=ids)


def _distances(
    spec: BaseModels,
    unet: Any,
    tokenizer: Any,
    encoder: Any,
    *,
    ids: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    encoders = spec.record.encoders
    table_VD = encoder.get_input_embeddings().weight.detach().cpu()
    tokens_ND = contextual_tokens(tokenizer, encoder, ids=ids, record=encoders["text_encoder"])
    rows = {name: table_VD[list(tokens)] for name, tokens in ids.items()}
    distances = {
        "rows": pairwise_cosine_distance(mean_embeddings(rows, list(ids))),
        "contextual": pairwise_cosine_distance(tokens_ND),
    }
    if len(encoders) == 1:
        distances["keys_values"] = keys_and_values_distance(unet, tokens_ND)
    return {kind: summarise(matrix) for kind, matrix in distances.items()}
