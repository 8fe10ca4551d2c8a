"""A run made of drawings: what the stages would publish if the model were the renderer.

With errors, and without any model. To look at a report, /tmp/demo/report.html:

    python tests/demo_run.py /tmp/demo
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from clif_exp.concepts.concept import ConceptImage
from clif_exp.contrastive.report import embedding_report
from clif_exp.evaluation.correlation import write_correlation
from clif_exp.evaluation.metrics import REDRAWN
from clif_exp.evaluation.references import held_out
from clif_exp.evaluation.results import write_results, write_thumbnails
from clif_exp.prompts.building import build_prompts
from clif_exp.prompts.evaluation import in_class_words
from clif_exp.prompts.sentences import divisible
from clif_exp.runs.composing import compose
from clif_exp.toonworld.cast import default_cast, write_cast
from demo_images import NAMES, publish_attention, publish_augmented, publish_images


def publish_distances(out: Path, *, names: Sequence[str]) -> None:
    stages = {}
    for step, label in enumerate(("before", "after stage 1", "after stage 2")):
        matrix = [
            [0.0 if a == b else 0.1 + 0.3 * step + 0.03 * abs(a - b) for b in range(len(names))]
            for a in range(len(names))
        ]
        mean = sum(map(sum, matrix)) / (len(names) * (len(names) - 1))
        stages[label] = {
            kind: {"mean": mean * scale, "min": 0.1, "matrix": matrix}
            for kind, scale in (("rows", 1), ("contextual", 0.7))
        }
    (out / "distances.json").write_text(json.dumps({"names": list(names), "stages": stages}))


def publish_tokens(out: Path, *, moved: float = 0.8) -> None:
    """What stage 1 writes, of rows that it pulled apart: by the real report, on made-up numbers."""
    generator = torch.Generator().manual_seed(0)
    table_VD = torch.randn(40, 16, generator=generator)
    rows: dict[str, dict[str, torch.Tensor]] = {"before": {}, "after": {}}
    for name in NAMES:
        rows["before"][name] = table_VD[[3, 3]]
        rows["after"][name] = table_VD[[3, 3]] + moved * torch.randn(2, 16, generator=generator)
    text = {
        when: {name: torch.nn.functional.normalize(r.mean(0), dim=-1) for name, r in named.items()}
        for when, named in rows.items()
    }
    report = embedding_report(
        rows, text=text, table_VD=table_VD, words={i: f"word{i}</w>" for i in range(40)}
    )
    shares = [[NAMES[0], NAMES[1], 0.25]]
    found = {
        "before": {"accuracy": 0.25, "chance": 0.25, "mistaken": []},
        "after": {"accuracy": 0.9, "chance": 0.25, "mistaken": shares},
    }
    report |= {"mistaken": found, "unread_change": 0.0, "loss": 1.2, "loss_frozen_rows": 2.5}
    (out / "embedding_report.json").write_text(json.dumps({"text_encoder": report}))


def publish_training(artifacts: dict[str, Path]) -> None:
    """Write the curves and samples of both training stages."""
    losses = [
        3.2 * math.exp(-step / 60) + 0.3 + 0.2 * math.sin(step * 7) ** 2 for step in range(250)
    ]
    (artifacts["contrastive"] / "metrics.csv").write_text(
        "step,loss,loss_frozen_rows,lr\n"
        + "".join(
            f"{step},{loss},{2.5 if step % 50 == 0 else ''},0.001\n"
            for step, loss in enumerate(losses)
        )
    )
    fixed = {step: 0.5 * math.exp(-step / 300) for step in range(0, 401, 100)}
    publish_tokens(artifacts["contrastive"])
    (artifacts["diffusion"] / "metrics.csv").write_text(
        "step,loss,validation_loss,lr\n"
        + "".join(
            f"{step},{0.4 + 0.2 * math.sin(step * 3) ** 2},{fixed.get(step, '')},0.001\n"
            for step in range(400)
        )
    )
    (artifacts["diffusion"] / "samples").mkdir()
    (artifacts["diffusion"] / "samples" / "prompts.txt").write_text(
        "".join(f"a photo of <{name}>\n" for name in NAMES)
    )
    for step in (0, 200, 400):
        Image.new("RGB", (128 * len(NAMES), 128), (step // 2, 90, 160)).save(
            artifacts["diffusion"] / "samples" / f"step_{step:06d}.png"
        )


def publish_pairs(artifacts: dict[str, Path]) -> None:
    """Write a few images of each kind of augmentation."""
    cast = default_cast()
    stranger = replace(cast["luna"], species="man", hat="none", hat_colour="none")
    publish_augmented(
        artifacts["augment_G"],
        "G",
        "a photo of <milo> on the left and a man on the right",
        [cast["milo"], stranger],
    )
    publish_augmented(
        artifacts["augment_R"],
        "R",
        "a photo of a jacket on the left and <otto>'s hat on the right",
        [stranger, cast["otto"]],
    )
    publish_augmented(
        artifacts["augment_M"],
        "M",
        "a photo of <milo> on the left and <luna> on the right",
        [cast["milo"], cast["luna"]],
    )


def summary_of(evaluation: Path) -> dict:
    """The `summary.json` of the run."""
    names = (
        "dataset",
        "segments",
        "augment_G",
        "augment_R",
        "augment_M",
        "contrastive",
        "diffusion",
        "generation",
        "evaluation",
    )
    stages = {
        name: {
            "fingerprint": f"{index:x}" * 64,
            "reused": index < 3,
            "seconds": 3.7 * index**2,
            "peak_memory_mb": 412.0 + 90 * index,
        }
        for index, name in enumerate(names)
    }
    return {
        "experiment": "clif",
        "method": "clif",
        "model": "toonworld",
        "dataset": "toonworld",
        "seed": 0,
        "status": "finished",
        "stages": stages,
        "metrics": json.loads((evaluation / "metrics.json").read_text()),
        "export": "export",
        "report": "report.html",
        "error": None,
    }


def publish_run(root: Path) -> tuple[dict, dict[str, Path]]:
    """Write all artifacts of the run below `root`; return its summary and the artifacts."""
    cast = default_cast()
    write_cast(root / "cast", size=4)
    truth = {name: cast[name].attributes() for name in NAMES}
    prompts = build_prompts(
        {name: cast[name].species for name in NAMES},
        settings=compose(
            "generation.prompts.pairs=4", "generation.prompts.single_per_concept=3"
        ).generation.prompts,
    )
    artifacts = {
        name: root / name
        for name in (
            "generation",
            "generation_prior",
            "generation_class_word",
            "generation_stage1",
            "generation_plain",
            "generation_regional",
            "evaluation",
            *("attention_class_word", "attention_stage1", "attention"),
            "contrastive",
            "diffusion",
            "augment_G",
            "augment_R",
            "augment_M",
        )
    }
    for folder in artifacts.values():
        folder.mkdir(parents=True, exist_ok=True)
    rows = publish_images(artifacts["generation"], prompts, truth=truth)
    single = [prompt for prompt in prompts if prompt.kind == "single"]
    others = {
        "prior_before": publish_images(
            artifacts["generation_prior"],
            [prompt for prompt in prompts if prompt.kind == "prior"],
            truth=truth,
        ),
        "class_word": publish_images(
            artifacts["generation_class_word"], in_class_words(single), truth=truth, strange=True
        ),
        "stage1": publish_images(artifacts["generation_stage1"], single, truth=truth),
        **{
            group: publish_images(
                artifacts[f"generation_{group}"], divisible(prompts, limit=3), truth=truth
            )
            for group in REDRAWN
        },
    }
    evaluation = artifacts["evaluation"]
    write_thumbnails(
        evaluation / "references",
        {
            name: [ConceptImage(file) for file in held_out(name, dataset_root=root / "cast")]
            for name in NAMES
        },
    )
    write_results(
        evaluation,
        rows,
        others,
        names=NAMES,
        truth=truth,
        thresholds={"presence": 0.5, "identity": 0.75},
    )
    publish_distances(evaluation, names=NAMES)
    write_correlation(evaluation)
    publish_attention(artifacts, prompts)
    publish_training(artifacts)
    publish_pairs(artifacts)
    return summary_of(evaluation), artifacts


if __name__ == "__main__":
    from clif_exp.evaluation.metrics import guide
    from clif_exp.reporting.stage import write_report

    target = Path(sys.argv[1])
    found, published = publish_run(target / "artifacts")
    write_report(
        target,
        summary=found,
        artifacts=published,
        guide=guide(),
        config_yaml="seed: 0\nmethod: {name: clif}\n",
    )
    print(target / "report.html")
