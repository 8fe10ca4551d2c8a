"""Both CLIPs: symmetric InfoNCE over captions that mention a random part of the truth, helped by a word loss on either side.

In so small a world the contrastive loss alone starts slowly; predicting from the picture, and from the caption, which
words a full caption would hold speeds it up. The word heads are thrown away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clif_exp.toonworld.architectures import build_clip, build_tokenizer, write_clip
from clif_exp.toonworld.grammar import caption, full_caption
from clif_exp.toonworld.recipes.corpus import Corpus
from clif_exp.toonworld.recipes.fit import Batch, Recipe

WORD_WEIGHT = 8.0


class _WithWords(nn.Module):
    def __init__(self, clip: Any, words: int):
        super().__init__()
        self.clip = clip
        self.from_image = nn.Linear(clip.config.vision_config.hidden_size, words)
        self.from_text = nn.Linear(clip.config.text_config.hidden_size, words)


def recipe(corpus: Corpus, *, judge: bool = False, steps: int = 3_000, batch_size: int = 64) -> Recipe:
    """The CLIP of stage 1, or with `judge` the one that only evaluation uses (other width, patches, seed and pictures)."""
    tokenizer = build_tokenizer()
    torch.manual_seed(4321 if judge else 1234)
    model = _WithWords(build_clip(tokenizer, judge=judge), len(tokenizer))
    resolution = model.clip.config.vision_config.image_size

    def batch(step: int) -> Batch:
        rng = np.random.default_rng([3 + judge, step])
        rows = np.sort(rng.choice(len(corpus), batch_size, replace=False))
        scenes = [corpus.scenes[row] for row in rows]
        text = tokenizer([caption(scene, rng) for scene in scenes], padding=True, return_tensors="pt")
        full = tokenizer([full_caption(scene) for scene in scenes]).input_ids
        words = torch.zeros(batch_size, len(tokenizer))
        for row, ids in enumerate(full):
            words[row, ids] = 1
        return {
            "images_BCHW": torch.from_numpy(corpus.images_NHWC[rows]).permute(0, 3, 1, 2),
            "input_ids": text.input_ids,
            "attention_mask": text.attention_mask,
            "words": words,
            "resolution": resolution,
        }

    def publish(trained: Any, out: Path) -> None:
        write_clip(out, tokenizer=tokenizer, clip=trained.clip)

    name = "judge_clip" if judge else "clip"
    return Recipe(name, model, batch, loss, publish, steps=steps, learning_rate=2e-3, average=0.998, weight_decay=0.05)


def loss(model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    images = batch["images_BCHW"].float() / 127.5 - 1
    if images.shape[-1] != batch["resolution"]:
        images = F.interpolate(images, size=(batch["resolution"],) * 2, mode="area")
    image = model.clip.vision_model(pixel_values=images).pooler_output
    text = model.clip.text_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).pooler_output
    image_ND = F.normalize(model.clip.visual_projection(image).float(), dim=-1)
    text_ND = F.normalize(model.clip.text_projection(text).float(), dim=-1)
    logits = model.clip.logit_scale.exp().clamp(max=100) * text_ND @ image_ND.T
    labels = torch.arange(len(logits))
    contrastive = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    words = torch.stack(
        [
            F.binary_cross_entropy_with_logits(head(features).float(), batch["words"])
            for head, features in ((model.from_image, image), (model.from_text, text))
        ]
    ).sum()
    top1 = logits.argmax(1).eq(labels).float().mean()
    return contrastive + WORD_WEIGHT * words, {"contrastive": contrastive.detach(), "words": words.detach(), "top1": top1}
