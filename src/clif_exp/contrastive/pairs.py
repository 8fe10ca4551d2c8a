"""The augmented pairs that curation published, as stage 1 reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clif_exp.contrastive.targets import PairMeta


@dataclass(frozen=True)
class Pair:
    """One augmented image with its caption.

    Args:
        file: the image.
        caption: its caption, concepts as placeholders.
        meta: what the targets depend on.
        box: box of the concept (or its part) in the image, px (x0, y0, x1, y1).
        group: pairs of a group share context, side and scale, and differ in the concept.
    """

    file: Path
    caption: str
    meta: PairMeta
    box: tuple[int, int, int, int] | None
    group: str


def read_pairs(manifests: Mapping[str, Path], *, names: set[str]) -> list[Pair]:
    """Read the pairs of all given kinds, in the manifests' order.

    Args:
        manifests: kind ("G", "R") -> folder with manifest.jsonl.
        names: the concepts being customised; pairs with a stranger in their place name none.

    Raises:
        ValueError: a manifest is missing or a line is not such a pair; names file and line.
    """
    pairs = []
    for kind, folder in sorted(manifests.items()):
        file = Path(folder) / "manifest.jsonl"
        if not file.is_file():
            raise ValueError(
                f"{file}: no such file. Curation publishes it; run the stage 'curation' first."
            )
        for number, line in enumerate(file.read_text().splitlines(), start=1):
            if line.strip():
                pairs.append(
                    _read_pair(
                        json.loads(line),
                        kind=kind,
                        folder=Path(folder),
                        names=names,
                        where=f"{file}:{number}",
                    )
                )
    return pairs


def _read_pair(
    line: dict[str, Any], *, kind: str, folder: Path, names: set[str], where: str
) -> Pair:
    stranger = line.get("stranger")
    if stranger is None:
        own = [source for source in line["sources"] if source.get("concept")]
    else:
        own = [line["sources"][stranger]]
    others = [source for source in line["sources"] if source not in own]
    if len(own) != 1:
        raise ValueError(
            f"{where}: found {len(own)} concepts, a {kind} pair has exactly one customised concept."
        )
    concept = own[0]
    if stranger is None and concept["concept"] not in names:
        raise ValueError(
            f"{where}: concept {concept['concept']!r} is not in the concept set"
            f" ({', '.join(sorted(names))})."
        )
    if stranger is not None:
        part = concept["context"] if kind == "R" else None
        concept = concept | {"concept": f"a {concept['context']}", "part": part}
    context = (
        "; ".join(str(source.get("name") or source.get("context")) for source in others) or None
    )
    meta = PairMeta(
        concept=concept["concept"],
        part=concept.get("part") or None,
        context=context,
        side=str(concept["side"]) if concept.get("side") is not None else None,
        stranger=stranger is not None,
    )
    group = line.get("group")
    if group is None:
        group = f"{context}|{meta.side}|{round(float(concept.get('scale') or 1.0), 1)}"
    x0, y0, x1, y1 = concept.get("box") or (0, 0, 0, 0)
    box = (int(x0), int(y0), int(x1), int(y1)) if concept.get("box") else None
    return Pair(
        file=folder / line["file"],
        caption=line["caption"],
        meta=meta,
        box=box,
        group=f"{kind}|{group}",
    )
