"""Stage 1 on tiny models."""

from __future__ import annotations

import pytest

from clif_exp.contrastive.stage import train_contrastive
from support import settings

LORA = {"rank": 2, "alpha": 4.0, "target_modules": ["q_proj", "fc1"]}

FP32 = settings("trainer", precision="32-true")


@pytest.fixture
def train(curated):
    """Train on two concepts for a few steps; returns the stage's folder."""

    def run(out, *, spec, trainer=FP32, features=None, **changes):
        changes = {
            "basis": None,
            "learning_rate": 5e-3,
            "steps": 4,
            "batch_size": 6,
            "weight_decay": 0.5,
            "text_encoder_learning_rate": 0.03,
            "lora": LORA,
        } | changes
        manifests = {kind: curated["manifests"][kind] for kind in "GR"}
        out.mkdir(exist_ok=True)
        train_contrastive(
            out,
            spec=spec,
            concepts=curated["concepts"],
            manifests=manifests,
            trainer=trainer,
            features=features,
            seed=0,
            settings=settings("contrastive", **changes),
        )
        return out

    return run
