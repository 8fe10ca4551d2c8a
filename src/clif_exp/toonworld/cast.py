"""Casts: named characters to customise, with reference images.

A cast has 18 members: 9 flat, 4 shaded and 5 textured. Four groups of three share species and style
and differ in a few features, so that they are easy to confuse; some members have features that the
base models have never seen.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from clif_exp.concepts.concept import TRUTH_FILE
from clif_exp.toonworld.characters import look_alike, sample_character
from clif_exp.toonworld.drawing.render import render
from clif_exp.toonworld.placing import place_single
from clif_exp.toonworld.world import CAST_ONLY, PEOPLE, SKIN_TONES, SPECIES, Character, Scene

HELD_OUT_IMAGES = 8
NAMES: tuple[str, ...] = (
    *("milo", "otto", "luna", "bolt", "nell", "ada", "vera", "iris", "hugo", "pim", "theo"),
    *("remy", "finn", "tess", "koda", "juno", "zola", "edgar"),
)


def _character(
    species: str,
    style: str,
    coat: str,
    hat: str,
    top: str,
    bottom: str,
    accessory: str = "none",
    *,
    skin: int = 0,
) -> Character:
    """Make a character from phrases such as 'red cap', 'blue striped shirt', 'green trousers'."""

    def split(words: str) -> tuple[str, str]:
        colour, _, kind = words.partition(" ")
        return (kind, colour) if kind else (colour, "none")

    hat_kind, hat_colour = split(hat)
    bottom_kind, bottom_colour = split(bottom)
    words = top.split()
    pattern = words[1] if len(words) == 3 else "plain"
    return Character(
        species,
        style,
        coat,
        hat_kind,
        hat_colour,
        words[-1],
        words[0],
        pattern,
        bottom_kind,
        bottom_colour,
        accessory,
        skin,
    )


_DEFAULT_CAST: dict[str, Character] = {
    "milo": _character(
        "fox", "flat", "orange", "green beanie", "blue striped hoodie", "brown trousers"
    ),
    "otto": _character(
        "fox",
        "flat",
        "orange",
        "purple feather hat",
        "yellow jacket",
        "brown trousers",
        "necktie",
    ),
    "luna": _character(
        "girl", "shaded", "black", "yellow crown", "teal dotted dress", "none", skin=1
    ),
    "bolt": _character(
        "robot", "textured", "blue", "red top hat", "yellow checked jacket", "black trousers"
    ),
    "nell": _character("fox", "flat", "orange", "green cap", "red dotted dress", "none", "glasses"),
    "ada": _character(
        "woman",
        "flat",
        "brown",
        "none",
        "purple starred jacket",
        "black skirt",
        "glasses",
        skin=0,
    ),
    "vera": _character(
        "woman", "flat", "brown", "red beanie", "green jacket", "black skirt", skin=0
    ),
    "iris": _character(
        "woman", "flat", "orange", "none", "purple striped dress", "none", "scarf", skin=0
    ),
    "hugo": _character(
        "bear",
        "flat",
        "brown",
        "grey horned helmet",
        "red checked shirt",
        "blue trousers",
        "eyepatch",
    ),
    "pim": _character("mouse", "flat", "grey", "red wizard hat", "purple hoodie", "orange shorts"),
    "theo": _character(
        "wolf", "flat", "teal", "none", "orange jacket", "grey trousers", "eyepatch"
    ),
    "remy": _character(
        "boy", "shaded", "yellow", "blue cap", "red striped shirt", "green shorts", skin=0
    ),
    "finn": _character(
        "boy", "shaded", "yellow", "orange cap", "white starred shirt", "teal trousers", skin=0
    ),
    "tess": _character(
        "boy", "shaded", "black", "blue cap", "pink hoodie", "green shorts", "scarf", skin=0
    ),
    "koda": _character("cat", "textured", "grey", "purple wizard hat", "green dress", "none"),
    "juno": _character(
        "cat",
        "textured",
        "grey",
        "teal wizard hat",
        "orange checked jacket",
        "black skirt",
        "eyepatch",
    ),
    "zola": _character(
        "cat", "textured", "orange", "purple crown", "green striped shirt", "black trousers"
    ),
    "edgar": _character(
        "dog",
        "textured",
        "brown",
        "yellow feather hat",
        "blue jacket",
        "white trousers",
        "moustache",
    ),
}


def default_cast() -> dict[str, Character]:
    """The cast of `dataset=toonworld`; the first four, two of them look-alikes, make a demo."""
    return dict(_DEFAULT_CAST)


# Style and members of each group of look-alikes, by place in NAMES; then all others.
_GROUPS = (
    ("flat", (0, 1, 4)),
    ("flat", (5, 6, 7)),
    ("shaded", (11, 12, 13)),
    ("textured", (14, 15, 16)),
)
_ALONE = (("shaded", 2), ("textured", 3), ("flat", 8), ("flat", 9), ("flat", 10), ("textured", 17))


def _parts_differ(character: Character) -> bool:
    """Return whether neighbouring parts differ in colour."""
    clothes = [
        colour
        for colour in (character.hat_colour, character.top_colour, character.bottom_colour)
        if colour != "none"
    ]
    return len(set(clothes)) == len(clothes) and character.coat not in clothes


def _differences(first: Character, second: Character) -> int:
    mine, yours = first.attributes(), second.attributes()
    return sum(mine[slot] != yours[slot] for slot in mine)


def _with_cast_only(rng: np.random.Generator, character: Character) -> Character:
    """Give a character one or two features that base models have never seen."""
    slots = [
        slot for slot in CAST_ONLY if getattr(character, slot) != "none" or slot == "accessory"
    ]
    for slot in rng.permutation(slots)[: 1 + int(rng.random() < 0.4)]:
        values = character.attributes() | {slot: str(rng.choice(CAST_ONLY[slot]))}
        character = Character(**values, skin=character.skin)
    return character


def _distinct(rng: np.random.Generator, species: str, style: str) -> Character:
    """Draw a character whose neighbouring parts differ in colour."""
    while True:
        skin = int(rng.integers(len(SKIN_TONES))) if species in PEOPLE else 0
        character = replace(sample_character(rng, style=style), species=species, skin=skin)
        if _parts_differ(character):
            return character


def _look_alike(rng: np.random.Generator, group: list[Character]) -> Character:
    """Draw a look-alike of a group's first member that differs from all members."""
    first = group[0]
    while True:
        character = replace(look_alike(rng, first), species=first.species, skin=first.skin)
        differences = [_differences(character, other) for other in group]
        if _parts_differ(character) and min(differences) >= 2 and max(differences) <= 7:
            return character


def cast(seed: int) -> dict[str, Character]:
    """Draw a cast of the default's structure: styles 9/4/5, four groups of three look-alikes."""
    rng = np.random.default_rng([20, seed])
    members: dict[int, Character] = {}
    species = [str(value) for value in rng.permutation(SPECIES)]
    for style, places in _GROUPS:
        group = [_distinct(rng, species.pop(), style)]
        while len(group) < len(places):
            group.append(_look_alike(rng, group))
        members |= dict(zip(places, group, strict=True))
    for style, place in _ALONE:
        members[place] = _distinct(rng, species.pop(), style)
    for place in sorted(members):
        if rng.random() < 0.5:
            members[place] = _with_cast_only(rng, members[place])
    return {name: members[place] for place, name in enumerate(NAMES)}


def _name_seed(name: str) -> list[int]:
    return list(name.encode())


def reference_scenes(name: str, character: Character, seed: int = 0) -> list[Scene]:
    """Draw four to six scenes of a character, the first on white, in different places and poses."""
    rng = np.random.default_rng([21, seed, *_name_seed(name)])
    return _images(rng, character, count=int(rng.integers(4, 7)), white_first=True)


def held_out_scenes(name: str, character: Character, seed: int = 0) -> list[Scene]:
    """Draw scenes of a character that only the evaluation sees."""
    rng = np.random.default_rng([22, seed, *_name_seed(name)])
    return _images(rng, character, count=HELD_OUT_IMAGES, white_first=False)


def _images(
    rng: np.random.Generator, character: Character, *, count: int, white_first: bool
) -> list[Scene]:
    places = [
        str(place)
        for place in rng.permutation(
            ["beach", "forest", "desert", "snow", "street", "room", "meadow", "night"]
        )
    ][:count]
    if white_first:
        places[0] = "white"
    poses = [
        "down",
        "up",
        *[str(pose) for pose in rng.permutation(["up", "down", "down", "up", "down", "down"])],
    ]
    return [
        Scene(
            place_single(rng, character, white=place == "white", pose=pose),
            place,
            None,
            "single",
            int(rng.integers(2**31)),
        )
        for place, pose in zip(places, poses, strict=False)
    ]


def part_nouns(character: Character) -> list[str]:
    """Name a character's parts that are worth binding as a user would, in bare nouns."""
    nouns = []
    if character.hat != "none":
        nouns.append("hat")
    nouns.append(character.top)
    if character.bottom != "none":
        nouns.append(character.bottom)
    if character.accessory in ("scarf", "glasses", "necktie"):
        nouns.append(character.accessory)
    return nouns


def write_cast(
    out: Path, *, cast_seed: int | None = None, size: int = 18, resolution: int = 128
) -> None:
    """Write a cast as a concept set: concepts.yaml, images/, held_out/ and truth.json.

    Args:
        out: folder, made if missing.
        cast_seed: None for the default cast, else the seed of a fresh one.
        size: how many of the cast's 18, from the first on.
        resolution: side of the images in pixels.
    """
    if not 1 <= size <= len(NAMES):
        raise ValueError(
            f"size={size} is out of range: a ToonWorld cast has 1 to {len(NAMES)} members."
        )
    members = default_cast() if cast_seed is None else cast(cast_seed)
    seed = 0 if cast_seed is None else cast_seed
    concepts, truth = [], {}
    for name in list(members)[:size]:
        character = members[name]
        images = []
        for folder, scenes in (
            ("images", reference_scenes(name, character, seed)),
            ("held_out", held_out_scenes(name, character, seed)),
        ):
            (out / folder / name).mkdir(parents=True, exist_ok=True)
            for number, scene in enumerate(scenes):
                file = Path(folder) / name / f"{number:02d}.png"
                Image.fromarray(render(scene, size=resolution).image).save(out / file)
                if folder == "images":
                    images.append(file.as_posix())
        concepts.append(
            {
                "name": name,
                "class_word": character.species,
                "images": images,
                "parts": part_nouns(character),
            }
        )
        truth[name] = character.attributes()
    (out / "concepts.yaml").write_text(
        yaml.safe_dump({"name": "toonworld", "concepts": concepts}, sort_keys=False)
    )
    (out / TRUTH_FILE).write_text(json.dumps(truth, indent=2) + "\n")
