"""MuDI's Detect-and-Compare score, to read our confusion metrics beside a published one.

Jang et al., 2024 (arXiv 2404.04243): the score is 1 - ||S_GT - S_DC||. What the formula leaves open
follows its authors' demo (github.com/agwmon/MuDI, detect_and_compare/demo.ipynb):

- S_GT[i, j] is the mean cosine over all pairs of a reference of subject i and one of subject j; the
  diagonal counts each reference with itself. References are whole images.
- S_DC[i, j] is the mean cosine of the figure assigned to subject i and the references of subject j.
  Figures are boxes, padded to squares with white.
- Assignment is greedy: each subject in turn, in the order of the prompt, takes of the figures still
  free the one most like it. So the score does not see sides.
- The norm is the spectral norm. Another number of figures than of subjects scores 0.

Ours differs in what finds and compares. On ToonWorld the oracle's boxes and the CLIP of
`image_alignment` stand for OWLv2 and DreamSim or DINOv2. On real models the detector is theirs, but
looks for `evaluation.reader.queries` in every image instead of its own subjects' names, and of two
boxes that overlap strongly drops one; the features are DINOv2's, averaged over all tokens as in
theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from clif_exp.evaluation.alignment import EmbeddedBatch


def detect_and_compare(batch: EmbeddedBatch) -> list[float | None] | None:
    """Score each image of several concepts; None without a reader.

    Returns:
        At most 1, by image; None for one that names fewer than two concepts, or one without
        references.
    """
    if batch.figures is None:
        return None
    scores: list[float | None] = []
    for names, figures_FD in zip(batch.named, batch.figures, strict=True):
        references = [batch.figure_references.get(name) for name in names]
        known = [reference for reference in references if reference is not None and len(reference)]
        applies = len(names) > 1 and len(known) == len(names)
        scores.append(compare_figures(figures_FD, known) if applies else None)
    return scores


def compare_figures(figures_FD: Tensor, references: Sequence[Tensor]) -> float:
    """Score one image's figures against the subjects that it should show.

    Args:
        figures_FD: L2-normalised features of the figures, float [F, D].
        references: L2-normalised features of each subject's references, float [R, D].

    Returns:
        1 if the figures are as like the references as these are among themselves, less the less
        they are; 0 for another number of figures than of subjects.
    """
    import torch

    if len(figures_FD) != len(references):
        return 0.0
    found_FS = torch.stack([(figures_FD @ own_RD.T).mean(1) for own_RD in references], dim=1)
    wanted_SS = torch.stack(
        [torch.stack([(a_RD @ b_RD.T).mean() for b_RD in references]) for a_RD in references]
    )
    return score_similarities(found_FS, wanted_SS)


def score_similarities(found_FS: Tensor, wanted_SS: Tensor) -> float:
    """Return 1 - the spectral norm of the similarities' difference, figures assigned greedily.

    Args:
        found_FS: figures by subjects, as many of the one as of the other.
        wanted_SS: subjects by subjects.
    """
    import torch

    free, order = list(range(len(found_FS))), []
    for subject in range(len(wanted_SS)):
        best = max(free, key=lambda figure: float(found_FS[figure, subject]))
        free.remove(best)
        order.append(best)
    difference_SS = (found_FS[order] - wanted_SS).double()
    return 1 - float(torch.linalg.matrix_norm(difference_SS, ord=2))


def square_crop(image: Image.Image, box: Sequence[float]) -> Image.Image:
    """Cut out a box, padded with white to a square around it.

    Args:
        image: RGB.
        box: left, top, right, bottom as shares of the image's width and height; what lies outside
            the image is cut off.
    """
    from PIL import Image

    left, right = _pixels(box[0], box[2], size=image.width)
    top, bottom = _pixels(box[1], box[3], size=image.height)
    crop = image.crop((left, top, right, bottom))
    side = max(crop.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(crop, ((side - crop.width) // 2, (side - crop.height) // 2))
    return square


def _pixels(low: float, high: float, *, size: int) -> tuple[int, int]:
    """Whole pixels from `low` to `high`, at least one, inside the image."""
    start = min(max(round(low * size), 0), size - 1)
    return start, max(min(round(high * size), size), start + 1)
