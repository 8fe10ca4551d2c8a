"""Writes what a user takes away from a run: files that diffusers, ComfyUI and A1111 load."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clif_exp.backbones import BackboneSpec
    from clif_exp.concepts import ConceptSet

VERSION = 1


def export_run(
    out: Path, *, spec: BackboneSpec, concepts: ConceptSet, diffusion: Path, config: Mapping[str, Any], sample: Path | None = None
) -> None:
    """Export a trained model.

    Writes pytorch_lora_weights.safetensors and kohya.safetensors (both with alpha; neither for methods without a LoRA),
    embeddings/<concept>.safetensors, README.md and, if given, sample.png.

    Args:
        out: folder, made if need be.
        spec: resolved base models.
        concepts: what was customised.
        diffusion: what stage 2 published.
        config: what made it, for the model card; plain dicts and scalars, no paths.
        sample: a picture for the card, or None.

    Raises:
        ValueError: `diffusion` is not a published result of stage 2.
    """
    from safetensors.torch import save_file

    from clif_exp.export.card import model_card
    from clif_exp.export.files import kohya_metadata, read_lora, textual_inversion, to_kohya
    from clif_exp.tokens import load_concept_embeddings

    out = Path(out)
    (out / "embeddings").mkdir(parents=True, exist_ok=True)
    embeddings = load_concept_embeddings(diffusion / "concept_embeddings.safetensors")
    first = embeddings["text_encoder"]
    lora_file = diffusion / "pytorch_lora_weights.safetensors"
    if lora_file.is_file():
        shutil.copyfile(lora_file, out / lora_file.name)
        lora, metadata = read_lora(lora_file)
        rank, alpha = metadata["unet.r"], metadata["unet.lora_alpha"]
        header = kohya_metadata(
            rank=rank, alpha=alpha, base_model=Path(str(spec.path)).name, family=spec.family, triggers={f"<{n}>": n for n in first}
        )
        save_file(to_kohya(lora, alpha=alpha), str(out / "kohya.safetensors"), metadata=header)
    for name in first:
        rows = {encoder: named[name] for encoder, named in embeddings.items()}
        save_file(textual_inversion(name, rows), str(out / "embeddings" / f"{name}.safetensors"), metadata={"format": "pt"})
    if sample is not None:
        shutil.copyfile(sample, out / "sample.png")
    card = model_card(
        spec=spec, concepts=concepts, num_tokens={name: len(rows) for name, rows in first.items()}, config=config,
        has_lora=lora_file.is_file(), sample=sample is not None,
    )  # fmt: skip
    (out / "README.md").write_text(card)
    for file in out.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors makes files that only their owner reads
