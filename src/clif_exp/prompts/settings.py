"""Settings of the evaluation prompts, conf/generation's `prompts`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import model_validator

from clif_exp.settings import INDIRECT, Amount, Count, Strict


class PromptSettings(Strict):
    """Which prompts a run is judged by.

    Attributes:
        source: "built" from the templates as the settings below say; "mudi", MuDI's pairs of
            look-alikes as far as they are in the set; or a file: the user's own (one prompt per
            line, concepts as `<name>`), DreamBench's `prompts_and_classes.txt`, CustomConcept101's
            `dataset.json` or `dataset_multiconcept.json`. A list takes several. It enters
            fingerprints by the prompts that come of it.
        world: whose words the prompts use: "toonworld", or "generic" for models of photographs.
        split: "tuning" prompts choose settings, "reporting" prompts report them once; no place or
            stem in common.
        single_per_concept: prompts per concept; the first one plain, the others in places.
        pairs: pairs of concepts, look-alikes first, seen and unseen ones in turn; None takes all.
        per_pair: layout -> prompts per pair; interactions (hugging, behind, riding, ...) take turns
            over the pairs.
        triples: prompts of three concepts in a row.
        prior: prompts without a concept; these are built whatever the source, unless it has some.
        seed: of the selection.
    """

    source: Annotated[str | list[str], INDIRECT]
    world: Literal["toonworld", "generic"]
    split: Literal["tuning", "reporting"]
    single_per_concept: Amount
    pairs: Amount | None
    per_pair: dict[Literal["side", "free", "interaction", "context"], Amount]
    triples: Amount
    prior: Amount
    seed: Count

    @property
    def sources(self) -> list[str]:
        """The sources as a list."""
        return [self.source] if isinstance(self.source, str) else self.source

    @model_validator(mode="after")
    def _something_to_draw(self) -> Self:
        if not self.sources or not all(source.strip() for source in self.sources):
            raise ValueError(f"source: found {self.source!r}; use built, mudi or a file")
        return self
