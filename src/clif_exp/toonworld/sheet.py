"""Draws a sheet of random scenes: `python -m clif_exp.toonworld.sheet --out sheet.png`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from clif_exp.toonworld.drawing.render import render


def grid(
    rows: int,
    *,
    columns: int = 6,
    seed: int = 0,
    kind: str | None = None,
    allow_cast_only: bool = False,
    size: int = 128,
    zoom: int = 2,
) -> Image.Image:
    """Draw random scenes in a grid, each with its caption below."""
    from clif_exp.toonworld.grammar import caption
    from clif_exp.toonworld.scenes import sample_scene

    rng = np.random.default_rng(seed)
    side, text = size * zoom, 42
    sheet = Image.new("RGB", (columns * (side + 4), rows * (side + text)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for place in range(rows * columns):
        scene = sample_scene(rng, kind=kind, allow_cast_only=allow_cast_only)
        x, y = place % columns * (side + 4), place // columns * (side + text)
        sheet.paste(
            Image.fromarray(render(scene, size=size).image).resize(
                (side, side), Image.Resampling.LANCZOS
            ),
            (x, y),
        )
        words, line, lines = caption(scene, rng).split(), "", []
        for word in words:
            if len(line) + len(word) > side // 6:
                lines.append(line)
                line = ""
            line += word + " "
        draw.text((x + 2, y + side + 1), "\n".join([*lines, line][:3]), fill=(0, 0, 0))
    return sheet


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description="Draw a grid of random scenes with their captions."
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kind", default=None, help="single, single_white, pair, pair_white, parts or row"
    )
    parser.add_argument(
        "--cast-only", action="store_true", help="include what the base models never see"
    )
    options = parser.parse_args()
    grid(
        options.rows,
        columns=options.columns,
        seed=options.seed,
        kind=options.kind,
        allow_cast_only=options.cast_only,
    ).save(options.out)


if __name__ == "__main__":
    main()
