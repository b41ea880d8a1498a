"""From a request to arrays that its sequence's model takes."""

from __future__ import annotations

from typing import NoReturn

from tidegate.engine.pool import LoadedModel
from tidegate.errors import MessageTooLarge
from tidegate.session.limits import SessionLimits, check_answers
from tidegate.session.sequences.request import SequenceRequest
from tidegate.tensor import Array, num_elements


class Reader:
    """Reads requests for one model version."""

    def __init__(self, model: LoadedModel, limits: SessionLimits) -> None:
        self._model = model
        self._limits = limits
        # Worked out once: it costs as much as all else here.
        self._most_steps = min(limits.max_frame_steps, _most_answered(model, limits))

    def read(self, request: SequenceRequest) -> list[Array]:
        """Read and judge the inputs of a request.

        Returns:
            One array per model input, `[1, T, step_shape...]`.

        Raises:
            InvalidRequest: The model does not take them.
            MessageTooLarge: More steps, or longer answers, than the server takes at a time.
        """
        inputs = request.read_inputs(self._model.manifest)
        num_rows, num_steps = inputs[0].shape[:2]
        assert num_rows == 1, "a request of a sequence has one row"
        if num_steps > self._most_steps:
            self._refuse(num_steps)
        return inputs

    def _refuse(self, num_steps: int) -> NoReturn:
        limit = self._limits.max_frame_steps
        check_answers(self._model.manifest, min(num_steps, limit), self._limits)
        raise MessageTooLarge(f"inputs: expected at most {limit} steps, got {num_steps}")


def _most_answered(model: LoadedModel, limits: SessionLimits) -> int:
    """Steps whose answers fit into one message."""
    step_bytes = sum(num_elements(o.step_shape) * o.dtype.numpy.itemsize for o in model.manifest.outputs)
    return limits.max_message_bytes // max(1, step_bytes)
