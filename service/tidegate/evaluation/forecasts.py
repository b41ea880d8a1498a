"""The forecasts that a session makes on its way through a series.

The session begins at the first row of the file and is fed with every row, so that its state is what a served
session has. Forecasts are kept from the rows that the split asks for.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tidegate.evaluation.predicted import Predicted
from tidegate.evaluation.rolling import roll_forecasts
from tidegate.evaluation.series import Series
from tidegate.evaluation.split import Split
from tidegate.evaluation.streaming import COPIES, StreamedSession
from tidegate.runner.runner import Runner
from tidegate.tensor import Array, IntArray

FRAME_STEPS = 512
"""Steps of one frame; the engine cuts it into slices as it does for clients."""

Report = Callable[[int, int], None]
"""Told how many rows of how many are done."""


@dataclass(frozen=True)
class Block:
    """Forecasts made at neighbouring rows.

    Attributes:
        origins: The rows, [n].
        forecasts: `[n, M, K, Q]`, as `Predicted` lays them out.
        answers: Everything that the model answered at these rows, per output, `[n, step_shape...]`.
    """

    origins: IntArray
    forecasts: Array
    answers: list[Array]


async def stream(
    session: StreamedSession,
    series: Series,
    split: Split,
    look: Predicted,
    *,
    frame_steps: int = FRAME_STEPS,
    report: Report = lambda _done, _all: None,
) -> AsyncGenerator[Block, None]:
    """The forecasts of a split, read from the answers.

    Args:
        session: A new one.
        series: Fed to it up to the end of the split.
        split: Whose values are forecast; its last row is fed too, but no forecast made there counts.
        look: What the answers say.
        frame_steps: Steps of one frame.
        report: Told of the rows that are done.
    """
    first = split.origins.start
    edges = [*range(0, first, frame_steps), *range(first, split.stop, frame_steps), split.stop]
    for start, stop in pairwise(edges):
        answers = await session.run([x[start:stop] for x in series.inputs], wanted=start >= first)
        if answers:
            yield Block(np.arange(start, stop), look.laid_out(answers[look.position]), answers)
        report(stop, split.stop)


async def stream_rolled(
    session: StreamedSession,
    runner: Runner,
    series: Series,
    split: Split,
    look: Predicted,
    *,
    num_horizons: int,
    report: Report = lambda _done, _all: None,
) -> AsyncGenerator[Block, None]:
    """The forecasts of a split where answers are fed back: from a copy of the state after each row.

    Copies are rolled on together, as many as the engine's batches are wide, if rows may share a run.

    Args:
        session: A new one.
        runner: Its model.
        series: Fed to the session up to the end of the split.
        split: Whose values are forecast.
        look: What the answers say.
        num_horizons: Steps ahead.
        report: Told of the rows that are done.
    """
    first = split.origins.start
    for start in range(0, first, FRAME_STEPS):
        stop = min(first, start + FRAME_STEPS)
        await session.run([x[start:stop] for x in series.inputs], wanted=False)
        report(stop, split.stop)
    width = len(COPIES) if runner.rows_together else 1
    for start in range(first, split.stop, width):
        origins = np.arange(start, min(start + width, split.stop))
        answers: list[list[Array]] = []
        for row, slot in zip(origins.tolist(), COPIES.tolist(), strict=False):
            answers.append(await session.run([x[row : row + 1] for x in series.inputs], wanted=True))
            await session.keep_copy(slot)
        joined = [np.concatenate(pieces) for pieces in zip(*answers, strict=True)]
        rolled = await roll_forecasts(
            session.errands, runner, series, origins, joined, look.position, num_horizons - 1
        )
        forecasts = np.concatenate([look.laid_out(step) for step in (joined[look.position], *rolled)], 2)
        yield Block(origins, forecasts, joined)
        report(int(origins[-1]) + 1, split.stop)
