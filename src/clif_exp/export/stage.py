"""Writes what a user takes away from a run: files that diffusers, ComfyUI and A1111 load."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.concepts.concept import ConceptSet


def export_run(
    out: Path,
    *,
    spec: BaseModels,
    concepts: ConceptSet,
    diffusion: Path,
    config: Mapping[str, Any],
    sample: Path | None = None,
) -> None:
    """Export a trained model.

    Writes pytorch_lora_weights.safetensors and kohya.safetensors (both with alpha, and with the
    text encoders' LoRA if stage 1 trained one; neither for methods without a LoRA), text_encoder/
    (and text_encoder_2/) if stage 1 trained them whole, embeddings/<concept>.safetensors, README.md
    and, if given, sample.png.

    Args:
        out: folder, made if need be.
        spec: resolved base models.
        concepts: what was customised.
        diffusion: what stage 2 published.
        config: what made it, for the model card; plain dicts and scalars, no paths.
        sample: an image for the card, or None.

    Raises:
        ValueError: `diffusion` is not a published result of stage 2.
    """
    from safetensors.torch import save_file

    from clif_exp.base_models.tokens import load_concept_embeddings
    from clif_exp.export.card import model_card
    from clif_exp.export.files import kohya_metadata, read_lora, textual_inversion, to_kohya

    out = Path(out)
    (out / "embeddings").mkdir(parents=True, exist_ok=True)
    embeddings = load_concept_embeddings(diffusion / "concept_embeddings.safetensors")
    first = embeddings["text_encoder"]
    lora_file = diffusion / "pytorch_lora_weights.safetensors"
    if lora_file.is_file():
        shutil.copyfile(lora_file, out / lora_file.name)
        lora, metadata = read_lora(lora_file)
        alphas = {
            key.split(".")[0]: value
            for key, value in metadata.items()
            if key.endswith(".lora_alpha")
        }
        model = next(iter(alphas)) if "unet" not in alphas else "unet"
        header = kohya_metadata(
            rank=metadata[f"{model}.r"],
            alpha=alphas[model],
            base_model=Path(str(spec.path)).name,
            family=spec.family,
            triggers={f"<{n}>": n for n in first},
        )
        kohya = to_kohya(lora, alphas=alphas, two_encoders=spec.family == "sdxl")
        save_file(kohya, str(out / "kohya.safetensors"), metadata=header)
    encoders = export_text_encoders(out, spec=spec, diffusion=diffusion)
    for name in first:
        rows = {encoder: named[name] for encoder, named in embeddings.items()}
        save_file(
            textual_inversion(name, rows),
            str(out / "embeddings" / f"{name}.safetensors"),
            metadata={"format": "pt"},
        )
    if sample is not None:
        shutil.copyfile(sample, out / "sample.png")
    card = model_card(
        spec=spec,
        concepts=concepts,
        num_tokens={name: len(rows) for name, rows in first.items()},
        config=config,
        has_lora=lora_file.is_file(),
        encoders=encoders,
        sample=sample is not None,
    )
    (out / "README.md").write_text(card)
    for file in out.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors makes files that only their owner reads


def export_text_encoders(out: Path, *, spec: BaseModels, diffusion: Path) -> list[str]:
    """Write the text encoders that stage 1 trained whole, as folders that transformers and
    diffusers load.

    No LoRA file can carry them. Their token tables are the base model's: the concepts' rows are in
    embeddings/.

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
        trained = sorted({key.split(".")[0] for key in opened.keys()})
    encoders = {name: encoder for name, (_, encoder) in load_text_encoders(spec).items()}
    apply_text_tuning(diffusion, encoders)
    for name in trained:
        state = encoders[name].state_dict()
        # By this prefix tools know an encoder; transformers 5 writes a CLIPTextModel without it and
        # reads both.
        named = {
            key if key.startswith("text_") else f"text_model.{key}": value.contiguous()
            for key, value in state.items()
        }
        encoders[name].config.architectures = [type(encoders[name]).__name__]
        encoders[name].config.save_pretrained(out / name)
        save_file(named, str(out / name / "model.safetensors"), metadata={"format": "pt"})
    return trained
