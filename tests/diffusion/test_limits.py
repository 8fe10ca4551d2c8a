"""What stage 2 cannot do is said before it starts, or with the checkpoint kept."""

from __future__ import annotations

from dataclasses import replace

import lightning as L
import pytest
import torch

from clif_exp.base_models.tokens import NewTokens
from clif_exp.training.fit import fit
from support import settings


@pytest.mark.parametrize(
    ("rank", "target", "message"),
    [(2, "to_kk", "no layer ends in 'to_kk'"), (33, "to_k", "is 32 wide")],
)
def test_the_base_models_files_tell_what_a_lora_cannot_be(rank, target, message, backbones):
    from clif_exp.diffusion.checks import check_settings

    with pytest.raises(ValueError, match=message):
        check_settings(backbones("sdxl"), settings("diffusion", rank=rank, target_modules=[target]))


def test_a_caption_that_is_too_long_is_refused_before_anything_runs(backbones, curated):
    from clif_exp.runs.preparation import check_concepts

    image = replace(
        curated["concepts"].concepts[0].images[0], caption="a photo of <rick> " + "the man " * 35
    )
    concept = replace(curated["concepts"].concepts[0], images=(image,))
    one = replace(curated["concepts"], concepts=(concept,))
    check_concepts(one, spec=backbones("sd15"), tokens=NewTokens(2), prompts=[], regional=True)
    with pytest.raises(
        ValueError,
        match=(
            r"concept 'rick': 0.png: its caption has 91 tokens, the text encoder reads 77."
            r" Shorten it"
        ),
    ):
        check_concepts(one, spec=backbones("sd15"), tokens=NewTokens(16), prompts=[], regional=True)


class _Hungry(L.LightningModule):
    """Asks for more memory than there is at its third step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, _index):
        if batch["step"] == 2:
            torch.empty(2**58)
        return {"loss": self.weight.sum(), "metrics": {"loss": 0.0}}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_out_of_memory_says_what_to_lower_and_keeps_the_checkpoint(tmp_path):
    trainer = settings("trainer", precision="32-true", checkpoint_every_n_steps=1)
    with pytest.raises(
        ValueError,
        match=(
            r"Out of memory at step 3 of 5. Lower diffusion.batch_size. The last good checkpoint"
            r" stays"
        ),
    ):
        fit(
            _Hungry(),
            out=tmp_path,
            make_batch=lambda step: {"step": step},
            steps=5,
            settings=trainer,
            metrics=["loss"],
            run_key={},
            hint="diffusion.batch_size",
            images_per_step=1,
        )
    assert [file.name for file in (tmp_path / "checkpoints").glob("*.ckpt")] == ["step=2.ckpt"]
