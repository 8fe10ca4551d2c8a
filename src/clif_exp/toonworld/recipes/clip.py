"""Training recipes of both CLIPs: symmetric InfoNCE over partial captions, and two losses on words.

In so small a world the contrastive loss alone starts slowly. Predicting from the image, and from
the caption, which words a full caption would contain speeds it up. The second loss asks each word
what it belongs to (`binding`), and each name and each image of one figure what it looks like, slot
by slot: a U-Net reads single words, so the whole look has to be at the name. Captions with two
colours exchanged are negatives as well (NegCLIP: Yuksekgonul et al. 2023), or features are bags of
words. The heads are discarded. Some images are cut-outs on white, as in
the paper's region augmentation. The image tower can be trained further alone (`image_recipe`),
mostly on cut-outs; the text tower, which the U-Net reads, stays frozen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from clif_exp.concepts.images import on_white
from clif_exp.toonworld.architectures import RESOLUTION, build_clip, write_clip
from clif_exp.toonworld.drawing.render import LABELS_PER_FIGURE
from clif_exp.toonworld.grammar import article, caption, full_caption, item_phrase, phrase
from clif_exp.toonworld.names import name_of, named_characters
from clif_exp.toonworld.recipes import binding
from clif_exp.toonworld.recipes.corpus import Corpus
from clif_exp.toonworld.recipes.fit import Batch, Recipe
from clif_exp.toonworld.world import BASE_SLOTS, PARTS, Character, Item, Scene

WORD_WEIGHT = 8.0  # of the sum over the vocabulary's words, in thousands
LOOK_WEIGHT = 0.3  # of the sum over a character's slots
CUT_OUTS = 0.35  # share of the images
CUT_OUTS_ALONE = 0.6  # when the image tower is trained alone
OWNERS = 0.5  # share of the parts of whoever has a name that are called "NAME's hat"
SMALLEST = 40  # pixels of a part that is cut out
_COVERED = {
    "hat": ("hat",),
    "top": ("top", "arms"),
    "bottom": ("bottom",),
    "accessory": ("accessory",),
}

# What a figure has besides clothes. CLIP names parts, so it must know these to leave them out.
_BODY = {
    "head": ("a head", "a face"),
    "hair": ("hair",),
    "arms": ("arms",),
    "legs": ("legs",),
    "tail": ("a tail",),
}


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


def example(
    corpus: Corpus, row: int, rng: np.random.Generator, *, cut_outs: float = CUT_OUTS
) -> tuple[np.ndarray, str, str]:
    """Draw an image, uint8 [128, 128, 3], with a partial and a full caption."""
    scene = corpus.scenes[row]
    if rng.random() < cut_outs and scene.figures:
        cut_out = _cut_out(corpus, row, rng)
        if cut_out is not None:
            return cut_out
    names = [name_of(figure.character) or "" for figure in scene.figures]
    full = " ".join([full_caption(scene), *names])
    return corpus.images_NHWC[row], caption(scene, rng), full


def _cut_out(
    corpus: Corpus, row: int, rng: np.random.Generator
) -> tuple[np.ndarray, str, str] | None:
    """Cut out a figure or one of its parts on white; None if too little of it is visible."""
    scene, labels_HW = corpus.scenes[row], corpus.labels_NHW[row]
    element = int(rng.integers(len(scene.figures)))
    who = scene.figures[element].character
    worn = [part for part in _COVERED if getattr(who, part) != "none"]
    part = str(rng.choice(["whole", *worn, *worn, *_BODY]))
    within = (labels_HW > element * LABELS_PER_FIGURE) & (
        labels_HW <= (element + 1) * LABELS_PER_FIGURE
    )
    if part != "whole":
        covered = (
            _COVERED[part][: 1 + int(rng.integers(len(_COVERED[part])))]
            if part in _COVERED
            else (part,)
        )
        within &= np.isin(
            labels_HW, [1 + element * LABELS_PER_FIGURE + PARTS.index(name) for name in covered]
        )
        if rng.random() < 0.5:  # a segmenter gives one arm, or half a jacket beside a scarf
            pieces, count = ndimage.label(within)
            within = pieces == 1 + rng.integers(count) if count else within
    if within.sum() < SMALLEST:
        return None
    image = on_white(corpus.images_NHWC[row], within, margin=rng.uniform(0.03, 0.3)).resize(
        (RESOLUTION,) * 2, Image.Resampling.BILINEAR
    )
    partial, full = _names_of_cut_out(who, part, rng)
    opening = "" if rng.random() < 0.1 else "a photo of "
    ending = " on a white background" if rng.random() < 0.15 else ""
    return (
        np.asarray(image),
        f"{opening}{partial}{ending}",
        f"a photo of {full} on a white background",
    )


def _names_of_cut_out(who: Character, part: str, rng: np.random.Generator) -> tuple[str, str]:
    """Name a cut-out partially and in full; `part` "whole" is the figure."""
    if part == "whole":
        return phrase(who, rng), f"{phrase(who, full=True)} {name_of(who) or ''}"
    if part in _BODY:
        name = str(rng.choice(_BODY[part]))
        return name, name
    colour = "none" if part == "accessory" else getattr(who, f"{part}_colour")
    item = Item(
        part,
        getattr(who, part),
        colour,
        0.5,
        0.5,
        1.0,
        who.pattern if part == "top" else "plain",
        who.style,
    )
    partial = article(item.kind) if rng.random() < 0.3 else item_phrase(item, rng)
    if (owner := name_of(who)) is not None and rng.random() < OWNERS:
        partial = f"{owner} 's {item.kind}"
    return partial, item_phrase(item)


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
