"""The figures that a study keeps beside its tables: committed files, and their captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.files import write_json, write_text
from clif_exp.compare.grouping import Group, group
from clif_exp.studies import attendance, attention, distance, images
from clif_exp.studies.settings import (
    AttendanceFigure,
    AttentionFigure,
    DistanceFigure,
    FigureSettings,
    ImagesFigure,
)

if TYPE_CHECKING:
    from clif_exp.compare.run import Run

CAPTIONS = "figures.md"
_ROOMS = {
    "images": (images, ".png"),
    "distance": (distance, ".svg"),
    "attendance": (attendance, ".svg"),
    "attention": (attention, ".png"),
}
"""Kind of a figure -> what makes it, and its file's ending."""


def keep_figures(
    runs: Sequence[Run], folder: Path, figures: Sequence[FigureSettings], *, by: Sequence[str]
) -> None:
    """Write each figure (KIND.svg or .png), its numbers (KIND.json), and figures.md with captions.

    Args:
        runs: at least one that has finished.
        folder: the study's.
        figures: which; none: nothing is written.
        by: settings to group by; none: all that differ but cast and seed.

    Raises:
        ValueError: the runs lack what a figure shows.
        OSError: a file cannot be written.
    """
    if not figures:
        return
    groups = [found for found in group(runs, by).groups if found.runs]
    folder.mkdir(parents=True, exist_ok=True)
    said = [_keep(groups, folder, settings) for settings in figures]
    write_text(folder / CAPTIONS, "\n\n".join(said) + "\n")


def _keep(groups: Sequence[Group], folder: Path, settings: FigureSettings) -> str:
    """Write a figure and its numbers; return it as Markdown with its caption."""
    room, ending = _ROOMS[settings.kind]
    file = folder / f"{settings.kind}{ending}"
    found: dict[str, Any]
    match settings:
        case DistanceFigure():
            found = distance.collect(groups)
            distance.draw(found, file)
        case AttendanceFigure():
            found = attendance.collect(groups)
            attendance.draw(found, file)
        case AttentionFigure():
            found = attention.collect(groups)
            attention.draw(groups, file, rows=settings.rows)
        case ImagesFigure():
            found = images.collect(groups, settings=settings)
            images.draw(groups, found, file)
    write_json(file.with_suffix(".json"), found)
    return f"![{settings.kind}]({file.name})\n\n{room.caption(found)}"
