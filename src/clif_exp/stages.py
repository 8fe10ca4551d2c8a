"""Each stage's wiring: the settings and inputs that its result depends on, and the call into its room.

Settings that change speed but no result (devices, workers, batch sizes of sampling and judging, paths, loggers) stay out of the
fingerprints. A room is imported only to compute: a stage's VERSION is read from its source, so that a run that reuses everything
loads no torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts import Artifact, process_rank
from clif_exp.run_directory import relative
from clif_exp.stages_contrastive import train_contrastive

if TYPE_CHECKING:
    from clif_exp.backbones import BackboneSpec
    from clif_exp.pipeline import Execution
    from clif_exp.prompts import EvaluationPrompt

KINDS = {"G": "global", "R": "region", "M": "mix"}
_PACKAGE = Path(__file__).parent
log = logging.getLogger("clif_exp")


def version_of(module: str) -> int:
    """Return the `VERSION` of a module of this package, by its path ("curation/stage.py"), without importing it."""
    match = re.search(r"^VERSION(?:: int)? = (\d+)", (_PACKAGE / module).read_text(), re.M)
    assert match is not None, f"{module} states no VERSION"
    return int(match[1])


# --- curation ---------------------------------------------------------------------------------------------------------


def curate(execution: Execution) -> None:
    """Segment, sample contexts, compose G, R and M pairs: five artifacts, so that an ablation only selects."""
    plan, version = execution.plan, version_of("curation/stage.py")
    config, device = plan.config, device_of(plan.config)

    def build(out: Path, *, helping: bool = False) -> None:
        _curation().segment_concepts(
            out, concepts=plan.concepts, spec=plan.spec, segmenter=config["segmenter"], captioner=config["captioner"],
            device=device, num_workers=config["num_workers"], helping=helping,
        )  # fmt: skip

    segments = execution.artifact(
        "segments",
        stage="curation",
        version=version,
        config={"segmenter": config["segmenter"], "captioner": config["captioner"]},
        inputs={"concepts": plan.concepts_fingerprint, "base": plan.base},
        build=build,
        help_build=partial(build, helping=True),
        work=sum(len(concept.images) for concept in plan.concepts.concepts),
        unit="pictures",
    )
    contexts = _contexts(execution, version)
    for kind in KINDS:
        _compose(execution, kind, version=version, segments=segments, contexts=contexts)
    execution.run.add_stage_of("curation", ["segments", "contexts", *(f"augment_{kind}" for kind in KINDS)])
    if segments is not None and execution.mode("curation") == "run" and process_rank() == 0:
        _curation_page(execution, segments=segments, contexts=contexts)


def _curation_page(execution: Execution, *, segments: Artifact, contexts: Artifact | None) -> None:
    """Put a page with sources, masks, part names and augmented pictures into the run's folder."""
    from clif_exp.curation.page import write_page

    manifests = {kind: execution.artifacts[f"augment_{kind}"].path for kind in KINDS if f"augment_{kind}" in execution.artifacts}
    page = execution.run.path / "curation.html"
    write_page(
        page, concepts=execution.plan.concepts, segments=segments.path, contexts=contexts.path if contexts else None, manifests=manifests
    )
    log.info("%-13s %s", "page", relative(page))


def _contexts(execution: Execution, version: int) -> Artifact | None:
    """General concepts and parts, sampled from the base model: the same for every concept set, seed and ablation."""
    plan = execution.plan
    settings = plan.config["augmentation"]["contexts"]
    kinds = [plan.config["augmentation"][name] for name in KINDS.values()]
    if not any(kind["num_pairs"] and (kind is not kinds[-1] or kind["canvas"] == "generated") for kind in kinds):
        return None

    def build(out: Path, *, helping: bool = False) -> None:
        segmenter, device = plan.config["segmenter"], device_of(plan.config)
        _curation().generate_contexts(out, spec=plan.spec, segmenter=segmenter, device=device, helping=helping, **settings)

    return execution.artifact(
        "contexts",
        stage="curation",
        version=version,
        config={"contexts": settings, "segmenter": plan.config["segmenter"]},
        inputs={"base": plan.base},
        build=build,
        help_build=partial(build, helping=True),
        work=round(settings["images_per_name"] * settings["oversampling"] * (len(settings["names"]) + len(settings["part_names"]))),
        unit="pictures",
    )


def _compose(execution: Execution, kind: str, *, version: int, segments: Artifact | None, contexts: Artifact | None) -> None:
    """One kind of augmentation; none where the config asks for no pairs."""
    plan = execution.plan
    settings = plan.config["augmentation"][KINDS[kind]]
    if not settings["num_pairs"] or segments is None or (kind == "M" and len(plan.concepts.concepts) < 2):
        return
    # Mixed pairs on white need no contexts, and so do not wait for them.
    needed = contexts if kind != "M" or settings["canvas"] == "generated" else None
    inputs = {"segments": segments.fingerprint} | ({"contexts": needed.fingerprint} if needed else {})
    seed = plan.config["augmentation"]["seed"]

    def build(out: Path, *, helping: bool = False) -> None:
        _curation().compose_pairs(
            out, kind=kind, segments=segments.path, contexts=needed.path if needed else None,
            settings=settings, seed=seed, num_workers=plan.config["num_workers"], helping=helping,
        )  # fmt: skip

    execution.artifact(
        f"augment_{kind}",
        stage="curation",
        version=version,
        config={"settings": settings, "seed": seed, "resolution": plan.spec.resolution},
        inputs=inputs,
        build=build,
        help_build=partial(build, helping=True),
        work=settings["num_pairs"],
        unit="pairs",
    )


def _curation() -> Any:
    from clif_exp.curation import stage

    return stage


# --- training ---------------------------------------------------------------------------------------------------------


def train(execution: Execution) -> None:
    """Stage 1 and stage 2, as far as the method has them; their curves go to the run's metrics.csv and the trackers."""
    config = execution.plan.config
    contrastive = train_contrastive(execution, numerics=_numerics(config), trainer=lambda: _trainer(config), version_of=version_of)
    _train_diffusion(execution, contrastive)
    trained = ("contrastive", "reconstruction", "diffusion")
    curves = {name: artifact.path / "metrics.csv" for name, artifact in execution.artifacts.items() if name in trained}
    execution.run.write_curves(curves)
    for name, file in curves.items():
        execution.trackers.log_curve(name, file)


def _train_diffusion(execution: Execution, contrastive: Artifact | None) -> Artifact | None:
    plan = execution.plan
    settings = plan.config["diffusion"]
    # Bit for bit the same with and without: a run that was out of memory goes on with it.
    relevant = {key: value for key, value in settings.items() if key != "gradient_checkpointing"}
    inputs = {"concepts": plan.concepts_fingerprint, "base": plan.base}
    reads = {"manifest": execution.artifacts.get("augment_M"), "segments": execution.artifacts.get("segments"), "embeddings": contrastive}
    inputs |= {name: artifact.fingerprint for name, artifact in reads.items() if artifact is not None}

    def build(out: Path) -> None:
        from clif_exp.diffusion.stage import train_diffusion

        paths: dict[str, Any] = {name: artifact.path if artifact else None for name, artifact in reads.items()}
        if contrastive is not None:
            paths["embeddings"] = contrastive.path / "concept_embeddings.safetensors"
        train_diffusion(
            out, spec=plan.spec, concepts=plan.concepts, seed=plan.config["seed"], trainer=_trainer(plan.config), **paths, **settings
        )

    return execution.artifact(
        "diffusion",
        stage="diffusion",
        version=version_of("diffusion/stage.py"),
        config={"settings": relevant, "seed": plan.config["seed"], "hardware": _numerics(plan.config)},
        inputs=inputs,
        build=build,
        work=max(settings["steps"], 1),
        unit="steps",
        collective=True,
    )


def _trainer(config: Mapping[str, Any]) -> Any:
    from clif_exp.trainer import TrainerSettings

    return TrainerSettings(**config["trainer"], num_workers=config["num_workers"], progress=config["callbacks"]["progress"])


def _numerics(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of the trainer changes results: the precision, and over how many ranks a batch is split."""
    return {"precision": config["trainer"]["precision"], "ranks": config["trainer"]["devices"] * config["trainer"]["num_nodes"]}


def device_of(config: Mapping[str, Any]) -> str:
    """The torch device for everything outside the training loops."""
    accelerator = config["trainer"]["accelerator"]
    if accelerator == "auto":
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if accelerator in ("gpu", "cuda") else "cpu"


def use_own_device(config: Mapping[str, Any]) -> None:
    """Make "cuda" mean this rank's own GPU, outside the training loops too."""
    local = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID"))
    if local is not None and device_of(config) == "cuda":
        import torch

        torch.cuda.set_device(int(local))


# --- what comes after -------------------------------------------------------------------------------------------------


def export(execution: Execution) -> None:
    """Put the files that other tools load into the run's folder."""
    plan, diffusion = execution.plan, execution.artifacts.get("diffusion")
    if diffusion is None:
        return
    facts = {key: plan.config[key] for key in ("seed", "contrastive", "diffusion", "method")}
    facts |= {"model": plan.config["model"]["family"]}

    def build(out: Path) -> None:
        from clif_exp.export.stage import export_run

        export_run(out, spec=plan.spec, concepts=plan.concepts, diffusion=diffusion.path, config=facts, sample=None)

    artifact = execution.artifact(
        "export", stage="diffusion", version=version_of("export/stage.py"), config=facts,
        inputs={"diffusion": diffusion.fingerprint}, build=build,
    )  # fmt: skip
    assert artifact is not None
    execution.run.publish("export", artifact.path)


def generate(execution: Execution) -> None:
    """Sample the evaluation prompts, and the prior prompts from the untouched base model (shared by all its runs)."""
    plan, diffusion = execution.plan, execution.artifacts.get("diffusion")
    settings = {key: value for key, value in plan.config["generation"].items() if key != "prompts"}
    prior = [prompt for prompt in plan.prompts if prompt.kind == "prior"]
    for name, model, prompts in (("generation_prior", None, prior), ("generation", diffusion, plan.prompts)):
        if prompts and (model is not None or name == "generation_prior"):
            _sample(execution, name, model=model, prompts=prompts, settings=settings)


def _sample(execution: Execution, name: str, *, model: Artifact | None, prompts: list[EvaluationPrompt], settings: dict[str, Any]) -> None:
    plan = execution.plan

    def build(out: Path, *, helping: bool = False) -> None:
        from clif_exp.generation.stage import generate as sample

        path = model.path if model else None
        sample(out, spec=plan.spec, diffusion=path, prompts=prompts, device=device_of(plan.config), helping=helping, **settings)

    described = [json.loads(json.dumps(prompt.to_json())) for prompt in prompts]
    execution.artifact(
        name,
        stage="generation",
        version=version_of("generation/stage.py"),
        config={"prompts": described, **{key: value for key, value in settings.items() if key != "batch_size"}},
        inputs={"base": plan.base} | ({"diffusion": model.fingerprint} if model else {}),
        build=build,
        help_build=partial(build, helping=True),
        work=len(prompts) * len(settings["seeds"]),
        unit="pictures",
    )


def evaluate(execution: Execution) -> None:
    """Judge the pictures; the metrics go into summary.json."""
    plan, made = execution.plan, execution.artifacts
    if "generation" not in made:
        return
    settings = plan.config["evaluation"]
    reads = {name: made[name] for name in ("generation", "generation_prior", "contrastive", "diffusion") if name in made}

    paths = {name: artifact.path for name, artifact in reads.items()}

    def build(out: Path, *, helping: bool = False) -> None:
        from clif_exp.evaluation.stage import evaluate as judge

        judge(
            out, generations=paths["generation"], concepts=plan.concepts, dataset_root=plan.root, spec=plan.spec,
            prior_before=paths.get("generation_prior"), contrastive=paths.get("contrastive"), diffusion=paths.get("diffusion"),
            device=device_of(plan.config), helping=helping, **settings,
        )  # fmt: skip

    artifact = execution.artifact(
        "evaluation",
        stage="evaluation",
        version=version_of("evaluation/stage.py"),
        config={key: value for key, value in settings.items() if key != "batch_size"},
        inputs={name: artifact.fingerprint for name, artifact in reads.items()}
        | {"concepts": plan.concepts_fingerprint, "truth": _content([plan.root / "truth.json", plan.root / "held_out"])}
        | {"judges": _content(_judges(plan.spec, settings))},
        build=build,
        help_build=partial(build, helping=True),
        work=len(plan.prompts) * len(plan.config["generation"]["seeds"]),
        unit="pictures",
    )
    if artifact is not None:
        execution.run.add_metrics(json.loads((artifact.path / "metrics.json").read_text()))


def _judges(spec: BackboneSpec, settings: Mapping[str, Any]) -> list[Path]:
    """Local folders of the judging models: named ones, else those beside the base models, else the packaged ones."""
    from clif_exp.backbones import packaged_weights

    folders = [Path(str(value)) for group in settings.values() if isinstance(group, Mapping) for value in group.values() if value]
    for name in ("judge_clip", "oracle"):
        beside = Path(str(spec.path)).expanduser().resolve().parent / name
        folders.append(beside if beside.is_dir() else packaged_weights() / name)
    return [folder for folder in folders if folder.is_dir()]


def _content(paths: list[Path]) -> str:
    """SHA-256 over the files at or below some paths: their names below them and their content."""
    digest = hashlib.sha256()
    for root in paths:
        files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
        for file in files:
            digest.update(f"{root.name}/{file.relative_to(root).as_posix()}\n".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def report(execution: Execution, config_yaml: str) -> None:
    """Write report.html and the sample grids."""
    if "report" not in execution.plan.config["stages"]:
        return
    from clif_exp.reporting.stage import write_report

    run = execution.run
    paths = {name: artifact.path for name, artifact in execution.artifacts.items()}
    # The page is the last thing a run makes: when somebody reads it, the run has finished.
    summary = {**run.summary, "status": "finished", "error": None}
    write_report(run.path, summary=summary, artifacts=paths, config_yaml=config_yaml, loggers=execution.trackers.loggers)
    run.note("report", run.path / "report.html")
