"""What is made and checked before anything expensive runs: the dataset, the concepts' words, the
prompts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.store import Artifact, ArtifactStore
from clif_exp.runs.stages.versions import version_of

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BackboneSpec
    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.prompts.evaluation import EvaluationPrompt

log = logging.getLogger("clif_exp")


def materialise_dataset(store: ArtifactStore, settings: Mapping[str, Any]) -> Artifact | None:
    """Write a dataset that makes itself (ToonWorld, photos) into a folder like a user's; None for a
    user's folder.
    """
    if settings["name"] == "folder":
        return None
    config = {key: settings[key] for key in ("name", "size", "cast_seed")}

    def build(out: Path) -> None:
        if settings["name"] == "toonworld":
            from clif_exp.toonworld.cast import write_cast

            write_cast(out, cast_seed=settings["cast_seed"], size=settings["size"])
        else:
            from clif_exp.curation.photos import write_photos

            write_photos(out)

    module = "toonworld/cast.py" if settings["name"] == "toonworld" else "curation/photos.py"
    return store.get_or_build(
        "dataset", version=version_of(module), config=config, inputs={}, build=build
    )


def leave_parts_unnamed(config: dict[str, Any]) -> dict[str, Any]:
    """Turn part names and R-Aug off, for images that the base model knows nothing of: its CLIP
    would call collars faces.
    """
    model, domain = config["model"], config["dataset"]["domain"]
    log.warning(
        "model=%s knows images of %s only, dataset.domain is %s: parts stay unnamed and R-Aug is"
        " left out. A model of such images (model=sd15) names them; if they are drawings of %s,"
        " say so with dataset.domain=%s",
        *(model["family"], model["domain"], domain, model["domain"], model["domain"]),
    )
    captioner, augmentation = config["captioner"], config["augmentation"]
    return config | {
        "captioner": captioner | {"naming": captioner["naming"] | {"enabled": False}},
        "augmentation": augmentation | {"region": augmentation["region"] | {"num_pairs": 0}},
    }


def check_concepts(concepts: ConceptSet, *, spec: BackboneSpec, num_tokens: int) -> None:
    """Refuse class words, names and captions that do not fit the base model's tokenizer.

    Args:
        concepts: the set.
        spec: resolved base models.
        num_tokens: tokens per concept, which captions will hold.

    Raises:
        ValueError: names the concept, and the image whose caption is too long.
    """
    from transformers import CLIPTokenizer

    from clif_exp.concepts.reading import check_against_tokenizer

    where: dict[str, Any] = {"subfolder": "tokenizer", "revision": spec.revision}
    tokenizer = CLIPTokenizer.from_pretrained(str(spec.path), **where)
    check_against_tokenizer(concepts, tokenizer=tokenizer)
    for concept in concepts.concepts:
        for image in concept.images:
            words = (image.caption or "").replace(f"<{concept.name}>", "a " * num_tokens)
            length = len(tokenizer(words).input_ids)
            if length > tokenizer.model_max_length:
                found = (
                    f"its caption has {length} tokens, the text encoder reads"
                    f" {tokenizer.model_max_length}"
                )
                raise ValueError(
                    f"concept '{concept.name}': {Path(image.file).name}: {found}. Shorten it."
                )


def select_prompts(concepts: ConceptSet, generation: Mapping[str, Any]) -> list[EvaluationPrompt]:
    """Build the evaluation prompts."""
    from clif_exp.prompts.evaluation import build_prompts

    return build_prompts(
        {concept.name: concept.class_word for concept in concepts.concepts}, **generation["prompts"]
    )
