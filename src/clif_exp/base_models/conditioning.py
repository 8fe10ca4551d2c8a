"""What a U-Net is conditioned on, computed as the stock pipelines compute it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clif_exp.base_models.families import Family
from clif_exp.base_models.tokens import tokenize


@dataclass(frozen=True)
class TextEncoders:
    """The text side of a pipeline: one encoder or more, which read the same caption.

    Attributes:
        encoders: encoder name -> (tokenizer, text encoder).
        num_tokens: concept name -> number of tokens.
        family: says which layers condition the U-Net, and what does besides.
        resolution: side of the images in px.
    """

    encoders: Mapping[str, tuple[Any, Any]]
    num_tokens: Mapping[str, int]
    family: Family
    resolution: int

    def tokenize(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """Return encoder name -> ids, int64 [B, 77].

        Padded as the pipelines do: the U-Net attends to the padding too.
        """
        return {
            name: tokenize(tokenizer, captions, num_tokens=self.num_tokens, pad="max_length")
            for name, (tokenizer, _) in self.encoders.items()
        }

    def encode(self, ids: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode token ids.

        Args:
            ids: encoder name -> int64 [B, 77].

        Returns:
            `hidden` [B, 77, D] and, where the family has one, `pooled` [B, P].
        """
        hidden, encoded = [], {}
        for name, (_, encoder) in self.encoders.items():
            record = self.family.encoders[name]
            output = encoder(
                ids[name].to(encoder.device), output_hidden_states=record.needs_hidden_states
            )
            hidden.append(record.hidden(output))
            if name == self.family.pooled:
                encoded["pooled"] = output.text_embeds
        return {"hidden": torch.cat(hidden, dim=-1), **encoded}

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
        hidden = encoded["hidden"]
        arguments: dict[str, Any] = {"encoder_hidden_states": hidden}
        if self.family.pooled is not None:
            side = self.resolution
            # Original size, crop corner, target size: images are trained in full, uncropped.
            ids = torch.tensor(
                [side, side, 0, 0, side, side], device=hidden.device, dtype=hidden.dtype
            )
            arguments["added_cond_kwargs"] = {
                "text_embeds": encoded["pooled"],
                "time_ids": ids.expand(len(hidden), -1),
            }
        return arguments
