"""The vocabulary of ToonWorld: what characters, figures and scenes are made of.

These values describe everything that is drawn, captioned or judged. Coordinates are shares of the
canvas (x to the right, y downwards, both in [0, 1]): a scene does not depend on the resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Members of one family are easier to confuse than members of two.
FAMILIES: dict[str, tuple[str, ...]] = {
    "feline": ("cat", "lynx"),
    "canine": ("fox", "dog", "wolf"),
    "bear": ("bear", "panda"),
    "rodent": ("rabbit", "mouse"),
    "people": ("man", "woman", "boy", "girl"),
    "machine": ("robot",),
    "alien": ("alien",),
}
SPECIES: tuple[str, ...] = tuple(species for members in FAMILIES.values() for species in members)
FAMILY_OF: dict[str, str] = {
    species: family for family, members in FAMILIES.items() for species in members
}
PEOPLE: tuple[str, ...] = FAMILIES["people"]

STYLES = ("flat", "shaded", "textured")  # the paper's 2D, 3D and real
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (217, 43, 46),
    "orange": (244, 138, 32),
    "yellow": (252, 218, 64),
    "green": (62, 166, 72),
    "blue": (48, 104, 220),
    "purple": (132, 66, 184),
    "pink": (248, 146, 190),
    "brown": (132, 82, 46),
    "black": (46, 46, 54),
    "white": (246, 246, 243),
    "grey": (146, 150, 156),
    "teal": (14, 170, 172),
}
SKIN_TONES: tuple[tuple[int, int, int], ...] = (
    (250, 214, 184),
    (231, 178, 138),
    (182, 122, 84),
    (122, 78, 54),
)

# Values that only members of a cast have: the base models never see them.
CAST_ONLY: dict[str, tuple[str, ...]] = {
    "hat": ("feather hat", "horned helmet"),
    "pattern": ("starred",),
    "accessory": ("eyepatch", "moustache"),
    "coat": ("teal",),
    "hat_colour": ("teal",),
    "top_colour": ("teal",),
    "bottom_colour": ("teal",),
}
_BASE_COLOURS = tuple(colour for colour in COLOURS if colour != "teal")

# What the base models are trained on. "none" stands for an absent part.
BASE_SLOTS: dict[str, tuple[str, ...]] = {
    "species": SPECIES,
    "style": STYLES,
    "coat": _BASE_COLOURS,
    "hat": ("none", "cap", "crown", "beanie", "top hat", "wizard hat"),
    "hat_colour": ("none", *_BASE_COLOURS),
    "top": ("shirt", "jacket", "hoodie", "dress"),
    "top_colour": _BASE_COLOURS,
    "pattern": ("plain", "striped", "dotted", "checked"),
    "bottom": ("none", "trousers", "shorts", "skirt"),
    "bottom_colour": ("none", *_BASE_COLOURS),
    "accessory": ("none", "glasses", "scarf", "necktie"),
}
SLOTS: dict[str, tuple[str, ...]] = {
    slot: values + CAST_ONLY.get(slot, ()) for slot, values in BASE_SLOTS.items()
}

# Label maps hold the index in this tuple of the part that is visible at each pixel.
PARTS: tuple[str, ...] = (
    "head",
    "hair",
    "hat",
    "top",
    "bottom",
    "arms",
    "legs",
    "tail",
    "accessory",
)

CONTEXTS: tuple[str, ...] = (
    "beach",
    "forest",
    "desert",
    "snow",
    "street",
    "room",
    "meadow",
    "night",
    "white",
)
INTERACTIONS: tuple[str, ...] = ("next to", "left of", "hugging", "behind", "riding")
# down, up: standing, with no or one arm raised. reach: arms stretched to one side. carry: on all
# fours. sit: on another's back.
POSES: tuple[str, ...] = ("down", "up", "reach", "carry", "sit")
KINDS: tuple[str, ...] = ("single", "single_white", "pair", "pair_white", "parts", "row")


@dataclass(frozen=True)
class Character:
    """A character: one value per slot of `SLOTS`, and a skin tone that no caption mentions.

    `coat` is the colour of an animal's fur, a person's hair, a robot's paint or an alien's skin.
    """

    species: str
    style: str
    coat: str
    hat: str
    hat_colour: str
    top: str
    top_colour: str
    pattern: str
    bottom: str
    bottom_colour: str
    accessory: str
    skin: int = 0

    def __post_init__(self) -> None:
        for slot, values in SLOTS.items():
            value = getattr(self, slot)
            if value not in values:
                raise ValueError(
                    f"{slot}={value!r} is unknown to ToonWorld. Choose one of {', '.join(values)}."
                )
        for part in ("hat", "bottom"):
            if (getattr(self, part) == "none") != (getattr(self, f"{part}_colour") == "none"):
                raise ValueError(
                    f"{part}={getattr(self, part)!r} does not go with {part}_colour: both or none"
                    " is 'none'."
                )
        if (self.top == "dress") != (self.bottom == "none"):
            raise ValueError(
                f"bottom={self.bottom!r} does not go with top={self.top!r}: only a dress has no"
                " bottom."
            )

    def attributes(self) -> dict[str, str]:
        """Slot -> value, in the order of `SLOTS`."""
        return {slot: getattr(self, slot) for slot in SLOTS}


@dataclass(frozen=True)
class Figure:
    """A character in an image: feet at (x, y), `scale` its height as a share of the canvas."""

    character: Character
    x: float
    y: float
    scale: float
    flip: bool = False
    pose: str = "down"


@dataclass(frozen=True)
class Item:
    """A part on its own, centred at (x, y); `scale` is the height its wearer would have."""

    part: str  # hat, top, bottom or accessory
    kind: str  # a value of that slot
    colour: str  # "none" for an accessory
    x: float
    y: float
    scale: float
    pattern: str = "plain"
    style: str = "flat"
    flip: bool = False


@dataclass(frozen=True)
class Scene:
    """One image; `figures[0] interaction figures[1]` reads as a sentence: A riding B.

    `seed` decides what no attribute describes: details of the background, shades, textures.
    """

    figures: tuple[Figure, ...]
    context: str = "white"
    interaction: str | None = None
    kind: str = "single"
    seed: int = 0
    items: tuple[Item, ...] = field(default=())

    @property
    def style(self) -> str:
        """The background's style: that of the first figure or item."""
        return self.figures[0].character.style if self.figures else self.items[0].style
