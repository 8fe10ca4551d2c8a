"""The words that prompts use, per family of base models.

Tuning and reporting share no place, no opening and no figure, and word interactions differently,
but for riding, for which ToonWorld's captions know one sentence only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Split = Literal["tuning", "reporting", "training"]
# A figure that is no concept, and slot -> value of what its phrase says (empty: nothing to read).
PriorFigure = tuple[str, Mapping[str, str]]


@dataclass(frozen=True)
class PromptWorld:
    """The words that one family of base models understands.

    `{a}`, `{b}` and `{c}` stand for the concepts in the order in which they are named. Tuning and
    reporting differ in everything but the sentence that prompts positions, so that settings tuned
    on the one are not tuned on the other. "training" is what stage 2's prior images are drawn
    from; ToonWorld has none here, its training prompts are captions (`toonworld.prompts`).

    Attributes:
        stems: how prompts open.
        places: where a prompt can set the scene.
        free: two concepts without a position.
        interactions: relation -> two concepts that do something; metrics are broken down by it.
        figures: whom prompts without a concept show. None of them is named in training, whatever
            the seed (`diffusion.prior`).
        side: two concepts with positions.
        row: three concepts.
    """

    stems: Mapping[Split, str]
    places: Mapping[Split, tuple[str, ...]]
    free: Mapping[Split, str]
    interactions: Mapping[Split, Mapping[str, str]]
    figures: Mapping[Split, tuple[PriorFigure, ...]]
    side: str = "{a} on the left and {b} on the right"
    row: str = "{a}, {b} and {c} in a row"


def _plain(*phrases: str) -> tuple[PriorFigure, ...]:
    return tuple((phrase, {}) for phrase in phrases)


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
    figures={
        "tuning": (
            ("a grey wolf", {"species": "wolf", "coat": "grey"}),
            ("a boy with a blue cap", {"species": "boy", "hat": "cap", "hat_colour": "blue"}),
            (
                "a panda with a striped hoodie",
                {"species": "panda", "top": "hoodie", "pattern": "striped"},
            ),
            ("a red robot", {"species": "robot", "coat": "red"}),
            ("a brown mouse", {"species": "mouse", "coat": "brown"}),
            (
                "a man with a yellow jacket",
                {"species": "man", "top": "jacket", "top_colour": "yellow"},
            ),
            ("an orange fox", {"species": "fox", "coat": "orange"}),
            (
                "a woman with a green dress",
                {"species": "woman", "top": "dress", "top_colour": "green"},
            ),
            (
                "a girl with a purple hoodie",
                {"species": "girl", "top": "hoodie", "top_colour": "purple"},
            ),
            ("a black cat", {"species": "cat", "coat": "black"}),
            ("a white dog", {"species": "dog", "coat": "white"}),
            (
                "an alien with a black top hat",
                {"species": "alien", "hat": "top hat", "hat_colour": "black"},
            ),
            ("a rabbit with a scarf", {"species": "rabbit", "accessory": "scarf"}),
            (
                "a bear with a checked shirt",
                {"species": "bear", "top": "shirt", "pattern": "checked"},
            ),
            ("a lynx with glasses", {"species": "lynx", "accessory": "glasses"}),
            (
                "a robot with a green wizard hat",
                {"species": "robot", "hat": "wizard hat", "hat_colour": "green"},
            ),
            ("a pink alien", {"species": "alien", "coat": "pink"}),
            ("a dog with a white crown", {"species": "dog", "hat": "crown", "hat_colour": "white"}),
            (
                "a cat with blue trousers",
                {"species": "cat", "bottom": "trousers", "bottom_colour": "blue"},
            ),
            (
                "a mouse with a dotted shirt",
                {"species": "mouse", "top": "shirt", "pattern": "dotted"},
            ),
        ),
        "reporting": (
            (
                "a white cat with a red crown",
                {"species": "cat", "coat": "white", "hat": "crown", "hat_colour": "red"},
            ),
            (
                "a man with a black top hat",
                {"species": "man", "hat": "top hat", "hat_colour": "black"},
            ),
            (
                "a woman with a purple dress",
                {"species": "woman", "top": "dress", "top_colour": "purple"},
            ),
            (
                "a dog with a green striped shirt",
                {"species": "dog", "top": "shirt", "top_colour": "green", "pattern": "striped"},
            ),
            (
                "a brown bear with glasses",
                {"species": "bear", "coat": "brown", "accessory": "glasses"},
            ),
            (
                "a girl with a yellow jacket",
                {"species": "girl", "top": "jacket", "top_colour": "yellow"},
            ),
            (
                "a lynx with a blue wizard hat",
                {"species": "lynx", "hat": "wizard hat", "hat_colour": "blue"},
            ),
            (
                "a boy with blue shorts",
                {"species": "boy", "bottom": "shorts", "bottom_colour": "blue"},
            ),
            ("a wolf with a scarf", {"species": "wolf", "accessory": "scarf"}),
            ("a yellow robot", {"species": "robot", "coat": "yellow"}),
            ("a grey rabbit", {"species": "rabbit", "coat": "grey"}),
            ("a green alien", {"species": "alien", "coat": "green"}),
            (
                "a panda with an orange beanie",
                {"species": "panda", "hat": "beanie", "hat_colour": "orange"},
            ),
            ("a white fox", {"species": "fox", "coat": "white"}),
            (
                "a mouse with a red hoodie",
                {"species": "mouse", "top": "hoodie", "top_colour": "red"},
            ),
            ("a woman with a white cap", {"species": "woman", "hat": "cap", "hat_colour": "white"}),
            ("a black dog", {"species": "dog", "coat": "black"}),
            (
                "a fox with a dotted jacket",
                {"species": "fox", "top": "jacket", "pattern": "dotted"},
            ),
            (
                "a rabbit with a blue skirt",
                {"species": "rabbit", "bottom": "skirt", "bottom_colour": "blue"},
            ),
            ("a robot with a necktie", {"species": "robot", "accessory": "necktie"}),
        ),
    },
)

GENERIC = PromptWorld(
    stems={"tuning": "a picture of", "reporting": "a photo of", "training": "an image of"},
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
        "training": (
            "in a park",
            "in a library",
            "by a lake",
            "by a brick wall",
            "on a wooden floor",
            "in the rain",
            "on a white background",
        ),
    },
    free={
        "tuning": "{b} beside {a}",
        "reporting": "{a} next to {b}",
        "training": "{a} and {b} together",
    },
    interactions={
        "tuning": {"dancing": "{a} dancing with {b}", "behind": "{a} sitting behind {b}"},
        "reporting": {
            "hugging": "{a} hugging {b}",
            "behind": "{a} standing behind {b}",
            "shaking_hands": "{a} shaking hands with {b}",
        },
        "training": {"front": "{a} in front of {b}", "near": "{a} near {b}"},
    },
    figures={
        "tuning": _plain(
            *("a brown horse", "an old woman", "a small dog", "a chef", "a toy robot", "a knight"),
            *("a black cat", "a girl with a kite", "a fisherman", "a green parrot", "a snowman"),
            *("a white rabbit", "a young man with glasses", "an owl", "a goat", "a judge"),
            *("a boy on a red bicycle", "a gardener", "a camel", "a woman with a violin"),
        ),
        "reporting": _plain(
            *("a ginger cat", "a man in a blue jacket", "a woman wearing a straw hat"),
            *("a spotted dog", "a silver robot", "a policeman", "a boy with curly hair"),
            *("a girl in a red dress", "an elephant", "a panda", "a nurse", "a pirate"),
            *("a penguin", "a pink flamingo", "an old man with a beard", "a woman with a teapot"),
            *("a boy with a bowl of fruit", "a sailor", "a zebra", "a girl with headphones"),
        ),
        "training": _plain(
            *("a man", "a woman", "a boy", "a girl", "a baby", "a farmer", "a dancer", "a student"),
            *("a clown", "a firefighter", "a tall man in a suit", "a woman with red hair"),
            *("a child with a backpack", "a dog", "a cat", "a horse", "a cow", "a sheep", "a bear"),
            *("a lion", "a fox", "a wolf", "a mouse", "a duck", "an eagle", "a fish", "a frog"),
            *("a turtle", "a bicycle", "a car", "a truck", "a train", "a boat", "a guitar"),
            *("a clock", "a lamp", "a cup", "a book", "an umbrella", "a backpack", "a table"),
            *("a vase of flowers", "a teddy bear", "a doll", "a statue", "a robot", "a cake"),
            *("a tree", "a red house"),
        ),
    },
)

WORLDS: dict[str, PromptWorld] = {"toonworld": TOONWORLD, "generic": GENERIC}
