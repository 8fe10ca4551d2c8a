"""Merges exports of different runs into one, which says what it was made from."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.base_models.spec import pipeline_folder
from clif_exp.export.card import Origin, yaml_block
from clif_exp.export.parts import write_part
from clif_exp.export.record import KEY
from clif_exp.export.stage import write_export
from clif_exp.methods.merging import merge
from clif_exp.methods.settings import Addition

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.export.settings import ExportSettings
    from clif_exp.export.sources import Source
    from clif_exp.methods.parts import Parts
    from clif_exp.methods.settings import MergingSettings

CARDS = "sources"
_OURS = {"base_model", "library_name", "pipeline_tag", "tags", "instance_prompt", KEY, "text"}
_ROUNDED = (
    "Whole weights were read as their exports hold them, in half precision: {names}. Their cards"
    " say what that loses."
)
_SHARED = (
    "The LoRAs of {shared}: their sum is not exact, one concept's changes the other. Trained by"
    " method=orthogonal, each run with its own diffusion.orthogonal_start, they would share none."
)
_CARDS = f"Their cards, with what each was made from, its notes and its licence, are in `{CARDS}/`."

log = logging.getLogger(__name__)


def merge_exports(
    sources: Sequence[Source],
    *,
    out: Path,
    spec: BaseModels,
    merging: MergingSettings,
    export: ExportSettings,
    general_texts: Callable[..., list[str]],
    device: str,
) -> None:
    """Write one export with the concepts of all; it appears whole or not at all.

    Args:
        sources: checked exports (`sources.check_kinds`).
        out: folder that is missing or empty; its parent exists.
        spec: their base model, its pipeline resolved.
        merging: how to merge.
        export: what to write.
        general_texts: see `methods.merging.merge`.
        device: torch device.

    Raises:
        ValueError: an export that this kind cannot merge, which only its weights say.
    """
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        work = Path(temporary)
        parts, rounded = _write_parts(sources, work, spec=spec)
        merged = work / "merged"
        merged.mkdir()
        try:
            merge(
                merged,
                spec=spec,
                parts=parts,
                settings=merging,
                general_texts=general_texts,
                disjoint=False,
                device=device,
            )
        except ValueError as error:
            raise ValueError(_with_exports(str(error), sources, work)) from error
        notes = [_ROUNDED.format(names=", ".join(rounded))] if rounded else []
        notes += _shared(parts) if isinstance(merging, Addition) else []
        write_export(
            work / "export",
            spec=spec,
            concepts=_class_words(sources),
            diffusion=merged,
            origin=_origin(sources, merging=merging, export=export, notes=notes),
            settings=export,
        )
        _keep_cards(sources, work / "export" / CARDS)
        if out.exists():
            out.rmdir()
        (work / "export").rename(out)


def _write_parts(
    sources: Sequence[Source], work: Path, *, spec: BaseModels
) -> tuple[dict[str, Path], list[str]]:
    """Write a folder per export; return concept -> folder, and the exports that were rounded."""
    parts: dict[str, Path] = {}
    rounded = []
    for index, source in enumerate(sources):
        folder = _part(work, index)
        lossy = write_part(
            source.folder,
            folder,
            names=source.names,
            base=pipeline_folder(spec),
            family=spec.record,
        )
        rounded += [f"`{source.record.name}`"] if lossy else []
        parts |= dict.fromkeys(source.names.values(), folder)
    return parts, rounded


def _part(work: Path, index: int) -> Path:
    return work / f"part_{index}"


def _with_exports(text: str, sources: Sequence[Source], work: Path) -> str:
    """Name exports instead of the temporary folders that stand for them."""
    for index in reversed(range(len(sources))):  # part_10 before part_1
        text = text.replace(str(_part(work, index)), str(sources[index].folder))
    return text


def _class_words(sources: Sequence[Source]) -> dict[str, str]:
    return {
        new: source.record.concepts[old] for source in sources for old, new in source.names.items()
    }


def _shared(parts: Parts) -> list[str]:
    from clif_exp.methods.addition import shared_direction

    if (shared := shared_direction(parts)) is None:
        return []
    log.warning("merge: %s", note := _SHARED.format(shared=shared))
    return [note]


def _origin(
    sources: Sequence[Source],
    *,
    merging: MergingSettings,
    export: ExportSettings,
    notes: Sequence[str],
) -> Origin:
    """Say what was merged, how, and on which terms."""
    rows = [
        f"| `{source.record.name}` | {', '.join(_called(*pair) for pair in source.names.items())} |"
        f" {source.record.method} | {source.card.get('license', 'not stated')} |"
        for source in sources
    ]
    made = {"merging": merging.relevant(), "export": export.relevant()}
    return Origin(
        how=f"merged by `{merging.kind}` from {len(sources)} exports",
        made_from="\n".join(
            [
                "| export | concepts | method | licence |",
                "| --- | --- | --- | --- |",
                *rows,
                "",
                *(line for note in (_CARDS, *notes) for line in (note, "")),
                yaml_block(made),
            ]
        ),
        method=f"merged by {merging.kind}",
        regional=_alike([source.record.regional for source in sources]),
        front_matter=_kept([source.card for source in sources]),
    )


def _alike(weights: Sequence[float | None]) -> float | None:
    return weights[0] if len({*weights}) == 1 else None


def _called(old: str, new: str) -> str:
    return new if old == new else f"{new} (there: {old})"


def _kept(cards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what users have added to all cards alike; licences that differ are said to."""
    keys = dict.fromkeys(key for card in cards for key in card if key not in _OURS)
    kept = {
        key: cards[0][key]
        for key in keys
        if all(key in card and card[key] == cards[0].get(key) for card in cards)
    }
    if "license" in keys and "license" not in kept:
        kept = {key: value for key, value in kept.items() if not key.startswith("license")}
        kept |= {"license": "other", "license_name": "several", "license_link": CARDS}
    return kept


def _keep_cards(sources: Sequence[Source], out: Path) -> None:
    """Copy the exports' cards, and those of what they were merged from themselves."""
    out.mkdir()
    for source in sources:
        earlier = sorted((source.folder / CARDS).glob("*.md"))
        for name, file in [
            (source.record.name, source.folder / "README.md"),
            *((file.stem, file) for file in earlier),
        ]:
            shutil.copyfile(file, out / f"{name}.md")
