"""The words that ToonWorld's base models know, by kind; each kind from the owner of its words."""

from __future__ import annotations

from clif_exp.toonworld.grammar import OPENINGS, PLACE_PHRASES, VOCABULARY
from clif_exp.toonworld.names import NAMES
from clif_exp.toonworld.world import BASE_SLOTS, CAST_ONLY, COLOURS, INTERACTIONS

_SLOT_KINDS = {
    "species": "species",
    "style": "styles",
    "hat": "hats",
    "top": "tops",
    "pattern": "patterns",
    "bottom": "bottoms",
    "accessory": "accessories",
}


def words_by_kind() -> dict[str, tuple[str, ...]]:
    """Return kind -> its words and phrases; together they hold every word of the vocabulary.

    `unseen` are of members of a cast only, which no base model has seen drawn. `other` words are
    read in prompts, but nothing in the world is named by them alone.
    """
    kinds = {
        kind: tuple(value for value in BASE_SLOTS[slot] if value not in ("none", "plain"))
        for slot, kind in _SLOT_KINDS.items()
    }
    unseen = tuple(dict.fromkeys(word for values in CAST_ONLY.values() for word in values))
    kinds |= {
        "colours": tuple(colour for colour in COLOURS if colour not in unseen),
        "places": tuple(PLACE_PHRASES.values()),
        "relations": INTERACTIONS,
        "openings": tuple(opening for opening in OPENINGS if opening),
        "unseen": unseen,
        "names": NAMES,
    }
    listed = {word for phrases in kinds.values() for phrase in phrases for word in phrase.split()}
    return kinds | {
        "other": tuple(word for word in VOCABULARY if word not in listed and word.isalpha())
    }
