"""The words that prompts use, per family of base models.

Tuning and reporting share no place and no opening, and word interactions differently, but for
riding, for which ToonWorld's captions know one sentence only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Split = Literal["tuning", "reporting"]
# A prompt without concepts, and slot -> value for each figure that it describes (empty: nothing to
# read).
PriorPrompt = tuple[str, tuple[Mapping[str, str], ...]]


@dataclass(frozen=True)
class PromptWorld:
    """The words that one family of base models understands.

    `{a}`, `{b}` and `{c}` stand for the concepts in the order in which they are named. Tuning and
    reporting differ in everything but the sentence that prompts positions, so that settings tuned
    on the one are not tuned on the other.

    Attributes:
        stems: how prompts open.
        places: where a prompt can set the scene.
        free: two concepts without a position.
        interactions: relation -> two concepts that do something; metrics are broken down by it.
        prior: prompts without a concept.
        side: two concepts with positions.
        row: three concepts.
    """

    stems: Mapping[Split, str]
    places: Mapping[Split, tuple[str, ...]]
    free: Mapping[Split, str]
    interactions: Mapping[Split, Mapping[str, str]]
    prior: Mapping[Split, tuple[PriorPrompt, ...]]
    side: str = "{a} on the left and {b} on the right"
    row: str = "{a}, {b} and {c} in a row"


def _plain(*texts: str) -> tuple[PriorPrompt, ...]:
    return tuple((text, ()) for text in texts)


# ToonWorld's caption grammar (toonworld/grammar.py) knows all of these sentences.
TOONWORLD = PromptWorld(
    stems={"tuning": "a picture of", "reporting": "a photo of"},
    places={
        "tuning": ("in the desert", "in a room", "in a meadow"),
        "reporting": ("on the beach", "in the forest", "in the snow", "on the street", "at night"),
    },
    free={"tuning": "{a} and {b}", "reporting": "{a} next to {b}"},
    interactions={
        "tuning": {
            "hugging": "{a} and {b} hugging",
            "behind": "{b} in front of {a}",
            "riding": "{a} riding {b}",
        },
        "reporting": {
            "hugging": "{a} hugging {b}",
            "behind": "{a} behind {b}",
            "riding": "{a} riding {b}",
        },
    },
    prior={
        "tuning": (
            ("a grey wolf in a meadow", ({"species": "wolf", "coat": "grey"},)),
            ("a boy with a blue cap", ({"species": "boy", "hat": "cap", "hat_colour": "blue"},)),
            (
                "a panda with a striped hoodie in the desert",
                ({"species": "panda", "top": "hoodie", "pattern": "striped"},),
            ),
            ("a robot and a mouse", ({"species": "robot"}, {"species": "mouse"})),
            (
                "a fox on the left and a man on the right in a room",
                ({"species": "fox"}, {"species": "man"}),
            ),
        ),
        "reporting": (
            (
                "a white cat with a red crown",
                ({"species": "cat", "coat": "white", "hat": "crown", "hat_colour": "red"},),
            ),
            (
                "a man with a black top hat on the street",
                ({"species": "man", "hat": "top hat", "hat_colour": "black"},),
            ),
            (
                "a woman with a purple dress on the beach",
                ({"species": "woman", "top": "dress", "top_colour": "purple"},),
            ),
            (
                "a dog with a green striped shirt",
                ({"species": "dog", "top": "shirt", "top_colour": "green", "pattern": "striped"},),
            ),
            (
                "a brown bear with glasses in the forest",
                ({"species": "bear", "coat": "brown", "accessory": "glasses"},),
            ),
            (
                "a robot on the left and a rabbit on the right",
                ({"species": "robot"}, {"species": "rabbit"}),
            ),
            (
                "a girl with a yellow jacket next to a fox in the snow",
                ({"species": "girl", "top": "jacket", "top_colour": "yellow"}, {"species": "fox"}),
            ),
            ("an alien hugging a panda", ({"species": "alien"}, {"species": "panda"})),
            (
                "a lynx with a blue wizard hat at night",
                ({"species": "lynx", "hat": "wizard hat", "hat_colour": "blue"},),
            ),
            (
                (
                    "a boy with blue shorts on the left and a wolf with a scarf on the right on the"
                    " beach"
                ),
                (
                    {"species": "boy", "bottom": "shorts", "bottom_colour": "blue"},
                    {"species": "wolf", "accessory": "scarf"},
                ),
            ),
        ),
    },
)

GENERIC = PromptWorld(
    stems={"tuning": "a picture of", "reporting": "a photo of"},
    places={
        "tuning": ("in the desert", "in a meadow", "in a kitchen", "on a mountain"),
        "reporting": (
            "on the beach",
            "in the jungle",
            "in the snow",
            "on a cobblestone street",
            "in a living room",
            "at night",
        ),
    },
    free={"tuning": "{b} beside {a}", "reporting": "{a} next to {b}"},
    interactions={
        "tuning": {"dancing": "{a} dancing with {b}", "behind": "{a} sitting behind {b}"},
        "reporting": {
            "hugging": "{a} hugging {b}",
            "behind": "{a} standing behind {b}",
            "shaking_hands": "{a} shaking hands with {b}",
        },
    },
    prior={
        "tuning": _plain(
            "a horse", "an old woman", "a red bicycle", "a dog and a ball", "a chef and a robot"
        ),
        "reporting": _plain(
            "a cat on a sofa",
            "a man in a blue jacket",
            "a woman wearing a straw hat",
            "a dog next to a chair",
            "a robot on the left and a policeman on the right",
            "a boy and a girl on the beach",
            "a green car on a street",
            "a bowl of fruit on a table",
        ),
    },
)

WORLDS: dict[str, PromptWorld] = {"toonworld": TOONWORLD, "generic": GENERIC}
