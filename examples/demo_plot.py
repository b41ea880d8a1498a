"""The two pictures of the demo: a PNG by matplotlib, a sketch for the terminal by plotext."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

TITLE = "CO2 at Mauna Loa, ppm: the last two years and the next 26 weeks (80 % band)"
SKETCH_COLUMNS, SKETCH_ROWS = 90, 20


@dataclass(frozen=True)
class Outlook:
    """What is known and what is forecast.

    Attributes:
        weeks: When the known values were measured, datetime64.
        values: The known values, ppm.
        future_weeks: The weeks that are forecast, datetime64.
        quantiles: Shape (weeks ahead, 3): 10 %, median, 90 %.
    """

    weeks: np.ndarray
    values: np.ndarray
    future_weeks: np.ndarray
    quantiles: np.ndarray


def draw(outlook: Outlook, path: Path) -> None:
    """Write the picture to a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(10, 5), layout="constrained")
    axes.plot(outlook.weeks, outlook.values, color="#333333", linewidth=1.2, label="measured")
    low, middle, high = outlook.quantiles.T
    axes.fill_between(outlook.future_weeks, low, high, color="#2a7ab9", alpha=0.25, linewidth=0, label="80 %")
    axes.plot(outlook.future_weeks, middle, color="#2a7ab9", linewidth=1.5, label="median forecast")
    axes.set_title(TITLE)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def sketch(outlook: Outlook) -> str:
    """The same picture in characters, without colours; the band is dotted."""
    import plotext

    ahead = list(range(1, len(outlook.future_weeks) + 1))
    behind = list(range(1 - len(outlook.values), 1))
    low, middle, high = outlook.quantiles.T
    figure = plotext.figure
    figure.clear()
    figure.plot_size(SKETCH_COLUMNS, SKETCH_ROWS)
    for weeks, values, marker in (
        (ahead, low, "."),
        (ahead, high, "."),
        (ahead, middle, "braille"),
        (behind, outlook.values, "braille"),
    ):
        line = figure.signal(weeks, values.tolist(), marker=marker)
        line.lines()
        figure.draw(line)
    figure.title(TITLE)
    figure.label("weeks from now")
    return str(plotext.uncolorize(str(figure.build()))).rstrip()
