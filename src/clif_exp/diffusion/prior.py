"""Prior preservation (DreamBooth): the base model's own images of the concepts' class words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from clif_exp.artifacts.files import whole_file
from clif_exp.artifacts.sharing import share

if TYPE_CHECKING:
    from clif_exp.concepts.concept import ConceptSet


def draw_prior(folder: Path, pipeline: Any, concepts: ConceptSet, *, count: int, seed: int) -> None:
    """Draw each class word with the base model; ranks share the work, existing images are kept.

    Args:
        folder: for `<class word>/NNNN.png`.
        pipeline: stock, without the concepts.
        concepts: whose class words.
        count: images per class word.
        seed: of their noise.
    """
    words = {
        word: folder / word.replace(" ", "_")
        for word in sorted({concept.class_word for concept in concepts.concepts})
    }
    for target in words.values():
        target.mkdir(parents=True, exist_ok=True)
    tasks = {
        f"{target.name}_{index:04d}": (word, index)
        for word, target in words.items()
        for index in range(count)
    }

    def file_of(key: str) -> Path:
        word, index = tasks[key]
        return words[word] / f"{index:04d}.png"

    def work(key: str) -> None:
        word, index = tasks[key]
        generator = torch.Generator().manual_seed(seed * 100_003 + index)
        image = pipeline(
            prompt=f"a photo of a {word}", generator=generator, num_inference_steps=25
        ).images[0]
        with whole_file(file_of(key)) as partial:
            image.save(partial, format="PNG")

    share(
        folder,
        tasks,
        done=lambda key: file_of(key).is_file(),
        work=work,
        description="drawing prior images",
    )
