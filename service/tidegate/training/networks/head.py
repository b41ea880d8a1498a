"""From what the cells say to quantiles that cannot cross, alone or together with a linear forecast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tidegate.training.networks.scaling import Scaling, constant


class Quantiles(NamedTuple):
    """What a head says.

    Attributes:
        forecasts: [B, T, K, Q] or, for several targets, [B, T, M, K, Q].
        trained: What the loss looks at, in the same shape.
    """

    forecasts: Tensor
    trained: Tensor


class Head(nn.Module, ABC):
    """What all heads share: how their answers are laid out and scaled.

    Attributes:
        answer_shape: (K,) or, for several targets, (M, K).
        num_forecasts: M * K.
        num_rows: Targets that are told apart by an axis of what the cells say; 1 without one.
    """

    offset: Tensor
    factor: Tensor

    def __init__(self, num_quantiles: int, scaling: Scaling, dropout: float, num_rows: int) -> None:
        super().__init__()
        self.answer_shape: tuple[int, ...] = scaling.horizon_std.shape
        self.num_forecasts: int = scaling.horizon_std.size
        self.num_rows = num_rows
        self.row_width = self.num_forecasts // num_rows
        self.num_quantiles = num_quantiles
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("offset", constant(scaling.horizon_mean.reshape(-1)))
        self.register_buffer("factor", constant(scaling.horizon_std.reshape(-1)))

    def widen(self, factors: Tensor) -> None:
        """Scale the distances between neighbouring quantiles for good; only biases change.

        Args:
            factors: Of each distance, from the lowest up, above 0, [Q - 1, M * K / num_rows].
        """
        with torch.no_grad():
            for biases, factor in zip(self._width_biases(), factors, strict=True):
                biases.add_(torch.log(factor))

    @abstractmethod
    def _width_biases(self) -> list[Tensor]:
        """Views of what is added to the logarithm of each distance, from the lowest up."""

    def _parts(self, told: Tensor) -> list[Tensor]:
        """What a linear layer gives for each quantile that it speaks of, [B, T, M * K]."""
        parts = torch.split(told, self.row_width, -1)
        return [part.flatten(2) for part in parts] if self.num_rows > 1 else list(parts)

    def _distance(self, quantile: Tensor, unit: Tensor | None) -> Tensor:
        """Of a quantile from the anchor, in the targets' units."""
        distance = quantile * self.factor + self.offset
        return distance if unit is None else distance * unit

    def _laid_out(self, quantiles: list[Tensor]) -> Tensor:
        found = torch.stack(quantiles, -1)
        return found if len(self.answer_shape) == 1 else with_targets(found, 2, self.answer_shape)


class QuantileHead(Head):
    """A middle quantile, and positive distances up and down from it."""

    def __init__(
        self,
        num_inputs: int,
        num_quantiles: int,
        scaling: Scaling,
        dropout: float = 0.0,
        *,
        num_rows: int = 1,
    ) -> None:
        super().__init__(num_quantiles, scaling, dropout, num_rows)
        self.linear = nn.Linear(num_inputs, self.row_width * num_quantiles)

    def forward(self, hidden: Tensor, anchor: Tensor, unit: Tensor | None = None) -> Quantiles:
        """Quantiles in the targets' units.

        They cannot cross even after rounding: each sum and product below keeps the order of its terms.

        Args:
            hidden: What the cells say, [B, T, N] or, with a row for each target, [B, T, M, N].
            anchor: What distances are measured from, [B, T, M * K] or what broadcasts to it.
            unit: What they are measured in, in the same shape, above 0; None: the units of the data.
        """
        parts = self._parts(self.linear(self.dropout(hidden)))
        middle = self.num_quantiles // 2
        quantiles = spread(parts[middle], parts[:middle], parts[middle + 1 :], torch.exp)
        found = self._laid_out([anchor + self._distance(q, unit) for q in quantiles])
        return Quantiles(found, found)

    def _width_biases(self) -> list[Tensor]:
        biases = list(self.linear.bias.view(self.num_quantiles, -1))
        del biases[self.num_quantiles // 2]
        return biases


class BlendedHead(Head):
    """A middle quantile between the cells' own forecast and a linear one, and distances up and down from it.

    The cells learn to forecast alone, so that the two err in different ways; the distances learn how far the
    blend is off, and the cells do not learn from them.
    """

    def __init__(
        self,
        num_inputs: int,
        num_quantiles: int,
        scaling: Scaling,
        dropout: float = 0.0,
        *,
        share: float,
        num_rows: int = 1,
    ) -> None:
        """Begin with the anchor as the cells' own forecast.

        Args:
            num_inputs: Width of what the cells say.
            num_quantiles: Odd.
            scaling: Of the distances.
            dropout: Share of the inputs that are hidden at random while training.
            share: How much the cells' own forecast counts; the linear one counts for the rest.
            num_rows: Targets that are told apart by an axis of what the cells say.
        """
        super().__init__(num_quantiles, scaling, dropout, num_rows)
        self.share = share
        self.middle = nn.Linear(num_inputs, self.row_width)
        self.widths = nn.Linear(num_inputs, self.row_width * (num_quantiles - 1))
        for layer in (self.middle, self.widths):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Tensor, anchor: Tensor, base: Tensor, unit: Tensor | None = None) -> Quantiles:
        """Quantiles in the targets' units; they cannot cross, because a sum with a positive number grows.

        Args:
            hidden: What the cells say, [B, T, N] or, with a row for each target, [B, T, M, N].
            anchor: What the cells' forecast is measured from, [B, T, M * K] or what broadcasts to it.
            base: The linear forecast, [B, T, M * K].
            unit: What distances are measured in, in the same shape, above 0; None: the units of the data.
        """
        hidden = self.dropout(hidden)
        (middle,) = self._parts(self.middle(hidden))
        own = anchor + self._distance(middle, unit)
        blend = base + self.share * (own - base)
        widths = self._parts(self.widths(hidden.detach())) if self.num_quantiles > 1 else []
        size = self.factor if unit is None else self.factor * unit
        below = len(widths) // 2
        quantiles = spread(blend.detach(), widths[:below], widths[below:], lambda w: torch.exp(w) * size)
        forecasts = [*quantiles[:below], blend, *quantiles[below + 1 :]]
        trained = [*quantiles[:below], own, *quantiles[below + 1 :]]
        return Quantiles(self._laid_out(forecasts), self._laid_out(trained))

    def _width_biases(self) -> list[Tensor]:
        return list(self.widths.bias.view(-1, self.row_width))


def spread(
    middle: Tensor, below: list[Tensor], above: list[Tensor], distance: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """Quantiles around a middle one, from the lowest up, a distance apart from each other.

    Args:
        middle: The middle one.
        below: What the distances below it come from, the lowest first.
        above: What those above it come from.
        distance: Makes a positive number of each.
    """
    quantiles = [middle]
    for part in above:
        quantiles.append(quantiles[-1] + distance(part))
    for part in reversed(below):
        quantiles.insert(0, quantiles[0] - distance(part))
    return quantiles


def with_targets(values: Tensor, axis: int, answer_shape: tuple[int, ...]) -> Tensor:
    """Part an axis of M * K into targets and horizons."""
    parted: Tensor = nn.Unflatten(axis, answer_shape)(values)
    return parted
