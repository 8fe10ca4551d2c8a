"""The metrics of a run as one `torchmetrics.Metric`: fed in batches, reduced over ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
import torchmetrics
from torch import Tensor
from torchmetrics.utilities.data import dim_zero_cat

from clif_exp.evaluation.metrics import BASE_GROUPS, IMAGE_COUNT, METRICS, Metric, kind_of_group
from clif_exp.evaluation.scoring import Row

_NO_PAIR = -1


class RunMetrics(torchmetrics.Metric):
    """Accumulates judged images and computes every metric of every group of images.

    Ranks may see different images, in any order and any number: values are gathered and summed
    exactly (`math.fsum`), so that the result does not depend on who saw what.

    Args:
        names: all concepts.
        layouts: layouts of the prompts; every rank must name the same ones.
        relations: interactions that the prompts ask for, likewise.
        arguments: of `torchmetrics.Metric`, such as `sync_on_compute`.
    """

    full_state_update = False
    images: Tensor
    judged: Tensor
    values: list[Tensor]

    def __init__(
        self,
        *,
        names: Sequence[str],
        layouts: Sequence[str],
        relations: Sequence[str] = (),
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.names = list(names)
        self.groups = [
            *("single", "multi", "multi/pairs_seen", "multi/pairs_unseen"),
            *(f"multi/layout_{layout}" for layout in sorted(set(layouts))),
            *(f"multi/interaction_{relation}" for relation in sorted(set(relations))),
            *("prior", *BASE_GROUPS),
        ]
        counts_G = torch.zeros(len(self.groups), dtype=torch.int64)
        self.add_state("images", counts_G, dist_reduce_fx="sum")
        self.add_state("judged", counts_G.clone(), dist_reduce_fx="sum")
        # Lines of (group, metric, pair of concepts, value).
        self.add_state("values", [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        # A rank without images must still gather columns, in double precision.
        self.values = [torch.zeros(0, 4, dtype=torch.float64, device=self.device)]

    def update(self, rows: Sequence[Row], *, group: str | None = None) -> None:
        """Take in a batch of images.

        Args:
            rows: scored and judged images.
            group: one of `metrics.BASE_GROUPS`, if they are the base model's; images of a kind that
                the group does not have are left out.
        """
        lines: list[tuple[float, float, float, float]] = []
        for row in rows:
            for name in self._groups_of(row.line, group=group):
                place = self.groups.index(name)
                self.images[place] += 1
                self.judged[place] += row.judgement is not None
                lines += [
                    (place, index, pair, value)
                    for index, metric in enumerate(METRICS)
                    for pair, value in self._measure(metric, row)
                ]
        batch_N4 = torch.tensor(lines, dtype=torch.float64, device=self.device).reshape(-1, 4)
        self.values.append(batch_N4)

    def compute(self) -> dict[str, float | None]:
        """Return the flat metrics, `group/name` -> value; None where nothing could be measured."""
        found: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for place, index, pair, value in dim_zero_cat(self.values).tolist():
            key = (self.groups[int(place)], METRICS[int(index)].name)
            found.setdefault(key, []).append((int(pair), value))
        metrics: dict[str, float | None] = {}
        for group, images, judged in zip(
            self.groups, self.images.tolist(), self.judged.tolist(), strict=True
        ):
            for metric in METRICS:
                if kind_of_group(group) not in metric.groups:
                    continue
                values = found.get((group, metric.name), [])
                if metric.beyond_single:
                    values = _subtract_baseline(values, found.get(("single", metric.name), []))
                if values:
                    metrics[f"{group}/{metric.name}"] = fmean(value for _, value in values)
                elif judged and metric.judged is not None:
                    metrics[f"{group}/{metric.name}"] = None
            if images:
                metrics[f"{group}/{IMAGE_COUNT}"] = float(images)
        return metrics

    @staticmethod
    def _groups_of(line: Mapping[str, Any], *, group: str | None) -> list[str]:
        kind = line["kind"]
        if group is not None:
            return [group] if kind == kind_of_group(group) else []
        if kind != "multi":
            return [kind]
        groups = ["multi", f"multi/layout_{line['layout']}"]
        if line.get("relation") is not None:
            groups.append(f"multi/interaction_{line['relation']}")
        if line.get("seen") is not None:
            groups.append("multi/pairs_seen" if line["seen"] else "multi/pairs_unseen")
        return groups

    def _measure(self, metric: Metric, row: Row) -> list[tuple[int, float]]:
        """Return (pair of concepts or _NO_PAIR, value) for each value of a metric in an image."""
        if metric.judged is None:
            score = row.scores.get(metric.name)
            return [] if score is None else [(_NO_PAIR, score)]
        if row.judgement is None:
            return []
        measured = metric.judged(row.judgement)
        if not metric.beyond_single:
            return [(_NO_PAIR, value) for value in measured.values()]
        if not set(row.judgement.named) <= set(self.names):
            return []  # the strangers of a prior prompt are no concepts
        return [(self._pair(*pair), value) for pair, value in measured.items()]

    def _pair(self, concept: str, other: str) -> int:
        return self.names.index(concept) * len(self.names) + self.names.index(other)


def _subtract_baseline(
    values: Sequence[tuple[int, float]], singles: Sequence[tuple[int, float]]
) -> list[tuple[int, float]]:
    """Subtract from each value its pair's mean in single-concept images, or all pairs' mean.

    Without such images there is nothing to subtract, and no value: `leakage_uncorrected` has them.
    """
    rates: dict[int, list[float]] = {}
    for pair, value in singles:
        rates.setdefault(pair, []).append(value)
    baseline = {pair: fmean(shares) for pair, shares in rates.items()}
    if not baseline:
        return []
    typical = fmean(baseline.values())
    return [(pair, value - baseline.get(pair, typical)) for pair, value in values]
