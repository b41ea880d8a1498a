"""Gates and memories as heat maps: time to the right, units upwards, one row of panels per layer.

Needs the `plot` extra.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tidegate.client import Inspection
from tidegate.errors import ConfigError
from tidegate.tensor import Array

PANEL_WIDTH_IN, PANEL_HEIGHT_IN = 3.2, 2.6
HEAD_IN = 0.5
"""Space for the title, whatever the number of layers."""

DPI = 120


class _Look(NamedTuple):
    """How a trace is drawn: its symbol, and whether it opens and closes (0 to 1) or goes both ways from 0."""

    symbol: str
    is_gate: bool


_LOOKS = {
    "f_t": _Look("$f_t$  forget gate", True),
    "i_t": _Look("$i_t$  input gate", True),
    "c_tilde_t": _Look(r"$\tilde{C}_t$  candidate", False),
    "o_t": _Look("$o_t$  output gate", True),
    "c_t": _Look("$C_t$  memory", False),
    "h_t": _Look("$h_t$  output", False),
    "z_t": _Look("$z_t$  update gate", True),
    "r_t": _Look("$r_t$  reset gate", True),
    "h_tilde_t": _Look(r"$\tilde{h}_t$  candidate", False),
}


def draw(inspection: Inspection, path: Path, *, title: str) -> None:
    """Draw an inspection and write it as a PNG.

    Raises:
        ConfigError: The file cannot be written.
    """
    num_rows = len(inspection.layers)
    num_columns = max(len(layer.traces) for layer in inspection.layers)
    size = (PANEL_WIDTH_IN * num_columns, PANEL_HEIGHT_IN * num_rows + HEAD_IN)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    # A session's id is text, not the formula that a $ in it would begin.
    figure.suptitle(f"session {title}", parse_math=False)
    panels = figure.subplots(num_rows, num_columns, squeeze=False)
    for number, layer in enumerate(inspection.layers):
        for axes in panels[number, len(layer.traces) :]:
            axes.set_axis_off()
        for axes, (name, values) in zip(panels[number], layer.traces.items(), strict=False):
            _draw_panel(figure, axes, name, values, inspection.first_step)
        panels[number, 0].set_ylabel(f"layer {number}: {layer.cell}\nunit")
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _draw_panel(figure: Figure, axes: Axes, name: str, values: Array, first_step: int) -> None:
    look = _LOOKS.get(name, _Look(name, False))
    num_steps, num_units = values.shape
    finite = values[np.isfinite(values)]
    reach = max(1e-6, float(np.abs(finite).max(initial=0)))
    low, high = (0.0, 1.0) if look.is_gate else (-reach, reach)
    image = axes.imshow(
        values.T,
        aspect="auto",
        origin="lower",
        interpolation="nearest",
        cmap="viridis" if look.is_gate else "RdBu_r",
        vmin=low,
        vmax=high,
        # Each cell is centred on its step and its unit.
        extent=(first_step - 0.5, first_step + num_steps - 0.5, -0.5, num_units - 0.5),
    )
    axes.set_title(look.symbol, fontsize="medium")
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
    figure.colorbar(image, ax=axes)
