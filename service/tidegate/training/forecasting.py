"""What a network that is being trained forecasts over a whole series, as one session would be told."""

from __future__ import annotations

import torch

from tidegate.tensor import Array
from tidegate.training.data import Series
from tidegate.training.networks import Forecaster, Made


def forecast_rows(network: Forecaster, series: Series, rows: slice) -> Array:
    """Quantiles made at each of `rows` by a session that began at row 0.

    Returns:
        [rows, K, Q] or, for several targets, [rows, M, K, Q], float32.
    """
    forecasts: Array = make_rows(network, series, rows).forecasts.cpu().numpy()
    return forecasts


def make_rows(network: Forecaster, series: Series, rows: slice) -> Made:
    """What a network that began at row 0 makes at each of `rows`; tensors without their batch axis."""
    device = next(network.parameters()).device
    with torch.no_grad():
        x = torch.from_numpy(series.values[None, : rows.stop]).to(device)
        made = network.make(x, *(state.to(device) for state in network.initial_state(1)))
    unit = made.unit[0, rows.start :] if made.unit.dim() > made.forecasts.dim() - 2 else made.unit
    return made._replace(forecasts=made.forecasts[0, rows.start :], unit=unit)
