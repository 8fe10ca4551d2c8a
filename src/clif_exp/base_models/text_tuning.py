"""What stage 1 may change in a text encoder beside the concepts' rows, a LoRA or its weights, and
the files that carry it on.

Layers are named as in a CLIP's text tower ("encoder.layers.0.self_attn.q_proj"); files put the
encoder's name and "text_model." before it, which is what diffusers, ComfyUI and A1111 look for,
whatever the transformers version at hand calls them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clif_exp.artifacts.files import whole_file

if TYPE_CHECKING:
    from torch import Tensor, nn

LORA_FILE = "text_encoder_lora.safetensors"
WEIGHTS_FILE = "text_encoder_weights.safetensors"
_PREFIX = "text_model."
_TABLE = "embeddings.token_embedding.weight"


@dataclass(frozen=True)
class TextTuning:
    """What of a text encoder trains beside the concepts' rows.

    Args:
        train: "frozen" (nothing), "lora", or "full" (everything but the token table, whose other
            rows never move).
        learning_rate: AdamW's peak, for the encoder.
        rank: of the LoRA.
        alpha: the LoRA's update is scaled by alpha / rank.
        target_modules: endings of the layers that get the LoRA.
    """

    train: Literal["frozen", "lora", "full"] = "frozen"
    learning_rate: float = 1e-4
    rank: int = 8
    alpha: float = 8.0
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")


def tower(encoder) -> Any:
    """Return the text tower: CLIPTextModelWithProjection wraps it, CLIPTextModel is it."""
    return getattr(encoder, "text_model", encoder)


def make_trainable(text_model, *, tuning: TextTuning, seed: int) -> list[nn.Parameter]:
    """Make what `tuning` names trainable in a frozen text tower, in fp32 whatever its precision.

    Args:
        text_model: a CLIP's text tower; changes in place.
        tuning: what trains.
        seed: of the LoRA's initial weights.

    Returns:
        The trainable parameters.

    Raises:
        ValueError: a LoRA of a rank beyond a layer's width.
    """
    if tuning.train == "lora":
        _add_lora(text_model, tuning=tuning, seed=seed)
    elif tuning.train == "full":
        for name, parameter in text_model.named_parameters():
            if (
                name != _TABLE
            ):  # a gradient would let weight decay and momentum move every word's row
                parameter.data = parameter.data.float()
                parameter.requires_grad_(True)
    return [parameter for parameter in text_model.parameters() if parameter.requires_grad]


def _add_lora(text_model, *, tuning: TextTuning, seed: int) -> None:
    import torch

    layers = {
        n: m
        for n, m in text_model.named_modules()
        if n.endswith(tuple(f".{t}" for t in tuning.target_modules))
    }
    name, narrow = min(
        layers.items(), key=lambda item: min(item[1].in_features, item[1].out_features)
    )
    width = min(narrow.in_features, narrow.out_features)
    if tuning.rank > width:
        raise ValueError(
            f"contrastive.lora.rank: found {tuning.rank}, but {name} is {width} wide. Choose a rank"
            f" of at most {width}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_model.add_adapter(_lora_config(tuning.rank, tuning.alpha, tuning.target_modules))
    for parameter in text_model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _lora_config(rank: int, alpha: float, targets) -> Any:
    from peft import LoraConfig

    # peft takes floats for alpha.
    return LoraConfig(
        r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=sorted(targets)
    )  # type: ignore[arg-type]


def tuned_state(text_model, *, tuning: TextTuning) -> dict[str, Tensor]:
    """Return what was trained: layer name -> tensor, detached fp32 copies on the CPU; LoRA names
    end in `lora_A.weight`.
    """
    if tuning.train == "frozen":
        return {}
    if tuning.train == "lora":
        from peft.utils import get_peft_model_state_dict

        state = get_peft_model_state_dict(text_model)
    else:
        state = {name: value for name, value in text_model.state_dict().items() if name != _TABLE}
    return {name: value.detach().cpu().float().clone() for name, value in state.items()}


def save_text_tuning(
    folder: Path, states: Mapping[str, Mapping[str, Tensor]], *, tuning: TextTuning
) -> None:
    """Write the LoRA or weights of all text encoders, as `text_encoder_lora.safetensors` or
    `text_encoder_weights.safetensors`.

    Args:
        folder: where to.
        states: encoder name -> what `tuned_state` gave; nothing is written if all are empty.
        tuning: what was trained.
    """
    from safetensors.torch import save_file

    tensors = {
        f"{encoder}.{_PREFIX}{name}": value
        for encoder, state in states.items()
        for name, value in state.items()
    }
    if not tensors:
        return
    metadata = {"format": "pt"}
    if tuning.train == "lora":
        # The layout of diffusers' own metadata, without which the alpha is lost.
        config = {
            "r": tuning.rank,
            "lora_alpha": tuning.alpha,
            "target_modules": sorted(tuning.target_modules),
            "peft_type": "LORA",
        }
        metadata["lora_adapter_metadata"] = json.dumps(
            {f"{e}.{k}": v for e in states for k, v in config.items()}, sort_keys=True
        )
    save_file(
        tensors,
        str(folder / (LORA_FILE if tuning.train == "lora" else WEIGHTS_FILE)),
        metadata=metadata,
    )


def read_text_lora(folder: Path) -> dict[str, tuple[dict[str, Tensor], dict[str, Any]]]:
    """Read a folder's text-encoder LoRA: encoder -> (layer name with "text_model." -> tensor, LoRA
    settings); empty without one.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    file = folder / LORA_FILE
    if not file.is_file():
        return {}
    with safe_open(str(file), framework="pt") as opened:
        metadata = json.loads(opened.metadata()["lora_adapter_metadata"])
    found: dict[str, tuple[dict[str, Tensor], dict[str, Any]]] = {}
    for key, value in load_file(str(file)).items():
        encoder, _, name = key.partition(".")
        found.setdefault(encoder, ({}, _below(metadata, encoder)))[0][name] = value
    return found


def _below(named: Mapping[str, Any], encoder: str) -> dict[str, Any]:
    return {
        key.removeprefix(f"{encoder}."): value
        for key, value in named.items()
        if key.startswith(f"{encoder}.")
    }


def copy_text_tuning(source: Path, out: Path) -> None:
    """Publish what stage 1 changed in the text encoders with a later stage's results, which are all
    that comes after reads.
    """
    for name in (LORA_FILE, WEIGHTS_FILE):
        if (source / name).is_file():
            with whole_file(out / name) as partial:
                shutil.copyfile(source / name, partial)


def apply_text_tuning(
    folder: Path, encoders: Mapping[str, Any], *, lora: bool = True, only_these: bool = False
) -> None:
    """Put what stage 1 changed into a pipeline's text encoders; nothing happens where it trained
    the rows alone.

    Args:
        folder: what a training stage published.
        encoders: encoder name -> CLIPTextModel or CLIPTextModelWithProjection; change in place, and
            stay frozen.
        lora: False leaves a LoRA out, for pipelines that load it from
            pytorch_lora_weights.safetensors.
        only_these: `encoders` holds some of the pipeline's text encoders; what is meant for the
            others is left out.

    Raises:
        ValueError: the files belong to another base model.
    """
    _load_weights(folder, encoders, only_these=only_these)
    for name, (layers, settings) in read_text_lora(folder).items() if lora else ():
        if only_these and name not in encoders:
            continue
        from peft.utils import set_peft_model_state_dict

        text_model = tower(_encoder(encoders, name, folder / LORA_FILE))
        text_model.add_adapter(
            _lora_config(settings["r"], settings["lora_alpha"], settings["target_modules"])
        )
        # The adapter stays apart from the weights: in half precision a merged update would mostly
        # be rounded away.
        own = {key.removeprefix(_PREFIX): value for key, value in layers.items()}
        outcome: Any = set_peft_model_state_dict(text_model, own)
        if outcome.unexpected_keys:
            raise ValueError(
                f"{folder / LORA_FILE}: {name} has no layer {outcome.unexpected_keys[0]}. It"
                " belongs to another base model."
            )
        text_model.requires_grad_(False)


def _load_weights(folder: Path, encoders: Mapping[str, Any], *, only_these: bool) -> None:
    import torch
    from safetensors.torch import load_file

    file = folder / WEIGHTS_FILE
    if not file.is_file():
        return
    targets = {name: dict(tower(encoder).named_parameters()) for name, encoder in encoders.items()}
    with torch.no_grad():
        for key, value in load_file(str(file)).items():
            encoder, _, name = key.partition(".")
            if only_these and encoder not in encoders:
                continue
            target = (
                targets[encoder].get(name.removeprefix(_PREFIX)) if encoder in targets else None
            )
            if target is None or target.shape != value.shape:
                raise ValueError(
                    f"{file}: {key} fits no layer of this pipeline. It belongs to another base"
                    " model."
                )
            target.copy_(value)


def _encoder(encoders: Mapping[str, Any], name: str, file: Path) -> Any:
    if name not in encoders:
        raise ValueError(
            f"{file}: is for {name}, which this pipeline does not have. It belongs to another base"
            " model."
        )
    return encoders[name]


def within_pipeline(state: Mapping[str, Tensor], *, layers: int) -> dict[str, Tensor]:
    """Keep what a pipeline's text encoder has too: SD 2.1's has one layer less than its CLIP."""
    return {name: value for name, value in state.items() if _layer(name) < layers}


def unread_share(
    state: Mapping[str, Tensor],
    *,
    before: Mapping[str, Tensor] | None,
    read: int,
    alpha: float,
    rank: int,
) -> float:
    """Return which share of a training's change lies in layers that the U-Net does not read, in [0,
    1].

    Args:
        state: from `tuned_state`.
        before: the weights before ("full"), or None for a LoRA, whose update starts at zero.
        read: number of layers that the U-Net reads: the penultimate layer of SD 2.1 and SDXL lies
            before the loss's.
        alpha: of a LoRA.
        rank: of a LoRA.

    Returns:
        Squared norm of the change in unread layers over that of the whole change; 0 where nothing
        changed.
    """
    squares = {False: 0.0, True: 0.0}
    for name, value in state.items():
        if before is not None:
            change = value - before[name]
        elif name.endswith("lora_B.weight"):
            change = value @ state[name.replace("lora_B", "lora_A")] * (alpha / rank)
        else:
            continue
        squares[_layer(name) >= read] += float(change.square().sum())
    total = sum(squares.values())
    return squares[True] / total if total else 0.0


def _layer(name: str) -> int:
    """Number of the transformer layer that a parameter belongs to; what stands before the layers is
    -1.
    """
    parts = name.split(".")
    if "layers" in parts:
        return int(parts[parts.index("layers") + 1])
    # The final norm comes after all layers, but pipelines that lack the last layer keep and read
    # it.
    return -1
