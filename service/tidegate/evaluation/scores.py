"""Sums of what `measures` says of forecasts, beside those of the naive ones, over the same values.

Two ways to average, both over all values that were measured and lie in the split:

* up to H: over the windows, that is the rows of which all H coming ones lie in the split, over the horizons from 1
  to H, and over the targets. This is the protocol of the benchmarks for long horizons
  (Zhou et al., Informer, AAAI 2021): one number for each H, and fewer windows for a longer one.
* at k: k steps ahead alone, over the rows that see so far within the split.

Errors of several targets are averaged in units of their own, see `split.Unit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tidegate.evaluation.forecasts import Block
from tidegate.evaluation.measures import (
    absolute_error,
    interval_width,
    is_at_most,
    is_covered,
    pinball_loss,
    squared_error,
)
from tidegate.evaluation.naive import last_known, repeat_last, same_season
from tidegate.evaluation.predicted import Predicted
from tidegate.evaluation.split import Split
from tidegate.tensor import Array, BoolArray, IntArray

POWERS: Final = {
    "mse": 2,
    "mae": 1,
    "pinball": 1,
    "interval_coverage": 0,
    "interval_width": 1,
    "mse_repeat_last": 2,
    "mae_repeat_last": 1,
    "mse_same_season": 2,
    "mae_same_season": 1,
}
"""The measures, in the order in which they are told, and which power of the unit each has."""


@dataclass(frozen=True)
class Means:
    """What was summed up, divided by how often.

    Attributes:
        sums: By measure, [M, C], in the units of the data.
        count: Values that they are sums of, [M, C].
    """

    sums: dict[str, Array]
    count: Array

    def overall(self, std: Array) -> dict[str, Array]:
        """Over all targets, each measured in its own `std` [M]; [C] for each measure."""
        return {
            name: _divided((sums / std[:, None] ** POWERS[name]).sum(0), self.count.sum(0))
            for name, sums in self.sums.items()
        }

    def of_target(self, target: int) -> dict[str, Array]:
        """Of one target in its own unit; [C] for each measure."""
        return {name: _divided(sums[target], self.count[target]) for name, sums in self.sums.items()}


class Tally:
    """Takes the forecasts of a split block by block.

    Attributes:
        horizons: Steps ahead, ascending, [K].
        at_most: Per horizon and level, how many truths are at most the quantile, over all targets, [K, Q].
    """

    def __init__(
        self,
        truth: Array,
        split: Split,
        look: Predicted,
        horizons: Sequence[int],
        windows: Sequence[int],
        season_steps: int,
    ) -> None:
        """Begin with nothing.

        Args:
            truth: What came, [N, M], NaN where nothing was measured.
            split: The rows that are forecast.
            look: What the forecasts are.
            horizons: Steps ahead of their axis, [K].
            windows: Each H to average up to.
            season_steps: Length of a season; 0: there is none.
        """
        self.horizons: IntArray = np.asarray(horizons, np.int64)
        self._truth = truth
        self._known = last_known(truth)
        self._split = split
        self._look = look
        self._windows = tuple(windows)
        self._season_steps = season_steps
        self._up_to: dict[str, Array] = {}
        self._at: dict[str, Array] = {}
        self.at_most: Array = np.zeros((len(self.horizons), len(look.levels)))

    def add(self, block: Block) -> None:
        """Score the forecasts of some rows."""
        ahead = block.origins[:, None] + self.horizons
        is_inside = ahead < self._split.stop
        truth = self._truth[np.where(is_inside, ahead, 0)].swapaxes(1, 2)
        known = self._known[block.origins][:, :, None]
        # What no naive forecast can be made for does not count: all are averaged over the same values.
        counts = is_inside[:, None] & np.isfinite(truth) & np.isfinite(known)
        self._sum_up("count", np.ones_like(truth), counts, block.origins)
        for name, values in self._measured(block, truth).items():
            self._sum_up(name, values, counts, block.origins)
        if self._look.levels:
            at_most = is_at_most(block.forecasts, truth) & counts[..., None]
            self.at_most += at_most.sum((0, 1))

    @property
    def up_to(self) -> Means:
        """Averages over windows, a column for each H."""
        return _means(self._up_to)

    @property
    def at(self) -> Means:
        """Averages k steps ahead, a column for each horizon."""
        return _means(self._at)

    def _measured(self, block: Block, truth: Array) -> dict[str, Array]:
        """By measure, [n, M, K]."""
        point = block.forecasts[..., self._look.point]
        found = {"mse": squared_error(point, truth), "mae": absolute_error(point, truth)}
        levels = self._look.levels
        if levels:
            found["pinball"] = pinball_loss(block.forecasts, levels, truth)
        if len(levels) > 1:
            found["interval_coverage"] = is_covered(block.forecasts, truth)
            found["interval_width"] = interval_width(block.forecasts)
        naive = {"repeat_last": repeat_last(self._known, block.origins, len(self.horizons))}
        if self._season_steps:
            naive["same_season"] = same_season(self._known, block.origins, self.horizons, self._season_steps)
        for name, forecast in naive.items():
            found[f"mse_{name}"] = squared_error(forecast, truth)
            found[f"mae_{name}"] = absolute_error(forecast, truth)
        return found

    def _sum_up(self, name: str, values: Array, counts: BoolArray, origins: IntArray) -> None:
        values = np.where(counts, values, 0.0)
        per_window = [
            values[origins + longest < self._split.stop][:, :, self.horizons <= longest].sum((0, 2))
            for longest in self._windows
        ]
        self._up_to[name] = self._up_to.get(name, 0) + np.stack(per_window, 1)
        self._at[name] = self._at.get(name, 0) + values.sum(0)


def _means(sums: dict[str, Array]) -> Means:
    return Means({name: sums[name] for name in POWERS if name in sums}, sums["count"])


def _divided(sums: Array, count: Array) -> Array:
    """NaN where nothing was counted."""
    means: Array = np.divide(sums, count, out=np.full(len(count), np.nan), where=count > 0)
    return means
