"""Images for the page: thumbnails as data URIs, and labelled grids as PNG files."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

INK, MUTED = (31, 41, 55), (107, 114, 128)
# 2 % larger files than by default in half the time; `optimize=True` is 5 times slower.
_PNG_LEVEL = 4


@dataclass(frozen=True)
class Tile:
    """One image of a grid with its caption; `good` colours its frame (None: not judged)."""

    file: Path
    caption: str = ""
    note: str = ""
    good: bool | None = None

    @property
    def uri(self) -> str:
        """The image as a data URI."""
        return data_uri(self.file)


def data_uri(file: Path, *, side: int = 320) -> str:
    """Return an image as a data URI, at most `side` px: PNG if it is small already, else JPEG."""
    with Image.open(file) as opened:
        image = opened.convert("RGB")
    buffer = io.BytesIO()
    if max(image.size) <= side:
        image.save(buffer, format="PNG", compress_level=_PNG_LEVEL)
        kind = "png"
    else:
        image.thumbnail((side, side))
        image.save(buffer, format="JPEG", quality=88)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def write_grid(
    out: Path,
    rows: Sequence[tuple[str, Sequence[Tile | None]]],
    *,
    side: int = 160,
    label: int = 110,
) -> None:
    """Write rows of captioned images, each row with a label on its left, as one PNG.

    Args:
        out: file to write.
        rows: label and tiles of each row, None for an empty place; rows may differ in length.
            Nothing is written without tiles.
        side: side of a tile, px.
        label: width of the label column, px.
    """
    columns = max((len(tiles) for _, tiles in rows), default=0)
    if not columns:
        return
    gap, text = 10, 34
    font, small = ImageFont.load_default(14), ImageFont.load_default(11)
    canvas = Image.new(
        "RGB",
        (label + columns * (side + gap) + gap, gap + len(rows) * (side + text + gap)),
        "white",
    )
    draw = ImageDraw.Draw(canvas)
    for row, (name, tiles) in enumerate(rows):
        top = gap + row * (side + text + gap)
        draw.multiline_text((gap, top + 4), wrap(name, font, label - 2 * gap), fill=INK, font=font)
        for column, tile in enumerate(tiles):
            if tile is None:
                continue
            left = label + column * (side + gap)
            with Image.open(tile.file) as image:
                fitted = image.convert("RGB")
            if max(fitted.size) > side:
                fitted.thumbnail((side, side))
            scale = side / max(fitted.size)
            fitted = fitted.resize(
                (round(fitted.width * scale), round(fitted.height * scale)),
                Image.Resampling.LANCZOS,
            )
            canvas.paste(
                fitted, (left + (side - fitted.width) // 2, top + (side - fitted.height) // 2)
            )
            lines = wrap(tile.caption, small, side).split("\n")
            draw.multiline_text(
                (left, top + side + 3), "\n".join(lines[:2]), fill=MUTED, font=small
            )
    out.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(out, compress_level=_PNG_LEVEL)


def write_strips(
    out: Path,
    strips: Sequence[tuple[str, Path]],
    *,
    columns: Sequence[str],
    side: int = 128,
    label: int = 80,
    limit: int = 8,
) -> None:
    """Stack images that are rows of tiles, such as the sample grids of several steps, as one PNG.

    Args:
        out: file to write; nothing is written without strips.
        strips: label and file of each; of more than `limit` the first, the last and some between.
        columns: what each column shows.
        side: height of a strip, px.
        label: width of the label column, px.
        limit: strips at most.
    """
    if not strips:
        return
    chosen = [
        strips[round(place * (len(strips) - 1) / max(1, min(limit, len(strips)) - 1))]
        for place in range(min(limit, len(strips)))
    ]
    gap, head = 6, 46
    font, small = ImageFont.load_default(14), ImageFont.load_default(11)
    canvas = Image.new(
        "RGB", (label + len(columns) * side, head + len(chosen) * (side + gap)), "white"
    )
    draw = ImageDraw.Draw(canvas)
    for column, text in enumerate(columns):
        draw.multiline_text(
            (label + column * side + 3, 3),
            "\n".join(wrap(text, small, side - 8).split("\n")[:3]),
            fill=MUTED,
            font=small,
        )
    for row, (name, file) in enumerate(chosen):
        top = head + row * (side + gap)
        draw.text((8, top + 4), name, fill=INK, font=font)
        with Image.open(file) as strip:
            canvas.paste(
                strip.convert("RGB").resize((len(columns) * side, side), Image.Resampling.LANCZOS),
                (label, top),
            )
    out.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(out, compress_level=_PNG_LEVEL)


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Break a text into lines of at most `width` px, between words."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)
