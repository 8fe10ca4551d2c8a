"""Gradient fusion by normal equations against L-BFGS as Mix-of-Show runs it, on ToonWorld, a CPU.

    python benchmarks/merging.py --out experiments/merging

Both get the same inputs of every layer: the texts and the images of three of ToonWorld's names, and
concepts' weights that differ from the base's by random updates of rank 4. L-BFGS descends from the
base in fp32 with lr 1, history 25, strong Wolfe, 500 iterations for text and cross-attention and 50
for spatial layers. "exact" is our minimum, "ours" that with a ridge. Bar: an objective of at most
1.0001 times L-BFGS's (keys and values, which all concepts can have: 1e-4 of the base's), weights
that differ from the base's by at most 1.3 times as much, in less time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clif_exp.artifacts.provenance import git_commit, hardware
from clif_exp.base_models.loading import load_pipeline
from clif_exp.base_models.spec import BaseModels, resolve
from clif_exp.base_models.text_tuning import tower
from clif_exp.base_models.unet_tuning.targets import is_target
from clif_exp.methods.fusing import KEYS_AND_VALUES
from clif_exp.methods.gradient_fusion import fuse, objective
from clif_exp.toonworld.names import NAMES

CONCEPTS = NAMES[:3]
RANK = 4
SIZE = 0.1  # of an update, relative to the weight it is added to
ITERATIONS = {"text": 500, "keys and values": 500, "spatial": 50}
RIDGE = {"text": 1e-4, "keys and values": 1e-4, "spatial": 1e-2}
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@torch.no_grad()
def read_by(layers: dict[str, nn.Linear], run: Callable[[], Any]) -> dict[str, Tensor]:
    """Return what each layer reads in a run, float32 [..., inputs]."""
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}
    handles = [
        layer.register_forward_pre_hook(lambda _, given, name=name: seen[name].append(given[0]))
        for name, layer in layers.items()
    ]
    run()
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in seen.items()}


def linear_layers(model: Any, targets: tuple[str, ...]) -> dict[str, nn.Linear]:
    """Return the linear layers whose names end in a target."""
    return {name: m for name, m in model.named_modules() if is_target(name, targets)}


def groups(num_inference_steps: int) -> dict[str, dict[str, tuple[Tensor, list[Tensor]]]]:
    """Return group -> layer -> its base weight, and what it reads of each concept [N, inputs]."""
    pipeline = load_pipeline(resolve(BaseModels(family="toonworld")))
    text = linear_layers(tower(pipeline.text_encoder), TEXT)
    attention = linear_layers(pipeline.unet, ATTENTION)
    found: dict[str, dict[str, tuple[Tensor, list[Tensor]]]] = {name: {} for name in ITERATIONS}

    def add(group: str, layer: str, weight: Tensor, inputs_NI: Tensor) -> None:
        _, inputs = found[group].setdefault(layer, (weight.detach().clone(), []))
        inputs.append(inputs_NI.flatten(end_dim=-2))

    for concept in CONCEPTS:
        prompts = [f"photo of a {concept}", concept]
        ids = pipeline.tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids
        end = (ids == pipeline.tokenizer.eos_token_id).int().argmax(dim=1)
        here = torch.zeros_like(ids, dtype=torch.bool)
        for row, last in enumerate(end.tolist()):
            here[row, last - 1 : last + 1] = True  # the name, one token, and the end of text
        for name, inputs in read_by(text, lambda ids=ids: pipeline.text_encoder(ids)).items():
            add("text", name, text[name].weight, inputs[here])
        with torch.no_grad():
            features = pipeline.text_encoder(ids).last_hidden_state[here]
        read = read_by(
            attention,
            lambda prompts=prompts: pipeline(
                prompts[0],
                guidance_scale=1.0,
                num_inference_steps=num_inference_steps,
                generator=torch.Generator().manual_seed(0),
                output_type="latent",
            ),
        )
        for name, inputs in read.items():
            keys = is_target(name, KEYS_AND_VALUES)
            group = "keys and values" if keys else "spatial"
            add(group, name, attention[name].weight, features if keys else inputs)
    return found


def lbfgs(base: Tensor, *, inputs: list[Tensor], weights: list[Tensor], iterations: int) -> Tensor:
    """Descend from the base as Mix-of-Show does."""
    weight = base.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [weight],
        lr=1,
        max_iter=iterations,
        history_size=25,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-16,
        tolerance_change=1e-16,
    )
    X = torch.cat(inputs)
    wanted = torch.cat([own @ w.T for own, w in zip(inputs, weights, strict=True)])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(X @ weight.T, wanted)
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach()


def compare(
    layers: dict[str, tuple[Tensor, list[Tensor]]], *, iterations: int, ridge: float
) -> dict[str, float | int]:
    """Fuse all layers of a group both ways; objectives are means over layers."""
    generator = torch.Generator().manual_seed(0)
    seconds = {"ours": 0.0, "lbfgs": 0.0}
    value = {"base": 0.0, "mean": 0.0, "exact": 0.0, "ours": 0.0, "lbfgs": 0.0}
    moved = {"exact": 0.0, "ours": 0.0, "lbfgs": 0.0}
    for base, inputs in layers.values():
        weights = []
        for _ in inputs:
            update = torch.randn(len(base), RANK, generator=generator) @ torch.randn(
                RANK, base.shape[1], generator=generator
            )
            weights.append(base + SIZE * update * base.norm() / update.norm())
        problem = {"inputs": inputs, "weights": weights}
        results = {"base": base, "mean": torch.stack(weights).mean(dim=0)}
        started = time.process_time()
        results["ours"] = fuse(base, **problem, ridge=ridge)
        seconds["ours"] += time.process_time() - started
        started = time.process_time()
        results["lbfgs"] = lbfgs(base, **problem, iterations=iterations)
        seconds["lbfgs"] += time.process_time() - started
        results["exact"] = fuse(base, **problem)
        exact = {"inputs": [x.double() for x in inputs], "weights": [w.double() for w in weights]}
        for name, weight in results.items():
            value[name] += float(objective(weight.double(), **exact)) / len(layers)
        for name in moved:
            moved[name] += float((results[name] - base).norm() / base.norm()) / len(layers)
    return {
        "layers": len(layers),
        "ridge": ridge,
        "inputs_per_layer": sum(len(own) for own in next(iter(layers.values()))[1]),
        "seconds": seconds,
        "times_faster": round(seconds["lbfgs"] / seconds["ours"], 1),
        "objective": value,
        "objective_ours_to_lbfgs": value["ours"] / value["lbfgs"],
        "relative_change_of_weights": moved,
    }


def main() -> None:
    """Print and write the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for results.json")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"hardware": hardware(), "commit": git_commit(digits=7)}
    for name, layers in groups(args.steps).items():
        result[name] = compare(layers, iterations=ITERATIONS[name], ridge=RIDGE[name])
        print(name, json.dumps(result[name], indent=2), flush=True)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "results.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
