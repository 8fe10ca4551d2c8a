"""Settings of evaluation, conf/evaluation.

A reader is one class here, with its settings, its check and its construction, and its place in
`ReaderSettings`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, get_args

from pydantic import ConfigDict, Field, model_validator

from clif_exp.base_models.checks import check_weights
from clif_exp.base_models.spec import is_local
from clif_exp.evaluation.models import ReaderInputs, packaged_model
from clif_exp.settings import INDIRECT, SPEED, Count, Range, Share, StageSettings, Strict, Word

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.evaluation.figures import FigureReader


class JudgeSettings(Strict):
    """The models that measure alignment; none of them may be one that stage 1 trains against.

    Attributes:
        path: a CLIPModel folder or hub id; None: judge_clip beside ToonWorld's other models.
        revision: commit of a hub id.
        image_path: a vision transformer for image_alignment_dino; None measures none.
        image_revision: commit of a hub id.
    """

    path: str | None
    revision: str | None
    image_path: str | None
    image_revision: str | None


class OracleSettings(Strict):
    """ToonWorld's oracle, which reads every figure's attributes.

    Attributes:
        kind: "oracle".
        path: its folder; None: oracle beside ToonWorld's other models.
        min_score: figures below this confidence are dropped.
    """

    needs_truth: ClassVar[bool] = True

    kind: Literal["oracle"]
    path: str | None
    min_score: Share

    def folder(self, spec: BaseModels) -> Path:
        """Return the oracle's folder."""
        return Path(self.path) if self.path else packaged_model(spec, "oracle")

    def check(self, spec: BaseModels) -> None:
        """Check the files before anything expensive runs.

        Raises:
            ValueError: the folder holds no whole weights.
        """
        if not (self.folder(spec) / "model.safetensors").exists():
            raise ValueError(
                f"evaluation.reader.path: {self.folder(spec)} holds no model.safetensors. Name the"
                " oracle's folder, or set evaluation.reader.kind=none."
            )
        check_weights(self.folder(spec), what="evaluation.reader.path")

    def build(self, inputs: ReaderInputs) -> FigureReader | None:
        """Load the reader."""
        from clif_exp.evaluation.readers import OracleReader

        return OracleReader(
            self.folder(inputs.spec), min_score=self.min_score, device=inputs.device
        )


class OpenVocabularySettings(Strict):
    """OWLv2 boxes, compared with the references by DINOv2 features.

    Attributes:
        kind: "open_vocabulary".
        queries: what OWLv2 looks for.
        detector: folder or hub id.
        features: folder or hub id.
        min_score: boxes below this confidence are dropped.
        leak_margin: likeness to another concept beyond the references' own that counts as leaked.
    """

    needs_truth: ClassVar[bool] = False

    kind: Literal["open_vocabulary"]
    queries: Annotated[list[Word], Field(min_length=1)]
    detector: Word
    features: Word
    min_score: Share
    leak_margin: Share

    def check(self, _spec: BaseModels) -> None:
        """Check nothing: hub ids can only be checked by loading them."""

    def build(self, inputs: ReaderInputs) -> FigureReader | None:
        """Load the reader, which compares figures with each concept's references."""
        from clif_exp.evaluation.open_vocabulary import OpenVocabularyReader

        return OpenVocabularyReader(
            inputs.references,
            queries=self.queries,
            detector=self.detector,
            features=self.features,
            min_score=self.min_score,
            leak_margin=self.leak_margin,
            device=inputs.device,
        )


class NoReaderSettings(Strict):
    """Alignment only; other kinds' keys are ignored, so that `reader.kind=none` alone is enough.

    Attributes:
        kind: "none".
    """

    model_config = ConfigDict(extra="ignore")
    needs_truth: ClassVar[bool] = True

    kind: Literal["none"]

    def check(self, _spec: BaseModels) -> None:
        """Check nothing."""

    def build(self, _inputs: ReaderInputs) -> FigureReader | None:
        """Return None: images are not read."""
        return None


ReaderSettings = OracleSettings | OpenVocabularySettings | NoReaderSettings
READERS: dict[str, type[ReaderSettings]] = {
    get_args(reader.model_fields["kind"].annotation)[0]: reader
    for reader in get_args(ReaderSettings)
}
"""Kind of a reader -> its settings."""


GeneralConcepts = Literal["species", "names"]


class AttentionSettings(StageSettings):
    """Cross-attention maps of a few of the run's prompts, before and after each stage.

    They are artifacts of their own; each image costs about one of generation's per model.

    Attributes:
        singles: prompts of one concept.
        pairs: prompts of two.
        between: the part of the denoising steps that the maps are the mean over.
    """

    VERSION: ClassVar[int] = 1

    singles: Count
    pairs: Count
    between: Range

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.between[0] > self.between[1]:
            raise ValueError(
                f"between: found {self.between}; name the earlier share of the steps first, as in"
                " [0.0, 1.0]"
            )
        return self


class GeneralPairsSettings(StageSettings):
    """Pairs of concepts that the base model knows, drawn by it and read: the paper's Fig. 2.

    They are artifacts of their own, which all runs of a base model share.

    Attributes:
        of: ToonWorld's species, or its names, which stand for a whole look as concepts do.
        pairs: how many pairs, in turn of likes (one family, one species) and of others.
        seeds: sampling seeds; two images of each pair per seed, one either way round.
    """

    VERSION: ClassVar[int] = 1

    MOST: ClassVar[dict[GeneralConcepts, int]] = {"species": 105, "names": 400}

    of: GeneralConcepts
    pairs: Count
    seeds: Annotated[list[Count], Field(min_length=1)]

    @model_validator(mode="after")
    def _as_many_as_there_are(self) -> Self:
        if self.pairs > (most := self.MOST[self.of]):
            raise ValueError(
                f"pairs: found {self.pairs}, but there are {most} pairs of {self.of}; lower it"
            )
        return self


class EvaluationSettings(StageSettings):
    """Which models judge the images, and with which thresholds.

    Attributes:
        judge: alignment.
        reader: what finds the figures; its kind is one of READERS.
        presence_threshold: agreement from which a figure can stand for a concept.
        identity_threshold: identity that `confusion` and `intact` ask of every concept.
        batch_size: images at a time.
        attention: cross-attention maps.
        general_pairs: confusion by distance of concepts that the base model knows.
        redrawn: prompts of several concepts that are drawn and judged again, for the report:
            plainly where `generation.guidance` is set, by region where it is not; an artifact of
            its own.
    """

    VERSION: ClassVar[int] = 8

    judge: JudgeSettings
    reader: Annotated[ReaderSettings, Field(discriminator="kind")]
    presence_threshold: Share
    identity_threshold: Share
    batch_size: Annotated[int, Field(ge=1), SPEED]
    attention: Annotated[AttentionSettings, INDIRECT]
    general_pairs: Annotated[GeneralPairsSettings, INDIRECT]
    redrawn: Annotated[Count, INDIRECT]

    def named_models(self) -> dict[str, list[str]]:
        """Return the folders and hub ids that the settings of judge and reader name."""
        of_reader = [getattr(self.reader, name, None) for name in ("path", "detector", "features")]
        named = {"judge": [self.judge.path, self.judge.image_path], "reader": of_reader}
        return {field: [name for name in names if name] for field, names in named.items()}

    def hub_models(self) -> dict[str, list[str]]:
        """Return those of them that are hub ids; a field without any is left out."""
        ids = {
            field: [name for name in names if not is_local(name)]
            for field, names in self.named_models().items()
        }
        return {field: names for field, names in ids.items() if names}

    @model_validator(mode="after")
    def _general_pairs_are_read(self) -> Self:
        if self.general_pairs.pairs and self.reader.kind != "oracle":
            raise ValueError(
                f"general_pairs.pairs: found {self.general_pairs.pairs} with"
                f" evaluation.reader.kind={self.reader.kind}; only ToonWorld's oracle reads general"
                " concepts: use 0"
            )
        return self
