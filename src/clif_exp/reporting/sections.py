"""What the sections of the page show, gathered from what the stages published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clif_exp.artifacts.files import read_jsonl
from clif_exp.reporting.images import Tile

Rows = list[tuple[str, list[Tile]]]
Guide = Sequence[Mapping[str, str]]
"""`name`, `title`, `arrow`, `better`, `range` and `meaning` of each metric, in a table's order."""

HEADLINES = (
    "multi/confusion",
    "multi/identity",
    "multi/leakage",
    "multi/attendance",
    "multi/attribute_binding",
    "single/identity",
)
"""The metrics at the top of the page."""

GROUP_TITLES = {
    "class_word": "class word",
    "stage1": "stage 1",
    "single": "one concept",
    "multi": "several concepts",
    "prior_before": "no concept, before",
    "prior": "no concept, after",
}
REDRAWN_TITLES = {"plain": ("this run", "plain"), "regional": ("plain", "by region")}
"""Images that were drawn again -> the titles of the run's own and of theirs."""
KIND_TITLES = {
    "G": "G: beside a general concept",
    "R": "R: its parts beside general parts",
    "M": "M: two concepts",
}


@dataclass(frozen=True)
class Judged:
    """A generated image: its manifest line, its line of `per_image.jsonl` (or {}), and its file."""

    line: Mapping[str, Any]
    verdict: Mapping[str, Any]
    file: Path

    @property
    def tile(self) -> Tile:
        """The image with its prompt and what was found in it."""
        judgement, prompt = self.verdict.get("judgement"), self.line["prompt"]
        if not judgement:
            return Tile(self.file, prompt)
        multi = self.line["kind"] == "multi"
        identity = judgement["identity"].values()
        notes = [
            f"identity {sum(identity) / len(identity):.2f}" if identity else "no figure assigned"
        ]
        missing = [name for name in self.line["concepts"] if name not in judgement["present"]]
        if missing:
            notes.append(f"missing: {', '.join(missing)}")
        if multi and (leaked := int(sum(shown for shown, _ in judgement["leaks"].values()))):
            notes.append(f"{leaked} leaked")
        if judgement["duplicates"]:
            notes.append(f"{judgement['duplicates']} too many")
        return Tile(
            self.file, prompt, " · ".join(notes), not judgement["confused"] if multi else None
        )


def _read_lines(file: Path) -> list[dict[str, Any]]:
    return read_jsonl(file) if file.exists() else []


def read_judged(
    generation: Path | None, evaluation: Path | None, *, group: str | None = None
) -> list[Judged]:
    """Read the generated images in the order of their manifest, with what evaluation found.

    Args:
        generation: a generation artifact, or None.
        evaluation: what evaluation published, or None.
        group: of the images in `per_image.jsonl`; None: the customised model's.
    """
    if generation is None:
        return []
    verdicts = {
        line["file"]: line
        for line in (_read_lines(evaluation / "per_image.jsonl") if evaluation else [])
        if line["group"] == (group or line["kind"])
    }
    lines = _read_lines(generation / "generations.jsonl")
    return [
        Judged(line, verdicts.get(line["file"], {}), generation / line["file"]) for line in lines
    ]


def single_rows(judged: Sequence[Judged], evaluation: Path | None, *, per_concept: int = 4) -> Rows:
    """One row per concept: two references, then the concept alone as generated."""
    rows: dict[str, list[Tile]] = {}
    for image in judged:
        if image.line["kind"] == "single":
            rows.setdefault(image.line["concepts"][0], []).append(image.tile)
    result = []
    for name, tiles in rows.items():
        files = sorted((evaluation / "references" / name).glob("*.png"))[:2] if evaluation else []
        result.append((name, [*[Tile(file, "reference") for file in files], *tiles[:per_concept]]))
    return result


def stage_1_rows(artifacts: Mapping[str, Path], *, per_set: int = 2) -> Rows:
    """One row per concept: the base model's images of its class word and of stage 1, references."""
    rows: dict[str, list[Tile]] = {}
    evaluation = artifacts.get("evaluation")
    for group in ("class_word", "stage1"):
        shown: dict[str, list[Tile]] = {}
        for image in read_judged(artifacts.get(f"generation_{group}"), evaluation, group=group):
            shown.setdefault(image.line["concepts"][0], []).append(image.tile)
        for name, tiles in shown.items():
            rows.setdefault(name, []).extend(tiles[:per_set])
    if evaluation:
        for name, tiles in rows.items():
            files = sorted((evaluation / "references" / name).glob("*.png"))[:per_set]
            tiles += [Tile(file, "reference") for file in files]
    return list(rows.items())


def pair_rows(judged: Sequence[Judged], *, per_pair: int = 5, limit: int = 12) -> Rows:
    """One row per pair of concepts."""
    rows: dict[str, list[Tile]] = {}
    for image in judged:
        if image.line["kind"] == "multi":
            seen = {"True": " (seen)", "False": " (unseen)"}.get(str(image.line.get("seen")), "")
            rows.setdefault(" + ".join(sorted(image.line["concepts"])) + seen, []).append(
                image.tile
            )
    return [(pair, tiles[:per_pair]) for pair, tiles in list(rows.items())[:limit]]


def redrawn_rows(
    judged: Sequence[Judged], artifacts: Mapping[str, Path], *, limit: int = 6
) -> Rows:
    """Prompts of several concepts: as they were generated, then drawn again."""
    drawn = {image.line["file"]: image.tile for image in judged}
    for group, titles in REDRAWN_TITLES.items():
        folder, evaluation = artifacts.get(f"generation_{group}"), artifacts.get("evaluation")
        again = {
            image.line["file"]: image.tile
            for image in read_judged(folder, evaluation, group=group)
            if image.line["file"] in drawn
        }
        if shown := list(again)[:limit]:
            tiles = [[images[file] for file in shown] for images in (drawn, again)]
            return list(zip(titles, tiles, strict=True))
    return []


def prior_rows(after: Path | None, before: Path | None, *, limit: int = 6) -> Rows:
    """Prompts without a concept: the base model's images, then the customised model's."""
    rows: Rows = []
    for label, folder in (("base model", before), ("customised", after)):
        lines = (
            [line for line in _read_lines(folder / "generations.jsonl") if line["kind"] == "prior"]
            if folder
            else []
        )
        tiles = (
            [Tile(folder / line["file"], line["prompt"]) for line in lines[:limit]]
            if folder
            else []
        )
        rows += [(label, tiles)] if tiles else []
    return rows


def augmented_rows(artifacts: Mapping[str, Path], *, limit: int = 6) -> Rows:
    """Images of the manifest, spread over it, one row per kind of augmentation."""
    rows: Rows = []
    for kind, title in KIND_TITLES.items():
        folder = artifacts.get(f"augment_{kind}")
        lines = _read_lines(folder / "manifest.jsonl") if folder else []
        if folder and lines:
            chosen = lines[:: max(1, len(lines) // limit)][:limit]
            rows.append((title, [Tile(folder / line["file"], line["caption"]) for line in chosen]))
    return rows


def facts(summary: Mapping[str, Any]) -> dict[str, str]:
    """What was run, for the head of the page."""
    # "curation" is the sum of other entries.
    stages = [stage for name, stage in (summary.get("stages") or {}).items() if name != "curation"]
    seconds = sum(stage.get("seconds") or 0 for stage in stages if not stage.get("reused"))
    reused = sum(bool(stage.get("reused")) for stage in stages)
    shown = {
        key: str(summary[key])
        for key in ("method", "model", "dataset", "seed", "status")
        if summary.get(key) is not None
    }
    return shown | (
        {"computed in": duration(seconds), "stages reused": f"{reused} of {len(stages)}"}
        if stages
        else {}
    )


def members(class_words: Mapping[str, str], *, limit: int = 8) -> str:
    """The concepts and their class words in one line, of which the first few are named."""
    named = [f"<{name}> {word}" for name, word in list(class_words.items())[:limit]]
    rest = len(class_words) - len(named)
    return ", ".join(named) + (f" and {rest} more" if rest else "")


def duration(seconds: float | None) -> str:
    """Return `42 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def number(value: float | None) -> str:
    """Return three decimals, or a dash without a value."""
    return "–" if value is None else f"{value:.3f}"


def headline_tiles(metrics: Mapping[str, float | None], guide: Guide) -> list[dict[str, str]]:
    """The few numbers at the top of the page; those that were not measured are left out."""
    known = {row["name"]: row for row in guide}
    tiles = []
    for name in HEADLINES:
        group, metric = name.split("/")
        if metrics.get(name) is not None and metric in known:
            value, group = number(metrics[name]), GROUP_TITLES[group]
            tiles.append({**known[metric], "value": value, "group": group})
    return tiles


def metric_tables(metrics: Mapping[str, float | None], guide: Guide) -> dict[str, Any]:
    """The tables of all metrics: `main` by group of images, `splits` by pair, layout and relation.

    Returns:
        Per table its `columns`, `rows` (`guide`, `values`) and `counts` of images; None for a table
        without values.
    """
    layouts = sorted({name.split("/")[1] for name in metrics if name.startswith("multi/layout_")})
    splits = {"multi/pairs_seen": "pairs seen", "multi/pairs_unseen": "pairs unseen"}
    splits |= {f"multi/{layout}": layout.removeprefix("layout_") for layout in layouts}
    found = {name.split("/")[1] for name in metrics if name.startswith("multi/interaction_")}
    splits |= {
        f"multi/{relation}": relation.removeprefix("interaction_").replace("_", " ")
        for relation in sorted(found)
    }
    return {
        "main": _table(metrics, guide, groups=GROUP_TITLES),
        "splits": _table(metrics, guide, groups=splits),
    }


def _table(
    metrics: Mapping[str, float | None], guide: Guide, *, groups: Mapping[str, str]
) -> dict[str, Any] | None:
    measured = {name.rpartition("/")[0] for name in metrics}
    columns = [group for group in groups if group in measured]
    rows = []
    for row in guide:
        values = [metrics.get(f"{group}/{row['name']}") for group in columns]
        if any(value is not None for value in values):
            rows.append({"guide": row, "values": [number(value) for value in values]})
    counts = [int(metrics.get(f"{group}/pictures") or 0) for group in columns]
    titles = [groups[group] for group in columns]
    return {"columns": titles, "rows": rows, "counts": counts} if rows else None


def training_strips(diffusion: Path | None) -> tuple[list[tuple[str, Path]], list[str]]:
    """The sample grids of stage 2 labelled by step, and the prompts of their columns."""
    folder = diffusion / "samples" if diffusion else None
    if folder is None or not (folder / "prompts.txt").is_file():
        return [], []
    strips = [
        (f"step {int(file.stem.split('_')[1])}", file) for file in sorted(folder.glob("step_*.png"))
    ]
    return strips, (folder / "prompts.txt").read_text().splitlines()


def stage_rows(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The stages of the run, and the time and memory that each took."""
    return [
        {
            "name": name,
            "state": "reused" if stage.get("reused") else "computed",
            "seconds": duration(stage.get("seconds")),
            "memory": f"{stage['peak_memory_mb']:,.0f} MB" if stage.get("peak_memory_mb") else "–",
            "fingerprint": str(stage.get("fingerprint") or "")[:12],
        }
        for name, stage in (summary.get("stages") or {}).items()
    ]
