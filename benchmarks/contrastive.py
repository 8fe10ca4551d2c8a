"""Speed of stage 1 at the size of CLIP ViT-L/14 (random weights): at least 10 times a plain loop.

python benchmarks/contrastive.py --out experiments/contrastive_speed

Both sides train the same embeddings on the same batches with the same loss, in turns. The plain
loop runs both towers each step. It is what a good user would write: the image tower without
gradients, images ready as tensors, the faster of transformers' attentions, captions padded to 77 as
tokenizers do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from clif_exp.artifacts.provenance import git_commit, hardware
from clif_exp.base_models.text_tuning import TextTuning
from clif_exp.base_models.tokens import add_concept_tokens, tokenize
from clif_exp.base_models.trained_tokens import ConceptEmbeddings
from clif_exp.contrastive.batches import GroupedBatches, PairBatches
from clif_exp.contrastive.loss import symmetric_info_nce
from clif_exp.contrastive.module import ContrastiveModule
from clif_exp.contrastive.pairs import Pair
from clif_exp.contrastive.pooling import eos_positions, pool
from clif_exp.contrastive.targets import PairMeta

CONTEXTS = ("policeman", "chef", "robot", "dog", "cat", "horse", "nurse", "knight", "bear", "girl")
CAPTION = "a photo of {left} on the left and {right} on the right"
GROUP = 4  # concepts that share a context and its side, as curation composes them
EPOCHS = 200  # times that the released code sees each pair


def vit_l(*, image_layers: int) -> tuple[Any, Any]:
    """Build a CLIP of ViT-L/14's sizes with random weights, and a tokenizer for the captions."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    from clif_exp.toonworld.tokenizer import build_tokenizer

    tokenizer = build_tokenizer([*CONTEXTS, *CAPTION.split(), "man"])
    special = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")
    }
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        projection_dim=768,
        **special,
    )
    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=image_layers,
        num_attention_heads=16,
        projection_dim=768,
        image_size=224,
        patch_size=14,
    )
    torch.manual_seed(0)
    clip = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=768)
    )
    return clip.requires_grad_(False).eval(), tokenizer


def make_pairs(names: list[str], count: int) -> list[Pair]:
    """Return pairs of concepts with contexts, in groups that share context and side."""
    pairs: list[Pair] = []
    size = min(GROUP, len(names))
    while len(pairs) < count:
        number = len(pairs) // size
        context, side = (
            CONTEXTS[number % len(CONTEXTS)],
            ("left", "right")[number // len(CONTEXTS) % 2],
        )
        for place in range(size):
            name = names[(number * size + place) % len(names)]
            spots = (
                {"left": f"<{name}>", "right": f"a {context}"}
                if side == "left"
                else {"left": f"a {context}", "right": f"<{name}>"}
            )
            meta = PairMeta(name, None, context, side)
            pairs.append(
                Pair(Path(f"{len(pairs)}.png"), CAPTION.format(**spots), meta, None, f"G|{number}")
            )
    return pairs[:count]


class Setting:
    """Stage 1 on so many concepts and pairs, with its module, batches and (random) images."""

    def __init__(self, *, concepts: int, batch: int, image_layers: int = 24) -> None:
        clip, tokenizer = vit_l(image_layers=image_layers)
        names = [f"c{number}" for number in range(concepts)]
        token_ids = add_concept_tokens(
            tokenizer, clip.text_model, concepts=dict.fromkeys(names, "man"), num_tokens=2
        )
        pairs = make_pairs(names, 2 * batch)
        self.clip = clip
        self.embeddings = ConceptEmbeddings(clip.text_model, token_ids=token_ids)
        generator = torch.Generator().manual_seed(1)
        weight = self.embeddings.weight
        with torch.no_grad():  # with equal embeddings every loss would be the same
            weight += 0.01 * torch.randn(weight.shape, generator=generator)
        features_ND = F.normalize(torch.randn(len(pairs), 768, generator=generator), dim=-1)
        order = GroupedBatches(pairs, batch_size=batch, seed=0)
        self.batches = PairBatches(
            pairs, order=order, tokenizer=tokenizer, token_ids=token_ids, pooling={"G": "eos"}
        )
        self.padded_NL = tokenize(
            tokenizer,
            [p.caption for p in pairs],
            num_tokens=dict.fromkeys(names, 2),
            pad="max_length",
        )
        self.eos_id = tokenizer.eos_token_id
        self.module = ContrastiveModule(
            clip,
            embeddings=self.embeddings,
            basis=None,
            image_features_ND=features_ND,
            tuning=TextTuning(
                train="frozen", learning_rate=1e-4, rank=8, alpha=8.0, target_modules=()
            ),
            seed=0,
            steps=100,
            learning_rate=1e-4,
            weight_decay=0.01,
            warmup_steps=0,
            schedule="cosine",
            learn_logit_scale=False,
            max_logit_scale=100.0,
            norm_loss_weight=0.0,
        )
        self.optimizer = torch.optim.AdamW([self.embeddings.weight], lr=1e-4, weight_decay=0.01)

    def step(self, loss: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Take an optimiser step; return loss and gradient."""
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        assert self.embeddings.weight.grad is not None
        return loss.item(), self.embeddings.weight.grad.clone()

    def ours(self, number: int) -> tuple[float, torch.Tensor]:
        """Take stage 1's step: build the batch, run the text tower alone, padding cut."""
        return self.step(self.module.loss(self.batches(number)))

    def cached_but_padded(self, number: int) -> tuple[float, torch.Tensor]:
        """Take the same step with captions of 77 tokens."""
        batch = self.batches(number)
        return self.step(self.module.loss(batch | {"ids": self.padded_NL[batch["indices"]]}))

    def both_towers(self, number: int, pixels_NCHW: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Take the plain loop's step: both towers, the image tower without gradients."""
        batch = self.batches(number)
        ids_BL = self.padded_NL[batch["indices"]]
        with torch.no_grad():
            image_BD = F.normalize(
                self.clip.get_image_features(pixels_NCHW[batch["indices"]]).pooler_output, dim=-1
            )
        hidden_BLD = self.clip.text_model(input_ids=ids_BL).last_hidden_state
        text_BD = F.normalize(
            self.clip.text_projection(pool(hidden_BLD, eos_positions(ids_BL, eos_id=self.eos_id))),
            dim=-1,
        )
        return self.step(
            symmetric_info_nce(
                text_BD, image_BD, targets_NN=batch["targets"], scale=self.clip.logit_scale.exp()
            )
        )


def seconds(run: Callable[[], object]) -> float:
    """Return the wall time of a call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def compare(*, batch: int, repeats: int) -> dict:
    """Time both sides in turns on 18 concepts; their first steps are compared, not timed."""
    setting = Setting(concepts=18, batch=batch)
    pixels = torch.randn(
        len(setting.batches.pairs), 3, 224, 224, generator=torch.Generator().manual_seed(2)
    )
    attention = {}
    for kind in ("eager", "sdpa"):
        setting.clip.set_attn_implementation(kind)
        with torch.no_grad():
            setting.clip.get_image_features(pixels[:1])
            attention[kind] = seconds(lambda: setting.clip.get_image_features(pixels[:2]))
    faster = min(attention, key=attention.__getitem__)
    setting.clip.set_attn_implementation(faster)
    with torch.no_grad():
        encoding = seconds(lambda: _encode(setting, pixels))
    start = setting.embeddings.weight.detach().clone()
    results = {}
    for name, run in (
        ("ours", setting.ours),
        ("both towers", lambda n: setting.both_towers(n, pixels)),
    ):
        results[name] = run(0)
        with torch.no_grad():
            setting.embeddings.weight.copy_(start)
    (our_loss, our_gradient), (their_loss, their_gradient) = results.values()
    sides = {
        "ours": setting.ours,
        "cached, 77 tokens": setting.cached_but_padded,
        "both towers": lambda n: setting.both_towers(n, pixels),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(1, repeats + 1):
        for name, run in sides.items():
            times[name].append(seconds(lambda run=run, number=number: run(number)))
    rates = {name: batch / statistics.median(values) for name, values in times.items()}
    ratios = [theirs / own for own, theirs in zip(times["ours"], times["both towers"], strict=True)]
    once = encoding / len(pixels)  # seconds per image, paid once
    return {
        "batch": batch,
        "attention": faster,
        "tokens": int(setting.batches(1)["ids"].shape[1]),
        "pairs_per_second": {name: round(rate, 3) for name, rate in rates.items()},
        "ratio": round(statistics.median(ratios), 1),
        "ratio_with_encoding_over_200_epochs": round(
            (1 / rates["both towers"]) / (1 / rates["ours"] + once / EPOCHS), 1
        ),
        "loss": [round(our_loss, 6), round(their_loss, 6)],
        "largest_gradient_difference": float(
            (our_gradient - their_gradient).abs().max() / their_gradient.abs().max()
        ),
    }


def _encode(setting: Setting, pixels: torch.Tensor) -> None:
    parts = [
        setting.clip.get_image_features(pixels[start : start + 8]).pooler_output
        for start in range(0, len(pixels), 8)
    ]
    setting.module.image_features_ND.copy_(F.normalize(torch.cat(parts), dim=-1))


def scaling(*, batches: list[int], concepts: list[int], repeats: int) -> dict:
    """Measure seconds per step by batch size (18 concepts) and by number of concepts.

    The latter at the middle batch size.
    """

    def median(setting: Setting) -> float:
        setting.ours(0)
        return round(
            statistics.median(
                seconds(lambda number=number: setting.ours(number))
                for number in range(1, repeats + 1)
            ),
            3,
        )

    middle = batches[len(batches) // 2]
    by_batch = {size: median(Setting(concepts=18, batch=size, image_layers=1)) for size in batches}
    by_concepts = {
        count: median(Setting(concepts=count, batch=middle, image_layers=1)) for count in concepts
    }
    return {
        "seconds_by_batch": by_batch,
        "concepts_at_batch": middle,
        "seconds_by_concepts": by_concepts,
    }


def main() -> None:
    """Print the ratio and the scaling; write results.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for results.json")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = {
        "command": (
            f"python benchmarks/contrastive.py --batch {args.batch} --repeats {args.repeats}"
            f" --threads {args.threads}"
        ),
        "hardware": f"{hardware()}, {args.threads} thread, fp32",
        "commit": git_commit(digits=7),
        **compare(batch=args.batch, repeats=args.repeats),
        **scaling(batches=[8, 16, 32], concepts=[2, 18, 100], repeats=args.repeats),
    }
    print(json.dumps(result, indent=2))
    print(f"{result['ratio']} times the pairs per second (at least 10)")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "results.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
