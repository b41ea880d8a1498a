"""From a request to arrays that its sequence's model takes."""

from __future__ import annotations

from tidegate.engine.pool import LoadedModel
from tidegate.errors import InvalidRequest, MessageTooLarge
from tidegate.session.limits import SessionLimits, check_answers
from tidegate.session.sequences.kept import MAX_REQUEST_ID_BYTES
from tidegate.session.sequences.request import SequenceRequest
from tidegate.tensor import Array

ALWAYS_SHORT_CHARS = MAX_REQUEST_ID_BYTES // 4
"""A request id of so many characters cannot be too long in UTF-8."""


def read_inputs(request: SequenceRequest, model: LoadedModel, limits: SessionLimits) -> list[Array]:
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
    inputs = request.read_inputs(model.manifest)
    num_rows, num_steps = inputs[0].shape[:2]
    if num_rows != 1:
        raise InvalidRequest(f"inputs: expected 1 row in a request of a sequence, got {num_rows}")
    if num_steps > limits.max_frame_steps:
        raise MessageTooLarge(f"inputs: expected at most {limits.max_frame_steps} steps, got {num_steps}")
    check_answers(model.manifest, num_steps, limits)
    return inputs
