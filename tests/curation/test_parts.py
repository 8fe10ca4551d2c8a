"""How a concept's regions become its parts, and what is told of those that do not."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from clif_exp.artifacts.files import write_jsonl
from clif_exp.curation.masks import iou
from clif_exp.curation.omissions import left_out, without_parts
from clif_exp.curation.parts import name_parts, over_segment
from clif_exp.curation.segmenters.proposals import Proposals
from support import settings


def test_parts_that_have_no_name_are_told_with_what_would_do(tmp_path, drawn):
    rick, morty = (replace(drawn.concepts[i], parts=("hat", "coat")) for i in range(2))
    concepts = replace(drawn, concepts=(rick, morty))
    found = [(rick, "part", None)] * 3 + [(morty, "part", "hat"), (morty, "part", None)]
    write_jsonl(
        tmp_path / "segments.jsonl",
        [{"concept": who.name, "kind": kind, "part": part} for who, kind, part in found],
    )
    told = without_parts(tmp_path, concepts=concepts, naming=True)
    assert told[rick.name].startswith("None of 3 regions fits a part's name.")
    assert "a box, a point or a mask" in told[rick.name]
    assert "captioner.naming.threshold" in told[rick.name]
    assert told[morty.name] == "No region fits coat of its listed parts."
    off = without_parts(tmp_path, concepts=concepts, naming=False)
    assert "captioner.naming.enabled=false" in off[rick.name]
    write_jsonl(tmp_path / "segments.jsonl", [])
    none = without_parts(tmp_path, concepts=concepts, naming=True)[rick.name]
    assert none.startswith("No parts were found. List some in concepts.yaml")


def test_what_augmented_images_leave_out_is_told(tmp_path, drawn):
    (first, *_), rest = drawn.concepts, len(drawn.concepts) - 1
    write_jsonl(
        tmp_path / "segments.jsonl",
        [{"concept": first.name, "kind": "part", "part": part} for part in (first.parts[0], None)],
    )
    write_jsonl(
        tmp_path / "contexts.jsonl",
        [
            {"name": name, "kept": kept}
            for name, kept in (("cat", False), ("cat", True), ("dog", False), ("dog", False))
        ],
    )
    told = left_out(tmp_path, tmp_path, concepts=drawn, naming=True, kinds="GR")
    assert told[0].startswith("1 of 2 regions of the concepts")
    assert sum("its parts: No parts were found" in text for text in told) == rest
    assert told[-1].endswith("augmentation.contexts.screen: dog.")
    assert left_out(tmp_path, None, concepts=drawn, naming=True, kinds="GM") == []


class Colours:
    """Stands in for CLIP where the answer must be known: an image is its mean colour."""

    scale = 20.0
    words: ClassVar = {"hat": (1, 0, 0), "coat": (0, 1, 0), "shoes": (0, 0, 1), "man": (1, 1, 1)}

    def texts(self, captions):
        rows = np.array(
            [
                self.words[caption.removeprefix("a photo of ").removeprefix("a ")]
                for caption in captions
            ],
            float,
        )
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def regions(self, image, masks):
        rows = np.array([image[mask].mean(axis=0) for mask in masks])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_names_go_to_parts_one_to_one_and_what_fits_no_name_stays_unnamed():
    image = np.full((40, 30, 3), 255, np.uint8)
    bands = {
        "hat": (250, 10, 10),
        "coat": (10, 250, 10),
        "also green": (40, 200, 40),
        "grey": (120, 120, 120),
    }
    masks = []
    for index, colour in enumerate(bands.values()):
        mask = np.zeros((40, 30), bool)
        mask[index * 10 : index * 10 + 10, 5:25] = True
        image[mask] = colour
        masks.append(mask)
    parts = name_parts(
        image,
        masks,
        names=["coat", "hat", "shoes"],
        class_word="man",
        clip=Colours(),
        **dict(settings("captioner.naming", others=[])),
    )
    assert [part.name for part in parts] == ["hat", "coat", None, None]
    assert all(part.score > 0.9 for part in parts[:2])


def test_over_segmentation_keeps_parts_within_the_concept_without_duplicates():
    whole = np.zeros((40, 40), bool)
    whole[5:35, 10:30] = True
    hat, nearly_hat, across, speck = (np.zeros((40, 40), bool) for _ in range(4))
    hat[5:15, 10:30] = True
    nearly_hat[5:14, 10:30] = True
    across[20:30, 0:40] = True
    speck[30, 20] = True
    masks = np.stack([whole, nearly_hat, hat, across, speck])
    proposals = Proposals(masks, np.array([1.0, 0.8, 0.9, 0.9, 0.9], np.float32))
    found = over_segment(proposals, whole, **dict(settings("segmenter.over_segmentation")))
    assert len(found) == 1
    assert iou(found[0], hat) == 1.0
