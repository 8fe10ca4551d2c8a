"""Headers of LoRA files as kohya's scripts write them and A1111, Forge and ComfyUI's managers read.

Keys: sd-scripts' train_network.py and library/sai_model_spec.py (ModelSpec 1.0.1).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from clif_exp.base_models.tensor_files import data_digest, file_bytes
from clif_exp.base_models.unet_tuning.exported import Fit, WebLora
from clif_exp.base_models.unet_tuning.kind import ExportFacts

if TYPE_CHECKING:
    from torch import Tensor

_DIFFER = "Dynamic"  # kohya's word for ranks or alphas that are not all the same
_MODELSPEC_PREDICTION = {"v_prediction": "v"}


def kohya_metadata(
    tensors: Mapping[str, Tensor], *, lora: WebLora, facts: ExportFacts
) -> dict[str, str]:
    """Return the header of a LoRA file in kohya's naming.

    Args:
        tensors: of the file, for its hashes.
        lora: what they hold, for its ranks, alphas and fit.
        facts: what else the header says.
    """
    training = _training(ranks=lora.ranks, alphas=lora.alphas, facts=facts)
    # sd-scripts hashes a file that holds its own keys only: others may be edited later.
    content = file_bytes(tensors, metadata=training)
    digest = data_digest(content)
    hashes = {
        "sshs_model_hash": digest,
        "sshs_legacy_hash": hashlib.sha256(content[0x100000:0x110000]).hexdigest()[:8],
    }
    return training | hashes | _model_spec(digest=digest, facts=facts) | _nearness(lora.fit)


def _training(
    *, ranks: Mapping[str, int], alphas: Mapping[str, float], facts: ExportFacts
) -> dict[str, str]:
    differ = len(set(ranks.values())) > 1 or len(set(alphas.values())) > 1
    each = {f"{model}_dim": str(rank) for model, rank in ranks.items()}
    each |= {f"{model}_alpha": str(alpha) for model, alpha in alphas.items()}
    training = {
        "ss_base_model_version": facts.family.names_for(facts.prediction).kohya,
        "ss_clip_skip": "None",  # the layer that is usual for the family
        "ss_network_alpha": _common(alphas),
        "ss_network_args": json.dumps(each if differ else {}, sort_keys=True),
        "ss_network_dim": _common(ranks),
        "ss_network_module": "networks.lora",
        "ss_output_name": facts.name,
        "ss_resolution": f"({facts.resolution}, {facts.resolution})",
        "ss_sd_model_name": facts.base_model,
        # A1111 offers them as words to type, and calls an embedding by its file's name.
        "ss_tag_frequency": json.dumps({"clif_exp": dict.fromkeys(facts.concepts, 1)}),
        "ss_v2": str(facts.family.kohya_v2),
    }
    if facts.trained is not None:
        started, finished = facts.trained
        training |= {
            "ss_training_started_at": str(started),
            "ss_training_finished_at": str(finished),
        }
    return training


def _nearness(fit: Fit | None) -> dict[str, str]:
    """Say how far a LoRA is from the weights that it stands for; nothing where it was trained."""
    if fit is None:
        return {}
    return {
        "clif_exp_left_out": f"{fit.left_out:.4f}",
        "clif_exp_rank": str(fit.rank),
        "clif_exp_relative_error": f"{fit.error:.4f}",
        "clif_exp_worst_layer": fit.worst_layer,
        "clif_exp_worst_layer_error": f"{fit.worst_error:.4f}",
    }


def _common(values: Mapping[str, float]) -> str:
    found = set(values.values())
    return str(found.pop()) if len(found) == 1 else _DIFFER


def _model_spec(*, digest: str, facts: ExportFacts) -> dict[str, str]:
    first = facts.concepts[0]
    spec = {
        "architecture": f"{facts.family.names_for(facts.prediction).modelspec}/lora",
        "description": f"{', '.join(facts.concepts)}; taught by clif_exp",
        "hash_sha256": f"0x{digest}",
        "implementation": facts.family.modelspec_implementation,
        "prediction_type": _MODELSPEC_PREDICTION.get(facts.prediction, facts.prediction),
        "resolution": f"{facts.resolution}x{facts.resolution}",
        "sai_model_spec": "1.0.1",
        "title": facts.name,
        "trigger_phrase": ", ".join(facts.concepts),
        "usage_hint": (
            f"Needs the export's embeddings. A1111, Forge: {first}. ComfyUI: embedding:{first}."
            f" diffusers: <{first}>."
        ),
    }
    if facts.trained is not None:
        spec["date"] = datetime.fromtimestamp(int(facts.trained[1]), UTC).isoformat()
    return {f"modelspec.{key}": value for key, value in spec.items()}
