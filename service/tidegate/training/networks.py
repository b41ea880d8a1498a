"""The forecasting network: raw values in, quantiles of the coming steps in the same units out.

Nothing happens outside the graph. The network sees how far the current value is from those some steps
ago, so it keeps the values it still needs (`recent`) and which of them exist yet (`seen`) beside the
state of its cells, and it forecasts the distance from the current value. Only operators that ONNX
Runtime computes bit-identically alone and batched are used, hence Exp where Softplus would do, and sums
spelled out where CumSum would do.

Shapes: B rows, T steps, F features, L the longest lag, K horizons, Q quantile levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tidegate.model.manifest import BATCH, Dim, StatePair
from tidegate.tensor import Array, DType
from tidegate.training.cells import RecurrentStack

MAX_CHANGE = 10.0
"""Changes are cut off at so many standard deviations: a broken sensor's value must not make the Exp of the
head overflow, nor drive the cells further than training could have seen."""


@dataclass(frozen=True)
class Scaling:
    """Constants of the graph, measured on the training split, in the units of the data.

    Attributes:
        change_mean: Mean change over each lag, [lags, F].
        change_std: Standard deviation of the change over each lag, [lags, F], never 0.
        horizon_mean: Mean change of the target to each horizon, [K].
        horizon_std: Standard deviation of the target's change to each horizon, [K], never 0.
    """

    change_mean: Array
    change_std: Array
    horizon_mean: Array
    horizon_std: Array


class Changes(nn.Module):
    """Scaled distances of each value from those some steps ago; 0 where there was none yet."""

    offset: Tensor
    factor: Tensor

    def __init__(self, lags: Sequence[int], scaling: Scaling) -> None:
        super().__init__()
        self.lags = tuple(lags)
        self.register_buffer("offset", _constant(scaling.change_mean))
        self.register_buffer("factor", _constant(1 / scaling.change_std))

    @property
    def num_outputs(self) -> int:
        """Width of what `forward` returns."""
        return self.offset.numel()

    def forward(self, x: Tensor, recent: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distances and the states after the last step.

        Args:
            x: Values, [B, T, F].
            recent: The values before the first step, the newest last, [B, L, F].
            seen: 1 where `recent` holds a value, else 0, [B, L, 1].

        Returns:
            Distances [B, T, lags * F], `recent` and `seen` for the next call.
        """
        longest = max(self.lags)
        values = torch.cat([recent, x], 1)
        known = torch.cat([seen, torch.ones_like(x[..., :1])], 1)
        changes = []
        for k, lag in enumerate(self.lags):
            then = slice(longest - lag, -lag)
            distance = (x - values[:, then] - self.offset[k]) * self.factor[k]
            changes.append(torch.clamp(distance, -MAX_CHANGE, MAX_CHANGE) * known[:, then])
        return torch.cat(changes, -1), values[:, -longest:], known[:, -longest:]


class QuantileHead(nn.Module):
    """Quantiles that cannot cross: a middle one, and positive distances up and down from it."""

    offset: Tensor
    factor: Tensor

    def __init__(self, num_inputs: int, num_quantiles: int, scaling: Scaling, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_horizons = len(scaling.horizon_std)
        self.num_quantiles = num_quantiles
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(num_inputs, self.num_horizons * num_quantiles)
        self.register_buffer("offset", _constant(scaling.horizon_mean))
        self.register_buffer("factor", _constant(scaling.horizon_std))

    def forward(self, hidden: Tensor, anchor: Tensor) -> Tensor:
        """Quantiles [B, T, K, Q] in the target's units, for hidden [B, T, N] and anchor [B, T, 1].

        They cannot cross even after rounding: each sum and product below keeps the order of its terms.
        """
        parts = torch.split(self.linear(self.dropout(hidden)), self.num_horizons, -1)
        middle = self.num_quantiles // 2
        quantiles = [parts[middle]]
        for part in parts[middle + 1 :]:
            quantiles.append(quantiles[-1] + torch.exp(part))
        for part in reversed(parts[:middle]):
            quantiles.insert(0, quantiles[0] - torch.exp(part))
        return torch.stack([anchor + (q * self.factor + self.offset) for q in quantiles], -1)


class Forecaster(nn.Module):
    """Changes, recurrent cells, quantile head."""

    def __init__(self, changes: Changes, cells: RecurrentStack, head: QuantileHead, target: int) -> None:
        super().__init__()
        self.changes = changes
        self.cells = cells
        self.head = head
        self.target = target
        self.num_features = changes.offset.shape[1]

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Forecasts and the states after the last step.

        Args:
            x: Raw values, [B, T, F].
            state: `recent` [B, L, F], `seen` [B, L, 1], then the cells' own, each [layers, B, H].

        Returns:
            Quantiles [B, T, K, Q], then the states in the order of the arguments.
        """
        recent, seen, *cell_state = state
        z, recent, seen = self.changes(x, recent, seen)
        hidden, *cell_state = self.cells(z, *cell_state)
        anchor = x[..., self.target : self.target + 1]
        return self.head(torch.cat([hidden, z], -1), anchor), recent, seen, *cell_state

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """Zeros: nothing seen yet."""
        shapes = [pair.graph_shape(batch, 1) for pair in self.state_pairs()]
        return tuple(torch.zeros(shape) for shape in shapes)

    def state_pairs(self) -> tuple[StatePair, ...]:
        """What the network carries, in the order of its arguments."""
        longest = max(self.changes.lags)
        layers, hidden_size = self.cells.state_shape
        shapes: dict[str, tuple[Dim, ...]] = {
            "recent": (BATCH, longest, self.num_features),
            "seen": (BATCH, longest, 1),
            **dict.fromkeys(self.cells.state_names, (layers, BATCH, hidden_size)),
        }
        return tuple(
            StatePair(input_name=name, output_name=f"{name}_next", dtype=DType.FLOAT32, shape=shape)
            for name, shape in shapes.items()
        )


class SingleStep(nn.Module):
    """A forecaster without its time axis: x [B, F] in, quantiles [B, K, Q] out."""

    def __init__(self, forecaster: Forecaster) -> None:
        super().__init__()
        self.forecaster = forecaster

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """One step; the states are as in `Forecaster`."""
        forecast, *state_next = self.forecaster(x.unsqueeze(1), *state)
        return forecast.squeeze(1), *state_next


def _constant(values: Array) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)
