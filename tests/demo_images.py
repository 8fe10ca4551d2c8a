"""Drawings in place of images that a model would draw, with errors, judged as such."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from clif_exp.evaluation.figures import Figure
from clif_exp.evaluation.scoring import Row, judge_line
from clif_exp.generation.attention import select_prompts
from clif_exp.prompts.evaluation import EvaluationPrompt
from clif_exp.toonworld.cast import default_cast
from clif_exp.toonworld.characters import sample_character
from clif_exp.toonworld.drawing.render import render
from clif_exp.toonworld.grammar import truth as visible_truth
from clif_exp.toonworld.placing import place_pair
from clif_exp.toonworld.world import Character, Scene
from clif_exp.toonworld.world import Figure as Placed

NAMES = ("milo", "otto", "luna", "bolt")
CONTEXTS = {
    "beach": "beach",
    "forest": "forest",
    "snow": "snow",
    "street": "street",
    "night": "night",
}


def draw(
    prompt: EvaluationPrompt, characters: Sequence[Character], file: Path, *, seed: int
) -> list[Figure]:
    """Draw a prompt's characters and return what a faultless reader sees."""
    rng = np.random.default_rng(seed)
    context = next((place for word, place in CONTEXTS.items() if word in prompt.text), "meadow")
    interaction = next(
        (word for word in ("hugging", "behind", "riding") if word in prompt.text), "left of"
    )
    if len(characters) == 2:
        figures: tuple[Placed, ...] = tuple(place_pair(rng, *characters, interaction))
    else:
        spots = (np.arange(len(characters)) + 0.5) / len(characters)
        figures = tuple(
            Placed(who, float(x), 0.95, 0.6 if len(characters) == 1 else 0.4)
            for who, x in zip(characters, spots, strict=True)
        )
    scene = Scene(figures, context, interaction if len(figures) == 2 else None, seed=seed)
    rendering = render(scene)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rendering.image).save(file)
    boxes = [
        tuple(side / 128 for side in box) if box else (0.0, 0.0, 0.0, 0.0)
        for box in rendering.boxes
    ]
    return [
        Figure(box, 0.9, slots)
        for box, slots in zip(boxes, visible_truth(scene, rendering), strict=True)
    ]


def spoil(characters: list[Character], index: int) -> list[Character]:
    """Every third image of a pair swaps hats, every seventh loses a figure."""
    if len(characters) == 2 and index % 7 == 6:
        return characters[:1]
    if len(characters) == 2 and index % 3 == 2:
        a, b = characters
        return [
            replace(a, hat=b.hat, hat_colour=b.hat_colour),
            replace(b, hat=a.hat, hat_colour=a.hat_colour),
        ]
    return characters


def publish_images(
    out: Path,
    prompts: Sequence[EvaluationPrompt],
    *,
    truth: dict[str, dict[str, str]],
    strange: bool = False,
) -> list[Row]:
    """Draw every prompt as a generation artifact, and judge the drawings.

    With `strange`, somebody else of the concept's species stands for it.
    """
    cast, rows, lines = default_cast(), [], []
    for index, prompt in enumerate(prompts):
        strangers = [
            replace(sample_character(np.random.default_rng(index)), species=figure["species"])
            for figure in prompt.expected or ([truth[name] for name in prompt.concepts])
        ]
        named = [] if strange else [cast[name] for name in prompt.concepts]
        characters = spoil(named or strangers, index)
        file = f"images/{prompt.id}-s000.png"
        figures = draw(prompt, characters, out / file, seed=index)
        fields = prompt.to_json()
        renamed = {
            "prompt_id": fields.pop("id"),
            "prompt": fields.pop("text"),
            "text_for_alignment": fields.pop("class_text"),
        }
        line = {"file": file, **renamed, **fields, "seed": 0}
        lines.append(json.dumps(line))
        scores = {
            "text_alignment": 0.6 + 0.01 * (index % 7),
            "text_cosine": 0.24 + 0.004 * (index % 7),
            "image_alignment": 0.8 if prompt.concepts else None,
            "detect_and_compare": 0.7 if prompt.kind == "multi" else None,
        }
        rows.append(
            Row(
                line,
                scores,
                figures,
                judge_line(
                    line,
                    figures,
                    names=NAMES,
                    truth=truth,
                    presence_threshold=0.5,
                    identity_threshold=0.75,
                ),
            )
        )
    (out / "generations.jsonl").write_text("\n".join(lines) + "\n")
    return rows


def publish_attention(artifacts: dict[str, Path], prompts: Sequence[EvaluationPrompt]) -> None:
    """Write drawings as images and as maps, of one concept and of one pair."""
    cast = default_cast()
    for name in ("attention_class_word", "attention_stage1", "attention"):
        lines = []
        for prompt in select_prompts(prompts, singles=1, pairs=1):
            files = {who: {"8": f"heat/{prompt.id}-{who}-8.png"} for who in prompt.concepts}
            image = f"images/{prompt.id}.png"
            for file in (image, *(own["8"] for own in files.values())):
                draw(prompt, [cast[who] for who in prompt.concepts], artifacts[name] / file, seed=0)
            text = prompt.class_text if name == "attention_class_word" else prompt.text
            line = {"prompt_id": prompt.id, "prompt": text, "file": image, "heat": files, "side": 8}
            peaks = dict.fromkeys(prompt.concepts, 0.25)
            overlap = 0.5 if len(files) == 2 else None
            lines.append(json.dumps(line | {"peak": peaks, "overlap": overlap}))
        (artifacts[name] / "attention.jsonl").write_text("\n".join(lines) + "\n")


def publish_augmented(out: Path, kind: str, caption: str, characters: Sequence[Character]) -> None:
    lines = []
    for index in range(8):
        file = f"images/{index:06d}.png"
        prompt = EvaluationPrompt("m", caption, "multi", "side", (), caption)
        draw(prompt, characters, out / file, seed=100 + index)
        lines.append(
            json.dumps(
                {
                    "file": file,
                    "caption": caption,
                    "kind": kind,
                    "seed": [0, kind, index],
                    "sources": [],
                }
            )
        )
    (out / "manifest.jsonl").write_text("\n".join(lines) + "\n")
