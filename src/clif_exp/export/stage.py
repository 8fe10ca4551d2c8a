"""Writes what a user takes away from a run: files that diffusers, ComfyUI and A1111 load."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.base_models.scheduler import prediction_of, scheduler_config
from clif_exp.base_models.spec import customised_weights, is_local, pipeline_folder
from clif_exp.base_models.tensor_files import save_tensors, weights_digest
from clif_exp.base_models.unet_tuning.kind import ExportFacts
from clif_exp.base_models.unet_tuning.registry import export_unet_tuning
from clif_exp.export.card import Origin, model_card, origin_of_run
from clif_exp.export.embeddings import (
    FOLDER,
    export_layerwise,
    stock_embeddings,
    textual_inversion,
)
from clif_exp.export.nearness import FAR
from clif_exp.export.record import Record
from clif_exp.export.tools import whole_words

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.base_models.unet_tuning.exported import Exported
    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.export.settings import ExportSettings

log = logging.getLogger(__name__)


def export_run(
    out: Path,
    *,
    spec: BaseModels,
    concepts: ConceptSet,
    diffusion: Path,
    config: Mapping[str, Any],
    sampling: Mapping[str, float],
    settings: ExportSettings,
    regional: float | None = None,
    trained: tuple[float, float] | None = None,
) -> None:
    """Export what a run has trained, see `write_export`.

    Args:
        out: folder, created if missing.
        spec: resolved base models.
        concepts: what was customised.
        diffusion: what stage 2 published.
        config: what made it, for the model card; plain dicts and scalars, no paths.
        sampling: `guidance_scale` and `num_inference_steps` of the run's own images.
        settings: what to write.
        regional: where each concept keeps to its part of the run's own images, by which weight.
        trained: when stage 2 began and ended, s since 1970 (UTC), if known.

    Raises:
        ValueError: `diffusion` is not a published result of stage 2.
    """
    write_export(
        out,
        spec=spec,
        concepts={concept.name: concept.class_word for concept in concepts.concepts},
        diffusion=diffusion,
        origin=origin_of_run(concepts, config, sampling=sampling, regional=regional),
        settings=settings,
        trained=trained,
    )


def write_export(
    out: Path,
    *,
    spec: BaseModels,
    concepts: Mapping[str, str],
    diffusion: Path,
    origin: Origin,
    settings: ExportSettings,
    trained: tuple[float, float] | None = None,
) -> None:
    """Export customised concepts.

    Writes what was trained in the U-Net (for diffusers: a LoRA, a Custom Diffusion file or a whole
    U-Net; for ComfyUI, A1111, Forge and kohya's scripts: a LoRA; with the text encoders' LoRA if
    stage 1 trained one), a folder per text encoder that was trained as a whole,
    embeddings/<concept>.safetensors and README.md.

    Args:
        out: folder, created if missing.
        spec: with a resolved pipeline.
        concepts: name -> class word.
        diffusion: what a training stage, or a merge, published.
        origin: what made it.
        settings: what to write.
        trained: when training began and ended, s since 1970 (UTC), if known.

    Raises:
        ValueError: `diffusion` is not a published result.
    """
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    embeddings = stock_embeddings(diffusion)
    num_tokens = {name: len(vectors) for name, vectors in embeddings["text_encoder"].items()}
    names = tuple(concepts)
    facts = ExportFacts(
        name=export_name(names, diffusion=diffusion),
        family=spec.record,
        base_model=spec.family if is_local(str(spec.path)) else str(spec.path),
        prediction=prediction_of(scheduler_config(spec)),
        resolution=spec.resolution,
        concepts=names,
        unet=pipeline_folder(spec) / "unet",
        lora_rank=settings.lora_rank,
        trained=trained,
    )
    parts = export_unet_tuning(diffusion, out, facts=facts) + export_layerwise(diffusion, out)
    encoders = export_text_encoders(out, spec=spec, diffusion=diffusion)
    for name in names:
        own = {encoder: vectors[name] for encoder, vectors in embeddings.items()}
        file = out / FOLDER / f"{name}.safetensors"
        save_tensors(textual_inversion(name, own, family=spec.record), file)
    record = Record(
        name=facts.name,
        family=spec.family,
        weights=customised_weights(spec)[:16],
        resolution=spec.resolution,
        method=origin.method,
        concepts=dict(concepts),
        regional=origin.regional,
    )
    card = model_card(
        spec=spec,
        record=record,
        origin=origin,
        facts=facts,
        num_tokens=num_tokens,
        parts=parts,
        encoders=encoders,
        common=_warn_of_common_words(names, spec=spec),
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    _warn_of_distance(parts)
    for file in out.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes files that only their owner can read


def export_name(concepts: Sequence[str], *, diffusion: Path) -> str:
    """Name an export after its concepts and weights: "milo_otto_and_2_more_1a2b3c4d".

    Tools list LoRAs by their file's name, so no two exports may share one. The run's own name can
    not be in it: runs of other names share the artifact.
    """
    shown = [name[:24] for name in concepts[: 3 if len(concepts) == 3 else 2]]
    left_out = len(concepts) - len(shown)
    more = [f"and_{left_out}_more"] if left_out else []
    return "_".join([*shown, *more, weights_digest(diffusion)[:8]])


def _warn_of_distance(parts: Sequence[Exported]) -> None:
    """Log where the file for ComfyUI and A1111 is far from what was trained."""
    for fit in (part.lora.fit for part in parts if part.lora is not None):
        if fit is not None and fit.error > FAR:
            log.warning(
                "export: the LoRA for ComfyUI and A1111 misses %.2f of what was trained (more than"
                " %.1f). Raise export.lora_rank=%d, or draw with diffusers.",
                fit.error,
                FAR,
                fit.rank,
            )


def _warn_of_common_words(names: Sequence[str], *, spec: BaseModels) -> list[str]:
    """Return the concepts whose names are words of the tokenizer, and log what that means."""
    from clif_exp.base_models.loading import load_tokenizer

    common = whole_words(load_tokenizer(spec), names)
    if common:
        log.warning(
            "export: %s: the base model knows this as a word, which the concept replaces in every"
            " prompt of A1111 and Forge. Rename the file in embeddings/ to keep the word there.",
            ", ".join(common),
        )
    return common


def export_text_encoders(out: Path, *, spec: BaseModels, diffusion: Path) -> list[str]:
    """Write the text encoders that stage 1 trained as a whole, which no LoRA file can carry.

    Each is a folder that transformers and diffusers load, with the base model's token table: the
    concept embeddings are in embeddings/.

    Returns:
        Names of the encoders written; none where stage 1 left the encoders' weights alone.
    """
    from safetensors import safe_open
    from safetensors.torch import save_file

    from clif_exp.base_models.loading import load_text_encoders
    from clif_exp.base_models.text_tuning import WEIGHTS_FILE, apply_text_tuning

    if not (diffusion / WEIGHTS_FILE).is_file():
        return []
    with safe_open(str(diffusion / WEIGHTS_FILE), framework="pt") as opened:
        keys = opened.keys()
    trained = sorted({key.split(".")[0] for key in keys})
    encoders = {name: encoder for name, (_, encoder) in load_text_encoders(spec).items()}
    apply_text_tuning(diffusion, encoders)
    for name in trained:
        state = encoders[name].state_dict()
        # Tools recognise an encoder by this prefix; transformers 5 writes a CLIPTextModel without
        # it and reads both.
        named = {
            key if key.startswith("text_") else f"text_model.{key}": value.contiguous()
            for key, value in state.items()
        }
        encoders[name].config.architectures = [type(encoders[name]).__name__]
        encoders[name].config.save_pretrained(out / name)
        save_file(named, str(out / name / "model.safetensors"), metadata={"format": "pt"})
    return trained
