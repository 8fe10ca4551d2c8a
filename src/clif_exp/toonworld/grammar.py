"""Captions of scenes, which mention a random subset of what is there, and the visible truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from clif_exp.toonworld.drawing.render import Rendering, render
from clif_exp.toonworld.names import NAMES, name_of
from clif_exp.toonworld.world import FAMILY_OF, PEOPLE, SLOTS, Character, Figure, Item, Scene

OPENINGS = {
    "a photo of": 0.70,
    "a picture of": 0.10,
    "an image of": 0.06,
    "a drawing of": 0.05,
    "a painting of": 0.03,
    "": 0.06,
}
PLACE_PHRASES = {
    "beach": "on the beach",
    "forest": "in the forest",
    "desert": "in the desert",
    "snow": "in the snow",
    "street": "on the street",
    "room": "in a room",
    "meadow": "in a meadow",
    "night": "at night",
    "white": "on a white background",
}
VISIBLE_SHARE = 0.35  # a part of which less is visible counts as "not visible"
_UNCOUNTED = ("trousers", "shorts", "glasses")
PART_OF_SLOT = {
    "species": "head",
    "style": "head",
    "coat": "hair",
    "hat": "hat",
    "hat_colour": "hat",
    "top": "top",
    "top_colour": "top",
    "pattern": "top",
    "bottom": "bottom",
    "bottom_colour": "bottom",
    "accessory": "accessory",
}
_OPTIONAL = ("hat", "accessory")  # what a character may lack
_LEFT_FIRST = 0.9  # how often "A next to B" and "A and B" name the left one first
NAMED_RATE = 0.6  # how often a character who has a name is called by it, and by nothing else
_MENTION_RATES = (0.0, 0.35, 0.65, 1.0)
_MENTION_WEIGHTS = (0.14, 0.26, 0.32, 0.28)
# Words of prompts that captions themselves do not need.
_PROMPT_WORDS = (
    "two three four group pair sitting standing wearing holding playing running walking looking"
    " smiling person people animal character toy figure robot 's rendering render rendition cropped"
    " close-up closeup bright dark clean dirty nice good cool weird large small big little tiny my"
    " the one of an a it is this that his her their its to by for from into near under over above"
    " below beside between around center middle top bottom front back background photo photograph"
    " picture image drawing painting sketch cartoon style art depiction illustration portrait view"
    " scene low high quality resolution blurry hat shirt jacket hoodie dress trousers shorts skirt"
    " face head hair eyes ears tail body arms legs clothes coat fur skin pants cap part thing item"
    " object teal feather horned helmet starred eyepatch moustache canvas plain colour color garden"
    " park city mountain water river sky sun moon tree house and or no not with without on in at"
    " next left right behind hugging riding row side same different each other together alone first"
    " second . , ! ? - "
)


def article(phrase: str) -> str:
    """'a red cap', 'an orange cap', 'blue trousers'."""
    if phrase.split()[-1] in _UNCOUNTED:
        return phrase
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def join(phrases: Sequence[str]) -> str:
    """'A', 'A and B', 'A, B and C'."""
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _thing(
    rng: np.random.Generator | None,
    kind: str,
    colour: str,
    pattern: str = "plain",
    *,
    rate: float = 1.0,
) -> str:
    """Name a garment with its colour and pattern; `rng` None mentions all of it."""
    words = []
    if colour != "none" and (rng is None or rng.random() < 0.6 + 0.4 * rate):
        words.append(colour)
    if pattern != "plain" and (rng is None or rng.random() < 0.5 + 0.5 * rate):
        words.append(pattern)
    if rng is not None and kind in SLOTS["hat"] and rng.random() < 0.1:
        kind = "hat"
    return article(" ".join([*words, kind]))


def phrase(
    character: Character,
    rng: np.random.Generator | None = None,
    *,
    full: bool = False,
    rate: float | None = None,
    settled: Mapping[str, bool] | None = None,
) -> str:
    """Name a character: 'a shaded brown dog with a red crown and a blue striped shirt'.

    Args:
        character: who.
        rng: decides what is mentioned.
        full: mention everything, without chance.
        rate: how much is mentioned, from 0 (the bare species) to 1; drawn when missing.
        settled: hat or accessory -> whether it is mentioned, in place of chance.
    """
    if full:
        rng, rate = None, 1.0
    elif rng is None:
        raise ValueError("phrase needs an rng unless full=True.")
    elif rate is None:
        rate = float(rng.choice(_MENTION_RATES, p=_MENTION_WEIGHTS))

    name = None if rng is None else name_of(character)
    if rng is not None and name is not None and rng.random() < NAMED_RATE:
        return name

    def mentioned(weight: float = 1.0, *, slot: str = "") -> bool:
        if settled is not None and slot in settled:
            return settled[slot]
        return rng is None or rng.random() < rate * weight

    person = character.species in PEOPLE
    adjectives, features = [], []
    if mentioned(0.5):
        adjectives.append(character.style)
    if mentioned():
        if person:
            features.append(f"{character.coat} hair")
        else:
            adjectives.append(character.coat)
    if character.hat != "none" and mentioned(slot="hat"):
        features.append(_thing(rng, character.hat, character.hat_colour, rate=rate))
    if mentioned():
        features.append(
            _thing(rng, character.top, character.top_colour, character.pattern, rate=rate)
        )
    if character.bottom != "none" and mentioned():
        features.append(_thing(rng, character.bottom, character.bottom_colour, rate=rate))
    if character.accessory != "none" and mentioned(slot="accessory"):
        features.append(article(character.accessory))
    noun = character.species
    if rng is not None and rng.random() < 0.03 and FAMILY_OF[noun] not in ("machine", "alien"):
        noun = "person" if person else "animal"
    named = article(" ".join([*adjectives, noun]))
    if not features:
        return named
    if person and rng is not None and rng.random() < 0.25 and not features[0].endswith("hair"):
        return f"{named} wearing {join(features)}"
    return f"{named} with {join(features)}"


def item_phrase(item: Item, rng: np.random.Generator | None = None) -> str:
    """Name an item, such as 'a blue striped shirt'; `rng` None mentions all of it."""
    return _thing(rng, item.kind, item.colour, item.pattern, rate=0.8)


def _arranged(scene: Scene, names: list[str], rng: np.random.Generator | None) -> str:
    """Join the names of a scene's elements by a relation that is true of the image."""
    elements: list[Figure | Item] = [*scene.figures, *scene.items]
    if len(names) == 1:
        return names[0]
    by_side = [
        names[place] for place in sorted(range(len(names)), key=lambda place: elements[place].x)
    ]
    if len(names) == 3:
        listed = join(by_side)
        return listed if rng is not None and rng.random() < 0.25 else f"{listed} in a row"
    first, second = names
    if scene.interaction == "riding":
        return f"{first} riding {second}"
    sides = f"{by_side[0]} on the left and {by_side[1]} on the right"
    roll = 0.0 if rng is None else rng.random()
    if scene.interaction == "left of":
        return (
            sides
            if roll < 0.70
            else (
                f"{by_side[0]} to the left of {by_side[1]}"
                if roll < 0.85
                else f"{by_side[1]} to the right of {by_side[0]}"
            )
        )
    # People name what they see from left to right. A model that must guess who stands where starts
    # from the mean of both arrangements, in which each figure wears the clothes of both.
    one, other = by_side if rng is None or rng.random() < _LEFT_FIRST else by_side[::-1]
    if scene.interaction == "behind":
        return f"{first} behind {second}" if one == first else f"{second} in front of {first}"
    if scene.interaction == "hugging":
        return f"{one} hugging {other}" if roll < 0.80 else f"{one} and {other} hugging"
    return (
        f"{one} next to {other}" if roll < 0.50 else f"{one} and {other}" if roll < 0.80 else sides
    )


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Describe a scene; every statement is true, many attributes are left out.

    If the hat of one of several figures is mentioned, all hats are, and likewise accessories:
    people who mention one figure's crown do not omit the other's (Grice's maxim of quantity).
    Without it, "a cat with a red crown next to a robot" told a model little about the robot's head.
    """
    rates = _MENTION_RATES[:3] if len(scene.figures) == 3 else _MENTION_RATES
    weights = (0.3, 0.4, 0.3) if len(scene.figures) == 3 else _MENTION_WEIGHTS
    rate_of = [float(rng.choice(rates, p=weights)) for _ in scene.figures]
    settled = (
        {slot: bool(rng.random() < np.mean(rate_of)) for slot in _OPTIONAL}
        if len(scene.figures) > 1
        else None
    )
    names = [
        phrase(figure.character, rng, rate=rate, settled=settled)
        for figure, rate in zip(scene.figures, rate_of, strict=True)
    ]
    names += [item_phrase(item, rng) for item in scene.items]
    words = [
        str(rng.choice(list(OPENINGS), p=list(OPENINGS.values()))),
        _arranged(scene, names, rng),
    ]
    if rng.random() < (0.5 if scene.context == "white" else 0.85):
        words.append(PLACE_PHRASES[scene.context])
    return " ".join(word for word in words if word)


def full_caption(scene: Scene) -> str:
    """Describe a scene with every attribute of every figure; deterministic."""
    names = [phrase(figure.character, full=True) for figure in scene.figures] + [
        item_phrase(item) for item in scene.items
    ]
    return f"a photo of {_arranged(scene, names, None)} {PLACE_PHRASES[scene.context]}"


def truth(scene: Scene, rendering: Rendering | None = None) -> list[dict[str, str]]:
    """Tell what is visible of every figure: slot -> value, 'none' if absent, or 'not visible'.

    Args:
        scene: the scene.
        rendering: its rendering at any size, drawn when missing.
    """
    rendering = rendering or render(scene)
    told = []
    for figure, visibility, areas in zip(
        scene.figures, rendering.visibility, rendering.areas, strict=False
    ):
        values = figure.character.attributes()
        head = visibility.get("head", 0.0)
        for slot in values:
            part = PART_OF_SLOT[slot]
            # Hair and ears carry the coat of a person; an animal's face and body show it as well.
            if slot == "coat" and figure.character.species not in PEOPLE:
                part = "head"
            share = visibility.get(part, 0.0) if values[slot] != "none" or part in areas else head
            if slot in ("bottom", "bottom_colour") and values[slot] == "none":
                share = visibility.get("top", 0.0)
            if share < VISIBLE_SHARE:
                values[slot] = "not visible"
        told.append(values)
    return told


def _words() -> tuple[str, ...]:
    phrases = [
        *OPENINGS,
        *PLACE_PHRASES.values(),
        "in a row",
        "next to",
        "to the left of",
        "to the right of",
        "on the left and on the right",
        "in front of",
    ]
    phrases += [value for values in SLOTS.values() for value in values if value != "none"]
    phrases += ["hugging riding behind wearing with hair person animal hat an a and ,"]
    return tuple(
        sorted(
            {word for text in phrases for word in text.split()}
            | set(_PROMPT_WORDS.split())
            | set(NAMES)
        )
    )


VOCABULARY: tuple[str, ...] = _words()
