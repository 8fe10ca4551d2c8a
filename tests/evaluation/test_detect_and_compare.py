"""Detect-and-Compare: the published formula, boxes, and images of known content."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from clif_exp.evaluation.alignment import EmbeddedBatch, Judge
from clif_exp.evaluation.detect_and_compare import (
    compare_figures,
    detect_and_compare,
    score_similarities,
    square_crop,
)
from clif_exp.evaluation.readers import OracleReader
from clif_exp.evaluation.references import held_out
from clif_exp.evaluation.scoring import open_image
from clif_exp.toonworld.drawing.render import render
from clif_exp.toonworld.placing import place_pair
from clif_exp.toonworld.world import Scene

WANTED = torch.tensor([[0.8, 0.3], [0.3, 0.7]])


def test_figures_as_like_the_references_as_these_among_themselves_score_1():
    assert score_similarities(WANTED, WANTED) == pytest.approx(1.0)


def test_the_score_is_1_minus_the_spectral_norm_of_the_difference():
    # The differences, by hand: diag(-0.2, 0.1), and a matrix of -0.3 whose norm is 2 * 0.3.
    found = torch.tensor([[0.6, 0.3], [0.3, 0.8]])
    assert score_similarities(found, WANTED) == pytest.approx(0.8)
    assert score_similarities(WANTED - 0.3, WANTED) == pytest.approx(0.4)


def test_each_subject_in_turn_takes_the_figure_most_like_it():
    assert score_similarities(WANTED.flip(0), WANTED) == pytest.approx(1.0), "sides do not count"
    # Greedy: the first subject takes figure 1 (0.9), although the sum is larger the other way.
    found = torch.tensor([[0.8, 0.1], [0.9, 0.9]])
    expected = 1 - np.linalg.norm(np.array([[0.1, 0.6], [0.5, -0.6]]), ord=2)
    assert score_similarities(found, WANTED) == pytest.approx(expected, abs=1e-6)


def unit(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees).deg2rad()
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def test_similarities_are_means_over_references_and_over_pairs_of_references():
    # Wanted by hand: cos 0 and cos 60 within a, cos 90 and cos 30 between; b has one reference.
    within, between = (1 + 0.5) / 2, (0 + 3**0.5 / 2) / 2
    references = [unit(0, 60), unit(90)]
    figures = unit(30, 90)  # of these, a takes the one at 30 degrees, b the other
    found = np.array([[3**0.5 / 2, 0.5], [between, 1.0]])
    wanted = np.array([[within, between], [between, 1.0]])
    expected = 1 - np.linalg.norm(found - wanted, ord=2)
    assert compare_figures(figures, references) == pytest.approx(expected, abs=1e-6)


def test_another_number_of_figures_than_of_subjects_scores_0():
    references = [unit(0), unit(90)]
    assert compare_figures(unit(0, 90), references) == pytest.approx(1.0)
    for degrees in ((), (0,), (0, 90, 90)):
        figures = unit(*degrees) if degrees else torch.zeros(0, 2)
        assert compare_figures(figures, references) == 0.0


def test_mixed_doubled_and_strange_figures_score_lower():
    references = [unit(0), unit(90)]
    right, mixed, doubled, strange = (
        compare_figures(unit(*degrees), references)
        for degrees in ((90, 0), (30, 60), (0, 0), (180, 270))
    )
    assert right > mixed > doubled > strange
    assert strange < 0, "not cut off at 0"


def test_only_images_of_several_concepts_with_references_are_scored():
    features = unit(0, 0, 0, 0)
    batch = EmbeddedBatch(
        features,
        features,
        named=[["a", "b"], ["a"], [], ["a", "new"]],
        references={},
        figures=[unit(90, 0), torch.zeros(0, 2), torch.zeros(0, 2), unit(90, 0)],
        figure_references={"a": unit(0), "b": unit(90)},
    )
    assert detect_and_compare(batch) == [pytest.approx(1.0), None, None, None]
    assert detect_and_compare(replace(batch, figures=None)) is None


@pytest.mark.parametrize(
    ("box", "size", "dark"),
    [
        ((0.25, 0.0, 0.5, 1.0), 20, (7, 0, 12, 20)),
        ((0.0, 0.5, 1.0, 1.0), 20, (0, 5, 20, 15)),
        ((-0.5, -0.5, 0.5, 0.5), 10, (0, 0, 10, 10)),
        ((2.0, 2.0, 3.0, 3.0), 1, (0, 0, 1, 1)),
    ],
)
def test_crops_are_squares_padded_with_white_and_stay_inside_the_image(box, size, dark):
    crop = square_crop(Image.new("RGB", (20, 20), "black"), box)
    assert crop.size == (size, size)
    assert crop.convert("L").point(lambda value: 255 - value).getbbox() == dark


@pytest.fixture(scope="module")
def judges():
    from clif_exp.base_models.spec import packaged_weights

    weights = packaged_weights()
    return Judge(weights / "judge_clip"), OracleReader(weights / "oracle", min_score=0.0)


def test_on_toonworld_the_right_pair_scores_above_a_mixed_and_a_doubled_one(judges, tmp_path):
    from clif_exp.toonworld.cast import default_cast, write_cast

    judge, oracle = judges
    write_cast(tmp_path, size=4)
    cast = default_cast()
    names = ("milo", "luna")
    a, b = (cast[name] for name in names)
    mixed = replace(b, species=a.species, style=a.style)  # milo in all that luna wears
    references = {
        name: judge.embed_images(
            [open_image(file) for file in held_out(name, dataset_root=tmp_path)]
        )
        for name in names
    }

    def mean_score(*characters) -> float:
        images = [
            Image.fromarray(
                render(
                    Scene(place_pair(np.random.default_rng(seed), *characters, "left of"), "meadow")
                ).image
            )
            for seed in range(6)
        ]
        readings = oracle.read(images)
        assert all(len(figures) == 2 for figures in readings)
        figures = [
            judge.embed_images([square_crop(image, figure.box) for figure in found])
            for image, found in zip(images, readings, strict=True)
        ]
        batch = EmbeddedBatch(
            judge.embed_images(images),
            judge.embed_images(images),
            [names] * len(images),
            references,
            figures=figures,
            figure_references=references,
        )
        return float(np.mean(detect_and_compare(batch)))

    right, other_side = mean_score(a, b), mean_score(b, a)
    blended, doubled = mean_score(mixed, b), mean_score(a, a)
    assert min(right, other_side) > max(blended, doubled)
