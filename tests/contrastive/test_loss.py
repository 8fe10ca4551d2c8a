"""The contrastive loss: open_clip's with single positives, ignored entries, two ranks."""

from __future__ import annotations

import math

import pytest
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

from clif_exp.contrastive.loss import gather_with_gradient, symmetric_info_nce
from clif_exp.contrastive.targets import IGNORED, NEGATIVE, POSITIVE


def _features(rows: int, *, seed: int, width: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(
        torch.randn(rows, width, generator=generator, dtype=torch.float64).float(), dim=-1
    )


def _diagonal(rows: int) -> torch.Tensor:
    targets = torch.full((rows, rows), NEGATIVE, dtype=torch.int8)
    return targets.fill_diagonal_(POSITIVE)


def test_with_single_positives_the_loss_is_open_clips_in_value_and_gradient():
    from open_clip.loss import ClipLoss

    ours = [_features(6, seed=s).requires_grad_() for s in (0, 1)]
    theirs = [tensor.detach().clone().requires_grad_() for tensor in ours]
    scale = torch.tensor(14.3)
    loss = symmetric_info_nce(ours[0], ours[1], targets_NN=_diagonal(6), scale=scale)
    reference = ClipLoss()(image_features=theirs[1], text_features=theirs[0], logit_scale=scale)
    loss.backward()
    reference.backward()
    torch.testing.assert_close(loss, reference)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_several_positives_share_the_probability():
    text = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    targets = _diagonal(3)
    targets[0, 1] = targets[1, 0] = POSITIVE
    loss = symmetric_info_nce(text, text, targets_NN=targets, scale=100.0)
    # Rows 0 and 1 split their probability in halves, row 2 has all of it: (log 2 + log 2 + 0) / 3.
    assert loss.item() == pytest.approx(2 * math.log(2) / 3, abs=1e-4)


def test_matching_images_are_not_pushed_away():
    """With arange labels the gradient would part a caption from another image of the same thing."""
    image = F.normalize(torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]]), dim=-1)
    text = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.1]]), dim=-1).requires_grad_()
    targets = _diagonal(3)
    targets[0, 1] = targets[1, 0] = POSITIVE
    symmetric_info_nce(text, image, targets_NN=targets, scale=10.0).backward()
    shared = text.grad.clone()
    text.grad = None
    symmetric_info_nce(text, image, targets_NN=_diagonal(3), scale=10.0).backward()
    assert shared[0, 1].abs() < text.grad[0, 1].abs(), (
        "arange labels pull the caption to one of its two images"
    )


def test_ignored_entries_have_no_influence():
    text, image = _features(4, seed=2).requires_grad_(), _features(4, seed=3).requires_grad_()
    targets = _diagonal(4)
    targets[0, 3] = targets[3, 0] = IGNORED
    loss = symmetric_info_nce(text, image, targets_NN=targets, scale=10.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(text.grad).all()
    assert torch.isfinite(image.grad).all()
    logits = 10.0 * text.detach() @ image.detach().T
    row = -(logits[0, 0] - torch.logsumexp(logits[0, :3], dim=0))
    others = [
        -(logits[i, i] - torch.logsumexp(logits[i][targets[i] != IGNORED], dim=0))
        for i in (1, 2, 3)
    ]
    columns = [
        -(logits[i, i] - torch.logsumexp(logits[:, i][targets[:, i] != IGNORED], dim=0))
        for i in range(4)
    ]
    expected = (row + sum(others) + sum(columns)) / 8
    torch.testing.assert_close(loss.detach(), expected)


def test_a_row_without_a_positive_is_refused():
    targets = _diagonal(3)
    targets[1, 1] = IGNORED
    with pytest.raises(ValueError, match="caption 1"):
        symmetric_info_nce(
            _features(3, seed=0), _features(3, seed=1), targets_NN=targets, scale=1.0
        )


def _rank(
    rank: int, file: str, out: str, weight: torch.Tensor, inputs: torch.Tensor, image: torch.Tensor
) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=2
    )
    weight = weight.clone().requires_grad_()
    local = inputs[rank * 3 : (rank + 1) * 3]
    text = gather_with_gradient(F.normalize(local @ weight, dim=-1))
    loss = symmetric_info_nce(text, image, targets_NN=_diagonal(6), scale=10.0)
    loss.backward()
    gradient = weight.grad.clone()
    torch.distributed.all_reduce(gradient)  # what DDP does: the mean over ranks
    torch.save({"loss": loss.detach(), "gradient": gradient / 2}, f"{out}.{rank}")
    torch.distributed.destroy_process_group()


def test_two_ranks_equal_one_process_on_the_joined_batch(tmp_path):
    generator = torch.Generator().manual_seed(0)
    weight, inputs = torch.randn(5, 8, generator=generator), torch.randn(6, 5, generator=generator)
    image = _features(6, seed=1)
    single = weight.clone().requires_grad_()
    loss = symmetric_info_nce(
        F.normalize(inputs @ single, dim=-1), image, targets_NN=_diagonal(6), scale=10.0
    )
    loss.backward()
    arguments = (str(tmp_path / "rendezvous"), str(tmp_path / "result"), weight, inputs, image)
    mp.start_processes(_rank, args=arguments, nprocs=2, start_method="fork")
    for rank in range(2):
        result = torch.load(tmp_path / f"result.{rank}", weights_only=True)
        torch.testing.assert_close(result["loss"], loss.detach())
        torch.testing.assert_close(result["gradient"], single.grad)
