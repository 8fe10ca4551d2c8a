"""`comparison.html`: runs beside one another, in one file that opens without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from clif_exp.artifacts.files import write_text
from clif_exp.compare.content import describe_runs
from clif_exp.compare.run import Run
from clif_exp.compare.thumbnails import (
    Thumbnails,
    data_uris,
    make_thumbnails,
    remove_others,
    write_files,
)
from clif_exp.pages import render

_VALUES_SHOWN = 8  # of a setting that differs, in the page's head
_PER_BLOCK = 32  # images that the page reads at once


def write_page(
    runs: Sequence[Run],
    out: Path,
    *,
    title: str,
    images: Literal["inside", "beside", "none"] = "inside",
    sections: Sequence[tuple[str, str]] = (),
) -> None:
    """Write the comparison of runs as one HTML file.

    Args:
        runs: in the order in which they are shown; at least one.
        out: the file, `comparison.html`.
        title: what is compared.
        images: "inside" the file as data URIs; "beside" it in `<out>_images/`; "none".
        sections: title and HTML of what stands below, such as an inline SVG. The HTML is not
            escaped: it must be safe.

    Raises:
        ValueError: there are no runs.
        OSError: the file cannot be written; names it and the remedy.
    """
    if not runs:
        raise ValueError(f"{out}: no runs to compare")
    found = Thumbnails() if images == "none" else make_thumbnails(runs)
    folder = out.with_name(f"{out.stem}_images")
    if images == "beside" and found.files:
        addresses = write_files(found.files, folder)
    else:
        addresses = data_uris(found.files)
    content = describe_runs(runs, title=title)
    content["images"] = {
        "rows": [
            {"prompt": prompt, "seed": seed, "part": part} for prompt, seed, part in found.rows
        ],
        "cells": found.cells,
        "block": _PER_BLOCK,
        "notes": found.notes,
    }
    blocks = [
        addresses[start : start + _PER_BLOCK] for start in range(0, len(addresses), _PER_BLOCK)
    ]
    page = render(
        "clif_exp.compare",
        "comparison.html.j2",
        title=title,
        count=len(runs),
        facts=_facts(runs, content),
        warnings=_warnings(content),
        differing=[_values(setting) for setting in content["settings"] if setting["shown"]],
        differing_too=[_values(setting) for setting in content["settings"] if not setting["shown"]],
        constant=content["constant"],
        has_curves=bool(content["curves"]),
        has_images=bool(addresses),
        sections=sections,
        data=script_json(content),
        blocks=[script_json(block) for block in blocks],
    )
    write_text(out, page)
    if images == "beside":
        remove_others(folder, keep=addresses)


def script_json(content: Any) -> str:
    """Return JSON that may stand in a `<script>`: no text in it can end the element."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _facts(runs: Sequence[Run], content: dict[str, Any]) -> dict[str, str]:
    facts = {status["name"]: str(status["count"]) for status in content["statuses"]}
    sweeps = {run.sweep for run in runs if run.sweep}
    if len(sweeps) > 1:
        facts["sweeps"] = str(len(sweeps))
    seeds = {run.seed for run in runs}
    if len(seeds) > 1:
        facts["seeds"] = str(len(seeds))
    commits = {run.provenance["commit"] for run in runs if run.provenance.get("commit")}
    if len(commits) == 1:
        facts["commit"] = next(iter(commits))[:7]
    return facts


def _values(setting: dict[str, Any]) -> tuple[str, list[str], int]:
    """Return a setting's key, the first of its values, and how many more there are."""
    texts = [value["text"] for value in setting["values"]]
    first = _VALUES_SHOWN if len(texts) > _VALUES_SHOWN + 1 else len(texts)
    return setting["key"], texts[:first], len(texts) - first


def _warnings(content: dict[str, Any]) -> list[str]:
    """Return why the comparison may mislead."""
    kinds = {"commit": "commits of the code", "versions": "sets of library versions"}
    warnings = []
    for fact, kind in kinds.items():
        if fact in content["facts"]:
            place = content["facts"].index(fact)
            found = {run["facts"][place] for run in content["runs"]} - {None}
            if len(found) > 1:
                warnings.append(
                    f"The runs come from {len(found)} {kind} (see Provenance): a difference between"
                    " them may be the code's."
                )
    return warnings
