"""Writes what a user takes away from a run: files that diffusers, ComfyUI and A1111 load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.base_models.tokens import EMBEDDINGS_FILE, load_concept_embeddings
from clif_exp.base_models.unet_tuning.kind import ExportFacts
from clif_exp.base_models.unet_tuning.registry import export_unet_tuning
from clif_exp.export.card import model_card
from clif_exp.export.embeddings import FOLDER, textual_inversion

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
) -> None:
    """Export a trained model.

    Writes what was trained in the U-Net (a LoRA for diffusers and for kohya's tools, both with the
    text encoders' LoRA if stage 1 trained one), a folder per text encoder that stage 1 trained as a
    whole, embeddings/<concept>.safetensors and README.md.

    Args:
        out: folder, created if missing.
        spec: resolved base models.
        concepts: what was customised.
        diffusion: what stage 2 published.
        config: what made it, for the model card; plain dicts and scalars, no paths.

    Raises:
        ValueError: `diffusion` is not a published result of stage 2.
    """
    from safetensors.torch import save_file

    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    embeddings = load_concept_embeddings(diffusion / EMBEDDINGS_FILE)
    num_tokens = {name: len(vectors) for name, vectors in embeddings["text_encoder"].items()}
    facts = ExportFacts(
        family=spec.record,
        base_model=Path(str(spec.path)).name,
        triggers=tuple(f"<{name}>" for name in num_tokens),
    )
    unet_code = export_unet_tuning(diffusion, out, facts=facts)
    encoders = export_text_encoders(out, spec=spec, diffusion=diffusion)
    for name in num_tokens:
        own = {encoder: vectors[name] for encoder, vectors in embeddings.items()}
        save_file(
            textual_inversion(name, own, family=spec.record),
            str(out / FOLDER / f"{name}.safetensors"),
            metadata={"format": "pt"},
        )
    card = model_card(
        spec=spec,
        concepts=concepts,
        num_tokens=num_tokens,
        config=config,
        unet_code=unet_code,
        encoders=encoders,
    )
    (out / "README.md").write_text(card)
    for file in out.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors writes files that only their owner can read


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
