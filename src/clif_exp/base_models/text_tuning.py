"""Optional text-encoder fine-tuning in stage 1 (LoRA or full), and its files.

Layers are named as in a CLIP's text tower ("encoder.layers.0.self_attn.q_proj"). Files prefix them
with the encoder's name and "text_model.", which is what diffusers, ComfyUI and A1111 look for,
whatever the installed transformers version calls them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
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
    """What of a text encoder trains besides the concept embeddings.

    Args:
        train: "frozen" (nothing), "lora", or "full" (everything but the token table, whose
            embeddings of words never move).
        learning_rate: AdamW's peak, for the encoder.
        rank: of the LoRA.
        alpha: the LoRA's update is scaled by alpha / rank.
        target_modules: endings of the layers that get the LoRA.
    """

    train: Literal["frozen", "lora", "full"]
    learning_rate: float
    rank: int
    alpha: float
    target_modules: tuple[str, ...]


def tower(encoder: Any) -> Any:
    """Return the text tower: CLIPTextModelWithProjection wraps it, CLIPTextModel is it."""
    return getattr(encoder, "text_model", encoder)


def make_trainable(text_model: Any, *, tuning: TextTuning, seed: int) -> list[nn.Parameter]:
    """Make what `tuning` names trainable in a frozen text tower, in fp32.

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
            # With a gradient, weight decay and momentum would move every word's embedding.
            if name != _TABLE:
                parameter.data = parameter.data.float()
                parameter.requires_grad_(True)
    return [parameter for parameter in text_model.parameters() if parameter.requires_grad]


def _add_lora(text_model: Any, *, tuning: TextTuning, seed: int) -> None:
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
            f"rank of the text encoder's LoRA: found {tuning.rank}, but {name} is {width} wide."
            f" Choose a rank of at most {width}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_model.add_adapter(_lora_config(tuning.rank, tuning.alpha, tuning.target_modules))
    for parameter in text_model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _lora_config(rank: int, alpha: Any, targets: Sequence[str]) -> Any:
    """Return peft's config; its annotation of alpha says int, but it takes floats."""
    from peft import LoraConfig

    return LoraConfig(
        r=rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=sorted(targets)
    )


def tuned_state(text_model: Any, *, tuning: TextTuning) -> dict[str, Tensor]:
    """Return what was trained: layer name -> detached fp32 copy on the CPU.

    A LoRA's names end in `lora_A.weight` and `lora_B.weight`.
    """
    if tuning.train == "frozen":
        return {}
    if tuning.train == "lora":
        from peft.utils import get_peft_model_state_dict

        # Its table holds the concepts' tokens, which have a file of their own.
        state = get_peft_model_state_dict(text_model, save_embedding_layers=False)
    else:
        state = {name: value for name, value in text_model.state_dict().items() if name != _TABLE}
    return {name: value.detach().cpu().float().clone() for name, value in state.items()}


def save_text_tuning(
    folder: Path, states: Mapping[str, Mapping[str, Tensor]], *, tuning: TextTuning
) -> None:
    """Write the LoRA or the weights of all text encoders, as LORA_FILE or WEIGHTS_FILE.

    Args:
        folder: the folder to write to.
        states: encoder name -> what `tuned_state` returned; nothing is written if all are empty.
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
        # diffusers' own metadata, without which the alpha is lost.
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


def save_text_weights(folder: Path, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write weights of text encoders as `apply_text_tuning` reads them.

    Args:
        folder: the folder to write to.
        weights: encoder name -> layer's parameter -> its value; nothing is written if all are
            empty.
    """
    from clif_exp.base_models.tensor_files import save_tensors

    tensors = {
        f"{encoder}.{_PREFIX}{name}": value.contiguous()
        for encoder, state in weights.items()
        for name, value in state.items()
    }
    if tensors:
        save_tensors(tensors, folder / WEIGHTS_FILE)


def read_text_lora(folder: Path) -> dict[str, tuple[dict[str, Tensor], dict[str, Any]]]:
    """Read a folder's text-encoder LoRA.

    Returns:
        Encoder -> (layer name with "text_model." -> tensor, peft's settings); empty without a LoRA.
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
    """Return the entries of one encoder, without its prefix."""
    return {
        key.removeprefix(f"{encoder}."): value
        for key, value in named.items()
        if key.startswith(f"{encoder}.")
    }


def copy_text_tuning(source: Path, out: Path) -> None:
    """Copy stage 1's text-encoder files to a later stage's results, which are read alone."""
    for name in (LORA_FILE, WEIGHTS_FILE):
        if (source / name).is_file():
            with whole_file(out / name) as partial:
                shutil.copyfile(source / name, partial)


def apply_text_tuning(
    folder: Path, encoders: Mapping[str, Any], *, lora: bool = True, only_these: bool = False
) -> None:
    """Load stage 1's text-encoder fine-tuning, if any, into a pipeline's text encoders.

    Args:
        folder: what a training stage published.
        encoders: encoder name -> CLIPTextModel or CLIPTextModelWithProjection; changed in place,
            and still frozen.
        lora: False leaves a LoRA out, for pipelines that load it from
            pytorch_lora_weights.safetensors.
        only_these: `encoders` holds some of the pipeline's text encoders; files for the others are
            ignored.

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
        # The adapter is not merged: in half precision most of the update would be rounded away.
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
