"""Draws the plots of the page as SVG data URIs: sharp at any zoom, and small files."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ACCENT, SECOND, THIRD, GREY = "#4f46e5", "#f59e0b", "#10b981", "#9ca3af"
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#d1d5db",
    "axes.labelcolor": "#374151",
    "text.color": "#1f2937",
    "xtick.color": "#6b7280",
    "ytick.color": "#6b7280",
    "axes.titleweight": "bold",
    "axes.titlesize": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "clif_exp",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def new_figure(
    width: float, height: float, *, panels: int = 1, one_scale: bool = True
) -> tuple[Any, Any]:
    """Return a figure in the style of all plots, and its axes; the size is in inches.

    Of several `panels` beside each other the axes are an array, and with `one_scale` share what is
    upwards.
    """
    import matplotlib

    matplotlib.rcParams.update(_STYLE)
    # Figure objects instead of pyplot: no global state, no backend, no window.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, panels, sharey=one_scale)


def svg(figure: Any) -> str:
    """Return a figure as a standalone SVG document."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().decode()


def _uri(figure: Any) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg(figure).encode()).decode()}"


def plot_matrix(rows: Sequence[Sequence[float] | None], **labels: Any) -> str:
    """Draw a matrix as `matrix_figure` does, for the page."""
    return _uri(matrix_figure(rows, **labels))


def matrix_figure(
    rows: Sequence[Sequence[float] | None],
    *,
    row_names: Sequence[str],
    column_names: Sequence[str],
    title: str,
    x_label: str,
    y_label: str,
) -> Any:
    """Draw a matrix of numbers in [0, 1] with its values; rows that hold None stay empty."""
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    values = np.array(
        [row if row is not None else [np.nan] * len(column_names) for row in rows], dtype=float
    )
    figure, axes = new_figure(1.9 + 0.5 * len(column_names), 1.4 + 0.42 * len(row_names))
    colours = LinearSegmentedColormap.from_list("accent", ["#f5f5ff", ACCENT])
    axes.imshow(values, cmap=colours, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(column_names)), column_names, rotation=40, ha="right")
    axes.set_yticks(range(len(row_names)), row_names)
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if values.size <= 400:
        for row, column in np.argwhere(~np.isnan(values)):
            value = values[row, column]
            text = f"{value:.2f}".lstrip("0") if 0 < value < 1 else f"{value:.0f}"
            axes.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=7,
                color="white" if value > 0.55 else "#374151",
            )
    return figure


def plot_bars(values: Mapping[str, Mapping[str, float]], *, title: str, x_label: str) -> str:
    """Draw horizontal bars in [0, 1]: name -> series -> value."""
    series = list(dict.fromkeys(key for row in values.values() for key in row))
    height = 0.8 / max(len(series), 1)
    figure, axes = new_figure(4.6, 1.0 + 0.34 * len(values) * max(1, len(series) * 0.7))
    for offset, (key, colour) in enumerate(
        zip(series, (ACCENT, SECOND, THIRD, GREY), strict=False)
    ):
        places = [row + (offset - (len(series) - 1) / 2) * height for row in range(len(values))]
        axes.barh(
            places,
            [row.get(key, 0.0) for row in values.values()],
            height=height * 0.9,
            color=colour,
            label=key,
        )
    axes.set_yticks(range(len(values)), list(values))
    axes.invert_yaxis()
    axes.set(title=title, xlabel=x_label, xlim=(0, 1.02))
    if len(series) > 1:
        figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=len(series))
    return _uri(figure)


def plot_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    y_label: str = "loss",
) -> str:
    """Draw curves over steps: name -> (steps, values), noisy ones with a running mean on top."""
    import numpy as np

    figure, axes = new_figure(4.6, 2.7)
    for (name, (steps, values)), colour in zip(
        curves.items(), (ACCENT, SECOND, THIRD, GREY), strict=False
    ):
        window = max(1, len(values) // 25)
        if window > 1:
            axes.plot(steps, values, color=colour, alpha=0.22, linewidth=0.8)
            padded = np.pad(
                np.asarray(values, dtype=float),
                (window // 2, window - 1 - window // 2),
                mode="edge",
            )
            values = np.convolve(padded, np.ones(window) / window, mode="valid").tolist()
        marker = "o" if len(values) < 12 else None  # a single point draws no line
        axes.plot(
            steps, values, color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=name
        )
    axes.set(title=title, xlabel="step", ylabel=y_label)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#eef0f3")
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=8)
    return _uri(figure)


def plot_points(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    labels: Sequence[str],
    *,
    title: str,
    x_label: str,
    y_label: str,
) -> str:
    """Draw points of one series or more over the same places, the first one's with labels."""
    figure, axes = new_figure(4.6, 3.0)
    for (name, y), colour in zip(series.items(), (ACCENT, SECOND, THIRD, GREY), strict=False):
        axes.scatter(x, y, color=colour, s=30, linewidths=0, zorder=3, alpha=0.8, label=name)
    if len(series) > 1:
        figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=len(series))
    if len(labels) <= 12:
        for place in zip(x, next(iter(series.values())), labels, strict=True):
            axes.annotate(
                place[2],
                place[:2],
                xytext=(3, 4),
                textcoords="offset points",
                rotation=40,  # points at one height, such as 1, are neighbours
                rotation_mode="anchor",
                fontsize=7,
                color="#6b7280",
            )
    axes.set(title=title, xlabel=x_label, ylabel=y_label)
    axes.margins(x=0.15, y=0.15)
    low, high = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    axes.set_ylim(low, high + 0.3 * (high - low))  # room for the labels
    axes.set_axisbelow(True)
    axes.grid(color="#eef0f3")
    return _uri(figure)


def read_curves(file: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Read the loss columns of a `metrics.csv` over its column `step`; empty cells are skipped."""
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    curves = {}
    for column in rows[0] if rows else []:
        if "loss" not in column or "step" not in rows[0]:
            continue
        points = [
            (float(row["step"]), float(row[column]))
            for row in rows
            if row.get(column) and row.get("step")
        ]
        if points:
            curves[column] = ([step for step, _ in points], [value for _, value in points])
    return curves
