"""Segmenters: SAM against its package, scikit-image on photographs, and nothing found."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from clif_exp.base_models import sam
from clif_exp.base_models.spec import BaseModels
from clif_exp.curation.masks import cut_out, iou, plain_background, tidy
from clif_exp.curation.segmenters.build import build_segmenter
from clif_exp.curation.segmenters.proposals import Proposals
from clif_exp.curation.segmenters.regions import RegionSegmenter
from clif_exp.curation.selection import choose_whole
from clif_exp.runs.preparation import check_segmenter
from support import default_config, settings

SAM = default_config("segmenter=sam").segmenter
NO_MODELS = BaseModels(family="toonworld", path="nowhere")


def blob_on_white(height: int = 96, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width]
    mask = ((x - 40) / 22) ** 2 + ((y - 50) / 34) ** 2 <= 1
    image = np.full((height, width, 3), 252, np.uint8)
    image[mask] = (200, 60, 40)
    return image, mask


def random_sam():
    from clif_exp.base_models.sam import build_small_sam

    torch.manual_seed(3)
    model = build_small_sam(resolution=128)
    # Untrained masks are noise near zero; larger logits make areas, boxes and stability differ
    # between prompts.
    with torch.no_grad():
        for mlp in model.mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight.mul_(300)
        model.mask_decoder.iou_prediction_head.layers[-1].bias.add_(0.8)
    # High on the slopes of that noise masks are small, and their boxes differ.
    model.mask_threshold = 20.0
    return model


def sam_segmenter(model, **changes):
    """SAM's segmenter as conf/segmenter/sam.yaml sets it, but for `changes`."""
    from clif_exp.curation.segmenters.sam import SamSegmenter

    own = SAM.own() | changes
    loading = ("checkpoint", "model_type", "sha256")
    return SamSegmenter(model, **{key: own[key] for key in own if key not in loading})


@pytest.mark.parametrize("size", [(128, 128), (96, 150)])
@pytest.mark.parametrize("filters", [False, True])
def test_automatic_masks_are_those_of_the_package(size, filters):
    from segment_anything import SamAutomaticMaskGenerator

    model = random_sam()
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)

    def reference(iou_threshold: float, stability_threshold: float) -> list[dict]:
        return SamAutomaticMaskGenerator(
            model,
            points_per_side=8,
            pred_iou_thresh=iou_threshold,
            stability_score_thresh=stability_threshold,
            box_nms_thresh=0.7,
        ).generate(image)

    iou_threshold = stability_threshold = 0.0
    if filters:  # at values that drop some masks and keep others
        unfiltered = reference(0.0, 0.0)
        iou_threshold = float(np.quantile([one["predicted_iou"] for one in unfiltered], 0.4))
        stability_threshold = float(
            np.nanquantile([one["stability_score"] for one in unfiltered], 0.1)
        )
    expected = np.stack(
        [one["segmentation"] for one in reference(iou_threshold, stability_threshold)]
    )
    segmenter = sam_segmenter(
        model,
        points_per_side=8,
        points_per_batch=24,
        iou_threshold=iou_threshold,
        stability_threshold=stability_threshold,
    )
    found, again = segmenter.propose([image, image])
    assert len(expected) > 0
    assert found.masks_NHW.shape == again.masks_NHW.shape == expected.shape
    matched = [
        max(iou(mask, other) for other in found.masks_NHW) for mask in expected if mask.any()
    ]
    assert len(matched) > 1
    assert np.mean(matched) > 0.99


def test_prompts_are_answered_as_the_package_does():
    from segment_anything import SamPredictor

    model = random_sam()
    image = np.random.default_rng(1).integers(0, 256, (90, 140, 3), np.uint8)
    predictor = SamPredictor(model)
    predictor.set_image(image)
    masks, quality, _ = predictor.predict(np.array([[30, 40]]), np.array([1]))
    found = sam_segmenter(model).prompt(image, point=(30, 40))
    np.testing.assert_array_equal(found.masks_NHW, masks[np.argsort(-quality)])
    masks, _, _ = predictor.predict(box=np.array([20, 10, 90, 80]), multimask_output=False)
    np.testing.assert_array_equal(
        sam_segmenter(model).prompt(image, box=(20, 10, 90, 80)).masks_NHW, masks
    )


def tiny_official_sam():
    """The package's own builder arithmetic at a size for tests: patch 16, width 48, 64 px."""
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    norm = partial(torch.nn.LayerNorm, eps=1e-6)
    encoder = ImageEncoderViT(
        depth=1,
        embed_dim=48,
        img_size=64,
        mlp_ratio=4,
        norm_layer=norm,
        num_heads=4,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=[0],
        window_size=14,
        out_chans=256,
    )
    prompts = PromptEncoder(
        embed_dim=256, image_embedding_size=(4, 4), input_image_size=(64, 64), mask_in_chans=16
    )
    decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=64, num_heads=8),
        transformer_dim=256,
    )
    return Sam(encoder, prompts, decoder)


def test_a_checkpoint_in_the_official_format_is_loaded_through_the_packages_registry(
    tmp_path, monkeypatch
):
    import segment_anything

    torch.manual_seed(0)
    trained = tiny_official_sam()
    torch.save(trained.state_dict(), tmp_path / "sam_tiny.pth")
    monkeypatch.setitem(
        segment_anything.sam_model_registry,
        "vit_tiny",
        lambda checkpoint: tiny_official_sam(),  # noqa: ARG005 - as builders do
    )
    monkeypatch.setitem(sam._MODEL_TYPES, 48, "vit_tiny")
    segmenter = build_segmenter(
        default_config(
            "segmenter=sam",
            f"segmenter.settings.checkpoint={tmp_path / 'sam_tiny.pth'}",
            "segmenter.settings.points_per_side=4",
            "segmenter.settings.iou_threshold=0.0",
        ).segmenter,
        spec=NO_MODELS,
    )
    for key, value in segmenter.model.state_dict().items():
        assert torch.equal(value, trained.state_dict()[key]), key
    (found,) = segmenter.propose([blob_on_white()[0]])
    assert found.masks_NHW.shape[1:] == (96, 80)
    with pytest.raises(ValueError, match="Download it again"):
        sam.load_sam(str(tmp_path / "sam_tiny.pth"), sha256="0" * 64)


def test_the_checkpoint_that_sd_models_name_is_a_file_in_a_folder_of_the_hub(tmp_path, monkeypatch):
    config = default_config("model=sd15")
    name = config.model.segmenter_checkpoint
    commit = "0" * 40
    cached = tmp_path / "models--ybelkada--segment-anything"
    file = cached / "snapshots" / commit / "checkpoints" / "sam_vit_b_01ec64.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert sam.resolve_checkpoint(name).samefile(file)
    spec = replace(NO_MODELS, segmenter_checkpoint=name)
    check_segmenter(config, spec)
    file.unlink()
    with pytest.raises(ValueError, match=r"cannot be fetched .*segmenter=felzenszwalb"):
        check_segmenter(config, spec)
    check_segmenter(default_config("model=sd15", "segmenter=felzenszwalb"), NO_MODELS)


def test_bad_checkpoints_and_names_are_refused_with_a_remedy(tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"garbage")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    for override, expected in (
        (f"segmenter.settings.checkpoint={tmp_path / 'gone.pth'}", "does not exist"),
        (f"segmenter.settings.checkpoint={tmp_path / 'broken.pth'}", "cannot be read"),
        (f"segmenter.settings.checkpoint={tmp_path / 'other.pth'}", "is not SAM's"),
        ("segmenter.settings.checkpoint=null", "none given"),
        ("segmenter.name=same", "segmenter.name: found 'same'; .*'sam', 'provided' or"),
        ("segmenter.target=no.such:thing", "cannot be imported"),
    ):
        with pytest.raises(ValueError, match=expected):
            build_segmenter(default_config("segmenter=sam", override).segmenter, spec=NO_MODELS)


def test_regions_fall_back_on_what_their_config_states():
    stated = default_config("segmenter=felzenszwalb").segmenter.own()
    fallback = vars(RegionSegmenter())
    assert {key: fallback[key] for key in stated} == stated | {"scales": tuple(stated["scales"])}


class Everything:
    """A user's own segmenter: finds the middle of every image."""

    name = "everything"

    def __init__(self, *, share: float) -> None:
        self.share = share

    def propose(self, images):
        return [self.prompt(image) for image in images]

    def prompt(self, image, *, point=None, box=None):  # noqa: ARG002 - the protocol
        height, width = image.shape[:2]
        mask = np.zeros((1, height, width), bool)
        mask[
            0,
            round(height * self.share) : -round(height * self.share),
            round(width * self.share) : -round(width * self.share),
        ] = True
        return Proposals(mask, np.ones(1, np.float32))


def test_a_users_own_segmenter_is_built_from_the_config():
    segmenter = build_segmenter(
        settings("segmenter", target=f"{__name__}:Everything", settings={"share": 0.25}),
        spec=NO_MODELS,
    )
    (found,) = segmenter.propose([np.zeros((40, 40, 3), np.uint8)])
    assert found.masks_NHW.sum() == 400


@pytest.mark.parametrize(
    ("name", "box", "inside", "outside"),
    [
        (
            "coffee",
            (78, 20, 492, 384),
            [(300, 150), (180, 300), (300, 360)],
            [(20, 20), (570, 40), (560, 380)],
        ),
        (
            "astronaut",
            (20, 10, 372, 512),
            [(220, 120), (150, 420), (215, 60)],
            [(30, 60), (460, 60), (480, 300)],
        ),
        (
            "rocket",
            (300, 120, 342, 410),
            [(321, 200), (321, 300)],
            [(250, 200), (400, 200), (321, 60)],
        ),
    ],
)
def test_regions_cut_photographs_at_a_box(name, box, inside, outside):
    from skimage import data

    mask = RegionSegmenter().prompt(getattr(data, name)(), box=box).masks_NHW[0]
    assert all(mask[y, x] for x, y in inside)
    assert not any(mask[y, x] for x, y in outside)


def test_a_plain_background_is_never_the_concept():
    choose = {"class_word": "egg", "clip": None, **dict(SAM.choose)}
    image, truth = blob_on_white()
    np.testing.assert_array_equal(plain_background(image), truth)
    whole_image, background = np.ones_like(truth), ~truth
    speck = np.zeros_like(truth)
    speck[48:52, 38:42] = True
    part = truth.copy()
    part[50:] = False
    masks = np.stack([background, whole_image, speck, part, truth])
    scores = np.array([1.0, 1.0, 1.0, 0.9, 0.6], np.float32)
    choice = choose_whole(image, Proposals(masks, scores), **choose)
    assert iou(choice.mask_HW, truth) > 0.99
    assert choose_whole(image, Proposals(masks[:3], scores[:3]), **choose) is None
    assert choose_whole(image, Proposals.none(96, 80), **choose) is None


def test_cut_outs_have_soft_edges_without_the_old_background():
    y, x = np.mgrid[:60, :60]
    mask = (x - 30) ** 2 + (y - 30) ** 2 <= 20**2
    image = np.where(mask[..., None], np.array([200, 0, 0]), np.array([0, 255, 0])).astype(np.uint8)
    cutout, box = cut_out(image, mask)
    pixels = np.asarray(cutout)
    assert box == (10, 10, 51, 51)
    assert pixels.shape == (41, 41, 4)
    alpha = pixels[..., 3]
    assert alpha[20, 20] == 255
    assert alpha[0, 0] == 0
    assert ((alpha > 0) & (alpha < 255)).any()
    assert (pixels[alpha > 0][:, 1] == 0).all(), "green of the old background shows at the edge"


def test_tidy_drops_specks_and_fills_pinholes_but_keeps_gaps():
    mask = np.zeros((60, 60), bool)
    mask[10:50, 10:50] = True
    mask[20, 20] = False
    mask[30:42, 30:42] = False
    mask[2:4, 2:4] = True
    cleaned = tidy(mask)
    assert cleaned[20, 20]
    assert not cleaned[2:4, 2:4].any()
    assert not cleaned[30:42, 30:42].any()
