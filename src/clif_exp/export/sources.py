"""The exports that a merge reads: their cards, their concepts' names, and what they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.base_models.families import FAMILIES
from clif_exp.base_models.layerwise import LAYERWISE_FILE
from clif_exp.base_models.unet_tuning import lora, stock
from clif_exp.concepts.checks import MAX_NAME, NAME_PATTERN
from clif_exp.export.embeddings import FOLDER, concepts_in
from clif_exp.export.reading import base_model, read_card
from clif_exp.export.record import Record, read_record

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.methods.settings import MergingSettings

_HELD = {"lora": "a LoRA", "weights": "whole weights of the U-Net", "frozen": "embeddings alone"}


@dataclass(frozen=True)
class Source:
    """An export to merge.

    Attributes:
        folder: of the export.
        card: as `reading.read_card` returns.
        record: what it says of itself.
        names: its concept -> what that is called in the merged export.
    """

    folder: Path
    card: Mapping[str, Any]
    record: Record
    names: Mapping[str, str]

    @property
    def layerwise(self) -> bool:
        """Whether its embeddings are another one for each layer of the U-Net."""
        return (self.folder / LAYERWISE_FILE).is_file()

    @property
    def text_encoders(self) -> list[str]:
        """The text encoders whose weights were trained, by a LoRA or whole."""
        names = FAMILIES[self.record.family].encoders
        return [n for n in names if n in self._lora_of() or (self.folder / n).is_dir()]

    @property
    def unet(self) -> str:
        """What holds the U-Net's training, as a choice of diffusion.unet."""
        if "unet" in self._lora_of():
            return "lora"
        whole = (self.folder / stock.CUSTOM_DIFFUSION_FILE, self.folder / stock.FOLDER)
        return "weights" if any(path.exists() for path in whole) else "frozen"

    def _lora_of(self) -> set[str]:
        if not (self.folder / lora.FILE).is_file():
            return set()
        with stock.open_stored([self.folder / lora.FILE]) as stored:
            return {key.split(".")[0] for key in stored.files}

    @property
    def base(self) -> str:
        """What its card calls the base model."""
        return str(self.card.get("base_model"))


def read_sources(exports: Sequence[Path], *, renames: Sequence[str] = ()) -> list[Source]:
    """Read the cards of exports and name their concepts apart.

    Args:
        exports: their folders.
        renames: "OLD=NEW" each, for the last export that has a concept OLD by then.

    Raises:
        ValueError: fewer than two exports, one that is none, a rename that cannot be, or concepts
            of one name.
    """
    if len(exports) < 2:
        raise ValueError(f"found 1 export, {exports[0]}. Name two or more to merge.")
    cards = [read_card(folder) for folder in exports]
    records = [read_record(card, folder) for card, folder in zip(cards, exports, strict=True)]
    names = [
        {name: name for name in _known(folder, record)}
        for folder, record in zip(exports, records, strict=True)
    ]
    for rename in renames:
        _rename(names, rename)
    _refuse_twins(exports, names)
    return [Source(*found) for found in zip(exports, cards, records, names, strict=True)]


def _known(folder: Path, record: Record) -> list[str]:
    found = concepts_in(folder)
    for name in found:
        if name not in record.concepts:
            raise ValueError(
                f"{folder / FOLDER / name}.safetensors: README.md lists no such concept, but"
                f" {', '.join(record.concepts)}. Give the file its name back."
            )
    return found


def _rename(names: list[dict[str, str]], rename: str) -> None:
    old, _, new = rename.partition("=")
    if not NAME_PATTERN.fullmatch(new) or len(new) > MAX_NAME:
        raise ValueError(
            f"name-of: found {rename!r}. Write OLD=NEW, the new name of at most {MAX_NAME} small"
            " letters, digits and _, a letter first."
        )
    for own in reversed(names):
        for name, now in own.items():
            if now == old:
                own[name] = new
                return
    known = ", ".join(dict.fromkeys(now for own in names for now in own.values()))
    raise ValueError(f"name-of: found {rename!r}, but no export has a concept '{old}': {known}.")


def _refuse_twins(exports: Sequence[Path], names: Sequence[Mapping[str, str]]) -> None:
    owner: dict[str, Path] = {}
    twins: dict[str, Path] = {}
    for folder, own in zip(exports, names, strict=True):
        twins |= {name: folder for name in own.values() if name in owner}
        owner = dict.fromkeys(own.values(), folder) | owner
    if twins:
        name, folder = next(iter(twins.items()))
        remedy = " ".join(f"{twin}={twin}_2" for twin in twins)
        raise ValueError(
            f"'{name}' is a concept of {owner[name]} and of {folder}. Rename the later one's:"
            f" --name-of {remedy}"
        )


def check_kinds(sources: Sequence[Source], merging: MergingSettings) -> None:
    """Refuse exports that a kind of merge cannot merge, by what they hold.

    Raises:
        ValueError: names the export, what it holds and what would do.
    """
    by_layer = {source.layerwise: source.folder for source in sources}
    if len(by_layer) > 1:
        raise ValueError(
            f"{by_layer[True]} has embeddings per layer, {by_layer[False]} the same in all layers;"
            " these cannot be merged. Train all with one diffusion.layerwise."
        )
    for source in sources:
        if source.unet not in merging.UNETS:
            wanted = " or ".join(_HELD[unet] for unet in merging.UNETS)
            raise ValueError(
                f"{source.folder} holds {_HELD[source.unet]}, --by {merging.kind} merges {wanted}."
                f" Use another --by, or train with diffusion.unet={merging.UNETS[0]}."
            )
        if merging.MERGES_TEXT:
            continue
        beyond = [f"weights of {name} that were trained" for name in source.text_encoders]
        beyond += ["embeddings per layer"] if source.layerwise else []
        if beyond:
            raise ValueError(
                f"{source.folder} holds {beyond[0]}, which --by {merging.kind} cannot merge. Use"
                " --by gradient_fusion, or train with contrastive.text_encoder=frozen,"
                " diffusion.text_lora=null and diffusion.layerwise=false."
            )


def common_base(sources: Sequence[Source], *, base: str | None) -> BaseModels:
    """Return the base model that all exports were trained on, its pipeline resolved.

    Args:
        sources: exports.
        base: folder or hub id in place of the one that the cards name.

    Raises:
        ValueError: they were trained on different ones, or it is not this one, or it is not there.
    """
    from clif_exp.base_models.spec import BaseModels, customised_weights, resolve_pipeline

    first = sources[0]
    for other in sources[1:]:
        if other.record.weights != first.record.weights:
            named = [f"{s.folder} on {s.base} (weights {s.record.weights})" for s in (first, other)]
            raise ValueError(
                f"exports of different base models: {' and '.join(named)}. Merge exports of one."
            )
    path, revision = (base, None) if base else base_model(dict(first.card), first.folder)
    spec = BaseModels(
        first.record.family,
        path=path,
        revision=revision,
        resolution=max(source.record.resolution for source in sources),
    )
    try:
        spec = resolve_pipeline(spec)
    except ValueError as error:
        raise ValueError(str(error).replace("model.path", "base", 1)) from error
    if (found := customised_weights(spec)[:16]) != first.record.weights:
        raise ValueError(
            f"base: {path} has weights {found}, but {first.folder} was trained on others"
            f" ({first.record.weights}). Name those by --base."
        )
    return spec
