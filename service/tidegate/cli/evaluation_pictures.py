"""An evaluation in pictures: errors by horizon, calibration, some of the forecasts.

Needs the `plot` extra.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tidegate.errors import ConfigError
from tidegate.evaluation.evaluation import Evaluation
from tidegate.evaluation.extracts import Anomalies
from tidegate.tensor import Array

SIZE_IN = (8.0, 4.5)
PANEL_HEIGHT_IN = 2.6
MAX_PANELS = 4
"""Targets that an excerpt shows; a picture of more is not looked at."""

DPI = 120
MODEL, REPEAT, SEASON = "tab:blue", "tab:gray", "tab:orange"


def draw_all(found: Evaluation, folder: Path) -> list[Path]:
    """Write one PNG for each picture, over those of an earlier evaluation.

    Args:
        found: The evaluation.
        folder: Made if it is not there.

    Returns:
        The files.

    Raises:
        ConfigError: A file cannot be written.
    """
    figures = {"errors": draw_errors(found), "excerpt": draw_excerpt(found)}
    if found.look.levels:
        figures["calibration"] = draw_calibration(found)
    if found.anomalies is not None:
        figures["anomalies"] = draw_anomalies(found.anomalies, found.label)
    paths = {folder / f"{name}.png": figure for name, figure in figures.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, figure in paths.items():
            figure.savefig(path, format="png", dpi=DPI)
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: {error.strerror}") from error
    return list(paths)


def draw_errors(found: Evaluation) -> Figure:
    """The mean absolute error so many steps ahead, beside the naive forecasts'."""
    is_one = len(found.look.targets) == 1
    means = found.at.of_target(0) if is_one else found.at.overall(found.unit.std)
    figure, panel = _panel(f"{found.label}: mean absolute error")
    # A line needs two points.
    marker = "o" if len(found.horizons) < 3 else ""
    for key, label, color in (
        ("mae_repeat_last", "repeat last", REPEAT),
        ("mae_same_season", f"same time last season ({found.season_steps} steps)", SEASON),
        ("mae", "model", MODEL),
    ):
        if key in means:
            panel.plot(found.horizons, means[key], label=label, color=color, marker=marker)
    panel.set_xlabel("steps ahead")
    panel.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    panel.set_ylabel(_label(found, 0) if is_one else f"standard deviations of the {found.unit.source}")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    panel.legend()
    return figure


def draw_calibration(found: Evaluation) -> Figure:
    """How many values lay at most at each quantile; the diagonal is what the levels say."""
    figure, panel = _panel(f"{found.label}: calibration of the quantiles")
    levels = np.asarray(found.look.levels)
    panel.plot([0, 1], [0, 1], color=REPEAT, linestyle="--", label="calibrated")
    for horizon in found.windows:
        shares = found.at_most[found.horizons.index(horizon)]
        ahead = f"{horizon} step{'' if horizon == 1 else 's'} ahead"
        panel.plot(levels, shares, marker="o", label=ahead)
    panel.set_xlabel("quantile level")
    panel.set_ylabel("share of values at most the quantile")
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1)
    panel.set_aspect("equal")
    panel.grid(alpha=0.3)
    panel.legend()
    return figure


def draw_excerpt(found: Evaluation) -> Figure:
    """The first forecasts of the split and what came, a panel for each target."""
    excerpt, look = found.excerpt, found.look
    shown = look.targets[:MAX_PANELS]
    height = max(SIZE_IN[1], PANEL_HEIGHT_IN * len(shown))
    figure = Figure(figsize=(SIZE_IN[0], height), layout="constrained")
    ahead = f"{excerpt.horizon} step{'' if excerpt.horizon == 1 else 's'} before"
    more = f" ({len(shown)} of {len(look.targets)} targets)" if len(shown) < len(look.targets) else ""
    figure.suptitle(f"{found.label}: as forecast {ahead}{more}", parse_math=False)
    panels = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    times = _times(found)
    for number, panel in enumerate(panels):
        quantiles = excerpt.forecasts[:, number]
        if len(look.levels) > 1:
            label = f"{look.levels[0]:g} to {look.levels[-1]:g}"
            low, high = quantiles[:, 0], quantiles[:, -1]
            panel.fill_between(times, low, high, color=MODEL, alpha=0.25, linewidth=0, label=label)
        panel.plot(times, quantiles[:, look.point], color=MODEL, linewidth=1, label="forecast")
        panel.plot(times, excerpt.truth[:, number], color="black", linewidth=1, label="observed")
        panel.set_ylabel(_label(found, number), parse_math=False)
        panel.grid(alpha=0.3)
    # Outside: inside it would hide the first forecasts.
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    if found.series.times:
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        panels[-1].xaxis.set_major_locator(locator)
        formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
        panels[-1].xaxis.set_major_formatter(formatter)
    else:
        panels[-1].set_xlabel("row")
    return figure


def draw_anomalies(anomalies: Anomalies, label: str) -> Figure:
    """How the anomaly scores are spread; calibrated ones fill every tenth alike."""
    figure, panel = _panel(f"{label}: {anomalies.num_values} anomaly scores")
    edges = np.linspace(0, 1, len(anomalies.counts) + 1)
    shares = np.asarray(anomalies.counts) / anomalies.num_values
    panel.bar(edges[:-1], shares, width=edges[1], align="edge", color=MODEL, edgecolor="white")
    panel.axhline(edges[1], color=REPEAT, linestyle="--", label="calibrated")
    panel.set_xlabel("score")
    panel.set_ylabel("share of scores")
    panel.set_xlim(0, 1)
    panel.legend()
    return figure


def _panel(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_IN, layout="constrained")
    # A name is text, not the formula that a $ in it would begin.
    figure.suptitle(title, parse_math=False)
    return figure, figure.subplots()


def _times(found: Evaluation) -> Array:
    """Where the excerpt's rows stand: their times as the model's clocks show them, or their numbers."""
    rows = found.excerpt.rows
    if not found.series.times:
        return rows + 1
    local = [
        found.series.times[row].astimezone(found.series.zone).replace(tzinfo=None) for row in rows.tolist()
    ]
    return np.array(local, "datetime64[us]")


def _label(found: Evaluation, target: int) -> str:
    name, unit = found.look.targets[target], found.look.units[target]
    return f"{name} ({unit})" if unit else name
