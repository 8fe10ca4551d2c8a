"""The report of one run: `report.html`, a single self-contained file, and grids in `samples/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clif_exp.artifacts.files import write_text
from clif_exp.pages import render
from clif_exp.reporting import charts, sections
from clif_exp.reporting.attention import attention_rows
from clif_exp.reporting.images import data_uri, write_grid, write_strips
from clif_exp.reporting.tokens import drawn_table, readability_warnings, token_tables

CURATION_PAGE = "curation.html"
"""Curation's page, beside the report in the run's folder."""
SWEEP_PAGE = "comparison.html"
"""A sweep's page, in the sweep's folder: one above the run's."""


def write_report(
    run_dir: Path,
    *,
    summary: Mapping[str, Any],
    artifacts: Mapping[str, Path],
    guide: sections.Guide,
    config_yaml: str,
    set_name: str | None = None,
    class_words: Mapping[str, str] | None = None,
    warnings: Sequence[str] = (),
    left_out: Sequence[str] = (),
    in_sweep: bool = False,
) -> None:
    """Write `run_dir/report.html` and `run_dir/samples/*.png`.

    What the run did not produce (a stage left out, an ablated kind of augmentation) is left out.

    Args:
        run_dir: the run's folder.
        summary: what `summary.json` holds.
        artifacts: published folders by name: augment_G, augment_R, augment_M, contrastive,
            diffusion, generation, generation_prior, generation_class_word, generation_stage1,
            generation_plain, generation_regional, evaluation, attention, attention_class_word,
            attention_stage1, general_pairs; all optional.
        guide: the metrics in the order of tables, each with `name`, `title`, `arrow`, `better`,
            `range` and `meaning`.
        config_yaml: the resolved configuration.
        set_name: of the concept set.
        class_words: concept -> its class word.
        warnings: sentences that stand above everything else: why the results may mislead.
        left_out: sentences on what was given or found and is not used.
        in_sweep: whether the run is a job of a sweep, to whose page the report then links.
    """
    artifacts = {
        name: Path(folder)
        for name, folder in artifacts.items()
        if folder is not None and Path(folder).is_dir()
    }
    evaluation = artifacts.get("evaluation")
    metrics = summary.get("metrics") or _read_json(evaluation, "metrics.json") or {}
    matrices = _read_json(evaluation, "confusion_matrix.json") or {}
    grids, attention = sample_rows(artifacts), attention_rows(artifacts)
    of_all = [row for rows in attention.values() for row in rows]
    for name, rows in (grids | {"attention": of_all}).items():
        write_grid(run_dir / "samples" / f"{name}.png", rows)
    page = render(
        "clif_exp.reporting",
        "report.html.j2",
        summary={"experiment": None, "export": None, "error": None} | dict(summary),
        facts=sections.facts(summary),
        set_name=set_name,
        members=sections.members(class_words or {}),
        warnings=warnings,
        left_out=left_out,
        sweep_page=f"../{SWEEP_PAGE}" if in_sweep else None,
        curation_page=CURATION_PAGE if (run_dir / CURATION_PAGE).is_file() else None,
        tiles=sections.headline_tiles(metrics, guide),
        tables=sections.metric_tables(metrics, guide),
        thresholds=matrices.get("thresholds", {}),
        **grids,
        redrawn_plainly="generation_plain" in artifacts,
        attention=attention,
        judged=any(tile.good is not None for _, tiles in grids["pairs"] for tile in tiles),
        confusion_plots=charts.confusion_plots(matrices),
        distance_plots=charts.distance_plots(
            _read_json(evaluation, "distances.json"),
            _read_json(evaluation, "distance_confusion.json"),
            _read_json(artifacts.get("general_pairs"), "distance_confusion.json"),
        ),
        loss_plots=charts.loss_plots(artifacts),
        tokens=token_tables(artifacts.get("contrastive")),
        drawn=drawn_table(metrics, guide),
        token_warnings=readability_warnings(artifacts.get("contrastive"), metrics),
        training=_training_samples(run_dir, artifacts.get("diffusion")),
        stages=sections.stage_rows(summary),
        config=config_yaml,
    )
    write_text(run_dir / "report.html", page)


def sample_rows(artifacts: Mapping[str, Path]) -> dict[str, sections.Rows]:
    """The rows of each grid in `samples/`, as far as their images are drawn already."""
    generation, evaluation = artifacts.get("generation"), artifacts.get("evaluation")
    judged = sections.read_judged(generation, evaluation)
    return {
        "concepts": sections.single_rows(judged, evaluation),
        "stage_1": sections.stage_1_rows(artifacts),
        "pairs": sections.pair_rows(judged),
        "redrawn": sections.redrawn_rows(judged, artifacts),
        "prior": sections.prior_rows(generation, artifacts.get("generation_prior")),
        "augmented": sections.augmented_rows(artifacts),
    }


def _training_samples(run_dir: Path, diffusion: Path | None) -> str | None:
    """Write `samples/training.png` and return it as a data URI; None without samples."""
    strips, columns = sections.training_strips(diffusion)
    if not strips:
        return None
    file = run_dir / "samples" / "training.png"
    write_strips(file, strips, columns=columns)
    return data_uri(file, side=1100)


def _read_json(folder: Path | None, name: str) -> Any:
    return (
        json.loads((folder / name).read_text())
        if folder is not None and (folder / name).exists()
        else None
    )
