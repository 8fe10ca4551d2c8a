"""Stage 1 on the page: what became of the concepts, and whether the base model can draw them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DRAWN = ("identity", "attendance", "attribute_binding", "image_alignment")
"""Metrics of what the untouched base model draws."""


def drawn_table(
    metrics: Mapping[str, float | None], guide: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """Return what the base model draws by class words and by stage 1: title, arrow and values.

    Empty without a stage 1; what was measured of neither is left out.
    """
    titles = {row["name"]: row for row in guide}
    rows = []
    for name in DRAWN:
        values = [metrics.get(f"{group}/{name}") for group in ("class_word", "stage1")]
        if name in titles and any(value is not None for value in values):
            shown = ["–" if value is None else f"{value:.3f}" for value in values]
            row = {key: titles[name][key] for key in ("title", "arrow", "better")}
            rows.append(row | {"class_word": shown[0], "stage_1": shown[1]})
    return rows


def readability_warnings(
    contrastive: Path | None, metrics: Mapping[str, float | None]
) -> list[str]:
    """Return what is wrong with stage 1's embeddings as words that the base model reads.

    Args:
        contrastive: what stage 1 published, or None.
        metrics: of the run. Identity is compared, or image alignment where no figures were read.
    """
    warnings = [
        f"{encoder}: the embeddings of {', '.join(report['outside_vocabulary'])} have left the"
        f" vocabulary: their norms are beyond {report['vocabulary_norm']['limit']:.3f}; 95 % of"
        f" its words are within {report['vocabulary_norm']['p95']:.3f}. Lower"
        " contrastive.learning_rate or raise contrastive.norm_loss_weight."
        for encoder, report in _read_reports(contrastive).items()
        if report["outside_vocabulary"]
    ]
    for name in ("identity", "image_alignment"):
        word, learnt = metrics.get(f"class_word/{name}"), metrics.get(f"stage1/{name}")
        if word is not None and learnt is not None:
            if round(learnt, 3) < round(word, 3):  # as it is shown
                warnings.append(
                    "The untouched base model draws less of the concepts from what stage 1 learnt"
                    f" than from their class words: {name.replace('_', ' ')} {learnt:.3f} instead"
                    f" of {word:.3f}. Stage 2 has to learn the concepts by itself."
                )
            break
    return warnings


def _read_reports(contrastive: Path | None) -> dict[str, Any]:
    """Return text encoder -> its report."""
    file = contrastive / "embedding_report.json" if contrastive else None
    return json.loads(file.read_text()) if file is not None and file.is_file() else {}


def token_tables(contrastive: Path | None) -> list[dict[str, Any]]:
    """Read `embedding_report.json` of stage 1.

    Args:
        contrastive: what stage 1 published, or None.

    Returns:
        One table per text encoder: `encoder`, `rows` (concept, nearest words, norm and nearest
        concept before and after), `pairs` (the closest ones), `notes` (measured over all concepts).
    """
    return [
        {"encoder": name, "rows": _rows(report), "pairs": _pairs(report), "notes": _notes(report)}
        for name, report in _read_reports(contrastive).items()
    ]


def _rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
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
                "norm_before": f"{report['norm']['before'][name]:.3f}",
                "norm_after": f"{report['norm']['after'][name]:.3f}",
                "outside": name in report["outside_vocabulary"],
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
    norm = report["vocabulary_norm"]
    notes = [
        f"Norms of the vocabulary's embeddings: mean {norm['mean']:.3f}, 95th percentile"
        f" {norm['p95']:.3f}."
    ]
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
    elif "loss" in report:
        notes.append(f"Loss of the last step {report['loss']:.3f}.")
    if report.get("unread_change", 0.0) > 0.01:
        notes.append(
            f"{report['unread_change']:.0%} of the encoder's change lies in layers that the U-Net"
            " does not read."
        )
    return notes
