"""Characters of fixed looks whom captions call by a name alone; no cast has any of them.

In Stable Diffusion's vocabulary thousands of names stand for a whole look: one token embedding
carries an appearance that the U-Net draws. CLIF rests on that (section 1), and a base model without
names cannot learn it.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np

from clif_exp.toonworld.characters import sample_character
from clif_exp.toonworld.world import Character

_GIVEN = (
    "abel adam agnes alba alec alma amir amos anya arlo asta axel baldo basil bea bela bert"
    " betty bibi bjorn bob boris brenda bruno caleb carla carmen cedric celia chen chloe clara"
    " claude cleo colin cora curt cyril daisy dana dario darla daphne dean delia dexter diego"
    " dina dirk dolly dora doris duncan dylan ebba edda edith edna egon eli elif ella elmer elsa"
    " elvis emil emma enid enzo erik erna esme ethel etta eugene evan eve fabio faye felix fern"
    " fiona flora floyd frank freda fritz gabe gail gary gemma gerda gilda gina glen gloria"
    " gordon greta gus gwen hank hanna harold hattie hazel hector heidi helga henry herb hilda"
    " homer hope horst ida igor ike ilse ines inga ira irma isaac ivan ivy jack jade jakob"
    " janet jasper jenny jens jill joan joel jonas josef joy judith jules kai karin karl kate"
    " keith kelly kenji kira klara klaus knut kurt lara lars laura lena leo leroy liam lila lina"
    " linus lisa lola lorna lotte louis lucas lydia mabel magda maja marco margo marta marvin"
    " maud max maya melvin mia mick mimi mina mira molly mona moritz muriel nadia nancy naomi"
    " ned nico nils nina nora norman olaf olga oliver olive omar opal oscar oswin ottilie owen"
    " paco paula pavel pearl peggy penny percy petra phil pia polly quentin quinn ralph ramon"
    " raquel rasmus rhoda rita robin rocco rolf roman ronja rosa roy ruben rufus ruth sally"
    " samir sandra saul selma sergio sid signe silas simon sofia sonja stan stella sven sylvia"
    " talia tamara tanja ted thea tilda tim tobias toni trudy ugo ulla uma ursula valentin"
    " vaughn velma vic viola vito wally wanda wendy wilma winston xenia yannick yara york yuri"
    " yvonne zach zara zeno zoe"
)
_COINED = 712
FEWEST_DIFFERENCES = 4  # attributes between any two of them


def _coined() -> tuple[str, ...]:
    """Coin names of two syllables: with few names a U-Net learns each by heart, not to read one."""
    names = [
        "".join(parts)
        for parts in product("bdfgjklmnprstvz", "aeiou", ("b", "d", "k", "l", "m", "v", "x"), "aiu")
    ]
    fresh = sorted(set(names) - set(_GIVEN.split()))
    chosen = np.random.default_rng(1126).permutation(len(fresh))[:_COINED]
    return tuple(fresh[place] for place in sorted(chosen))


NAMES: tuple[str, ...] = (*_GIVEN.split(), *_coined())


@cache
def named_characters() -> dict[str, Character]:
    """Name -> its look, drawn once and for all from what base models may know."""
    rng = np.random.default_rng(20261126)
    looks: dict[str, Character] = {}
    taken_NA = np.zeros((0, len(sample_character(np.random.default_rng(0)).attributes())), object)
    for name in NAMES:
        while name not in looks:
            look = sample_character(rng)
            attributes_A = np.array(list(look.attributes().values()), object)
            if ((taken_NA != attributes_A).sum(1) >= FEWEST_DIFFERENCES).all():
                looks[name] = look
                taken_NA = np.vstack([taken_NA, attributes_A])
    return looks


@cache
def _name_of() -> dict[Character, str]:
    return {character: name for name, character in named_characters().items()}


def name_of(character: Character) -> str | None:
    """Return the name of a character who has one."""
    return _name_of().get(character)
