"""The report of one run: `report.html`, a single self-contained file, and grids in `samples/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clif_exp.artifacts.files import write_text
from clif_exp.reporting import charts, sections
from clif_exp.reporting.images import data_uri, write_grid, write_strips
from clif_exp.reporting.tokens import token_tables
from clif_exp.reporting.trackers import log_to_trackers


def write_report(
    run_dir: Path,
    *,
    summary: Mapping[str, Any],
    artifacts: Mapping[str, Path],
    guide: sections.Guide,
    config_yaml: str,
    loggers: Sequence[Any] = (),
) -> None:
    """Write `run_dir/report.html` and `run_dir/samples/*.png`.

    What the run did not produce (a stage left out, an ablated kind of augmentation) is left out.

    Args:
        run_dir: the run's folder.
        summary: what `summary.json` holds.
        artifacts: published folders by name: augment_G, augment_R, augment_M, contrastive,
            diffusion, generation, generation_prior, evaluation; all optional.
        guide: the metrics in the order of tables, each with `name`, `title`, `arrow`, `better`,
            `range` and `meaning`.
        config_yaml: the resolved configuration.
        loggers: Lightning loggers; W&B and TensorBoard ones get the table and the grids.
    """
    artifacts = {
        name: Path(folder)
        for name, folder in artifacts.items()
        if folder is not None and Path(folder).is_dir()
    }
    metrics = (
        summary.get("metrics") or _read_json(artifacts.get("evaluation"), "metrics.json") or {}
    )
    judged = sections.read_judged(artifacts.get("generation"), artifacts.get("evaluation"))
    single = sections.single_rows(judged, artifacts.get("evaluation"))
    pairs = sections.pair_rows(judged)
    prior = sections.prior_rows(artifacts.get("generation"), artifacts.get("generation_prior"))
    augmented = sections.augmented_rows(artifacts)
    grids = {"concepts": single, "pairs": pairs, "prior": prior, "augmented": augmented}
    for name, rows in grids.items():
        write_grid(run_dir / "samples" / f"{name}.png", rows)
    strips, columns = sections.training_strips(artifacts.get("diffusion"))
    write_strips(run_dir / "samples" / "training.png", strips, columns=columns)
    matrices = _read_json(artifacts.get("evaluation"), "confusion_matrix.json") or {}
    distances = _read_json(artifacts.get("evaluation"), "distances.json")
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            summary={"experiment": None, "export": None, "error": None} | dict(summary),
            facts=sections.facts(summary),
            tiles=sections.headline_tiles(metrics, guide),
            tables=sections.metric_tables(metrics, guide),
            thresholds=matrices.get("thresholds", {}),
            single=single,
            pairs=pairs,
            prior=prior,
            augmented=augmented,
            confusion_plots=charts.confusion_plots(matrices),
            distance_plots=charts.distance_plots(distances, matrices),
            loss_plots=charts.loss_plots(artifacts),
            tokens=token_tables(artifacts.get("contrastive")),
            training=data_uri(run_dir / "samples" / "training.png", side=1100) if strips else None,
            stages=sections.stage_rows(summary),
            config=config_yaml,
        )
    )
    write_text(run_dir / "report.html", page)
    log_to_trackers(loggers, metrics=metrics, grids=sorted((run_dir / "samples").glob("*.png")))


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    # Prompts, captions and names come from users: always escaped.
    return Environment(
        loader=PackageLoader("clif_exp.reporting", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _read_json(folder: Path | None, name: str) -> Any:
    return (
        json.loads((folder / name).read_text())
        if folder is not None and (folder / name).exists()
        else None
    )
