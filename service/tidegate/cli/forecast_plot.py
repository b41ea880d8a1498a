"""A forecast as a picture: a line per predicted element, and the span between its quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tidegate.client import TensorSpec
from tidegate.client.forecasts import Forecast
from tidegate.errors import ConfigError
from tidegate.tensor import Array, IntArray

PANEL_INCHES = (8.0, 3.2)


def draw(made: Forecast, outputs: Sequence[TensorSpec], path: Path, *, title: str) -> None:
    """Write a PNG with one panel per output.

    Args:
        made: The forecast.
        outputs: What the model gives.
        path: The file.
        title: What stands above.

    Raises:
        ConfigError: The file cannot be written.
    """
    specs = [spec for spec in outputs if spec.name in made.outputs]
    width, height = PANEL_INCHES
    figure = Figure(figsize=(width, height * len(specs)), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(len(specs), squeeze=False)[:, 0]
    for panel, spec in zip(panels, specs, strict=True):
        _draw_output(panel, spec, made.steps, made.outputs[spec.name])
        panel.set_ylabel(_label(spec))
    panels[-1].set_xlabel("step")
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _draw_output(panel: Axes, spec: TensorSpec, steps: IntArray, values: Array) -> None:
    levels = spec.quantile_levels
    by_level = values.reshape(len(steps), -1, max(1, len(levels)))
    for element in range(by_level.shape[1]):
        quantiles = by_level[:, element]
        [line] = panel.plot(steps, quantiles[:, quantiles.shape[1] // 2], marker=".")
        if len(levels) > 1:
            label = f"{levels[0]:g} to {levels[-1]:g}"
            panel.fill_between(
                steps, quantiles[:, 0], quantiles[:, -1], color=line.get_color(), alpha=0.25, label=label
            )
            panel.legend()


def _label(spec: TensorSpec) -> str:
    names = ", ".join(spec.features) or spec.name
    units = sorted(set(spec.units) - {""})
    return f"{names} ({', '.join(units)})" if units else names
