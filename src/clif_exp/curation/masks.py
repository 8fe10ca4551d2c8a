"""Measures of masks, and cut-outs with clean edges.

NumPy and SciPy only: worker processes import this in no time.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from clif_exp.artifacts.files import write_bytes
from clif_exp.concepts.images import mask_box


def iou(a_HW: np.ndarray, b_HW: np.ndarray) -> float:
    """Intersection over union of two bool masks, in [0, 1]; two empty ones give 0."""
    union = np.logical_or(a_HW, b_HW).sum()
    return float(np.logical_and(a_HW, b_HW).sum() / union) if union else 0.0


def tidy(mask_HW: np.ndarray, *, keep: float = 0.1, holes: float = 0.01) -> np.ndarray:
    """Fill holes and drop specks.

    Args:
        mask_HW: bool [H, W].
        keep: components below this share of the largest one are specks.
        holes: holes below this share of the mask are filled; larger ones may show the background
            between arm and body.

    Returns:
        bool [H, W].
    """
    if not mask_HW.any():
        return mask_HW
    labels, count = ndimage.label(mask_HW, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    kept = np.isin(labels, 1 + np.flatnonzero(sizes >= keep * sizes.max()))
    empty = ndimage.binary_fill_holes(kept) & ~kept
    hole_labels, hole_count = ndimage.label(empty)
    small = np.flatnonzero(
        np.bincount(hole_labels.ravel(), minlength=hole_count + 1) < holes * kept.sum()
    )
    return kept | np.isin(hole_labels, small[small > 0])


def plain_background(
    image_HW3: np.ndarray, *, tolerance: float = 14.0, share: float = 0.9
) -> np.ndarray | None:
    """Find the foreground of an image whose background is one plain colour.

    Args:
        image_HW3: uint8 RGB.
        tolerance: RGB distance (0 to 441) up to which a pixel counts as the background's colour.
        share: how much of the image's border must have that colour for the background to be
            plain.

    Returns:
        bool [H, W], True where the image is not background; None if the background is not plain.
    """
    border = np.concatenate(
        [image_HW3[0], image_HW3[-1], image_HW3[:, 0], image_HW3[:, -1]]
    ).astype(np.float32)
    colour = np.median(border, axis=0)
    if (np.linalg.norm(border - colour, axis=1) <= tolerance).mean() < share:
        return None
    near = np.linalg.norm(image_HW3.astype(np.float32) - colour, axis=2) <= tolerance
    # Only what hangs together with the border is background: a white shirt inside an outline is
    # not.
    labels, _ = ndimage.label(near)
    at_border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return ~np.isin(labels, at_border[at_border > 0])


def cut_out(
    image_HW3: np.ndarray, mask_HW: np.ndarray, *, softness: float = 0.7
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Cut the masked thing out, with an anti-aliased edge free of the old background.

    Args:
        image_HW3: uint8 RGB.
        mask_HW: bool [H, W], not empty.
        softness: standard deviation of the edge in px of the source image.

    Returns:
        RGBA image of the mask's box, and the box (x0, y0, x1, y1) in px of the source.
    """
    x0, y0, x1, y1 = mask_box(mask_HW)
    mask = np.pad(mask_HW[y0:y1, x0:x1], 2)
    image = np.pad(image_HW3[y0:y1, x0:x1], ((2, 2), (2, 2), (0, 0)), mode="edge")
    alpha = ndimage.gaussian_filter(mask.astype(np.float32), softness)
    # Slightly inside: the outermost pixels of a mask are half background.
    alpha = np.clip((alpha - 0.35) / 0.5, 0.0, 1.0)
    core = ndimage.binary_erosion(mask)
    if core.sum() > 0.3 * mask.sum():
        nearest = ndimage.distance_transform_edt(~core, return_distances=False, return_indices=True)
        ring = ~core
        # Two pixels of ring take the colour of what lies just inside, at most; thin outlines keep
        # their own.
        image = np.where((ring & ~mask)[..., None], image[tuple(nearest)], image)
    rgba = np.dstack([image, np.round(alpha * 255).astype(np.uint8)])
    return Image.fromarray(rgba[2:-2, 2:-2], "RGBA"), (x0, y0, x1, y1)


def resized(mask_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a bool mask in another size, (width, height) in px."""
    image = Image.fromarray(mask_HW.astype(np.uint8) * 255, "L")
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR)) > 127


def write_png(file: Path, image: Image.Image) -> None:
    """Write a PNG atomically: a killed run leaves a whole file or none."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    write_bytes(file, buffer.getvalue())


def write_mask(file: Path, mask_HW: np.ndarray) -> None:
    """Write a bool mask as an 8-bit grey PNG (255 = inside), atomically."""
    write_png(file, Image.fromarray(mask_HW.astype(np.uint8) * 255, "L"))
