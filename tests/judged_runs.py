"""Runs whose images nobody drew, judged as evaluation does it: for what is made from many runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from support import write_image

CONCEPTS = ("milo", "otto", "luna", "bolt")
PAIRS = [("milo", "otto"), ("milo", "luna"), ("luna", "bolt"), ("otto", "bolt")]


def a_run(root: Path, method: str, *, seed: int, intact: int, cast: int = 200) -> Path:
    """Write a run whose images of two layouts are judged; return its folder."""
    print_of = f"{method}{seed}-{cast}".encode().hex().ljust(64, "0")
    evaluation, generation = (
        root / "store/evaluation" / print_of,
        root / "store/generation" / print_of,
    )
    drawn = int(hashlib.sha256(print_of.encode()).hexdigest()[:8], 16)  # no two runs draw alike
    lines = []
    for layout in ("side", "free"):
        for pair in PAIRS:
            prompt = f"<{pair[0]}> {layout} <{pair[1]}>"
            file = write_image(generation / "images" / f"{layout}-{'-'.join(pair)}.png", seed=drawn)
            lines.append(
                {
                    "group": "multi",
                    "kind": "multi",
                    "file": f"images/{file.name}",
                    "prompt": prompt,
                    "seed": 0,
                    "layout": layout,
                    "concepts": list(pair),
                    "judgement": {
                        "intact": list(pair)[:intact],
                        "present": dict.fromkeys(pair, 0),
                        "leaks": {f"{pair[1]}>{pair[0]}": [int(intact < 2), 5]},
                    },
                }
            )
    text = "".join(json.dumps(line) + "\n" for line in lines)
    evaluation.mkdir(parents=True)
    (evaluation / "per_image.jsonl").write_text(text)
    (generation / "generations.jsonl").write_text(text)
    for name in CONCEPTS:
        write_image(evaluation / "references" / name / "0.png")
    folder = root / f"{method}-{cast}-{seed}"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(
        f"method: {{name: {method}}}\nseed: {seed}\n"
        f"dataset: {{name: toonworld, cast_seed: {cast}}}\nartifacts: {{root: store}}\n"
    )
    stages = {name: {"fingerprint": print_of} for name in ("evaluation", "generation")}
    summary = {
        "status": "finished",
        "seed": seed,
        "stages": stages,
        "metrics": {"multi/intact": 0.5},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder
