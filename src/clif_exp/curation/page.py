"""The page that shows curation's results: sources, masks, part names and augmented images."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clif_exp.artifacts.files import write_text
from clif_exp.concepts.concept import ConceptSet
from clif_exp.concepts.images import load_rgb
from clif_exp.curation.manifest import read_contexts, read_manifest, read_segments

_UNNAMED_SHOWN = 12
_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Curation: {{ title }}</title>
<style>
 body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem;
        padding: 0 1rem; color: #222; background: #fff }
 h1, h2, h3 { line-height: 1.2 } h2 { border-top: 1px solid #ccc; padding-top: 1rem }
 .row { display: flex; flex-wrap: wrap; gap: .6rem } figure { margin: 0; width: {{ side }}px }
 figure img { width: 100%; border: 1px solid #ddd; display: block; background: #fff }
 figcaption { font-size: 12px; overflow-wrap: anywhere }
 .dim { color: #777 }
</style></head><body>
<h1>Curation: {{ title }}</h1>
<p>{{ summary }}</p>
{% for concept in concepts %}
<h2>&lt;{{ concept.name }}&gt; <span class="dim">{{ concept.class_word }}</span></h2>
{% for title, shown in concept.rows %}{% if shown %}<h3>{{ title }}</h3><div class="row">
{% for one in shown %}<figure><img src="{{ one.src }}" alt="{{ one.text }}">
<figcaption>{{ one.text }}</figcaption></figure>{% endfor %}
</div>{% endif %}{% endfor %}
{% endfor %}
{% if contexts %}<h2>General concepts</h2><div class="row">
{% for one in contexts %}<figure><img src="{{ one.src }}" alt="{{ one.text }}">
<figcaption>{{ one.text }}</figcaption></figure>{% endfor %}
</div>{% endif %}
</body></html>
"""


def write_page(
    file: Path,
    *,
    concepts: ConceptSet,
    segments: Path,
    contexts: Path | None,
    manifests: Mapping[str, Path],
    per_kind: int = 6,
    side: int = 144,
) -> Path:
    """Write one self-contained HTML page.

    Args:
        file: the page to write.
        concepts: the concept set; its images are shown next to their masks.
        segments: artifact of `segment_concepts`.
        contexts: artifact of `generate_contexts`, if there is one.
        manifests: kind (G, R, M) -> artifact of `compose_pairs`.
        per_kind: augmented images shown per concept and kind.
        side: of a thumbnail in px.

    Returns:
        `file`.
    """
    from jinja2 import Environment

    lines = read_segments(segments)
    augmented = {kind: read_manifest(folder) for kind, folder in manifests.items()}
    shown = []
    for concept in concepts.concepts:
        own = [line for line in lines if line["concept"] == concept.name]
        rows = [
            (
                "Masks",
                [
                    _masked(load_rgb(concept.images[x["image"]].file), segments, x, side)
                    for x in own
                    if x["kind"] == "whole"
                ],
            ),
            ("Parts", [_part(segments, x, side) for x in _parts_to_show(own)]),
        ]
        for kind, manifest in augmented.items():
            images = [
                line
                for line in manifest
                if any(source["concept"] == concept.name for source in line["sources"])
            ]
            picked = images[:: max(1, len(images) // per_kind)][:per_kind]
            rows.append(
                (
                    f"{kind}-Aug",
                    [
                        _shown(Image.open(manifests[kind] / x["file"]), x["caption"], side)
                        for x in picked
                    ],
                )
            )
        shown.append({"name": concept.name, "class_word": concept.class_word, "rows": rows})
    general = (
        []
        if contexts is None
        else [_context(contexts, line, side) for line in read_contexts(contexts)]
    )
    named = sum(line["part"] is not None for line in lines)
    summary = (
        f"{len(concepts.concepts)} concepts in {sum(x['kind'] == 'whole' for x in lines)} images;"
        f" {named} of {sum(x['kind'] == 'part' for x in lines)} parts named; {len(general)}"
        " cut-outs of general concepts; "
        + ", ".join(f"{len(manifest)} {kind} images" for kind, manifest in augmented.items())
    )
    page = Environment(autoescape=True).from_string(_TEMPLATE)
    html = page.render(
        title=concepts.name, concepts=shown, contexts=general, summary=summary, side=side
    )
    write_text(file, html)
    return file


def _masked(
    image: Image.Image, segments: Path, line: Mapping[str, Any], side: int
) -> dict[str, str]:
    """The source with everything but the concept faded."""
    mask = np.asarray(Image.open(segments / line["mask"]).convert("L")) > 127
    pixels = np.asarray(image).astype(np.float32)
    faded = np.where(mask[..., None], pixels, 0.25 * pixels + 0.75 * np.array([255.0, 90.0, 200.0]))
    return _shown(
        Image.fromarray(faded.astype(np.uint8)),
        f"{line['file']}, by {line['how']}, {line['score']:.2f}",
        side,
    )


def _parts_to_show(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The named ones, or some where nothing has a name."""
    parts = [line for line in lines if line["kind"] == "part"]
    return [line for line in parts if line["part"] is not None] or parts[
        :: max(1, len(parts) // _UNNAMED_SHOWN)
    ][:_UNNAMED_SHOWN]


def _part(segments: Path, line: Mapping[str, Any], side: int) -> dict[str, str]:
    text = "unnamed" if line["part"] is None else f"{line['part']} {line['score']:.2f}"
    return _shown(Image.open(segments / line["cutout"]), f"{text} ({line['file']})", side)


def _context(contexts: Path, line: Mapping[str, Any], side: int) -> dict[str, str]:
    similarity = "" if line["similarity"] is None else f" {line['similarity']:.2f}"
    return _shown(Image.open(contexts / line["cutout"]), f"{line['name']}{similarity}", side)


def _shown(image: Image.Image, text: str, side: int) -> dict[str, str]:
    """A thumbnail on white as a data URL, with its caption."""
    rgba = image.convert("RGBA")
    rgba.thumbnail((2 * side, 2 * side))
    canvas = Image.new("RGBA", (max(rgba.size),) * 2, (255, 255, 255, 255))
    canvas.alpha_composite(
        rgba, ((canvas.width - rgba.width) // 2, (canvas.height - rgba.height) // 2)
    )
    buffer = io.BytesIO()
    canvas.convert("RGB").save(buffer, format="PNG", optimize=True)
    return {
        "src": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
        "text": text,
    }
