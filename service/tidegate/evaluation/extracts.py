"""What is kept of a stream besides averages: some forecasts to look at, and how anomaly scores were spread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from tidegate.evaluation.forecasts import Block
from tidegate.evaluation.series import Series
from tidegate.evaluation.split import Split
from tidegate.model.manifest import Manifest
from tidegate.tensor import Array, BoolArray, IntArray

EXCERPT_ROWS = 200
"""Forecasts that are kept to be looked at: enough for a week of hours, or four years of weeks."""

ANOMALY_OUTPUT = "anomaly"

TAILS: Final = (0.5, 0.9, 0.95, 0.99)
"""Anomaly scores are told by how often they lie above these; a calibrated one does in 50, 10, 5 and 1 %."""


@dataclass(frozen=True)
class Excerpt:
    """Forecasts of neighbouring rows, all made the same number of steps before.

    Attributes:
        horizon: How many.
        rows: The rows that were forecast, [n].
        truth: What came, [n, M].
        forecasts: What was forecast, [n, M, Q].
    """

    horizon: int
    rows: IntArray
    truth: Array
    forecasts: Array


class ExcerptTaker:
    """Keeps the forecasts of the first rows of a split."""

    def __init__(self, series: Series, split: Split, horizons: tuple[int, ...], horizon: int) -> None:
        self._truth = series.truth
        self._horizon = horizon
        self._position = horizons.index(horizon)
        self._stop = min(split.stop, split.origins.start + horizon + EXCERPT_ROWS)
        self._rows: list[IntArray] = []
        self._forecasts: list[Array] = []

    def add(self, block: Block) -> None:
        """Keep what belongs to it."""
        rows = block.origins + self._horizon
        belongs = rows < self._stop
        if belongs.any():
            self._rows.append(rows[belongs])
            self._forecasts.append(block.forecasts[belongs, :, self._position])

    @property
    def taken(self) -> Excerpt:
        """What was kept."""
        rows = np.concatenate(self._rows)
        return Excerpt(self._horizon, rows, self._truth[rows], np.concatenate(self._forecasts))


@dataclass(frozen=True)
class Anomalies:
    """How the anomaly scores of the split were spread; calibrated ones are uniform.

    Attributes:
        num_values: Scores, of rows whose targets were measured.
        above: Share of them above each of `TAILS`.
        counts: How many lie in each tenth of [0, 1].
    """

    num_values: int
    above: tuple[float, ...]
    counts: tuple[int, ...]


class AnomalyTaker:
    """Keeps the output `anomaly` of the rows of a split."""

    def __init__(self, manifest: Manifest, series: Series, split: Split) -> None:
        names = [o.name for o in manifest.outputs]
        self._position = names.index(ANOMALY_OUTPUT) if ANOMALY_OUTPUT in names else None
        self._is_measured: BoolArray = np.logical_and.reduce(np.isfinite(series.truth), axis=1)
        self._split = split
        self._scores: list[Array] = []

    def add(self, block: Block) -> None:
        """Keep what belongs to it."""
        if self._position is None:
            return
        belongs = (block.origins >= self._split.start) & self._is_measured[block.origins]
        self._scores.append(block.answers[self._position][belongs].astype(np.float64).ravel())

    @property
    def taken(self) -> Anomalies | None:
        """What was kept; None where the model has no such output, or no row was measured."""
        scores = np.concatenate([np.empty(0), *self._scores])
        scores = scores[np.isfinite(scores)]
        if not len(scores):
            return None
        counts, _ = np.histogram(scores, bins=10, range=(0, 1))
        above = tuple(float((scores > tail).mean()) for tail in TAILS)
        return Anomalies(len(scores), above, tuple(counts.tolist()))
