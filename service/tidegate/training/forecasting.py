"""What a network that is being trained forecasts over a whole series, as one session would be told."""

from __future__ import annotations

import torch
from torch import Tensor

from tidegate.tensor import Array
from tidegate.training.data import Series
from tidegate.training.networks import Forecaster

BLOCK_STEPS = 1024
"""Steps of a long series that are run at once, for the memory that their windows take."""


def forecast_rows(network: Forecaster, series: Series, rows: slice) -> Array:
    """Quantiles made at each of `rows` by a session that began at row 0.

    Returns:
        [rows, K, Q] or, for several targets, [rows, M, K, Q], float32.
    """
    forecasts: Array = forecast_and_unit(network, series, rows)[0].cpu().numpy()
    return forecasts


def forecast_and_unit(network: Forecaster, series: Series, rows: slice) -> tuple[Tensor, Tensor]:
    """Quantiles as `forecast_rows` gives them, and what their errors are measured in, on the network's device."""
    device = next(network.parameters()).device
    state = tuple(s.to(device) for s in network.initial_state(1))
    found = []
    with torch.no_grad():
        for x in torch.split(torch.from_numpy(series.values[None, : rows.stop]), BLOCK_STEPS, 1):
            made = network.make(x.to(device), *state)
            state = made.states
            unit = made.unit.expand(made.trained.shape[:-1])
            found.append((made.outputs[0][0], unit[0]))
    forecasts, units = (torch.cat(parts)[rows.start :] for parts in zip(*found, strict=True))
    return forecasts, units
