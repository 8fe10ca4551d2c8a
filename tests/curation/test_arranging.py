"""Arrangements: figures stand as their caption says, and enough of each is visible."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clif_exp.artifacts.files import read_jsonl, write_jsonl
from clif_exp.concepts.pairs import seen_pairs
from clif_exp.curation.backgrounds import emptied
from clif_exp.curation.manifest import read_manifest
from clif_exp.curation.masks import write_png
from clif_exp.curation.stage import compose_pairs
from clif_exp.toonworld.relations import holds
from support import settings

OTHERS = ("behind", "hugging", "above")
SIDE = {"side": 1.0, "behind": 0.0, "hugging": 0.0, "above": 0.0}
ALL = dict.fromkeys(SIDE, 1.0)


def only(arrangement: str) -> dict[str, float]:
    return dict.fromkeys(SIDE, 0.0) | {arrangement: 1.0}


def compose(out: Path, segments: Path, *, contexts: Path | None = None, **changes) -> list[dict]:
    layout = {"num_pairs": 48, "resolution": 128} | changes
    out.mkdir(exist_ok=True)
    compose_pairs(
        out,
        kind="M",
        segments=segments,
        contexts=contexts,
        settings=settings("augmentation.mix", **layout),
        seed=0,
    )
    return read_manifest(out)


def visible(out: Path, source: dict) -> np.ndarray:
    return np.asarray(Image.open(out / source["mask"])) > 127


def whole(segments: Path, source: dict, side: int = 128) -> np.ndarray:
    """What the cut-out would cover of the image if nothing stood in front of it."""
    x0, y0, x1, y1 = source["box"]
    cutout = Image.open(segments / source["source"]).convert("RGBA")
    if source["flip"]:
        cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    cutout = cutout.resize((x1 - x0, y1 - y0), Image.Resampling.LANCZOS)
    covered = np.zeros((side, side), bool)
    covered[y0:y1, x0:x1] = np.asarray(cutout.getchannel("A")) > 127
    return covered


def bounds(mask: np.ndarray) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


@pytest.mark.parametrize("arrangement", ["behind", "hugging"])
def test_the_judges_of_interactions_agree_with_the_caption(tmp_path, cast_cutouts, arrangement):
    lines = compose(tmp_path, cast_cutouts, arrangements=only(arrangement))
    agreed = [
        holds(arrangement, *(bounds(whole(cast_cutouts, source)) for source in line["sources"]))
        for line in lines
    ]
    assert np.mean(agreed) >= 0.9


def said_of(line: dict) -> tuple[str, int]:
    """The caption with A and B for the first and second figure; which of them is on the left."""
    text = line["caption"].removeprefix("a photo of ")
    for number, source in enumerate(line["sources"]):
        text = text.replace(source["name"], "AB"[number])
    middles = [source["box"][0] + source["box"][2] for source in line["sources"]]
    return text, int(middles[1] < middles[0])


def test_captions_say_the_arrangement_and_begin_on_the_left(tmp_path, cast_cutouts):
    lines = compose(tmp_path, cast_cutouts, arrangements=ALL)
    assert {line.get("arrangement") for line in lines} == {None, *OTHERS}
    said = {(line["arrangement"], *said_of(line)) for line in lines if "arrangement" in line}
    assert said == {
        ("behind", "A behind B", 0),
        ("behind", "B in front of A", 1),
        ("hugging", "A hugging B", 0),
        ("hugging", "A and B hugging", 0),
        ("hugging", "B hugging A", 1),
        ("hugging", "B and A hugging", 1),
        ("above", "A above B", 0),
        ("above", "A above B", 1),
    }


def test_a_caption_begins_on_the_right_where_no_template_begins_on_the_left(tmp_path, cast_cutouts):
    templates = {"behind": ["{first} behind {second}"], "hugging": ["{second}, hugged by {first}"]}
    for arrangement, wanted in [
        ("behind", {("A behind B", 0), ("A behind B", 1)}),
        ("hugging", {("A, hugged by B", 0), ("B, hugged by A", 1)}),
    ]:
        lines = compose(
            tmp_path / arrangement,
            cast_cutouts,
            arrangements=only(arrangement),
            arrangement_templates=templates,
        )
        assert {said_of(line) for line in lines} == wanted


def test_the_second_one_stands_in_front_of_who_is_behind_it_and_either_hugs_in_front(
    tmp_path, cast_cutouts
):
    lines = compose(tmp_path, cast_cutouts, arrangements=ALL)
    fronts = {name: set() for name in OTHERS}
    for line in lines:
        if "arrangement" not in line:
            continue
        covers = [whole(cast_cutouts, source) for source in line["sources"]]
        seen = [visible(tmp_path, source) for source in line["sources"]]
        front = line["front"]
        fronts[line["arrangement"]].add(front)
        np.testing.assert_array_equal(seen[front], covers[front])
        np.testing.assert_array_equal(seen[1 - front], covers[1 - front] & ~covers[front])
    assert fronts["behind"] == {1}
    assert fronts["hugging"] == {0, 1}


def test_masks_are_the_pixels_of_their_figures(tmp_path, cast_cutouts):
    for line in compose(tmp_path, cast_cutouts, num_pairs=16, arrangements=only("behind")):
        pixels = np.asarray(Image.open(tmp_path / line["file"])).astype(int)
        for source in line["sources"]:
            x0, y0, x1, y1 = source["box"]
            cutout = Image.open(cast_cutouts / source["source"]).convert("RGBA")
            if source["flip"]:
                cutout = cutout.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            drawn = np.full_like(pixels, -1)
            own = cutout.resize((x1 - x0, y1 - y0), Image.Resampling.LANCZOS)
            drawn[y0:y1, x0:x1] = np.asarray(own)[..., :3]
            solid = np.zeros(pixels.shape[:2], bool)
            solid[y0:y1, x0:x1] = np.asarray(own.getchannel("A")) == 255
            mask = visible(tmp_path, source)
            same = (abs(pixels - drawn) <= 1).all(axis=2)
            # Soft edges of the one in front lie over the one behind.
            assert same[mask & solid].mean() > 0.8
        nobody = ~np.any([visible(tmp_path, source) for source in line["sources"]], axis=0)
        assert (pixels[nobody] == 255).all(axis=1).mean() > 0.9


@pytest.mark.parametrize("bound", [0.4, 0.85])
@pytest.mark.parametrize("resolution", [64, 128])
def test_enough_of_every_figure_is_visible(tmp_path, cast_cutouts, bound, resolution):
    lines = compose(
        tmp_path, cast_cutouts, arrangements=ALL, min_visible=bound, resolution=resolution
    )
    shares = []
    for line in lines:
        for source in line["sources"]:
            mask = visible(tmp_path, source)
            assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
            shares.append(mask.sum() / whole(cast_cutouts, source, resolution).sum())
    assert bound <= min(shares) < 1


def test_a_lower_bound_hides_more(tmp_path, cast_cutouts):
    def least(bound: float) -> float:
        out = tmp_path / str(bound)
        lines = compose(out, cast_cutouts, arrangements=only("behind"), min_visible=bound)
        return min(
            visible(out, line["sources"][0]).sum() / whole(cast_cutouts, line["sources"][0]).sum()
            for line in lines
        )

    assert least(0.2) < 0.5 <= least(0.5)


def test_the_first_one_is_above(tmp_path, cast_cutouts):
    for line in compose(tmp_path, cast_cutouts, arrangements=only("above")):
        upper, lower = (bounds(visible(tmp_path, source)) for source in line["sources"])
        assert upper[3] < lower[1]
        assert [source["side"] for source in line["sources"]] == ["above", "below"]


def test_arrangements_leave_the_images_side_by_side_as_they_were(tmp_path, cast_cutouts):
    alone = compose(tmp_path / "alone", cast_cutouts, arrangements=SIDE)
    mixed = compose(tmp_path / "mixed", cast_cutouts, arrangements=ALL)
    assert not any("arrangement" in line for line in alone)
    kept = [number for number, line in enumerate(mixed) if "arrangement" not in line]
    assert len(kept) >= 4
    assert [alone[number] for number in kept] == [mixed[number] for number in kept]
    others = [number for number in range(len(mixed)) if number not in kept]
    assert all(
        [s["concept"] for s in alone[number]["sources"]]
        == [s["concept"] for s in mixed[number]["sources"]]
        for number in others
    )


def test_shares_are_those_of_the_settings(tmp_path, cast_cutouts):
    shares = SIDE | {"side": 0.5, "behind": 0.5}
    lines = compose(tmp_path, cast_cutouts, num_pairs=200, resolution=32, arrangements=shares)
    assert 70 <= sum("arrangement" in line for line in lines) <= 130


@pytest.fixture(scope="module")
def seven(tmp_path_factory, cast_cutouts) -> Path:
    """The cast's cut-outs under the names of seven concepts, so that some threes are all seen."""
    root = tmp_path_factory.mktemp("seven") / "segments"
    shutil.copytree(cast_cutouts, root)
    lines = read_jsonl(root / "segments.jsonl")
    write_jsonl(
        root / "segments.jsonl",
        [lines[number % len(lines)] | {"concept": f"c{number}"} for number in range(7)],
    )
    return root


@pytest.mark.parametrize("overlap", [0.0, 0.3])
def test_three_stand_in_a_row_from_left_to_right_and_all_are_visible(tmp_path, seven, overlap):
    layout = {"figures": {2: 0.2, 3: 0.8}, "max_overlap": overlap}
    lines = compose(tmp_path, seven, arrangements=only("behind"), **layout)
    rows = [line for line in lines if len(line["sources"]) == 3]
    assert len(rows) > 20
    assert all("arrangement" in line for line in lines if len(line["sources"]) == 2)
    seen = seen_pairs([f"c{number}" for number in range(7)])
    for line in rows:
        a, b, c = (source["name"] for source in line["sources"])
        assert line["caption"] == f"a photo of {a}, {b} and {c} in a row"
        concepts = [source["concept"] for source in line["sources"]]
        assert {frozenset(pair) for pair in itertools.combinations(concepts, 2)} <= seen
        middles = []
        for source in line["sources"]:
            mask = visible(tmp_path, source)
            assert mask.sum() >= (1 - 2 * overlap) * whole(seven, source).sum() > 0
            assert source["side"] == len(middles)
            middles.append(np.flatnonzero(mask.any(axis=0)).mean())
        assert middles == sorted(middles)


def test_three_figures_need_three_concepts_of_which_all_pairs_are_seen(tmp_path, cutouts):
    with pytest.raises(ValueError, match=r"augmentation\.mix\.figures: 3 figures, but among 4"):
        compose(tmp_path, cutouts[0], figures={2: 0.5, 3: 0.5})
    assert not list(tmp_path.iterdir())


def test_a_share_stands_on_backgrounds_that_the_caption_names(tmp_path, cast_cutouts):
    contexts = tmp_path / "contexts"
    (contexts / "cutouts").mkdir(parents=True)
    lines = []
    for name, colour in (("on the beach", (200, 180, 90)), ("at night", (10, 10, 60))):
        file = f"cutouts/{name[-5:]}.png"
        write_png(contexts / file, Image.new("RGB", (32, 32), colour))
        lines.append({"kind": "background", "name": name, "cutout": file, "kept": True})
    write_jsonl(contexts / "contexts.jsonl", lines)

    def composed(share: float) -> list[dict]:
        layout = {"background_share": share, "arrangements": ALL}
        return compose(tmp_path / str(share), cast_cutouts, contexts=contexts, **layout)

    white, some, everywhere = composed(0.0), composed(0.5), composed(1.0)
    assert not any(line["background"] for line in white)
    assert all(line["background"] for line in everywhere)
    assert 10 < sum(line["background"] is not None for line in some) < 38
    for without, line in zip(white, some, strict=True):
        corner = np.asarray(Image.open(tmp_path / "0.5" / line["file"]))[0, 0].tolist()
        if line["background"] is None:
            assert line == without
            assert corner == [255, 255, 255]
        else:
            night = "night" in line["background"]
            assert line["caption"].endswith(" at night" if night else " on the beach")
            assert corner == ([10, 10, 60] if night else [200, 180, 90])


def test_whoever_stands_in_a_background_is_painted_over():
    place = np.full((50, 60, 3), (90, 160, 220), np.uint8)
    place[30:] = (210, 190, 120)
    image = place.copy()
    image[10:45, 25:35] = (200, 20, 20)
    image[15:45, 40:50] = (20, 20, 20)
    strangers = [np.zeros((50, 60), bool) for _ in range(2)]
    strangers[0][10:45, 25:35] = strangers[1][15:45, 40:50] = True
    left = list(strangers)
    found, empty = emptied(image, lambda _: left.pop() if left else None)
    assert empty
    # The first one was painted over in the colours of the other, who stood next to it.
    assert np.abs(found.astype(int) - place).mean() < 3
    still, empty = emptied(image, lambda _: strangers[0])
    assert not empty
    assert still.shape == image.shape


def test_sides_of_the_manifest_are_those_of_the_image(tmp_path, cast_cutouts):
    for line in compose(tmp_path, cast_cutouts, arrangements=only("hugging")):
        middles = {
            source["side"]: source["box"][0] + source["box"][2] for source in line["sources"]
        }
        assert middles["left"] < middles["right"]
