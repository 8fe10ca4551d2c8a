"""What a U-Net is conditioned on, computed as the stock pipelines compute it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clif_exp.base_models.tokens import tokenize


@dataclass(frozen=True)
class TextEncoders:
    """The text side of a pipeline: one encoder (SD) or two (SDXL), which read the same caption.

    Args:
        encoders: encoder name -> (tokenizer, text encoder).
        num_tokens: concept name -> number of tokens.
        penultimate: read the layer before the last and the pooled features, as SDXL does.
        resolution: side of the images in px, for SDXL's time ids.
    """

    encoders: Mapping[str, tuple[Any, Any]]
    num_tokens: Mapping[str, int]
    penultimate: bool
    resolution: int

    def tokenize(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """Return encoder name -> ids, int64 [B, 77], padded as the pipelines do: the U-Net attends
        to the padding too.
        """
        return {
            name: tokenize(tokenizer, captions, num_tokens=self.num_tokens, pad="max_length")
            for name, (tokenizer, _) in self.encoders.items()
        }

    def encode(self, ids: Mapping[str, Tensor]) -> dict[str, Any]:
        """Encode token ids.

        Args:
            ids: encoder name -> int64 [B, 77].

        Returns:
            `hidden` [B, 77, D]; for SDXL also `pooled` [B, P].
        """
        hidden, pooled = [], None
        for name, (_, encoder) in self.encoders.items():
            output = encoder(ids[name].to(encoder.device), output_hidden_states=self.penultimate)
            hidden.append(
                output.hidden_states[-2] if self.penultimate else output.last_hidden_state
            )
            pooled = getattr(output, "text_embeds", None)
        encoded = {"hidden": torch.cat(hidden, dim=-1)}
        return encoded | {"pooled": pooled} if self.penultimate else encoded

    @torch.no_grad()
    def encode_captions(
        self, captions: Sequence[str], *, batch_size: int = 32
    ) -> dict[str, Tensor]:
        """Encode captions in batches, for caching on the CPU."""
        parts = [
            self.encode(self.tokenize(captions[start : start + batch_size]))
            for start in range(0, len(captions), batch_size)
        ]
        return {key: torch.cat([part[key].cpu() for part in parts]) for key in parts[0]}

    def unet_arguments(self, encoded: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the U-Net's keyword arguments for encoded captions."""
        arguments: dict[str, Any] = {"encoder_hidden_states": encoded["hidden"]}
        if self.penultimate:
            side = self.resolution
            # Original size, crop corner, target size: images are trained at their full, uncropped
            # size.
            ids = torch.tensor(
                [side, side, 0, 0, side, side],
                device=encoded["hidden"].device,
                dtype=encoded["hidden"].dtype,
            )
            time_ids = ids.expand(len(encoded["hidden"]), -1)
            arguments["added_cond_kwargs"] = {
                "text_embeds": encoded["pooled"],
                "time_ids": time_ids,
            }
        return arguments
