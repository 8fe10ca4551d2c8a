"""How MuDI's Detect-and-Compare score agrees with our own metrics, image by image.

python benchmarks/score_agreement.py artifacts --out experiments/score_agreement

Reads the finished ToonWorld evaluations of a store, with their images, and computes the score anew
(older evaluations lack it) from the figures that the oracle found, by the CLIP that judges
alignment. Writes rank correlations over all images of several concepts, and over those with the
right number of figures, where the score is not 0 by definition; and with references cropped to
their figure, which the published score compares whole. The store is not changed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from scipy.stats import spearmanr

from clif_exp.artifacts.files import content_digest, read_jsonl
from clif_exp.artifacts.provenance import git_commit, hardware
from clif_exp.base_models.spec import packaged_weights
from clif_exp.evaluation.alignment import Judge
from clif_exp.evaluation.detect_and_compare import compare_figures, square_crop
from clif_exp.evaluation.readers import OracleReader
from clif_exp.evaluation.references import held_out
from clif_exp.evaluation.scoring import open_image

OURS: dict[str, Callable[[dict[str, Any]], float]] = {
    "confusion": lambda judgement: float(judgement["confused"]),
    "intact": lambda judgement: len(judgement["intact"]) / len(judgement["named"]),
    "identity": lambda judgement: (
        sum(judgement["identity"].values()) / len(judgement["named"])  # a missing concept has none
    ),
    "leakage": lambda judgement: (
        sum(count for count, _ in judgement["leaks"].values())
        / max(1, sum(visible for _, visible in judgement["leaks"].values()))
    ),
    "attendance": lambda judgement: len(judgement["present"]) / len(judgement["named"]),
}


class References:
    """The features of each cast's references, as the score uses them or cropped to their figure."""

    def __init__(self, store: Path, *, cropped: bool) -> None:
        self.judge = Judge(packaged_weights() / "judge_clip")
        self.oracle = OracleReader(packaged_weights() / "oracle", min_score=0.0)
        self.cropped = cropped
        self.features: dict[tuple[Path, str], torch.Tensor] = {}
        self.casts: dict[str, Path] = {}
        for file in store.glob("dataset/*/truth.json"):
            self.casts[content_digest([file, file.parent / "held_out"])] = file.parent

    def of(self, cast: Path, name: str) -> torch.Tensor:
        """Return the features of one concept's references."""
        if (cast, name) not in self.features:
            images = [open_image(file) for file in held_out(name, dataset_root=cast)]
            if self.cropped:
                found = self.oracle.read(images)
                images = [
                    square_crop(image, max(figures, key=lambda figure: figure.score).box)
                    for image, figures in zip(images, found, strict=True)
                    if figures
                ]
            self.features[cast, name] = self.judge.embed_images(images)
        return self.features[cast, name]


def measure(store: Path, references: References) -> list[dict[str, Any]]:
    """Return an entry per image of several concepts: run, cast, score, ours, count right."""
    found: list[dict[str, Any]] = []
    for file in sorted(store.glob("evaluation/*/artifact.json")):
        inputs = json.loads(file.read_text())["inputs"]
        generation = store / "generation" / inputs["generation"]
        cast = references.casts.get(inputs["truth"])
        if cast is None or not generation.is_dir():
            continue
        lines = [
            line
            for line in read_jsonl(file.parent / "per_image.jsonl")
            if line["group"] == "multi" and "judgement" in line
        ]
        crops = [
            [square_crop(open_image(generation / line["file"]), f["box"]) for f in line["figures"]]
            for line in lines
        ]
        features = references.judge.embed_images([crop for each in crops for crop in each])
        seed = json.loads((cast / "artifact.json").read_text())["config"]["cast_seed"]
        for line, figures_FD in zip(lines, features.split([len(c) for c in crops]), strict=True):
            own = [references.of(cast, name) for name in line["concepts"]]
            found.append(
                {
                    "run": file.parent.name,
                    "cast": seed,
                    "score": compare_figures(figures_FD, own),
                    "counted": len(figures_FD) == len(own),
                    **{name: ours(line["judgement"]) for name, ours in OURS.items()},
                }
            )
    return found


def agreement(images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return Spearman's correlations of the score with ours, and how well it tells confusion."""
    scores = [image["score"] for image in images]
    correlations = {
        name: round(float(spearmanr(scores, [image[name] for image in images]).statistic), 3)
        for name in OURS
        if len({image[name] for image in images}) > 1
    }
    sound, confused = (
        torch.tensor([i["score"] for i in images if i["confusion"] == value]) for value in (0, 1)
    )
    wins = (sound[:, None] > confused).float() + 0.5 * (sound[:, None] == confused).float()
    return {
        "images": len(images),
        "spearman": correlations,
        "mean score": {
            "all": round(fmean(scores), 3),
            "not confused": round(float(sound.mean()), 3),
            "confused": round(float(confused.mean()), 3),
        },
        "higher for an image without confusion than for one with": round(float(wins.mean()), 3),
    }


def main() -> None:
    """Print the agreement, and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path, help="an artifacts.root with evaluated runs")
    parser.add_argument("--out", type=Path, help="folder for results.json")
    args = parser.parse_args()
    started = time.process_time()
    images = measure(args.store, References(args.store, cropped=False))
    cropped = measure(args.store, References(args.store, cropped=True))
    if not images:
        raise SystemExit(f"{args.store} holds no evaluation of ToonWorld with its images")
    by_run: dict[str, list[dict[str, Any]]] = defaultdict(list)
    by_cast: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for image in images:
        by_run[image["run"]].append(image)
        by_cast[image["cast"]].append(image)
    means = [
        (fmean(i["score"] for i in run), fmean(i["confusion"] for i in run))
        for run in by_run.values()
    ]
    result = {
        "all": agreement(images),
        "right number of figures": agreement([image for image in images if image["counted"]]),
        "references cropped to their figure": agreement(cropped),
        "by cast": {
            str(cast): agreement(found)
            for cast, found in sorted(by_cast.items(), key=lambda pair: str(pair[0]))
            if len({image["confusion"] for image in found}) > 1
        },
        "runs": {
            "number": len(means),
            "spearman of the runs' means": round(float(spearmanr(means).statistic), 3),
        },
        "seconds": round(time.process_time() - started, 1),
        "hardware": hardware(),
        "commit": git_commit(digits=7),
    }
    print(json.dumps(result, indent=1))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
