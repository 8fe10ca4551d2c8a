"""Training recipes of both CLIPs: symmetric InfoNCE over partial captions, and losses on words.

In so small a world the contrastive loss alone starts slowly. Predicting from the image, and from
the caption, which words a full caption would contain speeds it up. Other heads ask each word what
it belongs to (`binding`), and each name and each image of one figure what it looks like, slot by
slot: a U-Net reads single words, so the whole look has to be at the name. All heads are discarded.
Captions with two colours exchanged are negatives as well (NegCLIP: Yuksekgonul et al. 2023), or
features would be bags of words. The image tower can be trained further alone (`image_recipe`),
mostly on cut-outs; the text tower, which the U-Net reads, stays frozen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clif_exp.toonworld.architectures import build_clip, write_clip
from clif_exp.toonworld.names import named_characters
from clif_exp.toonworld.recipes import binding
from clif_exp.toonworld.recipes.corpus import Corpus
from clif_exp.toonworld.recipes.cut_outs import CUT_OUTS_ALONE, example
from clif_exp.toonworld.recipes.fit import Batch, Recipe
from clif_exp.toonworld.world import BASE_SLOTS, Character, Scene

WORD_WEIGHT = 8.0  # of the sum over the vocabulary's words, in thousands
LOOK_WEIGHT = 0.3  # of the sum over a character's slots


class _WithWords(nn.Module):
    def __init__(self, clip: Any, words: int):
        super().__init__()
        self.clip = clip
        self.from_image = nn.Linear(clip.config.vision_config.hidden_size, words)
        self.from_text = nn.Linear(clip.config.text_config.hidden_size, words)
        self.from_words = nn.ModuleList(
            nn.Linear(clip.config.text_config.hidden_size, len(classes))
            for classes in binding.CLASSES
        )
        self.looks_of_names, self.looks_of_images = (
            nn.ModuleList(nn.Linear(width, len(values)) for values in BASE_SLOTS.values())
            for width in (
                clip.config.text_config.hidden_size,
                clip.config.vision_config.hidden_size,
            )
        )


def recipe(
    corpus: Corpus, *, tokenizer: Any, judge: bool = False, steps: int = 3_000, batch_size: int = 64
) -> Recipe:
    """Train the CLIP of stage 1, or with `judge` the one that only evaluation uses.

    The judge differs in width, patch size, seed and images.
    """
    torch.manual_seed(4321 if judge else 1234)
    model = _WithWords(build_clip(tokenizer, judge=judge), len(tokenizer))
    resolution = model.clip.config.vision_config.image_size
    looks = {name: _look(character) for name, character in named_characters().items()}

    def batch(step: int) -> Batch:
        rng = np.random.default_rng([3 + judge, step])
        rows = np.sort(rng.choice(len(corpus), batch_size, replace=False))
        images, captions, full_captions = zip(
            *(example(corpus, int(row), rng) for row in rows), strict=True
        )
        exchanged = [binding.with_colours_exchanged(caption, rng) for caption in captions]
        text = tokenizer(
            [
                *captions,
                *(wrong or right for wrong, right in zip(exchanged, captions, strict=True)),
            ],
            padding=True,
            return_tensors="pt",
        )
        words = torch.zeros(batch_size, len(tokenizer))
        for row, ids in enumerate(tokenizer(list(full_captions)).input_ids):
            words[row, ids] = 1
        tokens = [
            tokenizer.convert_ids_to_tokens(ids[1 : int(mask.sum()) - 1].tolist())
            for ids, mask in zip(*(values[:batch_size] for values in text.values()), strict=True)
        ]
        named = [
            (row, place, looks[word])
            for row, caption in enumerate(tokens)
            for place, token in enumerate(caption)
            if (word := token.removesuffix("</w>")) in looks
        ]
        alone = [
            (place, _look(who))
            for place, (row, full) in enumerate(zip(rows, full_captions, strict=True))
            if (who := _alone(corpus.scenes[row])) is not None and who.species in full.split()
        ]
        return {
            "images_BCHW": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
            "named_K2": torch.tensor([place for *place, _ in named], dtype=torch.long).view(-1, 2),
            "looks_KS": _stacked([look for *_, look in named]),
            "alone_M": torch.tensor([place for place, _ in alone], dtype=torch.long),
            "looks_MS": _stacked([look for _, look in alone]),
            "exchanged_N": torch.tensor([wrong is not None for wrong in exchanged]),
            "input_ids": text.input_ids,
            "attention_mask": text.attention_mask,
            "words": words,
            "parse_BL4": binding.running_parse(
                [[token.removesuffix("</w>") for token in caption] for caption in tokens]
            ),
            "resolution": resolution,
        }

    def publish(trained: Any, out: Path) -> None:
        write_clip(out, tokenizer=tokenizer, clip=trained.clip)

    name = "judge_clip" if judge else "clip"
    return Recipe(
        name,
        model,
        batch,
        loss,
        publish,
        steps=steps,
        learning_rate=2e-3,
        average=0.998,
        weight_decay=0.05,
        core="clip",
    )


def _alone(scene: Scene) -> Character | None:
    """Return whom a scene shows, if nobody and nothing else."""
    return scene.figures[0].character if len(scene.figures) == 1 and not scene.items else None


def _stacked(looks: list[list[int]]) -> Tensor:
    return torch.tensor(looks, dtype=torch.long).view(-1, len(BASE_SLOTS))


def _look(character: Character) -> list[int]:
    """Return the index of each attribute among its slot's values."""
    return [values.index(getattr(character, slot)) for slot, values in BASE_SLOTS.items()]


def image_recipe(
    corpus: Corpus, *, folder: Path, steps: int = 1_500, batch_size: int = 64
) -> Recipe:
    """Train the image tower of the published CLIP in `folder`; its text tower stays frozen."""
    from transformers import CLIPModel, CLIPTokenizer

    model: Any = CLIPModel.from_pretrained(folder, attn_implementation="eager").float()
    for part in (model.text_model, model.text_projection):
        part.requires_grad_(False)
    model.logit_scale.requires_grad_(False)
    tokenizer = CLIPTokenizer.from_pretrained(folder)

    def batch(step: int) -> Batch:
        rng = np.random.default_rng([31, step])
        rows = np.sort(rng.choice(len(corpus), batch_size, replace=False))
        images, captions, _ = zip(
            *(example(corpus, int(row), rng, cut_outs=CUT_OUTS_ALONE) for row in rows), strict=True
        )
        # Images with the same caption are all right for it.
        same = torch.tensor([[float(one == other) for other in captions] for one in captions])
        text = tokenizer(list(captions), padding=True, return_tensors="pt")
        return {
            **text,
            "images_BCHW": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
            "targets_BB": same / same.sum(1),
        }

    def publish(trained: Any, out: Path) -> None:
        # Loaded again: padding a batch has changed the tokenizer's state.
        write_clip(out, tokenizer=CLIPTokenizer.from_pretrained(folder), clip=trained)

    return Recipe(
        "clip_image",
        model,
        batch,
        _image_loss,
        publish,
        steps=steps,
        learning_rate=1e-3,
        average=0.998,
        weight_decay=0.05,
    )


def _image_loss(model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    with torch.no_grad():
        text = model.text_model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).pooler_output
        text_ND = F.normalize(model.text_projection(text).float(), dim=-1)
    image = model.vision_model(pixel_values=batch["images_BCHW"].float() / 127.5 - 1).pooler_output
    logits = (
        model.logit_scale.exp().clamp(max=100)
        * text_ND
        @ F.normalize(model.visual_projection(image).float(), dim=-1).T
    )
    targets = batch["targets_BB"]
    loss = (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
    right = targets.gather(1, logits.argmax(1, keepdim=True)) > 0
    return loss, {"top1": right.float().mean()}


def loss(model: Any, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Contrastive and word losses of a batch, and scalars for the log."""
    images = batch["images_BCHW"].float() / 127.5 - 1
    if images.shape[-1] != batch["resolution"]:
        images = F.interpolate(images, size=(batch["resolution"],) * 2, mode="area")
    image = model.clip.vision_model(pixel_values=images).pooler_output
    read = model.clip.text_model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
    )
    text = read.pooler_output[: len(image)]
    image_ND = F.normalize(model.clip.visual_projection(image).float(), dim=-1)
    # The captions, then the same with two colours exchanged, or as they were if they have none.
    text_TD = F.normalize(model.clip.text_projection(read.pooler_output).float(), dim=-1)
    logits_TN = model.clip.logit_scale.exp().clamp(max=100) * text_TD @ image_ND.T
    logits, wrong = logits_TN.split(len(image))
    wrong = wrong.masked_fill(~batch["exchanged_N"][:, None], -torch.inf)
    labels = torch.arange(len(logits))
    contrastive = (
        F.cross_entropy(logits, labels) + F.cross_entropy(torch.cat([logits, wrong]).T, labels)
    ) / 2
    words = _words_missed(model.from_image(image), batch["words"])
    words = words + _words_missed(model.from_text(text), batch["words"])
    # After the start token.
    states = read.last_hidden_state[: len(image), 1 : 1 + batch["parse_BL4"].shape[1]]
    bound = torch.stack(
        [
            F.cross_entropy(
                head(states).float().flatten(0, 1),
                batch["parse_BL4"][..., index].flatten(),
                ignore_index=binding.IGNORED,
            )
            for index, head in enumerate(model.from_words)
        ]
    ).sum()
    at_names = states[batch["named_K2"][:, 0], batch["named_K2"][:, 1]]
    named = _misread(model.looks_of_names, at_names, batch["looks_KS"])
    seen = _misread(model.looks_of_images, image[batch["alone_M"]], batch["looks_MS"])
    top1 = logits.argmax(1).eq(labels).float().mean()
    scalars = {
        "contrastive": contrastive.detach(),
        "words": words.detach(),
        "bound": bound.detach(),
        "named": named.detach(),
        "seen": seen.detach(),
        "told_exchanged": (logits.diagonal() > wrong.diagonal())[batch["exchanged_N"]]
        .float()
        .mean(),
        "top1": top1,
    }
    return contrastive + WORD_WEIGHT * words + bound + LOOK_WEIGHT * (named + seen), scalars


def _misread(heads: nn.ModuleList, features_NC: Tensor, looks_NS: Tensor) -> Tensor:
    """Cross-entropy of a look, summed over its slots; 0 where there is none."""
    entropies = [
        F.cross_entropy(head(features_NC).float(), looks_NS[:, slot], reduction="sum")
        for slot, head in enumerate(heads)
    ]
    return torch.stack(entropies).sum() / max(1, len(looks_NS))


def _words_missed(logits_NV: Tensor, words_NV: Tensor) -> Tensor:
    """Binary cross-entropy, in thousands of the vocabulary's words; 0 where there is no row."""
    entropies = F.binary_cross_entropy_with_logits(logits_NV.float(), words_NV, reduction="sum")
    return entropies / max(1, len(words_NV)) / 1_000
