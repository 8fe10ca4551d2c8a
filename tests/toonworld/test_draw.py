from dataclasses import replace

import numpy as np
import pytest

from clif_exp.toonworld.cast import default_cast
from clif_exp.toonworld.drawing.render import LABELS_PER_FIGURE, cutout, render
from clif_exp.toonworld.scenes import sample_scene
from clif_exp.toonworld.sheet import grid
from clif_exp.toonworld.world import BASE_SLOTS, PARTS, SLOTS, SPECIES, STYLES, Figure, Item, Scene

KINDS = ("single", "single_white", "pair", "pair_white", "parts", "row")


def scenes(kind, count=12, seed=0):
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, kind=kind, allow_cast_only=True) for _ in range(count)]


def alone(character, *, size=128):
    return render(Scene((Figure(character, 0.5, 0.95, 0.66),), seed=3), size=size)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_scene_gives_the_same_bytes(kind):
    for scene in scenes(kind, count=4):
        first, second = render(scene), render(scene)
        assert first.image.tobytes() == second.image.tobytes()
        assert first.labels.tobytes() == second.labels.tobytes()


def test_another_seed_gives_another_image_of_the_same_things():
    scene = scenes("single", count=1)[0]
    first, second = render(scene), render(replace(scene, seed=scene.seed + 1))
    assert (first.image != second.image).any()
    # Fur may fray differently; everything else stays where it is.
    assert (first.labels != second.labels).mean() < 0.03


@pytest.mark.parametrize("kind", KINDS)
def test_labels_agree_with_the_scene(kind):
    for scene in scenes(kind):
        rendering = render(scene)
        elements = [*scene.figures, *scene.items]
        assert rendering.image.shape == (128, 128, 3)
        assert rendering.image.dtype == np.uint8
        assert rendering.labels.shape == (128, 128)
        assert rendering.labels.dtype == np.uint8
        assert len(rendering.boxes) == len(rendering.visibility) == len(elements)
        shown = np.unique(rendering.labels)
        assert shown.max() <= len(elements) * LABELS_PER_FIGURE
        for index, figure in enumerate(scene.figures):
            areas = rendering.areas[index]
            expected = {"head", "hair", "top", "arms", "legs"}
            expected |= {
                part
                for part in ("hat", "bottom", "accessory")
                if getattr(figure.character, part) != "none"
            }
            # Glasses and such are small in a row of three, yet there; a jacket may cover the arms
            # but for the hands.
            assert expected - {"hair", "arms", "legs"} <= set(areas), (figure, areas)
            assert not {
                part
                for part in ("hat", "bottom", "accessory")
                if getattr(figure.character, part) == "none"
            } & set(areas)
            assert all(0 <= share <= 1 for share in rendering.visibility[index].values())
            for part, share in rendering.visibility[index].items():
                pixels = (
                    rendering.labels == 1 + index * LABELS_PER_FIGURE + PARTS.index(part)
                ).sum()
                assert pixels == pytest.approx(share * areas[part])


@pytest.mark.parametrize("kind", KINDS)
def test_figures_stay_inside_the_image(kind):
    for scene in scenes(kind, count=40, seed=5):
        rendering = render(scene)
        for box in rendering.boxes:
            assert box is not None
        border = np.concatenate(
            [
                rendering.labels[0],
                rendering.labels[-1],
                rendering.labels[:, 0],
                rendering.labels[:, -1],
            ]
        )
        assert (border > 0).sum() <= 3, (scene, "touches the border")


def test_the_image_changes_only_where_labels_say_on_white():
    for scene in scenes("single_white") + scenes("parts"):
        rendering = render(scene)
        background = rendering.labels == 0
        # Smoothing lets edges and things thinner than a pixel bleed.
        near = np.zeros_like(background)
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                near |= np.roll(~background, (dy, dx), (0, 1))
        assert (rendering.image[~near] < 240).sum() == 0


@pytest.mark.parametrize("style", STYLES)
def test_every_attribute_is_visible_in_the_image(style):
    base = replace(default_cast()["milo"], style=style)
    reference = alone(base).image.astype(int)
    for slot in (
        "hat",
        "hat_colour",
        "top",
        "top_colour",
        "pattern",
        "bottom",
        "bottom_colour",
        "accessory",
        "coat",
        "species",
    ):
        for value in SLOTS[slot]:
            if value in ("none", "dress") or value == getattr(base, slot):
                continue
            changed = (
                np.abs(alone(replace(base, **{slot: value})).image - reference).max(2) > 24
            ).sum()
            assert changed >= 25, (slot, value, changed)


def test_styles_differ_clearly():
    base = default_cast()["milo"]
    images = [alone(replace(base, style=style)).image.astype(int) for style in STYLES]
    for first in range(3):
        for second in range(first):
            assert np.abs(images[first] - images[second]).mean() > 3


@pytest.mark.parametrize("species", SPECIES)
def test_every_species_can_wear_everything(species):
    for hat in SLOTS["hat"][1:]:
        who = replace(default_cast()["milo"], species=species, hat=hat)
        visibility = alone(who).areas[0]
        assert visibility["hat"] > 150
        assert visibility["head"] > 400
        assert visibility["top"] > 250


def test_larger_images_show_the_same_scene():
    scene = scenes("pair", count=1)[0]
    small, large = render(scene, size=128), render(scene, size=256)
    assert large.image.shape == (256, 256, 3)
    for box, double in zip(small.boxes, large.boxes, strict=True):
        assert np.abs(np.array(box) * 2 - double).max() <= 6


def test_single_parts_can_be_drawn_in_all_kinds():
    for part in ("hat", "top", "bottom", "accessory"):
        for kind in BASE_SLOTS[part]:
            if kind == "none":
                continue
            item = Item(part, kind, "none" if part == "accessory" else "blue", 0.5, 0.5, 0.8)
            rendering = render(Scene((), items=(item,), kind="parts"))
            x0, y0, x1, y1 = rendering.boxes[0]
            assert set(rendering.areas[0]) == {part}
            assert rendering.areas[0][part] > 100
            assert abs((x0 + x1) / 2 - 64) < 16
            assert abs((y0 + y1) / 2 - 64) < 20


def test_a_cutout_is_transparent_around_its_figure():
    image = np.asarray(cutout(default_cast()["milo"], pose="up"))
    assert image.shape == (128, 128, 4)
    assert (image[0, :, 3] == 0).all()
    assert 1500 < (image[..., 3] == 255).sum() < 9000


def test_a_grid_can_be_drawn():
    assert grid(1, columns=2).size == (520, 298)
