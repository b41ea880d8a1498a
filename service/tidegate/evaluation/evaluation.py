"""Scores a package on the rows of a file, streamed through the engine that serves it.

Called by `tidegate evaluate`, and by training for the figures of the manifest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from tidegate.errors import InvalidRequest
from tidegate.evaluation.extracts import Anomalies, AnomalyTaker, Excerpt, ExcerptTaker
from tidegate.evaluation.forecasts import Block, Report, stream, stream_rolled
from tidegate.evaluation.predicted import Predicted, predicted
from tidegate.evaluation.scores import Means, Tally
from tidegate.evaluation.series import Series
from tidegate.evaluation.split import (
    Split,
    Unit,
    find_split,
    find_unit,
    num_not_held_out,
    recipe_number,
    recipe_time,
)
from tidegate.evaluation.streaming import streamed_session
from tidegate.model.forecast import FeedbackRules, fed_elements, feeds
from tidegate.model.manifest import Manifest
from tidegate.model.time_rules import feature_names
from tidegate.runner.runner import Runner
from tidegate.tensor import Array


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be evaluated. What is left out, the package's recipe says.

    Attributes:
        first: The first time that is to be forecast; None: the begin of the held-out rows or, without a recipe,
            of the file.
        until: The first time behind; None: the end of the held-out rows, or of the file.
        horizons: Each H to average up to; (): 1, a quarter of the longest, and the longest.
        season_steps: Length of a season for the naive forecast; 0: there is none, unless the recipe has one.
        output: Name of the output; "": the one that `[forecast]` names.
    """

    first: datetime | None = None
    until: datetime | None = None
    horizons: tuple[int, ...] = ()
    season_steps: int = 0
    output: str = ""


@dataclass(frozen=True)
class Evaluation:
    """How good the forecasts were.

    Attributes:
        label: Name and version of the model.
        sha256: Of its bytes.
        series: The file.
        split: The rows that were forecast.
        num_not_held_out: Those of them that the package is known to have been trained or chosen on.
        look: What the forecasts are.
        unit: What errors of several targets are measured in.
        season_steps: Of the naive forecast; 0: there is none.
        known_ahead: Features that are no target and that the forecasts took from the file.
        windows: Each H that was averaged up to.
        up_to: Averages over windows, a column for each of them.
        horizons: Steps ahead, [K].
        at: Averages k steps ahead, a column for each horizon.
        at_most: Share of values that were at most the quantile, which should be its level, [K, Q].
        excerpt: Some of the forecasts, for people.
        anomalies: How the output `anomaly` was spread; None: there is none.
    """

    label: str
    sha256: str
    series: Series
    split: Split
    num_not_held_out: int
    look: Predicted
    unit: Unit
    season_steps: int
    known_ahead: tuple[str, ...]
    windows: tuple[int, ...]
    up_to: Means
    horizons: tuple[int, ...]
    at: Means
    at_most: Array
    excerpt: Excerpt
    anomalies: Anomalies | None

    def num_windows(self, longest: int) -> int:
        """Rows of which so many coming ones lie in the split."""
        return max(0, self.split.stop - longest - self.split.origins.start)


def evaluate_package(
    runner: Runner, series: Series, plan: Plan, report: Report = lambda _done, _all: None
) -> Evaluation:
    """Stream a file through a package and score the forecasts of one split.

    Args:
        runner: The package, as `load_runner` loads it; its arena is used from the beginning.
        series: The file, read for this package and its targets.
        plan: What to score.
        report: Told of the rows that are done.

    Raises:
        InvalidRequest: The split has no such rows, or none was measured; or no window fits a horizon.
        Unsupported: The manifest does not say what the model forecasts.
        ConfigError: A split is asked for by time and the file has none.
        InternalError: The graph fails on these numbers.
    """
    manifest = runner.manifest
    look = predicted(manifest, plan.output)
    split = _planned_split(manifest, series, plan)
    horizons = _horizons(manifest, look, plan, split)
    windows = _windows(plan.horizons, horizons, split)
    season_steps = plan.season_steps or recipe_number(manifest, "forecast", "season_steps") or 0
    tally = Tally(series.truth, split, look, horizons, windows, season_steps)
    excerpt = ExcerptTaker(series, split, horizons, windows[len(windows) // 2])
    anomalies = AnomalyTaker(manifest, series, split)
    takers = (tally.add, excerpt.add, anomalies.add)
    asyncio.run(_run(runner, series, split, look, horizons[-1], takers, report))
    count = tally.at.count
    if not count.any():
        raise InvalidRequest(f"split: expected measured values of {', '.join(look.targets)}, got none")
    return Evaluation(
        label=manifest.label,
        sha256=manifest.sha256,
        series=series,
        split=split,
        num_not_held_out=num_not_held_out(manifest, series, split),
        look=look,
        unit=find_unit(manifest, series, split),
        season_steps=season_steps,
        known_ahead=_known_ahead(manifest) if look.is_rolled else (),
        windows=windows,
        up_to=tally.up_to,
        horizons=horizons,
        at=tally.at,
        at_most=tally.at_most / np.maximum(1, count.sum(0))[:, None],
        excerpt=excerpt.taken,
        anomalies=anomalies.taken,
    )


async def _run(
    runner: Runner,
    series: Series,
    split: Split,
    look: Predicted,
    num_horizons: int,
    takers: Sequence[Callable[[Block], None]],
    report: Report,
) -> None:
    async with streamed_session(runner) as session:
        if look.is_rolled:
            blocks = stream_rolled(
                session, runner, series, split, look, num_horizons=num_horizons, report=report
            )
        else:
            blocks = stream(session, series, split, look, report=report)
        async with aclosing(blocks):
            async for block in blocks:
                for take in takers:
                    take(block)


def _planned_split(manifest: Manifest, series: Series, plan: Plan) -> Split:
    if plan.first is not None or plan.until is not None:
        return find_split(series, plan.first, plan.until)
    return find_split(series, recipe_time(manifest, "test_from"), recipe_time(manifest, "test_until"))


def _horizons(manifest: Manifest, look: Predicted, plan: Plan, split: Split) -> tuple[int, ...]:
    """The steps ahead that are forecast."""
    if not look.is_rolled:
        return look.horizon_steps
    longest = max(plan.horizons, default=recipe_number(manifest, "forecast", "max_horizon_steps") or 1)
    # Nothing is scored behind the split.
    return tuple(range(1, min(longest, len(split.origins)) + 1))


def _windows(asked: Sequence[int], horizons: Sequence[int], split: Split) -> tuple[int, ...]:
    """Each H to average up to.

    Raises:
        InvalidRequest: The model does not look ahead by one of them, or the split is shorter.
    """
    longest_window = len(split.origins)
    if not asked:
        fitting = [h for h in horizons if h <= longest_window]
        wanted = {1, horizons[-1] // 4, horizons[-1]} & set(fitting) or set(fitting[-1:])
        if not wanted:
            raise InvalidRequest(f"split: expected more than {horizons[0]} rows, got {longest_window}")
        return tuple(sorted(wanted))
    for h in asked:
        if h > longest_window:
            raise InvalidRequest(
                f"horizons: expected at most {longest_window}, the length of the split, got {h}"
            )
        if h not in horizons:
            raise InvalidRequest(
                f"horizons: the model looks {horizons[0]} to {horizons[-1]} steps ahead, got {h}"
            )
    return tuple(sorted(set(asked)))


def _known_ahead(manifest: Manifest) -> tuple[str, ...]:
    """Features that a model which feeds its answers back needs of the future, but for the calendar."""
    assert isinstance(manifest.forecast, FeedbackRules), "only these are rolled"
    pairs = feeds(manifest.forecast, manifest.inputs, manifest.outputs, manifest.states)
    masks = fed_elements(manifest.inputs, pairs)
    needed = [
        name
        for spec, fed in zip(manifest.inputs, masks, strict=True)
        for name, is_fed in zip(feature_names(spec), fed.ravel().tolist(), strict=True)
        if not is_fed
    ]
    return tuple(name for name in needed if name not in manifest.time.computed_features)
