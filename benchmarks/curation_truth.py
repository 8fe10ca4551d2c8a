"""What curation gets right on ToonWorld, judged by the renderer's masks, which it never sees.

python benchmarks/curation_truth.py --out experiments/curation [model.path=FOLDER ...]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clif_exp.artifacts.provenance import git_commit, hardware
from clif_exp.toonworld.cast import cast, default_cast, part_nouns, reference_scenes
from clif_exp.toonworld.drawing.render import Rendering, render
from clif_exp.toonworld.world import PARTS, SLOTS, Character

BARS = {
    "concept_miou": ">= 0.90",
    "parts_right": ">= 0.85",
    "parts_wrong": "<= 0.03",
    "captions_true": ">= 0.99",
}
SMALLEST_PART = 0.02  # share of the figure; over_segmentation.min_area
PART_OF_NOUN = {"hat": "hat"} | {
    noun: slot for slot in ("top", "bottom", "accessory") for noun in SLOTS[slot]
}


def curate(folder: Path, overrides: list[str]) -> tuple[dict[str, Path], dict[str, float]]:
    """Run the real curation stage; returns its artifacts by name, and their seconds."""
    store = folder / "artifacts"
    command = [
        sys.executable,
        "-m",
        "clif_exp",
        "stages=[curation]",
        "segmenter=sam_toonworld",
        "dataset.size=18",
    ]
    command += [f"hydra.run.dir={folder / 'run'}", f"artifacts.root={store}", *overrides]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    stages = json.loads((folder / "run" / "summary.json").read_text())["stages"]
    found = {
        name: store / name / facts["fingerprint"]
        for name, facts in stages.items()
        if name != "curation"
    }
    return found, {name: round(facts["seconds"], 1) for name, facts in stages.items()}


def lines_of(file: Path) -> list[dict[str, Any]]:
    """Read a JSON-lines file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def mask(file: Path) -> np.ndarray:
    """Read a grey PNG as bool."""
    return np.asarray(Image.open(file)) > 127


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection over union."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def true_part(rendering: Rendering, noun: str) -> np.ndarray:
    """Return where the part that a noun names is visible, bool [H, W]."""
    return rendering.labels == 1 + PARTS.index(PART_OF_NOUN[noun])


def judge_segments(
    folder: Path, truth: dict[tuple[str, int], Rendering], members: dict[str, Character]
) -> tuple[dict[str, Any], dict[str, bool]]:
    """Judge wholes and named parts.

    A named part is right if more than half of its region is the part it is named after. Shares are
    of all listed parts that are to be seen (at least 2 % of their figure); the rest stayed unnamed.

    Returns:
        The measures, and for each cut-out whether it shows what it is said to show.
    """
    shown: dict[str, bool] = {}
    ious, part_ious, mistakes, by_noun = [], [], Counter(), defaultdict(Counter)
    for (name, _), rendering in truth.items():
        for noun in part_nouns(members[name]):
            if true_part(rendering, noun).sum() >= SMALLEST_PART * rendering.mask(0).sum():
                by_noun[noun]["there"] += 1
    for line in lines_of(folder / "segments.jsonl"):
        rendering, found = truth[line["concept"], line["image"]], mask(folder / line["mask"])
        if line["kind"] == "whole":
            ious.append(overlap(found, rendering.mask(0)))
            shown[line["cutout"]] = ious[-1] >= 0.5
        elif line["part"] is not None:
            part = true_part(rendering, line["part"])
            right = bool((found & part).sum() > 0.5 * found.sum())
            shown[line["cutout"]] = right
            by_noun[line["part"]]["right" if right else "wrong"] += 1
            part_ious.append(overlap(found, part))
            if not right:
                labels = np.bincount(rendering.labels[found], minlength=len(PARTS) + 1)[
                    : len(PARTS) + 1
                ]
                mistakes[
                    f"{('background', *PARTS)[int(labels.argmax())]} called {line['part']}"
                ] += 1
    total = {
        key: sum(counts[key] for counts in by_noun.values()) for key in ("there", "right", "wrong")
    }
    return {
        "concept_miou": round(float(np.mean(ious)), 4),
        "concepts_missed": sum(iou < 0.5 for iou in ious),
        "pictures": len(ious),
        "parts_there": total["there"],
        "parts_right": round(total["right"] / total["there"], 4),
        "parts_wrong": round(total["wrong"] / total["there"], 4),
        "named_parts_miou": round(float(np.mean(part_ious)), 4) if part_ious else None,
        "by_noun": {noun: dict(counts) for noun, counts in sorted(by_noun.items())},
        "mistakes": dict(mistakes.most_common(8)),
    }, shown


def caption_is_true(line: dict[str, Any], folder: Path, shown: dict[str, bool]) -> bool:
    """Tell whether an image shows what its caption says: who, which part, how many, where.

    Concepts and their parts by the renderer's masks; general concepts, which no renderer has drawn,
    by place and number only. A named background is not judged.
    """
    sources = line["sources"]
    boxes, masks = [source["box"] for source in sources], []
    for source in sources:
        masks.append(mask(folder / source["mask"]))
        if source["root"] == "segments" and not shown[source["source"]]:
            return False
    # Names by place in the caption; one that stands twice is found twice.
    text, said = line["caption"], []
    for source in sorted(sources, key=lambda source: text.find(source["name"])):
        start = text.find(source["name"], said[-1][0] + 1 if said else 0)
        if start < 0:
            return False
        said.append((start, source["name"]))
    if not all(found.any() for found in masks):
        return False
    relation = text[said[0][0] + len(said[0][1]) : said[-1][0]]
    in_order = [sources[index]["name"] for index in _by_place(masks, axis=0)]
    if " on the left and " in relation or text.endswith(" in a row"):
        return [name for _, name in said] == in_order
    if " above " in relation:
        return [name for _, name in said] == [
            sources[index]["name"] for index in _by_place(masks, axis=1)
        ]
    if " behind " in relation or " in front of " in relation:
        front = said[" behind " in relation][1]
        covered = [_covered(found, box) for found, box in zip(masks, boxes, strict=True)]
        return sources[int(np.argmin(covered))]["name"] == front
    hugging = " hugging" in relation or " hugging" in text[said[-1][0] :]
    return not hugging or (boxes[0][0] < boxes[1][2] and boxes[1][0] < boxes[0][2])


def _by_place(masks: list[np.ndarray], *, axis: int) -> list[int]:
    """Return the masks' order from the left (axis 0) or from above (axis 1)."""
    middles = [np.flatnonzero(found.any(axis=axis)).mean() for found in masks]
    return np.argsort(middles, kind="stable").tolist()


def _covered(found: np.ndarray, box: list[int]) -> float:
    """Return the share of a box's border at which its figure cannot be seen.

    A cut-out touches all four sides of its box; what another figure covers does not.
    """
    left, top, right, bottom = box
    inside = found[top:bottom, left:right]
    edges = (inside[:, 0], inside[:, -1], inside[0], inside[-1])
    return float(np.mean([not edge.any() for edge in edges]) + 1 / (1 + inside.sum()))


def main() -> None:
    """Curate, judge, and print the measures next to their bars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for truth.json")
    parser.add_argument(
        "--work",
        type=Path,
        help="folder to keep the artifacts in, for a next run; else a temporary one",
    )
    parser.add_argument(
        "--cast-seed", type=int, help="of another cast than the default one, to tune settings on"
    )
    parser.add_argument(
        "overrides", nargs="*", help="of the config, such as captioner.naming.threshold=0.5"
    )
    args = parser.parse_args()
    members, seed = (
        (default_cast(), 0) if args.cast_seed is None else (cast(args.cast_seed), args.cast_seed)
    )
    truth = {
        (name, i): render(scene)
        for name, who in members.items()
        for i, scene in enumerate(reference_scenes(name, who, seed))
    }
    if args.cast_seed is not None:
        args.overrides = [*args.overrides, f"dataset.cast_seed={args.cast_seed}"]
    with tempfile.TemporaryDirectory() as folder:
        artifacts, seconds = curate((args.work or Path(folder)).absolute(), args.overrides)
        result, shown = judge_segments(artifacts["segments"], truth, members)
        captions = {}
        for name in [name for name in artifacts if name.startswith("augment_")]:
            lines = lines_of(artifacts[name] / "manifest.jsonl")
            captions[name[-1]] = [caption_is_true(line, artifacts[name], shown) for line in lines]
    everything = [one for group in captions.values() for one in group]
    result["captions_true"] = round(float(np.mean(everything)), 4) if everything else None
    result |= {
        f"captions_true_{kind}": round(float(np.mean(group)), 4) for kind, group in captions.items()
    }
    for key, bar in BARS.items():
        print(f"{key:14s} {result[key]} (bar {bar})")
    print(json.dumps(result))
    facts = {
        "overrides": args.overrides,
        "hardware": hardware(),
        "commit": git_commit(digits=7),
        "seconds": seconds,
        "bars": BARS,
    }
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "truth.json").write_text(
            json.dumps(facts | {"measures": result}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
