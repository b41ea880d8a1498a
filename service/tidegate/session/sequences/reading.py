"""From a request to arrays that its sequence's model takes."""

from __future__ import annotations

from typing import NoReturn

from tidegate.engine.pool import LoadedModel
from tidegate.errors import InvalidRequest, MessageTooLarge
from tidegate.session.limits import SessionLimits, check_answers
from tidegate.session.sequences.kept import MAX_REQUEST_ID_BYTES
from tidegate.session.sequences.request import SequenceRequest
from tidegate.tensor import Array, num_elements

ALWAYS_SHORT_CHARS = MAX_REQUEST_ID_BYTES // 4
"""A request id of so many characters cannot be too long in UTF-8."""


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
            InvalidRequest: The model does not take them, they are of more than one sequence, or the request's id is
                too long.
            MessageTooLarge: More steps, or longer answers, than the server takes at a time.
        """
        request_id = request.request_id
        if len(request_id) > ALWAYS_SHORT_CHARS and len(request_id.encode()) > MAX_REQUEST_ID_BYTES:
            raise InvalidRequest(
                f"id: expected at most {MAX_REQUEST_ID_BYTES} bytes of UTF-8, got {len(request_id.encode())}"
            )
        inputs = request.read_inputs(self._model.manifest)
        num_rows, num_steps = inputs[0].shape[:2]
        if num_rows != 1:
            raise InvalidRequest(f"inputs: expected 1 row in a request of a sequence, got {num_rows}")
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
