"""Forecasts under way: copies of sessions' states, rolled on from step to step.

What the model answers at a step is fed into the next, where nothing else was given. The sessions themselves
are only read, once, at the start.

Not thread-safe: one call at a time, between two batches of the engine that owns the runner.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tidegate.model.future_inputs import FutureInputs
from tidegate.runner.runner import Runner
from tidegate.tensor import Array, SlotArray


class Roll:
    """The next steps of some sessions, as they would be.

    Attributes:
        inputs: What the steps are fed with, per model input, `[n, num_steps, step_shape...]`.
        outputs: What the model answers, per output, `[n, num_steps, step_shape...]`; zeros for steps to come.
        num_done: Steps that have been run.
    """

    def __init__(self, runner: Runner, slots: SlotArray, futures: Sequence[FutureInputs]) -> None:
        """Copy the states.

        Args:
            runner: Of the sessions' model.
            slots: The sessions, shape (n,); n is 1 unless rows may share a run.
            futures: For each, what is known of the inputs of the same number of steps; fed-back elements
                are filled in as they come.
        """
        manifest = runner.manifest
        self.inputs = [np.stack(values) for values in zip(*(f.values for f in futures), strict=True)]
        self._num_steps: int = self.inputs[0].shape[1]
        self.outputs: list[Array] = [
            np.zeros((len(slots), self._num_steps, *o.step_shape), o.dtype.numpy) for o in manifest.outputs
        ]
        self.num_done = 0
        self._runner = runner
        self._given = [np.stack(given) for given in zip(*(f.given for f in futures), strict=True)]
        self._feeds = futures[0].feeds
        self._states = runner.copy_states(slots)
        self._last = _carried_answers(runner, slots, futures[0])

    @property
    def num_left(self) -> int:
        """Steps still to be run."""
        return self._num_steps - self.num_done

    def advance(self, max_steps: int) -> None:
        """Run the next steps, at most so many."""
        for step in range(self.num_done, self.num_done + min(max_steps, self.num_left)):
            self._feed(step)
            outputs, self._states = self._runner.roll(
                [np.ascontiguousarray(x[:, step : step + 1]) for x in self.inputs], self._states
            )
            for kept, output in zip(self.outputs, outputs, strict=True):
                kept[:, step] = output[:, 0]
            self._last = {position: output[:, 0] for position, output in enumerate(outputs)}
            self.num_done += 1

    def _feed(self, step: int) -> None:
        """Put what the last answers predict where nothing was given."""
        for feed in self._feeds:
            answer = self._last.get(feed.output)
            if answer is None:
                continue  # the first step, and all of its elements are given
            target = self.inputs[feed.input][:, step][feed.input_index]
            is_open = ~self._given[feed.input][:, step][feed.input_index]
            np.copyto(target, answer[feed.output_index].reshape(target.shape), where=is_open)


def _carried_answers(runner: Runner, slots: SlotArray, future: FutureInputs) -> dict[int, Array]:
    """Last answers that the states carry, `[n, step_shape...]`, by position of the output."""
    carriers = {feed.output: feed.carried for feed in future.feeds if feed.carried is not None}
    if not carriers:
        return {}
    states = runner.arena.read(slots)
    return {output: states[carrier] for output, carrier in carriers.items()}
