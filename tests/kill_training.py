"""Runs one training stage in a process of its own, for tests that kill it.

`python kill_training.py STAGE FILE`; FILE is JSON with the backbone's keyword arguments, the root
of the curated data and the folder to write to.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def run(stage: str, out: Path, *, backbone: dict, data: Path, precision: str = "32-true") -> None:
    """Train a stage on tiny models, with weight decay and everything random switched on."""
    sys.path.insert(0, str(Path(__file__).parent))
    import torch

    from clif_exp.base_models.spec import BaseModels, resolve
    from support import settings
    from tiny_models import write_concepts_and_manifests

    torch.set_num_threads(1)
    torch.manual_seed(hash(str(out)) % 1000)  # results must not depend on the global generator
    curated = write_concepts_and_manifests(data)
    spec = resolve(BaseModels(**backbone))
    trainer = settings("trainer", precision=precision, checkpoint_every_n_steps=4)
    out.mkdir(exist_ok=True, parents=True)
    if stage == "contrastive":
        from clif_exp.contrastive.stage import train_contrastive

        manifests = {kind: curated["manifests"][kind] for kind in "GR"}
        train_contrastive(
            out,
            spec=spec,
            concepts=curated["concepts"],
            manifests=manifests,
            trainer=trainer,
            features=None,
            seed=3,
            settings=settings(
                "contrastive",
                basis={"words": ["man", "dog", "cat", "woman", "photo"], "rank": 3},
                steps=40,
                batch_size=6,
                weight_decay=0.1,
                logit_scale="learned",
            ),
        )
    else:
        from clif_exp.diffusion.stage import train_diffusion

        changes: dict[str, Any] = {
            "rank": 2,
            "alpha": 4.0,
            "train_embeddings": True,
            "flip": True,
            "caption_dropout": 0.2,
            "ema_decay": 0.9,
            "offset_noise": 0.1,
            "validation": {"every": 5, "images": 2, "timesteps": 2},
        }
        if stage == "mix_of_show":
            changes |= {
                "ema_decay": 0.0,
                "num_tokens": 2,
                "layerwise": True,
                "initial_words": "noise_and_class_word",
                "embedding_norm_limit": 1.2,
                "embedding_learning_rate": 0.02,
                "attention_regularisation": 0.1,
                "prior_share": 0.0,
                "schedule": "linear",
                "text_lora": {
                    "learning_rate": 1e-2,
                    "rank": 2,
                    "alpha": 2.0,
                    "target_modules": ["q_proj", "v_proj"],
                },
            }
        if stage == "custom_diffusion":
            changes |= {
                "unet": "weights",
                "target_modules": ["attn2.to_k", "attn2.to_v"],
                "detach_start_of_text": True,
                "num_tokens": 1,
                "initial_words": "rare_words",
                "class_word": True,
                "scale_augmentation": {"variants": 3},
            }
        train_diffusion(
            out,
            spec=spec,
            concepts=curated["concepts"],
            manifest=curated["manifests"]["M"],
            segments=None,
            embeddings=None,
            trainer=trainer,
            seed=3,
            settings=settings("diffusion", **changes, steps=40, batch_size=3, samples=None),
        )


if __name__ == "__main__":
    arguments = json.loads(Path(sys.argv[2]).read_text())
    run(
        sys.argv[1],
        Path(arguments["out"]),
        backbone=arguments["backbone"],
        data=Path(arguments["data"]),
    )
