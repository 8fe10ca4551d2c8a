"""The figures that a study keeps beside its tables: committed files, and their captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.files import write_json, write_text
from clif_exp.compare.grouping import METHOD, Group, full_key, group
from clif_exp.studies import attendance, attention, curve, distance, images
from clif_exp.studies.settings import (
    AttendanceFigure,
    AttentionFigure,
    CurveFigure,
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
    "curve": (curve, ".svg"),
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
    folder.mkdir(parents=True, exist_ok=True)
    said = [_keep(_groups(runs, by, settings), folder, settings) for settings in figures]
    write_text(folder / CAPTIONS, "\n\n".join(said) + "\n")


def _groups(runs: Sequence[Run], by: Sequence[str], settings: FigureSettings) -> list[Group]:
    """Return the groups of a figure that have finished runs; a curve's hold all its values."""
    grouping = group(runs, by)
    if isinstance(settings, CurveFigure):
        along = full_key(settings.setting, runs, option="hydra.sweeper.keep.figures")
        others = [key for key in grouping.by if key != along]
        grouping = group(runs, others or [METHOD])
    return [found for found in grouping.groups if found.runs]


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
        case CurveFigure():
            found = curve.collect(groups, key=settings.setting, metrics=settings.metrics)
            curve.draw(found, file)
        case ImagesFigure():
            found = images.collect(groups, settings=settings)
            images.draw(groups, found, file)
    write_json(file.with_suffix(".json"), found)
    return f"![{settings.kind}]({file.name})\n\n{room.caption(found)}"
