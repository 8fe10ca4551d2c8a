"""The stage functions on real, untrained base models: results, refusals, killed runs."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clif_exp.concepts.concept import ConceptImage, ConceptSet
from clif_exp.concepts.images import mask_box
from clif_exp.concepts.reading import read_concept_set
from clif_exp.curation import stage
from clif_exp.curation.manifest import read_contexts, read_manifest, read_segments
from clif_exp.curation.masks import iou
from clif_exp.curation.omissions import left_out
from clif_exp.curation.page import write_page
from clif_exp.curation.segmenting import _read
from clif_exp.curation.settings import FIELDS
from support import default_config, settings

REGIONS = default_config("segmenter=provided", "segmenter.settings.scales=[100.0]").segmenter
LENIENT = default_config("captioner.naming.threshold=0.0").captioner
CONTEXTS = settings(
    "augmentation.contexts",
    names=["cat", "dog"],
    part_names=["blue hat"],
    images_per_name=1,
    num_inference_steps=2,
    guidance_scale=2.0,
    backgrounds=["on the beach"],
    screen=dict(default_config().augmentation.contexts.screen) | {"keep_best": True},
    batch_size=4,
)


def content(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*.*"))
    }


def without_masks(concepts: ConceptSet) -> ConceptSet:
    return replace(
        concepts,
        concepts=tuple(
            replace(c, images=tuple(replace(image, mask=None) for image in c.images))
            for c in concepts.concepts
        ),
    )


@pytest.fixture(scope="module")
def contexts(tmp_path_factory, spec) -> Path:
    out = tmp_path_factory.mktemp("contexts")
    stage.generate_contexts(out, spec=spec, settings=CONTEXTS, segmenter=REGIONS)
    return out


def test_curation_walks_from_images_to_pairs_and_a_page(tmp_path, spec, drawn, contexts):
    segments = tmp_path / "segments"
    stage.segment_concepts(
        segments, concepts=drawn, spec=spec, segmenter=REGIONS, captioner=LENIENT
    )
    lines = read_segments(segments)
    wholes = [line for line in lines if line["kind"] == "whole"]
    assert [(line["concept"], line["image"]) for line in wholes] == [
        (name, n) for name in drawn.names for n in range(2)
    ]
    for line in wholes:
        given = (
            np.asarray(Image.open(drawn.root / f"{line['concept']}_{line['image']}_mask.png")) > 127
        )
        np.testing.assert_array_equal(np.asarray(Image.open(segments / line["mask"])) > 127, given)
        assert line["how"] == "mask"
        assert Image.open(segments / line["cutout"]).size == tuple(line["cutout_size"])
    named = {(line["concept"], line["part"]) for line in lines if line["part"]}
    assert named
    assert all(
        part in next(c.parts for c in drawn.concepts if c.name == name) for name, part in named
    )
    manifests = {}
    for kind in "GRM":
        manifests[kind] = tmp_path / kind
        stage.compose_pairs(
            manifests[kind],
            kind=kind,
            segments=segments,
            contexts=contexts,
            settings=settings(f"augmentation.{FIELDS[kind]}", num_pairs=6),
            seed=0,
        )
        assert len(read_manifest(manifests[kind])) == 6
    page = write_page(
        tmp_path / "curation.html",
        concepts=drawn,
        segments=segments,
        contexts=contexts,
        manifests=manifests,
        warnings=["Nothing of <this> is meant."],
        report="report.html",
    )
    html = page.read_text()
    assert all(f"&lt;{name}&gt;" in html for name in drawn.names)
    for shown in ("(R-Aug)", "your mask", "sure 0.", "likeness ", "of &lt;this&gt; is meant"):
        assert shown in html, shown
    assert 'href="report.html"' in html
    assert "http" not in html, "the page must need nothing from elsewhere"
    for anchor in re.findall(r'href="#([\w-]+)"', html):
        assert f'id="{anchor}"' in html
    told = left_out(segments, contexts, concepts=drawn, naming=True, kinds="GRM")
    unnamed = sum(line["kind"] == "part" and line["part"] is None for line in lines)
    assert [text for text in told if text.startswith(f"{unnamed} of ")]


@pytest.mark.parametrize("marked", ["mask", "box", "point"])
def test_large_photographs_are_shrunk_and_their_masks_are_as_large_as_they(
    tmp_path, spec, drawn, marked
):
    (concept, *_) = drawn.concepts
    file, mask = concept.images[0].file, concept.images[0].mask
    for name, source in (("large.png", file), ("large_mask.png", mask)):
        image = Image.open(source)
        times = 800 // image.width
        large = image.resize((times * image.width, times * image.height), Image.Resampling.NEAREST)
        large.save(tmp_path / name)
    truth = np.asarray(Image.open(tmp_path / "large_mask.png")) > 127
    x0, y0, x1, y1 = mask_box(truth)
    marks = {
        "mask": {"mask": tmp_path / "large_mask.png"},
        "box": {"box": (x0, y0, x1, y1)},
        "point": {"point": ((x0 + x1) // 2, (y0 + y1) // 2)},
    }
    photograph = ConceptImage(tmp_path / "large.png", **marks[marked])
    one = replace(drawn, concepts=(replace(concept, images=(photograph,)),))
    shrunk = REGIONS.model_copy(update={"max_side": 256})
    stage.segment_concepts(
        tmp_path / "out", concepts=one, spec=spec, segmenter=shrunk, captioner=LENIENT
    )
    whole, *parts = read_segments(tmp_path / "out")
    found = np.asarray(Image.open(tmp_path / "out" / whole["mask"])) > 127
    assert found.shape == truth.shape
    assert whole["how"] == marked
    if marked == "mask":
        np.testing.assert_array_equal(found, truth, "a user's mask stays as it is")
        assert whole["box"] == [x0, y0, x1, y1]
    else:  # by regions' outlines
        assert iou(found, truth) > 0.85
        assert np.abs(np.subtract(whole["box"], (x0, y0, x1, y1))).max() <= 40
    assert parts
    for line in (whole, *parts):
        assert max(line["cutout_size"]) <= 256
        assert Image.open(tmp_path / "out" / line["mask"]).size == truth.shape[::-1]


@pytest.mark.parametrize(
    "mark", [{"point": (400, 200)}, {"box": (10, 200, 400, 201)}, {"box": (799, 0, 800, 201)}]
)
def test_what_is_marked_at_the_edge_of_a_large_photograph_stays_in_it(tmp_path, mark):
    Image.new("RGB", (800, 201)).save(tmp_path / "large.png")
    read = _read(ConceptImage(tmp_path / "large.png", **mark), max_side=256)
    height, width = read.image.shape[:2]
    if read.point is not None:
        assert read.point[0] < width and read.point[1] < height
    else:
        x0, y0, x1, y1 = read.box
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height


def test_a_mask_of_which_shrinking_leaves_nothing_is_refused(tmp_path, spec, drawn):
    pixels = np.zeros((2048, 2048), np.uint8)
    pixels[::256, ::256] = 255  # 64 of them
    Image.fromarray(pixels).save(tmp_path / "dots.png")
    Image.new("RGB", (2048, 2048)).save(tmp_path / "large.png")
    photograph = ConceptImage(tmp_path / "large.png", mask=tmp_path / "dots.png")
    one = replace(drawn, concepts=(replace(drawn.concepts[0], images=(photograph,)),))
    shrunk = REGIONS.model_copy(update={"max_side": 256})
    with pytest.raises(
        ValueError, match=r"dots\.png: 0 pixels are left of it at segmenter\.max_side=256"
    ):
        stage.segment_concepts(
            tmp_path / "out", concepts=one, spec=spec, segmenter=shrunk, captioner=LENIENT
        )


def test_contexts_come_from_the_base_model_and_are_the_same_again(tmp_path, spec, contexts):
    kept = read_contexts(contexts)
    assert {line["name"] for line in kept if line["kind"] == "whole"} <= {"cat", "dog"}
    assert [line["name"] for line in kept if line["kind"] == "background"] == ["on the beach"]
    prompts = {line["prompt"] for line in kept}
    assert "a photo of a blue hat on a white background" in prompts
    again = tmp_path / "again"
    again.mkdir()
    (again / "images").mkdir()
    for image in sorted((contexts / "images").iterdir())[1:]:  # all but one survived a killed run
        (again / "images" / image.name).write_bytes(image.read_bytes())
    stage.generate_contexts(again, spec=spec, settings=CONTEXTS, segmenter=REGIONS)
    assert content(again) == content(contexts)


def test_a_screen_that_nothing_passes_is_an_error_with_reasons(tmp_path, spec):
    screen = dict(default_config().augmentation.contexts.screen)
    strict = settings(
        "augmentation.contexts",
        names=["cat"],
        part_names=[],
        images_per_name=1,
        num_inference_steps=1,
        guidance_scale=1.0,
        screen=screen | {"min_area": 0.99, "max_area": 1.0},
    )
    with pytest.raises(ValueError, match=r"none of 1 whole names gave a usable image.*keep_best"):
        stage.generate_contexts(tmp_path, spec=spec, settings=strict, segmenter=REGIONS)


def test_where_sam_finds_nothing_regions_are_used_and_the_run_says_so(
    tmp_path, spec, drawn, caplog
):
    unsure = (
        "segmenter=sam",
        "segmenter.settings.points_per_side=4",
        "segmenter.settings.iou_threshold=0.99",
    )
    stage.segment_concepts(
        tmp_path / "a",
        concepts=without_masks(drawn),
        spec=spec,
        segmenter=default_config(*unsure).segmenter,
        captioner=default_config().captioner,
    )
    assert (
        "concept 'milo': cut out by felzenszwalb, for want of a mask from sam: milo_0.png,"
        " milo_1.png" in caplog.text
    )
    white = next(x for x in read_segments(tmp_path / "a") if x["kind"] == "whole")
    found = np.asarray(Image.open(tmp_path / "a" / white["mask"])) > 127
    assert iou(found, np.asarray(Image.open(drawn.root / "milo_0_mask.png")) > 127) > 0.9
    with pytest.raises(
        ValueError,
        match=r"concept 'milo': milo_0.png: sam finds no 'fox'.*a box, a point or a mask",
    ):
        stage.segment_concepts(
            tmp_path / "b",
            concepts=without_masks(drawn),
            spec=spec,
            segmenter=default_config(*unsure, "segmenter.fallback=false").segmenter,
            captioner=LENIENT,
        )


def test_a_users_point_box_or_mask_overrules_what_would_be_found(tmp_path, spec):
    """The concept is the smaller of two things: by measure the larger one would be taken."""
    image, small = np.full((96, 128, 3), 250, np.uint8), np.zeros((96, 128), bool)
    image[20:90, 45:95] = (200, 40, 40)
    image[30:60, 8:32] = (40, 60, 200)
    small[30:60, 8:32] = True
    for file in ("image.png", "image.bmp"):  # a set holds no image twice, unless it is marked
        Image.fromarray(image).save(tmp_path / file)
    Image.fromarray(small.astype(np.uint8) * 255).save(tmp_path / "small.png")
    said = {
        "nothing": "",
        "box": "box: [5, 27, 35, 63]",
        "point": "point: [20, 45]",
        "mask": "mask: small.png",
    }
    entries = [
        f"  - name: {key}\n    class_word: cat\n"
        f"    images: [{{file: image.{'png' if words else 'bmp'}, {words}}}]"
        for key, words in said.items()
    ]
    (tmp_path / "concepts.yaml").write_text(
        "name: overruled\nconcepts:\n" + "\n".join(entries).replace(", }", "}") + "\n"
    )
    # An untrained CLIP has no say in which region is the concept.
    choose = REGIONS.choose.model_copy(
        update={"weights": {**REGIONS.choose.weights, "similarity": 0.0}}
    )
    stage.segment_concepts(
        tmp_path / "out",
        concepts=read_concept_set(tmp_path),
        spec=spec,
        segmenter=REGIONS.model_copy(update={"choose": choose}),
        captioner=LENIENT,
    )
    for line in read_segments(tmp_path / "out"):
        found = np.asarray(Image.open(tmp_path / "out" / line["mask"])) > 127
        if line["concept"] == "nothing":
            assert iou(found, small) < 0.5
        else:
            assert line["how"] == line["concept"] and iou(found, small) > 0.9, line["concept"]


def test_a_killed_segmentation_keeps_what_is_finished(tmp_path, spec, drawn, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    stage.segment_concepts(whole, concepts=drawn, spec=spec, segmenter=REGIONS, captioner=LENIENT)
    from clif_exp.curation import segmenting

    asked, real = [], segmenting.segment_concept

    def dies_at_the_last(concept, **arguments):
        asked.append(concept.name)
        if asked == list(drawn.names):
            raise KeyboardInterrupt
        return real(concept, **arguments)

    monkeypatch.setattr(segmenting, "segment_concept", dies_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        stage.segment_concepts(
            killed, concepts=drawn, spec=spec, segmenter=REGIONS, captioner=LENIENT
        )
    asked.clear()
    stage.segment_concepts(killed, concepts=drawn, spec=spec, segmenter=REGIONS, captioner=LENIENT)
    assert asked == [drawn.names[-1]]
    assert content(killed) == content(whole)


def test_photographs_make_a_concept_set_of_at_least_four_images_each(tmp_path):
    from clif_exp.curation.photos import write_photos

    write_photos(tmp_path)
    photos = read_concept_set(tmp_path)
    assert photos.names == ("eileen", "chelsea", "espresso", "falcon")
    assert all(
        len(concept.images) >= 4 and all(image.box for image in concept.images)
        for concept in photos.concepts
    )
