"""`dataset=photos`: the colour photographs of scikit-image's wheel, as a concept set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from clif_exp.concepts.concept import Concept, ConceptImage
from clif_exp.concepts.reading import write_concepts_yaml

SIZE = 320  # px of the longer side of what is written


@dataclass(frozen=True)
class _Photo:
    """A photograph.

    Args:
        name: of the concept.
        class_word: one that ToonWorld's tokenizer knows as well as CLIP's.
        parts: what it has.
        source: scikit-image's name of the image.
        box: where the thing is, px.
        crops: which parts of the image serve as references, px.
    """

    name: str
    class_word: str
    parts: tuple[str, ...]
    source: str
    box: tuple[int, int, int, int]
    crops: tuple[tuple[int, int, int, int], ...]


_PHOTOS = (
    _Photo(
        "eileen",
        "woman",
        ("hair", "face", "jacket"),
        "astronaut",
        (20, 10, 372, 512),
        ((0, 0, 400, 420), (0, 0, 390, 400), (0, 0, 400, 440)),
    ),
    _Photo(
        "chelsea",
        "cat",
        ("eyes", "nose", "ears"),
        "chelsea",
        (20, 0, 385, 300),
        ((0, 0, 451, 300), (10, 0, 400, 300), (60, 0, 451, 280)),
    ),
    _Photo(
        "espresso",
        "object",
        ("cup", "saucer", "spoon"),
        "coffee",
        (78, 20, 492, 384),
        ((0, 0, 600, 400), (40, 0, 540, 400), (60, 5, 510, 395)),
    ),
    _Photo(
        "falcon",
        "toy",
        ("nose", "tower"),
        "rocket",
        (300, 120, 342, 410),
        ((150, 80, 490, 427), (230, 100, 420, 427), (200, 60, 450, 420)),
    ),
)


def write_photos(out: Path, *, size: int | None = None) -> Path:
    """Write the photographs as a concept set: three crops of each image, each also mirrored.

    Args:
        out: folder to fill.
        size: how many of the four concepts; None for all.

    Returns:
        The concepts.yaml written. Every image carries the box in which the thing is.
    """
    from skimage import data

    concepts = []
    for photo in _PHOTOS[: size or None]:
        photograph = Image.fromarray(getattr(data, photo.source)())
        folder = out / "images" / photo.name
        folder.mkdir(parents=True, exist_ok=True)
        images = []
        for number, crop in enumerate(photo.crops):
            part = photograph.crop(crop)
            scale = SIZE / max(part.size)
            part = part.resize(
                (round(part.width * scale), round(part.height * scale)), Image.Resampling.LANCZOS
            )
            x0, y0, x1, y1 = (
                round(scale * (value - origin))
                for value, origin in zip(photo.box, (*crop[:2], *crop[:2]), strict=True)
            )
            box = (max(x0, 0), max(y0, 0), min(x1, part.width), min(y1, part.height))
            mirrored = (part.width - box[2], box[1], part.width - box[0], box[3])
            for suffix, image, place in (
                ("", part, box),
                ("_mirrored", part.transpose(Image.Transpose.FLIP_LEFT_RIGHT), mirrored),
            ):
                file = folder / f"{number:02d}{suffix}.png"
                image.save(file)
                images.append(ConceptImage(file, box=place))
        concepts.append(Concept(photo.name, photo.class_word, tuple(images), photo.parts))
    return write_concepts_yaml(out, concepts=concepts, name="photos")
