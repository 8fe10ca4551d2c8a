"""Stage 1 on the page: concepts before and after it, and which are likely to be confused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def token_tables(contrastive: Path | None) -> list[dict[str, Any]]:
    """Read `embedding_report.json` of stage 1.

    Args:
        contrastive: what stage 1 published, or None.

    Returns:
        One table per text encoder: `encoder`, `rows` (concept, nearest words, norm, nearest concept
        before and after), `pairs` (the closest ones), `notes` (measured over all concepts).
    """
    file = contrastive / "embedding_report.json" if contrastive else None
    if file is None or not file.is_file():
        return []
    reports = json.loads(file.read_text())
    return [
        {"encoder": name, "rows": _rows(report), "pairs": _pairs(report), "notes": _notes(report)}
        for name, report in reports.items()
    ]


def _rows(report: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    for name, words in report["nearest_words"]["after"].items():
        nearest = {
            when: _nearest(distances[name], name)
            for when, distances in report["text_distance"].items()
        }
        rows.append(
            {
                "name": name,
                "words": ", ".join(f"{word} {cosine:.2f}" for word, cosine in words[:3]),
                "norm": f"{report['norm'][name] / report['vocabulary_norm']:.2f}",
                "before": nearest["before"],
                "after": nearest["after"],
            }
        )
    return rows


def _nearest(distances: Mapping[str, float], name: str) -> str:
    others = {other: value for other, value in distances.items() if other != name}
    if not others:
        return "–"
    other = min(others, key=others.__getitem__)
    return f"{other} {others[other]:.3f}"


def _pairs(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The closest pairs, and how often a caption of one retrieved an image of the other."""
    taken = {
        (a, b): share
        for a, b, share in report.get("mistaken", {}).get("after", {}).get("mistaken", [])
    }
    pairs = []
    for pair in report["closest_pairs"]:
        a, b = pair["concepts"]
        swapped = max(taken.get((a, b), 0.0), taken.get((b, a), 0.0))
        pairs.append(
            {
                "name": f"{a} + {b}",
                "before": f"{pair['before']:.3f}",
                "after": f"{pair['distance']:.3f}",
                "mistaken": f"{swapped:.0%}" if "mistaken" in report else "–",
                "likely": pair["likely_confused"],
            }
        )
    return pairs


def _notes(report: Mapping[str, Any]) -> list[str]:
    notes = []
    if mistaken := report.get("mistaken"):
        before, after = mistaken["before"], mistaken["after"]
        if after["accuracy"] is not None:
            found = (
                f"{before['accuracy']:.0%} before, {after['accuracy']:.0%} after; guessing finds"
                f" {after['chance']:.0%}"
            )
            notes.append(
                "Captions that retrieve their own concept among images of the same context, side"
                f" and scale: {found}."
            )
    if "loss_frozen_rows" in report:
        trained, frozen = report["loss"], report["loss_frozen_rows"]
        notes.append(
            f"Final loss {trained:.3f}; with the initial concept embeddings {frozen:.3f}: the"
            " difference is what the embeddings learnt."
        )
    if report.get("unread_change", 0.0) > 0.01:
        notes.append(
            f"{report['unread_change']:.0%} of the encoder's change lies in layers that the U-Net"
            " does not read."
        )
    return notes
