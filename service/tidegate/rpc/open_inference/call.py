"""One request of this door, from its message to the one that answers it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tidegate.errors import InvalidRequest
from tidegate.model.manifest import Manifest
from tidegate.oip import open_inference_pb2 as pb
from tidegate.rpc.open_inference.layouts import Layouts, ModelLayout
from tidegate.rpc.open_inference.parameters import read_parameters
from tidegate.rpc.open_inference.requests import held_bytes, read_inputs
from tidegate.rpc.open_inference.responses import fill_answer, fill_sequence, read_selection
from tidegate.session.open_request import check_model
from tidegate.session.sequences.kept import MAX_REQUEST_ID_BYTES
from tidegate.session.sequences.key import SequenceKey
from tidegate.tensor import Array

FINAL_RESPONSE = "triton_final_response"


class InferCall:
    """A request, and what is found out about it until it is answered.

    Attributes:
        message: As it came.
        parameters: What its parameters say.
        sequence: The sequence that it continues; None for a stateless one.
        num_bytes: What the message takes in memory.
        answer_bytes: Size of all outputs of the model, once the inputs have been read.
        arrived_s: Monotonic time.
    """

    __slots__ = (
        "_chosen",
        "_has_time",
        "_layout",
        "_layouts",
        "answer_bytes",
        "arrived_s",
        "message",
        "num_bytes",
        "parameters",
        "sequence",
    )

    def __init__(self, message: pb.ModelInferRequest, layouts: Layouts) -> None:
        """Read what needs no model.

        Raises:
            InvalidRequest: An id or a parameter is not what it can be.
            ModelNotFound: No model can have this name.
            Unsupported: A parameter asks for what is not served here.
        """
        self.arrived_s = time.monotonic()
        self.message = message
        self.num_bytes = held_bytes(message)
        self.answer_bytes = 0
        _check_request_id(message.id)
        check_model(message.model_name, message.model_version)
        self.parameters = read_parameters(message.parameters)
        sequence_id = self.parameters.sequence_id
        self.sequence = None if sequence_id is None else SequenceKey(message.model_name, sequence_id)
        self._layouts = layouts
        self._layout: ModelLayout | None = None
        self._chosen: tuple[int, ...] = ()
        self._has_time = False

    def read_inputs(self, manifest: Manifest) -> list[Array]:
        """Read the inputs, and what is wanted of the outputs.

        Returns:
            One array per model input, `[B, T, step_shape...]`; B is 1 for a sequence.

        Raises:
            InvalidRequest: The model does not take them, or does not give what is wanted.
            Unsupported: They are in shared memory, or outputs are wanted there.
        """
        layout = self._layouts.of(manifest)
        self._chosen = read_selection(layout, self.message)
        arrays, self._has_time = read_inputs(layout, self.message)
        if self.sequence is not None and len(arrays[0]) != 1:
            raise InvalidRequest(f"inputs: expected one window in a step of a sequence, got {len(arrays[0])}")
        self._layout = layout
        num_windows, num_steps = arrays[0].shape[:2]
        self.answer_bytes = num_windows * num_steps * layout.answer_bytes
        return arrays

    def time_left_s(self) -> float | None:
        """Time until its first step must have begun; less than 0 if that has passed, None for no limit."""
        limit_s = self.parameters.time_limit_s
        return None if limit_s is None else self.arrived_s + limit_s - time.monotonic()

    def fill(
        self,
        response: pb.ModelInferResponse,
        manifest: Manifest,
        outputs: Sequence[Array],
        first_step: int | None = None,
    ) -> int:
        """Write the answer.

        Args:
            response: An empty one.
            manifest: Of the version that answered.
            outputs: One array per model output, `[B, T, step_shape...]`.
            first_step: Of a sequence, the number of the first step answered.

        Returns:
            Bytes of the outputs in it.
        """
        if self._layout is None or self._layout.manifest is not manifest:
            self.read_inputs(manifest)  # a repeat may be answered unread
        assert self._layout is not None
        response.id = self.message.id
        num_bytes = fill_answer(response, self._layout, outputs, self._chosen, has_time=self._has_time)
        if self.sequence is not None and first_step is not None:
            fill_sequence(response, self.sequence.id, first_step)
        if self.parameters.wants_final:
            response.parameters[FINAL_RESPONSE].bool_param = True
        return num_bytes


def _check_request_id(request_id: str) -> None:
    if len(request_id) > MAX_REQUEST_ID_BYTES // 4:  # shorter ones fit whatever their letters are
        size = len(request_id.encode())
        if size > MAX_REQUEST_ID_BYTES:
            raise InvalidRequest(f"id: expected at most {MAX_REQUEST_ID_BYTES} bytes of UTF-8, got {size}")
