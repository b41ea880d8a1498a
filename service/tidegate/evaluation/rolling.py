"""Forecasts of models that feed their answers back, from copies of one session's state.

They are rolled by the code that forecasts for clients (`runner/roll.py`). What such a model needs of the future and
does not predict (the calendar, a plan) is taken from the file, as a client takes it from what is known ahead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tidegate.engine.errands import Errands
from tidegate.evaluation.series import Series
from tidegate.evaluation.streaming import COPIES
from tidegate.model.forecast import FeedbackRules, fed_elements, feeds
from tidegate.model.future_inputs import FutureInputs, future_inputs
from tidegate.model.manifest import Manifest
from tidegate.runner.roll import Roll
from tidegate.runner.runner import Runner
from tidegate.tensor import Array, IntArray


async def roll_forecasts(
    errands: Errands,
    runner: Runner,
    series: Series,
    origins: IntArray,
    answers: Sequence[Array],
    output: int,
    num_steps: int,
) -> list[Array]:
    """What the model answers at the steps behind each origin, fed with its own predictions.

    Args:
        errands: Of the engine whose arena has the copies.
        runner: The model; the state after `origins[i]` is in slot `COPIES[i]`.
        series: Has what is known ahead.
        origins: Rows, [n].
        answers: Per output, what the model answered there, `[n, step_shape...]`.
        output: Position of the output that is wanted.
        num_steps: How many.

    Returns:
        Per step, `[n, step_shape...]`.
    """
    if num_steps == 0:
        return []
    manifest, rules = runner.manifest, runner.manifest.forecast
    assert isinstance(rules, FeedbackRules), "only these are rolled"
    futures = [
        _future(manifest, rules, series, row, [a[i] for a in answers], num_steps)
        for i, row in enumerate(origins.tolist())
    ]
    slots = COPIES[: len(origins)]
    roll = await errands.look(lambda: Roll(runner, slots, futures))
    while roll.num_left:
        await errands.work(lambda: roll.advance(runner.max_slice_steps))
    return list(roll.outputs[output].swapaxes(0, 1))


def _future(
    manifest: Manifest,
    rules: FeedbackRules,
    series: Series,
    row: int,
    answers: Sequence[Array],
    num_steps: int,
) -> FutureInputs:
    """What is known at a row of the inputs behind it: all that no answer gives."""
    # Behind the end of the file its last row stands in: nothing that is rolled from there is scored.
    ahead = np.minimum(row + 1 + np.arange(num_steps), series.num_rows - 1)
    pairs = feeds(rules, manifest.inputs, manifest.outputs, manifest.states)
    known: dict[str, Array] = {}
    for i, (spec, fed) in enumerate(zip(manifest.inputs, fed_elements(manifest.inputs, pairs), strict=True)):
        values = series.inputs[i][ahead]
        starts = [feed for feed in pairs if feed.input == i and feed.carried is None]
        if fed.any() and spec.dtype.is_float:
            values[:, fed] = np.nan
        elif fed.any():  # whole numbers have no NaN: rows that are fed back are left out
            values = values[: 1 if starts else 0]
        for feed in starts:
            target = values[0][feed.input_index]
            np.copyto(target, answers[feed.output][feed.output_index].reshape(target.shape))
        known[spec.name] = values
    return future_inputs(manifest, rules, known, num_steps, has_answered=True)
