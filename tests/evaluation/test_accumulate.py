"""The accumulated metrics: batches, and two ranks that reduce what each has seen."""

from __future__ import annotations

import json
import multiprocessing
import random
from pathlib import Path

import pytest

from clif_exp.evaluation.accumulate import RunMetrics
from clif_exp.evaluation.figures import AMBIGUOUS, NOT_VISIBLE, Figure
from clif_exp.evaluation.metrics import METRICS
from clif_exp.evaluation.results import collect_metrics
from clif_exp.evaluation.scoring import Row, judge_line

NAMES, LAYOUTS = ["a", "b", "c"], ["side", "free"]
VALUES = ("red", "blue", "none", AMBIGUOUS, NOT_VISIBLE)
TRUTH = {
    "a": {"coat": "red", "hat": "cap", "hat_colour": "blue"},
    "b": {"coat": "blue", "hat": "none", "hat_colour": "none"},
    "c": {"coat": "blue", "hat": "cap", "hat_colour": "red"},
}


def made_rows(count: int = 60, *, seed: int = 0) -> list[Row]:
    """Images of every kind with random figures and scores."""
    rng = random.Random(seed)
    rows = []
    for index in range(count):
        kind = ("single", "multi", "prior")[index % 3]
        named = {"single": ["a"], "multi": rng.sample(NAMES, 2), "prior": []}[kind]
        line = {
            "kind": kind,
            "layout": LAYOUTS[index % 2],
            "concepts": named,
            "sides": ["left", "right"] if kind == "multi" and index % 2 else None,
            "seen": rng.choice([True, False]) if kind == "multi" else None,
            "expected": [{"coat": "red"}] if kind == "prior" else [],
        }
        figures = [
            Figure(
                (0.2 * place, 0.2, 0.2 * place + 0.2, 0.9),
                0.9,
                {
                    slot: rng.choice([TRUTH[rng.choice(NAMES)][slot], rng.choice(VALUES)])
                    for slot in TRUTH["a"]
                },
            )
            for place in range(rng.randrange(4))
        ]
        scores = {"text_alignment": rng.uniform(0, 2.5), "text_cosine": rng.uniform(-1, 1)}
        scores["image_alignment"] = rng.uniform(-1, 1) if named else None
        scores["detect_and_compare"] = rng.uniform(-3, 1) if kind == "multi" else None
        judgement = judge_line(
            line,
            figures,
            names=NAMES,
            truth=TRUTH,
            presence_threshold=0.5,
            identity_threshold=0.75,
        )
        rows.append(Row(line, scores, figures, judgement))
    return rows


def computed(*batches: list[Row], before: list[Row]) -> dict[str, float | None]:
    metrics = RunMetrics(names=NAMES, layouts=LAYOUTS)
    for batch in batches:
        metrics.update(batch)
    metrics.update(before, group="prior_before")
    return metrics.compute()


def test_batches_and_their_order_do_not_matter():
    rows, before = made_rows(), made_rows(9, seed=1)
    whole = computed(rows, before=before)
    shuffled = random.Random(3).sample(rows, len(rows))
    assert computed(shuffled[:7], [], shuffled[7:], before=before) == whole
    assert {"multi/leakage", "multi/pairs_seen/side", "prior_before/text_alignment"} <= set(whole)
    assert whole["multi/pictures"] == 20


def test_every_value_lies_in_the_range_that_the_table_states():
    found = computed(made_rows(300), before=made_rows(30, seed=1))
    for metric in METRICS:
        low, high = metric.range
        values = [
            value
            for name, value in found.items()
            if name.endswith(f"/{metric.name}") and value is not None
        ]
        assert values or metric.name == "image_alignment_dino", metric.name
        assert all(low is None or low <= value for value in values)
        assert all(high is None or value <= high for value in values)


def test_the_base_models_images_have_groups_of_their_own_and_change_no_other():
    rows, others = made_rows(), made_rows(30, seed=1)
    alone = computed(rows, before=[])
    metrics = RunMetrics(names=NAMES, layouts=LAYOUTS)
    metrics.update(rows)
    metrics.update(others, group="class_word")
    metrics.update(rows, group="stage1")
    found = metrics.compute()
    assert {name: found[name] for name in alone} == alone
    added = {name for name in found if name not in alone}
    single = {name.removeprefix("single/") for name in alone if name.startswith("single/")}
    assert added == {f"{group}/{name}" for group in ("class_word", "stage1") for name in single}
    for name in single:
        assert found[f"stage1/{name}"] == alone[f"single/{name}"], "the same images"
    assert found["class_word/identity"] == computed(others, before=[])["single/identity"]


def test_a_group_without_images_has_no_metrics_and_one_without_values_says_so():
    line = {"kind": "multi", "layout": "side", "concepts": ["a", "b"], "sides": None, "seen": None}
    judgement = judge_line(
        line, [], names=NAMES, truth=TRUTH, presence_threshold=0.5, identity_threshold=0.75
    )
    found = computed([Row(line, {}, [], judgement)], before=[])
    assert {name.rpartition("/")[0] for name in found} == {"multi", "multi/layout_side"}
    assert (found["multi/identity"], found["multi/attendance"]) == (None, 0.0)


def test_interactions_are_measured_apart_from_each_other():
    def row(relation: str | None, figures: list[Figure]) -> Row:
        line = {"kind": "multi", "layout": "interaction", "concepts": ["a", "b"], "sides": None}
        line |= {"seen": True} | ({"relation": relation} if relation else {})
        judgement = judge_line(
            line,
            figures,
            names=NAMES,
            truth=TRUTH,
            presence_threshold=0.5,
            identity_threshold=0.75,
        )
        return Row(line, {}, figures, judgement)

    shown = Figure((0.1, 0.2, 0.4, 0.9), 0.9, dict(TRUTH["a"]))
    rows = [row("riding", []), row("hugging", [shown]), row(None, [shown])]
    found = collect_metrics(rows, {}, names=NAMES)
    assert found["multi/interaction_riding/attendance"] == 0.0
    assert found["multi/interaction_hugging/attendance"] == 0.5
    assert found["multi/interaction_riding/pictures"] == 1
    assert found["multi/layout_interaction/pictures"] == 3
    assert not any("interaction_behind" in name for name in found)


def test_a_reset_metric_starts_again():
    metrics = RunMetrics(names=NAMES, layouts=LAYOUTS)
    metrics.update(made_rows(12))
    metrics.reset()
    metrics.update(made_rows(6))
    assert metrics.compute() == computed(made_rows(6), before=[])


def test_a_step_returns_the_metrics_of_its_batch_and_accumulates():
    metrics, rows = RunMetrics(names=NAMES, layouts=LAYOUTS), made_rows()
    assert metrics(rows[:30]) == computed(rows[:30], before=[])
    assert metrics(rows[30:]) == computed(rows[30:], before=[])
    assert metrics.compute() == computed(rows, before=[])


def _rank(rank: int, store: Path, first: int, out: Path) -> None:
    """Reduce this rank's images with the other rank's, and alone."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    rows = made_rows()
    mine = rows[:first] if rank == 0 else rows[first:]
    results = []
    for shared in (True, False):
        metrics = RunMetrics(names=NAMES, layouts=LAYOUTS, sync_on_compute=shared)
        for start in range(0, len(mine), 8):
            metrics.update(mine[start : start + 8])
        if rank == 1:
            metrics.update(made_rows(9, seed=1), group="prior_before")
        results.append(metrics.compute())
    out.write_text(json.dumps(results))
    dist.destroy_process_group()


@pytest.mark.parametrize("first", [23, 0])
def test_two_ranks_reduce_to_the_numbers_of_one(tmp_path, first):
    """`first` images are rank 0's: 0 is a rank that has seen nothing."""
    # fork: importing the libraries again would take many times as long.
    fork = multiprocessing.get_context("fork")
    files = [tmp_path / f"{rank}.json" for rank in (0, 1)]
    processes = [
        fork.Process(target=_rank, args=(rank, tmp_path / "store", first, file))
        for rank, file in enumerate(files)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    results = [json.loads(file.read_text()) for file in files]
    alone = computed(made_rows(), before=made_rows(9, seed=1))
    for reduced, _ in results:
        assert reduced == alone
    own = [unshared for _, unshared in results]
    assert own[0] != own[1], "each rank has seen its own images"
    assert own[0] != alone
