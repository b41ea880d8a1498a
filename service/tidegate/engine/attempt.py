"""Runs a batch so that a row that makes the model fail fails alone.

A graph can fail on the numbers of one row, such as an index that a table does not have, and ONNX Runtime
then gives nothing for the others. A run that fails leaves every state as it was, so the batch is tried
again in halves until those that fail are alone.

Called from whichever thread the engine runs a batch in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tidegate.runner.runner import Runner
from tidegate.tensor import Array, SlotArray


@dataclass(slots=True)
class Outcome:
    """What became of a batch.

    Attributes:
        outputs: One array per model output, of the rows that did not fail, in order; empty if all did.
        failed: Why the others did, by their position in the batch; InvalidRequest where their values are to blame.
    """

    outputs: list[Array]
    failed: dict[int, Exception] = field(default_factory=dict)


def attempt(runner: Runner, slots: SlotArray, inputs: Sequence[Array]) -> Outcome:
    """Advance sessions, as `Runner.step` does; those that fail keep their states."""
    try:
        return Outcome(runner.step(slots, inputs))
    except Exception as error:
        if len(slots) == 1:
            return Outcome([], {0: error})
    middle = len(slots) // 2
    first = attempt(runner, slots[:middle], [x[:middle] for x in inputs])
    second = attempt(runner, slots[middle:], [x[middle:] for x in inputs])
    failed = first.failed | {middle + row: error for row, error in second.failed.items()}
    if not (first.outputs and second.outputs):
        return Outcome(first.outputs or second.outputs, failed)
    return Outcome([np.concatenate(pair) for pair in zip(first.outputs, second.outputs, strict=True)], failed)
