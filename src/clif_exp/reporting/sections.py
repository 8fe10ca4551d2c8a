"""What the sections of the page show, gathered from what the stages published."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clif_exp.reporting import plots
from clif_exp.reporting.images import Tile
from clif_exp.reporting.metric_guide import GUIDE, HEADLINES, HIGHER

Rows = list[tuple[str, list[Tile]]]
KIND_TITLES = {
    "G": "G: beside a general concept",
    "R": "R: its parts beside general parts",
    "M": "M: two concepts",
}


@dataclass(frozen=True)
class Judged:
    """A generated image's manifest line, its line of `per_image.jsonl` (or an empty one), and its
    file.
    """

    line: Mapping[str, Any]
    verdict: Mapping[str, Any]
    file: Path

    @property
    def tile(self) -> Tile:
        judgement = self.verdict.get("judgement")
        if not judgement:
            return Tile(self.file, self.line["prompt"])
        identity = judgement["identity"].values()
        share = (
            f"identity {sum(identity) / len(identity):.2f}" if identity else "no figure assigned"
        )
        missing = [name for name in self.line["concepts"] if name not in judgement["present"]]
        notes = [share, *([f"missing: {', '.join(missing)}"] if missing else [])]
        leaked = (
            int(sum(shown for shown, _ in judgement["leaks"].values()))
            if self.line["kind"] == "multi"
            else 0
        )
        notes += [f"{leaked} leaked"] * bool(leaked) + [
            f"{judgement['duplicates']} too many"
        ] * bool(judgement["duplicates"])
        return Tile(
            self.file,
            self.line["prompt"],
            " · ".join(notes),
            not judgement["confused"] if self.line["kind"] == "multi" else None,
        )


def _read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def read_judged(generation: Path | None, evaluation: Path | None) -> list[Judged]:
    """Read the generated images in the order of their manifest, each with what the evaluation
    found.
    """
    if generation is None:
        return []
    verdicts = (
        {line["file"]: line for line in reversed(_read_lines(evaluation / "per_image.jsonl"))}
        if evaluation
        else {}
    )
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


def prior_rows(after: Path | None, before: Path | None, *, limit: int = 6) -> Rows:
    """Prompts without a concept: the base model above, the customised model below, the same noise."""
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
    stages = [
        stage for name, stage in (summary.get("stages") or {}).items() if name != "curation"
    ]  # the sum of others
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


def duration(seconds: float | None) -> str:
    """Return `42 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def headline_tiles(metrics: Mapping[str, float | None]) -> list[dict[str, str]]:
    """The few numbers that answer the run's question."""
    tiles = []
    for name in HEADLINES:
        if metrics.get(name) is not None:
            group, metric = name.split("/")
            guide = GUIDE[metric]
            better = "higher is better" if guide.better == HIGHER else "lower is better"
            among = {"single": "one concept", "multi": "several concepts"}[group]
            tiles.append(
                {
                    "value": number(metrics[name]),
                    "title": guide.title,
                    "group": among,
                    "arrow": guide.better,
                    "better": better,
                }
            )
    return tiles


def metric_tables(metrics: Mapping[str, float | None]) -> dict[str, Any]:
    """The table of all metrics: rows in the guide's order, and one column per group of images
    that was measured.
    """

    def table(groups: Mapping[str, str]) -> dict[str, Any] | None:
        columns = {
            group: title
            for group, title in groups.items()
            if any(name.rpartition("/")[0] == group for name in metrics)
        }
        rows = []
        for metric, guide in GUIDE.items():
            values = [metrics.get(f"{group}/{metric}") for group in columns]
            if any(value is not None for value in values):
                rows.append({"guide": guide, "values": [number(value) for value in values]})
        counts = [int(metrics.get(f"{group}/pictures") or 0) for group in columns]
        return {"columns": list(columns.values()), "rows": rows, "counts": counts} if rows else None

    layouts = sorted({name.split("/")[1] for name in metrics if name.startswith("multi/layout_")})
    return {
        "main": table(
            {
                "single": "one concept",
                "multi": "several",
                "prior_before": "no concept, before",
                "prior": "no concept, after",
            }
        ),
        "splits": table(
            {"multi/pairs_seen": "pairs seen", "multi/pairs_unseen": "pairs unseen"}
            | {f"multi/{layout}": layout.removeprefix("layout_") for layout in layouts}
        ),
    }


def confusion_plots(matrices: Mapping[str, Any]) -> list[dict[str, str]]:
    """The confusion matrix of the pairs, and attendance per concept."""
    found: list[dict[str, str]] = []
    if multi := matrices.get("multi"):
        uri = plots.plot_matrix(
            multi["nearest"],
            row_names=multi["names"],
            column_names=[*multi["names"], "missing"],
            title="Confusion matrix, several concepts",
            x_label="looks most like",
            y_label="asked for",
        )
        found.append(
            {
                "uri": uri,
                "caption": (
                    "Which concept each figure of a pair agrees with most. A clean run is a"
                    " diagonal; ties are split."
                ),
            }
        )
    there: dict[str, dict[str, float]] = {}
    for kind, label in (("single", "alone"), ("multi", "in pairs")):
        for name, value in (matrices.get(kind) or {}).get("attendance", {}).items():
            there.setdefault(name, {})[label] = value
    if there:
        uri = plots.plot_bars(
            there, title="Attendance per concept", x_label="share of images that show it"
        )
        found.append(
            {
                "uri": uri,
                "caption": "How often each concept is there when its name is in the prompt.",
            }
        )
    return found


def distance_plots(
    distances: Mapping[str, Any] | None, matrices: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Embedding distances before and after each stage, and against the confusion of each pair."""
    if not distances or len(distances["names"]) < 2:
        return []
    titles = {
        "rows": "token rows",
        "contextual": "contextual tokens",
        "keys_values": "U-Net keys and values",
    }
    bars = {
        titles[kind]: {
            label: stage[kind]["mean"]
            for label, stage in distances["stages"].items()
            if kind in stage
        }
        for kind in titles
        if any(kind in stage for stage in distances["stages"].values())
    }
    found = [
        {
            "uri": plots.plot_bars(
                bars, title="Distance between concepts", x_label="mean cosine distance over pairs"
            ),
            "caption": "Before training, concepts of one class word lie on top of each other.",
        }
    ]
    pairs = (matrices.get("multi") or {}).get("pairs") or {}
    if pairs:
        last, index = (
            list(distances["stages"].values())[-1],
            {name: place for place, name in enumerate(distances["names"])},
        )
        x = [
            last["contextual"]["matrix"][index[a]][index[b]]
            for a, b in (pair.split("|") for pair in pairs)
        ]
        uri = plots.plot_points(
            x,
            [pair["leaked"] for pair in pairs.values()],
            [pair.replace("|", " + ") for pair in pairs],
            title="Distance against leakage, per pair",
            x_label="cosine distance of contextual tokens after training",
            y_label="share of differing attributes leaked",
        )
        found.append(
            {
                "uri": uri,
                "caption": "Each point is a pair of concepts (the question of the paper's Fig. 2).",
            }
        )
    return found


def loss_plots(artifacts: Mapping[str, Path]) -> list[dict[str, str]]:
    """The loss of both training stages."""
    texts = {
        "contrastive": (
            "Stage 1: contrastive loss",
            "Where the loss with frozen rows falls too, context alone explains the pairs.",
        ),
        "reconstruction": (
            "Stage 1: reconstruction loss",
            "The rows of all encoders, by denoising the reference images.",
        ),
        "diffusion": (
            "Stage 2: denoising loss",
            (
                "Noisy by nature: the noise level changes with every step. The validation loss is"
                " at fixed images, noise and timesteps."
            ),
        ),
    }
    found = []
    for name, (title, caption) in texts.items():
        file = artifacts[name] / "metrics.csv" if name in artifacts else None
        if file is not None and file.exists() and (curves := plots.read_curves(file)):
            found.append({"uri": plots.plot_curves(curves, title=title), "caption": caption})
    return found


def training_strips(diffusion: Path | None) -> tuple[list[tuple[str, Path]], list[str]]:
    """The sample grids that stage 2 drew on its way, labelled by step, and the prompts of their
    columns.
    """
    folder = diffusion / "samples" if diffusion else None
    if folder is None or not (folder / "prompts.txt").is_file():
        return [], []
    strips = [
        (f"step {int(file.stem.split('_')[1])}", file) for file in sorted(folder.glob("step_*.png"))
    ]
    return strips, (folder / "prompts.txt").read_text().splitlines()


def stage_rows(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The stages of the run with what they cost."""
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
