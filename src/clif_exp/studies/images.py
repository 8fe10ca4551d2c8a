"""The same prompts and seeds drawn by every group, side by side (the paper's Figs. 3, 7 and 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clif_exp.artifacts.files import read_jsonl
from clif_exp.compare.grouping import REPLICATES, Group, short_label
from clif_exp.compare.reading import published
from clif_exp.compare.run import Run
from clif_exp.reporting.images import Tile, write_grid
from clif_exp.studies.settings import ImagesFigure, Pairs

_SIDE, _LABEL = 128, 150  # px of an image and of the column of prompts
_TITLES = dict(zip(REPLICATES, ("cast", "training seed"), strict=True))


def collect(groups: Sequence[Group], *, settings: ImagesFigure) -> dict[str, Any]:
    """Choose prompts by the settings alone, and gather what each group drew of them.

    Args:
        groups: of runs; one that shares no cast and seed with the others makes it fail.
        settings: which prompts.

    Returns:
        `rule` in words; `cast`, which cast and seed is shown; `rows`: for each prompt its `prompt`,
        `seed`, `concepts` and `intact`: group -> number of concepts that the reader found intact.

    Raises:
        ValueError: no prompt meets the settings, or a group has no run of a common cast and seed.
    """
    runs, shared = _of_one_cast(groups)
    lines = {label: _judged(run) for label, run in runs.items()}
    first = next(iter(lines.values()))
    chosen = _choose(
        first, kinds=_kinds(next(iter(runs.values())), settings.pairs), settings=settings
    )
    rows = []
    for key in chosen:
        line = first[key]
        rows.append(
            {
                "prompt": line["prompt"],
                "seed": line["seed"],
                "concepts": line["concepts"],
                "intact": {
                    label: len(found[key]["judgement"]["intact"])
                    for label, found in lines.items()
                    if key in found and found[key].get("judgement")
                },
            }
        )
    return {"rule": _rule(settings, len(rows)), "cast": shared, "rows": rows}


def _of_one_cast(groups: Sequence[Group]) -> tuple[dict[str, Run], str]:
    """Return each group's run of the first cast and seed that all have, and what it is called."""
    for key in groups[0].runs:
        if all(key in group.runs for group in groups):
            settings = groups[0].runs[key].settings
            named = ", ".join(
                f"{_TITLES[of]} {settings[of]}" for of in REPLICATES if of in settings
            )
            return {group.label: group.runs[key] for group in groups}, named
    raise ValueError(
        "hydra.sweeper.keep.figures: no cast and seed has a finished run in every group; finish the"
        " sweep, or leave groups out"
    )


Prompt = tuple[str, int]  # its text and the sampling seed


def _judged(run: Run) -> dict[Prompt, dict[str, Any]]:
    """Return the images of several concepts with what the reader found."""
    folder = published(run, "evaluation")
    lines = read_jsonl(folder / "per_image.jsonl") if folder else []
    return {(of["prompt"], of["seed"]): of for of in lines if of["group"] == "multi"}


def _choose(
    lines: Mapping[Prompt, Mapping[str, Any]], *, kinds: Mapping[str, str], settings: ImagesFigure
) -> list[Prompt]:
    """Return the prompts of the first sampling seed that the settings ask for, layouts in turn."""
    seed = next((key[1] for key in lines), 0)
    fitting = [
        key
        for key, line in lines.items()
        if key[1] == seed
        and line["layout"] in settings.layouts
        and len(line["concepts"]) >= settings.concepts
        and _fit(line["concepts"], kinds, settings.pairs)
    ]
    by_layout = {
        layout: [key for key in fitting if lines[key]["layout"] == layout]
        for layout in settings.layouts
    }
    found: list[Prompt] = []
    shown: set[frozenset[str]] = set()
    while len(found) < settings.rows and any(by_layout.values()):
        for waiting in filter(None, by_layout.values()):
            new = [key for key in waiting if frozenset(lines[key]["concepts"]) not in shown]
            key = (new or waiting)[0]
            waiting.remove(key)
            found.append(key)
            shown.add(frozenset(lines[key]["concepts"]))
    if not found:
        raise ValueError(
            f"hydra.sweeper.keep.figures: no image of {settings.concepts} or more concepts has"
            f" layouts={settings.layouts} and pairs={settings.pairs}; draw some"
            " (generation.prompts), or show others"
        )
    return found[: settings.rows]


def _kinds(run: Run, pairs: Pairs) -> Mapping[str, str]:
    """Return what concepts are alike or not by: their class words, or their styles."""
    if pairs == "any":
        return {}
    if run.settings.get("dataset.name") != "toonworld":
        raise ValueError(
            f"hydra.sweeper.keep.figures: found pairs={pairs}, which only dataset=toonworld tells;"
            " use pairs=any"
        )
    from clif_exp.toonworld.cast import cast, default_cast

    seed = run.settings.get("dataset.cast_seed")
    members = cast(seed) if isinstance(seed, int) else default_cast()
    return {
        name: member.species if pairs == "alike" else member.style
        for name, member in members.items()
    }


def _fit(concepts: Sequence[str], kinds: Mapping[str, str], pairs: Pairs) -> bool:
    found = {kinds.get(name) for name in concepts}
    return pairs == "any" or (len(found) == 1 if pairs == "alike" else len(found) > 1)


def _rule(settings: ImagesFigure, shown: int) -> str:
    of = {"any": "", "alike": " of one species", "across_styles": " of several styles"}
    return (
        f"The first {shown} prompts of {settings.concepts} or more concepts"
        f"{of[settings.pairs]}, layouts {', '.join(settings.layouts)} in turn, other concepts as"
        " long as there are any; the first cast and training seed, the first sampling seed"
    )


def draw(groups: Sequence[Group], found: Mapping[str, Any], file: Path) -> None:
    """Draw a row for each prompt: a reference of each concept, then each group's image."""
    runs, _ = _of_one_cast(groups)
    evaluation = published(next(iter(runs.values())), "evaluation")
    assert evaluation is not None, "it was read before"
    widest = max(len(row["concepts"]) for row in found["rows"])
    images = {
        label: {(image.prompt, image.seed): image.file for image in run.images}
        for label, run in runs.items()
    }
    rows = []
    for row in found["rows"]:
        tiles: list[Tile | None] = [
            Tile(evaluation / "references" / name / "0.png", f"<{name}>, a reference")
            for name in row["concepts"]
        ]
        tiles += [None] * (widest - len(tiles))
        for label, drawn in images.items():
            count = row["intact"].get(label)
            said = "" if count is None else f": {count} of {len(row['concepts'])} intact"
            image = drawn.get((row["prompt"], row["seed"]))
            shown = Tile(image, f"{short_label(label)}{said}") if image else None
            tiles.append(shown)
        rows.append((row["prompt"], tiles))
    write_grid(file, rows, side=_SIDE, label=_LABEL)


def caption(found: Mapping[str, Any]) -> str:
    """Say what the images show, and by which rule they were chosen."""
    return (
        "Each row is one prompt (left), one reference picture of each concept that it names, and"
        " what each group drew of it from the same noise. Below an image: how many of the named"
        " concepts are intact by the oracle (there once, at least three quarters of their visible"
        " attributes right, none of them another concept's).\n\n"
        f"Chosen by rule, not by looks. {found['rule']} ({found['cast']})."
    )
