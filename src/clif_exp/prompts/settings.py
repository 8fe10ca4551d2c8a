"""Settings of the evaluation prompts, conf/generation's `prompts`."""

from __future__ import annotations

from typing import Literal

from clif_exp.settings import Amount, Count, Strict


class PromptSettings(Strict):
    """Which prompts a run is judged by.

    Attributes:
        world: whose words the prompts use: "toonworld", or "generic" for models of photographs.
        split: "tuning" prompts choose settings, "reporting" prompts report them once; no place or
            stem in common.
        single_per_concept: prompts per concept; the first one plain, the others in places.
        pairs: pairs of concepts, look-alikes first, seen and unseen ones in turn; None takes all.
        per_pair: layout -> prompts per pair; interactions (hugging, behind, riding, ...) take turns
            over the pairs.
        triples: prompts of three concepts in a row.
        prior: prompts without a concept.
        seed: of the selection.
    """

    world: Literal["toonworld", "generic"]
    split: Literal["tuning", "reporting"]
    single_per_concept: Amount
    pairs: Amount | None
    per_pair: dict[Literal["side", "free", "interaction", "context"], Amount]
    triples: Amount
    prior: Amount
    seed: Count
