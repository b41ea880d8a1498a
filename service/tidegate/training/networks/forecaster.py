"""The modules strung together: raw values and states in, quantiles and states out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tidegate.model.manifest import StatePair
from tidegate.tensor import Array
from tidegate.training.cells import RecurrentStack
from tidegate.training.networks.changes import Changes
from tidegate.training.networks.head import QuantileHead
from tidegate.training.networks.missing import Missing
from tidegate.training.states import Carried, Carrier, split_states
from tidegate.training.networks.units import FixedUnit, RunningUnit


class Made(NamedTuple):
    """What a network makes of a chunk.

    Attributes:
        forecasts: Quantiles, [B, T, K, Q] or, for several targets, [B, T, M, K, Q].
        unit: What an error is measured in, for training: broadcasts to the forecasts without Q.
        states: After the last step.
    """

    forecasts: Tensor
    unit: Tensor
    states: tuple[Tensor, ...]


class Forecaster(nn.Module):
    """What is missing, units, changes, recurrent cells, quantile head.

    Attributes:
        targets: Positions of the columns that are forecast.
    """

    def __init__(
        self,
        changes: Changes,
        cells: RecurrentStack,
        head: QuantileHead,
        targets: Sequence[int],
        *,
        missing: Missing | None = None,
        unit: FixedUnit | RunningUnit | None = None,
        sees_level: bool = False,
    ) -> None:
        """String the modules together.

        Args:
            changes: Looks back.
            cells: Take changes, level, what is missing and the calendar, in this order.
            head: Takes the cells' outputs, then what they took.
            targets: Positions of the columns that are forecast; one of them needs no axis in the answers.
            missing: Fills NaN; None: there is none.
            unit: What values and changes are measured in; None: the units of the data.
            sees_level: The cells see the level of each column, which needs a unit.
        """
        super().__init__()
        self.changes = changes
        self.cells = cells
        self.head = head
        self.missing = missing
        self.unit = unit
        self.sees_level = sees_level
        self.targets = tuple(targets)
        self.num_columns = changes.num_columns

    @property
    def steps_alone(self) -> bool:
        """The graph takes one step at a time, because a module needs a recursion beside the cells."""
        recursive = self.missing is not None or isinstance(self.unit, RunningUnit)
        return recursive or not self.cells.has_time_loop

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Forecasts and the states after the last step.

        Args:
            x: Raw values, the columns and then the calendar, [B, T, F].
            state: As `carried` says.

        Returns:
            Quantiles [B, T, K, Q] or [B, T, M, K, Q], then the states in the order of the arguments.
        """
        made = self.make(x, *state)
        return made.forecasts, *made.states

    def make(self, x: Tensor, *state: Tensor) -> Made:
        """As `forward`, with what training needs."""
        given = iter(split_states(self._carriers, state))
        is_missing, unit, seen_too = None, None, []
        after: list[Tensor] = []
        values, calendar = self._parted(x)
        if self.missing is not None:
            values, is_missing, old, *states = self.missing(values, *next(given))
            seen_too = [is_missing, old]
            after += states
        if self.unit is not None:
            level, unit, *states = self.unit(values, is_missing, *next(given))
            seen_too = [level, *seen_too] if self.sees_level else seen_too
            after += states
        z, *states = self.changes(values, *next(given), unit)
        after += states
        if seen_too or calendar:
            z = torch.cat([z, *seen_too, *calendar], -1)
        hidden, *states = self.cells(z, *next(given))
        after += states
        target_unit = None if unit is None else self._of_targets(unit)
        forecasts = self.head(torch.cat([hidden, z], -1), self._of_targets(values), target_unit)
        return Made(forecasts, self._error_unit(target_unit), tuple(after))

    @property
    def carried(self) -> tuple[Carried, ...]:
        """What the network carries, in the order of its arguments."""
        return tuple(state for carrier in self._carriers for state in carrier.carried)

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """Nothing seen yet."""
        return tuple(state.start(batch) for state in self.carried)

    def state_pairs(self) -> tuple[StatePair, ...]:
        """As the manifest has them."""
        return tuple(state.pair() for state in self.carried)

    def initial_values(self) -> dict[str, Array]:
        """Of those states that do not begin with one number, as `export_package` takes them."""
        return {s.name: s.initial for s in self.carried if not isinstance(s.initial, float)}

    @property
    def _carriers(self) -> list[Carrier]:
        parts: list[Carrier | None] = [self.missing, self.unit, self.changes, self.cells]
        return [part for part in parts if part is not None]

    def _parted(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The columns, and the calendar where there is one."""
        if x.shape[-1] == self.num_columns:
            return x, []
        calendar = x[..., self.num_columns :]
        if self.missing is not None:
            # The input takes NaN anywhere; whoever sends one here must not blind the session for good.
            calendar = torch.where(torch.isnan(calendar), 0.0, calendar)
        return x[..., : self.num_columns], [torch.clamp(calendar, -1, 1)]

    def _of_targets(self, values: Tensor) -> Tensor:
        """For each forecast of a step, the value of its column: [B, T, 1] or [B, T, M * K]."""
        if len(self.targets) == 1:
            return values[..., self.targets[0] : self.targets[0] + 1]
        num_horizons = self.head.num_forecasts // len(self.targets)
        return values[..., [t for t in self.targets for _ in range(num_horizons)]]

    def _error_unit(self, unit: Tensor | None) -> Tensor:
        factor = self.head.factor if unit is None else self.head.factor * unit
        return factor.unflatten(-1, self.head.answer_shape)


class SingleStep(nn.Module):
    """A forecaster without its time axis: x [B, F] in, quantiles [B, K, Q] out."""

    def __init__(self, forecaster: Forecaster) -> None:
        super().__init__()
        self.forecaster = forecaster

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """One step; the states are as in `Forecaster`."""
        forecast, *state_next = self.forecaster(x.unsqueeze(1), *state)
        return forecast.squeeze(1), *state_next
