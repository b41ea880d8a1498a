"""A forecast under way: a copy of one session's state, rolled on from step to step.

What the model answers at a step is fed into the next, where nothing else was given. The session itself
is only read, once, at the start.

Not thread-safe: one call at a time, between two batches of the engine that owns the runner.
"""

from __future__ import annotations

import numpy as np

from tidegate.model.future_inputs import FutureInputs
from tidegate.runner.runner import Runner
from tidegate.tensor import Array, SlotArray


class Roll:
    """The next steps of one session, as they would be.

    Attributes:
        inputs: What the steps are fed with, per model input, `[num_steps, step_shape...]`.
        outputs: What the model answers, per output, `[num_steps, step_shape...]`; zeros for steps to come.
        num_done: Steps that have been run.
    """

    def __init__(self, runner: Runner, slot: SlotArray, future: FutureInputs) -> None:
        """Copy the state.

        Args:
            runner: Of the session's model.
            slot: The session, shape (1,).
            future: What is known of the inputs; fed-back elements are filled in as they come.
        """
        manifest = runner.manifest
        self.inputs = future.values
        self.outputs: list[Array] = [
            np.zeros((len(self.inputs[0]), *o.step_shape), o.dtype.numpy) for o in manifest.outputs
        ]
        self.num_done = 0
        self._runner = runner
        self._given = future.given
        self._feeds = future.feeds
        self._states = runner.copy_states(slot)
        self._last = _carried_answers(runner, slot, future)

    @property
    def num_left(self) -> int:
        """Steps still to be run."""
        return len(self.inputs[0]) - self.num_done

    def advance(self, max_steps: int) -> None:
        """Run the next steps, at most so many."""
        for step in range(self.num_done, self.num_done + min(max_steps, self.num_left)):
            self._feed(step)
            outputs, self._states = self._runner.roll(
                [x[None, step : step + 1] for x in self.inputs], self._states
            )
            for kept, output in zip(self.outputs, outputs, strict=True):
                kept[step] = output[0, 0]
            self._last = {position: output[0, 0] for position, output in enumerate(outputs)}
            self.num_done += 1

    def _feed(self, step: int) -> None:
        """Put what the last answer predicts where nothing was given."""
        for feed in self._feeds:
            answer = self._last.get(feed.output)
            if answer is None:
                continue  # the first step, and all of its elements are given
            target = self.inputs[feed.input][step][feed.input_index]
            is_open = ~self._given[feed.input][step][feed.input_index]
            np.copyto(target, answer[feed.output_index].reshape(target.shape), where=is_open)


def _carried_answers(runner: Runner, slot: SlotArray, future: FutureInputs) -> dict[int, Array]:
    """Last answers that the state carries, by position of the output."""
    carriers = {feed.output: feed.carried for feed in future.feeds if feed.carried is not None}
    if not carriers:
        return {}
    states = runner.arena.read(slot)
    return {output: states[carrier][0] for output, carrier in carriers.items()}
