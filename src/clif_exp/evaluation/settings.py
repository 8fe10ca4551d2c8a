"""Settings of evaluation, conf/evaluation."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from clif_exp.settings import SPEED, Share, StageSettings, Strict, Word


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

    kind: Literal["oracle"]
    path: str | None
    min_score: Share


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

    kind: Literal["open_vocabulary"]
    queries: Annotated[list[Word], Field(min_length=1)]
    detector: Word
    features: Word
    min_score: Share
    leak_margin: Share


class NoReaderSettings(Strict):
    """Alignment only; what another kind's config has set is not looked at.

    Attributes:
        kind: "none".
    """

    model_config = ConfigDict(extra="ignore")

    kind: Literal["none"]


READERS: dict[str, type[Strict]] = {
    "oracle": OracleSettings,
    "open_vocabulary": OpenVocabularySettings,
    "none": NoReaderSettings,
}
"""Kind of a reader -> its settings."""


class EvaluationSettings(StageSettings):
    """Who judges, and from when on.

    Attributes:
        judge: alignment.
        reader: what finds the figures; its kind is one of READERS.
        presence_threshold: agreement from which a figure can stand for a concept.
        identity_threshold: identity that `confusion` asks of every concept.
        batch_size: images at a time.
    """

    VERSION: ClassVar[int] = 2

    judge: JudgeSettings
    reader: Annotated[
        OracleSettings | OpenVocabularySettings | NoReaderSettings, Field(discriminator="kind")
    ]
    presence_threshold: Share
    identity_threshold: Share
    batch_size: Annotated[int, Field(ge=1), SPEED]
