"""Prompts: the templates that training fills, and the sets of prompts that evaluation samples.

A concept is written `<name>` everywhere; `clif_exp.base_models.tokens.expand_prompt` turns it into
its tokens just before the text encoder. Nothing here imports torch: the prompt set is built while a
run is still being checked.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from clif_exp.prompts.worlds import Split

Kind = Literal["single", "multi", "prior"]
PairLayout = Literal["side", "free", "interaction", "context"]
Layout = Literal[PairLayout, "row"]

# The templates of textual inversion (Gal et al., 2022), cut to those whose words are true of any
# reference image: "dirty", "small", "cropped", "dark" and their like teach that the words mean
# nothing. The bare form comes first because prompts use it.
TRAINING_TEMPLATES: tuple[str, ...] = (
    "a photo of {}",
    "a rendering of {}",
    "the photo of {}",
    "a photo of the {}",
    "a photo of my {}",
    "a good photo of {}",
    "a good photo of the {}",
    "a photo of the nice {}",
    "a photo of the cool {}",
    "a photo of one {}",
    "a rendition of {}",
)


@dataclass(frozen=True)
class EvaluationPrompt:
    """One prompt of an evaluation set, with everything that judging its images needs.

    Attributes:
        id: stable, unique within a set, usable as a file name.
        text: the prompt, concepts as `<name>`.
        kind: single (one concept), multi (several) or prior (none).
        layout: side (positions prompted), free, interaction, context (free plus a place), or row
            (three concepts from left to right).
        concepts: the named concepts in the order of the text; empty for prior.
        sides: "left"/"right" (or a row index as text) per concept where the prompt fixes positions,
            else None.
        context: the place as written in the prompt, or None.
        class_text: the same sentence with class words for concepts: what text alignment compares
            with.
        seen: whether M-Aug trained on this pair, or on all pairs of a row
            (`concepts.pairs.seen_pairs`); None unless kind is multi.
        expected: prior prompts of ToonWorld: slot -> value per figure that the prompt asks for.
        split: settings are tuned on "tuning" prompts and reported once on "reporting" prompts;
            "training" ones are what stage 2's prior images are drawn from.
        noise_text: the text that seeds its images' initial noise; None: its own.
        relation: what the concepts do, by `PromptWorld.interactions`; None but for interactions.
    """

    id: str
    text: str
    kind: Kind
    layout: Layout
    concepts: tuple[str, ...]
    class_text: str
    sides: tuple[str, ...] | None = None
    context: str | None = None
    seen: bool | None = None
    expected: tuple[Mapping[str, str], ...] = ()
    split: Split = "reporting"
    noise_text: str | None = None
    relation: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and strings, for fingerprints and `generations.jsonl`."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
            # The usual case is not worth a word.
            if key not in ("noise_text", "relation") or value is not None
        }


def in_class_words(prompts: Sequence[EvaluationPrompt]) -> list[EvaluationPrompt]:
    """Ask for the same concepts by their class words, from the same noise."""
    return [replace(prompt, text=prompt.class_text, noise_text=prompt.text) for prompt in prompts]


def prompt_rng(seed: int, *path: object) -> random.Random:
    """An independent stream per purpose: asking for more of one kind changes no other kind."""
    return random.Random(":".join(str(part) for part in (seed, *path)))


def cycle(values: Sequence[Any], count: int, rng: random.Random) -> list[Any]:
    """Take `count` values from repeated shuffles: none comes twice before all came once."""
    picked: list[Any] = []
    while len(picked) < count and values:
        picked += rng.sample(list(values), len(values))
    return picked[:count]


def prompted_sides(body: str) -> tuple[str, ...] | None:
    """Where a template puts `{a}` and `{b}`, or None where it leaves that open."""
    if "on the left" in body or "{a} left of {b}" in body:
        return ("left", "right")
    return ("right", "left") if "{a} right of {b}" in body else None
