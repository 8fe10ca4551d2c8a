"""Concept embeddings of their own for every cross-attention layer of the U-Net.

P+ (Voynov et al. 2023, "P+: Extended Textual Conditioning in Text-to-Image Generation") and
Mix-of-Show's ED-LoRA (Gu et al. 2023): layer l reads the prompt's features as they are with the
concept's embeddings of layer l.

A text encoder with `LayerwiseEmbeddings` computes the features of a prompt once per layer and lays
them one after another along the sequence, [B, layers * 77, D]; in a U-Net with `slice_text` every
layer takes its own 77. So stock pipelines, `TextEncoders` and training use them as they use others,
and gradients flow. Prompts without a concept are computed once.

File: layerwise_embeddings.safetensors, keys `<encoder>.<concept>`, float32 [layers, T, D], layers
in the order of `cross_attention_layers`. A folder holds it in place of
concept_embeddings.safetensors: who reads [T, D] there finds no file rather than a wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.base_models.tokens import (
    apply_concept_embeddings,
    load_concept_embeddings,
    save_concept_embeddings,
)
from clif_exp.base_models.trained_tokens import ConceptEmbeddings

if TYPE_CHECKING:
    from torch import Tensor, nn

LAYERWISE_FILE = "layerwise_embeddings.safetensors"


def cross_attention_layers(unet: Any) -> list[str]:
    """Return the names of a U-Net's cross-attention layers in the order in which they compute.

    Args:
        unet: UNet2DConditionModel.
    """
    return [
        f"{part}.{name}"
        for part in ("down_blocks", "mid_block", "up_blocks")
        if getattr(unet, part, None) is not None
        for name, _ in getattr(unet, part).named_modules()
        if name.endswith(".attn2")
    ]


def slice_text(unet: Any, *, tokens: int) -> Callable[[], None]:
    """Let every cross-attention layer read its own part of the text features.

    Args:
        unet: UNet2DConditionModel, then called with `encoder_hidden_states` [B, layers * tokens,
            D]; changes in place.
        tokens: of a prompt, padding included (77).

    Returns:
        What undoes it.
    """
    layers = cross_attention_layers(unet)

    def taking(index: int) -> Callable[..., Any]:
        def take(
            _module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            text_BLD = named["encoder_hidden_states"]
            if text_BLD.shape[1] != len(layers) * tokens:
                raise ValueError(
                    f"encoder_hidden_states: found {text_BLD.shape[1]} tokens; with layer-wise"
                    f" embeddings the U-Net reads {len(layers)} x {tokens}. Encode the prompt"
                    " with the pipeline's own text encoders."
                )
            own = text_BLD[:, index * tokens : (index + 1) * tokens]
            return arguments, named | {"encoder_hidden_states": own}

        return take

    handles = [
        unet.get_submodule(name).register_forward_pre_hook(taking(index), with_kwargs=True)
        for index, name in enumerate(layers)
    ]

    def remove() -> None:
        for handle in handles:
            handle.remove()

    return remove


class LayerwiseEmbeddings:
    """Concept embeddings per layer as one small trainable parameter, read by the text encoder.

    As `tokens.ConceptEmbeddings` does, it inserts them into the output of the token embedding, so
    that nothing else of the table can move. The encoder then returns features [B, layers * 77, D],
    and pooled text as the mean over layers.

    Args:
        text_encoder: CLIPTextModel or CLIPTextModelWithProjection, whose table holds the concepts'
            tokens; changes in place.
        token_ids: concept name -> token ids.
        layers: of the U-Net.
        rows: concept name -> embeddings to start from, float [layers, T, D]; None: the table's, for
            all layers.

    Attributes:
        weight: the trainable parameter, float32 [layers, all concepts' tokens, D].
        flat_ids: the token id of each of its rows, int64.
        initial_norm: mean norm of these rows at the start.
    """

    def __init__(
        self,
        text_encoder: Any,
        *,
        token_ids: Mapping[str, Sequence[int]],
        layers: int,
        rows: Mapping[str, Tensor] | None = None,
    ) -> None:
        import torch
        from torch import nn

        self.token_ids = {name: list(ids) for name, ids in token_ids.items()}
        self.layers = layers
        self.embedding: nn.Embedding = text_encoder.get_input_embeddings()
        self._limit = int(text_encoder.config.max_position_embeddings)
        table = self.embedding.weight.detach()
        self.flat_ids = torch.tensor(
            [i for ids in self.token_ids.values() for i in ids], device=table.device
        )
        start = (
            table[self.flat_ids].expand(layers, -1, -1)
            if rows is None
            else torch.cat([rows[name].to(table.device) for name in self.token_ids], dim=1)
        )
        self.weight: Tensor = nn.Parameter(start.float().clone())
        self.initial_norm = float(self.mean_norm())
        self._copies = 1  # of each prompt in the pass that runs now
        self._handles = [
            text_encoder.register_forward_pre_hook(self._copy_prompts, with_kwargs=True),
            self.embedding.register_forward_hook(self._insert),
            text_encoder.register_forward_hook(self._lay_out),
        ]

    def _copy_prompts(
        self, _module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Give every layer a copy of each prompt that names a concept."""
        import torch

        given = dict(zip(("input_ids", "attention_mask"), arguments)) | named
        self.flat_ids = self.flat_ids.to(given["input_ids"].device)
        named_one = torch.isin(given["input_ids"], self.flat_ids).any()
        self._copies = self.layers if named_one else 1
        for key in ("input_ids", "attention_mask"):
            if given.get(key) is not None:
                # Stock pipelines pad the negative prompt to the length of the positive features.
                cut_BL = given[key][:, : self._limit]
                given[key] = cut_BL.repeat_interleave(self._copies, dim=0)
        return (), given

    def _insert(self, _module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        """Put in the embeddings of the layer that each copy is for."""
        import torch
        import torch.nn.functional as F

        if self._copies == 1:
            # No prompt names a concept. A gradient of zero is one: there may be nothing else that
            # trains, and ranks wait for each other's.
            return output + 0.0 * self.weight.sum().to(output.dtype)
        ids_BL = inputs[0]
        equal_BLR = ids_BL[..., None] == self.flat_ids.to(ids_BL.device)
        layer_B1 = (torch.arange(len(ids_BL), device=ids_BL.device) % self.layers)[:, None]
        index_BL = layer_B1 * len(self.flat_ids) + equal_BLR.int().argmax(dim=-1)
        inserted = F.embedding(index_BL, self.weight.flatten(end_dim=1)).to(output.dtype)
        return torch.where(equal_BLR.any(dim=-1, keepdim=True), inserted, output)

    def _lay_out(self, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
        """Lay the copies' features along the sequence, and average what has no sequence."""
        if hasattr(output, "keys"):
            return type(output)(**{key: self._laid(value) for key, value in output.items()})
        return self._laid(output)

    def _laid(self, value: Any) -> Any:
        if isinstance(value, tuple | list):
            return tuple(self._laid(part) for part in value)
        if value is None or value.ndim > 3:
            return value
        if value.ndim == 2:
            return value.unflatten(0, (-1, self._copies)).mean(dim=1)
        if self._copies == 1:
            return value.repeat(1, self.layers, 1)
        return value.reshape(-1, self.layers * value.shape[1], value.shape[2])

    def by_concept(self) -> dict[str, Tensor]:
        """Return concept name -> its embeddings, float32 [layers, T, D], detached CPU copies."""
        lengths = [len(ids) for ids in self.token_ids.values()]
        split = self.weight.detach().cpu().clone().split(lengths, dim=1)
        return {name: own.contiguous() for name, own in zip(self.token_ids, split, strict=True)}

    def mean_norm(self) -> Tensor:
        """Return the embeddings' mean norm, a scalar without gradient."""
        return self.weight.detach().norm(dim=-1).mean()

    def write_back(self) -> None:
        """Write their mean over layers to the token table, which the insertion goes before."""
        import torch

        with torch.no_grad():
            table = self.embedding.weight
            table[self.flat_ids.to(table.device)] = self.weight.mean(dim=0).to(
                table.device, table.dtype
            )

    def detach(self) -> None:
        """Write the mean back and let the text encoder be a stock one."""
        self.write_back()
        for handle in self._handles:
            handle.remove()


def insert_layerwise(
    pipeline: Any,
    encoders: Mapping[str, tuple[Any, Any]],
    embeddings: Mapping[str, Mapping[str, Tensor]],
) -> dict[str, LayerwiseEmbeddings]:
    """Put concepts with layer-wise embeddings into a stock pipeline, which then runs as ever.

    Args:
        pipeline: changes in place.
        encoders: text encoder -> (tokenizer, model) of the pipeline.
        embeddings: text encoder -> concept -> float [layers, T, D].

    Returns:
        Text encoder -> what holds its embeddings.

    Raises:
        ValueError: they are of another number of layers than the U-Net's, or as
            `tokens.apply_concept_embeddings`.
    """
    layers = len(cross_attention_layers(pipeline.unet))
    held = {}
    for name, own in embeddings.items():
        for concept, rows_LTD in own.items():
            if rows_LTD.ndim != 3 or len(rows_LTD) != layers:
                raise ValueError(
                    f"embeddings of '{concept}': found shape {tuple(rows_LTD.shape)}; this U-Net"
                    f" has {layers} cross-attention layers and needs [{layers}, tokens, width]."
                    " Were they trained for another base model?"
                )
        means = {concept: rows_LTD.mean(dim=0) for concept, rows_LTD in own.items()}
        token_ids = apply_concept_embeddings(*encoders[name], means)
        held[name] = LayerwiseEmbeddings(
            encoders[name][1], token_ids=token_ids, layers=layers, rows=own
        )
        held[name].weight.requires_grad_(False)
    slice_text(pipeline.unet, tokens=next(iter(encoders.values()))[0].model_max_length)
    return held


def save_layerwise_embeddings(folder: Path, embeddings: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write text encoder -> concept -> [layers, T, D] into a folder, as float32."""
    save_concept_embeddings(folder / LAYERWISE_FILE, embeddings)


def load_layerwise_embeddings(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Read a folder's text encoder -> concept -> float32 [layers, T, D].

    Raises:
        ValueError: there is no such file.
    """
    return load_concept_embeddings(folder / LAYERWISE_FILE)


TrainedEmbeddings = ConceptEmbeddings | LayerwiseEmbeddings
"""Concept embeddings in training, shared by the U-Net's layers or one set for each."""
