"""How far a rater and the oracle agree: shares, Cohen's kappa, and both as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clif_exp.compare.statistics import interval_over_units
from clif_exp.compare.table import MISSING, between

QUESTIONS = {
    "present": "is it there at all?",
    "intact": "is it there once, itself, and without anything of the others?",
    "leaked": "does it show something of another named concept?",
}
"""What is asked of each named concept: yes (1) or no (0)."""


def agreement(images: Sequence[Sequence[tuple[int, int]]]) -> dict[str, Any]:
    """Compare two raters' answers; images are drawn whole for the intervals.

    Args:
        images: of each image, the (rater, reader) answers for its concepts.

    Returns:
        `answers`; `rater` and `reader`, their shares of yes; `agree`, the share of equal answers,
        and `kappa`, Cohen's (1960), each with its `interval`; kappa is None where both always give
        one answer.
    """
    pairs = [pair for image in images for pair in image]
    kappa = cohens_kappa(pairs)

    def share(some: Sequence[Sequence[tuple[int, int]]]) -> float:
        flat = [pair for image in some for pair in image]
        return sum(a == b for a, b in flat) / len(flat)

    def chance_corrected(some: Sequence[Sequence[tuple[int, int]]]) -> float:
        value = cohens_kappa([pair for image in some for pair in image])
        return float("nan") if value is None else value

    return {
        **shares_of_yes(pairs),
        "agree": share(images),
        "agree_interval": interval_over_units(images, share),
        "kappa": kappa,
        "kappa_interval": None if kappa is None else interval_over_units(images, chance_corrected),
    }


def shares_of_yes(pairs: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Return the number of `answers`, and the `rater`'s and the `reader`'s share of yes."""
    first, second = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    return {"answers": len(pairs), "rater": first, "reader": second}


def cohens_kappa(pairs: Sequence[tuple[int, int]]) -> float | None:
    """Return the agreement of two raters beyond chance; None where chance alone agrees always."""
    agree = sum(a == b for a, b in pairs) / len(pairs)
    first, second = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
    chance = first * second + (1 - first) * (1 - second)
    return None if chance == 1 else (agree - chance) / (1 - chance)


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the agreement as a Markdown table."""
    lines = [
        "| of each named concept | answers | yes: rater | yes: oracle | agreement | kappa |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for question, of in found.items():
        agree = f"{of['agree']:.2f}{_interval(of['agree_interval'])}"
        kappa = MISSING if of["kappa"] is None else f"{of['kappa']:.2f}"
        numbers = [
            str(of["answers"]),
            *(f"{of[who]:.2f}" for who in ("rater", "reader")),
            agree,
            kappa + _interval(of["kappa_interval"]),
        ]
        lines.append(f"| {question}: {QUESTIONS[question]} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def methods_table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Return each method's shares of yes, the rater's beside the oracle's, as a Markdown table."""
    questions = list(QUESTIONS)
    heads = [f"{question}: {who}" for question in questions for who in ("rater", "oracle")]
    lines = [f"| method | answers | {' | '.join(heads)} |", f"| --- | {'--- | ' * len(heads)}--- |"]
    for method, of in found.items():
        cells = [
            f"{of[question][who]:.2f}" for question in questions for who in ("rater", "reader")
        ]
        lines.append(f"| {method} | {of[questions[0]]['answers']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _interval(of: tuple[float, float] | None) -> str:
    return "" if of is None else f" ({between(of, digits=2)})"
