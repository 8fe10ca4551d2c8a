"""Settings of `dataset=`: which concepts are taught."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from clif_exp.settings import INDIRECT, Name, StageSettings, Word

CAST = 18  # members of a ToonWorld cast


class DatasetSettings(StageSettings):
    """A data set that writes itself (toonworld, photos), or a user's folder.

    Attributes:
        name: which.
        root: the user's folder; what is in it is identified by its content.
        size: how many of its concepts, the first ones; None: all.
        names: which of its concepts, by their names in the set or in the run; None: all.
        cast_seed: draws a fresh cast (toonworld); None: the default cast.
        domain: what the images show, for base models that know one kind only (`model.domain`).
        download: how to get the folder, for the message where it is missing; None: it is the
            user's own.
    """

    VERSION: ClassVar[int] = 3

    name: Literal["toonworld", "photos", "folder"]
    root: Annotated[str | None, INDIRECT]
    size: Annotated[int, Field(ge=1)] | None
    names: Annotated[Annotated[list[Word], Field(min_length=1)] | None, INDIRECT]
    cast_seed: Annotated[int, Field(ge=0)] | None
    domain: Annotated[Name, INDIRECT]
    download: Annotated[str | None, INDIRECT]

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        if self.name == "folder" and self.root is None:
            more = f". {self.download}" if self.download else ""
            raise ValueError(
                f"root: a value is needed; give the folder as dataset.root=FOLDER{more}"
            )
        if self.name != "folder" and self.root is not None:
            raise ValueError(
                f"root: found {self.root!r}, but dataset={self.name} makes its own; use"
                " dataset=folder"
            )
        if self.name == "toonworld" and (self.size or 0) > CAST:
            raise ValueError(
                f"size: found {self.size}; a cast has {CAST} members, so choose 1 to {CAST}"
            )
        if self.name != "toonworld" and self.cast_seed is not None:
            raise ValueError(
                f"cast_seed: found {self.cast_seed}, but only dataset=toonworld draws casts;"
                " remove it"
            )
        return self

    @model_validator(mode="after")
    def _names(self) -> Self:
        if self.names is None:
            return self
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"names: found {self.names}, with repetitions; name each once")
        if self.size not in (None, len(self.names)):
            raise ValueError(
                f"size: found {self.size} for {len(self.names)} dataset.names; use"
                " dataset.size=null"
            )
        return self
