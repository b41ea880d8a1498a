"""The modules strung together: raw values and states in, quantiles and states out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tidegate.model.manifest import StatePair
from tidegate.tensor import Array
from tidegate.training.cells import RecurrentStack
from tidegate.training.networks.anomaly import AnomalyScore
from tidegate.training.networks.calendar import CalendarBins
from tidegate.training.networks.changes import Changes, WindowChanges
from tidegate.training.networks.head import BlendedHead, QuantileHead, Quantiles, with_targets
from tidegate.training.networks.linear import LinearBase
from tidegate.training.networks.missing import Missing
from tidegate.training.networks.scaling import constant
from tidegate.training.networks.shared import SharedCells
from tidegate.training.networks.units import FixedUnit, Unit
from tidegate.training.states import Carried, Carrier, split_states


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The modules of a network; None for what it does without.

    Attributes:
        changes: Looks back.
        cells: Take changes, level, what is missing and the calendar, in this order.
        head: Takes what the cells say.
        missing: Fills NaN.
        unit: What values and changes are measured in; without it, the units of the data.
        sees_level: The cells see the level that the unit gives.
        bins: The calendar by bins, and not by sines and cosines.
        base: A linear forecast, which needs `WindowChanges` and a `BlendedHead`.
        anomaly: Scores each value.
        error_unit: What errors are measured in, for training, in the head's `answer_shape`; without it, what
            the head measures distances in.
    """

    changes: Changes
    cells: RecurrentStack | SharedCells
    head: QuantileHead | BlendedHead
    missing: Missing | None = None
    unit: Unit | None = None
    sees_level: bool = False
    bins: CalendarBins | None = None
    base: LinearBase | None = None
    anomaly: AnomalyScore | None = None
    error_unit: Array | None = None


class Made(NamedTuple):
    """What a network makes of a chunk.

    Attributes:
        outputs: Forecasts, [B, T, K, Q] or [B, T, M, K, Q] for several targets; then, where there are any,
            anomaly scores, [B, T] or [B, T, M].
        trained: What the loss looks at, in the forecasts' shape.
        unit: What an error is measured in, for training: broadcasts to the forecasts without Q.
        states: After the last step.
    """

    outputs: tuple[Tensor, ...]
    trained: Tensor
    unit: Tensor
    states: tuple[Tensor, ...]


class Forecaster(nn.Module):
    """A forecasting network.

    Attributes:
        targets: Positions of the columns that are forecast; one of them needs no axis in the answers.
    """

    error_unit: Tensor | None

    def __init__(self, targets: Sequence[int], parts: Parts) -> None:
        super().__init__()
        self.targets = tuple(targets)
        self.changes = parts.changes
        self.cells = parts.cells
        self.head = parts.head
        self.missing = parts.missing
        self.unit = parts.unit
        self.sees_level = parts.sees_level
        self.bins = parts.bins
        self.base = parts.base
        self.anomaly = parts.anomaly
        self.register_buffer(
            "error_unit", None if parts.error_unit is None else constant(parts.error_unit), persistent=False
        )

    @property
    def steps_alone(self) -> bool:
        """The graph takes one step at a time, because a module needs a recursion beside the cells."""
        recursive = self.missing is not None or not isinstance(self.unit, FixedUnit | None)
        return recursive or isinstance(self.changes, WindowChanges) or not self.cells.has_time_loop

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Answers and the states after the last step.

        Args:
            x: Raw values, the columns and then the calendar, [B, T, F].
            state: As `carried` says.

        Returns:
            `Made.outputs`, then the states in the order of the arguments.
        """
        made = self.make(x, *state)
        return *made.outputs, *made.states

    def make(self, x: Tensor, *state: Tensor) -> Made:
        """As `forward`, with what training needs."""
        carry = _Carry(self._carriers, state)
        values, calendar = self._parted(x)
        is_missing, unit, told = None, None, []
        if self.missing is not None:
            values, is_missing, old = carry(self.missing, values)
            told = [is_missing, old]
        if isinstance(self.unit, FixedUnit):
            told = [self.unit(values), *told]
        elif self.unit is not None:
            *level, unit = carry(self.unit, values, is_missing)
            told = [*level, *told] if self.sees_level else told
        z, *windows = carry(self.changes, values, unit=unit)
        hidden = self._hidden(carry, z, told, calendar)
        unit = None if unit is None else self._of_targets(unit)
        found = self._quantiles(hidden, values, windows, calendar, unit)
        outputs = [found.forecasts, *self._scores(carry, values, found.forecasts, is_missing)]
        return Made(tuple(outputs), found.trained, self._error_unit(unit), carry.after)

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
        unit = None if isinstance(self.unit, FixedUnit) else self.unit
        parts: list[Carrier | None] = [self.missing, unit, self.changes, self.cells, self.anomaly]
        return [part for part in parts if part is not None]

    def _parted(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The columns, and the calendar where there is one."""
        num_columns = self.changes.num_columns
        if x.shape[-1] == num_columns:
            return x, []
        calendar = x[..., num_columns:]
        if self.missing is not None:
            # The input takes NaN anywhere; whoever sends one here must not blind the session for good.
            calendar = torch.where(torch.isnan(calendar), 0.0, calendar)
        calendar = torch.clamp(calendar, -1, 1)
        return x[..., :num_columns], [calendar if self.bins is None else self.bins(calendar)]

    def _hidden(self, carry: _Carry, z: Tensor, told: list[Tensor], calendar: list[Tensor]) -> Tensor:
        """What the cells say and saw, [B, T, N] or, with a row for each of several targets, [B, T, M, N]."""
        if not isinstance(self.cells, SharedCells):
            if told or calendar:
                z = torch.cat([z, *told, *calendar], -1)
            (hidden,) = carry(self.cells, z)
            return torch.cat([hidden, z], -1)
        num_columns = self.changes.num_columns
        z = with_targets(torch.cat([z, *told], -1), 2, (-1, num_columns)).transpose(2, 3)
        everywhere = [c.unsqueeze(2).expand(-1, -1, num_columns, -1) for c in calendar]
        (hidden,) = carry(self.cells, torch.cat([z, *everywhere], -1))
        return hidden[:, :, list(self.targets) if len(self.targets) > 1 else self.targets[0]]

    def _quantiles(
        self,
        hidden: Tensor,
        values: Tensor,
        windows: list[Tensor],
        calendar: list[Tensor],
        unit: Tensor | None,
    ) -> Quantiles:
        anchor = self._of_targets(values)
        if isinstance(self.head, QuantileHead):
            quantiles: Quantiles = self.head(hidden, anchor, unit)
            return quantiles
        assert self.base is not None, "a blended head has something to blend with"
        blended: Quantiles = self.head(hidden, anchor, self.base(values, windows[0], calendar), unit)
        return blended

    def _scores(
        self, carry: _Carry, values: Tensor, forecasts: Tensor, is_missing: Tensor | None
    ) -> list[Tensor]:
        """Anomaly scores, where they are asked for."""
        if self.anomaly is None:
            return []
        targets, one_target = list(self.targets), len(self.targets) == 1
        next_step = forecasts[..., :1, :] if one_target else forecasts[..., 0, :]
        missing = None if is_missing is None else is_missing[..., targets]
        (score,) = carry(self.anomaly, values[..., targets], next_step, missing)
        return [score.squeeze(-1) if one_target else score]

    def _of_targets(self, values: Tensor) -> Tensor:
        """For each forecast of a step, the value of its column: [B, T, 1] or [B, T, M * K]."""
        if len(self.targets) == 1:
            return values[..., self.targets[0] : self.targets[0] + 1]
        num_horizons = self.head.num_forecasts // len(self.targets)
        return values[..., [t for t in self.targets for _ in range(num_horizons)]]

    def _error_unit(self, unit: Tensor | None) -> Tensor:
        if self.error_unit is not None:
            return self.error_unit
        factor = self.head.factor if unit is None else self.head.factor * unit
        return with_targets(factor, factor.dim() - 1, self.head.answer_shape)


class SingleStep(nn.Module):
    """A forecaster without its time axis: x [B, F] in, quantiles [B, K, Q] out."""

    def __init__(self, forecaster: Forecaster) -> None:
        super().__init__()
        self.forecaster = forecaster
        self.train(forecaster.training)

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """One step; the states are as in `Forecaster`."""
        made = self.forecaster.make(x.unsqueeze(1), *state)
        return *(answer.squeeze(1) for answer in made.outputs), *made.states


class _Carry:
    """Calls modules with the states that they carry, and keeps those that they give back."""

    def __init__(self, carriers: Sequence[Carrier], states: Sequence[Tensor]) -> None:
        self._given = dict(zip(map(id, carriers), split_states(carriers, states), strict=True))
        self.after: tuple[Tensor, ...] = ()

    def __call__(self, module: Any, *inputs: Tensor | None, **options: Tensor | None) -> list[Tensor]:
        """What the module gives beside its states."""
        states = self._given[id(module)]
        given = module(*inputs, *states, **options)
        count = len(given) - len(states)
        self.after += tuple(given[count:])
        return list(given[:count])
