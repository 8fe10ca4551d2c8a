"""Where a model looks for each concept: cross-attention maps of a few prompts (paper, Fig. 10)."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.files import write_bytes, write_json, write_jsonl
from clif_exp.artifacts.sharing import forget, share
from clif_exp.base_models.tokens import expand_prompt, placeholder
from clif_exp.generation.sampling import noise_seed, sample

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from clif_exp.base_models.attention_maps import CrossAttentionMaps
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.generation.settings import GenerationSettings
    from clif_exp.prompts.evaluation import EvaluationPrompt

MANIFEST = "attention.jsonl"
_HEAT = 0.6  # share of the colour beside the image


@dataclass(frozen=True)
class WatchedPrompt:
    """A prompt, and where it names its concepts.

    Attributes:
        id: of the evaluation prompt.
        text: what is drawn, concepts as `<name>` or in class words.
        words: concept -> first character and end of what names it.
        noise_text: the text that seeds the noise: the same for a prompt in class words.
    """

    id: str
    text: str
    words: Mapping[str, tuple[int, int]]
    noise_text: str


def watched(
    prompt: EvaluationPrompt, *, class_words: Mapping[str, str] | None = None
) -> WatchedPrompt:
    """Find where a prompt, or its version in class words, names its concepts.

    Args:
        prompt: of an evaluation set.
        class_words: concept -> class word, for the version in class words.
    """
    text = prompt.class_text if class_words else prompt.text
    places = {name: prompt.text.index(placeholder(name)) for name in prompt.concepts}
    # Both versions begin alike ("an" may become "a" before the first concept). Concepts may share a
    # class word, so each is looked for after the one before.
    both = zip(prompt.text, prompt.class_text, strict=False)
    words, end = {}, next(place for place, (own, other) in enumerate(both) if own != other)
    for name in sorted(places, key=places.__getitem__):
        named = rf"\b{re.escape(class_words[name])}\b" if class_words else placeholder(name)
        found = re.compile(named).search(text, end)
        assert found is not None, f"{text!r} does not name {name}"
        words[name], end = found.span(), found.end()
    return WatchedPrompt(prompt.id, text, words, prompt.noise_text or prompt.text)


def select_prompts(
    prompts: Sequence[EvaluationPrompt], *, singles: int, pairs: int
) -> list[EvaluationPrompt]:
    """Return the first prompt of each of the first concepts and of the first pairs."""
    kept: dict[frozenset[str], EvaluationPrompt] = {}
    for prompt in prompts:
        kept.setdefault(frozenset(prompt.concepts), prompt)
    alone = [prompt for named, prompt in kept.items() if len(named) == 1]
    together = [prompt for named, prompt in kept.items() if len(named) == 2]
    return [*alone[:singles], *together[:pairs]]


def record_attention(
    out: Path,
    *,
    spec: BaseModels,
    model: Path | None,
    prompts: Sequence[WatchedPrompt],
    seed: int,
    between: Sequence[float],
    settings: GenerationSettings,
    device: str = "cpu",
    finalize: bool = True,
) -> None:
    """Draw prompts and record the attention to their concepts, at every size that the model has.

    Writes `images/ID.png`, `maps/ID.safetensors` ("concept/side": float32 [T, side, side], one map
    per token), `maps/ID.json`, `heat/ID-CONCEPT-SIDE.png` (the mean over the concept's tokens, over
    the image), and `attention.jsonl`. Each image is drawn for itself, and finished ones of a killed
    run are kept.

    Args:
        out: folder to write into.
        spec: base models.
        model: what training published; None for the untouched base model.
        prompts: what to draw; ids differ.
        seed: the sampling seed.
        between: first and last share of the denoising steps that the maps are the mean over.
        settings: steps, guidance scale and precision; the rest is not read.
        device: torch device.
        finalize: False contributes to a folder that another process completes.
    """
    for name in ("images", "maps", "heat"):
        (out / name).mkdir(parents=finalize, exist_ok=True)
    by_id = {prompt.id: prompt for prompt in prompts}
    loaded: list[tuple[Any, Mapping[str, int]]] = []

    def done(key: str) -> bool:
        return (out / "images" / f"{key}.png").is_file()

    def work(key: str) -> None:
        from clif_exp.base_models.customised import load_customised_pipeline

        if not loaded:
            loaded.append(load_customised_pipeline(spec, diffusion=model, device=device))
        pipeline, num_tokens = loaded[0]
        prompt = by_id[key]
        pixels_HWC, recording = draw_recorded(
            pipeline, prompt, seed=seed, between=between, settings=settings
        )
        positions = token_positions(pipeline.tokenizer, prompt, num_tokens=num_tokens)
        side = recording.semantic_side(pipeline.unet.config.sample_size)
        _publish(out, prompt, pixels_HWC, recording, positions=positions, side=side)

    share(out, by_id, done=done, work=work, description="attention")
    if not finalize:
        return
    forget(out)
    lines = [json.loads((out / "maps" / f"{key}.json").read_text()) for key in by_id]
    write_jsonl(out / MANIFEST, lines)


def draw_recorded(
    pipeline: Any,
    prompt: WatchedPrompt,
    *,
    seed: int,
    between: Sequence[float],
    settings: GenerationSettings,
) -> tuple[np.ndarray, CrossAttentionMaps]:
    """Draw a prompt and record where the image attends to its text; the image is as ever.

    Returns:
        uint8 [H, W, 3], and the mean over steps and layers: one map of each size, [1, side, side,
        K].
    """
    from clif_exp.base_models.attention_maps import CrossAttentionMaps, recorded

    first, last = (round(share * (settings.num_inference_steps - 1)) for share in between)
    chosen = range(first, last + 1)
    sums: dict[int, Tensor] = {}
    with recorded(pipeline.unet) as maps:
        maps.recording = 0 in chosen

        def after_step(_pipeline: Any, step: int, _time: Any, _given: Any) -> dict[str, Any]:
            for side in maps.by_size:
                # Of classifier-free guidance's two halves the second one reads the prompt.
                mean_1HWK = maps.mean(side)[-1:].cpu()
                sums[side] = sums[side] + mean_1HWK if side in sums else mean_1HWK
            maps.by_size.clear()
            maps.recording = step + 1 in chosen
            return {}

        (pixels_HWC,) = sample(
            pipeline,
            [prompt.text],
            noise_seeds=[noise_seed(prompt.noise_text, seed)],
            num_inference_steps=settings.num_inference_steps,
            guidance_scale=settings.guidance_scale,
            mixed_precision=settings.mixed_precision,
            after_step=after_step,
        )
    means = {side: [total / len(chosen)] for side, total in sorted(sums.items())}
    return pixels_HWC, CrossAttentionMaps(means)


def token_positions(
    tokenizer: Any, prompt: WatchedPrompt, *, num_tokens: Mapping[str, int]
) -> dict[str, list[int]]:
    """Return, per concept, the positions of the tokens that name it, the beginning of text being 0.

    Args:
        tokenizer: the first one; SDXL's second one reads the same positions.
        prompt: what is drawn.
        num_tokens: concept -> number of its tokens; empty for prompts in class words.
    """

    def length(text: str) -> int:
        return len(tokenizer(expand_prompt(text, num_tokens), add_special_tokens=False).input_ids)

    return {
        name: list(range(length(prompt.text[:start]) + 1, length(prompt.text[:end]) + 1))
        for name, (start, end) in prompt.words.items()
    }


def _publish(
    out: Path,
    prompt: WatchedPrompt,
    pixels_HWC: np.ndarray,
    recording: CrossAttentionMaps,
    *,
    positions: Mapping[str, Sequence[int]],
    side: int,
) -> None:
    """Write a prompt's files, the image last; `side` is the size to look at."""
    from PIL import Image
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    heat: dict[str, dict[str, str]] = {}
    for name, own in positions.items():
        for size in recording.by_size:
            maps_TSS = recording.mean(size)[0, :, :, list(own)].movedim(-1, 0)
            tensors[f"{name}/{size}"] = maps_TSS.contiguous()
            file = f"heat/{prompt.id}-{name}-{size}.png"
            overlay = Image.fromarray(heat_over(pixels_HWC, maps_TSS.mean(0).numpy()))
            write_bytes(out / file, _png(overlay))
            heat.setdefault(name, {})[str(size)] = file
    means = {name: tensors[f"{name}/{side}"].mean(0) for name in positions}
    image = f"images/{prompt.id}.png"
    line = {
        "prompt_id": prompt.id,
        "prompt": prompt.text,
        "file": image,
        "heat": heat,
        "side": side,
        "peak": {name: float(mean_SS.max()) for name, mean_SS in means.items()},
        "overlap": overlap(*means.values()) if len(means) == 2 else None,
    }
    write_bytes(out / "maps" / f"{prompt.id}.safetensors", save(tensors))
    write_json(out / "maps" / f"{prompt.id}.json", line)
    write_bytes(out / image, _png(Image.fromarray(pixels_HWC)))


def overlap(one_SS: Tensor, other_SS: Tensor) -> float:
    """Return how much of two maps lies in the same places, from 0 (nothing) to 1 (they are alike).

    Each map is scaled to a sum of 1 before; it is the sum of the smaller values.
    """
    import torch

    return float(torch.minimum(one_SS / one_SS.sum(), other_SS / other_SS.sum()).sum())


def heat_over(pixels_HWC: np.ndarray, map_SS: np.ndarray) -> np.ndarray:
    """Lay a map over an image, from its weakest place (dark) to its strongest (bright).

    Args:
        pixels_HWC: uint8 [H, W, 3].
        map_SS: float32 [side, side].

    Returns:
        uint8 [H, W, 3].
    """
    import matplotlib
    import numpy as np
    from PIL import Image

    height, width = pixels_HWC.shape[:2]
    smooth_HW = np.asarray(
        Image.fromarray(map_SS).resize((width, height), Image.Resampling.BICUBIC)
    )
    low, high = smooth_HW.min(), smooth_HW.max()
    strength_HW = (smooth_HW - low) / max(float(high - low), 1e-12)
    colour_HWC = matplotlib.colormaps["inferno"](strength_HW)[..., :3] * 255
    mixed_HWC = (1 - _HEAT) * pixels_HWC + _HEAT * colour_HWC
    return mixed_HWC.round().astype(np.uint8)


def _png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
