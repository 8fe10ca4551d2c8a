"""The page that shows curation's results: sources, masks, part names and augmented images."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clif_exp.artifacts.files import write_text
from clif_exp.concepts.concept import Concept, ConceptSet
from clif_exp.concepts.images import load_rgb
from clif_exp.curation.manifest import read_contexts, read_manifest, read_segments
from clif_exp.curation.omissions import without_parts
from clif_exp.pages import render

_UNNAMED_SHOWN = 12
_SIDE = 320  # px of a thumbnail, twice what a wide screen shows
_KINDS = {"G": "Beside general concepts", "R": "Its parts beside general parts", "M": "Mixed"}

Tile = dict[str, str]
"""`uri`, `caption` and `note` of an image."""


def write_page(
    file: Path,
    *,
    concepts: ConceptSet,
    segments: Path,
    contexts: Path | None,
    manifests: Mapping[str, Path],
    naming: bool = True,
    warnings: Sequence[str] = (),
    report: str | None = None,
    per_kind: int = 6,
) -> Path:
    """Write one self-contained HTML page.

    Args:
        file: the page to write.
        concepts: the concept set; its images are shown next to their masks.
        segments: artifact of `segment_concepts`.
        contexts: artifact of `generate_contexts`, if there is one.
        manifests: kind (G, R, M) -> artifact of `compose_pairs`.
        naming: whether regions were to get names (`captioner.naming.enabled`).
        warnings: sentences that stand above everything else.
        report: the file name of the run's report beside this page; None: there is none.
        per_kind: augmented images shown per concept and kind.

    Returns:
        `file`.
    """
    lines = read_segments(segments)
    unnamed = without_parts(segments, concepts=concepts, naming=naming)
    shown = [
        {
            "name": concept.name,
            "class_word": concept.class_word,
            "notes": [unnamed[concept.name]] if concept.name in unnamed else [],
            "rows": [
                *_segmented_rows(concept, lines, segments),
                *_augmented_rows(concept, manifests, per_kind=per_kind),
            ],
        }
        for concept in concepts.concepts
    ]
    general = [] if contexts is None else read_contexts(contexts)
    content = render(
        "clif_exp.curation",
        "curation.html.j2",
        title=concepts.name,
        concepts=shown,
        contexts=[] if contexts is None else _general_rows(general, contexts),
        facts=_facts(concepts, lines, general, manifests),
        warnings=warnings,
        report=report,
    )
    write_text(file, content)
    return file


def _facts(
    concepts: ConceptSet,
    lines: Sequence[Mapping[str, Any]],
    general: Sequence[Mapping[str, Any]],
    manifests: Mapping[str, Path],
) -> dict[str, str]:
    """What was made, for the head of the page."""
    named = sum(line["part"] is not None for line in lines)
    return {
        "concepts": str(len(concepts.concepts)),
        "images": str(sum(line["kind"] == "whole" for line in lines)),
        "parts named": f"{named} of {sum(line['kind'] == 'part' for line in lines)}",
        "general concepts": str(len(general)),
    } | {f"{kind} images": str(len(read_manifest(path))) for kind, path in manifests.items()}


def _segmented_rows(
    concept: Concept, lines: Sequence[Mapping[str, Any]], segments: Path
) -> list[tuple[str, list[Tile]]]:
    own = [line for line in lines if line["concept"] == concept.name]
    masks = [
        _tile(
            _faded(load_rgb(concept.images[line["image"]].file), segments / line["mask"]),
            line["file"],
            _how(line),
        )
        for line in own
        if line["kind"] == "whole"
    ]
    parts = [
        _tile(
            Image.open(segments / line["cutout"]),
            line["part"] or "no name",
            f"{line['file']}, sure {line['score']:.2f}" if line["part"] else line["file"],
        )
        for line in _parts_to_show(own)
    ]
    rows = [("Masks", masks), ("Named parts" if _any_named(own) else "Regions", parts)]
    return [(title, tiles) for title, tiles in rows if tiles]


def _augmented_rows(
    concept: Concept, manifests: Mapping[str, Path], *, per_kind: int
) -> list[tuple[str, list[Tile]]]:
    rows = []
    for kind, folder in manifests.items():
        images = [
            line
            for line in read_manifest(folder)
            if any(source["concept"] == concept.name for source in line["sources"])
        ]
        picked = images[:: max(1, len(images) // per_kind)][:per_kind]
        if picked:
            tiles = [_tile(Image.open(folder / line["file"]), line["caption"]) for line in picked]
            rows.append((f"{_KINDS[kind]} ({kind}-Aug)", tiles))
    return rows


def _general_rows(
    lines: Sequence[Mapping[str, Any]], contexts: Path
) -> list[tuple[str, list[Tile]]]:
    titles = {"whole": "Whole", "part": "Parts", "background": "Backgrounds"}
    rows = []
    for kind, title in titles.items():
        tiles = [
            _tile(
                Image.open(contexts / line["cutout"]),
                line["name"],
                "" if line["similarity"] is None else f"likeness {line['similarity']:.2f}",
            )
            for line in lines
            if line["kind"] == kind
        ]
        rows += [(title, tiles)] if tiles else []
    return rows


def _how(line: Mapping[str, Any]) -> str:
    """Where a mask comes from, and how good it is."""
    if line["how"] == "mask":
        return "your mask"
    if line["how"] in ("box", "point") and not line["measures"]:
        return f"at your {line['how']}, confidence {line['score']:.2f}"
    by = f"at your {line['how']}" if line["how"] == "point" else f"by {line['how']}"
    return f"{by}, fit {line['score']:.2f}"


def _faded(image: Image.Image, mask_file: Path) -> Image.Image:
    """The source with everything but the concept faded."""
    mask = np.asarray(Image.open(mask_file).convert("L")) > 127
    pixels = np.asarray(image).astype(np.float32)
    faded = np.where(mask[..., None], pixels, 0.25 * pixels + 0.75 * np.array([255.0, 90.0, 200.0]))
    return Image.fromarray(faded.astype(np.uint8))


def _any_named(lines: Sequence[Mapping[str, Any]]) -> bool:
    return any(line["part"] is not None for line in lines)


def _parts_to_show(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The named ones, or some where nothing has a name."""
    parts = [line for line in lines if line["kind"] == "part"]
    return [line for line in parts if line["part"] is not None] or parts[
        :: max(1, len(parts) // _UNNAMED_SHOWN)
    ][:_UNNAMED_SHOWN]


def _tile(image: Image.Image, caption: str, note: str = "") -> dict[str, Any]:
    """A thumbnail on white as a data URI, with its caption."""
    rgba = image.convert("RGBA")
    rgba.thumbnail((_SIDE, _SIDE))
    canvas = Image.new("RGBA", (max(rgba.size),) * 2, (255, 255, 255, 255))
    canvas.alpha_composite(
        rgba, ((canvas.width - rgba.width) // 2, (canvas.height - rgba.height) // 2)
    )
    buffer = io.BytesIO()
    canvas.convert("RGB").save(buffer, format="PNG")
    uri = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"uri": uri, "caption": caption, "note": note, "good": None}
