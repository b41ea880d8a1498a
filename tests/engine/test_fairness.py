"""Models share one event loop: none waits for another's backlog."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path

import numpy as np
import pytest

from support.engine_bench import EngineBench
from support.odd_models import counter_package
from tidegate.engine import engine as engine_module
from tidegate.engine.frame import Part
from tidegate.tensor import Array

Maker = Callable[..., EngineBench]

BATCH_ROWS = 8
NUM_SINGLE_STEPS = 10
MOST_BATCHES = 2
"""The one that is due when the step comes, and one in the round in which the sender learns of its answer."""


def ones(num_rows: int, num_steps: int) -> Array:
    return np.ones((num_rows, num_steps, 2), np.float32)


@pytest.mark.parametrize("steps_per_frame", [1, 100], ids=["frames of steps", "frames of histories"])
async def test_a_single_step_does_not_wait_for_another_models_backlog(
    tmp_path: Path, make_bench: Maker, monkeypatch: pytest.MonkeyPatch, steps_per_frame: int
) -> None:
    monkeypatch.setattr(engine_module, "INLINE_LIMIT_S", inf)  # both models want the same thread
    package = counter_package(tmp_path)
    busy, live = make_bench(package, max_batch_size=BATCH_ROWS), make_bench(package)
    backlog = [
        busy.submit(list(range(1, BATCH_ROWS + 1)), ones(BATCH_ROWS, steps_per_frame)) for _ in range(50)
    ]
    batches_before: list[float] = []

    def note(_: Part) -> None:
        batches_before.append(busy.counted("tidegate_batch_rows_count"))

    for _ in range(NUM_SINGLE_STEPS):
        live.submit([1], ones(1, 1), on_part=note)
        await live.engine.progress()

    assert not backlog[-1].complete, "the backlog lasted too short to hold anybody up"
    assert len(batches_before) == NUM_SINGLE_STEPS
    assert np.diff([0, *batches_before]).max() <= MOST_BATCHES
    await busy.until_complete(*backlog)
